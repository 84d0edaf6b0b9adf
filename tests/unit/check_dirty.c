/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty bitmap against a shadow array, on small disks.
 *
 * The array has one byte for each granule and is changed and rounded by the
 * definition ("touches", "lies wholly inside"), not by range.h.  After every
 * operation the whole contents, the bytes dirty and claimed and the number
 * of reasons are compared, and dirty_check is called.
 */

#include <config.h>

/* The code tested is full of assertions, and they are tested too. */
#undef NDEBUG

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dirty.h"

#define MAX_CLAIMS 8

/* xorshift64*: the same on every machine. */
static uint64_t rnd_state;

static uint64_t
rnd (uint64_t below)
{
  rnd_state ^= rnd_state >> 12;
  rnd_state ^= rnd_state << 25;
  rnd_state ^= rnd_state >> 27;
  return (rnd_state * UINT64_C (0x2545f4914f6cdd1d) >> 1) % below;
}

static uint64_t
min (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

struct world {
  uint64_t size, granularity, n;
  uint8_t *dirty;               /* the model: n granules */
  struct dirty *d;
  struct reasons reasons;
  struct range claim[MAX_CLAIMS];
  uint64_t claim_bytes[MAX_CLAIMS], claimed;
  unsigned claims;
};

static struct range
granule (struct world *w, uint64_t i)
{
  return (struct range) { i * w->granularity,
                          min ((i + 1) * w->granularity, w->size) };
}

static bool
touches (struct world *w, uint64_t i, struct range r)
{
  struct range g = granule (w, i);

  return r.start < r.end && g.start < r.end && r.start < g.end;
}

static bool
inside (struct world *w, uint64_t i, struct range r)
{
  struct range g = granule (w, i);

  return r.start <= g.start && g.end <= r.end;
}

static void
world_init (struct world *w, uint64_t size, uint64_t granularity)
{
  memset (w, 0, sizeof *w);
  w->size = size;
  w->granularity = granularity;
  w->n = (size + granularity - 1) / granularity;
  w->dirty = calloc (w->n + 1, 1);      /* a clean one behind the end */
  ck_assert_ptr_nonnull (w->dirty);
  reasons_init (&w->reasons);
  w->d = dirty_new (size, granularity, &w->reasons);
  ck_assert_ptr_nonnull (w->d);
}

static void
world_free (struct world *w)
{
  dirty_free (w->d);
  free (w->dirty);
}

/* (Each ck_assert that holds costs a system call: none in inner loops.) */
static void
compare_contents (struct world *w, struct dirty *d, const uint8_t *dirty)
{
  uint64_t i = 0, from = 0, bytes = 0, got, claimed;
  struct range run;
  bool good = true;

  while (dirty_next (d, from, UINT64_MAX, &run)) {
    for (; i < w->n && granule (w, i).start < run.start; i++)
      good &= !dirty[i];
    good &= i < w->n && granule (w, i).start == run.start;
    for (; i < w->n && granule (w, i).start < run.end; i++)
      good &= dirty[i];
    good &= i > 0 && granule (w, i - 1).end == run.end;
    good &= !dirty[i];                  /* as long as it can be */
    ck_assert (good);
    bytes += range_len (run);
    from = run.end;
  }
  for (; i < w->n; i++)
    good &= !dirty[i];
  ck_assert (good);
  dirty_bytes (d, &got, &claimed);
  ck_assert_uint_eq (got, bytes);
  dirty_check (d);
}

static void
compare (struct world *w)
{
  uint64_t i, n = w->claims, dirty, claimed;

  compare_contents (w, w->d, w->dirty);
  for (i = 0; i < w->n; i++)
    n += w->dirty[i];
  ck_assert_uint_eq (reasons_count (atomic_load (&w->reasons.n)), n);
  dirty_bytes (w->d, &dirty, &claimed);
  ck_assert_uint_eq (claimed, w->claimed);
}

/* Any range of bytes, often a short one, an aligned one, one to the end. */
static struct range
any_range (struct world *w)
{
  struct range r = { rnd (w->size + 1), rnd (w->size + 1) };
  uint64_t t;

  if (r.start > r.end) {
    t = r.start;
    r.start = r.end;
    r.end = t;
  }
  if (rnd (2))
    r.end = min (w->size, r.start + rnd (5 * w->granularity));
  if (rnd (2))
    r.start -= r.start % w->granularity;
  if (rnd (2))
    r.end = min (w->size, (r.end + w->granularity - 1) / w->granularity *
                 w->granularity);
  if (rnd (6) == 0)
    r.end = w->size;
  return r;
}

static void
model_set (struct world *w, uint8_t *dirty, struct range r)
{
  uint64_t i;

  for (i = 0; i < w->n; i++)
    dirty[i] |= touches (w, i, r);
}

static void
model_claim (struct world *w, struct range r, uint64_t bytes)
{
  w->claim[w->claims] = r;
  w->claim_bytes[w->claims++] = bytes;
  w->claimed += bytes;
}

static void
op_claim_inner (struct world *w)
{
  struct range r = any_range (w);
  uint64_t i, bytes = 0, breaks = reasons_breaks (&w->reasons);

  for (i = 0; i < w->n; i++)
    if (w->dirty[i] && inside (w, i, r)) {
      w->dirty[i] = 0;
      bytes += range_len (granule (w, i));
    }
  ck_assert_uint_eq (dirty_claim_inner (w->d, r), bytes);
  if (bytes > 0)
    model_claim (w, r, bytes);
  ck_assert_uint_eq (reasons_breaks (&w->reasons), breaks);
}

static void
op_claim_run (struct world *w)
{
  struct range r = any_range (w), run, expect;
  uint64_t i;

  r.start -= r.start % w->granularity;
  if (r.end < w->size)
    r.end -= r.end % w->granularity;
  if (r.end < r.start)
    r.end = r.start;
  for (i = 0; i < w->n && !(w->dirty[i] && inside (w, i, r)); i++)
    ;
  if (i == w->n) {
    ck_assert (!dirty_claim_run (w->d, r, &run));
    return;
  }
  expect = granule (w, i);
  for (; i < w->n && w->dirty[i] && inside (w, i, r); i++) {
    w->dirty[i] = 0;
    expect.end = granule (w, i).end;
  }
  ck_assert (dirty_claim_run (w->d, r, &run));
  ck_assert_uint_eq (run.start, expect.start);
  ck_assert_uint_eq (run.end, expect.end);
  model_claim (w, run, range_len (run));
}

/* The work of a claim ends, well or badly. */
static void
op_end_claim (struct world *w)
{
  unsigned i = (unsigned) rnd (w->claims);

  if (rnd (2)) {
    dirty_set (w->d, w->claim[i]);
    model_set (w, w->dirty, w->claim[i]);
    compare (w);
  }
  dirty_end_claim (w->d, w->claim_bytes[i]);
  w->claimed -= w->claim_bytes[i];
  w->claims--;
  w->claim[i] = w->claim[w->claims];
  w->claim_bytes[i] = w->claim_bytes[w->claims];
}

/* A second bitmap is moved into the first, or cleared. */
static void
op_second (struct world *w)
{
  struct dirty *from = dirty_new (w->size, w->granularity, NULL);
  uint8_t *dirty = calloc (w->n + 1, 1);
  uint64_t i, n = rnd (20);
  struct range r;

  ck_assert (from != NULL && dirty != NULL);
  while (n-- > 0) {
    r = any_range (w);
    dirty_set (from, r);
    model_set (w, dirty, r);
  }
  compare_contents (w, from, dirty);
  if (rnd (4) == 0)
    dirty_clear_all (from);
  else {
    dirty_move (from, w->d);
    for (i = 0; i < w->n; i++)
      w->dirty[i] |= dirty[i];
  }
  memset (dirty, 0, w->n);
  compare_contents (w, from, dirty);
  dirty_free (from);
  free (dirty);
}

static void
op_look (struct world *w)
{
  uint64_t from = rnd (w->size + w->granularity);
  uint64_t max = rnd (2) ? rnd (4 * w->granularity) : rnd (w->size + 1);
  uint64_t max_granules = max / w->granularity, i;
  struct range r = any_range (w), run = { 0, 0 }, expect = { 0, 0 };
  bool any = false, all = true;

  for (i = 0; i < w->n; i++)
    if (touches (w, i, r)) {
      any |= w->dirty[i];
      all &= w->dirty[i];
    }
  ck_assert (dirty_any (w->d, r) == any);
  if (!range_empty (r))
    ck_assert (dirty_all (w->d, r) == all);

  if (max_granules == 0)
    max_granules = 1;
  for (i = from / w->granularity; i < w->n && !w->dirty[i]; i++)
    ;
  if (i < w->n && from < w->size) {
    expect = granule (w, i);
    for (; i < w->n && w->dirty[i] && max_granules > 0; i++, max_granules--)
      expect.end = granule (w, i).end;
  }
  ck_assert (dirty_next (w->d, from, max, &run) == !range_empty (expect));
  ck_assert_uint_eq (run.start, expect.start);
  ck_assert_uint_eq (run.end, expect.end);
}

static void
random_op (struct world *w)
{
  struct range r;

  switch (rnd (8)) {
  case 0: case 1: case 2:
    r = any_range (w);
    dirty_set (w->d, r);
    model_set (w, w->dirty, r);
    break;
  case 3:
    if (rnd (10) == 0) {
      dirty_set_all (w->d);
      memset (w->dirty, 1, w->n);
    }
    break;
  case 4:
    if (w->claims < MAX_CLAIMS)
      op_claim_inner (w);
    break;
  case 5:
    if (w->claims < MAX_CLAIMS)
      op_claim_run (w);
    break;
  case 6:
    if (w->claims > 0)
      op_end_claim (w);
    break;
  case 7:
    op_second (w);
    break;
  }
  op_look (w);
}

/* Sizes in granules: one slot, one leaf, several leaves, and their edges. */
static const struct {
  uint64_t n;
  unsigned ops;
} small[] = {
  { 0, 100 }, { 1, 1000 }, { 2, 1000 }, { 63, 5000 }, { 64, 5000 },
  { 65, 5000 }, { 300, 5000 }, { 4097, 500 }, { 32767, 100 },
  { 32768, 100 }, { 32769, 100 }, { 70000, 100 },
};
#define N_SMALL ((int) (sizeof small / sizeof small[0]))

START_TEST (small_disks)
{
  static const uint64_t granularity[] = { 512, 4096, 65536, 64 << 20 };
  struct world w;
  uint64_t size, g;
  unsigned i, partial;

  rnd_state = 88172645463325252 + (uint64_t) _i;
  for (partial = 0; partial < 2; partial++) {
    g = granularity[rnd (4)];
    size = small[_i].n * g;
    if (partial && size > 0)
      size -= 1 + rnd (g - 1);
    world_init (&w, size, g);
    for (i = 0; i < small[_i].ops; i++) {
      random_op (&w);
      compare (&w);
    }
    world_free (&w);
  }
}
END_TEST

/* The examples below are what the header says, one sentence each. */

#define G UINT64_C (65536)

START_TEST (marking_rounds_outward_clearing_inward)
{
  struct dirty *d = dirty_new (10 * G, G, NULL);
  struct range run;

  dirty_set (d, (struct range) { 3 * G - 1, 5 * G + 1 });
  ck_assert (dirty_next (d, 0, UINT64_MAX, &run));
  ck_assert_uint_eq (run.start, 2 * G);
  ck_assert_uint_eq (run.end, 6 * G);
  ck_assert_uint_eq (dirty_claim_inner (d, (struct range)
                                        { 2 * G + 1, 6 * G - 1 }), 2 * G);
  ck_assert (dirty_any (d, (struct range) { 3 * G - 1, 3 * G }));
  ck_assert (!dirty_any (d, (struct range) { 3 * G, 5 * G }));
  ck_assert (dirty_any (d, (struct range) { 5 * G, 5 * G + 1 }));
  dirty_free (d);
}
END_TEST

START_TEST (last_granule_is_whole)
{
  const uint64_t size = 9 * G + 1;
  struct dirty *d = dirty_new (size, G, NULL);
  struct range run;
  uint64_t dirty, claimed;

  dirty_set (d, (struct range) { 9 * G, size });
  dirty_bytes (d, &dirty, &claimed);
  ck_assert_uint_eq (dirty, 1);
  ck_assert (dirty_next (d, size - 1, 1, &run));
  ck_assert_uint_eq (run.start, 9 * G);
  ck_assert_uint_eq (run.end, size);
  ck_assert (!dirty_next (d, size, UINT64_MAX, &run));
  ck_assert_uint_eq (dirty_claim_inner (d, (struct range) { 9 * G, size }), 1);
  dirty_bytes (d, &dirty, &claimed);
  ck_assert_uint_eq (dirty, 0);
  ck_assert_uint_eq (claimed, 1);
  dirty_end_claim (d, 1);
  dirty_bytes (d, &dirty, &claimed);
  ck_assert_uint_eq (claimed, 0);
  dirty_free (d);
}
END_TEST

START_TEST (an_empty_range_does_nothing)
{
  struct dirty *d = dirty_new (10 * G, G, NULL);
  struct range r = { 5, 5 }, run;

  dirty_set (d, r);
  ck_assert (!dirty_next (d, 0, UINT64_MAX, &run));
  dirty_set_all (d);
  ck_assert (!dirty_any (d, r));
  ck_assert_uint_eq (dirty_claim_inner (d, r), 0);
  r.start = r.end = 10 * G;
  ck_assert_uint_eq (dirty_claim_inner (d, r), 0);
  ck_assert (!dirty_claim_run (d, r, &run));
  dirty_free (d);
}
END_TEST

/* A request that clears nothing does not break *synced*. */
START_TEST (nothing_to_claim_is_no_reason)
{
  struct reasons reasons;
  struct dirty *d;
  struct range run;

  reasons_init (&reasons);
  d = dirty_new (10 * G, G, &reasons);
  dirty_set (d, (struct range) { 0, 1 });
  ck_assert_uint_eq (reasons_breaks (&reasons), 1);
  ck_assert_uint_eq (dirty_claim_inner (d, (struct range) { 0, G }), G);
  dirty_end_claim (d, G);
  ck_assert (reasons_none (&reasons, true));
  ck_assert_uint_eq (dirty_claim_inner (d, (struct range) { 0, 10 * G }), 0);
  ck_assert (!dirty_claim_run (d, (struct range) { 0, 10 * G }, &run));
  ck_assert_uint_eq (reasons_breaks (&reasons), 1);
  dirty_free (d);
}
END_TEST

static void
expect_counts (struct dirty *d, uint64_t dirty, uint64_t claimed,
               uint64_t done, uint64_t unknown)
{
  struct dirty_counts c;

  dirty_count (d, &c);
  ck_assert_uint_eq (c.dirty, dirty);
  ck_assert_uint_eq (c.claimed, claimed);
  ck_assert_uint_eq (c.done, done);
  ck_assert_uint_eq (c.unknown, unknown);
}

/* From a disk of which nothing is known to one that is all copied. */
START_TEST (what_is_known)
{
  struct dirty *d = dirty_new (4 * 512 + 100, 512, NULL);
  struct range run;

  dirty_set_unknown (d, 4 * 512 + 100);
  expect_counts (d, 0, 0, 0, 2148);
  dirty_learn (d, (struct range) { 0, 700 }, true);
  expect_counts (d, 1024, 0, 0, 1448);
  dirty_learn (d, (struct range) { 700, 2000 }, false);
  expect_counts (d, 1024, 0, 0, 148);
  dirty_learn (d, (struct range) { 2000, 2148 }, true);
  expect_counts (d, 1024 + 512 + 100, 0, 0, 0);
  ck_assert (dirty_claim_run (d, (struct range) { 0, 2048 }, &run));
  expect_counts (d, 612, 1024, 0, 0);
  dirty_end_claim_well (d, 1024);
  expect_counts (d, 612, 0, 1024, 0);
  ck_assert (dirty_claim_run (d, (struct range) { 1536, 2148 }, &run));
  dirty_end_claim (d, 612);
  expect_counts (d, 0, 0, 1024, 0);
  dirty_check (d);
  dirty_free (d);
}
END_TEST

START_TEST (freeing_nothing)
{
  dirty_free (NULL);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("dirty");
  TCase *tc = tcase_create ("dirty");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 300);
  tcase_add_test (tc, marking_rounds_outward_clearing_inward);
  tcase_add_test (tc, last_granule_is_whole);
  tcase_add_test (tc, what_is_known);
  tcase_add_test (tc, an_empty_range_does_nothing);
  tcase_add_test (tc, nothing_to_claim_is_no_reason);
  tcase_add_test (tc, freeing_nothing);
  tcase_add_loop_test (tc, small_disks, 0, N_SMALL);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
