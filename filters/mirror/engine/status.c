/* SPDX-License-Identifier: BSD-3-Clause */
/* A consistent picture of the mirror, and the simulator's peepholes; see
 * mirror.h.
 */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "job.h"

static void
get_counters (struct job *job, struct mirror_counters *to)
{
  struct pair_counters *c = &job->pair.counters;

  to->copied_bytes = atomic_load (&c->copied_bytes);
  to->zeroed_bytes = atomic_load (&c->zeroed_bytes);
  to->teed_bytes = atomic_load (&c->teed_bytes);
  to->tracked_bytes = atomic_load (&c->tracked_bytes);
  to->skipped_bytes = atomic_load (&c->skipped_bytes);
  to->target_waits = atomic_load (&c->target_waits);
  to->target_errors = atomic_load (&c->target_errors);
  to->source_errors = atomic_load (&c->source_errors);
  to->target_flushes = flusher_count (job->pair.flusher);
}

static void
get_facts (const struct target *t, struct mirror_status *st)
{
  st->connections = t->connections;
  st->target_size = t->size;
  st->target_block = t->block;
  st->target_preferred = t->preferred_block;
  st->target_max = t->max_block;
  st->target_flush = t->can_flush;
  st->target_fua = t->can_fua;
  st->target_trim = t->can_trim;
  st->target_zero = t->can_zero;
  st->target_fast_zero = t->can_fast_zero;
  st->target_extents = t->can_extents;
  st->target_multi_conn = t->can_multi_conn;
}

static void
get_disk_locked (struct pivoted *disk, struct mirror_status *st)
{
  struct target t;

  st->pivoted = true;
  st->pivoted_online = pivoted_online (disk, &t);
  if (st->pivoted_online)
    get_facts (&t, st);
  st->reconnects = st->disk_reconnects = pivoted_reconnects (disk);
}

static void
get_target_locked (struct job *job, struct mirror_status *st)
{
  st->target_online = job->online && !job->lost && !job->session.checking;
  st->target_connecting = !st->target_online &&
    (job->session.connecting ||
     (!job->session.had_one && !job->stopped && !job->stop_wanted));
  if (job->status > JOB_STANDBY && st->pivoted)
    return;                     /* it has none any more */
  st->reconnects = job->session.reconnects;
  if (job->status > JOB_STANDBY)
    return;
  memcpy (st->target_reason, job->session.reason, sizeof st->target_reason);
  get_facts (&job->session.facts, st);
}

static void
get_status_locked (struct mirror *m, struct mirror_status *st)
{
  struct job *job = m->job;
  struct progress pr;

  memset (st, 0, sizeof *st);
  st->last_job = m->last.job;
  st->last_error = m->last.error;
  st->counters = m->last.counters;
  st->held = m->hold.since_ns != 0;
  st->fenced = atomic_load (&m->refuse) & REFUSE_FENCED;
  st->have_intent = m->intent != NULL;
  if (m->intent)
    intent_get_status (m->intent, &st->intent);
  st->reconnects = m->last.reconnects;
  if (m->pivoted) {
    get_disk_locked (m->pivoted, st);
    memcpy (st->target_reason, m->disk_reason, sizeof st->target_reason);
  memcpy (st->disk_reason, m->disk_reason, sizeof st->disk_reason);
  }
  if (!job || job->status == JOB_UNDEFINED || job->status == JOB_NULL)
    return;

  pr = job_progress (job);
  st->have_job = true;
  memcpy (st->id, job->id, sizeof st->id);
  st->status = job->status;
  st->ready = job->ready;
  st->synced = flusher_synced (job->pair.flusher);
  st->scanning = !job->scanned;
  st->copy_mode = job->copy_mode;
  st->sync = job->sync;
  st->speed = job->speed;
  st->granularity = job->pair.granularity;
  st->buf_size = job->buf_size;
  st->auto_dismiss = !job->keep;
  st->on_source_error = atomic_load (&job->on_error[SIDE_SOURCE]);
  st->on_target_error = atomic_load (&job->on_error[SIDE_TARGET]);
  st->io_status = job->io_status;
  if (job->status == JOB_CONCLUDED && !job->completed)  /* QEMU's text */
    snprintf (st->error, sizeof st->error, "%s", job->fail_err != 0
              ? error_text (-job->fail_err) : "Operation canceled");
  st->len = pr.len;
  st->offset = pr.offset;
  st->dirty_bytes = pr.dirty;
  st->inflight_bytes = pr.claimed;
  st->suspect_bytes = pr.suspect;
  st->unscanned_bytes = pr.unscanned;
  st->busy = st->inflight_bytes > 0;
  st->teeing = atomic_load (&job->teeing);
  get_target_locked (job, st);
  get_counters (job, &st->counters);
  st->last_error = job->last_error;
  verifier_status (job->verifier, &st->verify);
}

/* Keep what there is to say of a job that has ended: nothing of it counts any
 * more.
 */
void
job_remember_locked (struct job *job)
{
  struct mirror *m = job->m;
  const struct progress pr = job_progress (job);
  struct mirror_last_job *last = &m->last.job;
  enum latency_kind kind;

  memset (&m->last, 0, sizeof m->last);
  get_counters (job, &m->last.counters);
  m->last.reconnects = job->session.reconnects;
  m->last.error = job->last_error;
  for (kind = 0; kind < LATENCY_KINDS; ++kind)
    latency_read (job->pair.latency, kind, &m->last.latency[kind]);
  last->set = true;
  memcpy (last->id, job->id, sizeof job->id);
  last->cancelled = !job->completed && job->fail_err == 0;
  if (job->fail_err != 0)
    snprintf (last->error, sizeof last->error, "%s",
              error_text (-job->fail_err));
  last->len = pr.len;
  last->offset = pr.offset;
  last->when = job->ended_at;   /* it may have been kept for long since */
}

void
mirror_get_status (struct mirror *m, struct mirror_status *st)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  get_status_locked (m, st);
}

/*-- the report ---------------------------------------------------------*/

/* The target is there until the job has let go of it. */
static void
judge_locked (struct job *job, struct mirror_report *r)
{
  const struct mirror_status *st = &r->st;
  struct rates_point now = pair_point (&job->pair);
  struct verdict_facts facts = {
    /* While it is offline, too. */
    .target = st->status <= JOB_STANDBY,
    .online = st->target_online,
    .synced = st->synced,
    .paused = st->status == JOB_PAUSED || st->status == JOB_STANDBY,
    .scanning = st->scanning,
    .ready = st->ready,
    .follows = st->copy_mode == COPY_BACKGROUND || !st->target_flush,
    /* A job that is ending frees its copiers. */
    .failing = (st->status == JOB_RUNNING || st->status == JOB_READY) &&
      copiers_failing (job->copiers),
    .left = st->len - st->offset,
  };

  rates_read (&job->pair.rates, &now, &facts.rates);
  rates_note (&job->pair.rates, &now);
  r->rates = facts.rates;
  r->verdict = verdict_of (&facts);
  r->eta = verdict_eta (&facts);
}

void
mirror_get_report (struct mirror *m, struct mirror_report *r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  enum latency_kind kind;

  memset (r, 0, sizeof *r);
  r->verdict = VERDICT_NONE;
  r->eta = -1;
  get_status_locked (m, &r->st);
  if (!r->st.have_job) {
    memcpy (r->latency, m->last.latency, sizeof r->latency);
    return;
  }
  judge_locked (m->job, r);
  for (kind = 0; kind < LATENCY_KINDS; ++kind)
    latency_read (m->job->pair.latency, kind, &r->latency[kind]);
}

bool
mirror_pivoted (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->pivoted != NULL;
}

/*-- for the simulator --------------------------------------------------*/

struct dirty *
mirror_peek_dirty (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job ? m->job->pair.dirty : NULL;
}

struct dirty *
mirror_peek_unflushed (struct mirror *m, int which)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job ? flusher_peek (m->job->pair.flusher, which) : NULL;
}

struct rangelocks *
mirror_peek_locks (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job ? m->job->pair.locks : NULL;
}

bool
mirror_peek_scanned (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job && m->job->scanned;
}

bool
mirror_peek_suspect (struct mirror *m, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job && suspects_any (m->job->pair.suspects, r);
}

const void *
mirror_peek_disk (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->pivoted;
}

bool
mirror_peek_failed (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job && m->job->cancel && m->job->fail_err != 0;
}

bool
mirror_peek_stopped (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job && m->job->stopped;
}

bool
mirror_peek_completed (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->job && m->job->completed;
}
