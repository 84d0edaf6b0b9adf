/* SPDX-License-Identifier: BSD-3-Clause */
/* See latency.h. */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "latency.h"

struct histogram {
  _Atomic uint64_t counts[LATENCY_FINE];
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

/* The bucket of 2^i us begins behind that; the first one at 0. */
static uint64_t
begin_ns (unsigned i)
{
  return i == 0 ? 0 : UINT64_C (1000) << (i - 1);
}

static uint64_t
width_ns (unsigned i)
{
  return UINT64_C (1000) << (i == 0 ? 0 : i - 1);
}

static unsigned
fine_bucket_of (uint64_t ns)
{
  const uint64_t us = ns / 1000 + (ns % 1000 != 0);
  const unsigned i = us <= 1 ? 0 : 64 - (unsigned) __builtin_clzll (us - 1);

  if (i >= LATENCY_BUCKETS)
    return LATENCY_FINE - 1;
  if (ns == 0)
    return 0;
  return i * LATENCY_PARTS +
    (unsigned) ((ns - 1 - begin_ns (i)) * LATENCY_PARTS / width_ns (i));
}

uint64_t
latency_fine_ns (unsigned i)
{
  const unsigned of = i / LATENCY_PARTS;

  return begin_ns (of) +
    width_ns (of) * (i % LATENCY_PARTS + 1) / LATENCY_PARTS;
}

void
latency_record (struct latency *l, enum latency_kind kind, uint64_t ns)
{
  struct histogram *h = &l->stripes[gate_stripe ()].kinds[kind];

  /* Nothing else is published with these. */
  atomic_fetch_add_explicit (&h->counts[fine_bucket_of (ns)], 1,
                             memory_order_relaxed);
  atomic_fetch_add_explicit (&h->sum_ns, ns, memory_order_relaxed);
}

void
latency_add_fine (const struct latency *l, enum latency_kind kind,
                  struct latency_fine *to)
{
  const struct histogram *h;
  unsigned i, j;

  for (i = 0; i < GATE_STRIPES; ++i) {
    h = &l->stripes[i].kinds[kind];
    for (j = 0; j < LATENCY_FINE; ++j)
      to->counts[j] += atomic_load_explicit (&h->counts[j],
                                             memory_order_relaxed);
  }
}

void
latency_read (const struct latency *l, enum latency_kind kind,
              struct latency_counts *to)
{
  struct latency_fine fine = { { 0 } };
  unsigned i;

  memset (to, 0, sizeof *to);
  latency_add_fine (l, kind, &fine);
  for (i = 0; i < LATENCY_FINE; ++i)
    to->counts[i / LATENCY_PARTS] += fine.counts[i];
  for (i = 0; i < GATE_STRIPES; ++i)
    to->sum_ns += atomic_load_explicit (&l->stripes[i].kinds[kind].sum_ns,
                                        memory_order_relaxed);
}
