/* SPDX-License-Identifier: BSD-3-Clause */
/* The plugin's I/O on a file of the build directory: whatever the kernel does
 * only in part, interrupts or refuses, and whoever writes to the same blocks,
 * each byte is what was written to it last.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_LIBURING
#include <liburing.h>
#endif

#include "uring-help.h"

#define FILE_SIZE ((3 << 20) + 333)

static struct shared s;
static struct disk d;

/*-- what goes wrong ----------------------------------------------------*/

/* One in so many calls; 0: none. */
static unsigned trouble;
static bool ring_dies;
static int error_now;           /* of each call, if it is not 0 */
static uint32_t mem_align;      /* what statx says; 0: the truth */
static unsigned seed;
static unsigned faults, ring_faults;

static unsigned
choose (unsigned n)
{
  return (unsigned) rand_r (&seed) % n;
}

static bool
goes_wrong (void)
{
  if (trouble == 0 || choose (trouble) != 0)
    return false;
  faults++;
  return true;
}

ssize_t __real_preadv2 (int, const struct iovec *, int, off_t, int);
ssize_t __real_pwritev2 (int, const struct iovec *, int, off_t, int);
ssize_t __wrap_preadv2 (int, const struct iovec *, int, off_t, int);
ssize_t __wrap_pwritev2 (int, const struct iovec *, int, off_t, int);

int __real_statx (int, const char *, int, unsigned, struct statx *);
int __wrap_statx (int, const char *, int, unsigned, struct statx *);

int
__wrap_statx (int fd, const char *name, int flags, unsigned mask,
              struct statx *st)
{
  int r = __real_statx (fd, name, flags, mask, st);

#ifdef STATX_DIOALIGN
  if (r == 0 && mem_align != 0)
    st->stx_dio_mem_align = mem_align;
#endif
  return r;
}

/* As the file wants it. */
static void
check_alignment (int fd, uint64_t buf, uint64_t len, uint64_t offset)
{
  if (!d.direct || fd != d.fd)
    return;
  ck_assert_uint_eq (buf & (d.mem_align - 1), 0);
  ck_assert_uint_eq (len & (d.block - 1), 0);
  ck_assert_uint_eq (offset & (d.block - 1), 0);
}

/* Whole blocks of the first buffer, at least one: a short count. */
static size_t
shorter (size_t len)
{
  return len > d.block ? round_up_p2 (choose (len - d.block) + 1, d.block)
    : len;
}

static ssize_t
in_trouble (ssize_t (*real) (int, const struct iovec *, int, off_t, int),
            int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
  struct iovec first = iov[0];
  int i;

  for (i = 0; i < n; ++i)
    check_alignment (fd, (uintptr_t) iov[i].iov_base, iov[i].iov_len,
                     (uint64_t) offset);
  if (error_now != 0) {
    errno = error_now;
    return -1;
  }
  if (!goes_wrong ())
    return real (fd, iov, n, offset, flags);
  switch (choose (3)) {
  case 0:
    errno = EINTR;
    return -1;
  case 1:
    errno = EAGAIN;
    return -1;
  default:
    first.iov_len = shorter (first.iov_len);
    return real (fd, &first, 1, offset, flags);
  }
}

ssize_t
__wrap_preadv2 (int fd, const struct iovec *iov, int n, off_t offset,
                int flags)
{
  return in_trouble (__real_preadv2, fd, iov, n, offset, flags);
}

ssize_t
__wrap_pwritev2 (int fd, const struct iovec *iov, int n, off_t offset,
                 int flags)
{
  return in_trouble (__real_pwritev2, fd, iov, n, offset, flags);
}

#ifdef HAVE_LIBURING

int __real_io_uring_submit_and_wait (struct io_uring *, unsigned);
int __wrap_io_uring_submit_and_wait (struct io_uring *, unsigned);

/* What is queued becomes shorter. */
static void
spoil_queued (struct io_uring *ring)
{
  struct io_uring_sqe *sqe;
  unsigned i;

  for (i = ring->sq.sqe_head; i != ring->sq.sqe_tail; ++i) {
    sqe = &ring->sq.sqes[i & *ring->sq.kring_mask];
    check_alignment (sqe->fd, sqe->addr, sqe->len, sqe->off);
    if (!goes_wrong ())
      continue;
    ring_faults++;
    sqe->len = (uint32_t) shorter (sqe->len);
  }
}

/* What has been answered so far was interrupted, or is to be tried again. */
static int
spoil_answers (struct io_uring *ring, int r)
{
  unsigned i, tail = __atomic_load_n (ring->cq.ktail, __ATOMIC_ACQUIRE);

  for (i = *ring->cq.khead; i != tail; ++i) {
    if (!goes_wrong ())
      continue;
    ring_faults++;
    ring->cq.cqes[i & *ring->cq.kring_mask].res =
      choose (2) ? -EINTR : -EAGAIN;
  }
  return r;
}

static int
refused (struct io_uring *ring)
{
  if (goes_wrong ())
    return -EINTR;
  if (ring_dies && goes_wrong ())
    return -EBUSY;
  spoil_queued (ring);
  return 0;
}

int
__wrap_io_uring_submit_and_wait (struct io_uring *ring, unsigned n)
{
  int r = refused (ring);

  return r < 0 ? r
    : spoil_answers (ring, __real_io_uring_submit_and_wait (ring, n));
}

#endif

/*-- tests --------------------------------------------------------------*/

static void
setup (void)
{
  uring_file (&s, &d, FILE_SIZE);
  trouble = faults = ring_faults = 0;
  ring_dies = false;
  error_now = 0;
  mem_align = 0;
}

static void
teardown (void)
{
  uring_end (&s, &d);
}

static void
fill (char *buf, size_t n)
{
  while (n > 0)
    buf[--n] = (char) choose (256);
}

static void
one_op (char *expected, char *buf)
{
  uint64_t n = 1 + choose (choose (3) ? 3000 : 2 << 20);
  uint64_t at = choose (FILE_SIZE - n + 1);
  int r = 0;

  if (choose (2))
    at = round_down_p2 (at, 512);
  if (choose (5) == 0)
    at = FILE_SIZE - n;
  switch (choose (5)) {
  case 0:
    r = disk_zero (&d, n, at, (struct zero_how) { .may_trim = choose (2),
                                                  .fua = choose (2) });
    memset (expected + at, 0, n);
    break;
  case 1:
    r = disk_write (&d, NULL, n, at, choose (2));
    memset (expected + at, 0, n);
    break;
  case 2:
    fill (buf, n);
    r = disk_write (&d, buf, n, at, choose (2));
    memcpy (expected + at, buf, n);
    break;
  default:
    memset (buf, 0x55, n);
    r = disk_read (&d, buf, n, at);
    ck_assert_msg (memcmp (buf, expected + at, n) == 0,
                   "read of %u bytes at %u", (unsigned) n, (unsigned) at);
    break;
  }
  ck_assert_int_eq (r, 0);
}

/* With no trouble, some, and much; and with rings that die. */
START_TEST (test_trouble)
{
  static const unsigned rates[] = { 0, 20, 3, 5 };
  char *expected = calloc (1, FILE_SIZE), *buf = malloc (FILE_SIZE);
  unsigned i;

  ck_assert (expected != NULL && buf != NULL);
  seed = (unsigned) _i + 1;
  ring_dies = _i == 3;
  for (i = 0; i < 200; ++i) {
    trouble = rates[_i];
    one_op (expected, buf);
  }
  trouble = 0;
  ck_assert_int_eq (disk_read (&d, buf, FILE_SIZE, 0), 0);
  ck_assert_int_eq (memcmp (buf, expected, FILE_SIZE), 0);
  ck_assert_int_eq (faults > 0, _i > 0);
  if (d.direct && s.rings.enabled)
    ck_assert_int_eq (ring_faults > 0, _i > 0);
  free (expected);
  free (buf);
}
END_TEST

/* Buffers that must be aligned to more than a block. */
START_TEST (test_alignment)
{
  char *expected = calloc (1, FILE_SIZE), *buf = malloc (FILE_SIZE);
  unsigned i;

  ck_assert (expected != NULL && buf != NULL);
  disk_close (&d);
  mem_align = 4096;
  uring_open (&s, &d);
  seed = 1;
  trouble = 5;
  for (i = 0; i < 200; ++i)
    one_op (expected, buf);
  free (expected);
  free (buf);
}
END_TEST

/* Of a file that cannot be written to: the server aborts when anything but a
 * fast zero is not supported.
 */
START_TEST (test_not_supported)
{
  char buf[512] = { 0 };

  error_now = EOPNOTSUPP;
  ck_assert_int_eq (disk_write (&d, buf, sizeof buf, 0, false), -EIO);
  ck_assert_int_eq (disk_read (&d, buf, sizeof buf, 0), -EIO);
  d.no_punch = d.no_zero_range = d.no_allocate = true;
  ck_assert_int_eq (disk_zero (&d, 512, 0, (struct zero_how) { false }), -EIO);
  ck_assert_int_eq (disk_zero (&d, 512, 0, (struct zero_how) { .fast = true }),
                    -EOPNOTSUPP);
}
END_TEST

/* An error of any piece is the request's, and nothing is left in flight. */
START_TEST (test_error)
{
  char *buf = calloc (1, FILE_SIZE);

  ck_assert_ptr_nonnull (buf);
  ck_assert_int_eq (truncate (s.path, FILE_SIZE / 2), 0);
  ck_assert_int_eq (disk_read (&d, buf, FILE_SIZE, 0), -EIO);
  ck_assert_int_eq (disk_read (&d, buf, FILE_SIZE / 3, 0), 0);
  ck_assert_int_eq (disk_write (&d, buf, FILE_SIZE, 0, false), -EIO);
  ck_assert_int_eq (disk_read (&d, buf, 1, FILE_SIZE - 1), -EIO);
  ck_assert_int_eq (disk_write (&d, buf, 1, FILE_SIZE - 1, false), -EIO);
  free (buf);
}
END_TEST

/* Threads that write to parts of the same blocks, each to its own bytes: some
 * in front of the tail and in it, one to whole blocks next to them.
 */
#define THREADS 6
#define STRIP 61

struct writer {
  struct thread thread;
  unsigned number;
  int error;
};

static uint64_t area;           /* where they write */
static uint64_t area_size;

static void
writer_main (void *vp)
{
  struct writer *w = vp;
  uint64_t at;
  char data[STRIP];
  unsigned round;

  for (round = 1; round <= 20 && w->error == 0; ++round) {
    memset (data, (int) (w->number * 32 + round), sizeof data);
    for (at = w->number * STRIP; at + STRIP <= area_size && w->error == 0;
         at += THREADS * STRIP)
      w->error = disk_write (&d, data, STRIP, area + at, false);
  }
}

START_TEST (test_same_blocks)
{
  struct writer w[THREADS] = { 0 };
  char *buf = malloc (8192);
  uint64_t at, i;

  ck_assert_ptr_nonnull (buf);
  area_size = 8192;
  area = _i ? FILE_SIZE - area_size : 0;
  for (i = 0; i < THREADS; ++i) {
    w[i].number = (unsigned) i;
    ck_assert_int_eq (thread_start (&w[i].thread, "writer", writer_main,
                                    &w[i]), 0);
  }
  for (i = 0; i < THREADS; ++i) {
    thread_join (&w[i].thread);
    ck_assert_int_eq (w[i].error, 0);
  }
  ck_assert_int_eq (disk_read (&d, buf, area_size, area), 0);
  for (at = 0; at + STRIP <= area_size; at += STRIP)
    for (i = at; i < at + STRIP; ++i)
      ck_assert_int_eq (buf[i], (char) (at / STRIP % THREADS * 32 + 20));
  free (buf);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("uring");
  TCase *t = tcase_create ("all");
  SRunner *r;
  int failed;

  tcase_set_timeout (t, 300);
  tcase_add_checked_fixture (t, setup, teardown);
  tcase_add_loop_test (t, test_trouble, 0, 4);
  tcase_add_test (t, test_alignment);
  tcase_add_test (t, test_not_supported);
  tcase_add_test (t, test_error);
  tcase_add_loop_test (t, test_same_blocks, 0, 2);
  suite_add_tcase (suite, t);
  r = srunner_create (suite);
  srunner_run_all (r, CK_ENV);
  failed = srunner_ntests_failed (r);
  srunner_free (r);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
