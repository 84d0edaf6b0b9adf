/* SPDX-License-Identifier: BSD-3-Clause */
/* See gate.h.
 *
 * `epoch` names the current regime; its slot is epoch modulo SLOTS.  A
 * request loads the epoch, adds itself to that slot's counter and loads the
 * epoch again.  All of it is sequentially consistent, so either the request
 * sees the new epoch and retreats, or the publisher's later look at the
 * counter sees the request.
 *
 * A request that loaded an old epoch may add itself to a slot that has been
 * reused for another regime since; it then sees another epoch and retreats
 * without having read anything else of the slot.
 *
 * A slot's counter is in stripes, each in a cache line of its own, and a
 * thread always uses the same one: with one counter, threads on different
 * processors pull its line to and fro twice for every request.  A request
 * enters and leaves in one thread, so the slot is idle when each stripe has
 * been seen at 0.
 *
 * The last one to leave a stripe takes the mutex only if somebody waits.
 *
 * Requests that are held wait in a queue and go on one after the other, each
 * when the one before it has counted itself in: in order of arrival (rule
 * I12).
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include "cleanup.h"
#include "gate.h"

/* More than the number of regimes that can have requests in flight at once
 * unless a leg hangs: a new one is published at most some times a second.
 */
#define SLOTS 64

struct stripe {
  _Atomic uint64_t inflight;
} __attribute__ ((__aligned__ (64)));

struct slot {
  struct regime regime;         /* written under lock while the slot is idle */
  uint64_t epoch;               /* when it was published; under lock */
  struct stripe stripes[GATE_STRIPES];
};

/* A request that is held; on its thread's stack. */
struct held {
  struct cond turn;
  struct held *next;
};

struct gate {
  struct slot slots[SLOTS];
  _Atomic uint64_t epoch;
  _Atomic unsigned waiters;

  struct mutex lock;            /* publishing and waiting */
  struct cond idle;             /* a slot's counter fell to 0 */

  /* Protected by lock. */
  struct held *first, *last;
};

unsigned
gate_stripe (void)
{
  static _Atomic unsigned threads;
  static __thread unsigned mine;        /* plus 1; 0: none yet */

  if (mine == 0)
    mine = 1 + atomic_fetch_add (&threads, 1) % GATE_STRIPES;
  return mine - 1;
}

static bool
slot_idle (const struct slot *s)
{
  size_t i;

  for (i = 0; i < GATE_STRIPES; ++i)
    if (atomic_load (&s->stripes[i].inflight) != 0)
      return false;
  return true;
}

struct gate *
gate_new (void)
{
  struct gate *g = aligned_alloc (64, sizeof *g);
  size_t i, j;

  if (!g)
    return NULL;
  for (i = 0; i < SLOTS; ++i) {
    g->slots[i].regime = (struct regime) { .kind = REGIME_NONE };
    g->slots[i].epoch = 0;
    for (j = 0; j < GATE_STRIPES; ++j)
      atomic_init (&g->slots[i].stripes[j].inflight, 0);
  }
  atomic_init (&g->epoch, 0);
  atomic_init (&g->waiters, 0);
  mutex_init (&g->lock);
  cond_init (&g->idle);
  g->first = g->last = NULL;
  return g;
}

void
gate_free (struct gate *g)
{
  size_t i;

  if (!g)
    return;
  for (i = 0; i < SLOTS; ++i)
    assert (slot_idle (&g->slots[i]));
  assert (!g->first);
  cond_destroy (&g->idle);
  mutex_destroy (&g->lock);
  free (g);
}

static void
leave_slot (struct gate *g, struct slot *s)
{
  uint64_t old = atomic_fetch_sub (&s->stripes[gate_stripe ()].inflight, 1);

  assert (old > 0);
  sync_point ();
  if (old == 1 && atomic_load (&g->waiters) > 0) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);
    cond_broadcast (&g->idle);
  }
}

static struct slot *
current_slot (struct gate *g)
{
  return &g->slots[atomic_load (&g->epoch) % SLOTS];
}

/* NULL: the gate is held. */
static const struct regime *
try_enter (struct gate *g)
{
  for (;;) {
    uint64_t epoch = atomic_load (&g->epoch);
    struct slot *s = &g->slots[epoch % SLOTS];
    bool held;

    sync_point ();
    atomic_fetch_add (&s->stripes[gate_stripe ()].inflight, 1);
    sync_point ();
    if (atomic_load (&g->epoch) == epoch) {
      held = s->regime.kind == REGIME_HELD;
      if (!held)
        return &s->regime;
      leave_slot (g, s);
      return NULL;
    }
    leave_slot (g, s);
  }
}

static const struct regime *
enter_held (struct gate *g)
{
  const struct regime *r = NULL;
  struct held me = { .next = NULL };

  cond_init (&me.turn);
  mutex_lock (&g->lock);
  *(g->last ? &g->last->next : &g->first) = &me;
  g->last = &me;
  while (!r) {
    while (g->first != &me || current_slot (g)->regime.kind == REGIME_HELD)
      cond_wait (&me.turn, &g->lock);
    mutex_unlock (&g->lock);
    r = try_enter (g);
    mutex_lock (&g->lock);
  }
  g->first = me.next;
  if (g->first)
    cond_signal (&g->first->turn);
  else
    g->last = NULL;
  mutex_unlock (&g->lock);
  cond_destroy (&me.turn);
  return r;
}

const struct regime *
gate_enter (struct gate *g)
{
  const struct regime *r = try_enter (g);

  return r ? r : enter_held (g);
}

void
gate_leave (struct gate *g, const struct regime *r)
{
  struct slot *s = (struct slot *)
    ((const char *) r - offsetof (struct slot, regime));

  leave_slot (g, s);
}

/* An idle slot for the next regime and its epoch; NULL: all have requests in
 * flight.
 */
static struct slot *
free_slot_locked (struct gate *g, uint64_t *epoch)
{
  uint64_t now = atomic_load (&g->epoch);

  for (*epoch = now + 1; *epoch < now + SLOTS; ++*epoch)
    if (slot_idle (&g->slots[*epoch % SLOTS]))
      return &g->slots[*epoch % SLOTS];
  return NULL;
}

static void
publish_locked (struct gate *g, enum regime_kind kind, struct job *job,
                struct source *source)
{
  uint64_t epoch;
  struct slot *s;

  atomic_fetch_add (&g->waiters, 1);
  while (!(s = free_slot_locked (g, &epoch)))
    cond_wait (&g->idle, &g->lock);
  atomic_fetch_sub (&g->waiters, 1);

  s->regime = (struct regime) { kind, job, source };
  s->epoch = epoch;
  sync_point ();
  atomic_store (&g->epoch, epoch);
  if (kind == REGIME_NONE)      /* see is_in_vain */
    cond_broadcast (&g->idle);
  if (kind != REGIME_HELD && g->first)
    cond_signal (&g->first->turn);
}

void
gate_publish (struct gate *g, enum regime_kind kind, struct job *job,
              struct source *source)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);

  assert (kind != REGIME_HELD);
  publish_locked (g, kind, job, source);
}

void
gate_hold (struct gate *g)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);

  publish_locked (g, REGIME_HELD, NULL, NULL);
}

/* Until every slot that was published before the current one has been seen
 * idle; those who are being held only look in.  A slot that is published
 * meanwhile was idle then.
 */
static int
drain_locked (struct gate *g, struct clock *clock, uint64_t deadline_ns)
{
  uint64_t now = atomic_load (&g->epoch);
  size_t i;
  int r = 0;

  atomic_fetch_add (&g->waiters, 1);
  for (i = 0; i < SLOTS && r == 0; ++i) {
    struct slot *s = &g->slots[i];

    while (r == 0 && s->epoch < now && s->regime.kind != REGIME_HELD &&
           !slot_idle (s))
      r = clock->wait_until (clock, &g->idle, &g->lock, deadline_ns);
    if (r < 0 && (s->epoch >= now || slot_idle (s)))
      r = 0;
  }
  atomic_fetch_sub (&g->waiters, 1);
  return r;
}

int
gate_drain (struct gate *g, struct clock *clock, uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);

  if (current_slot (g)->regime.kind != REGIME_HELD)
    return -ECANCELED;
  return drain_locked (g, clock, deadline_ns);
}

unsigned
gate_held (struct gate *g)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);
  const struct held *h;
  unsigned n = 0;

  for (h = g->first; h; h = h->next)
    n++;
  return n;
}

/* The regime moves to another slot, so that the old one can become idle. */
int
gate_flush (struct gate *g, struct clock *clock, uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);
  struct regime regime;
  uint64_t epoch;
  int r = 0;

  /* Who waits for a slot gives up the lock: the regime may change. */
  atomic_fetch_add (&g->waiters, 1);
  while (r == 0 && !free_slot_locked (g, &epoch))
    r = clock->wait_until (clock, &g->idle, &g->lock, deadline_ns);
  atomic_fetch_sub (&g->waiters, 1);
  if (r < 0)
    return r;
  regime = current_slot (g)->regime;
  publish_locked (g, regime.kind, regime.job, regime.source);
  return drain_locked (g, clock, deadline_ns);
}

enum who { OF_JOB, OF_OTHERS, TEES_OF_JOB };

static bool
is_meant (const struct regime *r, const struct job *job, enum who who)
{
  switch (who) {
  case OF_JOB: return r->job == job;
  case OF_OTHERS: return r->job != job;
  case TEES_OF_JOB: return r->job == job && r->kind == REGIME_TEE;
  }
  return false;
}

/* The job has ended meanwhile: who enters now is one of the others, and under
 * load there is always somebody.
 */
static bool
is_in_vain (struct gate *g, enum who who)
{
  return who == OF_OTHERS && current_slot (g)->regime.kind == REGIME_NONE;
}

/* Wait until all slots whose regime is meant have been seen idle.  The current
 * regime is not among them, so nobody new can stay in one that has been seen
 * idle.
 */
static void
wait_slots (struct gate *g, const struct job *job, enum who who)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&g->lock);
  size_t i;

  atomic_fetch_add (&g->waiters, 1);
  for (i = 0; i < SLOTS; ++i) {
    struct slot *s = &g->slots[i];

    while (is_meant (&s->regime, job, who) && !slot_idle (s) &&
           !is_in_vain (g, who))
      cond_wait (&g->idle, &g->lock);
  }
  atomic_fetch_sub (&g->waiters, 1);
}

void
gate_wait_others (struct gate *g, const struct job *job)
{
  wait_slots (g, job, OF_OTHERS);
}

void
gate_wait_job (struct gate *g, const struct job *job)
{
  wait_slots (g, job, OF_JOB);
}

void
gate_wait_tees (struct gate *g, const struct job *job)
{
  wait_slots (g, job, TEES_OF_JOB);
}
