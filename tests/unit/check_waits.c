/* SPDX-License-Identifier: BSD-3-Clause */
/* Who has waited for the target for too long: each kind by its own rule. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "sync.h"
#include "waits.h"

#define TIMEOUT UINT64_C (1000000)
#define START UINT64_C (7000000000)
#define MANY 1000               /* more than there are slots */
#define THREADS 12
#define ROUNDS 5000

static struct waits *w;

static void
setup (void)
{
  w = waits_new ();
  ck_assert_ptr_nonnull (w);
}

static void
teardown (void)
{
  waits_free (w);
}

static bool
overdue (uint64_t after_ns)
{
  return waits_overdue (w, START + after_ns, TIMEOUT);
}

START_TEST (nobody_waits)
{
  ck_assert (!overdue (0));
  ck_assert (!overdue (1000 * TIMEOUT));
}
END_TEST

START_TEST (a_request)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_TARGET, START);
  ck_assert (!overdue (TIMEOUT - 1));
  ck_assert (overdue (TIMEOUT));
  waits_end (w, &wait);
  ck_assert (!overdue (TIMEOUT));
}
END_TEST

/* The observer's clock may be a little behind. */
START_TEST (from_the_future)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_TARGET, START + 5);
  ck_assert (!overdue (0));
  waits_end (w, &wait);
}
END_TEST

/* The time of the source's leg does not count, that before it does. */
START_TEST (parts_of_a_request)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_TARGET, START);
  waits_change (w, &wait, WAIT_SOURCE, START + TIMEOUT / 4);
  ck_assert (!overdue (50 * TIMEOUT));
  waits_change (w, &wait, WAIT_TARGET, START + 50 * TIMEOUT);
  ck_assert (!overdue (50 * TIMEOUT + TIMEOUT / 2));
  ck_assert (!overdue (50 * TIMEOUT + 3 * (TIMEOUT / 4) - 1));
  ck_assert (overdue (50 * TIMEOUT + 3 * (TIMEOUT / 4)));
  waits_end (w, &wait);
}
END_TEST

/* ... and so does that of the range lock. */
START_TEST (lock_then_target)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_LOCK, START);
  waits_change (w, &wait, WAIT_TARGET, START + TIMEOUT / 2);
  ck_assert (!overdue (TIMEOUT - 1));
  ck_assert (overdue (TIMEOUT));
  waits_end (w, &wait);
}
END_TEST

/* Who waits for a lock waits for the target if somebody does. */
START_TEST (a_lock)
{
  struct wait lock, other;

  waits_begin (w, &lock, WAIT_LOCK, START);
  ck_assert (!overdue (100 * TIMEOUT));

  waits_begin (w, &other, WAIT_SOURCE, START);
  ck_assert (!overdue (100 * TIMEOUT));
  waits_change (w, &other, WAIT_TARGET, START + 100 * TIMEOUT);
  ck_assert (!overdue (100 * TIMEOUT + TIMEOUT / 10 - 1));
  ck_assert (overdue (100 * TIMEOUT + TIMEOUT / 10));
  waits_end (w, &other);
  ck_assert (!overdue (100 * TIMEOUT + TIMEOUT / 10));

  /* A copy holds it. */
  waits_begin (w, &other, WAIT_COPY, START + 200 * TIMEOUT);
  waits_progress (w, START + 200 * TIMEOUT);
  ck_assert (!overdue (200 * TIMEOUT + TIMEOUT / 10 - 1));
  ck_assert (overdue (200 * TIMEOUT + TIMEOUT / 10));
  waits_end (w, &other);

  /* Who flushes with it does: a flush may take long, but not for clients. */
  waits_begin (w, &other, WAIT_FLUSH, START + 300 * TIMEOUT);
  ck_assert (!overdue (300 * TIMEOUT + TIMEOUT / 10 - 1));
  ck_assert (overdue (300 * TIMEOUT + TIMEOUT / 10));
  waits_end (w, &other);
  waits_end (w, &lock);

  /* It has not waited for long itself. */
  waits_begin (w, &lock, WAIT_LOCK, START);
  waits_begin (w, &other, WAIT_TARGET, START);
  ck_assert (!overdue (TIMEOUT - 1));
  waits_end (w, &other);
  waits_end (w, &lock);
}
END_TEST

/* A copy may take long as long as any copy ends. */
START_TEST (copies)
{
  struct wait wait;
  uint64_t i;

  waits_begin (w, &wait, WAIT_COPY, START);
  ck_assert (!overdue (TIMEOUT - 1));
  ck_assert (overdue (TIMEOUT));
  for (i = 1; i < 20; ++i) {
    waits_progress (w, START + i * TIMEOUT);
    ck_assert (!overdue (i * TIMEOUT));
    ck_assert (!overdue (i * TIMEOUT + TIMEOUT - 1));
    ck_assert (overdue (i * TIMEOUT + TIMEOUT));
  }
  waits_end (w, &wait);

  /* No copy has ended for long, but this one is new. */
  waits_begin (w, &wait, WAIT_COPY, START + 90 * TIMEOUT);
  ck_assert (!overdue (91 * TIMEOUT - 1));
  ck_assert (overdue (91 * TIMEOUT));
  waits_end (w, &wait);
}
END_TEST

/* Copies that end do not excuse a client's request. */
START_TEST (progress_is_no_excuse)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_TARGET, START);
  waits_progress (w, START + TIMEOUT);
  ck_assert (overdue (TIMEOUT));
  waits_end (w, &wait);
}
END_TEST

START_TEST (a_flush)
{
  struct wait wait;

  waits_begin (w, &wait, WAIT_FLUSH, START);
  ck_assert (!overdue (10 * TIMEOUT - 1));
  ck_assert (overdue (10 * TIMEOUT));
  waits_end (w, &wait);
  ck_assert (!overdue (10 * TIMEOUT));
}
END_TEST

/* The oldest counts, whoever else comes and goes; more than there are slots
 * do no harm.
 */
START_TEST (many)
{
  static struct wait waits[MANY];
  struct wait first;
  unsigned i;

  waits_begin (w, &first, WAIT_TARGET, START);
  for (i = 0; i < MANY; ++i)
    waits_begin (w, &waits[i], WAIT_TARGET, START + TIMEOUT / 2);
  ck_assert (!overdue (TIMEOUT - 1));
  ck_assert (overdue (TIMEOUT));
  waits_end (w, &first);
  ck_assert (!overdue (TIMEOUT));
  ck_assert (overdue (TIMEOUT + TIMEOUT / 2));
  for (i = 0; i < MANY; ++i) {
    waits_change (w, &waits[i], WAIT_TARGET, START + TIMEOUT);
    waits_end (w, &waits[i]);
  }
  ck_assert (!overdue (100 * TIMEOUT));
  /* Their slots are free again. */
  waits_begin (w, &first, WAIT_TARGET, START);
  ck_assert (overdue (TIMEOUT));
  waits_end (w, &first);
}
END_TEST

static void
come_and_go (void *vp)
{
  struct wait wait;
  unsigned i;

  (void) vp;
  for (i = 0; i < ROUNDS; ++i) {
    waits_begin (w, &wait, WAIT_LOCK, START);
    waits_change (w, &wait, WAIT_TARGET, START + 1);
    waits_change (w, &wait, WAIT_SOURCE, START + 2);
    waits_change (w, &wait, WAIT_TARGET, START + 3);
    waits_end (w, &wait);
  }
}

START_TEST (many_threads)
{
  struct thread threads[THREADS];
  struct wait wait;
  unsigned i;

  waits_begin (w, &wait, WAIT_TARGET, START - TIMEOUT / 2);
  for (i = 0; i < THREADS; ++i)
    ck_assert_int_eq (thread_start (&threads[i], "wait", come_and_go, NULL),
                      0);
  /* None of the others is that old, and none takes this one's slot. */
  for (i = 0; i < 1000; ++i) {
    ck_assert (!overdue (TIMEOUT / 2 - 1));
    ck_assert (overdue (TIMEOUT / 2));
  }
  for (i = 0; i < THREADS; ++i)
    thread_join (&threads[i]);
  waits_end (w, &wait);
  ck_assert (!overdue (1000 * TIMEOUT));
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("waits");
  TCase *tc = tcase_create ("waits");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, nobody_waits);
  tcase_add_test (tc, a_request);
  tcase_add_test (tc, from_the_future);
  tcase_add_test (tc, parts_of_a_request);
  tcase_add_test (tc, lock_then_target);
  tcase_add_test (tc, a_lock);
  tcase_add_test (tc, copies);
  tcase_add_test (tc, progress_is_no_excuse);
  tcase_add_test (tc, a_flush);
  tcase_add_test (tc, many);
  tcase_add_test (tc, many_threads);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
