/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent record: regions come and go (rule I2).  Errors are in
 * check_intent_errors.c, crashes in check_intent_crash.c, many threads in
 * check_intent_threads.c.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "intent-help.h"

/*-- begin --------------------------------------------------------------*/

START_TEST (begin_is_durable)
{
  ck_assert (!recorded (7));
  begin ((struct range) { 8 * MIB - 1, 9 * MIB + 1 });
  ck_assert (!recorded (6));
  ck_assert (recorded (7));
  ck_assert (recorded (8));
  ck_assert (recorded (9));
  ck_assert (!recorded (10));
  ck_assert_uint_eq (status ().bytes, 3 * MIB);
  ck_assert_uint_eq (status ().waits, 1);
  intent_check (in);
  intent_end (in, (struct range) { 8 * MIB - 1, 9 * MIB + 1 });
  ck_assert (recorded (8));
}
END_TEST

/* Who was held up until his time was over, and only needs to write. */
START_TEST (late_is_not_too_late)
{
  clock_.now_ns += 10000000000;
  ck_assert_int_eq (intent_begin (in, regions (2, 2), clock_.now_ns - 1), 0);
  ck_assert (recorded (2) && recorded (3));
  intent_end (in, regions (2, 2));
}
END_TEST

START_TEST (hot_regions_cost_nothing)
{
  unsigned ops, i;

  begin (regions (3, 2));
  ops = file->ops;
  for (i = 0; i < 100; ++i) {
    begin (regions (3, 1));
    begin (regions (4, 1));
    intent_end (in, regions (3, 2));
  }
  intent_end (in, regions (3, 2));
  begin (regions (3, 2));
  intent_end (in, regions (3, 2));
  ck_assert_uint_eq (file->ops, ops);
  ck_assert_uint_eq (status ().waits, 1);
}
END_TEST

/* Some are recorded, some not, in two pages: one sync. */
START_TEST (one_sync_for_all_of_it)
{
  const struct range r = { 0, SIZE };
  unsigned syncs;
  uint64_t i;

  begin (regions (5, 1));
  begin (regions (3990, 1));
  syncs = file->syncs;
  begin (r);
  ck_assert_uint_eq (file->syncs, syncs + 1);
  for (i = 0; i < REGIONS; ++i)
    ck_assert (recorded (i));
  ck_assert_uint_eq (status ().bytes, SIZE);
  intent_end (in, r);
  intent_end (in, regions (5, 1));
  intent_end (in, regions (3990, 1));
}
END_TEST

struct beginner {
  struct thread thread;
  struct range r;
  bool has_deadline;            /* of now */
  _Atomic bool done;
};

static void
beginner_main (void *vp)
{
  struct beginner *b = vp;

  const uint64_t deadline_ns = b->has_deadline ? clock_.now_ns : FOREVER;

  /* Not ck_assert: another thread. */
  if (intent_begin (in, b->r, deadline_ns) != 0 || !fake_covers (file, b->r))
    abort ();
  atomic_store (&b->done, true);
}

static void
start_beginner (struct beginner *b, struct range r)
{
  b->r = r;
  atomic_init (&b->done, false);
  ck_assert_int_eq (thread_start (&b->thread, "beginner", beginner_main, b),
                    0);
}

static void
wait_for_waits (uint64_t n)
{
  while (status ().waits < n)
    sched_yield ();
}

/* One is writing; those who come meanwhile share the next sync, also two that
 * want the same, and one that wants what is just being written.
 */
START_TEST (threads_share_a_sync)
{
  static struct beginner b[7];
  unsigned syncs = file->syncs, i;

  fake_block (file, true);
  start_beginner (&b[0], regions (10, 1));
  fake_wait_blocked (file);
  for (i = 1; i < 5; ++i)
    start_beginner (&b[i], regions (10 + 900 * i, 1));
  start_beginner (&b[5], regions (910, 1));
  start_beginner (&b[6], regions (10, 1));
  wait_for_waits (7);
  for (i = 0; i < 7; ++i)
    ck_assert (!atomic_load (&b[i].done));
  fake_block (file, false);
  for (i = 0; i < 7; ++i) {
    thread_join (&b[i].thread);
    intent_end (in, b[i].r);
  }
  ck_assert_uint_eq (file->syncs, syncs + 2);
  ck_assert_uint_eq (status ().bytes, 5 * MIB);
}
END_TEST

/* Who waits for the writer of a file that is slow, but well, has time. */
START_TEST (slow_is_not_broken)
{
  static struct beginner first, late;

  fake_block (file, true);
  start_beginner (&first, regions (10, 1));
  fake_wait_blocked (file);
  late.has_deadline = true;     /* which is over */
  start_beginner (&late, regions (910, 1));
  wait_for_waits (2);
  fake_block (file, false);
  thread_join (&first.thread);
  thread_join (&late.thread);
  ck_assert (recorded (910));
  intent_end (in, first.r);
  intent_end (in, late.r);
}
END_TEST

/* Who is let in to a recorded region does not wait for a write under way. */
START_TEST (hot_while_another_is_written)
{
  static struct beginner b;

  begin (regions (1, 1));
  fake_block (file, true);
  start_beginner (&b, regions (2, 1));
  fake_wait_blocked (file);
  begin (regions (1, 1));
  ck_assert (!atomic_load (&b.done));
  fake_block (file, false);
  thread_join (&b.thread);
  intent_end (in, regions (1, 1));
  intent_end (in, regions (1, 2));
}
END_TEST

START_TEST (ask_is_not_active)
{
  const struct range r = { 20 * MIB, 22 * MIB };

  ck_assert_int_eq (intent_ask (in, r, FOREVER), 0);
  ck_assert (fake_covers (file, r));
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), 2);
}
END_TEST

/*-- retiring -----------------------------------------------------------*/

START_TEST (idle_ones_retire)
{
  begin (regions (10, 5));
  ck_assert_uint_eq (intent_idle (in), 0);
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), 0);      /* active */
  intent_end (in, regions (11, 2));
  ck_assert_uint_eq (intent_idle (in), 0);      /* not seen so */
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), 2);
  begin (regions (12, 1));                      /* active since */
  intent_end (in, regions (12, 1));
  ck_assert_uint_eq (intent_idle (in), 1);
  ck_assert_int_eq (intent_retire (in, nothing, NULL), 0);
  ck_assert (recorded (10));
  ck_assert (!recorded (11));
  ck_assert (recorded (12) && recorded (13) && recorded (14));
  ck_assert_uint_eq (status ().bytes, 4 * MIB);
  ck_assert_uint_eq (intent_idle (in), 0);
  intent_check (in);

  begin (regions (11, 1));                      /* recorded anew */
  ck_assert (recorded (11));
  intent_end (in, regions (10, 2));
  intent_end (in, regions (13, 2));
}
END_TEST

/* Active at the moment, though idle when it was counted. */
START_TEST (active_when_it_comes_to_it)
{
  begin (regions (1, 2));
  intent_end (in, regions (1, 2));
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), 2);
  begin (regions (2, 1));
  ck_assert_int_eq (intent_retire (in, nothing, NULL), 0);
  ck_assert (!recorded (1));
  ck_assert (recorded (2));
  intent_end (in, regions (2, 1));
}
END_TEST

/* Runs that differ, ascending; ends with an empty one. */
static bool
next_run (void *opaque, uint64_t from, struct range *run)
{
  const struct range *r = opaque;

  for (; r->end > 0; ++r)
    if (r->end > from) {
      *run = (struct range) { r->start < from ? from : r->start, r->end };
      return true;
    }
  return false;
}

/* Which regions of 0 ... 15 and the last two stay, as bits. */
static unsigned
retire_but (const struct range *runs)
{
  unsigned bits = 0, i;

  begin ((struct range) { 0, SIZE });
  intent_end (in, (struct range) { 0, SIZE });
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), REGIONS);
  ck_assert_int_eq (intent_retire (in, next_run, (void *) runs), 0);
  for (i = 0; i < 16; ++i)
    bits |= (unsigned) recorded (i) << i;
  bits |= (unsigned) recorded (REGIONS - 2) << 16;
  bits |= (unsigned) recorded (REGIONS - 1) << 17;
  ck_assert (!recorded (20) && !recorded (3970));
  intent_check (in);
  return bits;
}

START_TEST (what_differs_stays)
{
  static const struct range none[] = { { 0, 0 } };
  static const struct range inside[] = { { 5 * MIB + GRAN, 5 * MIB + 2 * GRAN },
                                         { 0, 0 } };
  static const struct range across[] = { { 3 * MIB - GRAN, 5 * MIB + GRAN },
                                         { 0, 0 } };
  static const struct range exact[] = { { 0, MIB }, { 3 * MIB, 5 * MIB },
                                        { 0, 0 } };
  static const struct range two_in_one[] = {
    { 2 * MIB, 2 * MIB + GRAN }, { 2 * MIB + 4 * GRAN, 2 * MIB + 5 * GRAN },
    { 3 * MIB - GRAN, 3 * MIB + GRAN }, { 8 * MIB, 8 * MIB + GRAN }, { 0, 0 } };
  static const struct range last[] = { { SIZE - 1, SIZE }, { 0, 0 } };
  static const struct range last_two[] = { { (REGIONS - 1) * MIB - 1, SIZE },
                                           { 0, 0 } };

  ck_assert_uint_eq (retire_but (none), 0);
  ck_assert_uint_eq (retire_but (inside), 1u << 5);
  ck_assert_uint_eq (retire_but (across), 15u << 2);
  ck_assert_uint_eq (retire_but (exact), 1u | 3u << 3);
  ck_assert_uint_eq (retire_but (two_in_one), 3u << 2 | 1u << 8);
  ck_assert_uint_eq (retire_but (last), 2u << 16);
  ck_assert_uint_eq (retire_but (last_two), 3u << 16);
}
END_TEST

/* Of what begins before the first idle region. */
START_TEST (a_run_from_before)
{
  static const struct range run[] = { { MIB, 4 * MIB }, { 0, 0 } };

  begin (regions (3, 3));
  intent_end (in, regions (3, 3));
  intent_watch (in);
  ck_assert_int_eq (intent_retire (in, next_run, (void *) run), 0);
  ck_assert (recorded (3) && !recorded (4) && !recorded (5));
}
END_TEST

static void
retirer_main (void *opaque)
{
  (void) opaque;
  if (intent_retire (in, nothing, NULL) != 0)
    abort ();
}

/* Who begins there meanwhile waits until it is written, and records it anew. */
START_TEST (begin_while_it_retires)
{
  static struct beginner b;
  struct thread t;
  unsigned syncs;

  begin (regions (1, 2));
  intent_end (in, regions (1, 2));
  intent_watch (in);
  begin (regions (1, 1));
  syncs = file->syncs;
  fake_block (file, true);
  ck_assert_int_eq (thread_start (&t, "retirer", retirer_main, NULL), 0);
  fake_wait_blocked (file);
  start_beginner (&b, regions (1, 2));
  wait_for_waits (2);
  ck_assert (!atomic_load (&b.done));
  fake_block (file, false);
  thread_join (&t);
  thread_join (&b.thread);
  ck_assert_uint_eq (file->syncs, syncs + 2);
  ck_assert (recorded (1) && recorded (2));
  intent_end (in, regions (1, 2));
  intent_end (in, regions (1, 1));
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("intent");
  TCase *tc = tcase_create ("intent");
  TCase *threads = tcase_create ("threads");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, begin_is_durable);
  tcase_add_test (tc, late_is_not_too_late);
  tcase_add_test (tc, slow_is_not_broken);
  tcase_add_test (tc, hot_regions_cost_nothing);
  tcase_add_test (tc, one_sync_for_all_of_it);
  tcase_add_test (tc, ask_is_not_active);
  tcase_add_test (tc, idle_ones_retire);
  tcase_add_test (tc, active_when_it_comes_to_it);
  tcase_add_test (tc, what_differs_stays);
  tcase_add_test (tc, a_run_from_before);
  suite_add_tcase (s, tc);

  tcase_add_checked_fixture (threads, setup_threads, teardown);
  tcase_set_timeout (threads, 120);
  tcase_add_test (threads, threads_share_a_sync);
  tcase_add_test (threads, hot_while_another_is_written);
  tcase_add_test (threads, begin_while_it_retires);
  suite_add_tcase (s, threads);

  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
