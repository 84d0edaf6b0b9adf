/* SPDX-License-Identifier: BSD-3-Clause */
/* What the plugin says when something could not be made durable: whoever the
 * kernel tells of it, each whose data may be lost hears of it.  And a fast zero
 * that is refused has changed nothing.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "uring-help.h"

#define FILE_SIZE (4 << 20)
#define BIG (1 << 20)           /* more than a piece */

static struct shared s;
static struct disk d;
static char *data;              /* BIG bytes */

/*-- the kernel ---------------------------------------------------------*/

/* The next call fails so: each is told once, as by the kernel. */
static atomic_int read_error, write_error, sync_error, range_error;

static int punch_error, allocate_error, zero_range_error;
static unsigned fallocates;

/* Called in a call that has been told of an error, or done its work. */
static void (*in_call) (void);

/* The same, once, in a sync that is about to be told that all is well. */
static void (*_Atomic in_good_sync) (void);

static int
once (atomic_int *error)
{
  int e = atomic_exchange (error, 0);

  if (e == 0)
    return 0;
  if (in_call)
    in_call ();
  errno = e;
  return -1;
}

ssize_t __real_preadv2 (int, const struct iovec *, int, off_t, int);
ssize_t __wrap_preadv2 (int, const struct iovec *, int, off_t, int);
ssize_t __real_pwritev2 (int, const struct iovec *, int, off_t, int);
ssize_t __wrap_pwritev2 (int, const struct iovec *, int, off_t, int);
int __real_fdatasync (int);
int __wrap_fdatasync (int);
int __real_sync_file_range (int, off_t, off_t, unsigned);
int __wrap_sync_file_range (int, off_t, off_t, unsigned);
int __real_fallocate (int, int, off_t, off_t);
int __wrap_fallocate (int, int, off_t, off_t);
int __real_ioctl (int, unsigned long, void *);
int __wrap_ioctl (int, unsigned long, ...);

static atomic_uint writes;

ssize_t
__wrap_preadv2 (int fd, const struct iovec *iov, int n, off_t at, int flags)
{
  return once (&read_error) < 0 ? -1 : __real_preadv2 (fd, iov, n, at, flags);
}

ssize_t
__wrap_pwritev2 (int fd, const struct iovec *iov, int n, off_t at, int flags)
{
  atomic_fetch_add (&writes, 1);
  return once (&write_error) < 0 ? -1
    : __real_pwritev2 (fd, iov, n, at, flags);
}

int
__wrap_fdatasync (int fd)
{
  void (*hook) (void);

  if (once (&sync_error) < 0)
    return -1;
  hook = atomic_exchange (&in_good_sync, NULL);
  if (hook)
    hook ();
  return __real_fdatasync (fd);
}

int
__wrap_sync_file_range (int fd, off_t at, off_t n, unsigned flags)
{
  if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) && once (&range_error) < 0)
    return -1;
  return __real_sync_file_range (fd, at, n, flags);
}

int
__wrap_fallocate (int fd, int mode, off_t at, off_t n)
{
  int error = mode & FALLOC_FL_PUNCH_HOLE ? punch_error
    : mode & FALLOC_FL_ZERO_RANGE ? zero_range_error : allocate_error;

  fallocates++;
  errno = error;
  return error ? -1 : __real_fallocate (fd, mode, at, n);
}

/* Of a device, which the file is not. */
int
__wrap_ioctl (int fd, unsigned long request, ...)
{
  va_list ap;
  void *arg;

  va_start (ap, request);
  arg = va_arg (ap, void *);
  va_end (ap);
  if (request != BLKZEROOUT)
    return __real_ioctl (fd, request, arg);
  if (in_call)
    in_call ();
  return 0;
}

static void
setup (void)
{
  uring_file (&s, &d, FILE_SIZE);
  read_error = write_error = sync_error = range_error = 0;
  punch_error = allocate_error = zero_range_error = 0;
  fallocates = 0;
  writes = 0;
  in_call = NULL;
  in_good_sync = NULL;
  data = malloc (BIG);
  ck_assert_ptr_nonnull (data);
  memset (data, 'x', BIG);
}

static void
teardown (void)
{
  free (data);
  uring_end (&s, &d);
}

/* Not direct, from now on. */
static void
reopen_buffered (bool drop_cache)
{
  disk_close (&d);
  s.direct = CHOICE_OFF;
  s.drop_cache = drop_cache;
  uring_open (&s, &d);
}

/* The next flush, and the one after it, of one that has the file open. */
static void
flushes (struct disk *of, int first)
{
  ck_assert_int_eq (disk_flush (of), first);
  ck_assert_int_eq (disk_flush (of), 0);
}

/*-- tests --------------------------------------------------------------*/

/* A flush that fails is heard of by each that has the file open, once. */
START_TEST (test_failed_flush)
{
  struct disk other, late;

  uring_open (&s, &other);
  ck_assert_int_eq (disk_flush (&d), 0);
  sync_error = EIO;
  ck_assert_int_eq (disk_flush (&other), -EIO);
  uring_open (&s, &late);
  flushes (&late, 0);
  flushes (&d, -EIO);
  flushes (&other, 0);
  disk_close (&late);
  disk_close (&other);
}
END_TEST

/* So is a request with FUA: each hears of it, also who has made it, since older
 * data of his may be lost.  Without FUA nothing is.
 */
enum { SMALL, PIECES, ZERO, TRIM, PLAIN, NR_KINDS };

static int
failing_request (int kind)
{
  switch (kind) {
  case SMALL:
    write_error = EIO;
    return disk_write (&d, data, 512, 0, true);
  case PIECES:
    sync_error = EIO;
    return disk_write (&d, data, BIG, 0, true);
  case ZERO:
    sync_error = EIO;
    return disk_zero (&d, 4096, 0, (struct zero_how) { .fua = true });
  case TRIM:
    sync_error = EIO;
    return disk_trim (&d, 4096, 0, true);
  default:
    write_error = EIO;
    return disk_write (&d, data, 512, 0, false);
  }
}

START_TEST (test_failed_fua)
{
  const bool told = _i == PLAIN || (_i == SMALL && !d.direct);
  const int then = told ? 0 : -EIO;
  struct disk other;

  uring_open (&s, &other);
  ck_assert_int_eq (failing_request (_i), -EIO);
  flushes (&d, then);
  flushes (&other, then);
  disk_close (&other);
}
END_TEST

/* A failure that another request has been told of meanwhile is a request's,
 * too, and takes nothing away from the next flush.
 */
START_TEST (test_others_failure)
{
  struct syncing me;

  disk_fua_begin (&d, &me);
  syncs_failed (&s.syncs);
  ck_assert_int_eq (disk_fua_end (&d, &me, 0), -EIO);
  ck_assert_int_eq (disk_write (&d, data, 512, 0, true), 0);
  flushes (&d, -EIO);
}
END_TEST

/* A write that finds no space has lost nothing; but the sync after one through
 * the page cache may be told so of what others wrote.
 */
enum { DIRECT, BUFFERED, OF_OTHERS, NR_NO_SPACE };

START_TEST (test_no_space)
{
  if (_i != DIRECT)
    reopen_buffered (false);
  else if (!d.direct)
    return;
  *(_i == OF_OTHERS ? &sync_error : &write_error) = ENOSPC;
  ck_assert_int_eq (disk_write (&d, data, 512, 0, true), -ENOSPC);
  flushes (&d, _i == OF_OTHERS ? -EIO : 0);
}
END_TEST

/* What fails before it is written is nobody else's business. */
START_TEST (test_unread_block)
{
  if (!d.direct)
    return;
  read_error = EIO;
  ck_assert_int_eq (disk_write (&d, data, 100, 100, true), -EIO);
  flushes (&d, 0);
}
END_TEST

/* cache=none waits for what was written a while ago, and so is told of its
 * error, which then the flush is not.
 */
START_TEST (test_cache_none)
{
  struct disk other;
  unsigned i;

  reopen_buffered (true);
  uring_open (&s, &other);
  for (i = 0; i < PAGE_CACHE_WRITES; ++i)
    ck_assert_int_eq (disk_write (&d, data, 4096, i * 4096, false), 0);
  range_error = EIO;
  ck_assert_int_eq (disk_write (&d, data, 4096, i * 4096, false), 0);
  ck_assert_int_eq (range_error, 0);
  flushes (&d, -EIO);
  flushes (&other, -EIO);
  disk_close (&other);
}
END_TEST

/* Two that are under way at once by one descriptor: the kernel tells one of
 * them of the error, who has not come to say so when it tells the other that
 * all is well.
 */
static atomic_bool told, answered;

static void
hold_the_error (void)
{
  atomic_store (&told, true);
  for (;;) {
    if (atomic_load (&answered))
      return;
    mutex_lock (&s.syncs.lock);
    if (s.syncs.waiters > 0) {
      mutex_unlock (&s.syncs.lock);
      return;
    }
    mutex_unlock (&s.syncs.lock);
    sched_yield ();
  }
}

static void
flush_main (void *vp)
{
  ck_assert_int_eq (disk_flush (vp), -EIO);
}

START_TEST (test_shared_error)
{
  struct thread thread;
  int r;

  reopen_buffered (false);
  atomic_store (&told, false);
  atomic_store (&answered, false);
  in_call = hold_the_error;
  sync_error = EIO;
  ck_assert_int_eq (thread_start (&thread, "flush", flush_main, &d), 0);
  while (!atomic_load (&told))
    sched_yield ();
  r = _i ? disk_write (&d, data, 512, 0, true) : disk_flush (&d);
  atomic_store (&answered, true);
  thread_join (&thread);
  ck_assert_int_eq (r, -EIO);
}
END_TEST

/* Two flushes that are on their way at once after a failure that neither has
 * been told of: each is of data that may be lost.
 */
START_TEST (test_two_flushes)
{
  struct thread thread;
  int r;

  atomic_store (&told, false);
  atomic_store (&answered, false);
  syncs_failed (&s.syncs);
  in_good_sync = hold_the_error;
  ck_assert_int_eq (thread_start (&thread, "flush", flush_main, &d), 0);
  while (!atomic_load (&told))
    sched_yield ();
  r = disk_flush (&d);
  atomic_store (&answered, true);
  thread_join (&thread);
  ck_assert_int_eq (r, -EIO);
  flushes (&d, 0);
}
END_TEST

/* File systems that can do one thing and not another. */
START_TEST (test_refused_fast_zero)
{
  char buf[4096];
  unsigned i;

  zero_range_error = allocate_error = EOPNOTSUPP;
  ck_assert_int_eq (disk_write (&d, data, sizeof buf, 0, false), 0);
  for (i = 0; i < 2; ++i) {
    ck_assert_int_eq (disk_zero (&d, sizeof buf, 0,
                                 (struct zero_how) { .fast = true }),
                      -EOPNOTSUPP);
    ck_assert_int_eq (disk_read (&d, buf, sizeof buf, 0), 0);
    ck_assert_int_eq (memcmp (buf, data, sizeof buf), 0);
  }
  /* The same is zeroed if it need not be fast, or may become a hole. */
  ck_assert_int_eq (disk_zero (&d, sizeof buf, 0,
                               (struct zero_how) { .fast = true,
                                                   .may_trim = true }), 0);
  ck_assert_int_eq (disk_zero (&d, sizeof buf, 0,
                               (struct zero_how) { .fast = false }), 0);
  ck_assert_int_eq (disk_read (&d, buf, sizeof buf, 0), 0);
  for (i = 0; i < sizeof buf; ++i)
    ck_assert_int_eq (buf[i], 0);
}
END_TEST

/* A device that cannot zero by itself would have its page cache dropped. */
START_TEST (test_refused_by_device)
{
  d.device = true;
  d.fast_zeroes = false;
  ck_assert_int_eq (disk_zero (&d, 4096, 0,
                               (struct zero_how) { .fast = true,
                                                   .may_trim = true }),
                    -EOPNOTSUPP);
  ck_assert_uint_eq (fallocates, 0);
}
END_TEST

/* A device zeroes a sector below the page cache: a write to its neighbour in
 * the same page, which reads all of the page, has to wait.
 */
static struct thread neighbour;
static unsigned written_meanwhile;

static void
neighbour_main (void *vp)
{
  ck_assert_int_eq (disk_write (vp, data, 512, 512, false), 0);
}

static void
zeroing (void)
{
  bool waits = false;

  ck_assert_int_eq (thread_start (&neighbour, "neighbour", neighbour_main, &d),
                    0);
  while (!waits && atomic_load (&writes) == 0) {
    sched_yield ();
    mutex_lock (&s.blocks.lock);
    waits = s.blocks.waiters > 0;
    mutex_unlock (&s.blocks.lock);
  }
  written_meanwhile = atomic_load (&writes);
}

START_TEST (test_same_page)
{
  reopen_buffered (false);
  d.device = true;
  d.zero_align = 512;
  in_call = zeroing;
  ck_assert_int_eq (disk_zero (&d, 512, 0, (struct zero_how) { .fast = false }),
                    0);
  thread_join (&neighbour);
  ck_assert_uint_eq (written_meanwhile, 0);
  ck_assert_uint_eq (writes, 1);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("uring_sync");
  TCase *t = tcase_create ("all");
  SRunner *r;
  int failed;

  tcase_set_timeout (t, 300);
  tcase_add_checked_fixture (t, setup, teardown);
  tcase_add_test (t, test_failed_flush);
  tcase_add_loop_test (t, test_failed_fua, 0, NR_KINDS);
  tcase_add_test (t, test_others_failure);
  tcase_add_loop_test (t, test_no_space, 0, NR_NO_SPACE);
  tcase_add_test (t, test_unread_block);
  tcase_add_test (t, test_cache_none);
  tcase_add_loop_test (t, test_shared_error, 0, 2);
  tcase_add_test (t, test_two_flushes);
  tcase_add_test (t, test_refused_fast_zero);
  tcase_add_test (t, test_refused_by_device);
  tcase_add_test (t, test_same_page);
  suite_add_tcase (suite, t);
  r = srunner_create (suite);
  srunner_run_all (r, CK_ENV);
  failed = srunner_ntests_failed (r);
  srunner_free (r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
