/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate: who is waited for, and that nobody slips through (rules I4, I6). */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "gate.h"

static struct gate *g;
/* The gate never looks into a job. */
static char job_storage[3];
#define JOB(i) ((struct job *) &job_storage[i])

static void
setup (void)
{
  g = gate_new ();
  ck_assert_ptr_nonnull (g);
}

static void
teardown (void)
{
  gate_free (g);
}

struct waiter {
  struct thread thread;
  struct job *job;
  bool others;
  _Atomic bool done;
};

static void
waiter_main (void *vp)
{
  struct waiter *w = vp;

  if (w->others)
    gate_wait_others (g, w->job);
  else
    gate_wait_job (g, w->job);
  atomic_store (&w->done, true);
}

static void
start (struct waiter *w)
{
  ck_assert_int_eq (thread_start (&w->thread, "waiter", waiter_main, w), 0);
}

START_TEST (a_new_gate_has_no_job)
{
  const struct regime *r = gate_enter (g);

  ck_assert_int_eq (r->kind, REGIME_NONE);
  ck_assert_ptr_null (r->job);
  gate_leave (g, r);
}
END_TEST

START_TEST (requests_see_the_newest_regime)
{
  const struct regime *r;
  int i;

  for (i = 0; i < 1000; ++i) {
    gate_publish (g, i % 2 ? REGIME_TEE : REGIME_TRACK, JOB (i % 3), NULL);
    r = gate_enter (g);
    ck_assert_int_eq (r->kind, i % 2 ? REGIME_TEE : REGIME_TRACK);
    ck_assert_ptr_eq (r->job, JOB (i % 3));
    gate_leave (g, r);
  }
}
END_TEST

/* What a request sampled stays what it was while it is inside. */
START_TEST (a_regime_is_kept_while_somebody_is_inside)
{
  const struct regime *old, *r;
  int i;

  gate_publish (g, REGIME_TEE, JOB (0), NULL);
  old = gate_enter (g);
  for (i = 0; i < 1000; ++i) {
    gate_publish (g, REGIME_TRACK, JOB (1), NULL);
    r = gate_enter (g);
    ck_assert_ptr_ne (r, old);
    gate_leave (g, r);
  }
  ck_assert_int_eq (old->kind, REGIME_TEE);
  ck_assert_ptr_eq (old->job, JOB (0));
  gate_leave (g, old);
}
END_TEST

/* A request of no job, and one of the job before, both count (hole H11). */
START_TEST (start_waits_for_none_and_for_older_jobs)
{
  const struct regime *none = gate_enter (g), *older, *own;
  struct waiter w = { .job = JOB (1), .others = true };

  gate_publish (g, REGIME_TRACK, JOB (0), NULL);
  older = gate_enter (g);
  gate_publish (g, REGIME_TRACK, JOB (1), NULL);
  own = gate_enter (g);         /* the new job's own: not waited for */
  start (&w);

  gate_leave (g, none);
  sched_yield ();
  ck_assert (!atomic_load (&w.done));
  gate_leave (g, older);
  thread_join (&w.thread);
  ck_assert (atomic_load (&w.done));
  gate_leave (g, own);
}
END_TEST

/* ... in the other order, too. */
START_TEST (start_waits_for_older_jobs_and_for_none)
{
  const struct regime *none = gate_enter (g), *older;
  struct waiter w = { .job = JOB (1), .others = true };

  gate_publish (g, REGIME_TEE, JOB (0), NULL);
  older = gate_enter (g);
  gate_publish (g, REGIME_TRACK, JOB (1), NULL);
  start (&w);
  gate_leave (g, older);
  sched_yield ();
  ck_assert (!atomic_load (&w.done));
  gate_leave (g, none);
  thread_join (&w.thread);
}
END_TEST

/* The job ends before they do, and there is always somebody. */
START_TEST (start_does_not_wait_for_newer_ones)
{
  const struct regime *none = gate_enter (g);
  struct waiter w = { .job = JOB (0), .others = true };

  gate_publish (g, REGIME_TRACK, JOB (0), NULL);
  start (&w);
  gate_publish (g, REGIME_NONE, NULL, NULL);
  thread_join (&w.thread);
  ck_assert (atomic_load (&w.done));
  gate_leave (g, none);
}
END_TEST

START_TEST (end_waits_for_all_modes_of_the_job)
{
  const struct regime *track, *tee, *none;
  struct waiter w = { .job = JOB (0), .others = false };

  gate_publish (g, REGIME_TRACK, JOB (0), NULL);
  track = gate_enter (g);
  gate_publish (g, REGIME_TEE, JOB (0), NULL);
  tee = gate_enter (g);
  gate_publish (g, REGIME_NONE, NULL, NULL);
  none = gate_enter (g);        /* not waited for */
  start (&w);
  gate_leave (g, track);
  sched_yield ();
  ck_assert (!atomic_load (&w.done));
  gate_leave (g, tee);
  thread_join (&w.thread);
  gate_leave (g, none);
}
END_TEST

/* Requests come and go while regimes change.  Each counts itself in the job
 * that it sampled; after a wait for the job's end that count must be 0, and
 * stay so.
 */
static _Atomic int inside[2];
static _Atomic bool stop;
static _Atomic unsigned long passes;

static void
client_main (void *vp)
{
  const struct regime *r;
  int i;

  (void) vp;
  while (!atomic_load (&stop)) {
    r = gate_enter (g);
    if (r->job) {
      i = r->job == JOB (1);
      atomic_fetch_add (&inside[i], 1);
      sched_yield ();
      atomic_fetch_sub (&inside[i], 1);
    }
    gate_leave (g, r);
    atomic_fetch_add (&passes, 1);
  }
}

START_TEST (waiting_ends_under_load_and_is_right)
{
  struct thread t[6];
  int i, n;

  for (i = 0; i < 6; ++i)
    ck_assert_int_eq (thread_start (&t[i], "client", client_main, NULL), 0);
  while (atomic_load (&passes) < 1000)  /* the load is there */
    sched_yield ();
  for (n = 0; n < 2000; ++n) {
    i = n % 2;
    gate_publish (g, REGIME_TRACK, JOB (i), NULL);
    gate_wait_others (g, JOB (i));
    ck_assert_int_eq (atomic_load (&inside[!i]), 0);
    gate_publish (g, REGIME_TEE, JOB (i), NULL);
    gate_publish (g, REGIME_NONE, NULL, NULL);
    gate_wait_job (g, JOB (i));
    ck_assert_int_eq (atomic_load (&inside[i]), 0);
  }
  atomic_store (&stop, true);
  for (i = 0; i < 6; ++i)
    thread_join (&t[i]);
}
END_TEST

struct entrant {
  struct thread thread;
  _Atomic bool inside, go;
  enum regime_kind kind;
};

static void
entrant_main (void *vp)
{
  struct entrant *e = vp;
  const struct regime *r = gate_enter (g);

  e->kind = r->kind;
  atomic_store (&e->inside, true);
  while (!atomic_load (&e->go))
    sched_yield ();
  gate_leave (g, r);
}

static void
start_entrant (struct entrant *e)
{
  ck_assert_int_eq (thread_start (&e->thread, "entrant", entrant_main, e), 0);
}

static uint64_t
in_ms (unsigned ms)
{
  return clock_monotonic.now_ns (&clock_monotonic) +
    UINT64_C (1000000) * ms;
}

START_TEST (drain_waits_for_who_is_inside)
{
  struct entrant e = { .go = false };

  start_entrant (&e);
  while (!atomic_load (&e.inside))
    sched_yield ();
  gate_hold (g);
  ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (20)),
                    -ETIMEDOUT);
  atomic_store (&e.go, true);
  ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (10000)), 0);
  thread_join (&e.thread);
  gate_publish (g, REGIME_NONE, NULL, NULL);
}
END_TEST

START_TEST (a_held_gate_lets_nobody_in_until_it_opens)
{
  struct entrant e[8];
  size_t i;

  gate_hold (g);
  for (i = 0; i < 8; ++i) {
    e[i] = (struct entrant) { .go = true };
    start_entrant (&e[i]);
  }
  ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (10000)), 0);
  for (i = 0; i < 8; ++i)
    ck_assert (!atomic_load (&e[i].inside));

  gate_publish (g, REGIME_TEE, JOB (1), NULL);
  for (i = 0; i < 8; ++i) {
    thread_join (&e[i].thread);
    ck_assert (atomic_load (&e[i].inside));
    ck_assert_int_eq (e[i].kind, REGIME_TEE);
  }
}
END_TEST

/* The gate is opened for a moment at a time: whenever it is shut again, those
 * that came first have been let in, and the others have not.
 */
START_TEST (who_was_held_goes_on_in_order)
{
  struct entrant e[6];
  unsigned i, let_in;

  gate_hold (g);
  for (i = 0; i < 6; ++i) {
    e[i] = (struct entrant) { .go = true };
    start_entrant (&e[i]);
    while (gate_held (g) != i + 1)
      sched_yield ();
  }
  do {
    gate_publish (g, REGIME_TRACK, JOB (0), NULL);
    sched_yield ();
    gate_hold (g);
    ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (10000)), 0);
    /* Nobody can get in now, so this is not changing. */
    let_in = 6 - gate_held (g);
    for (i = 0; i < 6; ++i)
      ck_assert_int_eq (atomic_load (&e[i].inside), i < let_in);
  } while (let_in < 6);
  gate_publish (g, REGIME_TRACK, JOB (0), NULL);
  for (i = 0; i < 6; ++i)
    thread_join (&e[i].thread);
}
END_TEST

/* Entering and leaving while somebody holds and opens again and again. */
static _Atomic bool churn_stop;
static _Atomic unsigned churn_inside, churn_entered;

static void
churn_main (void *vp)
{
  const struct regime *r;

  (void) vp;
  while (!atomic_load (&churn_stop)) {
    r = gate_enter (g);
    atomic_fetch_add (&churn_inside, 1);
    atomic_fetch_add (&churn_entered, 1);
    atomic_fetch_sub (&churn_inside, 1);
    gate_leave (g, r);
  }
}

START_TEST (nobody_is_inside_a_drained_gate)
{
  struct thread threads[4];
  unsigned before;
  size_t i, n;

  for (i = 0; i < 4; ++i)
    ck_assert_int_eq (thread_start (&threads[i], "churn", churn_main, NULL),
                      0);
  for (n = 0; n < 300; ++n) {
    gate_hold (g);
    ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (10000)), 0);
    before = atomic_load (&churn_entered);
    ck_assert_uint_eq (atomic_load (&churn_inside), 0);
    sched_yield ();
    ck_assert_uint_eq (atomic_load (&churn_entered), before);
    gate_publish (g, n % 2 ? REGIME_TRACK : REGIME_TEE, JOB (0), NULL);
    while (atomic_load (&churn_entered) == before)
      sched_yield ();
  }
  atomic_store (&churn_stop, true);
  for (i = 0; i < 4; ++i)
    thread_join (&threads[i]);
}
END_TEST

START_TEST (a_source_goes_with_the_regime)
{
  struct source *source = (struct source *) &job_storage[2];
  const struct regime *r;

  gate_publish (g, REGIME_NONE, NULL, source);
  ck_assert_int_eq (gate_flush (g, &clock_monotonic, in_ms (10000)), 0);
  r = gate_enter (g);
  ck_assert_int_eq (r->kind, REGIME_NONE);
  ck_assert_ptr_eq (r->source, source);
  gate_leave (g, r);
  gate_hold (g);
  gate_publish (g, REGIME_TEE, JOB (0), NULL);
  r = gate_enter (g);
  ck_assert_ptr_null (r->source);
  gate_leave (g, r);
}
END_TEST

/* Who is inside already is waited for, and nobody who comes later. */
START_TEST (flush_waits_for_older_requests_only)
{
  struct entrant e = { .go = false };
  struct thread threads[4];
  size_t i;

  gate_publish (g, REGIME_TEE, JOB (1), NULL);
  start_entrant (&e);
  while (!atomic_load (&e.inside))
    sched_yield ();
  for (i = 0; i < 4; ++i)
    ck_assert_int_eq (thread_start (&threads[i], "churn", churn_main, NULL),
                      0);
  ck_assert_int_eq (gate_flush (g, &clock_monotonic, in_ms (20)),
                    -ETIMEDOUT);
  atomic_store (&e.go, true);
  ck_assert_int_eq (gate_flush (g, &clock_monotonic, in_ms (10000)), 0);
  thread_join (&e.thread);
  atomic_store (&churn_stop, true);
  for (i = 0; i < 4; ++i)
    thread_join (&threads[i]);
}
END_TEST

static void
flush_main (void *vp)
{
  int *r = vp;

  *r = gate_flush (g, &clock_monotonic, in_ms (5000));
}

/* ... whatever is published meanwhile. */
START_TEST (flush_does_not_wait_for_a_newer_regime)
{
  struct entrant old = { .go = false };
  const struct regime *first, *r, *newer[2];
  struct thread flush;
  int i, result = 1;

  gate_publish (g, REGIME_TRACK, JOB (1), NULL);
  first = gate_enter (g);
  gate_leave (g, first);
  start_entrant (&old);
  while (!atomic_load (&old.inside))
    sched_yield ();
  ck_assert_int_eq (thread_start (&flush, "flush", flush_main, &result), 0);

  /* Until it has moved the regime to another slot. */
  do {
    r = gate_enter (g);
    gate_leave (g, r);
    sched_yield ();
  } while (r == first);
  for (i = 0; i < 2; ++i) {
    gate_publish (g, REGIME_TEE, JOB (0), NULL);
    newer[i] = gate_enter (g);
  }
  atomic_store (&old.go, true);
  thread_join (&flush);
  ck_assert_int_eq (result, 0);
  gate_leave (g, newer[0]);
  gate_leave (g, newer[1]);
  thread_join (&old.thread);
}
END_TEST

#define MOST 63                 /* regimes with requests in flight, and one */

static void
hold_main (void *vp)
{
  (void) vp;
  gate_hold (g);
}

/* The gate is being held while a flush waits for a place in the ring: the flush
 * must not bring back the regime that it found.
 */
START_TEST (flush_of_a_full_ring_does_not_open_the_gate)
{
  const struct regime *requests[MOST];
  struct thread flush, hold;
  int i, result = 1;

  for (i = 0; i < MOST; ++i) {
    gate_publish (g, REGIME_TRACK, JOB (1), NULL);
    requests[i] = gate_enter (g);
  }
  gate_publish (g, REGIME_TEE, JOB (1), NULL);
  gate_leave (g, gate_enter (g));
  ck_assert_int_eq (gate_flush (g, &clock_monotonic, in_ms (20)),
                    -ETIMEDOUT);
  ck_assert_int_eq (thread_start (&flush, "flush", flush_main, &result), 0);
  ck_assert_int_eq (thread_start (&hold, "hold", hold_main, NULL), 0);
  for (i = 0; i < MOST; ++i) {
    sched_yield ();
    gate_leave (g, requests[i]);
  }
  thread_join (&hold);
  thread_join (&flush);
  ck_assert_int_eq (result, 0);
  ck_assert_int_eq (gate_drain (g, &clock_monotonic, in_ms (10000)), 0);
  gate_publish (g, REGIME_NONE, NULL, NULL);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("gate");
  TCase *tc = tcase_create ("gate");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, a_new_gate_has_no_job);
  tcase_add_test (tc, requests_see_the_newest_regime);
  tcase_add_test (tc, a_regime_is_kept_while_somebody_is_inside);
  tcase_add_test (tc, start_waits_for_none_and_for_older_jobs);
  tcase_add_test (tc, start_waits_for_older_jobs_and_for_none);
  tcase_add_loop_test (tc, start_does_not_wait_for_newer_ones, 0, 50);
  tcase_add_test (tc, end_waits_for_all_modes_of_the_job);
  tcase_add_test (tc, waiting_ends_under_load_and_is_right);
  tcase_add_test (tc, drain_waits_for_who_is_inside);
  tcase_add_test (tc, a_held_gate_lets_nobody_in_until_it_opens);
  tcase_add_test (tc, nobody_is_inside_a_drained_gate);
  tcase_add_test (tc, a_source_goes_with_the_regime);
  tcase_add_test (tc, flush_waits_for_older_requests_only);
  tcase_add_test (tc, flush_does_not_wait_for_a_newer_regime);
  tcase_add_test (tc, who_was_held_goes_on_in_order);
  tcase_add_loop_test (tc, flush_of_a_full_ring_does_not_open_the_gate, 0,
                       200);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
