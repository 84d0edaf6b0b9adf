/* SPDX-License-Identifier: BSD-3-Clause */
/* Half-open byte ranges [start, end) and their rounding.
 *
 * This is the only place that rounds a range to granules or blocks.  A
 * granule is `granularity` bytes (a power of two); the last one ends with
 * the disk and counts as whole, so rounding inward needs the disk's size.
 *
 * Everything that marks rounds outward, everything that clears rounds
 * inward (rule I3).
 */

#ifndef MIRROR_RANGE_H
#define MIRROR_RANGE_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

struct range {
  uint64_t start, end;          /* bytes, start <= end */
};

static inline bool
is_power_of_2 (uint64_t v)
{
  return v != 0 && (v & (v - 1)) == 0;
}

static inline uint64_t
round_down_p2 (uint64_t v, uint64_t align)
{
  assert (is_power_of_2 (align));
  return v & ~(align - 1);
}

/* The result must fit: v is at most 2^63 everywhere in this project. */
static inline uint64_t
round_up_p2 (uint64_t v, uint64_t align)
{
  assert (v <= UINT64_C (1) << 63);
  return round_down_p2 (v + align - 1, align);
}

static inline uint64_t
range_len (struct range r)
{
  return r.end - r.start;
}

static inline bool
range_empty (struct range r)
{
  return r.start >= r.end;
}

static inline bool
range_overlap (struct range a, struct range b)
{
  return a.start < b.end && b.start < a.end;
}

/* Smallest range of whole granules that covers r, cut at size. */
static inline struct range
range_outer (struct range r, uint64_t granularity, uint64_t size)
{
  struct range o = { round_down_p2 (r.start, granularity),
                     round_up_p2 (r.end, granularity) };

  if (o.end > size)
    o.end = size;
  return o;
}

/* Largest range of whole granules inside r; empty ({x, x}) if there is none.
 * A granule that ends with the disk is whole when r reaches the end.
 */
static inline struct range
range_inner (struct range r, uint64_t granularity, uint64_t size)
{
  struct range i = { round_up_p2 (r.start, granularity),
                     r.end >= size ? size
                     : round_down_p2 (r.end, granularity) };

  if (i.start > i.end)
    i.end = i.start;
  return i;
}

#endif /* MIRROR_RANGE_H */
