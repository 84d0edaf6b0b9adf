/* SPDX-License-Identifier: BSD-3-Clause */
/* Comparing; see compare.h.
 *
 * `todo` is what has not been compared: everything at first.  One piece of it:
 *
 *   1. Range lock of the longest free prefix, in order of arrival.  So no copy
 *      and no tee is under way there.
 *   2. What is dirty under the lock is left for the next round.
 *   3. Read and compare.  Where the source had a hole both sides are asked
 *      for their extents first: two holes are equal.
 *   4. Unlock.  What was equal leaves `todo`.
 *
 * A granule that is clean and differs need not be a difference: a request that
 * is only tracked takes no lock, and marks after its write to the source; and
 * one connection to the target may see late what another has written.  So it
 * is looked at again:
 *
 *   5. From here on pair_mark notes what it marks in `touched`, too.
 *   6. Range lock; a flush of the target, after which all that was
 *      acknowledged is seen, and no lost cache is an excuse; read and compare
 *      again.  What is dirty now counts as touched.
 *   7. Unlock.  Wait for every request that is inside the gate: one whose
 *      write to the source was seen in 6 has marked by then.  (Not before the
 *      unlock: tees that are inside wait for this lock.)
 *   8. What differs and has not been touched is a difference - if the job has
 *      gone on until now.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "errtext.h"

/* Pieces that are read, at most: as copier.c's. */
#define COMPARE_UNIT (UINT64_C (256) << 10)

/* Pieces of which only the extents are asked.  Clients that write there wait
 * for the answers.
 */
#define HOLE_UNIT (UINT64_C (1) << 30)

/* For requests that are inside the gate.  If they take longer what differs is
 * looked at again in the next round.
 */
#define GATE_NS UINT64_C (5000000000)

/*-- comparing, under the range lock ------------------------------------*/

/* r has been compared. */
static void
done (struct comparer *c, struct range r)
{
  uint64_t n = dirty_claim_inner (c->todo, r);

  if (n > 0)
    dirty_end_claim (c->todo, n);
  c->bytes += n;
}

/* At most a buffer. */
static int
read_both (struct comparer *c, struct range r)
{
  struct target *t = c->p->target;
  struct target_req req = {
    .op = TARGET_READ, .lane = LANE_COPY, .buf = c->target_buf,
    .count = (uint32_t) range_len (r), .offset = r.start,
  };
  struct waits *waits = c->p->waits;
  struct wait wait;
  int source, target;

  waits_begin (waits, &wait, WAIT_COPY, pair_now_ns (c->p));
  t->ops->submit (t, &req);
  waits_change (waits, &wait, WAIT_SOURCE, pair_now_ns (c->p));
  source = c->source->ops->pread (c->source, c->source_buf,
                                  (uint32_t) range_len (r), r.start);
  waits_change (waits, &wait, WAIT_COPY, pair_now_ns (c->p));
  target = t->ops->wait (t, &req);
  waits_end (waits, &wait);
  if (target != -ENOTCONN)
    waits_progress (waits, pair_now_ns (c->p));
  c->read += range_len (r);
  if (source == -ENOTCONN)      /* that stands for the target's session */
    source = -EIO;
  if (source < 0 || target < 0)
    snprintf (c->error, sizeof c->error, "reading the %s at %" PRIu64 ": %s",
              source < 0 ? "source" : "target", r.start,
              error_text (source < 0 ? -source : -target));
  return target == -ENOTCONN || source == 0 ? target : source;
}

/* The next buffer's worth of r. */
static struct range
next_chunk (struct comparer *c, struct range r)
{
  if (range_len (r) > c->unit)
    r.end = r.start + c->unit;
  return r;
}

/* Compare r up to the first granule that differs.  0 and *same, the end of
 * what is equal, or -errno.
 */
static int
compare (struct comparer *c, struct range r, uint64_t *same)
{
  const uint64_t gran = c->p->granularity;
  struct range chunk;
  uint64_t n, i;
  int err;

  for (*same = r.start; *same < r.end; *same = chunk.end) {
    chunk = next_chunk (c, (struct range) { *same, r.end });
    err = read_both (c, chunk);
    if (err < 0)
      return err;
    n = range_len (chunk);
    if (memcmp (c->source_buf, c->target_buf, n) == 0)
      continue;
    for (i = 0; c->source_buf[i] == c->target_buf[i]; ++i)
      ;
    *same = round_down_p2 (chunk.start + i, gran);
    return 0;
  }
  return 0;
}

/* Compare all of r: what differs is set in `differing`. */
static int
find_differing (struct comparer *c, struct range r)
{
  const uint64_t gran = c->p->granularity;
  struct range chunk, g;
  int err;

  for (; !range_empty (r); r.start = chunk.end) {
    chunk = next_chunk (c, r);
    err = read_both (c, chunk);
    if (err < 0)
      return err;
    for (g = chunk; g.start < chunk.end; g.start = g.end) {
      g.end = round_down_p2 (g.start, gran) + gran;
      if (g.end > chunk.end)
        g.end = chunk.end;
      if (memcmp (c->source_buf + (g.start - chunk.start),
                  c->target_buf + (g.start - chunk.start), range_len (g)) != 0)
        dirty_set (c->differing, g);
    }
  }
  return 0;
}

/* Both sides' extents. */
struct holes {
  struct comparer *c;
  uint64_t asked;               /* the source's answer comes up to here */
  uint64_t target_asked;
  struct range both;            /* reads as zero on both sides */
};

static int
target_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct holes *h = opaque;
  struct pair *p = h->c->p;

  if (r.start != h->target_asked)
    return 1;
  h->target_asked = r.end;
  /* Another connection may not see yet what was written there. */
  if (kind != EXTENT_ZERO ||
      (p->target->can_flush && flusher_any (p->flusher, r)))
    return 0;
  if (r.start != h->both.end) {
    done (h->c, h->both);
    h->both.start = r.start;
  }
  h->both.end = r.end;
  return 0;
}

static int
source_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct holes *h = opaque;
  struct range rest;

  if (r.start != h->asked)
    return 1;
  h->asked = r.end;
  if (kind != EXTENT_ZERO)
    return 0;
  for (rest = r; !range_empty (rest); rest.start = h->target_asked) {
    h->target_asked = rest.start;
    pair_ask_target (h->c->p, rest, target_extent, h);
    if (h->target_asked == rest.start)
      break;                    /* no answer: it is read */
  }
  return 0;
}

/* What is not done afterwards is to be read. */
static void
compare_extents (struct comparer *c, struct range r)
{
  struct source *source = c->source;
  struct holes h = { .c = c, .asked = r.start, .both = { r.start, r.start } };

  if (!source->can_extents || !c->p->target->can_extents)
    return;
  do {
    r.start = h.asked;
    source->ops->extents (source, r, source_extent, &h);
  } while (r.start < h.asked && h.asked < r.end);
  done (c, h.both);
}

/*-- looking again ------------------------------------------------------*/

static void
report (struct comparer *c, struct range g)
{
  if (c->differences < VERIFY_FIRST)
    c->first[c->differences] = g.start;
  c->differences++;
  if (c->repair)
    pair_mark_outside (c->p, g);
}

/* Under the lock.  1: nothing can be said now; -errno. */
static int
look_under_lock (struct comparer *c, struct range r)
{
  struct pair *p = c->p;
  struct range rest = r, run;
  int err;

  if (p->target->can_flush) {
    err = pair_flush (p, WAIT_FLUSH);
    if (err < 0)
      return err == -ENOTCONN ? err : 1;
  }
  err = find_differing (c, r);
  while (err == 0 && pair_next_differing (p, rest.start, &run) &&
         run.start < r.end) {
    dirty_set (c->touched, run);
    rest.start = run.end;
  }
  return err;
}

/* A granule of r differed. */
static int
look_again (struct comparer *c, struct range r)
{
  const uint64_t gran = c->p->granularity;
  struct pair *p = c->p;
  struct rangelock lk;
  struct range g;
  int err;

  dirty_clear_all (c->touched);
  dirty_clear_all (c->differing);
  atomic_store (&p->watch, c->touched);
  sync_point ();

  rangelock_lock (p->locks, &lk, r);
  err = look_under_lock (c, r);
  rangelock_unlock (p->locks, &lk);

  if (err == 0 && gate_flush (c->gate, p->clock,
                              p->clock->now_ns (p->clock) + GATE_NS) < 0)
    err = 1;
  atomic_store (&p->watch, NULL);
  /* Of a job that ends nobody marks any more. */
  if (err != 0 || !c->goes_on (c->opaque))
    return err < 0 ? err : 0;

  for (g = r; g.start < r.end; g.start = g.end) {
    g.end = r.end - g.start > gran ? g.start + gran : r.end;
    if (dirty_any (c->touched, g))
      continue;
    if (dirty_any (c->differing, g))
      report (c, g);
    done (c, g);
  }
  return 0;
}

/*-- the disk -----------------------------------------------------------*/

/* Cut r to what is clean at its beginning.  If nothing is, returns false, and
 * the cursor is behind what is dirty there.
 */
static bool
cut_clean (struct comparer *c, struct range *r)
{
  struct range run;

  if (!pair_next_differing (c->p, r->start, &run) || run.start >= r->end)
    return true;
  if (run.start > r->start) {
    r->end = run.start;
    return true;
  }
  c->cursor = run.end;
  return false;
}

/* Cut r to a piece; returns true if it may be a hole of the source. */
static bool
cut_piece (struct comparer *c, struct range *r)
{
  struct pair *p = c->p;
  enum extent_kind kind = EXTENT_DATA;
  struct range extent = *r;
  uint64_t max = c->unit > p->granularity ? c->unit : p->granularity;

  if (r->start >= c->read_until) {
    if (!hint_look (&c->hint, r->start, &extent, &kind)) {
      hint_ask (&c->hint, c->source, hint_window (r->start, p->size));
      hint_look (&c->hint, r->start, &extent, &kind);
    }
    if (extent.end < p->size)
      extent.end = round_down_p2 (extent.end, p->granularity);
    if (kind == EXTENT_ZERO && extent.end > r->start) {
      if (r->end > extent.end)
        r->end = extent.end;
      return true;
    }
  }
  if (r->end - r->start > max)
    r->end = r->start + max;
  return false;
}

int
compare_piece (struct comparer *c)
{
  struct pair *p = c->p;
  struct rangelock lk;
  struct range r;
  uint64_t same = 0;            /* up to here the two are equal */
  bool hole;
  int err = 0;

  c->error[0] = '\0';
  do {
    if (!dirty_next (c->todo, c->cursor, HOLE_UNIT, &r))
      return 1;
  } while (!cut_clean (c, &r));
  hole = cut_piece (c, &r);

  rangelock_lock_prefix (p->locks, &lk, r, p->granularity);
  r = lk.range;
  if (!cut_clean (c, &r))
    r.end = r.start;
  else if (hole) {
    compare_extents (c, r);
    c->read_until = r.end;
    c->cursor = r.start;
    r.end = r.start;
  }
  else {
    err = compare (c, r, &same);
    c->cursor = r.end;
  }
  rangelock_unlock (p->locks, &lk);

  if (range_empty (r) || err < 0)
    return err;
  done (c, (struct range) { r.start, same });
  return same < r.end ? look_again (c, (struct range) { same, r.end }) : 0;
}

uint64_t
compare_rewind (struct comparer *c)
{
  uint64_t left, claimed;

  c->cursor = c->read_until = 0;
  c->hint.start = c->hint.end = 0;
  dirty_bytes (c->todo, &left, &claimed);
  return left;
}

int
comparer_init (struct comparer *c)
{
  const uint64_t size = c->p->size, gran = c->p->granularity;

  if (c->unit > COMPARE_UNIT)
    c->unit = COMPARE_UNIT;
  if (c->unit > gran)
    c->unit = round_down_p2 (c->unit, gran);
  c->source_buf = malloc (c->unit);
  c->target_buf = malloc (c->unit);
  c->todo = dirty_new (size, gran, NULL);
  c->differing = dirty_new (size, gran, NULL);
  if (!c->source_buf || !c->target_buf || !c->todo || !c->differing)
    return -ENOMEM;
  dirty_set_all (c->todo);
  return 0;
}

void
comparer_clear (struct comparer *c)
{
  free (c->source_buf);
  free (c->target_buf);
  dirty_free (c->todo);
  dirty_free (c->differing);
}
