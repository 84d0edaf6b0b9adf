/* SPDX-License-Identifier: BSD-3-Clause */
/* See jobstate.h. */

#include <config.h>

#include <assert.h>

#include "jobstate.h"

#define M(s) (1u << JOB_##s)

static const char *const status_names[JOB_STATUS_COUNT] = {
  [JOB_UNDEFINED] = "undefined",
  [JOB_CREATED] = "created",
  [JOB_RUNNING] = "running",
  [JOB_PAUSED] = "paused",
  [JOB_READY] = "ready",
  [JOB_STANDBY] = "standby",
  [JOB_WAITING] = "waiting",
  [JOB_PENDING] = "pending",
  [JOB_ABORTING] = "aborting",
  [JOB_CONCLUDED] = "concluded",
  [JOB_NULL] = "null",
};

static const char *const verb_names[JOB_VERB_COUNT] = {
  [JOB_VERB_CANCEL] = "cancel",
  [JOB_VERB_PAUSE] = "pause",
  [JOB_VERB_RESUME] = "resume",
  [JOB_VERB_SET_SPEED] = "set-speed",
  [JOB_VERB_COMPLETE] = "complete",
  [JOB_VERB_FINALIZE] = "finalize",
  [JOB_VERB_DISMISS] = "dismiss",
  [JOB_VERB_CHANGE] = "change",
};

/* From each state, the states that may follow. */
static const unsigned transitions[JOB_STATUS_COUNT] = {
  [JOB_UNDEFINED] = M (CREATED),
  [JOB_CREATED] = M (RUNNING) | M (ABORTING) | M (NULL),
  [JOB_RUNNING] = M (PAUSED) | M (READY) | M (WAITING) | M (ABORTING),
  [JOB_PAUSED] = M (RUNNING),
  [JOB_READY] = M (STANDBY) | M (WAITING) | M (ABORTING),
  [JOB_STANDBY] = M (READY),
  [JOB_WAITING] = M (PENDING) | M (ABORTING),
  [JOB_PENDING] = M (ABORTING) | M (CONCLUDED),
  [JOB_ABORTING] = M (ABORTING) | M (CONCLUDED),
  [JOB_CONCLUDED] = M (NULL),
  [JOB_NULL] = 0,
};

/* For each verb, the states that accept it. */
static const unsigned verbs[JOB_VERB_COUNT] = {
  [JOB_VERB_CANCEL] = M (CREATED) | M (RUNNING) | M (PAUSED) | M (READY) |
                      M (STANDBY) | M (WAITING) | M (PENDING),
  [JOB_VERB_PAUSE] = M (CREATED) | M (RUNNING) | M (PAUSED) | M (READY) |
                     M (STANDBY),
  [JOB_VERB_RESUME] = M (CREATED) | M (RUNNING) | M (PAUSED) | M (READY) |
                      M (STANDBY),
  [JOB_VERB_SET_SPEED] = M (CREATED) | M (RUNNING) | M (PAUSED) | M (READY) |
                         M (STANDBY),
  [JOB_VERB_COMPLETE] = M (READY) | M (STANDBY),
  [JOB_VERB_FINALIZE] = M (PENDING),
  [JOB_VERB_DISMISS] = M (CONCLUDED),
  [JOB_VERB_CHANGE] = M (RUNNING) | M (PAUSED) | M (READY) | M (STANDBY),
};

const char *
job_status_name (enum job_status s)
{
  assert (s < JOB_STATUS_COUNT);
  return status_names[s];
}

const char *
job_verb_name (enum job_verb v)
{
  assert (v < JOB_VERB_COUNT);
  return verb_names[v];
}

bool
job_may_move (enum job_status from, enum job_status to)
{
  assert (from < JOB_STATUS_COUNT && to < JOB_STATUS_COUNT);
  return transitions[from] >> to & 1;
}

bool
job_accepts (enum job_status s, enum job_verb v)
{
  assert (s < JOB_STATUS_COUNT && v < JOB_VERB_COUNT);
  return verbs[v] >> s & 1;
}
