/* SPDX-License-Identifier: BSD-3-Clause */
/* What is done once in a while, by the job's thread; see job.h.
 *
 * U grows with what is written as long as nobody flushes the target, and all of
 * it is sent again when the session is lost.  W, the intent file, never shrinks
 * by itself, and all of it is copied again when this process dies.  So every
 * few seconds both legs are flushed, if that is of any use: if there is a U, or
 * regions have been idle since the last time.  A region that is written to all
 * the time stays in W, so it costs nothing (rule I2, "lazily").
 */

#include <config.h>

#include "cleanup.h"
#include "job.h"

/* md waits as long before it clears bits (md(4), write-intent bitmap). */
#define TIDY_NS UINT64_C (5000000000)

static bool
next_differing (void *opaque, uint64_t from, struct range *run)
{
  const struct pair *p = opaque;

  return pair_next_differing (p, from, run);
}

/* Not during the scan: what it has not come to is in W, and must be. */
static bool
may_tidy (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

  return job->scanned && job->online && !job->lost &&
    !job->session.checking && job->pair.target->can_flush;
}

/* Both legs; 0 or -errno. */
static int
flush_legs (struct job *job)
{
  int r = job_flush_source (job);

  return r < 0 ? r : pair_flush (&job->pair, WAIT_FLUSH);
}

static void
retire (struct job *job)
{
  struct intent *intent = job->pair.intent;

  /* A source that cannot flush may lose anything at any time. */
  if (job->source->can_flush && intent_idle (intent) > 0 &&
      flush_legs (job) == 0)
    intent_retire (intent, next_differing, &job->pair);
}

/* A mark is always right, also of what cannot be recorded; but it has to be tried
 * again, until it is or there is no file.
 */
void
job_record_everything (struct mirror *m)
{
  if (m->intent && intent_everything (m->intent) < 0)
    atomic_store (&m->record_owed, true);
}

void
job_tidy (struct job *job)
{
  const uint64_t ns = job->m->config.tidy_ns;

  if (job_now_ns (job) < job->tidy_due_ns)
    return;
  job->tidy_due_ns = job_now_ns (job) + (ns > 0 ? ns : TIDY_NS);
  if (atomic_exchange (&job->m->record_owed, false))
    job_record_everything (job->m);
  if (!may_tidy (job))
    return;
  if (job->pair.intent) {
    retire (job);
    intent_watch (job->pair.intent);
  }
  if (flusher_pending (job->pair.flusher) && may_tidy (job))
    pair_flush (&job->pair, WAIT_FLUSH);
}

/* Nobody is inside the gate.  What has been idle for no longer than now may
 * retire, too.
 */
void
job_close (struct job *job)
{
  copiers_run (job->copiers, false);
  copiers_stop (job->copiers);
  if (job->pair.intent && may_tidy (job)) {
    intent_watch (job->pair.intent);
    retire (job);
  }
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  job->closed = true;
  cond_broadcast (&job->m->idle);
}
