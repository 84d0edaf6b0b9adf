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
  if (err == 0)
    err = run (d, &t);
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
  if (err == 0 && d->shared->drop_cache && !d->direct)
    page_cache_written (&d->page_cache, fd, all);
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

/* Or a write with RWF_DSYNC, which may have failed in the flush of the disk's
 * cache that it asked for: then it is not only its own data that may be lost.
 */
static void
flush_failed (struct disk *d)
{
  atomic_fetch_add (&d->shared->failed_flushes, 1);
}

/* Is it one system call, or one piece? */
static bool
is_one (const struct disk *d, const void *buf, struct range r)
{
  if (d->direct && r.start < d->tail && r.end > d->tail)
    return false;
  return (!d->direct && buf != NULL) ||
    range_len (range_outer (r, d->block, d->size)) <= BOUNCE_SIZE;
}

int
disk_write (struct disk *d, const void *buf, uint64_t count, uint64_t offset,
            bool fua)
{
  struct range all = range_of (offset, count), part = all;
  /* Of several writes each would wait for the disk's cache; one sync for all
   * of them is better.
   */
  int flags = fua && is_one (d, buf, all) ? RWF_DSYNC : 0;
  int r = disk_still_there (d, all.end);

  if (r < 0)
    return r;
  if (!d->direct)
    r = write_cached (d, d->fd, buf, all, flags);
  else {
    if (part.end > d->tail)
      part.end = d->tail;
    if (part.start < part.end) {
      r = write_direct (d, buf, part, flags);
      all.start = part.end;
    }
    if (r == 0 && !range_empty (all))
      r = write_tail (d, buf ? (const char *) buf + (all.start - offset)
                      : NULL, all, flags);
  }
  if (r == 0 && fua && flags == 0)
    r = disk_flush (d);
  else if (r < 0 && flags != 0 && r != -ENOSPC && r != -ENOMEM)
    flush_failed (d);
  return r;
}

/*-- flushing -----------------------------------------------------------*/

/* Failures are counted.  Who has not seen the last one yet must hear of it:
 * the kernel tells each descriptor of pages that it could not write, but of a
 * disk's cache that could not be flushed only who asked.
 */
int
disk_flush (struct disk *d)
{
  unsigned failures;
  int r = 0;

  while (fdatasync (d->fd) < 0) {
    if (errno == EINTR)
      continue;
    r = rw_error (-errno);
    flush_failed (d);
    break;
  }
  failures = atomic_load (&d->shared->failed_flushes);
  if (atomic_exchange (&d->seen_failures, failures) != failures && r == 0)
    r = -EIO;
  return r;
}
