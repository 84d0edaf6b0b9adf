/* SPDX-License-Identifier: BSD-3-Clause */
/* Which piece is copied next, and when; see copier.c for the whole. */

#include <config.h>

#include <errno.h>

#include "cleanup.h"
#include "copier-private.h"

/* Between two tries of a target that has no space left. */
#define FULL_NS UINT64_C (1000000000)

/* How long to sleep when nothing says otherwise; only a bound, waking is by
 * events.
 */
#define LONG_NS UINT64_C (3600000000000)

/* While clients limit the rate.  A client's request that meets a piece waits
 * for it, and for the processor while it is moved: docs/performance.md.
 */
#define GENTLE_UNIT (UINT64_C (32) << 10)

/* So many ends of the disk have been come to when all has been copied once:
 * copying may begin anywhere.
 */
#define CAUGHT_UP 2

/* Whatever the lock protects may have changed after these two. */
static void
sleep_locked (struct copiers *c, uint64_t ns)
{
  uint64_t deadline = c->p->clock->now_ns (c->p->clock) + ns;

  c->p->clock->wait_until (c->p->clock, &c->wake, &c->lock, deadline);
}

/* The next dirty run from the cursor on, wrapping once. */
static bool
next_dirty_locked (struct copiers *c, struct range *r)
{
  if (dirty_next (c->p->dirty, c->cursor, c->zero_unit, r))
    return true;
  c->rounds++;
  c->cursor = 0;
  return dirty_next (c->p->dirty, 0, c->zero_unit, r);
}

/* A dirty run that is not in back-off.  Returns 0, or how long to wait. */
static uint64_t
candidate_locked (struct copiers *c, struct range *r)
{
  uint64_t now = c->p->clock->now_ns (c->p->clock);
  uint64_t due, soonest = LONG_NS, first = UINT64_MAX;
  unsigned tries;

  /* Each refusal moves the cursor past one entry of the table, until the disk
   * has been gone round once.  The bound is for a table that grows meanwhile.
   */
  for (tries = 0; tries < 2 * RETRY_MAX + 2; ++tries) {
    if (!next_dirty_locked (c, r))
      return LONG_NS;
    if (r->start == first)
      return soonest;
    if (first == UINT64_MAX)
      first = r->start;
    if (retry_allows (&c->retry, r, now, &due))
      return 0;
    if (due - now < soonest)
      soonest = due - now;
    c->cursor = r->end;
  }
  return soonest;
}

/* Most bytes of a piece of data now, and of what is read and written of it at
 * once.  A client that meets a piece waits for as long as that takes.
 */
static uint64_t
unit_locked (const struct copiers *c)
{
  return copy_rate_is_gentle (&c->rate) && c->unit > GENTLE_UNIT
    ? GENTLE_UNIT : c->unit;
}

/* What is known of the source there, but for holes of which it has not been
 * asked lately: where there was one much is taken at once, and if data has come
 * there meanwhile clients would wait for all of it.
 */
static bool
look_locked (struct copiers *c, uint64_t at, struct range *extent,
             enum extent_kind *kind)
{
  const uint64_t now = c->p->clock->now_ns (c->p->clock);
  unsigned i;

  for (i = 0; i < HINTS; ++i)
    if (hint_look (c->hints[i].hint, at, extent, kind) &&
        (*kind == EXTENT_DATA || now - c->hints[i].ns <= HINT_FRESH_NS))
      return true;
  return false;
}

void
copiers_note_extents (struct copiers *c, const struct hint *h)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  const unsigned i = 1 + c->next_hint;

  c->next_hint = (c->next_hint + 1) % (HINTS - 1);
  hint_copy (c->hints[i].hint, h);
  c->hints[i].ns = c->p->clock->now_ns (c->p->clock);
}

/* Cut the candidate to what one piece may be.  Returns false if nothing is
 * known of the source there.
 */
static bool
cut_locked (struct copiers *c, struct range *r, enum extent_kind *kind)
{
  uint64_t gran = c->p->granularity, end, unit;
  struct range extent;

  if (!look_locked (c, r->start, &extent, kind))
    return false;
  end = extent.end >= c->p->size ? c->p->size
    : round_down_p2 (extent.end, gran);
  if (*kind == EXTENT_DATA || end <= r->start) {
    *kind = EXTENT_DATA;
    unit = unit_locked (c);
    end = r->start + (unit > gran ? unit : gran);
  }
  if (r->end > end)
    r->end = end;
  return true;
}

/* Ask the source what is at r.start, then cut.  Gives up the lock.  One asks,
 * since all want to know the same; the others find out, and return false.
 */
static bool
ask_and_cut_locked (struct copiers *c, struct copier *cp, struct range *r,
                    enum extent_kind *kind)
{
  struct hint *old;

  if (c->asking) {
    cond_wait (&c->asked, &c->lock);
    return false;
  }
  c->asking = true;
  mutex_unlock (&c->lock);
  hint_ask (cp->hint, c->source, hint_window (r->start, c->p->size));
  mutex_lock (&c->lock);
  c->asking = false;
  cond_broadcast (&c->asked);
  old = c->hints[0].hint;
  c->hints[0].hint = cp->hint;
  cp->hint = old;
  c->hints[0].ns = c->p->clock->now_ns (c->p->clock);
  return cut_locked (c, r, kind);
}

/* A full target is tried once in a while, by one thread. */
static uint64_t
full_delay_locked (struct copiers *c)
{
  uint64_t now = c->p->clock->now_ns (c->p->clock);

  return c->full && now < c->full_due_ns ? c->full_due_ns - now : 0;
}

void
copier_note_full_locked (struct copiers *c, int err)
{
  if (err == -ENOSPC) {
    c->full = true;
    c->full_due_ns = c->p->clock->now_ns (c->p->clock) + FULL_NS;
  }
  else if (err == 0 && c->full) {
    c->full = false;
    cond_broadcast (&c->wake);
  }
}

/* This thread goes for r. */
static void
take_locked (struct copiers *c, struct range r, enum extent_kind kind)
{
  uint64_t dirty, claimed;

  if (c->full)
    c->full_due_ns = c->p->clock->now_ns (c->p->clock) + FULL_NS;
  c->cursor = r.end;
  if (kind == EXTENT_DATA)
    copy_rate_take (&c->rate, range_len (r),
                    c->p->clock->now_ns (c->p->clock));
  c->busy++;
  if (c->turn_waiters > 0)
    cond_signal (&c->turn);

  /* One mark wakes one copier; if there is work for two, it wakes the next. */
  dirty_bytes (c->p->dirty, &dirty, &claimed);
  if (dirty > range_len (r) && atomic_load (&c->sleepers) > 0)
    cond_signal (&c->wake);
}

/* Not yet?  Then wait a while and return true.  One waits for the time, the
 * others for that one, or all of them would wake up for each piece.  Whoever
 * has waited for the time, or takes a piece, wakes one of the others, so there
 * is always one that does not wait for others.
 */
static bool
wait_for_rate_locked (struct copiers *c)
{
  const uint64_t wait =
    copy_rate_delay_ns (&c->rate, c->p, c->rounds >= CAUGHT_UP, c->busy > 0,
                        c->p->clock->now_ns (c->p->clock));

  if (wait == 0)
    return false;
  if (c->turn_taken) {
    c->turn_waiters++;
    cond_wait (&c->turn, &c->lock);
    c->turn_waiters--;
  }
  else {
    c->turn_taken = true;
    sleep_locked (c, wait);
    c->turn_taken = false;
    cond_signal (&c->turn);
  }
  return true;
}

bool
copier_get_work (struct copier *cp, struct range *r, enum extent_kind *kind)
{
  struct copiers *c = cp->all;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  uint64_t wait;

  while (!c->quit) {
    if (!c->run || c->busy >= c->busy_max) {
      cond_wait (&c->wake, &c->lock);
      continue;
    }
    if (wait_for_rate_locked (c))
      continue;
    wait = full_delay_locked (c);
    if (wait > 0) {
      sleep_locked (c, wait);
      continue;
    }

    /* Count as sleeping before looking, so that who marks after the look
     * sees the sleeper.
     */
    atomic_fetch_add (&c->sleepers, 1);
    wait = candidate_locked (c, r);
    if (wait > 0)
      sleep_locked (c, wait);
    atomic_fetch_sub (&c->sleepers, 1);
    if (wait > 0)
      continue;

    if (!cut_locked (c, r, kind) && !ask_and_cut_locked (c, cp, r, kind))
      continue;
    /* The lock was given up. */
    if (!c->run || c->quit || c->busy >= c->busy_max ||
        full_delay_locked (c) > 0)
      continue;
    take_locked (c, *r, *kind);
    cp->carrier.unit = unit_locked (c);
    return true;
  }
  return false;
}

void
copier_piece_done_locked (struct copiers *c)
{
  if (c->busy-- == c->busy_max)
    cond_signal (&c->wake);
  if (c->busy == 0) {
    copy_rate_quiet (&c->rate, c->p, c->p->clock->now_ns (c->p->clock));
    cond_broadcast (&c->quiet);
  }
}

void
copiers_look_again_locked (struct copiers *c)
{
  cond_broadcast (&c->wake);
  cond_broadcast (&c->turn);
}
