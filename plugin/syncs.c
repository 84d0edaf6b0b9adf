/* SPDX-License-Identifier: BSD-3-Clause */
/* See syncs.h. */

#include <config.h>

#include <assert.h>

#include "cleanup.h"
#include "syncs.h"

void
syncs_init (struct syncs *s)
{
  mutex_init (&s->lock);
  cond_init (&s->ended);
  s->first = s->last = NULL;
  s->begun = 0;
  s->failures = s->waiters = 0;
}

void
syncs_destroy (struct syncs *s)
{
  assert (s->first == NULL);
  cond_destroy (&s->ended);
  mutex_destroy (&s->lock);
}

unsigned
syncs_failures (struct syncs *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);

  return s->failures;
}

void
syncs_begin (struct syncs *s, struct syncing *me)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);

  me->number = ++s->begun;
  me->failures = s->failures;
  me->next = NULL;
  me->prev = s->last;
  *(s->last ? &s->last->next : &s->first) = me;
  s->last = me;
}

void
syncs_failed (struct syncs *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);

  s->failures++;
}

unsigned
syncs_end (struct syncs *s, struct syncing *me, bool wait)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  uint64_t begun = s->begun;

  *(me->prev ? &me->prev->next : &s->first) = me->next;
  *(me->next ? &me->next->prev : &s->last) = me->prev;
  if (s->waiters > 0)
    cond_broadcast (&s->ended);
  while (wait && s->first != NULL && s->first->number <= begun) {
    s->waiters++;
    cond_wait (&s->ended, &s->lock);
    s->waiters--;
  }
  return s->failures;
}
