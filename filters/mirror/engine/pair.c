/* SPDX-License-Identifier: BSD-3-Clause */
/* See pair.h. */

#include <config.h>

#include <errno.h>

#include "pair.h"

/* After it has been marked. */
static void
note_watch (struct pair *p, struct range r)
{
  struct dirty *watch;

  sync_point ();
  watch = atomic_load (&p->watch);
  if (watch)
    dirty_set (watch, r);
}

int
pair_begin (struct pair *p, struct range r)
{
  if (!p->intent)
    return 0;
  return intent_begin (p->intent, r,
                       pair_now_ns (p) + atomic_load (p->timeout_ns));
}

void
pair_end (struct pair *p, struct range r)
{
  if (p->intent)
    intent_end (p->intent, r);
}

/* If it cannot be recorded the file is as good as lost; a mark is always
 * right.
 */
void
pair_mark_outside (struct pair *p, struct range r)
{
  const bool active = pair_begin (p, r) == 0;

  pair_mark (p, r);
  if (active)
    pair_end (p, r);
}

uint64_t
pair_mark (struct pair *p, struct range r)
{
  const uint64_t n = dirty_set (p->dirty, r);

  note_watch (p, r);
  p->work (p->opaque);
  return n;
}

void
pair_learn (struct pair *p, struct range r, bool differs)
{
  dirty_learn (p->dirty, r, differs);
  if (!differs)
    return;
  note_watch (p, r);
  p->work (p->opaque);
}

struct rates_point
pair_point (struct pair *p)
{
  struct pair_counters *c = &p->counters;

  return (struct rates_point) {
    .when_ns = p->clock->now_ns (p->clock),
    .dirtied = atomic_load (&c->dirtied_bytes),
    .progress = atomic_load (&c->progress_bytes),
    .copied = atomic_load (&c->copied_bytes) + atomic_load (&c->zeroed_bytes),
  };
}

void
pair_note_rates (struct pair *p)
{
  struct rates_point now;

  if (!rates_due (&p->rates, p->clock->now_ns (p->clock)))
    return;
  now = pair_point (p);
  rates_note (&p->rates, &now);
}

void
pair_mark_suspect (struct pair *p, struct range r)
{
  suspects_add (p->suspects, r, pair_now_ns (p));
  note_watch (p, r);
  p->work (p->opaque);
}

bool
pair_may_differ (const struct pair *p, struct range r)
{
  /* What is suspect may just be becoming dirty. */
  return suspects_any (p->suspects, r) || dirty_any (p->dirty, r);
}

bool
pair_next_differing (const struct pair *p, uint64_t from, struct range *run)
{
  struct range suspect;
  const bool any = suspects_next (p->suspects, from, &suspect);
  const bool dirty = dirty_next (p->dirty, from, p->size, run);

  if (any && (!dirty || suspect.start < run->start))
    *run = suspect;
  return any || dirty;
}

void
pair_source_acked (struct pair *p, const struct source *source,
                   struct range r, unsigned flags, uint64_t stamp)
{
  if ((flags & LEG_FUA) || !source->can_flush)
    return;
  if (source_flusher_acked (p->source_flusher, r, stamp) < 0) {
    late_note (p->late, r, pair_now_ns (p));
    pair_mark_suspect (p, r);
  }
}

void
pair_source_failed (struct pair *p, const struct source *source,
                    struct range r)
{
  if (source->block > 1)
    r = range_outer (r, source->block, p->size);
  late_note (p->late, r, pair_now_ns (p));
  pair_mark_suspect (p, r);
}

int
pair_flush_source (struct pair *p, struct source *source)
{
  const int r = source_flusher_flush (p->source_flusher, source);

  if (r < 0)
    p->failed (p->opaque, SIDE_SOURCE, true, "flush",
               (struct range) { 0, p->size }, r);
  return r;
}

uint64_t
pair_now_ns (const struct pair *p)
{
  return p->clock->now_ns (p->clock);
}

struct range
pair_lock_range (const struct pair *p, struct range r)
{
  return range_outer (r, p->target->block, p->size);
}

struct target_req
pair_zero_req (const struct pair *p, enum target_lane lane, uint32_t count,
               uint64_t offset)
{
  return (struct target_req) {
    .op = TARGET_ZERO, .lane = lane,
    .flags = p->unmap ? LEG_MAY_TRIM : 0,
    .count = count, .offset = offset,
  };
}

void
pair_ask_target (struct pair *p, struct range r, extent_fn *fn, void *opaque)
{
  struct wait wait;

  waits_begin (p->waits, &wait, WAIT_COPY, pair_now_ns (p));
  if (p->target->ops->extents (p->target, r, fn, opaque) != -ENOTCONN)
    waits_progress (p->waits, pair_now_ns (p));
  waits_end (p->waits, &wait);
}

void
pair_end_claim (struct pair *p, uint64_t bytes, bool ok)
{
  if (ok) {
    atomic_fetch_add (&p->counters.progress_bytes, bytes);
    dirty_end_claim_well (p->dirty, bytes);
  }
  else
    dirty_end_claim (p->dirty, bytes);
}

int
pair_flush (struct pair *p, enum wait_kind kind)
{
  struct flush_wait w;
  struct wait wait;
  int r;

  waits_begin (p->waits, &wait, kind, pair_now_ns (p));
  flusher_begin (p->flusher, &w);
  r = flusher_wait (p->flusher, &w);
  waits_end (p->waits, &wait);
  if (r < 0) {
    p->work (p->opaque);
    p->failed (p->opaque, SIDE_TARGET, false, "flush",
               (struct range) { 0, 0 }, r);
  }
  return r;
}
