/* SPDX-License-Identifier: BSD-3-Clause */
/* What the commands do.  Their arguments have been checked one by one by the
 * table (verbs.h); here is what needs the job, or more than one argument.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control-impl.h"
#include "errtext.h"

#define FAIL(error, ...) qmp_fail (error, QMP_GENERIC_ERROR, __VA_ARGS__)

/* A job that has been dismissed is gone in no time: it waits for nothing. */
#define DISMISS_NS UINT64_C (1000000000)

#define DEFAULT_HOLD_S 10
#define MAX_HOLD_S 300

/*-- the job's verbs ----------------------------------------------------*/

/* Most are there twice: for an unknown job, those of a block job have an error
 * class of their own.
 */
static const struct job_command {
  enum qmp_verb command;
  enum job_verb verb;
  bool block_job;
} job_commands[] = {
  { QMP_block_job_cancel, JOB_VERB_CANCEL, true },
  { QMP_block_job_pause, JOB_VERB_PAUSE, true },
  { QMP_block_job_resume, JOB_VERB_RESUME, true },
  { QMP_block_job_complete, JOB_VERB_COMPLETE, true },
  { QMP_block_job_finalize, JOB_VERB_FINALIZE, true },
  { QMP_block_job_dismiss, JOB_VERB_DISMISS, true },
  { QMP_block_job_set_speed, JOB_VERB_SET_SPEED, true },
  { QMP_block_job_change, JOB_VERB_CHANGE, true },
  { QMP_job_cancel, JOB_VERB_CANCEL, false },
  { QMP_job_pause, JOB_VERB_PAUSE, false },
  { QMP_job_resume, JOB_VERB_RESUME, false },
  { QMP_job_complete, JOB_VERB_COMPLETE, false },
  { QMP_job_finalize, JOB_VERB_FINALIZE, false },
  { QMP_job_dismiss, JOB_VERB_DISMISS, false },
};

/* NULL if it is not one of those. */
static const struct job_command *
find_job_command (enum qmp_verb command)
{
  size_t i;

  for (i = 0; i < sizeof job_commands / sizeof job_commands[0]; i++)
    if (job_commands[i].command == command)
      return &job_commands[i];
  return NULL;
}

/* r is what the engine says; why goes with -EBUSY. */
static json_t *
job_result (int r, const char *id, const struct job_command *jc,
            enum job_status status, const char *why, struct qmp_error *error)
{
  switch (r) {
  case 0:
    return json_object ();
  case -ENOENT:
    if (jc->block_job)
      qmp_fail (error, QMP_DEVICE_NOT_ACTIVE, "Block job '%.*s' not found",
                JOB_ID_MAX, id);
    else
      FAIL (error, "Job not found");
    break;
  case -EPERM:
    FAIL (error, "Job '%s' in state '%s' cannot accept command verb '%s'",
          id, job_status_name (status), job_verb_name (jc->verb));
    break;
  case -EALREADY:
    FAIL (error, jc->verb == JOB_VERB_PAUSE ? "Job is already paused"
          : "Can't resume a job that was not paused");
    break;
  case -EBUSY:
    FAIL (error, "Job '%s' cannot be %s now: %s", id,
          jc->verb == JOB_VERB_COMPLETE ? "completed" : "detached", why);
    break;
  default:
    FAIL (error, "%s", error_text (-r));
  }
  return NULL;
}

/* Without force, a job that is ready is detached. */
static int
cancel (struct control *c, const struct qmp_request *req, const char *id,
        enum job_status *status, const char **why)
{
  struct mirror_status st;

  mirror_get_status (c->mirror, &st);
  if (req->verb == QMP_block_job_cancel && st.have_job && st.ready &&
      strcmp (st.id, id) == 0 && !qmp_arg_bool (req, "force", false))
    return mirror_detach (c->mirror, id, status, why);
  return mirror_cancel (c->mirror, id, status);
}

/* Returns when it is gone, so that there can be another at once. */
static int
dismiss (struct control *c, const char *id, enum job_status *status)
{
  const uint64_t now = clock_monotonic.now_ns (&clock_monotonic);
  int r = mirror_dismiss (c->mirror, id, status);

  if (r == 0)
    mirror_wait_idle (c->mirror, now + DISMISS_NS);
  return r;
}

static int
set_mode (struct control *c, const struct qmp_request *req, const char *id,
          enum job_status *status)
{
  char why[PARAMS_ERROR_MAX];
  struct params p;

  params_init (&p);
  /* The table has checked the word. */
  params_set_copy_mode (&p, "copy-mode", qmp_arg_string (req, "copy-mode"),
                        why);
  return mirror_set_mode (c->mirror, id, p.copy_mode, status);
}

static json_t *
job_command (struct control *c, const struct qmp_request *req,
             const struct job_command *jc, struct qmp_error *error)
{
  const char *id = qmp_arg_string (req, "device"), *why = "";
  enum job_status status = JOB_UNDEFINED;
  uint64_t speed = 0;
  int r;

  if (id == NULL)
    id = qmp_arg_string (req, "id");
  /* QEMU looks for the job before it looks at the speed.  And there is nothing
   * to be done for finalize: a job finalizes itself.
   */
  r = mirror_check_verb (c->mirror, id, jc->verb, &status);
  if (r == 0)
    switch (jc->verb) {
    case JOB_VERB_CANCEL:
      r = cancel (c, req, id, &status, &why);
      break;
    case JOB_VERB_PAUSE:
    case JOB_VERB_RESUME:
      r = mirror_pause (c->mirror, id, jc->verb == JOB_VERB_PAUSE, &status);
      break;
    case JOB_VERB_COMPLETE:
      r = mirror_complete (c->mirror, id, &status, &why);
      break;
    case JOB_VERB_DISMISS:
      r = dismiss (c, id, &status);
      break;
    case JOB_VERB_SET_SPEED:
      if (argument_speed (req, &speed, error) < 0)
        return NULL;
      r = mirror_set_speed (c->mirror, id, speed, &status);
      break;
    case JOB_VERB_CHANGE:
      r = set_mode (c, req, id, &status);
      break;
    case JOB_VERB_FINALIZE:
    case JOB_VERB_COUNT:
      break;
    }
  /* For resume, it looks whether the job is paused before it looks at its
   * state; ours is not in a state that does not accept it.
   */
  if (r == -EPERM && jc->verb == JOB_VERB_RESUME)
    r = -EALREADY;
  return job_result (r, id, jc, status, why, error);
}

bool
command_events_first (struct control *c, const struct qmp_request *req)
{
  const struct job_command *jc = find_job_command (req->verb);
  struct mirror_status st;

  if (jc == NULL)
    return false;
  mirror_get_status (c->mirror, &st);
  return jc->verb == JOB_VERB_RESUME || jc->verb == JOB_VERB_DISMISS ||
    (jc->verb == JOB_VERB_PAUSE && st.status == JOB_READY);
}

/*-- blockdev-mirror ----------------------------------------------------*/

static json_t *
start_mirror (struct control *c, const struct params *p,
              struct qmp_error *error)
{
  char why[PARAMS_ERROR_MAX] = "";
  int r = c->ops->start (c->opaque, p, why);

  if (r == 0)
    return json_object ();
  /* Somebody else may have been faster. */
  if (r != -EBUSY || argument_no_job (c, error) == 0)
    FAIL (error, "%s", why[0] ? why : error_text (-r));
  return NULL;
}

/*-- mirror-set ---------------------------------------------------------*/

/* All arguments are good for the job that st tells of: change it.  It may have
 * ended meanwhile.
 */
static int
change_job (struct control *c, const struct qmp_request *req,
            const struct mirror_status *st, const struct params *p,
            enum job_status *status)
{
  struct mirror *m = c->mirror;
  int r = 0;

  if (qmp_has_arg (req, "copy-mode"))
    r = mirror_set_mode (m, st->id, p->copy_mode, status);
  if (r == 0 && qmp_has_arg (req, "speed"))
    r = mirror_set_speed (m, st->id, p->speed, status);
  if (r == 0 && qmp_has_arg (req, "buf-size"))
    r = mirror_set_buf_size (m, st->id, p->buf_size, status);
  if (r == 0 && qmp_has_arg (req, "max-pause"))
    r = mirror_set_max_pause (m, st->id, p->max_pause_ms * UINT64_C (1000000),
                              status);
  if (r == 0 && qmp_has_arg (req, "target-timeout"))
    r = mirror_set_timeout (m, st->id, p->timeout_s * UINT64_C (1000000000),
                            status);
  if (r == 0 && qmp_has_arg (req, "on-source-error"))
    r = mirror_set_on_error (m, st->id, false, p->on_source_error, status);
  if (r == 0 && qmp_has_arg (req, "on-target-error"))
    r = mirror_set_on_error (m, st->id, true, p->on_target_error, status);
  return r;
}

static json_t *
mirror_set (struct control *c, const struct qmp_request *req,
            struct qmp_error *error)
{
  const struct job_command jc = {
    .verb = qmp_has_arg (req, "copy-mode") ? JOB_VERB_CHANGE
    : JOB_VERB_SET_SPEED
  };
  const char *mode = qmp_arg_string (req, "copy-mode");
  enum job_status status = JOB_UNDEFINED;
  char why[PARAMS_ERROR_MAX];
  struct mirror_status st;
  struct params p;
  int r;

  if (json_object_size (req->args) == 0) {
    FAIL (error, "Nothing to set: one of speed, buf-size, copy-mode,"
          " on-source-error, on-target-error, target-timeout and max-pause"
          " is needed");
    return NULL;
  }
  mirror_get_status (c->mirror, &st);
  if (!st.have_job) {
    FAIL (error, "There is no job");
    return NULL;
  }
  params_init (&p);
  p.granularity = st.granularity;
  p.buf_size = st.buf_size;
  if (argument_speed (req, &p.speed, error) < 0 ||
      argument_sizes (req, &p, error) < 0)
    return NULL;
  if (mode && params_set_copy_mode (&p, "copy-mode", mode, why) < 0) {
    FAIL (error, "%s", why);
    return NULL;
  }
  argument_policies (req, &p);
  /* The states that accept CHANGE accept SET_SPEED, too. */
  r = mirror_check_verb (c->mirror, st.id, jc.verb, &status);
  if (r == 0)
    r = change_job (c, req, &st, &p, &status);
  return job_result (r, st.id, &jc, status, "", error);
}

/*-- barrier and fence --------------------------------------------------*/

static json_t *
mirror_hold_command (struct control *c, const struct qmp_request *req,
                     struct qmp_error *error)
{
  const int64_t s = qmp_arg_int (req, "timeout", DEFAULT_HOLD_S);
  uint64_t drain_ns = 0, expires_ns = 0;
  const char *why = NULL;
  int r;

  if (s < 1 || s > MAX_HOLD_S) {
    FAIL (error, "Parameter 'timeout' expects seconds from 1 to %d",
          MAX_HOLD_S);
    return NULL;
  }
  r = mirror_hold (c->mirror, (uint64_t) s * 1000000000, &drain_ns,
                   &expires_ns, &why);
  if (r < 0) {
    FAIL (error, "Cannot hold: %s", why ? why : error_text (-r));
    return NULL;
  }
  return answer_hold (drain_ns, expires_ns);
}

static json_t *
mirror_release_command (struct control *c, struct qmp_error *error)
{
  uint64_t held_ns = 0;
  int r = mirror_release (c->mirror, &held_ns);

  if (r == 0)
    return answer_release (held_ns);
  FAIL (error, r == -ETIMEDOUT ? "The hold has expired" : "Nothing is held");
  return NULL;
}

static json_t *
mirror_fence_command (struct control *c, const struct qmp_request *req,
                      struct qmp_error *error)
{
  const bool enable = qmp_arg_bool (req, "enable", true);
  int r = mirror_fence (c->mirror, enable, qmp_arg_bool (req, "force", false));

  switch (r) {
  case 0:
    return json_object ();
  case -EPERM:
    FAIL (error, "Nothing is held: fencing needs mirror-hold before it, or"
          " 'force': true");
    break;
  case -ETIMEDOUT:
    FAIL (error, "The fence stands, but older requests are still under way");
    break;
  case -EIO:
    FAIL (error, enable
          ? "The fence stands, but cannot be recorded in the intent file"
          : "The fence still stands: the intent file cannot be written");
    break;
  default:
    FAIL (error, "%s", error_text (-r));
  }
  return NULL;
}

/*-- verify -------------------------------------------------------------*/

static json_t *
mirror_verify (struct control *c, const struct qmp_request *req,
               struct qmp_error *error)
{
  const bool start = strcmp (qmp_arg_string (req, "action"), "start") == 0;
  const char *why = NULL;
  uint64_t speed = 0;
  int r;

  if (!start && json_object_size (req->args) > 1) {
    FAIL (error, "Parameters 'repair' and 'speed' go with action 'start'"
          " only");
    return NULL;
  }
  if (argument_speed (req, &speed, error) < 0)
    return NULL;
  r = start ? mirror_verify_start (c->mirror,
                                   qmp_arg_bool (req, "repair", false),
                                   speed, &why)
    : mirror_verify_stop (c->mirror, &why);
  if (r == 0)
    return json_object ();
  FAIL (error, "Cannot %s: %s", start ? "verify" : "stop verifying", why);
  return NULL;
}

/*-- all ----------------------------------------------------------------*/

/* An answer that could not be made. */
static json_t *
finish (json_t *result, struct qmp_error *error)
{
  if (result == NULL && error->desc[0] == '\0')
    FAIL (error, "Out of memory");
  return result;
}

json_t *
command_run (struct control *c, const struct qmp_request *req,
             struct qmp_error *error)
{
  const struct job_command *jc = find_job_command (req->verb);
  json_t *result = NULL;

  error->desc[0] = '\0';
  if (jc)
    return finish (job_command (c, req, jc, error), error);
  switch (req->verb) {
  case QMP_query_version: result = qmp_version (c->package); break;
  case QMP_query_commands: result = qmp_commands (); break;
  case QMP_quit: result = json_object (); break;
  case QMP_mirror_set: result = mirror_set (c, req, error); break;
  case QMP_mirror_release: result = mirror_release_command (c, error); break;
  case QMP_mirror_verify: result = mirror_verify (c, req, error); break;
  case QMP_query_block_jobs: result = query_block_jobs (c); break;
  case QMP_query_jobs: result = query_jobs (c); break;
  case QMP_query_mirror: result = query_mirror (c); break;
  default:                      /* the session's, or of a thread of its own */
    break;
  }
  return finish (result, error);
}

bool
command_waits (enum qmp_verb verb)
{
  return verb == QMP_blockdev_mirror || verb == QMP_mirror_hold ||
    verb == QMP_mirror_fence;
}

json_t *
command_wait (struct control *c, const struct qmp_request *req,
              const struct params *p, struct qmp_error *error)
{
  json_t *result = NULL;

  error->desc[0] = '\0';
  if (req->verb == QMP_blockdev_mirror)
    result = start_mirror (c, p, error);
  else if (req->verb == QMP_mirror_hold)
    result = mirror_hold_command (c, req, error);
  else if (req->verb == QMP_mirror_fence)
    result = mirror_fence_command (c, req, error);
  return finish (result, error);
}
