/* SPDX-License-Identifier: BSD-3-Clause */
/* The clients' disk after a pivot, by itself: what failures of its server and
 * of others mean for its requests.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pivoted.h"
#include "sync.h"

#define SIZE 65536
#define TIMEOUT_NS UINT64_C (60000000000)

static struct pivoted *p;
static struct source *source;
static atomic_uint writes, flushes, downs, reopened;
static atomic_bool hold;        /* the first flush has no reply yet */
static atomic_int first_flush;  /* its reply */
static atomic_int reads;        /* the reply of the next read */
static atomic_int next_write;   /* ... of the next write */
static atomic_uint losses, forgot;      /* told; as something is forgotten */

/*-- a target ------------------------------------------------------------*/

static void
fake_submit (struct target *t, struct target_req *req)
{
  (void) t;
  req->result = 0;
  if (req->op == TARGET_WRITE)
    atomic_fetch_add (&writes, 1);
  else if (req->op == TARGET_FLUSH)
    req->count = atomic_fetch_add (&flushes, 1);
}

static int
fake_wait (struct target *t, struct target_req *req)
{
  (void) t;
  if (req->op == TARGET_READ)
    return atomic_exchange (&reads, 0);
  if (req->op == TARGET_WRITE)
    return atomic_exchange (&next_write, 0);
  if (req->op != TARGET_FLUSH || req->count > 0)
    return 0;
  while (atomic_load (&hold))
    sched_yield ();
  return atomic_load (&first_flush);
}

/* Two pieces. */
static int
fake_extents (struct target *t, struct range r, extent_fn *fn, void *opaque)
{
  const uint64_t middle = (r.start + r.end) / 2;
  int ret = fn (opaque, (struct range) { r.start, middle }, EXTENT_DATA);

  (void) t;
  return ret ? ret : fn (opaque, (struct range) { middle, r.end },
                         EXTENT_ZERO);
}

static void
fake_shutdown (struct target *t)
{
  (void) t;
  atomic_fetch_add (&downs, 1);
}

static void
fake_free (struct target *t)
{
  (void) t;
}

static const struct target_ops ops = {
  .submit = fake_submit, .wait = fake_wait, .extents = fake_extents,
  .shutdown = fake_shutdown, .free = fake_free,
};
static struct target target = {
  .ops = &ops, .size = SIZE, .block = 1, .can_flush = true, .can_zero = true,
  .can_extents = true, .connections = 1,
};

static int
reopen (void *opaque, const char *where, const struct pivoted_facts *was,
        const _Atomic uint64_t *timeout_ns, const _Atomic bool *stop,
        struct target **t)
{
  (void) opaque;
  (void) where;
  (void) was;
  (void) timeout_ns;
  (void) stop;
  atomic_fetch_add (&reopened, 1);
  *t = &target;
  return 0;
}

static void
changed (void *opaque, int err, bool is_forgotten)
{
  (void) opaque;
  if (err == 0)
    return;
  atomic_fetch_add (&forgot, is_forgotten);
  atomic_fetch_add (&losses, 1);
}

static void
begin (bool restarted)
{
  const struct pivoted_config config = {
    .clock = &clock_monotonic, .size = SIZE, .timeout_ns = TIMEOUT_NS,
    .can_flush = true, .disk_size = SIZE, .reopen = reopen,
    .changed = changed, .restarted = restarted,
  };
  int err;

  p = pivoted_new (&config, &target, &err);
  ck_assert_ptr_nonnull (p);
  source = pivoted_source (p);
}

static void
setup (void)
{
  writes = flushes = downs = reopened = losses = forgot = 0;
  hold = false;
  first_flush = reads = next_write = 0;
  target.can_fua = false;
  begin (false);
}

static void
teardown (void)
{
  pivoted_free (p);
}

/*-- tests --------------------------------------------------------------*/

static void
flush_main (void *vp)
{
  *(int *) vp = source->ops->flush (source);
}

static void
fua_main (void *vp)
{
  char buf[512] = "";

  *(int *) vp = source->ops->pwrite (source, buf, sizeof buf, 0, LEG_FUA);
}

/* The server tells an error of its cache once: who waits for a flush of his own
 * then has lost as much.
 */
START_TEST (an_error_is_everybodys)
{
  struct thread a, b;
  int first = 1, second = 1;

  atomic_store (&hold, true);
  atomic_store (&first_flush, -EIO);
  ck_assert_int_eq (thread_start (&a, "flush", flush_main, &first), 0);
  while (atomic_load (&flushes) == 0)
    sched_yield ();
  ck_assert_int_eq (thread_start (&b, "fua", fua_main, &second), 0);
  while (atomic_load (&writes) == 0)
    sched_yield ();
  atomic_store (&hold, false);
  thread_join (&a);
  thread_join (&b);
  ck_assert_int_eq (first, -EIO);
  ck_assert_int_eq (second, -EIO);
  ck_assert_uint_eq (flushes, 2);
  ck_assert_int_eq (source->ops->flush (source), 0);
}
END_TEST

/* What is done with extents is not this disk's: neither does its error end the
 * session, nor does it hold up another one.
 */
static unsigned pieces;

static int
fail_elsewhere (void *opaque, struct range r, enum extent_kind kind)
{
  (void) opaque;
  (void) r;
  (void) kind;
  pieces++;
  return -ENOTCONN;
}

static int
read_it (void *opaque, struct range r, enum extent_kind kind)
{
  char buf[512];

  (void) opaque;
  (void) kind;
  pieces++;
  atomic_store (&reads, -ENOTCONN);
  return source->ops->pread (source, buf, sizeof buf, r.start);
}

START_TEST (extents_are_told_outside)
{
  const struct range all = { 0, SIZE };

  pieces = 0;
  ck_assert_int_eq (source->ops->extents (source, all, fail_elsewhere, NULL),
                    -ENOTCONN);
  ck_assert_uint_eq (pieces, 1);
  ck_assert_uint_eq (downs, 0);
  ck_assert_uint_eq (pivoted_reconnects (p), 0);
  ck_assert_int_eq (source->ops->extents (source, all, read_it, NULL), 0);
  ck_assert_uint_eq (pieces, 3);
  ck_assert_uint_eq (pivoted_reconnects (p), 2);
}
END_TEST

static int
write_some (unsigned flags)
{
  char buf[512] = "";

  return source->ops->pwrite (source, buf, sizeof buf, 0, flags);
}

/* The session is lost; returns when the next one is there. */
static void
lose (void)
{
  const uint64_t before = pivoted_reconnects (p);

  pivoted_lost (p, &target, -ECONNRESET);
  while (pivoted_reconnects (p) == before)
    sched_yield ();
}

/* What the server has refused it may have done in part, and lose with the
 * session: no client need be told, but who mirrors it.
 */
START_TEST (refused)
{
  next_write = -EIO;
  ck_assert_int_eq (write_some (0), -EIO);
  lose ();
  ck_assert_uint_eq (forgot, 1);
  ck_assert_int_eq (source->ops->flush (source), 0);
}
END_TEST

/* What was cut off by a loss it may lose by the next one. */
START_TEST (cut_off)
{
  next_write = -ENOTCONN;
  ck_assert_int_eq (write_some (0), -EIO);
  while (pivoted_reconnects (p) == 0)
    sched_yield ();
  ck_assert_uint_eq (losses, 1);
  ck_assert_uint_eq (forgot, 0);
  lose ();
  ck_assert_uint_eq (forgot, 1);
}
END_TEST

/* What nobody has flushed since it was acknowledged is lost by any loss, also if
 * another process was told so.
 */
START_TEST (of_another_process)
{
  pivoted_free (p);
  begin (true);
  lose ();
  ck_assert_uint_eq (forgot, 1);
  ck_assert_int_eq (source->ops->flush (source), -EIO);
  ck_assert_int_eq (source->ops->flush (source), 0);
  lose ();
  ck_assert_uint_eq (forgot, 1);
}
END_TEST

START_TEST (of_an_earlier_session)
{
  target.can_fua = true;
  ck_assert_int_eq (write_some (0), 0);
  lose ();
  ck_assert_uint_eq (forgot, 1);
  ck_assert_int_eq (write_some (LEG_FUA), -EIO);
  ck_assert_int_eq (write_some (LEG_FUA), 0);
  lose ();
  ck_assert_uint_eq (forgot, 2);
  ck_assert_int_eq (write_some (LEG_FUA), -EIO);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pivoted");
  TCase *t = tcase_create ("all");
  SRunner *r;
  int failed;

  tcase_set_timeout (t, 30);
  tcase_add_checked_fixture (t, setup, teardown);
  tcase_add_test (t, an_error_is_everybodys);
  tcase_add_test (t, extents_are_told_outside);
  tcase_add_test (t, refused);
  tcase_add_test (t, cut_off);
  tcase_add_test (t, of_another_process);
  tcase_add_test (t, of_an_earlier_session);
  suite_add_tcase (suite, t);
  r = srunner_create (suite);
  srunner_run_all (r, CK_ENV);
  failed = srunner_ntests_failed (r);
  srunner_free (r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
