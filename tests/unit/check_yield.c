/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients first, with clients whose requests are slowed down by copying as a
 * formula says.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "yield.h"

#define S UINT64_C (1000000000)
#define MIB (UINT64_C (1) << 20)
#define STEP (S / 1000)

/* What the copiers do where there is no limit. */
#define FASTEST (1000 * MIB)

static struct yield y;
static struct yield_sums sums;
static uint64_t now;

/* Clients: so many requests in each step; of a thousand that come while copying
 * is that fast, so many are slow.
 */
static unsigned requests;
static uint64_t (*slow_of_thousand) (uint64_t rate);
static bool caught_up;
static unsigned quiet_steps, steps;
static uint64_t carried;

static uint64_t
never (uint64_t rate)
{
  (void) rate;
  return 0;
}

static uint64_t
always (uint64_t rate)
{
  return rate > 0 ? 1000 : 0;
}

/* One of a hundred at 100 MiB/s. */
static uint64_t
in_proportion (uint64_t rate)
{
  return rate / (10 * MIB);
}

static void
setup (void)
{
  now = S;
  memset (&sums, 0, sizeof sums);
  requests = 10;
  slow_of_thousand = never;
  caught_up = false;
  quiet_steps = steps = 0;
  carried = 0;
  yield_init (&y, now);
}

static unsigned
bucket_of (uint64_t ns)
{
  unsigned i = 0;

  while (latency_fine_ns (i) < ns)
    ++i;
  return i;
}

static uint64_t
copying_at (void)
{
  if (y.phase != YIELD_COPY)
    return 0;
  return y.rate && y.rate < FASTEST ? y.rate : FASTEST;
}

/* A millisecond.  busy: the pieces in flight when copying is to stop. */
static void
step (bool busy)
{
  const uint64_t rate = copying_at ();
  uint64_t slow;

  carried += requests * slow_of_thousand (rate);
  slow = carried / 1000;
  carried %= 1000;
  sums.clients.counts[bucket_of (100000)] += requests - slow;
  sums.clients.counts[bucket_of (400000)] += slow;
  sums.taken += rate / 1000;
  steps++;
  quiet_steps += y.phase == YIELD_QUIET;
  now += STEP;
  if (now >= y.due_ns)
    yield_look (&y, &sums, caught_up, busy, now);
}

static void
run (unsigned seconds)
{
  unsigned i;

  for (i = 0; i < seconds * 1000; ++i)
    step (false);
}

START_TEST (without_clients_there_is_no_limit)
{
  requests = 0;
  run (10);
  ck_assert_uint_eq (y.rate, 0);
  ck_assert_uint_eq (quiet_steps, 0);
}
END_TEST

START_TEST (clients_that_feel_nothing_set_no_limit)
{
  run (10);
  ck_assert_uint_ge (y.rate, FASTEST);
  /* To know, copying must stop now and then, but not for long. */
  ck_assert_uint_gt (quiet_steps, 0);
  ck_assert_uint_lt (quiet_steps * 4, steps);
}
END_TEST

/* Nothing was copied in that time: that is no reason not to limit it. */
START_TEST (too_slow_without_copying)
{
  unsigned i;

  run (1);
  ck_assert_uint_ne (y.slow_ns, 0);
  y.starting = false;
  yield_look (&y, &sums, false, false, now += 4 * S);   /* a new window */
  ck_assert_int_eq (y.phase, YIELD_COPY);
  y.rate = 0;
  for (i = 0; i < 100 && y.rate == 0; ++i) {
    sums.clients.counts[bucket_of (100000)] += 20;
    sums.clients.counts[bucket_of (400000)]++;
    yield_look (&y, &sums, false, false, now += STEP);
  }
  ck_assert_uint_eq (y.rate, YIELD_LEAST);
}
END_TEST

START_TEST (what_one_of_a_hundred_feels_is_allowed)
{
  unsigned i;
  uint64_t sum = 0;

  slow_of_thousand = in_proportion;
  run (5);
  for (i = 0; i < 20; ++i) {
    run (1);
    ck_assert_uint_ge (y.rate, 40 * MIB);
    ck_assert_uint_le (y.rate, 200 * MIB);
    sum += y.rate;
  }
  ck_assert_uint_ge (sum / i, 60 * MIB);
  ck_assert_uint_le (sum / i, 130 * MIB);
}
END_TEST

/* The first seconds count, too: of all requests until then few are slow. */
START_TEST (it_begins_slowly)
{
  slow_of_thousand = in_proportion;
  requests = 2;                 /* 2000 a second */
  run (3);
  ck_assert_uint_ge (y.rate, 20 * MIB);
  ck_assert_uint_le (sums.clients.counts[bucket_of (400000)] * 100,
                     3 * 3 * 2000);
}
END_TEST

START_TEST (it_never_stops)
{
  slow_of_thousand = always;
  run (10);
  ck_assert_uint_eq (y.rate, YIELD_LEAST);
}
END_TEST

START_TEST (what_is_made_dirty_is_caught_up_with)
{
  unsigned i;

  slow_of_thousand = always;
  for (i = 0; i < 10000; ++i) {
    sums.dirtied += 20 * MIB / 1000;
    caught_up = i >= 5000;
    step (false);
    if (i == 4999)
      ck_assert_uint_eq (y.rate, YIELD_LEAST);
  }
  ck_assert_uint_ge (y.rate, 47 * MIB);
  ck_assert_uint_le (y.rate, 49 * MIB);
}
END_TEST

START_TEST (clients_that_go_end_the_limit)
{
  slow_of_thousand = always;
  run (5);
  requests = 0;
  run (2);
  ck_assert_uint_eq (y.rate, 0);
  requests = 10;
  run (5);
  ck_assert_uint_eq (y.rate, YIELD_LEAST);
}
END_TEST

/* What is still being copied would be taken for what it is without. */
START_TEST (quiet_begins_with_the_last_piece)
{
  unsigned i;

  for (i = 0; i < 1000 && y.phase != YIELD_DRAIN; ++i)
    step (true);
  ck_assert_uint_eq (y.phase, YIELD_DRAIN);
  for (i = 0; i < 1000; ++i)
    step (true);
  ck_assert_uint_eq (y.phase, YIELD_DRAIN);
  ck_assert_uint_eq (y.slow_ns, 0);
  yield_drained (&y, &sums, now);
  ck_assert_uint_eq (y.phase, YIELD_QUIET);
  run (1);
  ck_assert_uint_gt (y.slow_ns, 100000);
  ck_assert_uint_lt (y.slow_ns, 140000);
}
END_TEST

/* After a long sleep nothing can be said of what was meanwhile. */
START_TEST (a_stale_window_is_dropped)
{
  slow_of_thousand = in_proportion;
  run (5);
  const uint64_t rate = y.rate;

  ck_assert_uint_gt (rate, 0);
  sums.clients.counts[bucket_of (4000000)] += 10000;
  now += 10 * S;
  yield_look (&y, &sums, false, false, now);
  ck_assert_uint_eq (y.rate, rate);
  ck_assert_uint_eq (y.phase, YIELD_COPY);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("yield");
  TCase *tc = tcase_create ("yield");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, NULL);
  tcase_add_test (tc, without_clients_there_is_no_limit);
  tcase_add_test (tc, clients_that_feel_nothing_set_no_limit);
  tcase_add_test (tc, too_slow_without_copying);
  tcase_add_test (tc, what_one_of_a_hundred_feels_is_allowed);
  tcase_add_test (tc, it_begins_slowly);
  tcase_add_test (tc, it_never_stops);
  tcase_add_test (tc, what_is_made_dirty_is_caught_up_with);
  tcase_add_test (tc, clients_that_go_end_the_limit);
  tcase_add_test (tc, quiet_begins_with_the_last_piece);
  tcase_add_test (tc, a_stale_window_is_dropped);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
