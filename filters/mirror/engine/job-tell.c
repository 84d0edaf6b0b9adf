/* SPDX-License-Identifier: BSD-3-Clause */
/* What a job hears from its legs, and what it tells the world; see job.h. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"

/* Back-off of teeing after a failed tee, and of flushes that fail. */
#define BACKOFF_MIN_NS UINT64_C (500000000)
#define BACKOFF_MAX_NS UINT64_C (30000000000)

/* A tee that fails this long after the last failure begins anew. */
#define BACKOFF_FORGET_NS UINT64_C (60000000000)

/* At most one error event a second for each side and errno. */
#define ERROR_EVENT_NS UINT64_C (1000000000)

uint64_t
job_now_ns (const struct job *job)
{
  return job->pair.clock->now_ns (job->pair.clock);
}

uint64_t
job_double_delay (const struct job *job, uint64_t delay_ns)
{
  const uint64_t least = job->m->config.backoff_min_ns;

  if (delay_ns == 0)
    return least > 0 ? least : BACKOFF_MIN_NS;
  return delay_ns * 2 < BACKOFF_MAX_NS ? delay_ns * 2 : BACKOFF_MAX_NS;
}

/*-- what the pair tells ------------------------------------------------*/

void
job_on_work (void *opaque)
{
  struct job *job = opaque;

  copiers_wake (job->copiers);
}

void
job_on_idle (void *opaque)
{
  struct job *job = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

  cond_signal (&job->wake);
}

void
job_set_error_locked (struct job *job, enum pair_side side, const char *op,
                      struct range r, int err)
{
  job->last_error = (struct mirror_error) {
    .set = true, .target = side == SIDE_TARGET, .op = op, .range = r,
    .err = -err, .when = (int64_t) time (NULL),
  };
}

/* Note the error; returns true if an event is due.  The time must be taken
 * under the lock: with one from before that of somebody who was faster the same
 * error would be told twice.
 */
static bool
note_error_locked (struct job *job, enum pair_side side, const char *op,
                   struct range r, int err, uint64_t now)
{
  const unsigned place = -err < JOB_ERRNOS ? (unsigned) -err : JOB_ERRNOS - 1;
  uint64_t *last = &job->reported_ns[side][place];

  job_set_error_locked (job, side, op, r, err);
  if (*last != 0 && now - *last < ERROR_EVENT_NS)
    return false;
  *last = now;
  return true;
}

/* The session has ended: the target says so, or a request got no reply.  From
 * here no acknowledgement counts and the mirror is not synced; the rest is the
 * job thread's.
 */
void
job_lost_locked (struct job *job, int err)
{
  if (atomic_exchange (&job->session_over, true))
    return;
  reasons_raise (&job->pair.reasons, 1);        /* no session */
  flusher_session_lost (job->pair.flusher);
  job->lost = true;
  job->lost_err = err;
  job_set_reason_locked (job, error_text (-err));
  cond_signal (&job->wake);
}

void
job_on_failed (void *opaque, enum pair_side side, bool tee, const char *op,
           struct range r, int err)
{
  struct job *job = opaque;
  struct mirror_event ev = {
    .kind = EVENT_JOB_ERROR, .write = side == SIDE_TARGET, .err = -err,
    .range = r, .action = job_error_action (job, side, err),
  };
  uint64_t now;
  /* A server that is about to end waits for its clients to leave. */
  const bool lost = side == SIDE_TARGET &&
    (err == -ENOTCONN || err == -ESHUTDOWN);
  bool tell;

  atomic_fetch_add (side == SIDE_TARGET ? &job->pair.counters.target_errors
                    : &job->pair.counters.source_errors, 1);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    /* Requests that a cancel, or the error before, cut off are no news. */
    if (job->cancel || job->fail_err != 0)
      return;
    now = job_now_ns (job);
    tell = note_error_locked (job, side, op, r, err, now) &&
      !(lost && job->session.loss_told);

    if (side == SIDE_TARGET && tee && !lost && job->tee_due_ns == 0) {
      if (now - job->tee_failed_ns > BACKOFF_FORGET_NS)
        job->tee_delay_ns = 0;
      job->tee_delay_ns = job_double_delay (job, job->tee_delay_ns);
      job->tee_failed_ns = now;
      job->tee_due_ns = now + job->tee_delay_ns;
      cond_signal (&job->wake);
    }
    if (lost) {
      job->session.loss_told = true;
      job_lost_locked (job, err);
    }
  }
  /* What follows from it is told by the job's thread. */
  if (tell)
    job_event (job, &ev);
  if (side == SIDE_TARGET && err == -ENOTCONN)
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  /* By the policy as it is now: who has changed it and then resumed the job
   * does not want it stopped by a copy that failed before.
   */
  if (!job->cancel)
    job_act_locked (job, job_error_action (job, side, err), err);
}

/* If nothing follows from it, that the target is offline says enough. */
void
job_loss_failed (struct job *job)
{
  const struct range nowhere = { 0, 0 };
  struct mirror_event ev = { .kind = EVENT_JOB_ERROR, .write = true,
                             .range = nowhere, .lost = true };
  bool tell = false;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    ev.err = -job->lost_err;
    ev.action = job_error_action (job, SIDE_TARGET, -ENOTCONN);
    if (job_act_locked (job, ev.action, job->lost_err) &&
        !job->session.loss_told)
      tell = note_error_locked (job, SIDE_TARGET, "connect", nowhere,
                                job->lost_err, job_now_ns (job));
  }
  if (tell)
    job_event (job, &ev);
}

/*-- small things -------------------------------------------------------*/

void
job_set_reason_locked (struct job *job, const char *reason)
{
  snprintf (job->session.reason, sizeof job->session.reason, "%s",
            reason ? reason : "");
}

void
job_event (struct job *job, struct mirror_event *ev)
{
  const struct mirror_config *config = &job->m->config;

  ev->id = job->id;
  if (config->event)
    config->event (config->event_opaque, ev);
}

void
job_tell_target (struct job *job)
{
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = "online" };
  char reason[MIRROR_REASON_MAX] = "";

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    ev.no_flush = job->online && !job->session.facts.can_flush;
    if (!job->online) {
      ev.target_state = job->stop_wanted ? "offline" : "connecting";
      memcpy (reason, job->session.reason, sizeof reason);
    }
  }
  if (reason[0])
    ev.error = reason;
  job_event (job, &ev);
}

void
job_set_status (struct job *job, enum job_status status)
{
  struct mirror_event ev = { .kind = EVENT_JOB_STATUS_CHANGE,
                             .status = status };

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->event_lock);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    assert (job_may_move (job->status, status));
    job->status = status;
  }
  job_event (job, &ev);
}

void
job_become_ready (struct job *job)
{
  struct mirror_event ev = { .kind = EVENT_JOB_STATUS_CHANGE,
                             .status = JOB_READY };

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->event_lock);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    if (job->status != JOB_RUNNING)
      return;
    job->status = JOB_READY;
    job->ready = true;
  }
  job_event (job, &ev);
  job_progress_event (job, EVENT_JOB_READY);
}

void
job_show_pause (struct job *job)
{
  struct mirror_event ev = { .kind = EVENT_JOB_STATUS_CHANGE };
  enum job_status now;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->event_lock);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    now = job->status;
    if (job->paused)
      ev.status = now == JOB_RUNNING ? JOB_PAUSED
        : now == JOB_READY ? JOB_STANDBY : now;
    else
      ev.status = now == JOB_PAUSED ? JOB_RUNNING
        : now == JOB_STANDBY ? JOB_READY : now;
    job->status = ev.status;
  }
  if (ev.status != now)
    job_event (job, &ev);
}

void
job_tell_released (struct mirror *m, const char *reason, uint64_t held_ns)
{
  struct mirror_event ev = { .kind = EVENT_RELEASED, .error = reason,
                             .held_ns = held_ns };

  if (m->config.event)
    m->config.event (m->config.event_opaque, &ev);
}

/* What has not been scanned counts as dirty, or a job that has just begun would
 * look like one that is done.  What a client has dirtied before the scan came
 * there is in both, and what is dirty again while it is in flight: together they
 * cannot be more than the disk.
 */
static uint64_t
take_some (uint64_t *n, uint64_t left)
{
  if (*n > left)
    *n = left;
  return *n;
}

struct progress
job_progress (struct job *job)
{
  struct pair *p = &job->pair;
  struct dirty_counts counts;
  struct progress pr;
  uint64_t left;                /* of the disk */

  /* What becomes dirty just now is in both. */
  pr.suspect = suspects_bytes (p->suspects);
  dirty_count (p->dirty, &counts);
  pr.offset = counts.done;
  pr.unscanned = counts.unknown;
  pr.dirty = counts.dirty;
  pr.claimed = counts.claimed;
  left = p->size;
  left -= take_some (&pr.dirty, left);
  left -= take_some (&pr.claimed, left);
  left -= take_some (&pr.suspect, left);
  left -= take_some (&pr.unscanned, left);
  pr.len = pr.offset + (p->size - left);
  return pr;
}

void
job_progress_event (struct job *job, enum mirror_event_kind kind)
{
  const struct progress pr = job_progress (job);
  struct mirror_event ev = { .kind = kind, .len = pr.len,
                             .offset = pr.offset };

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
    ev.speed = job->speed;
    if (kind == EVENT_JOB_COMPLETED && job->fail_err != 0)
      ev.error = error_text (-job->fail_err);
  }
  job_event (job, &ev);
}
