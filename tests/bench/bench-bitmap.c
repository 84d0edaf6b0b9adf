/* SPDX-License-Identifier: BSD-3-Clause */
/* Time and memory of the dirty bitmap over the size of the disk.
 *
 * Prints two tables; each time is the median of REPEATS runs, in nanoseconds
 * of one call, locking included.
 *
 *   fresh      dirty_set of a clean granule at random, from the first on
 *   again      dirty_set of a dirty granule at random
 *   hot        dirty_set of the granule that was set last
 *   order      dirty_next from the end of the run before, through the disk
 *   random     dirty_next from anywhere
 *   1000 runs  dirty_next in order, half of the disk dirty in 1000 runs
 *
 * All but the last with 1 % of the granules dirty, spread over the disk, but
 * no more than MAX_GRANULES of them so that it ends soon; memory is that of
 * the whole 1 %.
 */

#include <config.h>

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dirty.h"
#include "sync.h"

#define REPEATS 5
#define MAX_GRANULES UINT64_C (2000000)
#define MIN_CALLS UINT64_C (200000)     /* of one run: some milliseconds */

#define GiB_SHIFT 30
#define GRANULE_SHIFT 16

enum { FRESH, AGAIN, HOT, ORDER, RANDOM, RUNS, COLUMNS };
static const char *const columns[COLUMNS] = {
  "fresh", "again", "hot", "order", "random", "1000 runs",
};

static const struct {
  const char *name;
  unsigned shift;               /* bytes = 2^shift */
} disks[] = {
  { "1 GiB", GiB_SHIFT }, { "64 GiB", GiB_SHIFT + 6 },
  { "1 TiB", GiB_SHIFT + 10 }, { "16 TiB", GiB_SHIFT + 14 },
  { "64 TiB", GiB_SHIFT + 16 },
};
#define N_DISKS (sizeof disks / sizeof disks[0])

static uint64_t sink;           /* keeps results from being optimised away */

static uint64_t
now_ns (void)
{
  return clock_monotonic.now_ns (&clock_monotonic);
}

/* Number i, 0 ... 2^bits-1, of all granules in random order: each step can be
 * undone, so no two are the same.
 */
static uint64_t
shuffled (uint64_t i, unsigned bits)
{
  uint64_t mask = (UINT64_C (1) << bits) - 1;
  int round;

  for (round = 0; round < 3; round++) {
    i = (i * UINT64_C (0x9e3779b97f4a7c15) + 12345) & mask;
    i ^= i >> ((bits + 1) / 2);
  }
  return i;
}

static struct range
granules (uint64_t g, uint64_t n)
{
  return (struct range) { g << GRANULE_SHIFT, (g + n) << GRANULE_SHIFT };
}

static struct dirty *
new_bitmap (unsigned disk_shift)
{
  struct dirty *d = dirty_new (UINT64_C (1) << disk_shift,
                               UINT64_C (1) << GRANULE_SHIFT, NULL);

  if (d == NULL) {
    perror ("bench-bitmap");
    exit (EXIT_FAILURE);
  }
  return d;
}

static void
set_random (struct dirty *d, unsigned bits, uint64_t n)
{
  uint64_t i;

  for (i = 0; i < n; i++)
    dirty_set (d, granules (shuffled (i, bits), 1));
}

/* Go through all runs in order, again and again for that many calls. */
static double
time_order (struct dirty *d, uint64_t calls)
{
  struct range run = { 0, 0 };
  uint64_t i, start = now_ns ();

  for (i = 0; i < calls; i++)
    if (!dirty_next (d, run.end, UINT64_MAX, &run))
      run.end = 0;
  sink += run.end;
  return (double) (now_ns () - start) / (double) calls;
}

/* One run of everything on a disk. */
static void
measure (unsigned disk_shift, double ns[COLUMNS])
{
  unsigned bits = disk_shift - GRANULE_SHIFT;
  uint64_t total = UINT64_C (1) << bits, n = total / 100, calls, i, start;
  uint64_t last = 0;
  struct range run;
  struct dirty *d = NULL;

  if (n > MAX_GRANULES)
    n = MAX_GRANULES;

  start = now_ns ();
  for (calls = 0; calls < MIN_CALLS; calls += n) {
    dirty_free (d);
    d = new_bitmap (disk_shift);
    set_random (d, bits, n);
  }
  ns[FRESH] = (double) (now_ns () - start) / (double) calls;

  calls = n > MIN_CALLS ? n : MIN_CALLS;
  start = now_ns ();
  for (i = 0; i < calls; i++) {
    last = shuffled (i * 7919 % n, bits);
    dirty_set (d, granules (last, 1));
  }
  ns[AGAIN] = (double) (now_ns () - start) / (double) calls;

  start = now_ns ();
  for (i = 0; i < calls; i++)
    dirty_set (d, granules (last, 1));
  ns[HOT] = (double) (now_ns () - start) / (double) calls;

  ns[ORDER] = time_order (d, calls);

  start = now_ns ();
  for (i = 0; i < calls; i++)
    if (dirty_next (d, shuffled (i & (total - 1), bits) << GRANULE_SHIFT,
                    UINT64_MAX, &run))
      sink += run.end;
  ns[RANDOM] = (double) (now_ns () - start) / (double) calls;
  dirty_free (d);

  d = new_bitmap (disk_shift);
  for (i = 0; i < 1000; i++)
    dirty_set (d, granules (i * (total / 1000), total / 2000));
  ns[RUNS] = time_order (d, MIN_CALLS);
  dirty_free (d);
}

static int
compare (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;

  return (x > y) - (x < y);
}

static void
print_times (void)
{
  double ns[REPEATS][COLUMNS], one[REPEATS];
  size_t i, r, c;

  printf ("ns per call (median of %d)\n%-8s", REPEATS, "disk");
  for (c = 0; c < COLUMNS; c++)
    printf (" %9s", columns[c]);
  printf ("\n");
  for (i = 0; i < N_DISKS; i++) {
    for (r = 0; r < REPEATS; r++)
      measure (disks[i].shift, ns[r]);
    printf ("%-8s", disks[i].name);
    for (c = 0; c < COLUMNS; c++) {
      for (r = 0; r < REPEATS; r++)
        one[r] = ns[r][c];
      qsort (one, REPEATS, sizeof one[0], compare);
      printf (" %9.1f", one[REPEATS / 2]);
    }
    printf ("\n");
    fflush (stdout);
  }
}

static void
print_memory (void)
{
  size_t i, clean, all, some;
  struct dirty *d;
  unsigned bits;

  printf ("\nbytes of memory\n%-8s %9s %9s %12s\n", "disk", "clean",
          "all dirty", "1 % dirty");
  for (i = 0; i < N_DISKS; i++) {
    bits = disks[i].shift - GRANULE_SHIFT;
    d = new_bitmap (disks[i].shift);
    clean = dirty_memory (d);
    set_random (d, bits, (UINT64_C (1) << bits) / 100);
    some = dirty_memory (d);
    dirty_set_all (d);
    all = dirty_memory (d);
    dirty_free (d);
    printf ("%-8s %9zu %9zu %12zu\n", disks[i].name, clean, all, some);
  }
}

int
main (void)
{
  printf ("dirty bitmap, granules of %u KiB, 1 %% dirty "
          "(at most %" PRIu64 " granules for the times)\n\n",
          1U << (GRANULE_SHIFT - 10), MAX_GRANULES);
  print_times ();
  print_memory ();
  return sink == 1 ? EXIT_FAILURE : EXIT_SUCCESS;
}
