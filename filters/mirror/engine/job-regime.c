/* SPDX-License-Identifier: BSD-3-Clause */
/* What requests do while there is a job: publishing regimes; see job.h. */

#include <config.h>

#include <assert.h>

#include "cleanup.h"
#include "job.h"

/* How long a cancelled job lets the target answer what is in flight.  To hang
 * up at once would be right, too, but unkind: nbdkit 1.32 aborts when a client
 * does that with several requests in flight.
 */
#define GRACE_NS UINT64_C (500000000)

bool
job_mode_tees_locked (const struct job *job)
{
  return job->copy_mode == COPY_WRITE_BLOCKING || job->wanted != HALT_NONE ||
    (job->copy_mode == COPY_AUTO && job->first_pass);
}

/* Who wants a pivot, a detach or a hold wants it of a job that is paused, too.
 * While a session is being ended or looked at, nobody may use it.
 */
void
job_run_copiers_locked (struct job *job)
{
  const bool halt = job->wanted != HALT_NONE;

  copiers_run (job->copiers, job->go && !job->cancel && !job->completed &&
               job->online && !job->lost && !job->session.checking &&
               !job->stopped &&
               (!job->paused || halt));
}

/* N says "not write-blocking" whenever requests do not tee: before the first
 * one tracks, until after the last was told to.
 *
 * Nothing is teed as long as requests from before the job are in flight: one
 * of them may zero on the source what has been teed, and the scan, where it
 * finds zeroes, trusts that the target is as it was before the job.
 */
void
job_publish_locked (struct job *job)
{
  struct mirror *m = job->m;
  struct source *source;
  bool tee;

  if (job->ended || job->held)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    tee = job_mode_tees_locked (job) && job->alone && job->online &&
      !job->lost && !job->session.checking && !job->stopped &&
      job->tee_due_ns == 0;
    source = m->pivoted ? pivoted_source (m->pivoted) : NULL;
  }
  if (job->published && tee == job->teeing) {
    if (tee)                    /* mirror_set_mode may have raised N */
      reasons_set_mode (&job->pair.reasons, true);
    return;
  }
  job->published = true;
  if (tee) {
    gate_publish (m->gate, REGIME_TEE, job, source);
    reasons_set_mode (&job->pair.reasons, true);
  }
  else {
    reasons_set_mode (&job->pair.reasons, false);
    gate_publish (m->gate, REGIME_TRACK, job, source);
  }
  job->teeing = tee;
}

void
job_unpublish_locked (struct job *job)
{
  struct mirror *m = job->m;
  struct source *source;

  if (job->ended)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
    source = m->pivoted ? pivoted_source (m->pivoted) : NULL;
  }
  reasons_set_mode (&job->pair.reasons, false);
  gate_publish (m->gate, REGIME_NONE, NULL, source);
  job->teeing = false;
  job->held = false;
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
  if (!job->pair.target)        /* no session */
    return;
  if (thread_start (&job->grace, "mirror-grace", grace_main, job) == 0)
    job->have_grace = true;
  else
    job->pair.target->ops->shutdown (job->pair.target);
}

void
job_publish (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->regime_lock);

  job_publish_locked (job);
}

void
job_release_locked (struct job *job)
{
  if (!job->held)
    return;
  job->held = false;
  copiers_hurry (job->copiers, false);
  job->published = false;       /* the gate has another regime now */
  job_publish_locked (job);
}
