/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of one job; see job.h.
 *
 * Start (rule I6): mirror_start publishes the regime, so that requests track
 * or tee.  Then, in the job's thread: wait until every request that did not
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
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"
#include "scan.h"

/* How often to look whether N has become 0, in case that nobody told.  The
 * copiers tell when they have cleared the last bit; what is left are short
 * excursions such as a refused fast zero.
 */
#define TICK_NS UINT64_C (100000000)
#define SLOW_TICK_NS UINT64_C (1000000000)

/* How long a cancelled job lets the target answer what is in flight.  To hang
 * up at once would be right, too, but unkind: nbdkit 1.32 aborts when a client
 * does that with several requests in flight.
 */
#define GRACE_NS UINT64_C (500000000)

/*-- regimes ------------------------------------------------------------*/

bool
job_mode_tees_locked (const struct job *job)
{
  return job->copy_mode == COPY_WRITE_BLOCKING ||
    (job->copy_mode == COPY_AUTO && job->first_pass);
}

/* N says "not write-blocking" whenever requests do not tee: before the first
 * one tracks, until after the last was told to.
 */
void
job_publish_locked (struct job *job)
{
  struct gate *gate = job->m->gate;
  bool tee;

  if (job->ended)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    tee = job_mode_tees_locked (job) && job->online &&
      !job->lost && job->tee_due_ns == 0;
  }
  if (job->published && tee == job->teeing) {
    if (tee)                    /* mirror_set_mode may have raised N */
      reasons_set_mode (&job->pair.reasons, true);
    return;
  }
  job->published = true;
  if (tee) {
    gate_publish (gate, REGIME_TEE, job);
    reasons_set_mode (&job->pair.reasons, true);
  }
  else {
    reasons_set_mode (&job->pair.reasons, false);
    gate_publish (gate, REGIME_TRACK, job);
  }
  job->teeing = tee;
}

void
job_unpublish_locked (struct job *job)
{
  if (job->ended)
    return;
  reasons_set_mode (&job->pair.reasons, false);
  gate_publish (job->m->gate, REGIME_NONE, NULL);
  job->teeing = false;
  job->ended = true;
}

static void
grace_main (void *vp)
{
  struct job *job = vp;
  struct target *target = job->pair.target;
  uint64_t deadline = job_now_ns (job) + GRACE_NS;

  mutex_lock (&job->m->lock);
  while (!job->drained &&
         job->pair.clock->wait_until (job->pair.clock, &job->drained_cond,
                                      &job->m->lock, deadline) == 0)
    ;
  mutex_unlock (&job->m->lock);
  target->ops->shutdown (target);
}

void
job_shutdown_locked (struct job *job)
{
  assert (job->ended && !job->have_grace);
  if (thread_start (&job->grace, "mirror-grace", grace_main, job) == 0)
    job->have_grace = true;
  else
    job->pair.target->ops->shutdown (job->pair.target);
}

static void
publish (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->regime_lock);

  job_publish_locked (job);
}

/*-- the thread ---------------------------------------------------------*/

static void
handle_loss (struct job *job)
{
  struct pair *p = &job->pair;
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = "offline" };
  int err;

  copiers_run (job->copiers, false);
  publish (job);                /* `lost` is set: track */
  p->target->ops->shutdown (p->target);
  flusher_session_end (p->flusher);

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    job->online = false;
    job->lost = false;
    err = job->lost_err;
  }
  ev.error = error_text (-err);
  job_event (job, &ev);
}

static void
become_ready (struct job *job)
{
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
    job->ready = true;
  }
  job_set_status (job, JOB_READY);
  job_progress_event (job, EVENT_JOB_READY);
}

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
    if (pair_flush (p) < 0) {
      job->settle_delay_ns = job_double_delay (job->settle_delay_ns);
      job->settle_due_ns = job_now_ns (job) + job->settle_delay_ns;
      return false;
    }
    job->settle_delay_ns = 0;
    proved = write_blocking ? flusher_synced (p->flusher)
      : flusher_settled (p->flusher);
  }
  if (proved && !ready)
    become_ready (job);
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

/* One round; returns false when the job is to end. */
static bool
job_round (struct job *job)
{
  struct mirror *m = job->m;
  bool lost, retee, write_blocking, ready, settled;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (job->cancel)
      return false;
    lost = job->lost;
    retee = job->tee_due_ns != 0 && job_now_ns (job) >= job->tee_due_ns;
    if (retee)
      job->tee_due_ns = 0;
    write_blocking = job->copy_mode != COPY_BACKGROUND;
    ready = job->ready;
    retee |= pass_ended_locked (job);
    retee |= job->tee_due_ns != 0;      /* or: stop teeing */
  }
  if (lost)
    handle_loss (job);
  else if (retee)
    publish (job);
  settled = settle (job, write_blocking, ready);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  if (!job->cancel && !job->lost)
    job->pair.clock->wait_until (job->pair.clock, &job->wake, &m->lock,
                                 job_now_ns (job) +
                                 (settled ? SLOW_TICK_NS : TICK_NS));
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
  copiers_run (job->copiers, true);
  if (job->sync == SYNC_NONE)
    return;
  if (scan_full (&job->pair, job->source, &job->stop) == 0) {
    mutex_lock (&m->lock);
    job->scanned = true;
    mutex_unlock (&m->lock);
    reasons_lower (&job->pair.reasons, 1);      /* the unfinished scan */
  }
}

/* Keep what there is to say of a job that has ended. */
static void
remember_locked (struct job *job)
{
  struct mirror_status *last = &job->m->last;
  uint64_t dirty, claimed;

  memset (last, 0, sizeof *last);
  last->last_job.set = true;
  memcpy (last->last_job.id, job->id, sizeof job->id);
  last->last_job.cancelled = true;
  job_progress (job, &last->last_job.len, &last->last_job.offset,
                &dirty, &claimed);
  last->last_job.when = (int64_t) time (NULL);
}

void
job_main (void *vp)
{
  struct job *job = vp;
  struct mirror *m = job->m;
  struct target *target = job->pair.target;
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE,
                             .target_state = "none" };

  job_start (job);
  while (job_round (job))
    ;

  job_set_status (job, JOB_ABORTING);

  /* mirror_cancel may still be busy with the job: wait until it is not.  All
   * that is in flight ends, at the latest when the target is shut down.
   */
  mutex_lock (&m->regime_lock);
  assert (job->ended);
  mutex_unlock (&m->regime_lock);
  copiers_run (job->copiers, false);
  gate_wait_job (m->gate, job);
  copiers_free (job->copiers);
  job->copiers = NULL;

  mutex_lock (&m->lock);
  job->drained = true;
  cond_signal (&job->drained_cond);
  mutex_unlock (&m->lock);
  if (job->have_grace)
    thread_join (&job->grace);
  mutex_lock (&m->lock);
  job->pair.target = NULL;      /* status looks at it */
  mutex_unlock (&m->lock);
  target->ops->free (target);

  job_event (job, &ev);
  job_progress_event (job, EVENT_JOB_CANCELLED);
  job_set_status (job, JOB_CONCLUDED);

  /* Who is told that it is gone finds out from this how it ended. */
  mutex_lock (&m->lock);
  remember_locked (job);
  mutex_unlock (&m->lock);
  job_set_status (job, JOB_NULL);

  mutex_lock (&m->lock);
  m->job = NULL;
  cond_broadcast (&m->idle);
  mutex_unlock (&m->lock);
  job_free (job);
}

/*-- making -------------------------------------------------------------*/

static int
fill_pair (struct job *job, const struct job_params *params,
           struct target *target)
{
  struct pair *p = &job->pair;

  p->size = job->m->config.size;
  p->granularity = params->granularity;
  p->clock = job->m->config.clock;
  p->target = target;
  p->work = job_on_work;
  p->failed = job_on_failed;
  p->opaque = job;
  p->unmap = params->unmap;
  p->detect_zeroes = params->detect_zeroes;
  p->target_is_zero = params->target_is_zero;
  p->defer_flush = params->defer_flush;
  atomic_init (&p->counters.unscanned_bytes,
               params->sync == SYNC_FULL ? p->size : 0);

  reasons_init (&p->reasons);
  reasons_set_mode (&p->reasons, false);        /* nothing is teed yet */
  if (params->sync == SYNC_FULL)
    reasons_raise (&p->reasons, 1);             /* the unfinished scan */

  p->dirty = dirty_new (p->size, p->granularity, &p->reasons);
  p->locks = rangelocks_new ();
  if (!p->dirty || !p->locks)
    return -ENOMEM;
  p->flusher = flusher_new (target, p->size, p->granularity, p->dirty,
                            &p->reasons);
  if (!p->flusher)
    return -ENOMEM;

  /* That the target is identical says nothing about its cache (rule I1). */
  if (params->sync == SYNC_NONE)
    flusher_acked (p->flusher, (struct range) { 0, p->size }, false,
                   flusher_stamp (p->flusher));
  return 0;
}

struct job *
job_new (struct mirror *m, const struct job_params *params,
         struct source *source, struct target *target, int *err)
{
  struct copier_params cp = {
    .speed = params->speed,
    .buf_size = params->buf_size,
    .threads = params->copiers,
  };
  struct job *job = calloc (1, sizeof *job);

  if (!job) {
    *err = -ENOMEM;
    return NULL;
  }
  job->m = m;
  cond_init (&job->wake);
  cond_init (&job->drained_cond);
  assert (strlen (params->id) <= JOB_ID_MAX);
  strcpy (job->id, params->id);
  job->source = source;
  job->buf_size = params->buf_size;
  job->speed = params->speed;
  job->copy_mode = params->copy_mode;
  job->sync = params->sync;
  job->scanned = params->sync == SYNC_NONE;
  job->status = JOB_UNDEFINED;
  job->online = true;

  *err = fill_pair (job, params, target);
  if (*err == 0)
    job->copiers = copiers_new (&job->pair, source, &cp, job_on_idle, job, err);
  if (*err < 0) {
    job_free (job);
    return NULL;
  }
  return job;
}

void
job_free (struct job *job)
{
  if (!job)
    return;
  copiers_free (job->copiers);
  flusher_free (job->pair.flusher);
  rangelocks_free (job->pair.locks);
  dirty_free (job->pair.dirty);
  cond_destroy (&job->drained_cond);
  cond_destroy (&job->wake);
  free (job);
}
