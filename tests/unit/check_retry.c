/* SPDX-License-Identifier: BSD-3-Clause */
/* Back-off of ranges whose copy failed, under a clock that the test moves. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "retry.h"

#define G UINT64_C (65536)
#define S UINT64_C (1000000000)

static struct retry r;

static void
setup (void)
{
  retry_init (&r, 12345);
}

/* When may the granule at g be tried, asked at `now`? */
static uint64_t
due (uint64_t g, uint64_t now)
{
  struct range range = { g * G, (g + 1) * G };
  uint64_t when = 0;

  return retry_allows (&r, &range, now, &when) ? now : when;
}

START_TEST (nothing_waits_at_first)
{
  ck_assert_uint_eq (due (0, 7), 7);
}
END_TEST

START_TEST (delay_doubles_up_to_a_bound)
{
  uint64_t now = S, expect = RETRY_MIN_NS, when;
  int i;

  for (i = 0; i < 12; ++i) {
    retry_failed (&r, (struct range) { 0, G }, now, now);
    when = due (0, now);
    ck_assert_uint_ge (when - now, expect);
    ck_assert_uint_le (when - now, expect + expect / 4);
    ck_assert_uint_eq (due (0, when), when);    /* then it may */
    ck_assert_uint_eq (due (1, now), now);      /* its neighbour at once */
    now = when;
    expect = expect * 2 < RETRY_MAX_NS ? expect * 2 : RETRY_MAX_NS;
  }
  ck_assert_uint_eq (expect, RETRY_MAX_NS);
}
END_TEST

START_TEST (success_forgets)
{
  retry_failed (&r, (struct range) { 0, G }, S, S);
  retry_failed (&r, (struct range) { 0, G }, 3 * S, 3 * S);
  retry_succeeded (&r, (struct range) { 0, G });
  ck_assert_uint_eq (due (0, 3 * S), 3 * S);
  retry_failed (&r, (struct range) { 0, G }, 4 * S, 4 * S);
  ck_assert_uint_le (due (0, 4 * S) - 4 * S,
                     RETRY_MIN_NS + RETRY_MIN_NS / 4);
}
END_TEST

/* What failed as one is tried again in eight pieces, side by side. */
START_TEST (one_outage_counts_once)
{
  uint64_t began, now, when, i;

  retry_failed (&r, (struct range) { 0, 8 * G }, S, S);
  began = due (0, S);
  now = began + S / 10;
  for (i = 0; i < 8; ++i)
    retry_failed (&r, (struct range) { i * G, (i + 1) * G }, began, now + i);
  for (i = 0; i < 8; ++i) {
    when = due (i, now + i);
    ck_assert_uint_ge (when - now, 2 * RETRY_MIN_NS);
    ck_assert_uint_le (when - now, 2 * RETRY_MIN_NS + RETRY_MIN_NS / 2 + 8);
  }
  /* One that was chosen before that, and has waited for its lock. */
  retry_failed (&r, (struct range) { 7 * G, 9 * G }, now + 5, now + 10);
  ck_assert_uint_le (due (8, now + 10) - now,
                     2 * RETRY_MIN_NS + RETRY_MIN_NS / 2 + 10);
  ck_assert (!retry_failing (&r, (struct range) { 0, 9 * G }));
  /* The next outage is another one. */
  now = due (0, now + 10);
  retry_failed (&r, (struct range) { 0, G }, now, now);
  ck_assert_uint_ge (due (0, now) - now, 4 * RETRY_MIN_NS);
  ck_assert (retry_failing (&r, (struct range) { 0, 9 * G }));
}
END_TEST

START_TEST (a_candidate_is_cut_before_what_waits)
{
  struct range range = { 0, 8 * G };
  uint64_t when;

  retry_failed (&r, (struct range) { 2 * G, 3 * G }, S, S);
  ck_assert (retry_allows (&r, &range, S, &when));
  ck_assert_uint_eq (range.start, 0);
  ck_assert_uint_eq (range.end, 2 * G);

  /* ... and refused up to its end if it begins in it. */
  range = (struct range) { 2 * G, 8 * G };
  ck_assert (!retry_allows (&r, &range, S, &when));
  ck_assert_uint_eq (range.end, 3 * G);
  ck_assert_uint_gt (when, S);
}
END_TEST

/* More bad ranges than the table holds: everything waits, nothing is lost. */
START_TEST (a_full_table_makes_all_wait)
{
  uint64_t i, when;

  for (i = 0; i < RETRY_MAX; ++i)
    retry_failed (&r, (struct range) { 2 * i * G, (2 * i + 1) * G }, S, S);
  ck_assert_uint_eq (due (2 * RETRY_MAX, S), S);
  retry_failed (&r, (struct range) { 2 * i * G, (2 * i + 1) * G }, S, S);
  when = due (2 * RETRY_MAX + 2, S);
  ck_assert_uint_gt (when, S);
  ck_assert_uint_eq (due (2 * RETRY_MAX + 2, when), when);
}
END_TEST

/* One range fails n times in a row. */
static void
fail_times (uint64_t start, uint64_t end, unsigned n)
{
  uint64_t now;

  while (n-- > 0) {
    now = due (start, S);
    retry_failed (&r, (struct range) { start * G, end * G }, now, now);
  }
}

static bool
failing (uint64_t start, uint64_t end)
{
  return retry_failing (&r, (struct range) { start * G, end * G });
}

START_TEST (failing_is_three_times_in_a_row)
{
  ck_assert (!failing (0, 0));
  fail_times (4, 8, RETRY_AGAIN - 1);
  ck_assert (!failing (4, 8));
  fail_times (4, 8, 1);
  ck_assert (failing (4, 8));
  ck_assert (failing (5, 6));
  ck_assert (failing (0, 0));   /* all of nothing */
  ck_assert (!failing (3, 8));
  ck_assert (!failing (4, 9));

  /* Two of them, in whatever order the table has them. */
  fail_times (8, 9, RETRY_AGAIN);
  fail_times (2, 4, RETRY_AGAIN);
  ck_assert (failing (2, 9));
  ck_assert (!failing (1, 9));
  ck_assert (!failing (2, 10));

  fail_times (20, 21, 1);             /* a new one */
  ck_assert (!failing (2, 9));
  retry_succeeded (&r, (struct range) { 20 * G, 21 * G });
  ck_assert (failing (2, 9));
}
END_TEST

START_TEST (failing_with_a_full_table)
{
  uint64_t i;

  for (i = 0; i < RETRY_MAX; ++i)
    fail_times (2 * i, 2 * i + 1, RETRY_AGAIN);
  ck_assert (failing (2 * i, 2 * i + 1));       /* found no place in it */
  retry_succeeded (&r, (struct range) { 0, G });
  ck_assert (!failing (2 * i, 2 * i + 1));
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("retry");
  TCase *tc = tcase_create ("retry");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, NULL);
  tcase_add_test (tc, nothing_waits_at_first);
  tcase_add_test (tc, delay_doubles_up_to_a_bound);
  tcase_add_test (tc, success_forgets);
  tcase_add_test (tc, one_outage_counts_once);
  tcase_add_test (tc, a_candidate_is_cut_before_what_waits);
  tcase_add_test (tc, a_full_table_makes_all_wait);
  tcase_add_test (tc, failing_is_three_times_in_a_row);
  tcase_add_test (tc, failing_with_a_full_table);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
