/* SPDX-License-Identifier: BSD-3-Clause */
/* The block lock: who waits for whom, and in which order they go on. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "blocklock.h"

static struct blocklock lock;

static void
setup (void)
{
  blocklock_init (&lock);
}

static void
teardown (void)
{
  blocklock_destroy (&lock);
}

struct user {
  struct thread thread;
  struct blockhold hold;
  struct range blocks;
  bool exclusive;
  atomic_bool has;
};

static void
user_main (void *vp)
{
  struct user *u = vp;

  blocklock_acquire (&lock, &u->hold, u->blocks, u->exclusive);
  atomic_store (&u->has, true);
}

static unsigned
waiting (void)
{
  unsigned n;

  mutex_lock (&lock.lock);
  n = lock.waiters;
  mutex_unlock (&lock.lock);
  return n;
}

/* Returns when it has the lock, or waits. */
static void
start (struct user *u, uint64_t from, uint64_t to, bool exclusive)
{
  unsigned before = waiting ();

  u->blocks = (struct range) { from, to };
  u->exclusive = exclusive;
  atomic_init (&u->has, false);
  ck_assert_int_eq (thread_start (&u->thread, "user", user_main, u), 0);
  while (!atomic_load (&u->has) && waiting () == before)
    sched_yield ();
}

static void
release (struct user *u)
{
  thread_join (&u->thread);
  ck_assert (atomic_load (&u->has));
  blocklock_release (&lock, &u->hold);
}

START_TEST (test_meets)
{
  static const struct {
    struct range blocks;
    bool exclusive, waits;
  } then[] = {
    { { 0, 512 }, true, false },
    { { 0, 512 }, false, false },
    { { 1024, 4096 }, true, false },
    { { 512, 1024 }, true, true },
    { { 512, 1024 }, false, true },
    { { 0, 513 }, true, true },
    { { 1023, 2048 }, false, true },
    { { 0, 1 << 20 }, false, true },
  };
  struct user holder = { 0 }, u = { 0 };
  size_t i;

  for (i = 0; i < sizeof then / sizeof then[0]; ++i) {
    start (&holder, 512, 1024, _i);
    start (&u, then[i].blocks.start, then[i].blocks.end, then[i].exclusive);
    ck_assert_int_eq (!atomic_load (&u.has),
                      then[i].waits && (_i || then[i].exclusive));
    release (&holder);
    release (&u);
  }
}
END_TEST

/* Nobody overtakes one that it conflicts with; others do. */
START_TEST (test_order)
{
  struct user a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

  start (&a, 0, 512, false);
  start (&b, 0, 1024, true);
  start (&c, 512, 1024, false);
  start (&d, 1024, 2048, true);
  ck_assert (atomic_load (&a.has));
  ck_assert (!atomic_load (&b.has));
  ck_assert (!atomic_load (&c.has));
  ck_assert (atomic_load (&d.has));
  release (&a);
  thread_join (&b.thread);
  ck_assert (!atomic_load (&c.has));
  blocklock_release (&lock, &b.hold);
  release (&c);
  release (&d);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("blocklock");
  TCase *t = tcase_create ("all");
  SRunner *r;
  int failed;

  tcase_add_checked_fixture (t, setup, teardown);
  tcase_add_loop_test (t, test_meets, 0, 2);
  tcase_add_test (t, test_order);
  suite_add_tcase (s, t);
  r = srunner_create (s);
  srunner_run_all (r, CK_ENV);
  failed = srunner_ntests_failed (r);
  srunner_free (r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
