/* SPDX-License-Identifier: BSD-3-Clause */
/* See rangelock.h.
 *
 * One list of all ranges, held and waiting, in order of arrival.  Each knows
 * how many earlier ones overlap it (`blockers`); whoever leaves takes one
 * off every later range that it overlaps, and wakes those that have none
 * left.  A list is enough: it is as long as there are requests in flight.
 */

#include <config.h>

#include <assert.h>
#include <stdlib.h>

#include "cleanup.h"
#include "rangelock.h"

struct rangelocks {
  struct mutex lock;
  struct rangelock *first, *last;
};

struct rangelocks *
rangelocks_new (void)
{
  struct rangelocks *rls = calloc (1, sizeof *rls);

  if (rls)
    mutex_init (&rls->lock);
  return rls;
}

void
rangelocks_free (struct rangelocks *rls)
{
  if (!rls)
    return;
  assert (rls->first == NULL);
  mutex_destroy (&rls->lock);
  free (rls);
}

static void
append_locked (struct rangelocks *rls, struct rangelock *lk, struct range r)
{
  assert (!range_empty (r));
  lk->range = r;
  lk->blockers = 0;
  lk->next = NULL;
  lk->prev = rls->last;
  if (rls->last)
    rls->last->next = lk;
  else
    rls->first = lk;
  rls->last = lk;
}

/* Append and wait until no earlier range overlaps. */
static bool
lock_locked (struct rangelocks *rls, struct rangelock *lk, struct range r)
{
  struct rangelock *e;

  append_locked (rls, lk, r);
  for (e = rls->first; e != lk; e = e->next)
    if (range_overlap (e->range, r))
      lk->blockers++;
  if (lk->blockers == 0)
    return false;

  cond_init (&lk->granted);
  while (lk->blockers > 0)
    cond_wait (&lk->granted, &rls->lock);
  cond_destroy (&lk->granted);
  return true;
}

bool
rangelock_lock (struct rangelocks *rls, struct rangelock *lk, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&rls->lock);

  return lock_locked (rls, lk, r);
}

void
rangelock_lock_prefix (struct rangelocks *rls, struct rangelock *lk,
                       struct range r, uint64_t align)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&rls->lock);
  const struct rangelock *e;
  uint64_t free_end = r.end;

  assert (round_down_p2 (r.start, align) == r.start);

  for (e = rls->first; e; e = e->next) {
    if (!range_overlap (e->range, r))
      continue;
    if (e->range.start <= r.start)
      free_end = r.start;
    else if (round_down_p2 (e->range.start, align) < free_end)
      free_end = round_down_p2 (e->range.start, align);
  }

  if (free_end > r.start)
    append_locked (rls, lk, (struct range) { r.start, free_end });
  else
    lock_locked (rls, lk, (struct range) {
        r.start, range_len (r) < align ? r.end : r.start + align });
}

void
rangelock_unlock (struct rangelocks *rls, struct rangelock *lk)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&rls->lock);
  struct rangelock *e;

  assert (lk->blockers == 0);

  if (lk->prev)
    lk->prev->next = lk->next;
  else
    rls->first = lk->next;
  if (lk->next)
    lk->next->prev = lk->prev;
  else
    rls->last = lk->prev;

  for (e = lk->next; e; e = e->next) {
    if (!range_overlap (e->range, lk->range))
      continue;
    assert (e->blockers > 0);
    if (--e->blockers == 0)
      cond_signal (&e->granted);
  }
}

void
rangelocks_foreach (struct rangelocks *rls,
                    void (*fn) (void *opaque, struct range r, bool held),
                    void *opaque)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&rls->lock);
  const struct rangelock *e;

  for (e = rls->first; e; e = e->next)
    fn (opaque, e->range, e->blockers == 0);
}
