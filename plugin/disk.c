/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening a file or device; see disk.h.
 *
 * The tail
 * --------
 * O_DIRECT reads and writes whole blocks, and a file need not end with one.
 * Reading the last block is easy, the kernel gives what there is.  Writing all
 * of it makes the file longer.  To cut it back afterwards would be wrong: for
 * a moment others see a longer file, and if we are killed in that moment it
 * stays so, and is served with another size from then on.  So the tail is
 * written through the page cache, by a second descriptor without O_DIRECT.
 *
 * What can go wrong with a file that is written both ways is that the page
 * cache writes back a page that was filled before a direct write to another
 * block of the same page, and undoes it.  The kernel writes back and drops the
 * pages of a range before a direct write to it, but a buffered write in the
 * next moment may read the page again, before the direct write has reached the
 * disk, and make it dirty.  It cannot happen here, because
 *
 *   - a page belongs to one way: the tail begins where the last page (or block
 *     of the file system, where that is larger) begins, and everything in the
 *     tail, reads too, goes through the page cache, nothing else does;
 *   - the page cache may deal with more than a page at a time (a folio, which
 *     somebody who reads the file may have made large, and which older kernels
 *     write back as a whole): so a write of the tail excludes the writes of
 *     the last FOLIO_MAX bytes before it, by the block lock, and is on the disk
 *     before it lets them go on.  What is not dirty is never written back.
 *
 * As the page is written at once, errors belong to the request that caused
 * them, as with O_DIRECT.  The tail costs one page of memory.
 *
 * Zeroes and trims are left to the file system, which waits for direct writes
 * in flight by itself, and for which a direct write that follows writes back
 * what it has left dirty.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "cleanup.h"
#include "disk.h"
#include "errtext.h"

/* What O_DIRECT may want at most to be used. */
#define BLOCK_MAX 65536

/* The largest page of any architecture. */
#define PAGE_MAX 65536

#define why_not(why, ...) snprintf (why, DISK_WHY_MAX, __VA_ARGS__)

static int
check_type (const struct stat *st, char *why)
{
  if (S_ISREG (st->st_mode) || S_ISBLK (st->st_mode))
    return 0;
  why_not (why, "is %s; allowed are a regular file and a block device",
           S_ISDIR (st->st_mode) ? "a directory"
           : S_ISFIFO (st->st_mode) ? "a FIFO"
           : S_ISSOCK (st->st_mode) ? "a socket" : "a character device");
  return S_ISDIR (st->st_mode) ? -EISDIR : -EINVAL;
}

/* How O_DIRECT wants to be used: 0, or -EOPNOTSUPP where it is not said. */
static int
direct_alignment (int dirfd, const char *path, uint32_t *block,
                  uint32_t *mem_align)
{
#ifdef STATX_DIOALIGN
  struct statx stx;

  if (statx (dirfd, path, *path ? 0 : AT_EMPTY_PATH, STATX_DIOALIGN,
             &stx) < 0 ||
      (stx.stx_mask & STATX_DIOALIGN) == 0)
    return -EOPNOTSUPP;
  *block = stx.stx_dio_offset_align;
  *mem_align = stx.stx_dio_mem_align;
  if (!is_power_of_2 (*block) || *block > BLOCK_MAX ||
      !is_power_of_2 (*mem_align) || *mem_align > BOUNCE_ALIGN)
    return -EOPNOTSUPP;
  /* So that what follows a block in a buffer is aligned, too. */
  if (*block < *mem_align)
    *block = *mem_align;
  return 0;
#else
  (void) dirfd;
  (void) path;
  (void) block;
  (void) mem_align;
  return -EOPNOTSUPP;
#endif
}

#define NOT_DIRECT "direct=on: the kernel reports no direct I/O (O_DIRECT) " \
  "for it"

int
disk_check (const struct shared *s, char why[DISK_WHY_MAX])
{
  uint32_t block, mem_align;
  struct stat st;
  int r;

  if (stat (s->path, &st) < 0) {
    r = -errno;
    why_not (why, "%s", error_text (-r));
    return r;
  }
  r = check_type (&st, why);
  if (r == 0 && s->direct == CHOICE_ON) {
    r = direct_alignment (AT_FDCWD, s->path, &block, &mem_align);
    if (r < 0)
      why_not (why, NOT_DIRECT);
  }
  return r;
}

/* Does the device write zeroes faster than we could?  The kernel tells in
 * sysfs, for a partition in that of its disk.
 */
static bool
has_fast_zeroes (dev_t dev)
{
  static const char *const where[] = { "", "../" };
  unsigned long long max = 0;
  char path[128];
  FILE *f = NULL;
  size_t i;

  for (i = 0; f == NULL && i < sizeof where / sizeof where[0]; ++i) {
    snprintf (path, sizeof path,
              "/sys/dev/block/%u:%u/%squeue/write_zeroes_max_bytes",
              major (dev), minor (dev), where[i]);
    f = fopen (path, "re");
  }
  if (f == NULL)
    return false;
  if (fscanf (f, "%llu", &max) != 1)
    max = 0;
  fclose (f);
  return max > 0;
}

static int
find_size (struct disk *d, const struct stat *st)
{
  int sector, ro;

  d->device = S_ISBLK (st->st_mode);
  d->zero_align = 1;
  if (!d->device) {
    d->size = (uint64_t) st->st_size;
    return 0;
  }
  if (ioctl (d->fd, BLKGETSIZE64, &d->size) < 0 ||
      ioctl (d->fd, BLKSSZGET, &sector) < 0 ||
      ioctl (d->fd, BLKROGET, &ro) < 0)
    return -errno;
  if (ro && !d->readonly)
    return -EROFS;
  if (!is_power_of_2 ((uint64_t) sector))
    return -EINVAL;
  d->zero_align = (uint32_t) sector;
  d->fast_zeroes = has_fast_zeroes (st->st_rdev);
  return 0;
}

/* A descriptor of the very same file that is not O_DIRECT. */
static int
open_tail (struct disk *d, const struct stat *st)
{
  uint64_t unit = (uint64_t) sysconf (_SC_PAGESIZE);
  struct stat now;

  while (unit < (uint64_t) st->st_blksize && unit < BOUNCE_SIZE)
    unit *= 2;
  if (unit < d->block)
    unit = d->block;
  d->tail = round_down_p2 (d->size, unit);
  d->tail_fd = open (d->shared->path,
                     (d->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (d->tail_fd < 0 || fstat (d->tail_fd, &now) < 0)
    return -errno;
  if (now.st_dev != st->st_dev || now.st_ino != st->st_ino)
    return -ESTALE;
  /* Nothing but the tail. */
  posix_fadvise (d->tail_fd, 0, 0, POSIX_FADV_RANDOM);
  return 0;
}

/* Use O_DIRECT if it is wanted and there is one.  Returns 0 without it, too. */
static int
set_direct (struct disk *d, const struct stat *st, char *why)
{
  int flags, r;

  d->block = d->mem_align = 1;
  d->tail = d->size;
  if (d->shared->direct == CHOICE_OFF)
    return 0;
  r = direct_alignment (d->fd, "", &d->block, &d->mem_align);
  if (r == 0) {
    flags = fcntl (d->fd, F_GETFL);
    if (flags < 0 || fcntl (d->fd, F_SETFL, flags | O_DIRECT) < 0)
      r = -errno;
  }
  if (r < 0) {
    d->block = d->mem_align = 1;
    if (d->shared->direct == CHOICE_AUTO)
      return 0;
    why_not (why, NOT_DIRECT);
    return r;
  }
  d->direct = true;
  if ((d->size & (d->block - 1)) != 0) {
    r = open_tail (d, st);
    if (r < 0)
      why_not (why, "opening it for its last block: %s", error_text (-r));
  }
  return r;
}

static int
open_it (struct disk *d, char *why)
{
  struct stat st;
  int r;

  *why = 0;
  if (stat (d->shared->path, &st) == 0) {
    r = check_type (&st, why);
    if (r < 0)
      return r;
  }
  d->fd = open (d->shared->path,
                (d->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
  if (d->fd < 0 || fstat (d->fd, &st) < 0)
    return -errno;
  r = check_type (&st, why);
  if (r == 0)
    r = find_size (d, &st);
  if (r == 0)
    r = set_direct (d, &st, why);
  return r;
}

int
disk_open (struct disk *d, struct shared *s, bool readonly,
           char why[DISK_WHY_MAX])
{
  int r;

  *d = (struct disk) { .shared = s, .fd = -1, .tail_fd = -1,
                       .readonly = readonly };
  atomic_init (&d->seen_failures, syncs_failures (&s->syncs));
  page_cache_init (&d->page_cache);
  r = open_it (d, why);
  if (r == 0)
    return 0;
  if (*why == 0)
    why_not (why, "%s%s", error_text (-r),
             readonly ? "" : r == -EROFS || r == -EACCES || r == -EPERM ||
             r == -ETXTBSY ? "; it can be served read-only (nbdkit -r)" : "");
  disk_close (d);
  return r;
}

void
disk_close (struct disk *d)
{
  page_cache_destroy (&d->page_cache);
  if (d->tail_fd >= 0)
    close (d->tail_fd);
  if (d->fd >= 0)
    close (d->fd);
}

uint32_t
disk_preferred (const struct disk *d)
{
  return d->block > 4096 ? d->block : 4096;
}

int
disk_still_there (const struct disk *d, uint64_t end)
{
  struct stat st;

  if (d->device)
    return 0;
  if (fstat (d->fd, &st) < 0)
    return -errno;
  return (uint64_t) st.st_size >= end ? 0 : -EIO;
}

struct range
disk_pages (const struct disk *d, struct range r)
{
  return range_outer (r, PAGE_MAX, d->size);
}
