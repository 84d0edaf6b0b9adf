/* SPDX-License-Identifier: BSD-3-Clause */
/* See flusher.h.
 *
 * There is no flush thread.  The first who needs a flush leads: it sends it.
 * Who comes meanwhile queues; when the flush has ended one of the queue leads
 * the next one, for all of the queue.
 *
 * Who leads may have something else to do before it waits, a flush of the
 * source, of which nothing is known but that it takes time.  So it is not
 * always the leader that waits for the reply, but the first who has nothing
 * else to do, of those who share it or queue for the next one; or the end of
 * the session.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "flusher.h"

/* `proved` before the first proof: no value that `breaks` can have. */
#define NEVER UINT64_MAX

struct flusher {
  struct target *target;        /* changes only between sessions */

  /* Constant. */
  struct dirty *dirty;
  struct reasons *reasons;

  /* Value of `breaks` during a good flush in all of which N (with_mode) or
   * its count (without) was 0.  Written under lock, read without.
   */
  _Atomic uint64_t proved_synced, proved_settled;
  _Atomic uint64_t good, bad;   /* flushes so far; bad changes under lock */

  struct mutex lock;
  struct cond changed;          /* running became false, or submitted true */

  /* Protected by lock. */
  struct dirty *unflushed[2];
  int growing;                  /* index; the other is set aside */
  bool alive;                   /* the session */
  bool running;
  struct flush_wait *leader;    /* whose request it is */
  bool submitted;               /* it may be waited for */
  bool waited_for;              /* ... and is, by somebody */
  struct flush_wait *queue;     /* share the next flush */
  struct flush_wait *sharers;   /* share the one in flight; not the leader */

  /* As they were when the running flush began. */
  bool began_none, began_settled;
  uint64_t began_breaks;
};

struct flusher *
flusher_new (struct target *target, uint64_t size, uint64_t granularity,
             struct dirty *dirty, struct reasons *reasons)
{
  struct flusher *f = calloc (1, sizeof *f);
  int i;

  if (!f)
    return NULL;
  f->target = target;
  f->dirty = dirty;
  f->reasons = reasons;
  f->alive = target != NULL;
  atomic_init (&f->proved_synced, NEVER);
  atomic_init (&f->proved_settled, NEVER);
  mutex_init (&f->lock);
  cond_init (&f->changed);
  for (i = 0; i < 2; ++i) {
    f->unflushed[i] = dirty_new (size, granularity, NULL);
    if (!f->unflushed[i]) {
      flusher_free (f);
      return NULL;
    }
  }
  return f;
}

void
flusher_free (struct flusher *f)
{
  if (!f)
    return;
  assert (!f->running && !f->queue);
  dirty_free (f->unflushed[0]);
  dirty_free (f->unflushed[1]);
  cond_destroy (&f->changed);
  mutex_destroy (&f->lock);
  free (f);
}

void
flusher_session_begin (struct flusher *f, struct target *target)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  assert (!f->alive && !f->running && !f->queue);
  f->target = target;
  atomic_store (&f->proved_synced, NEVER);
  atomic_store (&f->proved_settled, NEVER);
  f->alive = true;
}

uint64_t
flusher_stamp (struct flusher *f)
{
  return atomic_load (&f->bad);
}

int
flusher_acked (struct flusher *f, struct range r, bool durable,
               uint64_t stamp)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  if (!f->alive)
    return -ENOTCONN;
  if (durable)
    return 0;
  if (atomic_load (&f->bad) != stamp)
    return -EIO;
  dirty_set (f->unflushed[f->growing], r);
  return 0;
}

bool
flusher_any (struct flusher *f, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  return dirty_any (f->unflushed[0], r) || dirty_any (f->unflushed[1], r);
}

bool
flusher_pending (struct flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  uint64_t growing, aside, claimed;

  dirty_bytes (f->unflushed[0], &growing, &claimed);
  dirty_bytes (f->unflushed[1], &aside, &claimed);
  return growing + aside > 0;
}

void
flusher_session_lost (struct flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->alive = false;
}

static void
all_to_dirty_locked (struct flusher *f)
{
  dirty_move (f->unflushed[!f->growing], f->dirty);
  dirty_move (f->unflushed[f->growing], f->dirty);
}

/* w leads the next flush, for itself and all of the queue. */
static void
start_locked (struct flusher *f, struct flush_wait *w)
{
  struct flush_wait **p;

  assert (!f->running);
  f->running = true;
  f->leader = w;
  for (p = &f->queue; *p; p = &(*p)->next)
    if (*p == w) {
      *p = w->next;
      break;
    }
  f->sharers = f->queue;
  f->queue = NULL;

  /* First breaks, then N: if N is 0 now, it has been since `breaks` last
   * changed, or breaks will have changed at the end.
   */
  f->began_breaks = reasons_breaks (f->reasons);
  f->began_none = reasons_none (f->reasons, true);
  f->began_settled = reasons_none (f->reasons, false);

  f->growing = !f->growing;

  w->req = (struct target_req) {
    .op = TARGET_FLUSH,
    .lane = LANE_TEE,
  };
}

/* The flush in flight has ended. */
static void
finish_locked (struct flusher *f, int result)
{
  struct flush_wait *w = f->leader, *s, *next;

  if (result == 0 && !f->alive)
    result = -ENOTCONN;

  if (result == 0) {
    dirty_clear_all (f->unflushed[!f->growing]);
    if (f->began_settled)
      atomic_store (&f->proved_settled, f->began_breaks);
    if (f->began_none)
      atomic_store (&f->proved_synced, f->began_breaks);
    atomic_fetch_add (&f->good, 1);
  }
  else {
    atomic_fetch_add (&f->bad, 1);
    all_to_dirty_locked (f);
  }

  for (s = f->sharers; s; s = next) {
    next = s->next;
    s->result = result;
    s->done = true;
  }
  f->sharers = NULL;
  w->result = result;
  w->done = true;
  f->running = f->submitted = f->waited_for = false;
  f->leader = NULL;
  cond_broadcast (&f->changed);
}

/* Start it, and say that it can be waited for.  Gives up the lock. */
static void
lead_locked (struct flusher *f, struct flush_wait *w)
{
  struct target *target = f->target;

  start_locked (f, w);
  mutex_unlock (&f->lock);
  target->ops->submit (target, &w->req);
  mutex_lock (&f->lock);
  f->submitted = true;
  cond_broadcast (&f->changed);
}

/* Something is in flight: wait for it, for everybody; or for him who does.  May
 * return before it has ended.  Gives up the lock.
 */
static void
await_locked (struct flusher *f)
{
  struct target *target = f->target;
  struct flush_wait *w = f->leader;
  int r;

  if (!f->submitted || f->waited_for) {
    cond_wait (&f->changed, &f->lock);
    return;
  }
  f->waited_for = true;
  mutex_unlock (&f->lock);
  r = target->ops->wait (target, &w->req);
  mutex_lock (&f->lock);
  finish_locked (f, r);
}

void
flusher_begin (struct flusher *f, struct flush_wait *w)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  memset (w, 0, sizeof *w);
  if (f->running) {
    w->next = f->queue;
    f->queue = w;
  }
  else
    lead_locked (f, w);
}

int
flusher_wait (struct flusher *f, struct flush_wait *w)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  while (!w->done)
    if (f->running)
      await_locked (f);
    else
      lead_locked (f, w);
  return w->result;
}

void
flusher_session_end (struct flusher *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  assert (!f->alive);
  while (f->running)
    await_locked (f);
  all_to_dirty_locked (f);
}

/* N first: that it was 0 at one moment, and `breaks` has not changed until a
 * later one, means that it was 0 from the proof to the first moment.
 */
bool
flusher_synced (struct flusher *f)
{
  uint64_t proved = atomic_load (&f->proved_synced);

  return reasons_none (f->reasons, true) &&
    reasons_breaks (f->reasons) == proved;
}

bool
flusher_settled (struct flusher *f)
{
  uint64_t proved = atomic_load (&f->proved_settled);

  return reasons_none (f->reasons, false) &&
    reasons_breaks (f->reasons) == proved;
}

uint64_t
flusher_count (struct flusher *f)
{
  return atomic_load (&f->good);
}

struct dirty *
flusher_peek (struct flusher *f, int which)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  return f->unflushed[which ? !f->growing : f->growing];
}
