/* SPDX-License-Identifier: BSD-3-Clause */
/* Making and freeing a job; see job.h. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "job.h"

/* A flush of the source has failed.  What is suspect may be in its cache by
 * now, and be lost as well.
 */
static void
on_source_lost (void *opaque, struct dirty *v)
{
  struct job *job = opaque;
  struct pair *p = &job->pair;
  const uint64_t now = pair_now_ns (p);
  struct range run = { 0, 0 };

  while (dirty_next (v, run.end, UINT64_MAX, &run))
    pair_mark_suspect (p, run);
  suspects_renew (p->suspects, now);
  for (run.end = 0; suspects_next (p->suspects, run.end, &run); )
    late_note (p->late, run, now);
}

/* What was suspect, and is dirty from now on: of a change that the source has
 * failed, or of a process that was killed, something may have landed only after
 * the last good flush.  V must have it before it is copied.
 *
 * The same on the target: what has come by a connection that is lost those of
 * this session need not show before a flush, nor tell as extents.  So U has it.
 */
static bool
on_settled (void *opaque, struct range r)
{
  struct job *job = opaque;
  struct flusher *f = job->pair.flusher;

  /* If the session has ended, the next one knows all that has come by then. */
  flusher_acked (f, r, false, flusher_stamp (f));
  return source_flusher_add (job->pair.source_flusher, r);
}

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

  p->intent = job->m->intent;
  p->timeout_ns = &job->timeout_ns;

  rates_init (&p->rates, p->clock->now_ns (p->clock));
  reasons_init (&p->reasons);
  reasons_set_mode (&p->reasons, false);        /* nothing is teed yet */
  if (params->sync == SYNC_FULL)
    reasons_raise (&p->reasons, 1);             /* the unfinished scan */

  if (!target)
    reasons_raise (&p->reasons, 1);             /* no session */

  p->late = &job->m->late;
  p->suspect_ns = params->suspect_time_ns;
  p->dirty = dirty_new (p->size, p->granularity, &p->reasons);
  p->locks = rangelocks_new ();
  p->waits = waits_new ();
  p->latency = latency_new ();
  if (!p->dirty || !p->locks || !p->waits || !p->latency)
    return -ENOMEM;
  p->source_flusher = source_flusher_new (p->size, p->granularity,
                                          on_source_lost, job);
  if (!p->source_flusher)
    return -ENOMEM;
  p->suspects = suspects_new (p->size, p->granularity,
                              p->suspect_ns, p->dirty, &p->reasons,
                              on_settled, job);
  if (!p->suspects)
    return -ENOMEM;
  if (params->sync == SYNC_FULL)
    dirty_set_unknown (p->dirty, p->size);
  p->flusher = flusher_new (target, p->size, p->granularity, p->dirty,
                            &p->reasons);
  return p->flusher ? 0 : -ENOMEM;
}

/* What the file says of a mirror that was running: D, and what of the source
 * may not be durable yet.  Unless it was closed in order some of it may still
 * change by itself (rule I9).
 */
static void
take_clean (void *opaque, struct range r)
{
  const struct job *job = opaque;

  source_flusher_acked (job->pair.source_flusher, r, 0);
  dirty_set (job->pair.dirty, r);
}

static void
take_unclean (void *opaque, struct range r)
{
  const struct job *job = opaque;

  source_flusher_acked (job->pair.source_flusher, r, 0);
  late_note (job->pair.late, r, job_now_ns (job));
  suspects_add (job->pair.suspects, r, job_now_ns (job));
}

static void
take_recorded (struct job *job, bool in_order)
{
  source_flusher_empty (job->pair.source_flusher);
  intent_each (job->pair.intent, in_order ? take_clean : take_unclean, job);
}

void
job_take_over_source (struct job *job)
{
  struct pair *p = &job->pair;
  const struct range late = late_get (p->late, pair_now_ns (p), p->suspect_ns);

  source_flusher_alone (p->source_flusher);
  if (!range_empty (late))
    pair_mark_suspect (p, late);
}

void
job_doubt_cache (struct job *job)
{
  struct pair *p = &job->pair;

  flusher_acked (p->flusher, (struct range) { 0, p->size }, false,
                 flusher_stamp (p->flusher));
}

static void
init_session (struct job *job, const struct job_params *params,
              const struct target *target)
{
  atomic_init (&job->session_over, target == NULL);
  job->online = job->session.had_one = target != NULL;
  job->session.wanted = target == NULL;
  if (target)
    job->session.facts = *target;
  else if (!job->session.fresh) {
    job->session.due_ns = job_now_ns (job) + job_double_delay (job, 0);
    job_begin_without_target (job, params->absent_err < 0 ? params->absent_err
                              : -ENOTCONN, params->absent_why);
  }
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
  cond_init (&job->unpinned);
  cond_init (&job->session.wake);
  assert (strlen (params->id) <= JOB_ID_MAX);
  strcpy (job->id, params->id);
  job->source = source;
  job->buf_size = params->buf_size;
  job->speed = params->speed;
  job->copy_mode = params->copy_mode;
  job->sync = params->sync;
  job->keep = params->keep;
  job->old_target_state = "none";
  atomic_init (&job->max_pause_ns, params->max_pause_ns);
  atomic_init (&job->timeout_ns, params->timeout_ns);
  atomic_init (&job->on_error[SIDE_SOURCE], params->on_source_error);
  atomic_init (&job->on_error[SIDE_TARGET], params->on_target_error);
  job->scanned = job->alone = params->sync != SYNC_FULL;
  job->resumed = params->sync == SYNC_INCREMENTAL;
  job->target_size = params->target_size;
  if (job->resumed) {           /* its content need not be what it was */
    job->session.fresh = target;
    target = NULL;
  }
  job->status = JOB_UNDEFINED;

  *err = 0;
  if (params->where) {
    job->where = strdup (params->where);
    if (!job->where)
      *err = -ENOMEM;
  }
  if (*err == 0)
    *err = fill_pair (job, params, target);
  if (*err == 0)
    init_session (job, params, target);
  if (*err == 0 && target && params->sync == SYNC_NONE)
    job_doubt_cache (job);
  if (*err == 0 && job->resumed)
    take_recorded (job, params->in_order);
  if (*err == 0)
    *err = job_make_verifier (job);
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
  free (job->where);
  copiers_free (job->copiers);
  verifier_free (job->verifier);
  flusher_free (job->pair.flusher);
  suspects_free (job->pair.suspects);
  source_flusher_free (job->pair.source_flusher);
  waits_free (job->pair.waits);
  rangelocks_free (job->pair.locks);
  dirty_free (job->pair.dirty);
  latency_free (job->pair.latency);
  if (job->pair.clock)          /* fill_pair has begun */
    rates_destroy (&job->pair.rates);
  cond_destroy (&job->session.wake);
  cond_destroy (&job->unpinned);
  cond_destroy (&job->drained_cond);
  cond_destroy (&job->wake);
  free (job);
}
