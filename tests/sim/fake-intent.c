/* SPDX-License-Identifier: BSD-3-Clause */
/* See fake-intent.h. */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "fake-intent.h"
#include "sched.h"

#define SLOW_NS UINT64_C (300000000)
#define MOST_PIECES 4u

static struct fake_intent *
fake_of (struct intent_io *io)
{
  return (struct fake_intent *) io;
}

static uint8_t *
sector (uint8_t *bytes, uint64_t n)
{
  return &bytes[n * INTENT_SECTOR];
}

static bool
same (struct fake_intent *fi, uint64_t n)
{
  return memcmp (sector (fi->cache, n), sector (fi->stable, n),
                 INTENT_SECTOR) == 0;
}

static void
changed (struct fake_intent *fi, uint64_t n)
{
  fi->changes++;
  fi->head_changes += n < INTENT_PAGES_OFFSET / INTENT_SECTOR;
}

static void
make_stable (struct fake_intent *fi, uint64_t n)
{
  memcpy (sector (fi->stable, n), sector (fi->cache, n), INTENT_SECTOR);
  fi->unsynced[n] = false;
  changed (fi, n);
}

/* What was dropped, or is lost. */
static void
go_back (struct fake_intent *fi, uint64_t n)
{
  if (!fi->unsynced[n] && same (fi, n))
    return;
  memcpy (sector (fi->cache, n), sector (fi->stable, n), INTENT_SECTOR);
  fi->unsynced[n] = false;
  changed (fi, n);
}

void
intent_evict (struct fake_intent *fi)
{
  const uint64_t n = sched_rand (fi->size / INTENT_SECTOR);

  if (fi->unsynced[n])
    make_stable (fi, n);
  else if (!same (fi, n))
    go_back (fi, n);
}

/*-- operations ---------------------------------------------------------*/

static void
begin (struct fake_intent *fi, enum intent_call what)
{
  if (!fi->open)
    sched_fail ("intent", "the file is used after it was closed");
  if (fi->busy != INTENT_NOTHING)
    sched_fail ("intent", "call %d of the file during call %d", what,
                fi->busy);
  if (!fi->linked && !fi->linked_stable)
    sched_fail ("intent", "call %d of a file that has been removed", what);
  fi->busy = what;
  fi->calls++;
  if (sched_percent (fi->faults.slow))
    sched_sleep (sched_rand (SLOW_NS));
  sched_yield_here ();
}

static int
end (struct fake_intent *fi, const char *format, uint64_t a, uint64_t b,
     bool bad)
{
  fi->busy = INTENT_NOTHING;
  fi->failed |= bad;
  sched_trace (format, bad ? EIO : 0, a, b, 0);
  sched_yield_here ();
  return bad ? -EIO : 0;
}

static int
intent_pread (struct intent_io *io, void *buf, size_t count, uint64_t offset)
{
  struct fake_intent *fi = fake_of (io);

  if (offset + count > fi->size)
    sched_fail ("intent", "a read of the file out of range");
  sched_yield_here ();
  if (sched_percent (fi->faults.read_error))
    return -EIO;
  memcpy (buf, &fi->cache[offset], count);
  return 0;
}

static void
land (struct fake_intent *fi, uint64_t n, const uint8_t *data)
{
  memcpy (sector (fi->cache, n), data, INTENT_SECTOR);
  fi->unsynced[n] = true;
  changed (fi, n);
}

static int
intent_pwrite (struct intent_io *io, const void *buf, size_t count,
               uint64_t offset)
{
  struct fake_intent *fi = fake_of (io);
  const uint64_t first = offset / INTENT_SECTOR;
  const uint64_t sectors = count / INTENT_SECTOR;
  const bool bad = sched_percent (fi->faults.write_error);
  const bool backwards = sched_percent (30);
  uint64_t done, n, quota, piece;

  if (count == 0 || count % INTENT_SECTOR || offset % INTENT_SECTOR ||
      offset + count > fi->size)
    sched_fail ("intent", "a write of %zu bytes at %llu", count,
                (unsigned long long) offset);
  begin (fi, INTENT_WRITE);
  quota = bad ? sched_rand (sectors + 1) : sectors;
  piece = 1 + sched_rand (sectors);
  if (piece < sectors / MOST_PIECES)
    piece = sectors / MOST_PIECES;
  for (done = 0; done < quota; done++) {
    if (done % piece == 0)
      sched_yield_here ();
    n = backwards ? sectors - 1 - done : done;
    land (fi, first + n, (const uint8_t *) buf + n * INTENT_SECTOR);
    if (bad && sched_percent (50))
      make_stable (fi, first + n);
  }
  return end (fi, "intent file: written, result -%llu: %llu bytes at %llu",
              count, offset, bad);
}

/* A sector that a bad sync was about. */
static void
draw_fate (struct fake_intent *fi, uint64_t n)
{
  switch (sched_rand (3)) {
  case 0:
    make_stable (fi, n);
    break;
  case 1:
    fi->unsynced[n] = false;
    changed (fi, n);
    break;
  }
}

static int
intent_sync (struct intent_io *io)
{
  struct fake_intent *fi = fake_of (io);
  const bool bad = sched_percent (fi->faults.sync_error);
  uint64_t n;

  begin (fi, INTENT_SYNC);
  for (n = 0; n < fi->size / INTENT_SECTOR; n++) {
    if (!fi->unsynced[n])
      continue;
    if (sched_percent (5))
      sched_yield_here ();
    if (bad)
      draw_fate (fi, n);
    else
      make_stable (fi, n);
  }
  fi->syncs += !bad;
  return end (fi, "intent file: sync, result -%llu", 0, 0, bad);
}

static int
intent_destroy (struct intent_io *io)
{
  struct fake_intent *fi = fake_of (io);
  const bool bad = sched_percent (fi->faults.destroy_error);

  begin (fi, INTENT_DESTROY);
  if (!bad || sched_percent (50)) {
    fi->linked = false;
    fi->changes++;
    sched_yield_here ();
  }
  if (!bad)
    fi->linked_stable = false;
  fi->changes++;
  return end (fi, "intent file: removed, result -%llu", 0, 0, bad);
}

static void
intent_close_file (struct intent_io *io)
{
  struct fake_intent *fi = fake_of (io);

  if (fi->busy != INTENT_NOTHING)
    sched_fail ("intent", "the file is closed during a call");
  fi->open = false;
}

static const struct intent_io_ops fake_intent_ops = {
  .pread = intent_pread,
  .pwrite = intent_pwrite,
  .sync = intent_sync,
  .destroy = intent_destroy,
  .free = intent_close_file,
};

/*-- its life -----------------------------------------------------------*/

void
intent_lay_out (struct fake_intent *fi, const struct intent_head *head)
{
  fi->size = intent_file_size (head);
  if (fi->size > MAX_INTENT || intent_regions (head) > MAX_REGIONS)
    sched_fail ("sim", "an intent file of %llu bytes",
                (unsigned long long) fi->size);
  memset (fi->cache, 0, fi->size);
  memset (fi->stable, 0, fi->size);
  memset (fi->unsynced, 0, sizeof fi->unsynced);
  fi->linked = fi->linked_stable = true;
  fi->failed = false;
  fi->syncs = 0;
  fi->changes++;
  fi->head_changes++;
  intent_open (fi);
}

void
intent_open (struct fake_intent *fi)
{
  fi->io.ops = &fake_intent_ops;
  fi->open = true;
  fi->busy = INTENT_NOTHING;
}

void
intent_crash (struct fake_intent *fi)
{
  fi->busy = INTENT_NOTHING;
  fi->open = false;
  if (fi->linked && sched_percent (50))
    intent_evict (fi);
  fi->changes++;
}

/* Neither the old nor the new: halves of both, or nothing of either. */
static void
tear (struct fake_intent *fi, uint64_t n)
{
  uint8_t *to = sector (fi->stable, n);

  sched_trace ("intent file: sector %llu is torn", n, 0, 0, 0);
  if (sched_percent (50))
    memcpy (to, sector (fi->cache, n), INTENT_SECTOR / 2);
  else
    memset (to, (int) sched_rand (256), INTENT_SECTOR);
}

void
intent_cut_power (struct fake_intent *fi)
{
  const unsigned kept = (unsigned) sched_rand (3) * 50;
  bool torn = sched_percent (fi->faults.torn);
  uint64_t n;

  sched_trace ("intent file: power cut", 0, 0, 0, 0);
  for (n = 0; n < fi->size / INTENT_SECTOR; n++) {
    if (fi->unsynced[n] && sched_percent (kept))
      make_stable (fi, n);
    else if (fi->unsynced[n] && torn) {
      tear (fi, n);
      torn = false;
    }
    go_back (fi, n);
  }
  if (fi->linked != fi->linked_stable)
    fi->linked = fi->linked_stable = sched_percent (50);
  fi->changes++;
}

/*-- views --------------------------------------------------------------*/

static bool
flip (struct fake_intent *fi)
{
  fi->random = fi->random * UINT64_C (6364136223846793005) +
    UINT64_C (1442695040888963407);
  return fi->random >> 63;
}

static void
compose (struct fake_intent *fi, enum intent_after after, uint8_t *bytes,
         uint64_t first, uint64_t end)
{
  uint64_t n;

  for (n = first; n < end; n++)
    memcpy (sector (bytes, n),
            sector (after == AFTER_KILL || (after == AFTER_ANY_CUT &&
                                            fi->unsynced[n] && flip (fi))
                    ? fi->cache : fi->stable, n), INTENT_SECTOR);
}

static void
view_pages (struct intent_view *v, const uint8_t *bytes)
{
  const uint8_t *page;
  uint64_t i, p;

  for (i = 0; i < intent_regions (&v->head); i++) {
    p = i / INTENT_PAGE_BITS;
    page = &bytes[INTENT_PAGES_OFFSET + p * INTENT_PAGE_SIZE];
    v->recorded[i] = !intent_page_counts (page, v->head.epoch, p) ||
      intent_get_bit (page, (unsigned) (i % INTENT_PAGE_BITS));
  }
}

void
intent_view_file (struct fake_intent *fi, enum intent_after after,
                  struct intent_view *v)
{
  const uint64_t heads = INTENT_PAGES_OFFSET / INTENT_SECTOR;
  static uint8_t bytes[MAX_INTENT];
  static struct intent_head both[2];
  int r[2];

  memset (v->recorded, 1, sizeof v->recorded);
  v->there = after == AFTER_KILL ? fi->linked
    : after == AFTER_CUT ? fi->linked_stable : fi->linked || fi->linked_stable;
  if (!v->there)
    return;
  if (v->head_changes != fi->head_changes) {
    v->head_changes = fi->head_changes;
    compose (fi, after, bytes, 0, heads);
    r[0] = intent_decode_head (&both[0], bytes);
    r[1] = intent_decode_head (&both[1], bytes + INTENT_HEADER_SIZE);
    v->copy = intent_choose_head (both, r);
    if (v->copy >= 0)
      v->head = both[v->copy];
  }
  if (v->copy < 0 || v->head.state != INTENT_RUNNING)
    return;
  compose (fi, after, bytes, heads, fi->size / INTENT_SECTOR);
  view_pages (v, bytes);
}
