/* SPDX-License-Identifier: BSD-3-Clause */
/* How long things took: histograms with buckets of powers of two.
 *
 * Bucket i counts what took at most 2^i microseconds and more than the bucket
 * before it; the last one also counts all that took longer.
 *
 * Recording is what every client request does while there is a job: it takes
 * no lock, allocates nothing and writes to no cache line that a thread on
 * another processor writes to as well, unless there are more threads than
 * stripes (gate.h).  Counts never fall; a reader sees each of them at some
 * moment of the call.
 *
 * Thread-safe; no function blocks.
 */

#ifndef MIRROR_LATENCY_H
#define MIRROR_LATENCY_H

#include <stdint.h>

#define LATENCY_BUCKETS 28      /* 1 us ... 2^27 us, two minutes */

/* Each of them is kept as so many of the same width, for who compares. */
#define LATENCY_PARTS 8u
#define LATENCY_FINE (LATENCY_BUCKETS * LATENCY_PARTS)

enum latency_kind {
  LATENCY_READ,                 /* reads of clients */
  LATENCY_WRITE,                /* their writes, zeroes and trims */
  LATENCY_TEE,                  /* of these, those of a tee regime but trims */
  LATENCY_COPY,                 /* pieces copied in the background */
  LATENCY_KINDS
};

struct latency_counts {
  uint64_t counts[LATENCY_BUCKETS];
  uint64_t sum_ns;              /* of all that are counted */
};

struct latency_fine {
  uint64_t counts[LATENCY_FINE];
};

struct latency;

extern struct latency *latency_new (void);      /* NULL: out of memory */
extern void latency_free (struct latency *l);   /* accepts NULL */

extern void latency_record (struct latency *l, enum latency_kind kind,
                            uint64_t ns);
extern void latency_read (const struct latency *l, enum latency_kind kind,
                          struct latency_counts *to);

/* Add what has been counted to *to. */
extern void latency_add_fine (const struct latency *l, enum latency_kind kind,
                              struct latency_fine *to);

/* The most that fine bucket i counts, but for the last. */
extern uint64_t latency_fine_ns (unsigned i);

#endif /* MIRROR_LATENCY_H */
