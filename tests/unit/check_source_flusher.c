/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the source, and what they prove: V (rules I2, I3; hole H18).
 * What is in V is seen when a flush fails: it is told to be lost.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "source-flusher.h"

#define GRAN UINT64_C (512)
#define GRANULES 64u
#define SIZE (GRAN * GRANULES - 100)    /* the last granule is short */

/* A source that can only flush. */
static struct {
  struct source source;         /* first */
  struct mutex lock;
  struct cond changed;

  /* Protected by lock. */
  int result;
  bool block;                   /* flushes wait until it is false */
  unsigned flushes, blocked;
} src;

static struct source_flusher *f;

/* What has been told to be lost: protected by src.lock. */
static bool told[GRANULES];
static bool block_lost;
static bool ask_again;          /* lost calls; constant while it may be */
static unsigned in_lost;

static int
src_flush (struct source *source)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&src.lock);
  int r = src.result;

  ck_assert_ptr_eq (source, &src.source);
  src.flushes++;
  src.blocked++;
  cond_broadcast (&src.changed);
  while (src.block)
    cond_wait (&src.changed, &src.lock);
  src.blocked--;
  return r;
}

static const struct source_ops src_ops = { .flush = src_flush };

static struct range
granules (unsigned first, unsigned n)
{
  struct range r = { first * GRAN, (first + n) * GRAN };

  if (r.end > SIZE)
    r.end = SIZE;
  return r;
}

static void
lost (void *opaque, struct dirty *v)
{
  struct range r = { 0, 0 };
  uint64_t i;

  (void) opaque;
  if (ask_again)
    source_flusher_acked (f, granules (9, 1), source_flusher_stamp (f));
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&src.lock);
  while (dirty_next (v, r.end, UINT64_MAX, &r))
    for (i = r.start / GRAN; i * GRAN < r.end; ++i)
      told[i] = true;
  in_lost++;
  cond_broadcast (&src.changed);
  while (block_lost)
    cond_wait (&src.changed, &src.lock);
  in_lost--;
}

/* A change with FUA that fails. */
static void
fail_fua (void)
{
  source_flusher_end_fua (f, source_flusher_begin_fua (f), true);
}

static void
setup (void)
{
  memset (&src, 0, sizeof src);
  src.source.ops = &src_ops;
  src.source.can_flush = true;
  mutex_init (&src.lock);
  cond_init (&src.changed);
  memset (told, 0, sizeof told);
  ask_again = false;
  f = source_flusher_new (SIZE, GRAN, lost, NULL);
  ck_assert_ptr_nonnull (f);
}

static void
teardown (void)
{
  source_flusher_free (f);
  cond_destroy (&src.changed);
  mutex_destroy (&src.lock);
}

static int
flush (int result)
{
  src.result = result;
  return source_flusher_flush (f, &src.source);
}

/* Everything is flushed. */
static void
setup_flushed (void)
{
  setup ();
  source_flusher_alone (f);
  ck_assert_int_eq (flush (0), 0);
}

static void
ack (unsigned granule)
{
  const uint64_t stamp = source_flusher_stamp (f);

  ck_assert_int_eq (source_flusher_acked (f, granules (granule, 1), stamp), 0);
}

/* How many have been told since the last call; only[] ends with GRANULES. */
static void
told_only (const unsigned *only)
{
  unsigned i;

  for (i = 0; i < GRANULES; ++i) {
    ck_assert_msg (told[i] == (i == *only), "granule %u", i);
    only += i == *only;
  }
  memset (told, 0, sizeof told);
}

#define TOLD(...)                                                       \
  told_only ((const unsigned []) { __VA_ARGS__ GRANULES })

static void
told_all (void)
{
  unsigned i;

  for (i = 0; i < GRANULES; ++i)
    ck_assert (told[i]);
  memset (told, 0, sizeof told);
}

START_TEST (nothing_is_known_at_first)
{
  ck_assert_int_eq (flush (-EIO), -EIO);
  told_all ();
}
END_TEST

/* As long as others change it a good flush proves nothing. */
START_TEST (not_alone)
{
  ck_assert_int_eq (flush (0), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  told_all ();
  source_flusher_alone (f);
  ck_assert_int_eq (flush (-EIO), -EIO);
  told_all ();
  ck_assert_int_eq (flush (0), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD ();
}
END_TEST

/* A resumed job knows what is in V, and is alone. */
START_TEST (emptied)
{
  source_flusher_empty (f);
  ack (7);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (7, );
  ck_assert_int_eq (flush (0), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD ();
}
END_TEST

START_TEST (a_good_flush_covers)
{
  ack (3);
  ck_assert_int_eq (flush (0), 0);
  TOLD ();
  ack (5);
  ck_assert_int_eq (flush (-ENOSPC), -ENOSPC);
  TOLD (5, );
}
END_TEST

/* Rounded outward, and to the end of the disk. */
START_TEST (rounded_outward)
{
  const struct range r = { 4 * GRAN - 1, 5 * GRAN + 1 };
  const uint64_t stamp = source_flusher_stamp (f);

  ck_assert_int_eq (source_flusher_acked (f, r, stamp), 0);
  ck_assert_int_eq (source_flusher_acked (f, (struct range) { SIZE - 1, SIZE },
                                          stamp), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (3, 4, 5, GRANULES - 1, );
}
END_TEST

/* What a flush that failed was about may be lost by the next one. */
START_TEST (a_failure_keeps_it)
{
  ack (3);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (3, );
  ack (4);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (3, 4, );
  ck_assert_int_eq (flush (0), 0);
  TOLD ();
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD ();
}
END_TEST

/* Submitted before the failure, acknowledged after it: nobody knows. */
START_TEST (a_failure_since_the_stamp)
{
  const uint64_t stamp = source_flusher_stamp (f);

  ck_assert_int_eq (flush (-EIO), -EIO);
  ck_assert_int_eq (source_flusher_acked (f, granules (7, 1), stamp), -EIO);
  ack (8);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (7, 8, );

  ck_assert_int_eq (flush (0), 0);
  ck_assert_int_eq (source_flusher_acked (f, granules (7, 1), stamp), -EIO);
  ack (9);
}
END_TEST

START_TEST (a_failed_fua)
{
  const uint64_t stamp = source_flusher_stamp (f);

  ack (1);
  ack (2);
  fail_fua ();
  TOLD (1, 2, );
  ck_assert_int_eq (source_flusher_acked (f, granules (7, 1), stamp), -EIO);
  fail_fua ();
  TOLD (1, 2, 7, );
  ck_assert_uint_eq (src.flushes, 1);
  ck_assert_int_eq (flush (0), 0);
  fail_fua ();
  TOLD ();
}
END_TEST

/* It is told without locks: who is told may call. */
START_TEST (lost_may_call)
{
  ask_again = true;
  ack (1);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (1, );
  fail_fua ();
  TOLD (1, 9, );
}
END_TEST

/*-- threads ------------------------------------------------------------*/

struct caller {
  struct thread thread;
  bool fua;                     /* fail_fua, else a flush */
  int result;
  _Atomic bool begun, done;
};

static void
caller_main (void *vp)
{
  struct caller *c = vp;

  atomic_store (&c->begun, true);
  if (c->fua)
    fail_fua ();
  else
    c->result = source_flusher_flush (f, &src.source);
  atomic_store (&c->done, true);
}

static void
start (struct caller *c, bool fua)
{
  memset (c, 0, sizeof *c);
  c->fua = fua;
  ck_assert_int_eq (thread_start (&c->thread, "caller", caller_main, c), 0);
}

/* It is in the call, as far as can be seen from here: so long that it would
 * have returned, if it did not wait.
 */
static void
let_run (struct caller *c)
{
  unsigned i;

  while (!atomic_load (&c->begun))
    sched_yield ();
  for (i = 0; i < 1000; ++i)
    sched_yield ();
}

static int
join (struct caller *c)
{
  thread_join (&c->thread);
  return c->result;
}

/* One that has not begun is not waited for, one that is in flight is: the flush
 * may be good because the other one has been told.
 */
START_TEST (a_fua_in_flight)
{
  unsigned first = source_flusher_begin_fua (f), second;
  struct caller c;

  ack (1);
  start (&c, false);
  let_run (&c);
  ck_assert (!atomic_load (&c.done));
  second = source_flusher_begin_fua (f);
  source_flusher_end_fua (f, first, true);
  ck_assert_int_eq (join (&c), 0);
  TOLD (1, );
  source_flusher_end_fua (f, second, false);

  /* It stayed in V, until a flush proves it. */
  ck_assert_int_eq (flush (0), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD ();
}
END_TEST

static void
wait_blocked (const unsigned *n)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&src.lock);

  while (*n == 0)
    cond_wait (&src.changed, &src.lock);
}

static void
set_block (bool *block, bool on, int result)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&src.lock);

  *block = on;
  src.result = result;
  cond_broadcast (&src.changed);
}

/* One that began before nobody else changed it proves nothing. */
START_TEST (alone_meanwhile)
{
  struct caller a;

  set_block (&src.block, true, 0);
  start (&a, false);
  wait_blocked (&src.blocked);
  source_flusher_alone (f);
  set_block (&src.block, false, 0);
  ck_assert_int_eq (join (&a), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  told_all ();
}
END_TEST

/* Acknowledged while a flush was under way: that one says nothing of it. */
START_TEST (a_flush_covers_what_was_before_it)
{
  struct caller a;

  ack (1);
  set_block (&src.block, true, 0);
  start (&a, false);
  wait_blocked (&src.blocked);
  ack (2);
  set_block (&src.block, false, 0);
  ck_assert_int_eq (join (&a), 0);
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (2, );
}
END_TEST

/* ... but if it fails it may be lost, too. */
START_TEST (all_of_it_is_lost)
{
  struct caller a;

  ack (1);
  set_block (&src.block, true, -EIO);
  start (&a, false);
  wait_blocked (&src.blocked);
  ack (2);
  set_block (&src.block, false, 0);
  ck_assert_int_eq (join (&a), -EIO);
  TOLD (1, 2, );
}
END_TEST

/* Who comes while one is in flight needs the next, and all of them one. */
START_TEST (the_next_one_is_shared)
{
  struct caller a, b[5];
  unsigned i;

  set_block (&src.block, true, 0);
  start (&a, false);
  wait_blocked (&src.blocked);
  for (i = 0; i < 5; ++i)
    start (&b[i], false);
  for (i = 0; i < 5; ++i)
    let_run (&b[i]);
  ack (1);
  set_block (&src.block, false, -EIO);  /* the next one fails */
  ck_assert_int_eq (join (&a), 0);
  for (i = 0; i < 5; ++i)
    ck_assert_int_eq (join (&b[i]), -EIO);
  /* One with the fixture's; somebody may not have got there in time. */
  ck_assert_uint_lt (src.flushes, 1 + 1 + 5);
  TOLD (1, );
}
END_TEST

/* A flush in flight may be good because the FUA has been told of the error. */
START_TEST (a_failed_fua_spoils_a_flush)
{
  struct caller a, b;

  ack (1);
  set_block (&src.block, true, 0);
  start (&a, false);
  wait_blocked (&src.blocked);
  ack (2);
  start (&b, true);
  let_run (&b);
  ck_assert (!atomic_load (&b.done));
  set_block (&src.block, false, 0);
  join (&b);
  TOLD (1, 2, );
  ck_assert_int_eq (join (&a), 0);
  ck_assert_int_eq (flush (0), 0);      /* this one is not spoilt */
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD ();
}
END_TEST

/* A FUA fails while V is being told to be lost already, because of a flush or
 * of another FUA: what was acknowledged since is lost, too.
 */
START_TEST (a_failed_fua_after_another_failure)
{
  struct caller a, b;

  ack (1);
  src.result = -EIO;
  set_block (&block_lost, true, -EIO);
  start (&a, _i);
  wait_blocked (&in_lost);
  ack (2);
  start (&b, true);
  let_run (&b);
  ck_assert (!atomic_load (&b.done));
  set_block (&block_lost, false, 0);
  join (&b);
  TOLD (1, 2, );
  join (&a);
  ck_assert_int_eq (flush (0), 0);
  TOLD ();
}
END_TEST

/* What is added while a failure is being told is not in what is told. */
START_TEST (added_while_losing)
{
  struct caller a;

  ck_assert (source_flusher_add (f, granules (1, 1)));
  set_block (&block_lost, true, -EIO);
  start (&a, false);
  wait_blocked (&in_lost);
  ck_assert (!source_flusher_add (f, granules (2, 1)));
  set_block (&block_lost, false, 0);
  join (&a);
  TOLD (1, );
  ck_assert (source_flusher_add (f, granules (3, 1)));
  ck_assert_int_eq (flush (-EIO), -EIO);
  TOLD (1, 2, 3, );
}
END_TEST

/* A disk whose cache is lost when a flush fails: who is not told must not have
 * lost anything.
 */
static struct {
  struct source source;         /* first */
  struct mutex lock;
  bool cached[GRANULES], dropped[GRANULES];
  unsigned flushes;
} cache;

static int
cache_flush (struct source *source)
{
  bool fails, begun[GRANULES];
  unsigned i;

  (void) source;
  mutex_lock (&cache.lock);
  fails = ++cache.flushes % 3 == 0;
  memcpy (begun, cache.cached, sizeof begun);
  mutex_unlock (&cache.lock);
  sched_yield ();
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&cache.lock);
  for (i = 0; i < GRANULES; ++i)
    if (fails ? cache.cached[i] : begun[i]) {
      cache.dropped[i] |= fails;
      cache.cached[i] = false;
    }
  return fails ? -EIO : 0;
}

static const struct source_ops cache_ops = { .flush = cache_flush };

static void
marked_locked (struct range r)
{
  uint64_t i;

  for (i = r.start / GRAN; i * GRAN < r.end; ++i)
    cache.dropped[i] = false;
}

static void
cache_lost (void *opaque, struct dirty *v)
{
  struct range r = { 0, 0 };
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&cache.lock);

  (void) opaque;
  while (dirty_next (v, r.end, UINT64_MAX, &r))
    marked_locked (r);
}

/* Everyone has granules of his own, so that he knows what is said of them. */
static void
writer_main (void *vp)
{
  const unsigned first = *(unsigned *) vp;
  uint64_t stamp;
  unsigned i, g;

  for (i = 0; i < 3000; ++i) {
    g = first + i % (GRANULES / 4);
    stamp = source_flusher_stamp (f);
    mutex_lock (&cache.lock);
    cache.cached[g] = true;
    mutex_unlock (&cache.lock);
    if (source_flusher_acked (f, granules (g, 1), stamp) < 0) {
      ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&cache.lock);

      marked_locked (granules (g, 1));
    }
    if (i % 5 == 0)
      source_flusher_flush (f, &cache.source);
  }
}

START_TEST (nobody_loses_without_being_told)
{
  struct thread t[4];
  unsigned first[4], i;

  teardown ();
  setup ();
  source_flusher_free (f);
  memset (&cache, 0, sizeof cache);
  cache.source.ops = &cache_ops;
  mutex_init (&cache.lock);
  f = source_flusher_new (SIZE, GRAN, cache_lost, NULL);
  source_flusher_alone (f);
  for (i = 0; i < 4; ++i) {
    first[i] = i * GRANULES / 4;
    ck_assert_int_eq (thread_start (&t[i], "writer", writer_main, &first[i]),
                      0);
  }
  for (i = 0; i < 4; ++i)
    thread_join (&t[i]);
  for (i = 0; i < GRANULES; ++i)
    ck_assert (!cache.dropped[i]);
  mutex_destroy (&cache.lock);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("source flusher");
  TCase *new = tcase_create ("new"), *tc = tcase_create ("flushed");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (new, setup, teardown);
  tcase_add_test (new, nothing_is_known_at_first);
  tcase_add_test (new, not_alone);
  tcase_add_test (new, emptied);
  tcase_add_test (new, alone_meanwhile);
  suite_add_tcase (s, new);

  tcase_add_checked_fixture (tc, setup_flushed, teardown);
  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, a_good_flush_covers);
  tcase_add_test (tc, rounded_outward);
  tcase_add_test (tc, a_failure_keeps_it);
  tcase_add_test (tc, a_failure_since_the_stamp);
  tcase_add_test (tc, a_failed_fua);
  tcase_add_test (tc, lost_may_call);
  tcase_add_test (tc, a_flush_covers_what_was_before_it);
  tcase_add_test (tc, all_of_it_is_lost);
  tcase_add_test (tc, the_next_one_is_shared);
  tcase_add_test (tc, a_failed_fua_spoils_a_flush);
  tcase_add_test (tc, a_fua_in_flight);
  tcase_add_loop_test (tc, a_failed_fua_after_another_failure, 0, 2);
  tcase_add_test (tc, added_while_losing);
  tcase_add_test (tc, nobody_loses_without_being_told);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
