/* SPDX-License-Identifier: BSD-3-Clause */
/* Holes, and reading ahead; see disk.h.
 *
 * lseek moves the file's position, which all threads share, but nobody uses it:
 * where SEEK_DATA and SEEK_HOLE begin to look is in the call, and what they
 * find is what it returns.  So there is no lock.
 *
 * Between the two calls others may write.  What is said to be a hole was one in
 * one call; what is said to be data may be a hole by now, which does no harm.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "disk.h"

bool
disk_knows_extents (const struct disk *d)
{
  return lseek (d->fd, 0, SEEK_HOLE) >= 0;
}

int
disk_extent (const struct disk *d, uint64_t offset, uint64_t end,
             struct range *extent, bool *hole)
{
  off_t data, next;

  *extent = (struct range) { offset, end };
  data = lseek (d->fd, (off_t) offset, SEEK_DATA);
  if (data < 0 && errno != ENXIO)
    return -errno;
  if (data < 0) {               /* a hole up to the end, but is there one? */
    *hole = true;
    return disk_still_there (d, end);
  }
  *hole = (uint64_t) data > offset;
  next = *hole ? data : lseek (d->fd, (off_t) offset, SEEK_HOLE);
  if (next < 0 && errno != ENXIO)
    return -errno;
  if (next > 0 && (uint64_t) next > offset && (uint64_t) next < end)
    extent->end = (uint64_t) next;
  return 0;
}

int
disk_cache (const struct disk *d, uint64_t count, uint64_t offset)
{
  return -posix_fadvise (d->fd, (off_t) offset, (off_t) count,
                         POSIX_FADV_WILLNEED);
}
