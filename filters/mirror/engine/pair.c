/* SPDX-License-Identifier: BSD-3-Clause */
/* See pair.h. */

#include <config.h>

#include "pair.h"

void
pair_mark (struct pair *p, struct range r)
{
  dirty_set (p->dirty, r);
  p->work (p->opaque);
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
pair_end_claim (struct pair *p, uint64_t bytes, bool ok)
{
  if (ok)
    atomic_fetch_add (&p->counters.progress_bytes, bytes);
  dirty_end_claim (p->dirty, bytes);
}

int
pair_flush (struct pair *p)
{
  struct flush_wait w;
  int r;

  flusher_begin (p->flusher, &w);
  r = flusher_wait (p->flusher, &w);
  if (r < 0) {
    p->work (p->opaque);
    p->failed (p->opaque, SIDE_TARGET, false, "flush",
               (struct range) { 0, 0 }, r);
  }
  return r;
}
