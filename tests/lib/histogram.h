/* SPDX-License-Identifier: BSD-3-Clause */
/* Percentiles of many values in little memory: eight buckets for each power
 * of two, so a percentile is at most 12 % too high.  Not thread-safe.
 */

#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

struct histogram {
  uint64_t buckets[64 * 8];
  uint64_t count, max;
};

static inline unsigned
histogram_bucket (uint64_t v)
{
  unsigned log;

  if (v < 8)
    return v;
  log = 63 - __builtin_clzll (v);
  return (log - 2) * 8 + (v >> (log - 3) & 7);
}

/* The largest value of that bucket. */
static inline uint64_t
histogram_limit (unsigned bucket)
{
  unsigned log = bucket / 8 + 2;

  if (bucket < 8)
    return bucket;
  return ((bucket % 8 + 9) << (log - 3)) - 1;
}

static inline void
histogram_add (struct histogram *h, uint64_t v)
{
  h->buckets[histogram_bucket (v)]++;
  h->count++;
  if (v > h->max)
    h->max = v;
}

/* At least percent of the values are not above the result. */
static inline uint64_t
histogram_percentile (const struct histogram *h, unsigned percent)
{
  uint64_t need = (h->count * percent + 99) / 100, sum = 0;
  unsigned i;

  for (i = 0; i < 64 * 8; ++i) {
    sum += h->buckets[i];
    if (sum >= need && sum > 0)
      return histogram_limit (i) < h->max ? histogram_limit (i) : h->max;
  }
  return 0;
}

#endif /* HISTOGRAM_H */
