/* SPDX-License-Identifier: BSD-3-Clause */
/* See scan.h. */

#include <config.h>

#include <errno.h>

#include "scan.h"

/* What one request to a leg asks for at most: NBD's lengths have 32 bits, and
 * a cancel should not wait long.  Aligned, so that no extent is cut oddly.
 */
#define SCAN_WINDOW (UINT64_C (2) << 30)

struct scan {
  struct pair *p;
  const _Atomic bool *stop;
  uint64_t done;                /* both sides are known up to here */
  uint64_t stamp;               /* taken before the target was asked */
};

/* Both sides read as zero.  The target's may be in its cache only, written by
 * an earlier session: until a flush of this one it is in U (rule I1).  After a
 * failed flush its cache may hold what no flush will ever write again.
 */
static void
skip (struct scan *s, struct range r)
{
  if (s->stamp == 0 && flusher_acked (s->p->flusher, r, false, s->stamp) == 0)
    atomic_fetch_add (&s->p->counters.skipped_bytes, range_len (r));
  else
    pair_mark (s->p, r);
}

static int
target_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct scan *s = opaque;

  if (r.start != s->done)
    return 1;
  if (kind == EXTENT_ZERO)
    skip (s, r);
  else
    pair_mark (s->p, r);
  s->done = r.end;
  return atomic_load (s->stop);
}

/* r reads as zero on the source. */
static int
scan_target (struct scan *s, struct range r)
{
  struct target *t = s->p->target;
  uint64_t before;

  s->done = r.start;
  while (s->done < r.end) {
    struct range rest = { s->done, r.end };

    if (atomic_load (s->stop))
      return -ECANCELED;
    before = s->done;
    if (range_len (rest) > SCAN_WINDOW)
      rest.end = rest.start + SCAN_WINDOW;
    s->stamp = flusher_stamp (s->p->flusher);
    if (t->can_extents)
      pair_ask_target (s->p, rest, target_extent, s);
    if (s->done == before) {
      /* No answer, or nonsense: it may be anything. */
      pair_mark (s->p, rest);
      s->done = rest.end;
    }
  }
  return 0;
}

/* Everything before s->done has been marked or is equal. */
static void
scanned (struct scan *s)
{
  atomic_store (&s->p->counters.unscanned_bytes, s->p->size - s->done);
}

static int
source_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct scan *s = opaque;
  int err = 0;

  if (r.start != s->done)
    return 1;
  if (kind == EXTENT_ZERO && s->p->target_is_zero)
    skip (s, r);
  else if (kind == EXTENT_ZERO)
    err = scan_target (s, r);
  else
    pair_mark (s->p, r);
  s->done = r.end;
  scanned (s);
  return err < 0 || atomic_load (s->stop) ? -ECANCELED : 0;
}

int
scan_full (struct pair *p, struct source *source, const _Atomic bool *stop)
{
  struct scan s = { .p = p, .stop = stop };
  uint64_t before;

  while (s.done < p->size) {
    struct range rest = { s.done, p->size };

    if (atomic_load (stop))
      return -ECANCELED;
    before = s.done;
    s.stamp = flusher_stamp (p->flusher);
    if (range_len (rest) > SCAN_WINDOW)
      rest.end = round_down_p2 (rest.start, SCAN_WINDOW) + SCAN_WINDOW;
    if (source->can_extents)
      source->ops->extents (source, rest, source_extent, &s);
    if (atomic_load (stop))
      return -ECANCELED;
    if (s.done == before) {
      pair_mark (p, rest);
      s.done = rest.end;
      scanned (&s);
    }
  }
  return 0;
}
