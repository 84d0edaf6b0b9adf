/* SPDX-License-Identifier: BSD-3-Clause */
/* See rangelock.h.
 *
 * One list of all ranges, held and waiting, in order of arrival.  Each knows
 * how many earlier ones overlap it (`blockers`); whoever leaves takes one
 * off every later range that it overlaps, and wakes those that have none
 * left.  A list is enough: it is as long as there are requests in flight.
 *
 * To go through it takes a cache line of another thread's stack for each of
 * them, and as a rule no two overlap.  So the disk is divided into chunks, and
 * these, by their number, into classes; each class knows how many ranges touch
 * it.  A range whose classes nobody else touches overlaps nothing.  A range of
 * many chunks counts as touching all of them.
 */

#include <config.h>

#include <assert.h>
#include <stdlib.h>

#include "cleanup.h"
#include "rangelock.h"

#define CHUNK_SHIFT 16          /* log2 of bytes */
#define NR_CLASSES 1024u        /* a power of 2 */
#define WIDE 32u                /* more chunks than that are "many" */

struct rangelocks {
  struct mutex lock;
  struct rangelock *first, *last;
  unsigned wide;                /* ranges of many chunks */
  unsigned touching[NR_CLASSES];        /* the others, by class */
};

static uint64_t
nr_chunks (struct range r)
{
  return ((r.end - 1) >> CHUNK_SHIFT) - (r.start >> CHUNK_SHIFT) + 1;
}

static bool
is_wide (struct range r)
{
  return nr_chunks (r) > WIDE;
}

static unsigned *
class_of (struct rangelocks *rls, struct range r, uint64_t i)
{
  return &rls->touching[((r.start >> CHUNK_SHIFT) + i) % NR_CLASSES];
}

/* A range comes (1) or goes (-1). */
static void
count_locked (struct rangelocks *rls, struct range r, int by)
{
  uint64_t i, n = nr_chunks (r);

  if (is_wide (r))
    rls->wide += (unsigned) by;
  else
    for (i = 0; i < n; i++)
      *class_of (rls, r, i) += (unsigned) by;
}

/* May a range that is in the list, r itself not counted, overlap r? */
static bool
may_overlap_locked (struct rangelocks *rls, struct range r)
{
  uint64_t i, n = nr_chunks (r);

  if (rls->first == NULL)
    return false;
  if (rls->wide > 0 || is_wide (r))
    return true;
  for (i = 0; i < n; i++)
    if (*class_of (rls, r, i) > 0)
      return true;
  return false;
}

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
  unsigned i;

  if (!rls)
    return;
  assert (rls->first == NULL);
  assert (rls->wide == 0);
  for (i = 0; i < NR_CLASSES; i++)
    assert (rls->touching[i] == 0);
  mutex_destroy (&rls->lock);
  free (rls);
}

static void
append_locked (struct rangelocks *rls, struct rangelock *lk, struct range r)
{
  assert (!range_empty (r));
  count_locked (rls, r, 1);
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
  const bool alone = !may_overlap_locked (rls, r);
  struct rangelock *e;

  append_locked (rls, lk, r);
  if (alone)
    return false;
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

  for (e = may_overlap_locked (rls, r) ? rls->first : NULL; e; e = e->next) {
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

  count_locked (rls, lk->range, -1);
  if (!may_overlap_locked (rls, lk->range))
    return;
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
