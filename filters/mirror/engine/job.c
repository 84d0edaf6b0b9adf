/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of one job; see job.h.
 *
 * Start (rule I6): mirror_start publishes a regime, so that requests are
 * tracked.  Then, in the job's thread: wait until every request that did not
 * sample this job has ended; only then scan.  QEMU did it the other way round
 * for three years and lost the writes that were in flight (167ef239fb).
 *
 * Afterwards the thread is idle but for these: the session is lost (teeing
 * stops, U becomes dirty); a tee has failed (track for a while, then tee
 * again); N is 0 but nothing proves it yet (flush the target: *ready* and
 * *synced*, rule I8); the job is cancelled.
 *
 * While the target is lost the job stays what it was: requests are tracked.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cleanup.h"
#include "job.h"
#include "scan.h"
#include "switch.h"

/* How often to look whether N has become 0, in case that nobody told.  The
 * copiers tell when they have cleared the last bit; what is left are short
 * excursions such as a refused fast zero.
 */
#define TICK_NS UINT64_C (100000000)
#define SLOW_TICK_NS UINT64_C (1000000000)

/*-- the thread ---------------------------------------------------------*/

static void
tell_synced (struct job *job, bool synced)
{
  struct mirror_event ev = { .kind = EVENT_SYNCED, .synced = synced };

  if (synced == job->synced_told)
    return;
  job->synced_told = synced;
  job_event (job, &ev);
}

/* Nothing is left to copy?  Then prove it by a flush.  Returns true if the
 * job is as settled as its mode can be.
 */
static bool
settle (struct job *job, bool write_blocking, bool ready)
{
  struct pair *p = &job->pair;
  bool proved;

  tell_synced (job, flusher_synced (p->flusher));

  if (!reasons_none (&p->reasons, write_blocking))
    return false;
  if (!write_blocking && ready)
    return true;

  proved = !p->target->can_flush ||
    (write_blocking ? flusher_synced (p->flusher)
     : flusher_settled (p->flusher));
  if (!proved) {
    if (job_now_ns (job) < job->settle_due_ns)
      return false;
    if (pair_flush (p, WAIT_FLUSH) < 0) {
      job->settle_delay_ns = job_double_delay (job, job->settle_delay_ns);
      job->settle_due_ns = job_now_ns (job) + job->settle_delay_ns;
      return false;
    }
    job->settle_delay_ns = 0;
    proved = write_blocking ? flusher_synced (p->flusher)
      : flusher_settled (p->flusher);
  }
  if (proved && !ready)
    job_become_ready (job);
  tell_synced (job, flusher_synced (p->flusher));
  return proved;
}

/* The first pass is over when the scan is, and what it has found has been
 * copied once: N says that nothing is left, or the copiers have been round the
 * whole disk since (they may have been anywhere when the scan ended, so the
 * second end of a round counts).  Returns true when it has just ended.
 */
static bool
pass_ended_locked (struct job *job)
{
  if (job->first_pass || !job->scanned)
    return false;
  if (job->first_pass_rounds == 0)
    job->first_pass_rounds = copiers_rounds (job->copiers) + 2;
  job->first_pass =
    reasons_none (&job->pair.reasons, false) ||
    copiers_rounds (job->copiers) >= job->first_pass_rounds;
  return job->first_pass;
}

/* The barrier falls by itself. */
static void
expire_hold (struct job *job)
{
  struct mirror *m = job->m;
  uint64_t held_ns;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);

    {
      ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

      if (m->hold.since_ns == 0 || job_now_ns (job) < m->hold.until_ns)
        return;
      held_ns = job_now_ns (job) - m->hold.since_ns;
      m->hold.since_ns = 0;
      m->hold.expired = true;
      job->wanted = HALT_NONE;
      job_run_copiers_locked (job);     /* it may have been paused meanwhile */
    }
    job_release_locked (job);
  }
  job_tell_released (m, "expired", held_ns);
}

/* What is to be done in this round. */
struct round {
  bool end, fail, stop, lost, fresh, scan, publish, write_blocking, ready,
    paused, holding, closing;
  enum halt_kind wanted;
};

static struct round
look (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  struct round r = {
    .end = job->cancel,
    .fail = job->fail_err != 0,
    .stop = job->stop_wanted,
    .lost = job->lost,
    .fresh = job->session.fresh != NULL,
    .scan = !job->scanned && job->online && !job->lost,
    .publish = job->tee_due_ns != 0,    /* stop teeing, or tee again */
    .write_blocking = job->copy_mode != COPY_BACKGROUND,
    .ready = job->ready,
    .paused = job->paused,
    .holding = job->m->hold.since_ns != 0,
    .closing = job->closing,
    .wanted = job->wanted,
  };

  if (job->tee_due_ns != 0 && job_now_ns (job) >= job->tee_due_ns) {
    job->tee_due_ns = 0;
    job->session.flapping = false;
  }
  r.publish |= pass_ended_locked (job);
  return r;
}

/* seen: what was wanted when this round began; what is wanted since has woken
 * nobody.
 */
static void
rest (struct job *job, bool settled, enum halt_kind seen)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  uint64_t ns = settled ? SLOW_TICK_NS : TICK_NS, now = job_now_ns (job);

  if (job->cancel || job->lost || job->session.fresh || job->stop_wanted ||
      job->fail_err != 0 || job->closing || job->wanted != seen)
    return;
  if (job->tidy_due_ns > now && job->tidy_due_ns < now + ns)
    ns = job->tidy_due_ns - now;
  if (job->m->hold.since_ns != 0 && job->m->hold.until_ns < now + ns)
    ns = job->m->hold.until_ns > now ? job->m->hold.until_ns - now : 0;
  job->pair.clock->wait_until (job->pair.clock, &job->wake, &job->m->lock,
                               now + ns);
}

static void
tell_copiers (void *opaque, const struct hint *extents)
{
  copiers_note_extents (opaque, extents);
}

static void
scan (struct job *job)
{
  if (scan_full (&job->pair, job->source, &job->stop, tell_copiers,
                 job->copiers) < 0)
    return;
  mutex_lock (&job->m->lock);
  job->scanned = true;
  mutex_unlock (&job->m->lock);
  reasons_lower (&job->pair.reasons, 1);        /* the unfinished scan */
}

/* The process ends, and the job will soon be told to; false. */
static bool
wait_for_end (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

  while (!job->cancel)
    cond_wait (&job->wake, &job->m->lock);
  return false;
}

/* One round; returns false when the job is to end. */
static bool
job_round (struct job *job)
{
  struct round r = look (job);
  bool settled = true;

  if (r.end)
    return false;
  pair_note_rates (&job->pair);
  if (r.fail) {
    job_fail (job);
    return false;
  }
  if (r.stop)
    job_stop (job);
  if (r.lost)
    job_session_end (job);
  else if (r.fresh)
    job_session_begin (job);
  else if (r.publish)
    job_publish (job);
  if (r.closing) {
    job_close (job);
    return wait_for_end (job);
  }
  if (r.scan)
    scan (job);
  if (r.holding)
    expire_hold (job);
  else if (r.wanted != HALT_NONE) {
    if (!switch_try (job, r.wanted))
      return false;
    settled = false;
  }
  else {
    if (!r.paused || r.ready)
      settled = settle (job, r.write_blocking, r.ready);
    job_tidy (job);
  }
  rest (job, settled, r.wanted);
  return true;
}

static void
job_start (struct job *job)
{
  struct mirror *m = job->m;

  mutex_lock (&m->lock);
  while (!job->go)
    cond_wait (&job->wake, &m->lock);
  mutex_unlock (&m->lock);

  gate_wait_others (m->gate, job);
  if (job->sync == SYNC_FULL)   /* else that has been done */
    job_take_over_source (job);
  mutex_lock (&m->lock);
  job->alone = true;
  job_run_copiers_locked (job);
  mutex_unlock (&m->lock);
  job_publish (job);
}

/* Nothing of the job is used any more when this returns.  All that is in
 * flight ends, at the latest when the target is shut down.
 */
static void
wind_up (struct job *job)
{
  struct mirror *m = job->m;
  struct target *target = job->pair.target;     /* NULL after a pivot */

  if (!job->completed)
    job_abort (job);            /* who has told it to end may be slower */
  mutex_lock (&m->regime_lock);
  assert (job->ended);
  mutex_unlock (&m->regime_lock);
  atomic_store (&job->stop, true);
  job_session_stop (job);
  copiers_run (job->copiers, false);
  gate_wait_job (m->gate, job);
  verifier_end (job->verifier);         /* it wakes copiers */
  switch_free (job);                    /* ... and so does a flush that fails */
  copiers_free (job->copiers);

  mutex_lock (&m->lock);
  job->copiers = NULL;
  m->left_late = suspects_until (job->pair.suspects) != 0;
  job->drained = true;
  cond_signal (&job->drained_cond);
  mutex_unlock (&m->lock);
  if (job->have_grace)
    thread_join (&job->grace);

  mutex_lock (&m->lock);
  job->pair.target = NULL;      /* status looks at it */
  mutex_unlock (&m->lock);
  if (target)
    target->ops->free (target);
  mutex_lock (&m->lock);
  while (job->old_source && job->pins > 0)      /* mirror_flush_disk */
    cond_wait (&job->unpinned, &m->lock);
  mutex_unlock (&m->lock);
  pivoted_free (job->old_source);
}

/* Who waits for a barrier, or has one, is told that it will not be. */
static void
end_hold (struct job *job)
{
  struct mirror *m = job->m;
  uint64_t since;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    since = m->hold.since_ns;
    m->hold.since_ns = 0;
    if (m->hold.asked && m->hold.result == 1) {
      m->hold.result = -ECANCELED;
      m->hold.why = "the job has ended";
      cond_broadcast (&m->hold_changed);
    }
  }
  if (since != 0)
    job_tell_released (m, "job ended", job_now_ns (job) - since);
}

static void
conclude (struct job *job)
{
  struct mirror *m = job->m;
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = job->old_target_state };

  job->ended_at = (int64_t) time (NULL);
  job_event (job, &ev);
  job_progress_event (job, job->completed || job->fail_err != 0
                      ? EVENT_JOB_COMPLETED : EVENT_JOB_CANCELLED);
  job_set_status (job, JOB_CONCLUDED);

  /* Who is told that it is gone finds out from this how it ended. */
  mutex_lock (&m->lock);
  while (job->keep && !job->dismissed && !m->closing)
    cond_wait (&job->wake, &m->lock);
  job_remember_locked (job);
  mutex_unlock (&m->lock);
  job_set_status (job, JOB_NULL);

  mutex_lock (&m->lock);
  m->job = NULL;
  while (job->pins > 0)
    cond_wait (&job->unpinned, &m->lock);
  cond_broadcast (&m->idle);
  mutex_unlock (&m->lock);
}

void
job_main (void *vp)
{
  struct job *job = vp;

  job_start (job);
  while (job_round (job))
    ;

  mutex_lock (&job->m->lock);
  job->paused = false;
  mutex_unlock (&job->m->lock);
  job_show_pause (job);
  if (job->completed) {
    job_set_status (job, JOB_WAITING);
    job_set_status (job, JOB_PENDING);
  }
  else
    job_set_status (job, JOB_ABORTING);
  end_hold (job);
  wind_up (job);
  conclude (job);
  job_free (job);
}
