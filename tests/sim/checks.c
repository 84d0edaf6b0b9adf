/* SPDX-License-Identifier: BSD-3-Clause */
/* What must hold after every step of a run (rules of docs/correctness.md).
 *
 *   I1     from the end of the scan on, while requests are tracked, a byte
 *          that differs between the legs lies in D or is in flight; a byte
 *          that differs from what the target keeps in a power cut lies in D,
 *          in flight or in U.  After a power cut the first is the second,
 *          until U has become dirty.
 *          In flight: a client's call from its entry to its return, and every
 *          range lock that is held.
 *   I4     background mode waits for no target
 *   I7     the client's result is the source's (checks-calls.c, fake-source.c)
 *   hold   a job that starts holds nobody for longer than it was told
 *   I8     synced: the legs are equal where nothing is in flight, and what a
 *          good client flush or FUA has covered is stable on the target,
 *          unless that is deferred; no tracked request is in flight; ready is
 *          sticky
 *   I9     once the end of a session has been handled, U holds nothing back;
 *          what a lost session may still do is suspect
 *   I5, I10, I11   in fake-target.c
 *   I12    in checks-switch.c
 *   fence  no client's byte lands (in the fakes)
 *   status         len - offset is what is dirty or claimed, offset and the
 *                  counters do not fall, states change as they may
 *
 * The observer gives up when somebody holds a lock that it needs; `blind`
 * counts how often.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errtext.h"
#include "dirty.h"
#include "errtext.h"
#include "rangelock.h"
#include "sched.h"
#include "sim.h"

#define MAX_HELD 64

struct held {
  struct range r[MAX_HELD];
  unsigned n;
};

static void
note_held (void *opaque, struct range r, bool held)
{
  struct held *h = opaque;

  if (held && h->n < MAX_HELD)
    h->r[h->n++] = r;
}

static bool
in_flight (const struct sim *sim, const struct held *h, uint64_t b)
{
  unsigned i;

  for (i = 0; i < h->n; i++)
    if (h->r[i].start <= b && b < h->r[i].end)
      return true;
  return world_client_touches (&sim->w, b);
}

/* A client holds its range, as only tees do, but has not asked the target. */
static void
note_left (struct sim *sim, const struct mirror_status *st)
{
  const struct client_op *op = sim->w.ops, *end = op + sim->w.nr_clients;
  struct held held = { .n = 0 };
  unsigned i;

  for (; op < end; op++) {
    if (!op->active || !op->tracked || op->kind != OP_WRITE || !st->teeing)
      continue;
    if (held.n == 0)
      rangelocks_foreach (mirror_peek_locks (sim->m), note_held, &held);
    for (i = 0; i < held.n; i++)
      if (held.r[i].start == op->range.start &&
          held.r[i].end == op->range.end)
        sim->w.seen[SEEN_LEFT]++;
  }
}

/*-- I1 -----------------------------------------------------------------*/

/* Most bytes are the same on the source, the target, and in what of that is
 * stable.  These are passed over by so many: looking is most of what a run
 * takes.
 */
#define CHUNK 64u

static bool
is_same (const struct world *w, struct range r)
{
  const size_t n = range_len (r);

  return memcmp (&w->S[r.start], &w->T[r.start], n) == 0 &&
    memcmp (&w->S[r.start], &w->stable[r.start], n) == 0;
}

static void
check_granule (struct sim *sim, struct range g, bool unflushed,
               const struct held *held)
{
  struct world *w = &sim->w;
  uint64_t b;

  for (b = g.start; b < g.end; b++) {
    if ((w->S[b] == w->T[b] && w->S[b] == w->stable[b]) || w->rotten[b] ||
        in_flight (sim, held, b))
      continue;
    if (w->S[b] != w->T[b] && !(w->power_was_cut && unflushed))
      sched_fail ("I1", "byte %llu differs (source %02x, target %02x), "
                  "is not dirty and not in flight", (unsigned long long) b,
                  w->S[b], w->T[b]);
    if (w->S[b] != w->stable[b] && !unflushed)
      sched_fail ("I1", "byte %llu differs from the stable target (source "
                  "%02x, target %02x, stable %02x), is not dirty, in flight "
                  "or unflushed", (unsigned long long) b, w->S[b], w->T[b],
                  w->stable[b]);
  }
}

static void
check_difference (struct sim *sim, struct dirty *dirty)
{
  const struct world *w = &sim->w;
  struct held held = { .n = 0 };
  struct range g;
  uint64_t n;
  bool have_held = false, unflushed, same;

  for (g.start = 0; g.start < sim->size; g.start = g.end) {
    g.end = g.start + sim->granularity;
    if (g.end > sim->size)
      g.end = sim->size;
    n = range_len (g);
    same = memcmp (&w->S[g.start], &w->T[g.start], n) == 0;
    if (same && memcmp (&w->S[g.start], &w->stable[g.start], n) == 0)
      continue;
    if (dirty_any (dirty, g) || mirror_peek_suspect (sim->m, g))
      continue;
    unflushed = !sim->session_over &&
      (dirty_any (mirror_peek_unflushed (sim->m, 0), g) ||
       dirty_any (mirror_peek_unflushed (sim->m, 1), g));
    if (unflushed && (same || w->power_was_cut))
      continue;
    if (!have_held)
      rangelocks_foreach (mirror_peek_locks (sim->m), note_held, &held);
    have_held = true;
    check_granule (sim, g, unflushed, &held);
  }
}

/*-- I8 -----------------------------------------------------------------*/

/* Has a client made what is there durable, so that the target must, too? */
static bool
was_flushed (const struct sim *sim, uint64_t b)
{
  return !sim->w.defer_flush &&
    (sim->last_touch[b] < sim->flushed_call ||
     sim->last_touch[b] < sim->fua_call[b]);
}

/* What a lost session may still do. */
static void
check_ghosts (struct sim *sim, const struct held *held)
{
  struct world *w = &sim->w;
  uint64_t b;
  unsigned i;

  ghosts_pending (w);           /* forgets the old ones */
  for (i = 0; i < w->nr_ghosts; i++)
    for (b = w->ghosts[i].range.start; b < w->ghosts[i].range.end; b++)
      if (b < sim->size && !in_flight (sim, held, b))
        sched_fail ("I9", "synced, but byte %llu may still change on the "
                    "target: a lost session has left it",
                    (unsigned long long) b);
}

static void
check_synced_bytes (const struct sim *sim, struct range r,
                    const struct held *held)
{
  const struct world *w = &sim->w;
  uint64_t b;

  for (b = r.start; b < r.end; b++) {
    if (w->S[b] == w->T[b] &&
        (w->S[b] == w->stable[b] || !was_flushed (sim, b)))
      continue;
    if (w->rotten[b] || in_flight (sim, held, b))
      continue;
    if (w->S[b] != w->T[b])
      sched_fail ("I8", "synced, but byte %llu differs (source %02x, target "
                  "%02x)", (unsigned long long) b, w->S[b], w->T[b]);
    sched_fail ("I8", "synced, but byte %llu, which a client has flushed, is "
                "not stable on the target (source %02x, stable %02x)",
                (unsigned long long) b, w->S[b], w->stable[b]);
  }
}

static void
check_synced (struct sim *sim, const struct mirror_status *st)
{
  const struct world *w = &sim->w;
  struct held held = { .n = 0 };
  struct range r;
  unsigned i;

  rangelocks_foreach (mirror_peek_locks (sim->m), note_held, &held);
  for (i = 0; i < w->nr_clients; i++)
    if (w->ops[i].active && w->ops[i].tracked)
      sched_fail ("I8", "synced, but a tracked request is in flight");
  if (st->dirty_bytes || st->inflight_bytes || st->scanning ||
      !st->target_online ||
      (st->copy_mode != COPY_WRITE_BLOCKING && !st->teeing))
    sched_fail ("I8", "synced with %llu bytes dirty, %llu in flight, "
                "scanning %d, online %d, mode %d, teeing %d",
                (unsigned long long) st->dirty_bytes,
                (unsigned long long) st->inflight_bytes, st->scanning,
                st->target_online, st->copy_mode, st->teeing);
  if (!st->target_flush)
    sched_fail ("I8", "synced to a target without flush");
  if (st->suspect_bytes || w->nr_ghosts > 0)
    check_ghosts (sim, &held);
  for (r.start = 0; r.start < sim->size; r.start = r.end) {
    r.end = sim->size - r.start < CHUNK ? sim->size : r.start + CHUNK;
    if (!is_same (w, r))
      check_synced_bytes (sim, r, &held);
  }
}

/*-- status -------------------------------------------------------------*/

bool
writes_in_flight (const struct sim *sim)
{
  unsigned i;

  for (i = 0; i < sim->w.nr_clients; i++)
    if (sim->w.ops[i].active && sim->w.ops[i].kind == OP_WRITE)
      return true;
  return false;
}

static void
note_situations (struct sim *sim, const struct mirror_status *st)
{
  uint64_t *seen = sim->w.seen;

  if (st->counters.skipped_bytes > 0 && !st->scanning)
    seen[SEEN_SKIPPED]++;
  if (st->dirty_bytes == 0 && st->inflight_bytes > 0 && !st->scanning)
    seen[SEEN_LAST_COPY]++;
  if (st->ready && !sim->was_ready && writes_in_flight (sim))
    seen[SEEN_READY_UNDER_LOAD]++;
  if (st->synced && !sim->was_synced) {
    seen[SEEN_SYNCED]++;
    if (sim->was_ready && sim->flushed_call > 0)
      seen[SEEN_SYNCED_AGAIN]++;
  }
}

static void
check_status (struct sim *sim, const struct mirror_status *st)
{
  if (!st->have_job) {
    sim->status_job = 0;
    return;
  }
  if (sim->status_job != sim->job) {
    sim->status_job = sim->job;
    sim->last_offset = sim->last_waits = 0;
    sim->was_ready = sim->was_synced = false;
  }
  note_situations (sim, st);
  if (st->io_status != IO_OK && st->dirty_bytes > 0) {
    sim->w.seen[SEEN_STOPPED] += !st->teeing;
    if (st->on_source_error == ON_ERROR_IGNORE &&
        st->on_target_error == ON_ERROR_IGNORE && !sim->w.faults_ended)
      sched_fail ("policy", "the job has stopped, but nobody said it should");
  }
  if (st->len - st->offset != st->dirty_bytes + st->inflight_bytes +
      st->suspect_bytes + st->unscanned_bytes)
    sched_fail ("status", "len %llu - offset %llu is not dirty %llu + in "
                "flight %llu + unscanned %llu", (unsigned long long) st->len,
                (unsigned long long) st->offset,
                (unsigned long long) st->dirty_bytes,
                (unsigned long long) st->inflight_bytes,
                (unsigned long long) st->unscanned_bytes);
  /* A granule that is dirty again while it is in flight counts twice. */
  if (st->unscanned_bytes > 0 && st->len - st->offset > sim->size)
    sched_fail ("status", "%llu bytes are left of a disk of %llu",
                (unsigned long long) (st->len - st->offset),
                (unsigned long long) sim->size);
  if (st->unscanned_bytes > (st->scanning ? sim->size : 0))
    sched_fail ("status", "%llu bytes unscanned, scanning %d",
                (unsigned long long) st->unscanned_bytes, st->scanning);
  if (st->offset < sim->last_offset)
    sched_fail ("status", "offset has fallen from %llu to %llu",
                (unsigned long long) sim->last_offset,
                (unsigned long long) st->offset);
  if (st->counters.target_waits < sim->last_waits)
    sched_fail ("status", "a counter has fallen");
  if (sim->was_ready && !st->ready)
    sched_fail ("I8", "ready is not sticky");
  if (st->ready && st->scanning)
    sched_fail ("I8", "ready before the scan has ended");
  if (sim->w.may_tee == TEE_NEVER && st->counters.target_waits > 0)
    sched_fail ("I4", "a client has waited for the target in background "
                "mode");
  note_left (sim, st);
  if (sim->w.may_tee == TEE_AFTER_SCAN && sim->w.teed && st->scanning)
    sched_fail ("I4", "mode auto tees before the first pass is done");
  sim->last_offset = st->offset;
  sim->last_waits = st->counters.target_waits;
  sim->was_ready = st->ready;
  sim->was_synced = st->synced;
}

/*-- sync none ----------------------------------------------------------*/

/* While mirror_start is at work: if nobody can go on without time or I/O, who
 * has not asked any leg yet is being held.
 */
static void
check_held (struct sim *sim)
{
  unsigned i;

  if (sim->max_pause_ns == 0 || !sched_stalled ())
    return;
  for (i = 0; i < sim->w.nr_clients; i++) {
    const struct client_op *op = &sim->w.ops[i];

    /* Calls of readers are not counted. */
    if (!op->active || op->calls > 0 || op->teed || op->kind == OP_READ)
      continue;
    sim->w.seen[SEEN_HELD]++;
    if (sim->held_since == 0)
      sim->held_since = sched_now ();
    if (sched_now () - sim->held_since > sim->max_pause_ns)
      sched_fail ("hold", "a client's call %llu-%llu is held for %llu ns, "
                  "at most %llu are allowed",
                  (unsigned long long) op->range.start,
                  (unsigned long long) op->range.end,
                  (unsigned long long) (sched_now () - sim->held_since),
                  (unsigned long long) sim->max_pause_ns);
  }
}

/*-- after every step ---------------------------------------------------*/

static void
look (void *vp)
{
  struct sim *sim = vp;
  struct mirror_status st;
  struct dirty *dirty = mirror_peek_dirty (sim->m);

  mirror_get_status (sim->m, &st);
  check_status (sim, &st);
  checks_retired (sim, &st);
  checks_barrier (sim, &st);
  /* A job that has been told to end tracks nothing any more. */
  if (!dirty || sim->cancelling || sim->cancels > 0 || sim->completed ||
      mirror_peek_failed (sim->m))
    return;
  if (sim->looks % 64 == 0) {
    dirty_check (dirty);
    dirty_check (mirror_peek_unflushed (sim->m, 0));
    dirty_check (mirror_peek_unflushed (sim->m, 1));
  }
  if (st.teeing && !st.held && mirror_peek_stopped (sim->m) && sched_stalled ())
    sched_fail ("policy", "the job has stopped, but still tees");
  /* Until the engine hears of it, nobody can have marked anything. */
  if (sim->source_lost_data || sim->w.rolled_back > 0 || sim->replaced)
    return;
  if (mirror_peek_scanned (sim->m))
    check_difference (sim, dirty);
  /* From the power cut until the engine hears of it, nothing can be known. */
  if (st.synced && !sim->w.power_was_cut)
    check_synced (sim, &st);
}

void
checks_step (void *vp)
{
  struct sim *sim = vp;

  checks_intent (sim);
  if (!sim->watched)
    return;
  sim->looks++;
  checks_cut (sim);
  if (!sim->completed && !sched_try (checks_switch, sim))
    sim->blind++;
  check_held (sim);
  if (!sched_try (look, sim))
    sim->blind++;
}

/*-- events -------------------------------------------------------------*/

/* Events that are not a job's. */
static void
check_idless (struct sim *sim, const struct mirror_event *ev)
{
  switch (ev->kind) {
  case EVENT_TARGET_STATE:
    if (sim->w.pivots == 0)
      sched_fail ("events", "the state of a disk that nobody has");
    if (strcmp (ev->target_state, "offline") == 0)
      sim->source_lost_data = false;
    sim->disk_hung |= ev->error &&
      strcmp (ev->error, error_text (ETIMEDOUT)) == 0;
    break;
  case EVENT_RELEASED:
  case EVENT_FENCED:
    break;
  default:
    sched_fail ("events", "event %d without an id", ev->kind);
  }
}

/* A target has come back; said: that it is another one.  If nobody has seen
 * that, all must be dirty, or the session be lost again.
 */
static void
check_replaced (struct sim *sim, bool said)
{
  const struct fake_target *ft = world_session (&sim->w, false);

  if (said && !sim->replaced)
    sched_fail ("I9", "the target is said to be another one");
  sim->w.seen[SEEN_REPLACED] += said;
  if (said || (ft && !ft->lost))
    sim->replaced = false;
}

void
checks_event (void *vp, const struct mirror_event *ev)
{
  struct sim *sim = vp;
  struct mirror_status st;
  char id[32];

  sched_trace ("event %llu, status %llu, errno %llu", ev->kind, ev->status,
               (uint64_t) ev->err, 0);
  if (!ev->id) {
    check_idless (sim, ev);
    return;
  }
  snprintf (id, sizeof id, "job%u", sim->job);
  if (strcmp (ev->id, id) != 0)
    sched_fail ("events", "an event of %s while %s is the job", ev->id, id);
  if (sim->event_job != sim->job) {
    sim->event_job = sim->job;
    sim->last_status = JOB_UNDEFINED;
    sim->ready_events = sim->cancelled_events = sim->error_events = 0;
  }
  checks_verify (sim, ev);
  switch (ev->kind) {
  case EVENT_JOB_STATUS_CHANGE:
    if (!job_may_move (sim->last_status, ev->status))
      sched_fail ("events", "the job moves from %s to %s",
                  job_status_name (sim->last_status),
                  job_status_name (ev->status));
    sim->last_status = ev->status;
    break;
  case EVENT_JOB_READY:
    if (++sim->ready_events > 1)
      sched_fail ("events", "two BLOCK_JOB_READY of one job");
    break;
  case EVENT_JOB_CANCELLED:
    if (!sim->cancelling && sim->cancels == 0)
      sched_fail ("events", "BLOCK_JOB_CANCELLED without a cancel");
    checks_recorded (sim, INTENT_CANCELLED);
    if (++sim->cancelled_events > 1)
      sched_fail ("events", "two BLOCK_JOB_CANCELLED of one job");
    break;
  case EVENT_TARGET_STATE:
    if (strcmp (ev->target_state, "offline") == 0 &&
        !world_session (&sim->w, false)) {
      sim->session_over = true;
      sim->hung = ev->error && strcmp (ev->error, error_text (ETIMEDOUT)) == 0;
    }
    if (strcmp (ev->target_state, "online") == 0)
      check_replaced (sim, ev->error != NULL);
    break;
  case EVENT_JOB_COMPLETED:
    if (ev->error) {
      if (sim->error_events == 0)
        sched_fail ("events", "a job fails, but has told no error");
      sim->cancelling = true;
      sim->w.seen[SEEN_FAILED]++;
      checks_recorded (sim, INTENT_FAILED);
      break;
    }
    if (!sim->completed)
      sched_fail ("events", "BLOCK_JOB_COMPLETED of a job that is not");
    checks_recorded (sim, sim->have_detached ? INTENT_DETACHED
                     : INTENT_PIVOTED);
    checks_detached (sim);
    break;
  case EVENT_PIVOTED:
    if (sim->w.pivots == 0 || !sim->pivot_asked)
      sched_fail ("events", "the clients have not been moved");
    break;
  case EVENT_SWITCH_FAILED:
    if (!sim->pivot_asked && !sim->detach_asked)
      sched_fail ("events", "%s has failed, but was not asked for",
                  ev->operation);
    sim->failed_switches++;
    sim->w.seen[SEEN_COMMIT_FAILED] += sim->intent.committing;
    sim->intent.committing = false;
    if (ev->pause_ns > 0)
      sim->w.seen[SEEN_PIVOT_FAILED]++;
    break;
  case EVENT_JOB_ERROR:
    sim->error_events++;
    break;
  case EVENT_VERIFY_COMPLETED:
  case EVENT_RELEASED:
  case EVENT_FENCED:
  case EVENT_SYNCED:
  case EVENT_BITMAP_LOST:
    break;
  }
  /* The one thing that an event function may call. */
  if (sched_percent (30))
    mirror_get_status (sim->m, &st);
}

/*-- at the end ---------------------------------------------------------*/

void
checks_equal (struct sim *sim, bool stable_too)
{
  const struct world *w = &sim->w;
  uint64_t b;

  for (b = 0; b < sim->size; b++) {
    if (w->S[b] != w->T[b])
      sched_fail ("I10", "all is copied, but byte %llu differs (source %02x, "
                  "target %02x)", (unsigned long long) b, w->S[b], w->T[b]);
    if (stable_too && w->S[b] != w->stable[b])
      sched_fail ("I8", "all is flushed, but byte %llu differs (source %02x, "
                  "stable %02x)", (unsigned long long) b, w->S[b],
                  w->stable[b]);
  }
}
