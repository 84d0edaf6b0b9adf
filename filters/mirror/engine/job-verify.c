/* SPDX-License-Identifier: BSD-3-Clause */
/* Online verify, as a part of a job; see job.h and verify.h. */

#include <config.h>

#include <errno.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"

/* Nothing is compared before the scan has ended, since what has not been
 * scanned differs and is not dirty; nor while the job is paused.  While
 * everything is being brought to a halt it would only be in the way; when a
 * barrier stands it is not.
 */
static enum verify_leave
leave (void *opaque, const char **why)
{
  struct job *job = opaque;
  struct mirror *m = job->m;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  if (job->cancel || job->completed) {
    *why = job->cancel ? "the job was cancelled" : "the job has ended";
    return VERIFY_END;
  }
  if (job->lost || !job->online) {
    *why = "the target was lost";
    return VERIFY_END;
  }
  if (!job->scanned || job->paused || job->session.checking ||
      (job->wanted != HALT_NONE && m->hold.since_ns == 0))
    return VERIFY_WAIT;
  return VERIFY_GO;
}

static void
completed (void *opaque, const struct mirror_verify_status *st)
{
  struct mirror_event ev = {
    .kind = EVENT_VERIFY_COMPLETED, .verify = st,
    .error = st->error[0] ? st->error : NULL,
  };

  job_event (opaque, &ev);
}

int
job_make_verifier (struct job *job)
{
  const struct verify_env env = {
    .p = &job->pair, .source = job->source, .gate = job->m->gate,
    .leave = leave, .completed = completed, .opaque = job,
  };

  job->verifier = verifier_new (&env);
  return job->verifier ? 0 : -ENOMEM;
}

/* The job, pinned, or NULL and what speaks against it. */
static struct job *
find_job (struct mirror *m, uint64_t *unit, const char **why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  struct job *job = m->job;

  *why = "there is no job";
  if (!job || job->status == JOB_NULL)
    return NULL;
  *why = "the job is about to begin or to end";
  if (!job->go || !job_accepts (job->status, JOB_VERB_SET_SPEED) ||
      job->cancel || job->completed)
    return NULL;
  *why = "the target is offline";
  if (!job->online || job->lost)
    return NULL;
  *unit = job->buf_size;
  job->pins++;
  return job;
}

int
mirror_verify_start (struct mirror *m, bool repair, uint64_t speed,
                     const char **why)
{
  uint64_t unit;
  struct job *job = find_job (m, &unit, why);
  int r;

  if (!job)
    return -EPERM;
  r = verifier_start (job->verifier, repair, speed, unit);
  job_unpin (job);
  *why = r == -EALREADY ? "a verification is running already"
    : r == -ECANCELED ? "the job is about to begin or to end"
    : error_text (-r);
  return r;
}

int
mirror_verify_stop (struct mirror *m, const char **why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  *why = "no verification is running";
  return m->job && m->job->verifier ? verifier_stop (m->job->verifier)
    : -ENOENT;
}
