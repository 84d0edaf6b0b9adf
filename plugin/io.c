/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading, writing and flushing; see disk.h.
 *
 * A request is cut where the tail begins (disk.c).  The part in front of it is
 * direct I/O: a transfer (transfer.h), through a ring if it is a read so large
 * that several pieces in flight are worth it, else by preadv or pwritev.  For a
 * thread that has one request, and waits for it, a ring costs the same system
 * calls and more work around them; and what has been killed must not write any
 * more (ring.c).
 *
 * Where a write does not begin and end with a block, the blocks at its ends are
 * read first.  Its blocks are locked exclusively until all is written; a write
 * of whole blocks only shares them, since the kernel does not need us to keep
 * it apart from others (blocklock.h).  Reads need no lock: what a
 * read-modify-write writes outside its range is what is there.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "cleanup.h"
#include "disk.h"

/* The largest folio of a page cache. */
#define FOLIO_MAX (UINT64_C (2) << 20)

/* The least read that goes through a ring. */
#define RING_WORTH (2 * BOUNCE_SIZE)

static struct range
range_of (uint64_t offset, uint64_t count)
{
  return (struct range) { offset, offset + count };
}

static int
run (struct disk *d, struct transfer *t)
{
  struct ring *ring = NULL;
  int r;

  if (!t->how.write && range_len (t->outer) >= RING_WORTH)
    ring = ring_get (&d->shared->rings, &r);
  if (ring == NULL)
    return transfer_run (t);
  r = ring_run (ring, t);
  ring_put (&d->shared->rings, ring);
  return r;
}

static struct transfer
transfer_of (struct disk *d, const char *data, struct range want)
{
  struct transfer t = {
    .how = { .fd = d->fd, .block = d->block },
    .data = (char *) data,
    .want = want,
    .outer = range_outer (want, d->block, d->tail),
    .bounces = &d->shared->bounces,
  };

  t.next = t.outer.start;
  t.bounce = ((uintptr_t) data & (d->mem_align - 1)) != 0 ||
    t.outer.start != want.start || t.outer.end != want.end;
  return t;
}

/*-- reading ------------------------------------------------------------*/

static int
read_direct (struct disk *d, char *buf, struct range r)
{
  struct transfer t = transfer_of (d, buf, r);

  return run (d, &t);
}

/* Through the page cache. */
static int
read_cached (struct disk *d, int fd, char *buf, struct range r)
{
  const struct rw_how how = { .fd = fd, .block = 1 };
  int err = rw_buffer (&how, buf, range_len (r), r.start);

  if (err == 0 && d->shared->drop_cache && !d->direct)
    page_cache_read (fd, r);
  return err;
}

int
disk_read (struct disk *d, void *buf, uint64_t count, uint64_t offset)
{
  struct range all = range_of (offset, count), part = all;
  int r = 0;

  if (!d->direct)
    return read_cached (d, d->fd, buf, all);
  if (part.end > d->tail)
    part.end = d->tail;
  if (part.start < part.end) {
    r = read_direct (d, buf, part);
    all.start = part.end;
  }
  if (r == 0 && !range_empty (all))
    r = read_cached (d, d->tail_fd, (char *) buf + (all.start - offset), all);
  return r;
}

/*-- what may fail for others -------------------------------------------*/

/* A write with RWF_DSYNC has failed: maybe in the flush of the disk's cache
 * that it asked for, and then it is not only its own data that may be lost.
 * One that finds no space, or no memory, has not come so far.  (Through the
 * page cache it could be told that of what others wrote: see is_one.)
 */
static void
note_dsync (struct disk *d, int flags, int err)
{
  if (err < 0 && flags != 0 && err != -ENOSPC && err != -ENOMEM)
    syncs_failed (&d->shared->syncs);
}

/* The kernel tells this descriptor of a write that has failed now, and no more
 * when it is flushed.
 */
static void
keep_out_of_cache (struct disk *d, int fd, struct range r)
{
  struct syncing me;

  syncs_begin (&d->shared->syncs, &me);
  if (page_cache_written (&d->page_cache, fd, r) < 0)
    syncs_failed (&d->shared->syncs);
  syncs_end (&d->shared->syncs, &me, false);
}

/*-- writing ------------------------------------------------------------*/

/* What is in the blocks that are written in part.  old is a bounce buffer. */
static int
read_ends (struct transfer *t, char *old)
{
  const struct rw_how how = { .fd = t->how.fd, .block = t->how.block };
  uint32_t block = t->how.block;
  uint64_t last = t->outer.end - block;
  int r = 0;

  if (t->want.start > t->outer.start) {
    r = rw_buffer (&how, old, block, t->outer.start);
    t->head = old;
    if (last == t->outer.start)
      t->tail = old;
  }
  if (r == 0 && t->want.end < t->outer.end && t->tail == NULL) {
    r = rw_buffer (&how, old + block, block, last);
    t->tail = old + block;
  }
  return r;
}

static int
write_direct (struct disk *d, const char *buf, struct range r, int flags)
{
  struct transfer t = transfer_of (d, buf, r);
  bool partly = t.outer.start != r.start || t.outer.end != r.end;
  struct blockhold hold;
  char *old = NULL;
  int err = 0;

  t.how.write = true;
  t.how.flags = flags;
  if (partly && (old = bounce_get (t.bounces)) == NULL)
    return -ENOMEM;
  blocklock_acquire (&d->shared->blocks, &hold, t.outer, partly);
  if (partly)
    err = read_ends (&t, old);
  if (err == 0) {
    err = run (d, &t);
    note_dsync (d, flags, err);
  }
  blocklock_release (&d->shared->blocks, &hold);
  bounce_put (t.bounces, old);
  return err;
}

/* Through the page cache; buf NULL: zeroes. */
static int
write_cached (struct disk *d, int fd, const char *buf, struct range r,
              int flags)
{
  const struct rw_how how = { .fd = fd, .write = true, .flags = flags,
                              .block = 1 };
  struct range all = r;
  int err = 0;

  if (buf != NULL)
    err = rw_buffer (&how, (char *) buf, range_len (r), r.start);
  else
    for (; err == 0 && !range_empty (r); r.start += BOUNCE_SIZE)
      err = rw_buffer (&how, bounce_zeroes (),
                       range_len (r) < BOUNCE_SIZE ? range_len (r)
                       : BOUNCE_SIZE, r.start);
  note_dsync (d, flags, err);
  if (err == 0 && d->shared->drop_cache && !d->direct)
    keep_out_of_cache (d, fd, all);
  return err;
}

/* Of a disk that is not direct.  A device zeroes below the page cache, so that
 * a write to another part of a page must not read what is about to be zeroed:
 * see zero.c.
 */
static int
write_buffered (struct disk *d, const char *buf, struct range r, int flags)
{
  struct blockhold hold;
  int err;

  if (!d->device)
    return write_cached (d, d->fd, buf, r, flags);
  blocklock_acquire (&d->shared->blocks, &hold, disk_pages (d, r), false);
  err = write_cached (d, d->fd, buf, r, flags);
  blocklock_release (&d->shared->blocks, &hold);
  return err;
}

/* See disk.c. */
static int
write_tail (struct disk *d, const char *buf, struct range r, int flags)
{
  struct range near = { d->tail < FOLIO_MAX ? 0 : d->tail - FOLIO_MAX,
                        d->size };
  struct blockhold hold;
  int err;

  blocklock_acquire (&d->shared->blocks, &hold, near, true);
  err = write_cached (d, d->tail_fd, buf, r, flags);
  if (err == 0 &&
      sync_file_range (d->tail_fd, (off_t) d->tail, 0,
                       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                       SYNC_FILE_RANGE_WAIT_AFTER) < 0)
    err = rw_error (-errno);
  blocklock_release (&d->shared->blocks, &hold);
  return err;
}

/* Is it one piece, that a single call makes durable?  Not through the page
 * cache: that call could not tell apart what is wrong with its own data and
 * with that of others.
 */
static bool
is_one (const struct disk *d, struct range r)
{
  return d->direct && !(r.start < d->tail && r.end > d->tail) &&
    range_len (range_outer (r, d->block, d->size)) <= BOUNCE_SIZE;
}

static int
write_all (struct disk *d, const char *buf, struct range all, int flags)
{
  struct range part = all;
  int r = 0;

  if (!d->direct)
    return write_buffered (d, buf, all, flags);
  if (part.end > d->tail)
    part.end = d->tail;
  if (part.start < part.end) {
    r = write_direct (d, buf, part, flags);
    if (buf != NULL)
      buf += part.end - all.start;
    all.start = part.end;
  }
  if (r == 0 && !range_empty (all))
    r = write_tail (d, buf, all, flags);
  return r;
}

int
disk_write (struct disk *d, const void *buf, uint64_t count, uint64_t offset,
            bool fua)
{
  struct range all = range_of (offset, count);
  struct syncing me;
  int r = disk_still_there (d, all.end);

  if (r < 0 || !fua)
    return r < 0 ? r : write_all (d, buf, all, 0);
  syncs_begin (&d->shared->syncs, &me);
  /* Of several writes each would wait for the disk's cache; one sync for all
   * of them is better.
   */
  if (!is_one (d, all))
    return disk_fua_end (d, &me, write_all (d, buf, all, 0));
  r = write_all (d, buf, all, RWF_DSYNC);
  if (syncs_end (&d->shared->syncs, &me, true) != me.failures && r == 0)
    r = -EIO;
  return r;
}

/*-- flushing -----------------------------------------------------------*/

static int
sync_file (struct disk *d)
{
  while (fdatasync (d->fd) < 0)
    if (errno != EINTR) {
      syncs_failed (&d->shared->syncs);
      return rw_error (-errno);
    }
  return 0;
}

/* A failure that had not been told here when this flush began is this flush's,
 * too, whoever was told of it by the kernel: syncs.h.  Of several that are on
 * their way each tells it.
 */
int
disk_flush (struct disk *d)
{
  const unsigned seen = atomic_load (&d->seen_failures);
  struct syncing me;
  unsigned failures;
  int r;

  syncs_begin (&d->shared->syncs, &me);
  r = sync_file (d);
  failures = syncs_end (&d->shared->syncs, &me, true);
  if (failures != seen) {
    atomic_store (&d->seen_failures, failures);
    if (r == 0)
      r = -EIO;
  }
  return r;
}

void
disk_fua_begin (struct disk *d, struct syncing *me)
{
  syncs_begin (&d->shared->syncs, me);
}

/* The next flush is to tell of a failure, too, since older data may be lost: so
 * seen_failures is as it was.
 */
int
disk_fua_end (struct disk *d, struct syncing *me, int r)
{
  if (r == 0)
    r = sync_file (d);
  if (syncs_end (&d->shared->syncs, me, true) != me->failures && r == 0)
    r = -EIO;
  return r;
}
