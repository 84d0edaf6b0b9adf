/* SPDX-License-Identifier: BSD-3-Clause */
/* Zeroes and trims; see disk.h.
 *
 * There is a ladder of ways to zero, from the best to the worst.  That one is
 * not supported is remembered, and it is not tried again:
 *
 *   file     punch a hole (if that is welcome), zero range, punch a hole and
 *            allocate (which is tried first, it changes nothing)
 *   device   punch a hole (that is: write zeroes, unmapping, by the device),
 *            BLKZEROOUT
 *   both     write zeroes
 *
 * A file system zeroes any range; a device only sectors, the rest is written.
 * The blocks are locked shared, so that nobody who is about to write back the
 * rest of a block brings back what is zeroed here.  On a device that is not
 * direct whole pages are locked, exclusively: older kernels let a write to
 * another part of a page read all of it before the device has zeroed its part,
 * and write it back after that.
 *
 * A fast zero that is refused must not have changed anything, as the client may
 * rely on what was there: so nothing is tried for it that can fail after it has
 * destroyed something.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "disk.h"

/* Zeroes written with one lock. */
#define WRITE_AT_ONCE (UINT64_C (32) << 20)

/* 1: done; 0: not supported, which is noted in *no, or not now; or -errno. */
static int
outcome (int r, atomic_bool *no)
{
  if (r == 0)
    return 1;
  switch (errno) {
  case EOPNOTSUPP:
  case ENOSYS:
  case ENODEV:
  case ENOTTY:
    atomic_store (no, true);
    return 0;
  case EBUSY:
    /* A device that somebody else has claimed (O_EXCL, as nbdmirror run does),
     * of which dirty pages are in the page cache.
     */
    return 0;
  default:
    return rw_error (-errno);
  }
}

static int
try_fallocate (const struct disk *d, int mode, struct range r,
               atomic_bool *no)
{
  int res;

  if (atomic_load (no))
    return 0;
  do
    res = fallocate (d->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t) r.start,
                     (off_t) range_len (r));
  while (res < 0 && errno == EINTR);
  return outcome (res, no);
}

static int
try_ioctl (const struct disk *d, unsigned long request, struct range r,
           atomic_bool *no)
{
  uint64_t range[2] = { r.start, range_len (r) };
  int res;

  if (atomic_load (no))
    return 0;
  do
    res = ioctl (d->fd, request, range);
  while (res < 0 && errno == EINTR);
  return outcome (res, no);
}

static int
zero_file (struct disk *d, struct range r, bool may_trim)
{
  int done = 0;

  if (may_trim)
    done = try_fallocate (d, FALLOC_FL_PUNCH_HOLE, r, &d->no_punch);
  if (done == 0)
    done = try_fallocate (d, FALLOC_FL_ZERO_RANGE, r, &d->no_zero_range);
  if (done == 0 && !atomic_load (&d->no_punch)) {
    done = try_fallocate (d, 0, r, &d->no_allocate);
    if (done == 1)
      done = try_fallocate (d, FALLOC_FL_PUNCH_HOLE, r, &d->no_punch);
    if (done == 1)
      done = try_fallocate (d, 0, r, &d->no_allocate);
  }
  return done;
}

static int
zero_device (struct disk *d, struct range r, struct zero_how how)
{
  int done = 0;

  /* The kernel drops what is in the page cache before it finds that the device
   * cannot do it.
   */
  if (how.fast && !d->fast_zeroes)
    return 0;
  if (how.may_trim)
    done = try_fallocate (d, FALLOC_FL_PUNCH_HOLE, r, &d->no_punch);
  /* It writes zeroes, if it has to. */
  if (done == 0)
    done = try_ioctl (d, BLKZEROOUT, r, &d->no_zeroout);
  return done;
}

/* Without writing: as try_fallocate. */
static int
zero_by_kernel (struct disk *d, struct range r, struct zero_how how)
{
  bool pages = d->device && !d->direct;
  struct blockhold hold;
  int done;

  if (range_empty (r))
    return 1;
  blocklock_acquire (&d->shared->blocks, &hold, pages ? disk_pages (d, r)
                     : range_outer (r, d->block, d->size), pages);
  done = d->device ? zero_device (d, r, how)
    : zero_file (d, r, how.may_trim);
  blocklock_release (&d->shared->blocks, &hold);
  return done;
}

static int
write_zeroes (struct disk *d, struct range r)
{
  uint64_t end;
  int err = 0;

  for (; err == 0 && !range_empty (r); r.start = end) {
    end = round_down_p2 (r.start, WRITE_AT_ONCE) + WRITE_AT_ONCE;
    if (end > r.end)
      end = r.end;
    err = disk_write (d, NULL, end - r.start, r.start, false);
  }
  return err;
}

/* The whole sectors of it. */
static struct range
aligned_part (const struct disk *d, struct range r)
{
  struct range a = { round_up_p2 (r.start, d->zero_align),
                     round_down_p2 (r.end, d->zero_align) };

  if (a.end < a.start)          /* there is none */
    a.start = a.end = r.end;
  return a;
}

static int
zero_all (struct disk *d, struct range all, struct zero_how how)
{
  struct range inner = aligned_part (d, all);
  int r = zero_by_kernel (d, inner, how);

  if (r < 0)
    return r;
  if (r == 0) {
    if (how.fast)
      return -EOPNOTSUPP;
    inner.start = inner.end = all.end;
  }
  /* In front of what is done, and behind it; or all of it. */
  r = write_zeroes (d, (struct range) { all.start, inner.start });
  if (r == 0)
    r = write_zeroes (d, (struct range) { inner.end, all.end });
  return r;
}

int
disk_zero (struct disk *d, uint64_t count, uint64_t offset,
           struct zero_how how)
{
  struct range all = { offset, offset + count };
  struct syncing me;
  int r = disk_still_there (d, all.end);

  if (r < 0)
    return r;
  if (!how.fua)
    return zero_all (d, all, how);
  disk_fua_begin (d, &me);
  return disk_fua_end (d, &me, zero_all (d, all, how));
}

static int
trim (struct disk *d, struct range r)
{
  struct blockhold hold;
  int done;

  if (range_empty (r))
    return 0;
  blocklock_acquire (&d->shared->blocks, &hold,
                     range_outer (r, d->block, d->size), false);
  done = d->device ? try_ioctl (d, BLKDISCARD, r, &d->no_discard)
    : try_fallocate (d, FALLOC_FL_PUNCH_HOLE, r, &d->no_punch);
  blocklock_release (&d->shared->blocks, &hold);
  return done < 0 ? done : 0;
}

int
disk_trim (struct disk *d, uint64_t count, uint64_t offset, bool fua)
{
  struct range r = aligned_part (d, (struct range) { offset, offset + count });
  struct syncing me;
  int err = disk_still_there (d, offset + count);

  if (err < 0)
    return err;
  if (!fua)
    return trim (d, r);
  disk_fua_begin (d, &me);
  return disk_fua_end (d, &me, trim (d, r));
}
