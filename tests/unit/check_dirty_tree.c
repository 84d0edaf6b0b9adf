/* SPDX-License-Identifier: BSD-3-Clause */
/* The dirty bitmap on large disks and when memory is short.
 *
 * The model is a sorted list of runs of granules, none touching another.
 * Places are taken near the edges of what the slots of each level of the
 * tree stand for, so that nodes come, go and collapse at all levels.
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
#include "tree.h"

#define GRANULE 512             /* bytes */
#define MAX_RUNS 300

struct list {
  struct range run[MAX_RUNS];   /* granules */
  unsigned n;
};

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

static void
list_add (struct list *l, uint64_t lo, uint64_t hi)
{
  if (lo >= hi)
    return;
  if (l->n > 0 && l->run[l->n - 1].end == lo) {
    l->run[l->n - 1].end = hi;
    return;
  }
  if (l->n == MAX_RUNS)
    ck_abort_msg ("more than %d runs", MAX_RUNS);
  l->run[l->n++] = (struct range) { lo, hi };
}

static void
list_assign (struct list *l, uint64_t lo, uint64_t hi, bool dirty)
{
  struct list old = *l;
  bool done = !dirty;
  unsigned i;

  l->n = 0;
  for (i = 0; i < old.n; i++) {
    list_add (l, old.run[i].start, min (old.run[i].end, lo));
    if (!done && old.run[i].end > lo) {
      list_add (l, lo, hi);
      done = true;
    }
    list_add (l, old.run[i].start > hi ? old.run[i].start : hi,
              old.run[i].end);
  }
  if (!done)
    list_add (l, lo, hi);
}

static uint64_t
list_granules (const struct list *l)
{
  uint64_t n = 0;
  unsigned i;

  for (i = 0; i < l->n; i++)
    n += range_len (l->run[i]);
  return n;
}

static bool
list_equal (const struct list *a, const struct list *b)
{
  return a->n == b->n && memcmp (a->run, b->run, a->n * sizeof a->run[0]) == 0;
}

/* Is everything in a also in b? */
static bool
list_subset (const struct list *a, const struct list *b)
{
  unsigned i, j = 0;

  for (i = 0; i < a->n; i++) {
    while (j < b->n && b->run[j].end < a->run[i].end)
      j++;
    if (j == b->n || b->run[j].start > a->run[i].start)
      return false;
  }
  return true;
}

/* The contents of the bitmap; checks everything else on the way. */
static struct list
list_of (struct dirty *d, uint64_t size, struct reasons *reasons,
         unsigned claims)
{
  struct list l = { .n = 0 };
  struct range run;
  uint64_t from = 0, bytes = 0, got, claimed;

  /* (Each ck_assert that holds costs a system call: none in this loop.) */
  while (dirty_next (d, from, UINT64_MAX, &run)) {
    if (l.n == MAX_RUNS || run.start < from || run.start >= run.end ||
        run.start % GRANULE != 0 ||
        (run.end % GRANULE != 0 && run.end != size))
      ck_abort_msg ("run %u is bad", l.n);
    l.run[l.n].start = run.start / GRANULE;
    l.run[l.n++].end = (run.end + GRANULE - 1) / GRANULE;
    bytes += range_len (run);
    from = run.end;
  }
  dirty_bytes (d, &got, &claimed);
  ck_assert_uint_eq (got, bytes);
  ck_assert ((claims == 0) == (claimed == 0));
  if (reasons)
    ck_assert_uint_eq (reasons_count (atomic_load (&reasons->n)),
                       list_granules (&l) + claims);
  dirty_check (d);
  return l;
}

/* A place near an edge of some level's slots, or the end of the disk. */
static uint64_t
edge (uint64_t n)
{
  static const unsigned shift[] = { 0, 6, 15, 24, 33, 42, 51 };
  unsigned s = shift[rnd (7)];
  uint64_t g = (rnd (n + 1) >> s << s) + rnd (5);

  if (rnd (8) == 0)
    return n - min (n, rnd (3));
  return g < 2 ? 0 : min (g - 2, n);
}

static struct range
deep_range (uint64_t n)
{
  static const unsigned shift[] = { 0, 6, 15, 24, 33, 42, 51 };
  struct range r = { edge (n), edge (n) };
  uint64_t t = r.start;

  if (rnd (4) > 0)
    r.end = min (n, r.start + (UINT64_C (1) << shift[rnd (7)]) + rnd (3));
  else if (r.end < t) {
    r.start = r.end;
    r.end = t;
  }
  return r;
}

static struct range
to_bytes (struct range r, uint64_t size)
{
  return (struct range) { min (r.start * GRANULE, size),
                          min (r.end * GRANULE, size) };
}

/* Memory follows the edges of what is dirty: at most one node of each level
 * at each of them.
 */
static void
check_memory (struct dirty *d, const struct list *l, size_t handle)
{
  ck_assert_uint_le (dirty_memory (d), handle + l->n * 2 * 6 * 4500);
}

/* Move a few new runs from one bitmap, which is empty, to the other. */
static void
deep_move (struct dirty *from, struct dirty *to, uint64_t size,
           struct list *model)
{
  uint64_t n = (size + GRANULE - 1) / GRANULE;
  struct range r;
  struct list l;
  unsigned i;

  for (i = 0; i < 4; i++) {
    r = deep_range (n);
    dirty_set (from, to_bytes (r, size));
    if (r.start < r.end)
      list_assign (model, r.start, r.end, true);
  }
  dirty_move (from, to);
  if (rnd (2)) {
    dirty_set (from, to_bytes (deep_range (n), size));
    dirty_clear_all (from);
  }
  l = list_of (from, size, NULL, 0);
  ck_assert_uint_eq (l.n, 0);
}

START_TEST (deep_trees)
{
  static const uint64_t sizes[] = {
    INT64_MAX, UINT64_C (1) << 62, (UINT64_C (1) << 33) + 1,
    (UINT64_C (1) << 33) - 1, (UINT64_C (1) << 46) + 700,
  };
  uint64_t size = sizes[_i], n = (size + GRANULE - 1) / GRANULE, bytes;
  struct reasons reasons;
  struct dirty *d, *from;
  struct list model = { .n = 0 }, l;
  struct range r;
  size_t handle;
  unsigned i;

  rnd_state = 362436069 + (uint64_t) _i;
  reasons_init (&reasons);
  d = dirty_new (size, GRANULE, &reasons);
  from = dirty_new (size, GRANULE, NULL);
  ck_assert (d != NULL && from != NULL);
  handle = dirty_memory (d);

  for (i = 0; i < 1500; i++) {
    r = deep_range (n);
    switch (rnd (model.n > 100 ? 3 : 5)) {
    case 0:
      if (rnd (20) == 0) {
        dirty_set_all (d);
        list_assign (&model, 0, n, true);
      }
      break;
    case 1: case 2:
      if (rnd (40) == 0)
        r = (struct range) { 0, n };
      bytes = dirty_claim_inner (d, to_bytes (r, size));
      list_assign (&model, r.start, r.end, false);
      if (bytes > 0)
        dirty_end_claim (d, bytes);
      break;
    case 3:
      dirty_set (d, to_bytes (r, size));
      if (r.start < r.end)
        list_assign (&model, r.start, r.end, true);
      break;
    case 4:
      deep_move (from, d, size, &model);
      ck_assert_uint_eq (dirty_memory (from), handle);
      break;
    }
    l = list_of (d, size, &reasons, 0);
    ck_assert (list_equal (&l, &model));
    check_memory (d, &l, handle);
  }

  dirty_set_all (d);
  ck_assert_uint_eq (dirty_memory (d), handle);
  ck_assert_uint_eq (dirty_claim_inner (d, (struct range) { 0, size }), size);
  ck_assert_uint_eq (dirty_memory (d), handle);
  dirty_free (from);
  dirty_free (d);
}
END_TEST

/* Shortage of memory: allocation number fail_at fails, and if `for_good` all
 * after it.
 */
static unsigned long allocations, fail_at;
static bool for_good;

static void *
failing_alloc (size_t size)
{
  allocations++;
  if (for_good ? allocations >= fail_at : allocations == fail_at)
    return NULL;
  return calloc (1, size);
}

struct short_world {
  uint64_t size, n;
  struct reasons reasons;
  struct dirty *d;
  struct list before;
  unsigned claims;
};

/* More may be dirty than was asked, nothing less. */
static void
short_set (struct short_world *w, struct range r)
{
  struct list least = w->before, after;

  dirty_set (w->d, to_bytes (r, w->size));
  if (r.start < r.end)
    list_assign (&least, r.start, r.end, true);
  after = list_of (w->d, w->size, &w->reasons, w->claims);
  ck_assert (list_subset (&least, &after));
  w->before = after;
}

/* Less may be cleared than was asked, and nothing else; what was cleared is
 * what the caller is told.
 */
static void
short_claim (struct short_world *w, struct range r, bool one_run)
{
  struct list least = w->before, after, rest;
  struct range b = to_bytes (r, w->size), run;
  uint64_t bytes, dirty[2], claimed[2];
  bool got;

  list_assign (&least, r.start, r.end, false);
  dirty_bytes (w->d, &dirty[0], &claimed[0]);
  if (one_run) {
    got = dirty_claim_run (w->d, b, &run);
    bytes = got ? range_len (run) : 0;
  }
  else
    bytes = dirty_claim_inner (w->d, b);
  if (bytes > 0)
    w->claims++;
  dirty_bytes (w->d, &dirty[1], &claimed[1]);
  ck_assert_uint_eq (dirty[0] - dirty[1], bytes);
  ck_assert_uint_eq (claimed[1] - claimed[0], bytes);
  after = list_of (w->d, w->size, &w->reasons, w->claims);
  ck_assert (list_subset (&least, &after));
  ck_assert (list_subset (&after, &w->before));
  if (one_run && bytes > 0) {
    /* The run was dirty, all of it, and nothing else was cleared. */
    rest = after;
    list_assign (&rest, run.start / GRANULE,
                 (run.end + GRANULE - 1) / GRANULE, true);
    ck_assert (list_equal (&rest, &w->before));
    ck_assert (!dirty_any (w->d, run));
  }
  if (bytes > 0) {
    dirty_end_claim (w->d, bytes);
    w->claims--;
  }
  w->before = after;
}

static void
short_move (struct short_world *w)
{
  struct dirty *from = dirty_new (w->size, GRANULE, NULL);
  struct list all = w->before, moved;
  unsigned i;

  if (from == NULL)
    return;
  for (i = 0; i < 3; i++)
    dirty_set (from, to_bytes (deep_range (w->n), w->size));
  moved = list_of (from, w->size, NULL, 0);
  dirty_move (from, w->d);
  for (i = 0; i < moved.n; i++)
    list_assign (&all, moved.run[i].start, moved.run[i].end, true);
  w->before = list_of (w->d, w->size, &w->reasons, w->claims);
  ck_assert (list_equal (&all, &w->before));
  moved = list_of (from, w->size, NULL, 0);
  ck_assert_uint_eq (moved.n, 0);
  dirty_free (from);
}

/* Some operations, always the same for one seed. */
static void
short_script (uint64_t size, uint64_t seed)
{
  struct short_world w = { .size = size };
  struct range r;
  unsigned i;

  rnd_state = seed;
  w.n = (size + GRANULE - 1) / GRANULE;
  reasons_init (&w.reasons);
  w.d = dirty_new (size, GRANULE, &w.reasons);
  if (w.d == NULL)
    return;
  for (i = 0; i < 30; i++) {
    r = deep_range (w.n);
    switch (rnd (6)) {
    case 0:
      short_set (&w, (struct range) { 0, w.n });
      break;
    case 1: case 2:
      short_set (&w, r);
      break;
    case 3: case 4:
      short_claim (&w, r, rnd (2));
      break;
    case 5:
      short_move (&w);
      break;
    }
  }
  dirty_free (w.d);
}

START_TEST (every_allocation_fails_once)
{
  static const uint64_t sizes[] = {
    INT64_MAX, (UINT64_C (1) << 33) + 1, 100000 * GRANULE - 1,
    32769 * GRANULE, 20000 * GRANULE,
  };
  uint64_t size = sizes[_i], seed;

  dirty_test_alloc = failing_alloc;
  for (seed = 1; seed <= 4; seed++)
    for (for_good = false; ; for_good = true) {
      fail_at = 0;
      do {
        fail_at++;
        allocations = 0;
        short_script (size, seed * 1000003);
      } while (allocations >= fail_at);
      ck_assert_uint_gt (fail_at, 2);
      if (for_good)
        break;
    }
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("dirty tree");
  TCase *tc = tcase_create ("dirty tree");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 300);
  tcase_add_loop_test (tc, deep_trees, 0, 5);
  tcase_add_loop_test (tc, every_allocation_fails_once, 0, 5);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
