/* SPDX-License-Identifier: BSD-3-Clause */
/* The sessions of a job: noticing that a target hangs, ending a session,
 * opening the next (rule I9); see job.h.
 *
 * A thread of its own does what may block or must not be late: it looks
 * several times a second whether anybody has been waiting for the target for
 * too long, lets go of suspect ranges, and connects when there is no session.
 * All else is the job's thread's, in this order:
 *
 *   lost           no acknowledgement counts any more, whoever noticed
 *   session_end    copying stops, requests track; the target is shut down,
 *                  so that all that is in flight ends soon; when the last has
 *                  ended, U becomes dirty and the target is freed
 *   (connecting)   with back-off, for ever
 *   session_begin  the new one is looked at while requests still track;
 *                  then it is copied to again, and teed to
 *
 * So a tee or a copy that began in a session ends in it, and none of them ever
 * sees the target change.
 *
 * A target that has come back need not be the one that went: another disk
 * may have its address now.  A sample of what should be equal is compared.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"
#include "switch.h"

/* How late a hanging target may be noticed: a part of the time-out, at most so
 * much.
 */
#define LATE_PART 16
#define LATE_MAX_NS UINT64_C (500000000)

/* The third loss within this time is one too many; teeing then waits until a
 * session has lasted as long.
 */
#define FLAP_NS UINT64_C (60000000000)

/* What is compared of a target that has come back. */
#define SAMPLES 16
#define SAMPLE_TRIES 64
#define SAMPLE_MAX (UINT32_C (64) << 10)

/* How long older requests may take to mark what they have changed. */
#define SETTLE_NS UINT64_C (2000000000)

/*-- the thread ---------------------------------------------------------*/

/* Three quarters to five quarters of it, so that not everybody comes at once
 * when a server is back.
 */
static uint64_t
jitter (uint64_t ns, uint64_t seed)
{
  uint64_t x = seed * UINT64_C (0x9e3779b97f4a7c15);

  return ns - ns / 4 + (ns / 2) * ((x >> 40) & 0xff) / 0xff;
}

/* Is it what it was, as far as it says?  Else the reason is in why. */
static bool
fits (const struct job *job, const struct target *t, char *why)
{
  const struct target *old = &job->session.facts;
  const uint64_t size = job->session.had_one ? old->size : job->target_size;

  if ((job->session.had_one || size != 0) && t->size != size)
    snprintf (why, MIRROR_REASON_MAX, "its size is %" PRIu64 " bytes, not %"
              PRIu64 " any more", t->size, size);
  else if (t->block > job->pair.granularity)
    snprintf (why, MIRROR_REASON_MAX, "its minimum block size, %" PRIu32
              ", is larger than the granularity, %" PRIu64, t->block,
              job->pair.granularity);
  else if (job->session.had_one && old->can_flush && !t->can_flush)
    snprintf (why, MIRROR_REASON_MAX, "it cannot flush any more");
  else
    return true;
  return false;
}

/* No session yet: say why, once for each reason in a row. */
static void
tell_failure (struct job *job, int err, const char *why)
{
  struct mirror_event ev = {
    .kind = EVENT_TARGET_STATE,
    .target_state = job->session.had_one ? "offline" : "connecting",
    .error = why[0] ? why : error_text (-err), .unfit = err == -EMEDIUMTYPE,
  };

  if (atomic_load (&job->stop))
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    if (strcmp (job->session.reason, ev.error) == 0)
      return;
    job_set_reason_locked (job, ev.error);
  }
  job_event (job, &ev);
}

static void
try_connect_locked (struct job *job)
{
  struct mirror *m = job->m;
  const struct mirror_config *config = &m->config;
  struct target *t = NULL;
  char why[MIRROR_REASON_MAX] = "";
  int r = -ENOTCONN;

  job->session.connecting = true;
  mutex_unlock (&m->lock);
  if (config->reopen && job->where)
    r = config->reopen (config->event_opaque, job->where, &job->timeout_ns,
                        &job->stop, &t, why);
  if (r == 0 && !fits (job, t, why)) {
    t->ops->free (t);
    r = -EMEDIUMTYPE;
  }
  if (r < 0)
    tell_failure (job, r, why);
  mutex_lock (&m->lock);
  job->session.connecting = false;
  if (r == 0) {
    job->session.fresh = t;
    job->session.delay_ns = 0;
    cond_signal (&job->wake);
    return;
  }
  job->session.delay_ns = job_double_delay (job, job->session.delay_ns);
  job->session.due_ns = job_now_ns (job) +
    jitter (job->session.delay_ns, job_now_ns (job));
}

static bool
may_connect_locked (const struct job *job)
{
  return job->session.wanted && !job->session.fresh && !job->stopped &&
    !job->stop_wanted && job->fail_err == 0;
}

/* Look whether the target hangs, then sleep until there may be more to do. */
static void
watch_locked (struct job *job)
{
  struct mirror *m = job->m;
  struct pair *p = &job->pair;
  const uint64_t timeout_ns = atomic_load (&job->timeout_ns);
  uint64_t now = job_now_ns (job), until = timeout_ns / LATE_PART;

  /* A job that is to fail may be waiting for that very target; and so may the
   * job's thread, if an answer has said that it is lost.
   */
  if (job->online && !job->lost && p->target &&
      (job->fail_err != 0 || waits_overdue (p->waits, now, timeout_ns)))
    job_lost_locked (job, job->fail_err != 0 ? job->fail_err : -ETIMEDOUT);
  if (job->online && job->lost && p->target)
    p->target->ops->shutdown (p->target);
  if (suspects_expire (p->suspects, now))
    copiers_wake (job->copiers);
  until = now + (until < LATE_MAX_NS ? until : LATE_MAX_NS);
  if (may_connect_locked (job) && job->session.due_ns < until)
    until = job->session.due_ns;
  p->clock->wait_until (p->clock, &job->session.wake, &m->lock, until);
}

static void
session_main (void *vp)
{
  struct job *job = vp;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

  while (!job->go && !job->session.quit)
    cond_wait (&job->session.wake, &job->m->lock);
  while (!job->session.quit)
    if (may_connect_locked (job) &&
        job_now_ns (job) >= job->session.due_ns)
      try_connect_locked (job);
    else
      watch_locked (job);
}

int
job_session_start (struct job *job)
{
  int r = thread_start (&job->session.thread, "mirror-session", session_main,
                        job);

  job->session.have_thread = r == 0;
  return r;
}

/* The caller has set job->stop, so that connecting ends soon. */
void
job_session_stop (struct job *job)
{
  struct mirror *m = job->m;

  if (!job->session.have_thread)
    return;
  mutex_lock (&m->lock);
  job->session.quit = true;
  cond_signal (&job->session.wake);
  mutex_unlock (&m->lock);
  thread_join (&job->session.thread);
  job->session.have_thread = false;
  if (job->session.fresh)
    job->session.fresh->ops->free (job->session.fresh);
  job->session.fresh = NULL;
}

/*-- the end of one -----------------------------------------------------*/

static void
note_loss (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  uint64_t *lost = job->session.lost_ns, now = job_now_ns (job);

  lost[0] = lost[1];
  lost[1] = lost[2];
  lost[2] = now;
  if (lost[0] != 0 && now - lost[0] < FLAP_NS)
    job->session.flapping = true;
  job->tee_due_ns = 0;          /* a new session, a new try */
  job->session.wanted = true;
  job->session.due_ns = now + jitter (job_double_delay (job, 0), now);
  cond_signal (&job->session.wake);
}

/* The target is nobody's any more.  A cancel may be about to shut it down:
 * then it stays until the job's end.
 */
static struct target *
take_target (struct job *job)
{
  struct mirror *m = job->m;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  struct target *t = job->pair.target;

  job->online = false;
  job->lost = false;
  if (job->ended)
    return NULL;
  job->pair.target = NULL;
  return t;
}

void
job_session_end (struct job *job)
{
  struct pair *p = &job->pair;
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = "offline" };
  struct target *t;
  int err;

  copiers_run (job->copiers, false);
  job_publish (job);            /* `lost` is set: track */
  p->target->ops->shutdown (p->target);
  gate_wait_tees (job->m->gate, job);
  copiers_stop (job->copiers);
  verifier_quiesce (job->verifier);
  switch_free (job);
  flusher_session_end (p->flusher);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
    err = job->lost_err;
  }
  t = take_target (job);
  if (t)
    t->ops->free (t);
  job_loss_failed (job);
  note_loss (job);              /* from now on there may be another one */
  ev.error = error_text (-err);
  job_event (job, &ev);
}

/*-- the beginning of the next ------------------------------------------*/

static int
read_target (struct pair *p, void *buf, struct range r)
{
  struct target_req req = {
    .op = TARGET_READ, .lane = LANE_COPY, .buf = buf,
    .count = (uint32_t) range_len (r), .offset = r.start,
  };
  struct wait wait;
  int err;

  waits_begin (p->waits, &wait, WAIT_COPY, pair_now_ns (p));
  p->target->ops->submit (p->target, &req);
  err = p->target->ops->wait (p->target, &req);
  waits_end (p->waits, &wait);
  return err;
}

/* Is the sample as it should be?  Requests track, and a request marks after it
 * has changed the source; so what differs counts only if it is not dirty when
 * all that were under way have ended.
 */
static bool
sample_is_good (struct job *job, struct range r, char *ours, char *theirs)
{
  struct pair *p = &job->pair;
  int err;

  if (job->source->ops->pread (job->source, ours, (uint32_t) range_len (r),
                               r.start) < 0)
    return true;                /* nothing is known */
  err = read_target (p, theirs, r);
  if (err < 0) {
    if (err != -ENOTCONN)
      pair_mark_outside (p, r);
    return true;
  }
  if (memcmp (ours, theirs, range_len (r)) == 0 || pair_may_differ (p, r))
    return true;
  if (gate_flush (job->m->gate, p->clock, job_now_ns (job) + SETTLE_NS) < 0)
    return true;
  /* Of a job that ends nobody marks any more. */
  return atomic_load (&job->stop) || pair_may_differ (p, r);
}

/* Compare what should be equal, here and there. */
static bool
content_is_known (struct job *job)
{
  struct pair *p = &job->pair;
  const uint64_t granules = round_up_p2 (p->size, p->granularity) /
    p->granularity;
  CLEANUP_FREE char *buf = malloc (2 * SAMPLE_MAX);
  uint64_t x = job_now_ns (job) | 1;
  unsigned tries, done = 0;
  struct range r;

  if (!buf || granules == 0)
    return true;
  for (tries = 0; tries < SAMPLE_TRIES && done < SAMPLES; ++tries) {
    x ^= x << 13;               /* xorshift64, Marsaglia 2003 */
    x ^= x >> 7;
    x ^= x << 17;
    r.start = x % granules * p->granularity;
    r.end = r.start + (p->granularity < SAMPLE_MAX ? p->granularity
                       : SAMPLE_MAX);
    if (r.end > p->size)
      r.end = p->size;
    if (pair_may_differ (p, r))
      continue;
    done++;
    if (!sample_is_good (job, r, buf, buf + SAMPLE_MAX))
      return false;
  }
  return true;
}

void
job_set_target_timeout (const struct job *job, struct target *t)
{
  if (t && t->ops->set_timeout)
    t->ops->set_timeout (t, atomic_load (&job->timeout_ns));
}

/* From here on the session is there, but nobody tees or copies yet. */
static bool
take_fresh (struct job *job)
{
  struct mirror *m = job->m;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  struct target *t = job->session.fresh;

  if (!t || job->ended)
    return false;
  job->session.fresh = NULL;
  job->session.wanted = false;
  job->session.checking = true;
  job->session.loss_told = false;
  job->session.facts = *t;
  flusher_session_begin (job->pair.flusher, t);
  job->pair.target = t;
  job->online = true;
  atomic_store (&job->session_over, false);
  job_set_target_timeout (job, t);      /* it may have been changed since */
  mirror_watch (m, t);
  return true;
}

static void
go_on (struct job *job, const char *reason)
{
  struct mirror *m = job->m;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    job->session.checking = false;
    if (!job->lost)
      job_set_reason_locked (job, reason);
    if (job->session.had_one)
      job->session.reconnects++;
    job->session.had_one = true;
    if (job->session.flapping)
      job->tee_due_ns = job_now_ns (job) + FLAP_NS;
    reasons_lower (&job->pair.reasons, 1);      /* no session */
    copiers_retry_now (job->copiers);
    job_run_copiers_locked (job);
  }
  job_publish (job);
}

void
job_session_begin (struct job *job)
{
  struct pair *p = &job->pair;
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = "online" };
  const bool first = !job->session.had_one;

  if (!take_fresh (job))
    return;
  ev.no_flush = first && !p->target->can_flush;
  if (first && p->intent)
    intent_target_size (p->intent, p->target->size);
  if (first && job->sync == SYNC_NONE)
    job_doubt_cache (job);
  else if ((!first || job->resumed) && job->scanned &&
           !content_is_known (job)) {
    job_record_everything (job->m);
    pair_mark (p, (struct range) { 0, p->size });
    ev.error = "its content is not the one it had: all is copied again";
  }
  go_on (job, ev.error);
  job_event (job, &ev);
}
