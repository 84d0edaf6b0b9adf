/* SPDX-License-Identifier: BSD-3-Clause */
/* Histograms: the limits of the buckets, and counting from many threads. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "latency.h"
#include "sync.h"

#define THREADS 12              /* more than there are stripes */
#define ROUNDS 20000

static struct latency *l;

static void
setup (void)
{
  l = latency_new ();
  ck_assert_ptr_nonnull (l);
}

static void
teardown (void)
{
  latency_free (l);
}

/* Record one, and find out where it went. */
static unsigned
bucket (uint64_t ns)
{
  struct latency_counts before, after;
  unsigned i, found = LATENCY_BUCKETS;

  latency_read (l, LATENCY_READ, &before);
  latency_record (l, LATENCY_READ, ns);
  latency_read (l, LATENCY_READ, &after);
  ck_assert_uint_eq (after.sum_ns - before.sum_ns, ns);
  for (i = 0; i < LATENCY_BUCKETS; ++i)
    if (after.counts[i] != before.counts[i]) {
      ck_assert_uint_eq (after.counts[i], before.counts[i] + 1);
      ck_assert_uint_eq (found, LATENCY_BUCKETS);
      found = i;
    }
  return found;
}

START_TEST (limits_belong_to_their_bucket)
{
  unsigned i;

  ck_assert_uint_eq (bucket (0), 0);
  for (i = 0; i < LATENCY_BUCKETS; ++i) {
    const uint64_t limit = (UINT64_C (1) << i) * 1000;
    const unsigned above = i + 1 < LATENCY_BUCKETS ? i + 1 : i;

    ck_assert_uint_eq (bucket (limit - 1), i);
    ck_assert_uint_eq (bucket (limit), i);
    ck_assert_uint_eq (bucket (limit + 1), above);
  }
  ck_assert_uint_eq (bucket (UINT64_C (1) << 62), LATENCY_BUCKETS - 1);
}
END_TEST

START_TEST (kinds_are_apart)
{
  struct latency_counts h;
  enum latency_kind kind;

  latency_record (l, LATENCY_TEE, 3000);
  for (kind = 0; kind < LATENCY_KINDS; ++kind) {
    latency_read (l, kind, &h);
    ck_assert_uint_eq (h.counts[2], kind == LATENCY_TEE);
    ck_assert_uint_eq (h.sum_ns, kind == LATENCY_TEE ? 3000 : 0);
  }
}
END_TEST

static void
record_many (void *vp)
{
  int i;

  (void) vp;
  for (i = 0; i < ROUNDS; ++i)
    latency_record (l, LATENCY_COPY, (uint64_t) (i % 2) * 5000);
}

START_TEST (no_thread_is_forgotten)
{
  struct thread threads[THREADS];
  struct latency_counts h, before = { .sum_ns = 0 };
  unsigned i, j;

  for (i = 0; i < THREADS; ++i)
    ck_assert_int_eq (thread_start (&threads[i], "record", record_many,
                                    NULL), 0);
  /* Meanwhile no count falls. */
  for (i = 0; i < 200; ++i) {
    latency_read (l, LATENCY_COPY, &h);
    for (j = 0; j < LATENCY_BUCKETS; ++j)
      ck_assert_uint_ge (h.counts[j], before.counts[j]);
    before = h;
  }
  for (i = 0; i < THREADS; ++i)
    thread_join (&threads[i]);
  latency_read (l, LATENCY_COPY, &h);
  ck_assert_uint_eq (h.counts[0], THREADS * ROUNDS / 2);
  ck_assert_uint_eq (h.counts[3], THREADS * ROUNDS / 2);
  ck_assert_uint_eq (h.sum_ns, UINT64_C (5000) * THREADS * ROUNDS / 2);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("latency");
  TCase *tc = tcase_create ("latency");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, limits_belong_to_their_bucket);
  tcase_add_test (tc, kinds_are_apart);
  tcase_add_test (tc, no_thread_is_forgotten);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
