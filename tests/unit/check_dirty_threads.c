/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty bitmap under several threads.  Also to be run with TSan. */

#include <config.h>

/* The code tested is full of assertions, and they are tested too. */
#undef NDEBUG

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "dirty.h"
#include "sync.h"
#include "tree.h"

#define GRANULE UINT64_C (4096)
#define GRANULES UINT64_C (70000)       /* three leaves and a root */
#define DISK (GRANULES * GRANULE - 100)
#define ROUNDS 20000

static struct dirty *dirty;
static struct dirty *own[2];            /* one for each mover */
static atomic_int movers;
static struct reasons reasons;

/* For each granule: has it been marked by somebody, and not been worked on
 * by somebody who claimed it?
 */
static _Atomic unsigned char marked[GRANULES];

static atomic_int running;

static uint64_t
rnd (uint64_t *state, uint64_t below)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (*state * UINT64_C (0x2545f4914f6cdd1d) >> 1) % below;
}

/* Whole granules, mostly few. */
static struct range
some_range (uint64_t *state)
{
  uint64_t lo = rnd (state, GRANULES);
  uint64_t n = 1 + rnd (state, rnd (state, 50) == 0 ? GRANULES : 40);
  struct range r = { lo * GRANULE, (lo + n) * GRANULE };

  if (r.end > DISK)
    r.end = DISK;
  return r;
}

static void
note (struct range r, unsigned char value)
{
  uint64_t i;

  for (i = r.start / GRANULE; i * GRANULE < r.end; i++)
    atomic_store (&marked[i], value);
}

/* Note, then mark: by the end somebody must have claimed it after that. */
static void
marker (void *vp)
{
  uint64_t state = (uintptr_t) vp;
  struct range r;
  unsigned i;

  for (i = 0; i < ROUNDS; i++) {
    r = some_range (&state);
    note (r, 1);
    dirty_set (dirty, r);
  }
  atomic_fetch_sub (&running, 1);
}

/* The same by way of a bitmap of its own. */
static void
mover (void *vp)
{
  uint64_t state = (uintptr_t) vp;
  int me = atomic_fetch_add (&movers, 1);
  struct range r;
  unsigned i, j;

  for (i = 0; i < ROUNDS / 8; i++) {
    for (j = 0; j < 4; j++) {
      r = some_range (&state);
      note (r, 1);
      dirty_set (own[me], r);
    }
    dirty_move (own[me], dirty);
  }
  atomic_fetch_sub (&running, 1);
}

/* Take the first run at or after `from`, or of the disk.  May fail while
 * others take runs too.
 */
static bool
take_run (uint64_t from)
{
  struct range run;

  if (!dirty_next (dirty, from, 64 * GRANULE, &run) &&
      !dirty_next (dirty, 0, 64 * GRANULE, &run))
    return false;
  if (!dirty_claim_run (dirty, run, &run))
    return true;
  note (run, 0);
  dirty_end_claim (dirty, range_len (run));
  return true;
}

static void
copier (void *vp)
{
  uint64_t state = (uintptr_t) vp;
  bool more;

  do
    more = atomic_load (&running) > 0;
  while (take_run (rnd (&state, DISK)) || more);
}

static int
compare_addresses (const void *a, const void *b)
{
  uintptr_t x = (uintptr_t) *(void *const *) a;
  uintptr_t y = (uintptr_t) *(void *const *) b;

  return (x > y) - (x < y);
}

/* Allocate three handles in ascending order of addresses. */
static void *
ascending_alloc (size_t size)
{
  static void *block[3];
  static unsigned used;
  unsigned i;

  if (used % 3 == 0) {
    for (i = 0; i < 3; i++) {
      block[i] = calloc (1, size);
      if (block[i] == NULL)
        abort ();
    }
    qsort (block, 3, sizeof block[0], compare_addresses);
  }
  return block[used++ % 3];
}

/* Nothing that was marked is lost, and in the end no reason is left.
 *
 * dirty_move takes the locks in the order of addresses, so one mover's
 * bitmap lies before `dirty` and the other's behind.
 */
START_TEST (no_mark_is_lost)
{
  static void (*const run[]) (void *) = {
    marker, mover, mover, copier, copier,
  };
  void *(*usual_alloc) (size_t);
  struct thread t[5];
  uint64_t d, c;
  unsigned i;

  reasons_init (&reasons);
  usual_alloc = dirty_test_alloc;
  dirty_test_alloc = ascending_alloc;
  own[0] = dirty_new (DISK, GRANULE, NULL);
  dirty = dirty_new (DISK, GRANULE, &reasons);
  own[1] = dirty_new (DISK, GRANULE, NULL);
  dirty_test_alloc = usual_alloc;
  atomic_store (&movers, 0);
  atomic_store (&running, 3);
  for (i = 0; i < 5; i++)
    ck_assert_int_eq (thread_start (&t[i], "unit", run[i],
                                    (void *) (uintptr_t) (7919 * (i + 1))),
                      0);
  for (i = 0; i < 5; i++)
    thread_join (&t[i]);

  dirty_check (dirty);
  dirty_bytes (dirty, &d, &c);
  ck_assert_uint_eq (d, 0);
  ck_assert_uint_eq (c, 0);
  ck_assert (reasons_none (&reasons, true));
  for (i = 0; i < GRANULES; i++)
    if (atomic_load (&marked[i]))
      ck_abort_msg ("granule %u was lost", i);
  dirty_free (own[0]);
  dirty_free (own[1]);
  dirty_free (dirty);
}
END_TEST

/* Claim something, put it back, end the claim: nothing gets less. */
static void
claimer (void *vp)
{
  uint64_t state = (uintptr_t) vp, bytes;
  struct range r, run;
  unsigned i;

  for (i = 0; i < ROUNDS; i++) {
    r = some_range (&state);
    if (rnd (&state, 2)) {
      if (!dirty_claim_run (dirty, r, &run))
        continue;
      r = run;
      bytes = range_len (run);
    }
    else
      bytes = dirty_claim_inner (dirty, r);
    if (bytes == 0)
      continue;
    dirty_set (dirty, r);
    dirty_end_claim (dirty, bytes);
  }
  atomic_fetch_sub (&running, 1);
}

/* dirty + claimed is exact at every moment: while claims are put back before
 * they end it never gets less than what was dirty at first, and there is
 * always a reason.
 */
START_TEST (claims_hide_nothing)
{
  struct thread t[3];
  uint64_t d, c, least = DISK, breaks;
  unsigned i;

  reasons_init (&reasons);
  dirty = dirty_new (DISK, GRANULE, &reasons);
  dirty_set_all (dirty);
  breaks = reasons_breaks (&reasons);
  atomic_store (&running, 3);
  for (i = 0; i < 3; i++)
    ck_assert_int_eq (thread_start (&t[i], "unit", claimer,
                                    (void *) (uintptr_t) (7919 * (i + 1))),
                      0);
  while (atomic_load (&running) > 0) {
    dirty_bytes (dirty, &d, &c);
    if (d + c < least)
      least = d + c;
    if (reasons_none (&reasons, true))
      ck_abort_msg ("no reason");
    dirty_check (dirty);
  }
  for (i = 0; i < 3; i++)
    thread_join (&t[i]);

  ck_assert_uint_eq (least, DISK);
  ck_assert_uint_eq (reasons_breaks (&reasons), breaks);
  dirty_bytes (dirty, &d, &c);
  ck_assert_uint_eq (d, DISK);
  ck_assert_uint_eq (c, 0);
  ck_assert_uint_eq (atomic_load (&reasons.n), GRANULES);
  dirty_check (dirty);
  dirty_free (dirty);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("dirty threads");
  TCase *tc = tcase_create ("dirty threads");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 600);
  tcase_add_test (tc, no_mark_is_lost);
  tcase_add_test (tc, claims_hide_nothing);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
