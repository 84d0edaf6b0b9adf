/* SPDX-License-Identifier: BSD-3-Clause */
/* Range locks: exclusion, order of arrival, prefixes; with real threads. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "rangelock.h"

#define G UINT64_C (65536)

static struct rangelocks *rls;

static void
setup (void)
{
  rls = rangelocks_new ();
  ck_assert_ptr_nonnull (rls);
}

static void
teardown (void)
{
  rangelocks_free (rls);
}

/* A thread that locks, says so, waits for leave, unlocks. */
struct locker {
  struct thread thread;
  struct range range;
  uint64_t prefix;              /* align, or 0: the whole range */
  struct rangelock lk;
  _Atomic int state;            /* 1 locked, 2 may unlock */
  int *order;
  _Atomic int *next;
};

static void
locker_main (void *vp)
{
  struct locker *l = vp;

  if (l->prefix)
    rangelock_lock_prefix (rls, &l->lk, l->range, l->prefix);
  else
    rangelock_lock (rls, &l->lk, l->range);
  if (l->order)
    *l->order = atomic_fetch_add (l->next, 1);
  atomic_store (&l->state, 1);
  while (atomic_load (&l->state) != 2)
    sched_yield ();
  rangelock_unlock (rls, &l->lk);
}

struct census {
  unsigned held, waiting;
};

static void
count (void *opaque, struct range r, bool held)
{
  struct census *c = opaque;

  (void) r;
  *(held ? &c->held : &c->waiting) += 1;
}

static struct census
census (void)
{
  struct census c = { 0, 0 };

  rangelocks_foreach (rls, count, &c);
  return c;
}

static void
start (struct locker *l, uint64_t from, uint64_t to)
{
  struct census before = census ();

  l->range = (struct range) { from, to };
  ck_assert_int_eq (thread_start (&l->thread, "locker", locker_main, l), 0);
  /* Until it stands in line, or holds. */
  while (census ().held + census ().waiting == before.held + before.waiting)
    sched_yield ();
}

static void
finish (struct locker *l)
{
  while (atomic_load (&l->state) != 1)
    sched_yield ();
  atomic_store (&l->state, 2);
  thread_join (&l->thread);
}

START_TEST (disjoint_ranges_do_not_wait)
{
  struct locker a = { 0 }, b = { 0 };

  start (&a, 0, 100);
  start (&b, 100, 101);         /* half-open: they only touch */
  ck_assert_uint_eq (census ().held, 2);
  finish (&a);
  finish (&b);
  ck_assert_uint_eq (census ().held, 0);
}
END_TEST

START_TEST (one_byte_in_common_waits)
{
  struct locker a = { 0 }, b = { 0 };

  start (&a, 0, 101);
  start (&b, 100, 200);
  ck_assert_uint_eq (census ().held, 1);
  ck_assert_uint_eq (census ().waiting, 1);
  finish (&a);
  finish (&b);
}
END_TEST

/* c overlaps only the waiter b, and must not overtake it. */
START_TEST (waiters_are_not_overtaken)
{
  int order[3] = { -1, -1, -1 };
  _Atomic int next = 0;
  struct locker a = { .order = &order[0], .next = &next };
  struct locker b = { .order = &order[1], .next = &next };
  struct locker c = { .order = &order[2], .next = &next };

  start (&a, 0, 100);
  start (&b, 50, 200);
  start (&c, 150, 300);
  ck_assert_uint_eq (census ().held, 1);
  ck_assert_uint_eq (census ().waiting, 2);
  finish (&a);
  finish (&b);
  finish (&c);
  ck_assert_int_eq (order[0], 0);
  ck_assert_int_eq (order[1], 1);
  ck_assert_int_eq (order[2], 2);
}
END_TEST

/* Ranges in one chunk, at its ends, in chunks of one class, and of many chunks;
 * either of them first.
 */
START_TEST (neighbours_far_and_near)
{
  static const uint64_t chunk = 64 << 10, mib = 1 << 20;
  static const struct {
    struct range a, b;
    bool waits;
  } t[] = {
    { { 0, 4096 }, { 4096, 8192 }, false },
    { { 0, chunk }, { chunk - 1, chunk }, true },
    { { 0, chunk }, { chunk, chunk + 1 }, false },
    { { 0, chunk + 1 }, { chunk, 2 * chunk }, true },
    { { 0, 512 }, { 64 * mib, 64 * mib + 512 }, false },
    { { 0, 2 * mib + 1 }, { 2 * mib, 2 * mib + 512 }, true },
    { { 0, 2 * mib + 1 }, { 2 * mib + 1, 2 * mib + 512 }, false },
    { { 0, 512 * mib }, { 300 * mib, 300 * mib + 512 }, true },
    { { 0, 512 * mib }, { 511 * mib, 1024 * mib }, true },
    { { 0, 512 * mib }, { 512 * mib, 1024 * mib }, false },
    { { INT64_MAX - 1, INT64_MAX }, { 0, INT64_MAX }, true },
  };
  size_t i;
  int turn;

  for (i = 0; i < sizeof t / sizeof t[0]; i++)
    for (turn = 0; turn < 2; turn++) {
      const struct range *first = turn ? &t[i].b : &t[i].a;
      const struct range *second = turn ? &t[i].a : &t[i].b;
      struct locker a = { 0 }, b = { 0 };

      start (&a, first->start, first->end);
      start (&b, second->start, second->end);
      ck_assert_msg (census ().waiting == t[i].waits, "row %zu, turn %d", i,
                     turn);
      finish (&a);
      finish (&b);
    }
}
END_TEST

/* iotest 151, testIntersecting: A [0,1M), B, C [0,2M), D [1M,3M). */
START_TEST (intersecting_do_not_deadlock)
{
  struct locker a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

  start (&a, 0, 1 << 20);
  start (&b, 0, 2 << 20);
  start (&c, 0, 2 << 20);
  start (&d, 1 << 20, 3 << 20);
  ck_assert_uint_eq (census ().held, 1);
  finish (&a);
  finish (&b);
  finish (&c);
  finish (&d);
}
END_TEST

START_TEST (prefix_takes_what_is_free)
{
  struct rangelock a, p;

  rangelock_lock (rls, &a, (struct range) { 2 * G + 1, 2 * G + 2 });
  rangelock_lock_prefix (rls, &p, (struct range) { 0, 8 * G }, G);
  ck_assert_uint_eq (p.range.start, 0);
  ck_assert_uint_eq (p.range.end, 2 * G);
  rangelock_unlock (rls, &p);
  rangelock_unlock (rls, &a);

  rangelock_lock_prefix (rls, &p, (struct range) { 0, 8 * G }, G);
  ck_assert_uint_eq (p.range.end, 8 * G);
  rangelock_unlock (rls, &p);

  /* A tail shorter than align. */
  rangelock_lock_prefix (rls, &p, (struct range) { 8 * G, 8 * G + 5 }, G);
  ck_assert_uint_eq (p.range.end, 8 * G + 5);
  rangelock_unlock (rls, &p);
}
END_TEST

/* Not even the first granule is free, or somebody waits for it. */
START_TEST (prefix_stands_in_line)
{
  struct locker a = { 0 }, b = { 0 }, p = { .prefix = G };

  start (&a, 10, 20);
  start (&b, 15, 30);           /* waits */
  start (&p, 0, 8 * G);
  ck_assert_uint_eq (census ().waiting, 2);
  finish (&a);
  finish (&b);
  while (atomic_load (&p.state) != 1)
    sched_yield ();
  ck_assert_uint_eq (p.lk.range.start, 0);
  ck_assert_uint_eq (p.lk.range.end, G);
  finish (&p);
}
END_TEST

/* Many threads on few bytes, or pieces of `unit` bytes: no two holders of one,
 * ever.
 */
#define BYTES 16
static uint64_t unit;
static _Atomic int owners[BYTES];
static _Atomic int violations;

static struct range
scaled (uint64_t from, uint64_t to)
{
  return (struct range) { from * unit, to * unit };
}

static void
hammer_main (void *vp)
{
  uint64_t x = (uintptr_t) vp * UINT64_C (0x9e3779b97f4a7c15), from, to, i;
  struct rangelock lk;
  int n;

  for (n = 0; n < 3000; ++n) {
    x = x * UINT64_C (6364136223846793005) + 1442695040888963407;
    from = (x >> 33) % BYTES;
    to = from + 1 + (x >> 45) % (BYTES - from);
    if (n % 3 == 0)
      rangelock_lock_prefix (rls, &lk, scaled (from, to), 1);
    else
      rangelock_lock (rls, &lk, scaled (from, to));
    for (i = lk.range.start / unit; i < lk.range.end / unit; ++i)
      if (atomic_fetch_add (&owners[i], 1) != 0)
        atomic_fetch_add (&violations, 1);
    sched_yield ();
    for (i = lk.range.start / unit; i < lk.range.end / unit; ++i)
      atomic_fetch_sub (&owners[i], 1);
    rangelock_unlock (rls, &lk);
  }
}

/* Bytes, parts of chunks, and so many chunks that they are not counted. */
START_TEST (exclusion)
{
  struct thread t[8];
  uintptr_t i;

  unit = (uint64_t[]) { 1, 5000, 100000, UINT64_C (1) << 26 }[_i];
  for (i = 0; i < 8; ++i)
    ck_assert_int_eq (thread_start (&t[i], "hammer", hammer_main,
                                    (void *) (i + 1)), 0);
  for (i = 0; i < 8; ++i)
    thread_join (&t[i]);
  ck_assert_int_eq (violations, 0);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("rangelock");
  TCase *tc = tcase_create ("locks");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, disjoint_ranges_do_not_wait);
  tcase_add_test (tc, one_byte_in_common_waits);
  tcase_add_test (tc, waiters_are_not_overtaken);
  tcase_add_test (tc, intersecting_do_not_deadlock);
  tcase_add_test (tc, prefix_takes_what_is_free);
  tcase_add_test (tc, prefix_stands_in_line);
  tcase_add_test (tc, neighbours_far_and_near);
  tcase_add_loop_test (tc, exclusion, 0, 4);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
