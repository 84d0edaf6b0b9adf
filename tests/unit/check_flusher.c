/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the target: who leads one may have something else to do, and
 * nobody waits for that.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "flusher.h"

#define SIZE 65536
#define GRANULARITY 4096

static struct dirty *dirty;
static struct reasons reasons;
static struct flusher *f;
static atomic_uint submits, waits;
static int answer;

/*-- a target that answers at once ---------------------------------------*/

static void
fake_submit (struct target *t, struct target_req *req)
{
  (void) t;
  ck_assert_int_eq (req->op, TARGET_FLUSH);
  req->done = false;
  atomic_fetch_add (&submits, 1);
}

static int
fake_wait (struct target *t, struct target_req *req)
{
  (void) t;
  ck_assert (!req->done);
  req->done = true;
  atomic_fetch_add (&waits, 1);
  return answer;
}

static const struct target_ops ops = {
  .submit = fake_submit, .wait = fake_wait,
};
static struct target target = { .ops = &ops, .can_flush = true };

static void
setup (void)
{
  reasons_init (&reasons);
  dirty = dirty_new (SIZE, GRANULARITY, NULL);
  f = flusher_new (&target, SIZE, GRANULARITY, dirty, &reasons);
  ck_assert_ptr_nonnull (f);
  submits = waits = 0;
  answer = 0;
}

static void
teardown (void)
{
  flusher_free (f);
  dirty_free (dirty);
}

static void
another (void *vp)
{
  struct flush_wait w;

  (void) vp;
  flusher_begin (f, &w);
  ck_assert_int_eq (flusher_wait (f, &w), answer);
}

static void
run_another (void)
{
  struct thread thread;

  ck_assert_int_eq (thread_start (&thread, "another", another, NULL), 0);
  thread_join (&thread);
}

/*-- tests --------------------------------------------------------------*/

/* Others get theirs, though he who leads has not come to wait; his is told
 * to him when he does.
 */
START_TEST (a_leader_who_is_away)
{
  struct flush_wait w;

  flusher_begin (f, &w);
  run_another ();
  ck_assert_uint_eq (submits, 2);
  ck_assert_uint_eq (waits, 2);
  ck_assert_int_eq (flusher_wait (f, &w), 0);
  ck_assert_uint_eq (waits, 2);
  ck_assert_uint_eq (flusher_count (f), 2);
}
END_TEST

/* What the leader's flush was for is told by its end, whoever waits for it. */
START_TEST (it_fails_for_him)
{
  struct flush_wait w;
  const struct range r = { 0, GRANULARITY };

  answer = -EIO;
  ck_assert_int_eq (flusher_acked (f, r, false, flusher_stamp (f)), 0);
  flusher_begin (f, &w);
  ck_assert (!dirty_any (dirty, r));
  run_another ();
  ck_assert (dirty_any (dirty, r));
  ck_assert_int_eq (flusher_wait (f, &w), -EIO);
}
END_TEST

/* The session ends without him. */
START_TEST (the_session_ends)
{
  struct flush_wait w;
  const struct range r = { 0, GRANULARITY };

  ck_assert_int_eq (flusher_acked (f, r, false, flusher_stamp (f)), 0);
  flusher_begin (f, &w);
  flusher_session_lost (f);
  flusher_session_end (f);
  ck_assert (dirty_any (dirty, r));
  ck_assert_int_eq (flusher_wait (f, &w), -ENOTCONN);
  ck_assert_uint_eq (waits, 1);
  flusher_session_begin (f, &target);
}
END_TEST

/* Who comes while one is in flight shares the next one with all of his kind. */
START_TEST (the_next_is_shared)
{
  struct flush_wait w, x, y;

  flusher_begin (f, &w);
  flusher_begin (f, &x);
  flusher_begin (f, &y);
  ck_assert_int_eq (flusher_wait (f, &x), 0);
  ck_assert_int_eq (flusher_wait (f, &y), 0);
  ck_assert_int_eq (flusher_wait (f, &w), 0);
  ck_assert_uint_eq (submits, 2);
  ck_assert_uint_eq (waits, 2);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("flusher");
  TCase *t = tcase_create ("all");
  SRunner *r;
  int failed;

  tcase_set_timeout (t, 60);
  tcase_add_checked_fixture (t, setup, teardown);
  tcase_add_test (t, a_leader_who_is_away);
  tcase_add_test (t, it_fails_for_him);
  tcase_add_test (t, the_session_ends);
  tcase_add_test (t, the_next_is_shared);
  suite_add_tcase (suite, t);
  r = srunner_create (suite);
  srunner_run_all (r, CK_ENV);
  failed = srunner_ntests_failed (r);
  srunner_free (r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
