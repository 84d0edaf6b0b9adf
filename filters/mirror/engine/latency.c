/* SPDX-License-Identifier: BSD-3-Clause */
/* See latency.h. */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "latency.h"

struct histogram {
  _Atomic uint64_t counts[LATENCY_BUCKETS];
  _Atomic uint64_t sum_ns;
};

struct stripe {
  struct histogram kinds[LATENCY_KINDS];
} __attribute__ ((__aligned__ (64)));

struct latency {
  struct stripe stripes[GATE_STRIPES];
};

struct latency *
latency_new (void)
{
  struct latency *l = aligned_alloc (64, sizeof *l);

  if (l)
    memset (l, 0, sizeof *l);
  return l;
}

void
latency_free (struct latency *l)
{
  free (l);
}

static unsigned
bucket_of (uint64_t ns)
{
  const uint64_t us = ns / 1000 + (ns % 1000 != 0);
  const unsigned i = us <= 1 ? 0 : 64 - (unsigned) __builtin_clzll (us - 1);

  return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}

void
latency_record (struct latency *l, enum latency_kind kind, uint64_t ns)
{
  struct histogram *h = &l->stripes[gate_stripe ()].kinds[kind];

  /* Nothing else is published with these. */
  atomic_fetch_add_explicit (&h->counts[bucket_of (ns)], 1,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&h->sum_ns, ns, memory_order_relaxed);
}

void
latency_read (const struct latency *l, enum latency_kind kind,
              struct latency_counts *to)
{
  const struct histogram *h;
  unsigned i, j;

  memset (to, 0, sizeof *to);
  for (i = 0; i < GATE_STRIPES; ++i) {
    h = &l->stripes[i].kinds[kind];
    for (j = 0; j < LATENCY_BUCKETS; ++j)
      to->counts[j] += atomic_load_explicit (&h->counts[j],
                                             memory_order_relaxed);
    to->sum_ns += atomic_load_explicit (&h->sum_ns, memory_order_relaxed);
  }
}
