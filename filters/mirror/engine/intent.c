/* SPDX-License-Identifier: BSD-3-Clause */
/* The regions of the write-intent record; see intent.h.
 *
 * A region's word says how many are active in it and whether it is recorded.
 * To begin in a region that is recorded, and is not being retired, is one
 * compare-and-swap: a hot region costs no I/O and no lock.
 *
 * Who finds a region that is not recorded asks for it (WANTED) and, if nobody
 * is writing, writes: all that is wanted at that moment, in one go, with one
 * sync.  Who comes meanwhile asks and waits, and one of them writes the next
 * lot.  So there is no thread, a lone request is not handed to and fro, and
 * many requests share a sync.
 *
 *   CLEAN --want--> CLEAN|WANTED --write--> CLEAN|WRITING --sync--> 0
 *     ^                   ^--------failed---------'                 |
 *     '--sync-- RETIRING <------- idle, flushed, nothing differs ---'
 *
 * Retiring (I2) must not race with who begins.  A word that is seen idle gets
 * IDLE; who begins clears it.  So if it is still there after the flushes,
 * nobody has been active since before they began; D cannot have grown there,
 * because who marks is active; and the step to RETIRING, which checks the whole
 * word, is atomic with all that.  Who begins in a region that is being retired
 * waits until that has been written, and records it anew.
 *
 * A write or sync that has failed counts as not recorded, and is the end of
 * recording: see intent-head.c.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "failpoint.h"
#include "intent-private.h"

static uint64_t
region_of (const struct intent *in, uint64_t offset)
{
  return offset >> in->shift;
}

static struct range
range_of (const struct intent *in, uint64_t first, uint64_t end)
{
  struct range r = { first << in->shift, end << in->shift };

  if (r.end > in->head.size || end == in->regions)
    r.end = in->head.size;
  return r;
}

/*-- writing pages ------------------------------------------------------*/

/* Which bits the file is to have is up to flags that only the writer changes.
 */
static void
compose_page (struct intent *in, uint64_t page, char *buf)
{
  const uint64_t first = page * INTENT_PAGE_BITS;
  uint64_t i, end = first + INTENT_PAGE_BITS;
  uint32_t w;

  if (end > in->regions)
    end = in->regions;
  intent_begin_page (buf);
  for (i = first; i < end; ++i) {
    w = atomic_load_explicit (&in->words[i], memory_order_relaxed);
    if ((w & WORD_WRITING) || !(w & (WORD_CLEAN | WORD_RETIRING)))
      intent_set_bit (buf, (unsigned) (i - first));
  }
  intent_seal_page (buf, in->head.epoch, page);
}

int
intent_write_batch (struct intent *in)
{
  uint64_t page = 0, n;
  int r;

  while (page < in->pages) {
    for (n = 0; page + n < in->pages && n < INTENT_RUN && in->batch[page + n];
         ++n)
      compose_page (in, page + n, in->buf + n * INTENT_PAGE_SIZE);
    if (n > 0) {
      r = FAILPOINT ("intent-write");
      if (r == 0)
        r = in->io->ops->pwrite (in->io, in->buf, n * INTENT_PAGE_SIZE,
                                 INTENT_PAGES_OFFSET +
                                 page * INTENT_PAGE_SIZE);
      if (r < 0)
        return r;
    }
    page += n > 0 ? n : 1;
  }
  r = FAILPOINT ("intent-sync");
  return r < 0 ? r : in->io->ops->sync (in->io);
}

/* Turn over those bits of the words of the batch's pages that have `flag`, in
 * one step each.  Returns how many there are.
 */
static uint64_t
turn_batch (struct intent *in, uint32_t flag, uint32_t bits)
{
  uint64_t page, i, end, n = 0;

  for (page = 0; page < in->pages; ++page) {
    if (!in->batch[page])
      continue;
    end = (page + 1) * INTENT_PAGE_BITS;
    if (end > in->regions)
      end = in->regions;
    for (i = page * INTENT_PAGE_BITS; i < end; ++i)
      if (atomic_load (&in->words[i]) & flag) {
        atomic_fetch_xor (&in->words[i], bits);
        n++;
      }
  }
  return n;
}

/* Record all that is wanted now.  The lock is held, and given up meanwhile. */
static void
record_locked (struct intent *in)
{
  uint64_t n;
  int r = 0;

  in->writing = true;
  if (!in->broken) {
    memcpy (in->batch, in->wanted, in->pages);
    memset (in->wanted, 0, in->pages);
    turn_batch (in, WORD_WANTED, WORD_WANTED | WORD_WRITING);
    mutex_unlock (&in->lock);

    r = intent_write_batch (in);

    mutex_lock (&in->lock);
    in->syncs++;
    if (r == 0) {
      n = turn_batch (in, WORD_WRITING, WORD_WRITING | WORD_CLEAN);
      atomic_fetch_add (&in->recorded, n);
    }
    else {
      turn_batch (in, WORD_WRITING, WORD_WRITING | WORD_WANTED);
      for (n = 0; n < in->pages; ++n)
        in->wanted[n] |= in->batch[n];
    }
  }
  if (r < 0 || in->broken) {
    mutex_unlock (&in->lock);
    intent_lose (in);
    mutex_lock (&in->lock);
  }
  mutex_unlock (&in->lock);
  intent_end_writing (in);
  FAILPOINT ("intent-recorded");
  mutex_lock (&in->lock);
}

/*-- requests and copies ------------------------------------------------*/

/* One more is active in it, if it is recorded. */
static bool
enter (struct intent *in, uint64_t region)
{
  uint32_t w = atomic_load (&in->words[region]);

  do {
    if (w & (WORD_CLEAN | WORD_RETIRING))
      return false;
    assert ((w & WORD_COUNT) < WORD_COUNT);
  } while (!atomic_compare_exchange_weak (&in->words[region], &w,
                                          (w & ~WORD_IDLE) + 1));
  sync_point ();
  return true;
}

static void
leave (struct intent *in, uint64_t first, uint64_t end)
{
  uint32_t old;

  for (; first < end; ++first) {
    old = atomic_fetch_sub (&in->words[first], 1);
    assert ((old & WORD_COUNT) > 0);
    (void) old;
  }
}

/* What is being retired is asked for when that has been written.  One step: the
 * writer may just be making all of them recorded.
 */
static void
want_locked (struct intent *in, uint64_t first, uint64_t end)
{
  uint32_t w;

  for (; first < end; ++first) {
    w = atomic_load (&in->words[first]);
    while ((w & WORD_CLEAN) &&
           !(w & (WORD_RETIRING | WORD_WRITING | WORD_WANTED))) {
      sync_point ();
      if (atomic_compare_exchange_weak (&in->words[first], &w,
                                        w | WORD_WANTED)) {
        in->wanted[first / INTENT_PAGE_BITS] = 1;
        break;
      }
    }
  }
}

/* Ask for what is not recorded of [first, end), and write it or wait for a
 * while.  Only of a file that has failed can anybody wait for too long: with one
 * that is well it takes as long as it takes.
 */
static int
push_locked (struct intent *in, uint64_t first, uint64_t end,
             uint64_t deadline_ns)
{
  const uint64_t now = in->clock->now_ns (in->clock);
  uint64_t until = deadline_ns;

  want_locked (in, first, end);
  if (!in->writing && (!in->broken || now >= in->retry_ns)) {
    record_locked (in);
    return 0;
  }
  if (!in->broken) {
    cond_wait (&in->changed, &in->lock);
    return 0;
  }
  if (now >= deadline_ns)
    return -EIO;
  if (!in->writing && in->retry_ns < deadline_ns)
    until = in->retry_ns;
  in->clock->wait_until (in->clock, &in->changed, &in->lock, until);
  return 0;
}

/* The same for who has to wait.  What he needs up to `end` is asked for at
 * once.
 */
static int
enter_slowly (struct intent *in, uint64_t region, uint64_t end,
              uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  int r = 0;

  in->waits++;
  while (r == 0 && !enter (in, region))
    r = push_locked (in, region, end, deadline_ns);
  return r;
}

int
intent_begin (struct intent *in, struct range r, uint64_t deadline_ns)
{
  const uint64_t first = region_of (in, r.start);
  const uint64_t end = region_of (in, r.end - 1) + 1;
  uint64_t i;
  int err;

  for (i = first; i < end; ++i) {
    if (enter (in, i))
      continue;
    err = enter_slowly (in, i, end, deadline_ns);
    if (err < 0) {
      leave (in, first, i);
      return err;
    }
  }
  return 0;
}

void
intent_end (struct intent *in, struct range r)
{
  leave (in, region_of (in, r.start), region_of (in, r.end - 1) + 1);
}

static bool
is_recorded (struct intent *in, uint64_t first, uint64_t end)
{
  for (; first < end; ++first)
    if (atomic_load (&in->words[first]) & (WORD_CLEAN | WORD_RETIRING))
      return false;
  return true;
}

int
intent_ask (struct intent *in, struct range r, uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  uint64_t first, end;
  int err = 0;

  while (err == 0) {
    first = region_of (in, r.start);
    end = region_of (in, r.end - 1) + 1;
    if (is_recorded (in, first, end))
      break;
    err = push_locked (in, first, end, deadline_ns);
  }
  return err;
}

int
intent_check_file (struct intent *in)
{
  const int r = in->gone || !in->io->ops->check ? 0
    : in->io->ops->check (in->io);

  if (r == -ENOENT) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

    in->gone = true;
    in->tell_lost |= !in->lost;
    in->lost = true;
  }
  return r;
}

/*-- retiring -----------------------------------------------------------*/

uint64_t
intent_idle (struct intent *in)
{
  uint64_t i, n = 0;
  uint32_t w;

  if (atomic_load (&in->recorded) == 0)
    return 0;
  for (i = 0; i < in->regions; ++i) {
    w = atomic_load_explicit (&in->words[i], memory_order_relaxed);
    n += (w & ~WORD_COUNT) == WORD_IDLE && (w & WORD_COUNT) == 0;
  }
  return n;
}

void
intent_watch (struct intent *in)
{
  uint64_t i;
  uint32_t w;

  if (atomic_load (&in->recorded) == 0)
    return;
  for (i = 0; i < in->regions; ++i) {
    w = atomic_load_explicit (&in->words[i], memory_order_relaxed);
    if (w == 0)
      atomic_compare_exchange_strong (&in->words[i], &w, WORD_IDLE);
  }
}

/* Take what may go into the batch; returns how many. */
static uint64_t
pick_idle (struct intent *in,
           bool (*next) (void *opaque, uint64_t from, struct range *run),
           void *opaque)
{
  struct range run = { 0, 0 }, here;
  bool differs = true;          /* run may be in the way */
  uint64_t i, n = 0;
  uint32_t w;

  memset (in->batch, 0, in->pages);
  for (i = 0; i < in->regions; ++i) {
    if (atomic_load_explicit (&in->words[i], memory_order_relaxed) !=
        WORD_IDLE)
      continue;
    here = range_of (in, i, i + 1);
    if (differs && run.end <= here.start)
      differs = next (opaque, here.start, &run);
    if (differs && range_overlap (run, here)) {
      i = region_of (in, run.end - 1);
      continue;
    }
    sync_point ();
    w = WORD_IDLE;
    if (atomic_compare_exchange_strong (&in->words[i], &w, WORD_RETIRING)) {
      in->batch[i / INTENT_PAGE_BITS] = 1;
      n++;
    }
  }
  return n;
}

int
intent_retire (struct intent *in,
               bool (*next) (void *opaque, uint64_t from, struct range *run),
               void *opaque)
{
  uint64_t n;
  int r = 0;

  mutex_lock (&in->lock);
  if (in->head.state != INTENT_RUNNING || in->lost || in->broken) {
    mutex_unlock (&in->lock);
    return 0;
  }
  intent_begin_writing_locked (in);
  mutex_unlock (&in->lock);

  n = pick_idle (in, next, opaque);
  if (n > 0) {
    FAILPOINT ("intent-retire");
    r = intent_write_batch (in);
    /* Also if it has failed: nobody knows what the file says. */
    turn_batch (in, WORD_RETIRING, WORD_RETIRING | WORD_CLEAN);
    atomic_fetch_sub (&in->recorded, n);
    if (r < 0)
      intent_lose (in);
  }
  intent_end_writing (in);
  return r;
}

/*-- looking ------------------------------------------------------------*/

void
intent_each (struct intent *in, void (*fn) (void *opaque, struct range r),
             void *opaque)
{
  uint64_t i = 0, first;

  while (i < in->regions) {
    for (first = i; i < in->regions &&
           !(atomic_load (&in->words[i]) & WORD_CLEAN); ++i)
      ;
    if (i > first)
      fn (opaque, range_of (in, first, i));
    else
      i++;
  }
}

enum intent_state
intent_state (struct intent *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  return in->head.state;
}

void
intent_get_status (struct intent *in, struct intent_status *st)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  const uint64_t n = atomic_load (&in->recorded);

  st->state = in->head.state;
  st->fenced = in->head.fenced;
  st->clean = in->head.clean;
  st->running = in->head.state == INTENT_RUNNING && !in->lost;
  st->lost = in->lost;
  st->gone = in->gone;
  st->syncs = in->syncs;
  st->waits = in->waits;
  st->bytes = in->head.size;
  /* The last region may be shorter; that it is recorded is soon seen. */
  if (st->running && n < in->regions)
    st->bytes = n << in->shift < in->head.size ? n << in->shift
      : in->head.size;
}

void
intent_check (struct intent *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  uint64_t i, n = 0;
  uint32_t w;

  for (i = 0; i < in->regions; ++i) {
    w = atomic_load (&in->words[i]);
    n += !(w & WORD_CLEAN);
    /* Who is active has been recorded, and nothing was taken back since. */
    assert (!(w & (WORD_CLEAN | WORD_RETIRING)) || (w & WORD_COUNT) == 0);
    assert (!(w & (WORD_WANTED | WORD_WRITING)) || (w & WORD_CLEAN));
    assert (!(w & WORD_WANTED) || in->wanted[i / INTENT_PAGE_BITS]);
    assert (in->writing || !(w & (WORD_WRITING | WORD_RETIRING)));
  }
  assert (in->writing || n == atomic_load (&in->recorded));
}
