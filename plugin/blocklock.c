/* SPDX-License-Identifier: BSD-3-Clause */
/* See blocklock.h.
 *
 * A list of all requests that hold or wait, in the order of their coming; each
 * waits for those before it that it conflicts with.  So nobody is overtaken by
 * one that it conflicts with, nobody starves, and as a thread holds one range
 * at most there is no circle of waiting.
 *
 * Why not simpler, a mutex for each of some classes of blocks?  A write of a
 * megabyte would have to take them all.  The list is as long as there are
 * writes in flight, some tens; going through it costs less than the cheapest
 * system call that a request makes.
 */

#include <config.h>

#include <assert.h>
#include <stddef.h>

#include "blocklock.h"
#include "cleanup.h"

void
blocklock_init (struct blocklock *l)
{
  mutex_init (&l->lock);
  cond_init (&l->changed);
  l->first = l->last = NULL;
  l->waiters = 0;
}

void
blocklock_destroy (struct blocklock *l)
{
  assert (l->first == NULL);
  cond_destroy (&l->changed);
  mutex_destroy (&l->lock);
}

static bool
must_wait (const struct blockhold *h)
{
  const struct blockhold *o;

  for (o = h->prev; o != NULL; o = o->prev)
    if ((h->exclusive || o->exclusive) &&
        range_overlap (h->blocks, o->blocks))
      return true;
  return false;
}

void
blocklock_acquire (struct blocklock *l, struct blockhold *h,
                   struct range blocks, bool exclusive)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&l->lock);

  h->blocks = blocks;
  h->exclusive = exclusive;
  h->next = NULL;
  h->prev = l->last;
  *(l->last ? &l->last->next : &l->first) = h;
  l->last = h;
  while (must_wait (h)) {
    l->waiters++;
    cond_wait (&l->changed, &l->lock);
    l->waiters--;
  }
}

void
blocklock_release (struct blocklock *l, struct blockhold *h)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&l->lock);

  *(h->prev ? &h->prev->next : &l->first) = h->next;
  *(h->next ? &h->next->prev : &l->last) = h->prev;
  if (l->waiters > 0)
    cond_broadcast (&l->changed);
}
