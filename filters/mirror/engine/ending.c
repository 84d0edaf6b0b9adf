/* SPDX-License-Identifier: BSD-3-Clause */
/* How a job is ended from outside: by order, or because the process ends; see
 * mirror.h.
 *
 * The process ends (mirror_shutdown): no change is begun any more, so when
 * those that are under way have ended the file can be brought down to what is
 * really dirty: both legs are flushed and the rest retires, as ever, by the
 * job's thread.  Then the job is interrupted, and the file closed.  What does
 * not end in time is not waited for: the file then says more than it must.
 */

#include <config.h>

#include <errno.h>

#include "cleanup.h"
#include "job.h"

/* What the job's thread may take to end after it has been interrupted. */
#define WIND_UP_NS UINT64_C (1000000000)

/* The regime ends and the shutting down of the target begins here rather than
 * in the job's thread, which may be waiting for that very target.  A pivot
 * whose record is being written goes first; if that fails, the job's thread
 * does it.
 */
static int
end_job (struct mirror *m, const char *id, bool interrupt,
         enum job_status *status)
{
  struct job *job;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    r = job_check_verb_locked (m, id, JOB_VERB_CANCEL, status);
    if (r < 0)
      return r;
    job = m->job;
    if (job->completed)         /* too late: it is as good as done */
      return 0;
    if (!job->cancel) {         /* it was about to fail: too late for that */
      job->fail_err = 0;
      job->interrupted = interrupt;
    }
    job->cancel = true;
    atomic_store (&job->stop, true);
    cond_signal (&job->wake);
    if (job->committing)
      return 0;
    job->pins++;
  }
  job_abort (job);
  job_unpin (job);
  return 0;
}

int
mirror_cancel (struct mirror *m, const char *id, enum job_status *status)
{
  return end_job (m, id, false, status);
}

void
mirror_interrupt (struct mirror *m)
{
  enum job_status status;

  end_job (m, NULL, true, &status);
}

/* Have the job's thread do what job_close does.  false: it has not. */
static bool
close_job (struct mirror *m, uint64_t deadline_ns)
{
  struct clock *clock = m->config.clock;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  if (!m->job)
    return !m->starting;
  m->job->closing = true;
  cond_signal (&m->job->wake);
  while (m->job && !m->job->cancel && !m->job->completed && !m->job->closed)
    if (clock->wait_until (clock, &m->idle, &m->lock, deadline_ns) < 0)
      return !m->job || m->job->closed;
  return true;
}

int
mirror_flush_disk (struct mirror *m, struct source *source)
{
  struct job *job;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (m->pivoted)
      source = pivoted_source (m->pivoted);
    job = m->job;               /* it may end by a pivot, and free that */
    if (job)
      job->pins++;
  }
  r = source->can_flush ? source->ops->flush (source) : 0;
  if (r < 0)                    /* a failure is told once */
    atomic_store (&m->flush_owed, true);
  if (job)
    job_unpin (job);
  return r;
}

bool
mirror_shutdown (struct mirror *m, uint64_t ns)
{
  struct clock *clock = m->config.clock;
  const uint64_t deadline_ns = clock->now_ns (clock) + ns;
  bool in_order, drained = false;

  atomic_store (&m->ending, true);
  atomic_fetch_or (&m->refuse, REFUSE_SHUT);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
    if (m->pivoted)
      pivoted_give_up (m->pivoted);
    m->closing = true;          /* no job is kept */
    if (m->job)
      cond_signal (&m->job->wake);
  }
  if (m->intent)
    drained = gate_flush (m->gate, clock, deadline_ns) == 0;
  in_order = drained && close_job (m, deadline_ns);
  mirror_interrupt (m);         /* which frees those who wait for a target */
  drained = drained ||
    gate_flush (m->gate, clock, clock->now_ns (clock) + WIND_UP_NS) == 0;
  if (!m->intent)
    return drained;
  if (mirror_wait_idle (m, clock->now_ns (clock) + WIND_UP_NS) < 0)
    return drained;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
    in_order = in_order && !m->left_late;
  }
  intent_close (m->intent, in_order);
  return drained;
}
