/* SPDX-License-Identifier: BSD-3-Clause */
/* See source-flusher.h. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "cleanup.h"
#include "source-flusher.h"
#include "sync.h"

/* Somebody who needs a flush; on its thread's stack. */
struct waiter {
  struct waiter *next;
  bool done;
  int result;
};

struct source_flusher {
  /* Constant. */
  void (*lost) (void *opaque, struct dirty *v);
  void *opaque;

  _Atomic uint64_t bad;         /* flushes that failed; changed under lock */

  struct mutex lock;
  struct cond ended;            /* any of what follows has changed */

  /* Protected by lock. */
  struct dirty *unflushed[2];
  int growing;                  /* index; the other is set aside */
  bool running;
  bool losing;                  /* lost is being called */
  bool alone;                   /* nobody changes the source untold */
  uint64_t spoilt, told;        /* how often V was to be lost, and has been */
  unsigned fua[2], turn;        /* changes with FUA in flight, by turns */
  struct waiter *queue;         /* share the next flush */
};

struct source_flusher *
source_flusher_new (uint64_t size, uint64_t granularity,
                    void (*lost) (void *opaque, struct dirty *v),
                    void *opaque)
{
  struct source_flusher *f = calloc (1, sizeof *f);
  int i;

  if (!f)
    return NULL;
  f->lost = lost;
  f->opaque = opaque;
  mutex_init (&f->lock);
  cond_init (&f->ended);
  for (i = 0; i < 2; ++i) {
    f->unflushed[i] = dirty_new (size, granularity, NULL);
    if (!f->unflushed[i]) {
      source_flusher_free (f);
      return NULL;
    }
  }
  dirty_set_all (f->unflushed[0]);
  return f;
}

void
source_flusher_free (struct source_flusher *f)
{
  if (!f)
    return;
  assert (!f->running && !f->queue);
  dirty_free (f->unflushed[0]);
  dirty_free (f->unflushed[1]);
  cond_destroy (&f->ended);
  mutex_destroy (&f->lock);
  free (f);
}

void
source_flusher_empty (struct source_flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  dirty_clear_all (f->unflushed[f->growing]);
  f->alone = true;
}

void
source_flusher_alone (struct source_flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->alone = true;
}

uint64_t
source_flusher_stamp (struct source_flusher *f)
{
  return atomic_load (&f->bad);
}

int
source_flusher_acked (struct source_flusher *f, struct range r,
                      uint64_t stamp)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  dirty_set (f->unflushed[f->growing], r);
  return atomic_load (&f->bad) == stamp ? 0 : -EIO;
}

bool
source_flusher_add (struct source_flusher *f, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  dirty_set (f->unflushed[f->growing], r);
  return !f->losing;
}

/* The flush in flight has failed.  What it was about need not be lost yet, so
 * it stays in V: another one that fails may lose it, too.  Nobody else touches
 * what is set aside as long as it is running.  Gives up the lock meanwhile; if
 * V is to be lost again by then, it has grown.
 */
static void
lose_locked (struct source_flusher *f)
{
  struct dirty *aside = f->unflushed[!f->growing];
  uint64_t spoilt;

  do {
    spoilt = f->spoilt;
    atomic_fetch_add (&f->bad, 1);
    dirty_move (f->unflushed[f->growing], aside);
    f->losing = true;
    mutex_unlock (&f->lock);
    f->lost (f->opaque, aside);
    mutex_lock (&f->lock);
    f->losing = false;
    dirty_move (aside, f->unflushed[f->growing]);
    f->told = spoilt;
  } while (f->told < f->spoilt);
}

/* Changes with FUA that are in flight now have ended; not those that begin
 * meanwhile, of which there may always be some.
 */
static void
wait_fua_locked (struct source_flusher *f)
{
  unsigned old;

  while (f->fua[!f->turn] > 0)
    cond_wait (&f->ended, &f->lock);
  old = f->turn;
  f->turn = !old;
  while (f->fua[old] > 0)
    cond_wait (&f->ended, &f->lock);
}

/* Lead a flush, for all who are waiting for one to begin. */
static int
lead_locked (struct source_flusher *f, struct source *source)
{
  struct waiter *sharers = f->queue, *next;
  const bool covers = f->alone;
  int r;

  f->queue = NULL;
  f->running = true;
  f->growing = !f->growing;
  mutex_unlock (&f->lock);
  r = source->ops->flush (source);
  mutex_lock (&f->lock);
  if (r == 0)
    wait_fua_locked (f);
  if (r < 0 || f->told < f->spoilt)
    lose_locked (f);
  else if (covers)
    dirty_clear_all (f->unflushed[!f->growing]);
  else
    dirty_move (f->unflushed[!f->growing], f->unflushed[f->growing]);
  for (; sharers; sharers = next) {
    next = sharers->next;
    sharers->result = r;
    sharers->done = true;
  }
  f->running = false;
  cond_broadcast (&f->ended);
  return r;
}

unsigned
source_flusher_begin_fua (struct source_flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->fua[f->turn]++;
  return f->turn;
}

/* V may be lost; returns when that has been told. */
static void
failed_locked (struct source_flusher *f)
{
  const uint64_t mine = ++f->spoilt;

  if (!f->running) {
    f->running = true;
    lose_locked (f);
    f->running = false;
    cond_broadcast (&f->ended);
  }
  while (f->told < mine)
    cond_wait (&f->ended, &f->lock);
}

/* Counting out and saying that it has failed are one step. */
void
source_flusher_end_fua (struct source_flusher *f, unsigned number, bool failed)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  assert (f->fua[number] > 0);
  if (--f->fua[number] == 0)
    cond_broadcast (&f->ended);
  if (failed)
    failed_locked (f);
}

int
source_flusher_flush (struct source_flusher *f, struct source *source)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  struct waiter me = { .next = NULL }, **p;

  if (!f->running)
    return lead_locked (f, source);

  me.next = f->queue;
  f->queue = &me;
  while (!me.done && f->running)
    cond_wait (&f->ended, &f->lock);
  if (me.done)
    return me.result;

  /* It has ended, and had begun before: now it is this one's turn. */
  for (p = &f->queue; *p != &me; p = &(*p)->next)
    ;
  *p = me.next;
  return lead_locked (f, source);
}
