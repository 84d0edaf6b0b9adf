/* SPDX-License-Identifier: BSD-3-Clause */
/* Rates over the window, the verdict, and the time that is left. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "verdict.h"

#define S UINT64_C (1000000000)
#define MB UINT64_C (1000000)

/*-- rates --------------------------------------------------------------*/

static struct rates r;

static void
setup (void)
{
  rates_init (&r, 100 * S);
}

static void
teardown (void)
{
  rates_destroy (&r);
}

/* At `ms` after the start the counters stand so. */
static struct rates_result
at (uint64_t ms, uint64_t dirtied, uint64_t progress, uint64_t copied)
{
  const struct rates_point now = {
    100 * S + ms * 1000000, dirtied, progress, copied };
  struct rates_result result;

  rates_read (&r, &now, &result);
  rates_note (&r, &now);
  return result;
}

START_TEST (too_short_is_no_rate)
{
  struct rates_result x = at (249, 5 * MB, 5 * MB, 5 * MB);

  ck_assert_uint_eq (x.span_ns, 0);
  ck_assert_uint_eq (x.dirtied + x.progress + x.copied, 0);
  x = at (250, MB, 2 * MB, 3 * MB);
  ck_assert_uint_eq (x.span_ns, S / 4);
  ck_assert_uint_eq (x.dirtied, 4 * MB);
  ck_assert_uint_eq (x.progress, 8 * MB);
  ck_assert_uint_eq (x.copied, 12 * MB);
}
END_TEST

/* 10 MB a second for ten seconds, then 30: after five the average is that. */
START_TEST (the_window_forgets)
{
  struct rates_result x;
  uint64_t ms;

  for (ms = 100; ms <= 10000; ms += 100) {
    x = at (ms, 0, ms * 10000, 0);
    if (ms >= 300)
      ck_assert_uint_eq (x.progress, 10 * MB);
    ck_assert_uint_lt (x.span_ns, 5 * S + 2 * RATES_STEP_NS);
  }
  for (; ms <= 15000; ms += 100)
    x = at (ms, 0, 100 * MB + (ms - 10000) * 30000, 0);
  ck_assert_uint_ge (x.span_ns, RATES_WINDOW_NS);
  ck_assert_uint_ge (x.progress, 27 * MB);
  ck_assert_uint_le (x.progress, 30 * MB);
  for (; ms <= 16100; ms += 100)
    x = at (ms, 0, 100 * MB + (ms - 10000) * 30000, 0);
  ck_assert_uint_eq (x.progress, 30 * MB);
}
END_TEST

START_TEST (a_gap_is_an_average)
{
  struct rates_result x;

  at (500, 0, 10 * MB, 0);
  x = at (20500, 0, 110 * MB, 0);
  ck_assert_uint_eq (x.span_ns, 20 * S);
  ck_assert_uint_eq (x.progress, 5 * MB);
  /* The window has no point in it but the last. */
  x = at (21000, 0, 110 * MB, 0);
  ck_assert_uint_eq (x.span_ns, 20 * S + S / 2);
}
END_TEST

START_TEST (points_have_a_distance)
{
  const struct rates_point early = { 100 * S + S / 2 - 1, 9, 9, 9 };

  ck_assert (!rates_due (&r, early.when_ns));
  rates_note (&r, &early);
  ck_assert_uint_eq (r.count, 1);
  ck_assert (rates_due (&r, early.when_ns + 1));
  at (500, 0, 0, 0);
  ck_assert_uint_eq (r.count, 2);
  ck_assert (!rates_due (&r, early.when_ns + 2));
}
END_TEST

/* Two threads read counters and clock in their own order. */
START_TEST (nothing_falls_below_zero)
{
  struct rates_result x;

  at (500, 10 * MB, 10 * MB, 10 * MB);
  x = at (6000, 9 * MB, 9 * MB, 9 * MB);
  ck_assert_uint_eq (x.dirtied + x.progress + x.copied, 0);
  at (7000, 9 * MB, 9 * MB, 9 * MB);
  x = at (6990, 9 * MB, 9 * MB, 9 * MB);
  ck_assert_uint_lt (x.span_ns, 100 * S);
}
END_TEST

/*-- the verdict --------------------------------------------------------*/

/* A job that copies 10 MB a second, with 100 MB left. */
static struct verdict_facts
running (void)
{
  return (struct verdict_facts) {
    .target = true, .online = true, .left = 100 * MB,
    .rates = { .span_ns = 5 * S, .progress = 10 * MB, .copied = 10 * MB },
  };
}

static void
expect (const struct verdict_facts *f, enum verdict verdict, int64_t eta)
{
  ck_assert_str_eq (verdict_name (verdict_of (f)), verdict_name (verdict));
  ck_assert_int_eq (verdict_eta (f), eta);
}

/* Each fact outweighs all that come after it. */
START_TEST (first_that_is_true)
{
  struct verdict_facts f = running ();

  f.rates.progress = 0;
  f.follows = true;
  expect (&f, VERDICT_CONVERGING, -1);
  f.ready = true;
  expect (&f, VERDICT_TRACKING, -1);
  f.rates.dirtied = 1;
  expect (&f, VERDICT_DIVERGING, -1);
  f.failing = true;
  expect (&f, VERDICT_STUCK, -1);
  f.scanning = true;
  expect (&f, VERDICT_SCANNING, -1);
  f.paused = true;
  expect (&f, VERDICT_PAUSED, -1);
  f.synced = true;
  expect (&f, VERDICT_SYNCED, 0);
  f.online = false;
  expect (&f, VERDICT_OFFLINE, -1);
  f.target = false;
  expect (&f, VERDICT_NONE, -1);
}
END_TEST

START_TEST (time_left)
{
  struct verdict_facts f = running ();

  expect (&f, VERDICT_CONVERGING, 10);
  f.rates.dirtied = 5 * MB;
  expect (&f, VERDICT_CONVERGING, 20);
  f.rates.dirtied = 10 * MB - 1;        /* 100 million seconds */
  expect (&f, VERDICT_CONVERGING, 100 * (int64_t) MB);
  f.left = 1;
  f.rates.dirtied = 0;
  expect (&f, VERDICT_CONVERGING, 1);   /* never 0 with something left */
  f.left = 0;
  expect (&f, VERDICT_CONVERGING, 0);
  f = running ();
  f.left = UINT64_MAX;
  f.rates.progress = 1;
  expect (&f, VERDICT_CONVERGING, -1);
}
END_TEST

START_TEST (diverging)
{
  struct verdict_facts f = running ();

  f.rates.dirtied = 10 * MB;
  expect (&f, VERDICT_DIVERGING, -1);
  /* Little is left: it follows its clients. */
  f.left = 50 * MB;
  expect (&f, VERDICT_CONVERGING, -1);
  f.left = 50 * MB + 5;
  expect (&f, VERDICT_DIVERGING, -1);
  /* Nobody writes: slow, but it ends. */
  f.left = 100 * MB;
  f.rates.dirtied = f.rates.progress = 0;
  expect (&f, VERDICT_CONVERGING, -1);
}
END_TEST

START_TEST (stuck)
{
  struct verdict_facts f = running ();

  f.failing = true;             /* but something else is being copied */
  expect (&f, VERDICT_CONVERGING, 10);
  f.rates.progress = 0;
  expect (&f, VERDICT_STUCK, -1);
  f.left = 0;
  expect (&f, VERDICT_CONVERGING, 0);
}
END_TEST

START_TEST (tracking)
{
  struct verdict_facts f = running ();

  f.ready = true;
  expect (&f, VERDICT_CONVERGING, 10);  /* write-blocking, after an error */
  f.follows = true;
  expect (&f, VERDICT_TRACKING, 10);
  f.left = 0;
  expect (&f, VERDICT_TRACKING, 0);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("verdict");
  TCase *tc = tcase_create ("rates");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, too_short_is_no_rate);
  tcase_add_test (tc, the_window_forgets);
  tcase_add_test (tc, a_gap_is_an_average);
  tcase_add_test (tc, points_have_a_distance);
  tcase_add_test (tc, nothing_falls_below_zero);
  suite_add_tcase (suite, tc);
  tc = tcase_create ("verdict");
  tcase_add_test (tc, first_that_is_true);
  tcase_add_test (tc, time_left);
  tcase_add_test (tc, diverging);
  tcase_add_test (tc, stuck);
  tcase_add_test (tc, tracking);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
