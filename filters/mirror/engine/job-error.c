/* SPDX-License-Identifier: BSD-3-Clause */
/* What an error of a leg means to the job: the policies; see mirror.h.
 *
 * An error is seen by whoever had it, a client's request or a copier, and must
 * not hold him up.  He notes what is to follow; the job's thread does it.
 *
 * A job that has *stopped* is paused, and moreover does not tee and does not
 * connect: it waits for somebody to look after the disk.  Resuming it ends
 * that.
 */

#include <config.h>

#include <errno.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"

enum on_error
job_error_action (const struct job *job, enum pair_side side, int err)
{
  const enum on_error policy = atomic_load (&job->on_error[side]);

  if (policy != ON_ERROR_ENOSPC)
    return policy;
  return err == -ENOSPC ? ON_ERROR_STOP : ON_ERROR_REPORT;
}

bool
job_act_locked (struct job *job, enum on_error action, int err)
{
  if (job->cancel)
    return false;
  if (action == ON_ERROR_REPORT && job->fail_err == 0)
    job->fail_err = err;
  else if (action == ON_ERROR_STOP && !job->stopped) {
    job->stop_wanted = true;
    job->io_status = err == -ENOSPC ? IO_NOSPACE : IO_FAILED;
  }
  else
    return false;
  cond_signal (&job->wake);
  cond_signal (&job->session.wake);
  return true;
}

/* Under any other policy it is simply connected to. */
void
job_begin_without_target (struct job *job, int err, const char *why)
{
  const enum on_error action = job_error_action (job, SIDE_TARGET, err);

  if (action != ON_ERROR_STOP)
    return;
  job_set_error_locked (job, SIDE_TARGET, "connect", (struct range) { 0, 0 },
                        err);
  job_set_reason_locked (job, why ? why : error_text (-err));
  job_act_locked (job, action, err);
}

/* If the file can be neither written nor removed it says less than it must as
 * soon as somebody writes to what is not recorded.  So he must not.
 */
int
job_record_end (struct job *job, enum intent_state state)
{
  struct mirror *m = job->m;
  int r;

  if (!m->intent)
    return 0;
  r = intent_finish (m->intent, state);
  if (r < 0) {
    atomic_store (&m->record_ns, atomic_load (&job->timeout_ns));
    atomic_fetch_or (&m->refuse, REFUSE_RECORD);
  }
  return r;
}

void
job_abort (struct job *job)
{
  struct mirror *m = job->m;
  enum intent_state state;
  bool record;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    record = !job->interrupted && !job->completed;
    state = job->fail_err != 0 ? INTENT_FAILED : INTENT_CANCELLED;
  }
  if (record)
    job_record_end (job, state);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  if (job->ended)
    return;
  job_unpublish_locked (job);
  copiers_run (job->copiers, false);
  job_shutdown_locked (job);
}

void
job_fail (struct job *job)
{
  struct mirror *m = job->m;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (job->cancel)            /* somebody was faster */
      job->fail_err = 0;
    job->cancel = true;
    atomic_store (&job->stop, true);
  }
  job_abort (job);
}

void
job_stop (struct job *job)
{
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    if (!job->stop_wanted)      /* any more: mirror_set_on_error */
      return;
    job->stop_wanted = false;
    job->stopped = job->paused = true;
    job_run_copiers_locked (job);
  }
  job_publish (job);
  job_show_pause (job);
}
