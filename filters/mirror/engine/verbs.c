/* SPDX-License-Identifier: BSD-3-Clause */
/* What can be done to a job while it runs; see mirror.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "job.h"

/* How long a fence waits for older requests: the default of max-pause. */
#define FENCE_NS UINT64_C (2000000000)

int
job_check_verb_locked (struct mirror *m, const char *id, enum job_verb verb,
                       enum job_status *status)
{
  if (!m->job || m->job->status == JOB_NULL ||
      (id && strcmp (id, m->job->id) != 0))
    return -ENOENT;
  *status = m->job->status;
  return job_accepts (*status, verb) ? 0 : -EPERM;
}

int
mirror_check_verb (struct mirror *m, const char *id, enum job_verb verb,
                   enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return job_check_verb_locked (m, id, verb, status);
}

int
mirror_set_speed (struct mirror *m, const char *id, uint64_t bytes_per_s,
                  enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_SET_SPEED, status);

  if (r == 0) {
    m->job->speed = bytes_per_s;
    copiers_set_speed (m->job->copiers, bytes_per_s);
  }
  return r;
}

int
mirror_set_mode (struct mirror *m, const char *id, enum copy_mode mode,
                 enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  struct job *job;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    r = job_check_verb_locked (m, id, JOB_VERB_CHANGE, status);
    if (r < 0)
      return r;
    job = m->job;
    job->copy_mode = mode;
    if (!job_mode_tees_locked (job))    /* never "background" and synced */
      reasons_set_mode (&job->pair.reasons, false);
    cond_signal (&job->wake);
  }
  job_publish_locked (job);
  return 0;
}

/*-- verbs that tell -----------------------------------------------------*/

/* The job, which stays until job_unpin; or NULL and *r as mirror_check_verb. */
static struct job *
pin (struct mirror *m, const char *id, enum job_verb verb,
     enum job_status *status, int *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  *r = job_check_verb_locked (m, id, verb, status);
  if (*r < 0)
    return NULL;
  m->job->pins++;
  return m->job;
}

void
job_unpin (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

  if (--job->pins == 0)
    cond_signal (&job->unpinned);
}

/* The job is not paused any more, and has told so: what happens from now on
 * comes after that.
 */
static void
resume_work (struct job *job)
{
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    if (job->paused || job->cancel || job->completed)
      return;
    if (job->stopped) {
      job->stopped = false;
      job->io_status = IO_OK;
      if (!job->session.had_one)        /* why it still cannot be is news */
        job_set_reason_locked (job, NULL);
      copiers_retry_now (job->copiers);
      /* What stops it again is news, however soon it does. */
      memset (job->reported_ns, 0, sizeof job->reported_ns);
      cond_signal (&job->session.wake);
    }
    job_run_copiers_locked (job);
    cond_signal (&job->wake);
  }
  job_publish (job);            /* it may have stopped teeing */
}

int
mirror_pause (struct mirror *m, const char *id, bool pause,
              enum job_status *status)
{
  struct job *job;
  int r;

  job = pin (m, id, pause ? JOB_VERB_PAUSE : JOB_VERB_RESUME, status, &r);
  if (!job)
    return r;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    r = job->paused == pause ? -EALREADY : 0;
    /* A job that is about to end goes on to its end. */
    if (r == 0 && !job->cancel && !job->completed) {
      job->paused = pause;
      if (pause)
        job_run_copiers_locked (job);
    }
  }
  if (r == 0) {
    job_show_pause (job);
    if (!pause)
      resume_work (job);
  }
  job_unpin (job);
  return r;
}

void
job_mark_all (struct mirror *m)
{
  job_record_everything (m);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  if (m->job && !m->job->cancel && !m->job->completed)
    pair_mark (&m->job->pair, (struct range) { 0, m->config.size });
}

void
job_source_failed (struct mirror *m, struct range r, bool flush)
{
  const struct range all = { 0, m->config.size };
  struct clock *clock = m->config.clock;

  late_note (&m->late, flush ? all : r, clock->now_ns (clock));
  if (!flush)
    return;
  job_record_everything (m);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  if (m->job && !m->job->cancel && !m->job->completed)
    pair_mark_suspect (&m->job->pair, all);
}

/* The same text for everybody who asks in one thread. */
static const char *
why_suspect (struct job *job, uint64_t until_ns)
{
  static __thread char text[96];
  const uint64_t now = job_now_ns (job);
  const uint64_t left = until_ns > now ? until_ns - now : 0;

  snprintf (text, sizeof text, "writes to the target may still arrive late "
            "for %" PRIu64 " s", left / UINT64_C (1000000000) + 1);
  return text;
}

/* What speaks against bringing everything to a halt, or NULL. */
static const char *
why_not_locked (struct mirror *m, enum halt_kind kind)
{
  struct job *job = m->job;
  const struct target *t = job->pair.target;

  if (m->hold.since_ns != 0)
    return "the mirror is held; release it first";
  if (job->stopped || job->stop_wanted)
    return "the job has stopped because of an error; resume it first";
  if (job->wanted != HALT_NONE)
    return "the job is being completed, detached or held already";
  if (!job->online || job->lost || !t)
    return "the target is offline";
  if (suspects_until (job->pair.suspects) != 0)
    return why_suspect (job, suspects_until (job->pair.suspects));
  if (kind == HALT_PIVOT && m->config.told_flush && !t->can_flush)
    return "the target cannot flush, but clients were told that they may";
  return NULL;
}

static int
want (struct mirror *m, const char *id, enum job_verb verb,
      enum halt_kind kind, enum job_status *status, const char **why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, verb, status);

  if (r < 0)
    return r;
  *why = why_not_locked (m, kind);
  if (*why)
    return -EBUSY;
  m->job->wanted = kind;
  job_run_copiers_locked (m->job);
  cond_signal (&m->job->wake);
  return 0;
}

int
mirror_complete (struct mirror *m, const char *id, enum job_status *status,
                 const char **why)
{
  return want (m, id, JOB_VERB_COMPLETE, HALT_PIVOT, status, why);
}

int
mirror_detach (struct mirror *m, const char *id, enum job_status *status,
               const char **why)
{
  return want (m, id, JOB_VERB_CANCEL, HALT_DETACH, status, why);
}

int
mirror_dismiss (struct mirror *m, const char *id, enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_DISMISS, status);

  if (r == 0) {
    m->job->dismissed = true;
    cond_signal (&m->job->wake);
  }
  return r;
}

int
mirror_set_buf_size (struct mirror *m, const char *id, uint64_t bytes,
                     enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_SET_SPEED, status);

  if (r < 0)
    return r;
  if (bytes < m->job->pair.granularity)
    return -EINVAL;
  m->job->buf_size = bytes;
  copiers_set_buf_size (m->job->copiers, bytes);
  return 0;
}

int
mirror_set_max_pause (struct mirror *m, const char *id, uint64_t ns,
                      enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_SET_SPEED, status);

  if (r == 0)
    atomic_store (&m->job->max_pause_ns, ns);
  return r;
}

int
mirror_set_timeout (struct mirror *m, const char *id, uint64_t ns,
                    enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_SET_SPEED, status);

  if (r == 0) {
    atomic_store (&m->job->timeout_ns, ns);
    job_set_target_timeout (m->job, m->job->pair.target);
    cond_signal (&m->job->session.wake);        /* somebody may be late now */
  }
  return r;
}

static bool
may_stop (const struct job *job, enum pair_side side)
{
  const enum on_error what = atomic_load (&job->on_error[side]);

  return what == ON_ERROR_STOP || what == ON_ERROR_ENOSPC;
}

/* A job that an error is about to stop, but that is still busy, does not stop
 * any more if nothing is to stop it from now on.
 */
int
mirror_set_on_error (struct mirror *m, const char *id, bool target,
                     enum on_error what, enum job_status *status)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r = job_check_verb_locked (m, id, JOB_VERB_SET_SPEED, status);
  struct job *job = m->job;

  if (r < 0)
    return r;
  atomic_store (&job->on_error[target ? SIDE_TARGET : SIDE_SOURCE], what);
  if (job->stop_wanted && !may_stop (job, SIDE_TARGET) &&
      !may_stop (job, SIDE_SOURCE)) {
    job->stop_wanted = false;
    job->io_status = IO_OK;
  }
  return 0;
}

/*-- barrier and fence --------------------------------------------------*/

int
mirror_hold (struct mirror *m, uint64_t timeout_ns, uint64_t *drain_ns,
             uint64_t *expires_ns, const char **why)
{
  enum job_status status = JOB_NULL;
  uint64_t now;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    *why = "there is no job";
    if (!m->job)
      return -ENOENT;
    *why = "the job is not ready";
    if (m->job->status != JOB_READY)
      return -EPERM;
    if (m->hold.asked) {
      *why = "somebody else is waiting for the same";
      return -EBUSY;
    }
    *why = why_not_locked (m, HALT_HOLD);
    if (*why)
      return -EBUSY;
    m->hold.asked = true;
    m->hold.result = 1;
    m->hold.expired = false;
    m->hold.timeout_ns = timeout_ns;
  }
  r = want (m, NULL, JOB_VERB_COMPLETE, HALT_HOLD, &status, why);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  if (r == 0) {
    while (m->hold.result == 1)
      cond_wait (&m->hold_changed, &m->lock);
    r = m->hold.result;
    *why = m->hold.why;
  }
  else if (r != -EBUSY)
    *why = "the job is not ready";
  m->hold.asked = false;
  now = m->config.clock->now_ns (m->config.clock);
  *drain_ns = m->hold.drain_ns;
  *expires_ns = m->hold.until_ns > now ? m->hold.until_ns - now : 0;
  return r;
}

static int
release (struct mirror *m, uint64_t *held_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  struct job *job;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (m->hold.since_ns == 0) {
      bool expired = m->hold.expired;

      m->hold.expired = false;
      return expired ? -ETIMEDOUT : -ENOENT;
    }
    job = m->job;               /* there while regime_lock is held */
    *held_ns = job_now_ns (job) - m->hold.since_ns;
    m->hold.since_ns = 0;
    job->wanted = HALT_NONE;
    job_run_copiers_locked (job);       /* it may have been paused meanwhile */
    cond_signal (&job->wake);
  }
  job_release_locked (job);
  return 0;
}

int
mirror_release (struct mirror *m, uint64_t *held_ns)
{
  int r = release (m, held_ns);

  if (r == 0)
    job_tell_released (m, "released", *held_ns);
  return r;
}

static bool
is_held (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->hold.since_ns != 0;
}

/* Requests look at the flag after they have entered, so when those that were
 * inside have left, none that saw the gate without the fence is left.  The file
 * never says less than what has been answered.
 */
static int
fence (struct mirror *m, bool enable, bool force)
{
  struct mirror_event ev = { .kind = EVENT_FENCED, .synced = enable };
  struct clock *clock = m->config.clock;
  bool was;
  int r = 0;

  if (enable && !force && !is_held (m))
    return -EPERM;
  if (!enable && m->intent && intent_fence (m->intent, false) < 0)
    return -EIO;
  if (enable)
    was = atomic_fetch_or (&m->refuse, REFUSE_FENCED) & REFUSE_FENCED;
  else
    was = atomic_fetch_and (&m->refuse, ~(unsigned) REFUSE_FENCED) &
      REFUSE_FENCED;
  /* Under a barrier, too, which may have ended just now, and have let requests in
   * that have not seen the flag.  If it stands nobody is inside.
   */
  if (enable)
    r = gate_flush (m->gate, clock, clock->now_ns (clock) + FENCE_NS);
  if (enable && m->intent && intent_fence (m->intent, true) < 0)
    r = -EIO;
  if (was != enable && m->config.event)
    m->config.event (m->config.event_opaque, &ev);
  return r;
}

/* One at a time: what the file says and what the flag says must be of the same
 * one.
 */
int
mirror_fence (struct mirror *m, bool enable, bool force)
{
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    while (m->fencing)
      cond_wait (&m->hold_changed, &m->lock);
    m->fencing = true;
  }
  r = fence (m, enable, force);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  m->fencing = false;
  cond_broadcast (&m->hold_changed);
  return r;
}
