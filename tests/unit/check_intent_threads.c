/* SPDX-License-Identifier: BSD-3-Clause */
/* Many threads on one intent record: as long as anybody is active in a region,
 * it is in W, whenever the power fails (rule I2).
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "intent-help.h"

#define THREADS 8
#define ROUNDS 500
#define USED UINT64_C (60)      /* regions at each end of the disk */

static _Atomic unsigned busy;   /* beginners that have not ended */
static _Atomic uint64_t retired, retirings;

struct worker {
  struct thread thread;
  unsigned seed;
};

/* Not ck_assert: other threads than the test's. */
static void
must (bool good, const char *what)
{
  if (good)
    return;
  fprintf (stderr, "%s\n", what);
  abort ();
}

static unsigned
random_below (unsigned *seed, unsigned n)
{
  *seed = *seed * 1103515245 + 12345;
  return (*seed >> 8) % n;
}

/* Up to three regions, at the beginning or the end: two pages. */
static struct range
random_range (unsigned *seed)
{
  uint64_t start = random_below (seed, USED * (unsigned) MIB);
  uint64_t end = start + 1 + random_below (seed, 2 * (unsigned) MIB);

  if (random_below (seed, 2)) {
    start += SIZE - USED * MIB;
    end += SIZE - USED * MIB;
  }
  return (struct range) { start, end < SIZE ? end : SIZE };
}

static void
beginner_main (void *vp)
{
  struct worker *w = vp;
  struct range r;
  unsigned i, n;

  for (i = 0; i < ROUNDS; ++i) {
    r = random_range (&w->seed);
    must (intent_begin (in, r, UINT64_MAX) == 0, "begin failed");
    must (fake_covers (file, r), "begin returned, and it is not in W");
    for (n = random_below (&w->seed, 4); n > 0; --n)
      sched_yield ();
    must (fake_covers (file, r), "somebody is active, and it is not in W");
    intent_end (in, r);
  }
  atomic_fetch_sub (&busy, 1);
}

static void
retirer_main (void *vp)
{
  uint64_t n;

  (void) vp;
  while (atomic_load (&busy) > 0) {
    intent_watch (in);
    n = intent_idle (in);
    must (intent_retire (in, nothing, NULL) == 0, "retire failed");
    atomic_fetch_add (&retired, n);
    atomic_fetch_add (&retirings, 1);
  }
}

static void
everything_main (void *vp)
{
  uint64_t before;

  (void) vp;
  while (atomic_load (&busy) > 0) {
    must (intent_everything (in) == 0, "everything failed");
    /* Something is to be clean again. */
    before = atomic_load (&retirings);
    while (atomic_load (&busy) > 0 && atomic_load (&retirings) < before + 2)
      sched_yield ();
  }
}

static void
run (bool everything)
{
  struct worker w[THREADS];
  struct thread retirer, other;
  unsigned i;

  atomic_store (&busy, THREADS);
  for (i = 0; i < THREADS; ++i) {
    w[i].seed = i + 1;
    ck_assert_int_eq (thread_start (&w[i].thread, "beginner", beginner_main,
                                    &w[i]), 0);
  }
  ck_assert_int_eq (thread_start (&retirer, "retirer", retirer_main, NULL), 0);
  if (everything)
    ck_assert_int_eq (thread_start (&other, "everything", everything_main,
                                    NULL), 0);
  for (i = 0; i < THREADS; ++i)
    thread_join (&w[i].thread);
  thread_join (&retirer);
  if (everything)
    thread_join (&other);
  intent_check (in);
  ck_assert_uint_gt (status ().waits, 0);
  ck_assert_uint_gt (atomic_load (&retired), 0);
  ck_assert_uint_eq (told_lost, 0);
}

START_TEST (begin_and_retire)
{
  run (false);
  retire_all ();
  ck_assert_uint_eq (status ().bytes, 0);
}
END_TEST

START_TEST (and_everything)
{
  run (true);
  retire_all ();
  ck_assert_uint_eq (status ().bytes, 0);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("intent threads");
  TCase *tc = tcase_create ("intent threads");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup_threads, teardown);
  tcase_set_timeout (tc, 300);
  tcase_add_test (tc, begin_and_retire);
  tcase_add_test (tc, and_everything);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
