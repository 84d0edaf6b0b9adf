/* SPDX-License-Identifier: BSD-3-Clause */
/* What the source has failed of late: nothing is forgotten too early. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "late.h"

#define S UINT64_C (1000000000)
#define START (100000 * S)
#define HOUR (3600 * S)

static struct late late;

static void
setup (void)
{
  late_init (&late);
}

static void
teardown (void)
{
  late_destroy (&late);
}

static void
note (uint64_t start, uint64_t end, uint64_t now)
{
  late_note (&late, (struct range) { start, end }, now);
}

/* What is told to a job that begins then, with that suspect time. */
static void
is (uint64_t now, uint64_t time_ns, uint64_t start, uint64_t end)
{
  const struct range r = late_get (&late, now, time_ns);

  if (start == end) {
    ck_assert (range_empty (r));
    return;
  }
  ck_assert_uint_eq (r.start, start);
  ck_assert_uint_eq (r.end, end);
}

START_TEST (nothing_at_first)
{
  is (0, HOUR, 0, 0);
  is (START, HOUR, 0, 0);
}
END_TEST

START_TEST (for_the_suspect_time)
{
  note (10, 20, START);
  is (START, 1, 10, 20);
  is (START + 30 * S - 1, 30 * S, 10, 20);
  is (START + 30 * S, 30 * S, 0, 0);
  is (START, 0, 0, 0);          /* nothing is suspect */
  /* Another job may have a longer one. */
  is (START + HOUR - 1, HOUR, 10, 20);
}
END_TEST

/* The latest counts for all. */
START_TEST (one_range_has_all)
{
  note (500, 600, START);
  note (10, 20, START + S);
  note (300, 310, START + 2 * S);
  is (START + 2 * S, S, 10, 600);
  note (550, 700, START + HOUR);
  is (START + HOUR + S, 2 * S, 10, 700);
}
END_TEST

/* No suspect time is longer than an hour: a range does not grow for ever. */
START_TEST (what_is_old_is_forgotten)
{
  note (500, 600, START);
  note (10, 20, START + HOUR + 1);
  is (START + HOUR + 1, HOUR, 10, 20);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("late");
  TCase *tc = tcase_create ("late");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, nothing_at_first);
  tcase_add_test (tc, for_the_suspect_time);
  tcase_add_test (tc, one_range_has_all);
  tcase_add_test (tc, what_is_old_is_forgotten);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
