/* SPDX-License-Identifier: BSD-3-Clause */
/* Suspect ranges: when each of them becomes dirty, and that there is a reason
 * not to be synced until it has.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "dirty.h"
#include "reasons.h"
#include "suspects.h"

#define GRAN UINT64_C (512)
#define GRANULES UINT64_C (4000)
#define SIZE (GRAN * GRANULES - 100)     /* the last granule is short */

#define TIME UINT64_C (1000000)         /* suspect for so long */
#define START UINT64_C (5000000000)

static struct reasons reasons;
static struct dirty *dirty;
static struct suspects *s;
static uint64_t settled;        /* bytes */
static bool was_dirty;          /* some of them */
static bool refuse;

static bool
on_settled (void *opaque, struct range r)
{
  ck_assert_ptr_eq (opaque, &settled);
  was_dirty |= dirty_any (dirty, r);
  settled += range_len (r);
  return !refuse;
}

static void
begin (uint64_t time_ns)
{
  reasons_init (&reasons);
  dirty = dirty_new (SIZE, GRAN, &reasons);
  ck_assert_ptr_nonnull (dirty);
  settled = 0;
  was_dirty = refuse = false;
  s = suspects_new (SIZE, GRAN, time_ns, dirty, &reasons, on_settled,
                    &settled);
  ck_assert_ptr_nonnull (s);
}

static void
setup (void)
{
  begin (TIME);
}

static void
teardown (void)
{
  suspects_free (s);
  dirty_free (dirty);
}

static struct range
granules (uint64_t first, uint64_t n)
{
  return (struct range) { first * GRAN, (first + n) * GRAN };
}

static uint64_t
dirty_now (void)
{
  uint64_t n, claimed;

  dirty_bytes (dirty, &n, &claimed);
  return n;
}

START_TEST (nothing_at_first)
{
  struct range run;

  ck_assert_uint_eq (suspects_until (s), 0);
  ck_assert_uint_eq (suspects_bytes (s), 0);
  ck_assert (!suspects_next (s, 0, &run));
  ck_assert (!suspects_any (s, (struct range) { 0, SIZE }));
  ck_assert (!suspects_expire (s, START));
  ck_assert (reasons_none (&reasons, true));
}
END_TEST

/* Rounded outward; dirty exactly when the time is over, and not before. */
START_TEST (becomes_dirty_in_time)
{
  struct range run;

  suspects_add (s, (struct range) { 3 * GRAN + 1, 4 * GRAN + 1 }, START);
  ck_assert_uint_eq (suspects_until (s), START + TIME);
  ck_assert_uint_eq (suspects_bytes (s), 2 * GRAN);
  ck_assert (suspects_next (s, 0, &run));
  ck_assert_uint_eq (run.start, 3 * GRAN);
  ck_assert_uint_eq (run.end, 5 * GRAN);
  ck_assert (!suspects_next (s, 5 * GRAN, &run));
  ck_assert (suspects_any (s, (struct range) { 5 * GRAN - 1, 5 * GRAN }));
  ck_assert (!suspects_any (s, granules (5, 10)));
  ck_assert (!suspects_any (s, granules (0, 3)));

  ck_assert (!suspects_expire (s, START + TIME - 1));
  ck_assert_uint_eq (dirty_now (), 0);
  ck_assert_uint_eq (settled, 0);
  ck_assert (!reasons_none (&reasons, true));

  ck_assert (suspects_expire (s, START + TIME));
  ck_assert_uint_eq (settled, 2 * GRAN);
  ck_assert (!was_dirty);
  ck_assert_uint_eq (dirty_now (), 2 * GRAN);
  ck_assert (dirty_any (dirty, granules (3, 1)));
  ck_assert (dirty_any (dirty, granules (4, 1)));
  ck_assert_uint_eq (suspects_until (s), 0);
  ck_assert_uint_eq (suspects_bytes (s), 0);
  ck_assert (!suspects_expire (s, START + 2 * TIME));
}
END_TEST

/* The reasons are the suspect range, then the dirty granules, then none. */
START_TEST (is_a_reason_until_copied)
{
  struct range run;

  suspects_add (s, granules (7, 1), START);
  ck_assert (!reasons_none (&reasons, true));
  ck_assert (!reasons_none (&reasons, false));
  ck_assert (suspects_expire (s, START + TIME));
  ck_assert (!reasons_none (&reasons, true));
  ck_assert (dirty_claim_run (dirty, granules (0, 16), &run));
  ck_assert_uint_eq (run.start, 7 * GRAN);
  dirty_end_claim (dirty, range_len (run));
  ck_assert (reasons_none (&reasons, true));
}
END_TEST

/* What is added to a group keeps the group until its own time is over. */
START_TEST (later_ones_keep_their_time)
{
  const uint64_t later = START + TIME / 5;

  suspects_add (s, granules (1, 1), START);
  suspects_add (s, granules (2, 1), later);
  ck_assert_uint_eq (suspects_until (s), later + TIME);
  suspects_expire (s, later + TIME - 1);
  ck_assert (suspects_any (s, granules (2, 1)));
  ck_assert (!dirty_any (dirty, granules (2, 1)));
  ck_assert (suspects_expire (s, later + TIME));
  ck_assert_uint_eq (dirty_now (), 2 * GRAN);
}
END_TEST

/* The same range again: it stays suspect from the second time on, though the
 * first group lets it go.
 */
START_TEST (suspect_again)
{
  suspects_add (s, granules (9, 1), START);
  suspects_add (s, granules (9, 1), START + TIME / 2);
  ck_assert (suspects_expire (s, START + TIME));
  ck_assert (dirty_any (dirty, granules (9, 1)));
  ck_assert (suspects_any (s, granules (9, 1)));
  ck_assert_uint_eq (suspects_until (s), START + TIME / 2 + TIME);
  ck_assert (suspects_expire (s, START + TIME / 2 + TIME));
  ck_assert (!suspects_any (s, granules (9, 1)));
}
END_TEST

/* Something new at every moment for a long time, and never anybody who lets go
 * but now and then: nothing is dirty too early, nor more than a quarter late.
 */
START_TEST (for_a_long_time)
{
  const uint64_t step = TIME / 100;
  uint64_t now = START, i, j;

  for (i = 0; i < GRANULES - 1; ++i, now += step) {
    suspects_add (s, granules (i, 1), now);
    if (i % 7 == 0)
      suspects_expire (s, now);
    for (j = i >= 200 ? i - 200 : 0; j <= i; ++j) {
      const uint64_t age = (i - j) * step;

      if (age < TIME) {
        ck_assert (suspects_any (s, granules (j, 1)));
        ck_assert (!dirty_any (dirty, granules (j, 1)));
      }
      else if (age >= TIME + TIME / 4 + 7 * step)
        ck_assert (dirty_any (dirty, granules (j, 1)));
    }
    ck_assert (!reasons_none (&reasons, true));
  }
  ck_assert_uint_eq (suspects_until (s), now - step + TIME);
  ck_assert (suspects_expire (s, now + TIME));
  ck_assert_uint_eq (dirty_now (), (GRANULES - 1) * GRAN);
  ck_assert_uint_eq (suspects_bytes (s), 0);
}
END_TEST

/* Nobody lets go for very long: the next who adds does. */
START_TEST (old_groups_make_room)
{
  uint64_t now = START, i;

  for (i = 0; i < 40; ++i, now += TIME / 2)
    suspects_add (s, granules (i, 1), now);
  ck_assert_uint_gt (dirty_now (), 0);
  ck_assert (suspects_any (s, granules (39, 1)));
  ck_assert (suspects_any (s, granules (38, 1)));
  suspects_expire (s, now + TIME);
  ck_assert_uint_eq (dirty_now (), 40 * GRAN);
}
END_TEST

/* All of it again: nothing is dirty before its new time, and then all is. */
START_TEST (renewed)
{
  const uint64_t then = START + TIME - 1;
  struct range run;

  suspects_renew (s, START);            /* nothing there */
  ck_assert (reasons_none (&reasons, true));
  suspects_add (s, granules (1, 1), START);
  suspects_add (s, granules (2, 1), START + TIME / 2);
  suspects_renew (s, then);
  ck_assert_uint_eq (suspects_until (s), then + TIME);
  ck_assert_uint_eq (suspects_bytes (s), 2 * GRAN);
  ck_assert (!suspects_expire (s, then + TIME - 1));
  suspects_add (s, granules (3, 1), then + TIME - 1);
  ck_assert_uint_eq (dirty_now (), 0);
  ck_assert (!reasons_none (&reasons, true));
  ck_assert (suspects_expire (s, then + TIME));
  ck_assert (suspects_any (s, granules (3, 1)));
  ck_assert_uint_eq (dirty_now (), 2 * GRAN);
  ck_assert_uint_eq (settled, 2 * GRAN);
  ck_assert (suspects_expire (s, then + 2 * TIME));
  ck_assert_uint_eq (dirty_now (), 3 * GRAN);
  while (dirty_claim_run (dirty, granules (0, 16), &run))
    dirty_end_claim (dirty, range_len (run));
  ck_assert (reasons_none (&reasons, true));
}
END_TEST

/* Not yet: its time begins again. */
START_TEST (refused)
{
  suspects_add (s, granules (1, 1), START);
  refuse = true;
  ck_assert (!suspects_expire (s, START + TIME));
  ck_assert_uint_eq (dirty_now (), 0);
  ck_assert_uint_eq (suspects_until (s), START + 2 * TIME);
  refuse = false;
  ck_assert (!suspects_expire (s, START + 2 * TIME - 1));
  ck_assert (suspects_expire (s, START + 2 * TIME));
  ck_assert_uint_eq (dirty_now (), GRAN);
}
END_TEST

/* In several groups: the runs come in order of place. */
START_TEST (next_goes_by_place)
{
  struct range run;

  suspects_add (s, granules (20, 2), START);
  suspects_add (s, granules (5, 1), START + TIME / 2);
  suspects_add (s, granules (30, 1), START + TIME - 1);
  ck_assert_uint_eq (suspects_bytes (s), 4 * GRAN);
  ck_assert (suspects_next (s, 0, &run));
  ck_assert_uint_eq (run.start, 5 * GRAN);
  ck_assert (suspects_next (s, run.end, &run));
  ck_assert_uint_eq (run.start, 20 * GRAN);
  ck_assert_uint_eq (run.end, 22 * GRAN);
  ck_assert (suspects_next (s, run.end, &run));
  ck_assert_uint_eq (run.start, 30 * GRAN);
  ck_assert (!suspects_next (s, run.end, &run));
}
END_TEST

START_TEST (the_end_of_the_disk)
{
  suspects_add (s, (struct range) { SIZE - 1, SIZE }, START);
  ck_assert_uint_eq (suspects_bytes (s), GRAN - 100);
  ck_assert (suspects_expire (s, START + TIME));
  ck_assert_uint_eq (dirty_now (), GRAN - 100);
}
END_TEST

START_TEST (without_a_time)
{
  teardown ();
  begin (0);
  suspects_add (s, granules (2, 3), START);
  ck_assert_uint_eq (dirty_now (), 3 * GRAN);
  ck_assert_uint_eq (settled, 3 * GRAN);
  ck_assert (!was_dirty);
  ck_assert (!suspects_any (s, granules (0, 10)));
  ck_assert_uint_eq (suspects_until (s), 0);
  ck_assert (!suspects_expire (s, START));
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("suspects");
  TCase *tc = tcase_create ("suspects");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, nothing_at_first);
  tcase_add_test (tc, becomes_dirty_in_time);
  tcase_add_test (tc, is_a_reason_until_copied);
  tcase_add_test (tc, later_ones_keep_their_time);
  tcase_add_test (tc, suspect_again);
  tcase_add_test (tc, for_a_long_time);
  tcase_add_test (tc, old_groups_make_room);
  tcase_add_test (tc, renewed);
  tcase_add_test (tc, refused);
  tcase_add_test (tc, next_goes_by_place);
  tcase_add_test (tc, the_end_of_the_disk);
  tcase_add_test (tc, without_a_time);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
