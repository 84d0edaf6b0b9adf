/* SPDX-License-Identifier: BSD-3-Clause */
/* range.h against brute force: all alignments of small numbers. */

#include <config.h>

/* The functions' own assertions are part of what is tested. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "range.h"

#define MAX_SIZE 21             /* some granules of each granularity below */

static const uint64_t granularities[] = { 1, 2, 4, 8, 16 };

/* Granule i of a disk, cut at its end: the definition. */
static struct range
granule (uint64_t i, uint64_t granularity, uint64_t size)
{
  struct range g = { i * granularity, (i + 1) * granularity };

  if (g.end > size)
    g.end = size;
  return g;
}

/* Bytes that r and g have in common, by counting them. */
static uint64_t
common_bytes (struct range r, struct range g)
{
  uint64_t b, n = 0;

  for (b = r.start; b < r.end; b++)
    n += g.start <= b && b < g.end;
  return n;
}

static void
check_one (struct range r, uint64_t granularity, uint64_t size)
{
  struct range o = range_outer (r, granularity, size);
  struct range in = range_inner (r, granularity, size);
  struct range g;
  uint64_t i, n, granules = (size + granularity - 1) / granularity;

  ck_assert_uint_le (o.end, size);
  ck_assert_uint_le (in.start, in.end);
  ck_assert_uint_le (o.start, r.start);
  ck_assert_uint_ge (o.end, r.end);
  ck_assert (range_empty (in) ||
             (in.start >= r.start && in.end <= r.end));

  for (i = 0; i < granules; i++) {
    g = granule (i, granularity, size);
    n = common_bytes (r, g);
    /* The granule around an empty range is nothing to rely on. */
    if (!range_empty (r))
      ck_assert_msg (common_bytes (o, g) == (n > 0 ? range_len (g) : 0),
                     "outer [%d, %d) granule %d/%d of %d", (int) r.start,
                     (int) r.end, (int) i, (int) granularity, (int) size);
    ck_assert_msg (common_bytes (in, g) ==
                   (n == range_len (g) ? range_len (g) : 0),
                   "inner [%d, %d) granule %d/%d of %d", (int) r.start,
                   (int) r.end, (int) i, (int) granularity, (int) size);
  }
}

START_TEST (inner_and_outer)
{
  uint64_t granularity = granularities[_i], size;
  struct range r;

  for (size = 0; size <= MAX_SIZE; size++)
    for (r.start = 0; r.start <= size; r.start++)
      for (r.end = r.start; r.end <= size; r.end++)
        check_one (r, granularity, size);
}
END_TEST

START_TEST (largest_disk)
{
  const uint64_t size = INT64_MAX;
  struct range r = { size - 1, size }, q;

  q = range_outer (r, 512, size);
  ck_assert_uint_eq (q.start, size - 511);
  ck_assert_uint_eq (q.end, size);
  q = range_inner (r, 512, size);
  ck_assert (range_empty (q));
  r.start = size - 511;
  q = range_inner (r, 512, size);
  ck_assert_uint_eq (q.start, size - 511);
  ck_assert_uint_eq (q.end, size);
}
END_TEST

START_TEST (rounding)
{
  uint64_t align = granularities[_i], v, down;

  for (v = 0; v <= 4 * align; v++) {
    for (down = 0; down + align <= v; down += align)
      ;
    ck_assert_uint_eq (round_down_p2 (v, align), down);
    ck_assert_uint_eq (round_up_p2 (v, align),
                       down == v ? v : down + align);
  }
}
END_TEST

START_TEST (powers_of_2)
{
  unsigned i;

  ck_assert (!is_power_of_2 (0));
  for (i = 0; i < 64; i++)
    ck_assert (is_power_of_2 (UINT64_C (1) << i));
  for (i = 2; i < 64; i++) {
    ck_assert (!is_power_of_2 ((UINT64_C (1) << i) - 1));
    ck_assert (!is_power_of_2 ((UINT64_C (1) << i) + 1));
  }
}
END_TEST

START_TEST (overlap_and_length)
{
  struct range a, b;

  for (a.start = 0; a.start < 6; a.start++)
    for (a.end = a.start + 1; a.end <= 6; a.end++)
      for (b.start = 0; b.start < 6; b.start++)
        for (b.end = b.start + 1; b.end <= 6; b.end++) {
          ck_assert (range_overlap (a, b) == (common_bytes (a, b) > 0));
          ck_assert (range_overlap (a, b) == range_overlap (b, a));
          ck_assert_uint_eq (common_bytes (a, a), range_len (a));
          ck_assert (!range_empty (a));
        }
  a.start = a.end;
  ck_assert (range_empty (a));
  ck_assert_uint_eq (range_len (a), 0);
}
END_TEST

int
main (void)
{
  const int n = sizeof granularities / sizeof granularities[0];
  Suite *suite = suite_create ("range");
  TCase *tc = tcase_create ("range");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 60);
  tcase_add_loop_test (tc, inner_and_outer, 0, n);
  tcase_add_loop_test (tc, rounding, 0, n);
  tcase_add_test (tc, largest_disk);
  tcase_add_test (tc, powers_of_2);
  tcase_add_test (tc, overlap_and_length);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
