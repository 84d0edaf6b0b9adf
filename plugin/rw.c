/* SPDX-License-Identifier: BSD-3-Clause */
/* See rw.h. */

#include <config.h>

#include <errno.h>
#include <time.h>

#include "range.h"
#include "rw.h"

/* What is to be tried again is, for about a second. */
#define TRIES 1000
#define PAUSE_NS 1000000

int
rw_error (int r)
{
  switch (r) {
  case -EDQUOT:
  case -EFBIG:
    return -ENOSPC;
  case -EAGAIN:
  case -EINTR:
  case -EOPNOTSUPP:             /* nobody has asked for anything special */
    return -EIO;
  default:
    return r;
  }
}

/* n bytes are done. */
static void
advance (struct iovec **iov, int *count, size_t n)
{
  while (n > 0 && n >= (*iov)->iov_len) {
    n -= (*iov)->iov_len;
    ++*iov;
    --*count;
  }
  if (n > 0) {
    (*iov)->iov_base = (char *) (*iov)->iov_base + n;
    (*iov)->iov_len -= n;
  }
}

int
rw_full (const struct rw_how *how, struct iovec *iov, int n, uint64_t offset)
{
  unsigned tries = 0;
  ssize_t r;

  while (n > 0) {
    r = how->write
      ? pwritev2 (how->fd, iov, n, (off_t) offset, how->flags)
      : preadv2 (how->fd, iov, n, (off_t) offset, how->flags);
    if (r < 0 && errno == EINTR)
      continue;
    if (r < 0 && errno == EAGAIN && ++tries < TRIES) {
      nanosleep (&(struct timespec) { .tv_nsec = PAUSE_NS }, NULL);
      continue;
    }
    if (r < 0)
      return rw_error (-errno);
    /* The end of the file, or of the part of it that is left, need not be one
     * of a block; O_DIRECT cannot go on from there.
     */
    r = (ssize_t) round_down_p2 ((uint64_t) r, how->block);
    if (r == 0)
      return -EIO;
    tries = 0;
    advance (&iov, &n, (size_t) r);
    offset += (uint64_t) r;
  }
  return 0;
}

int
rw_buffer (const struct rw_how *how, void *buf, size_t len, uint64_t offset)
{
  struct iovec iov = { buf, len };

  return rw_full (how, &iov, len > 0, offset);
}
