/* SPDX-License-Identifier: BSD-3-Clause */
/* common/utils/sync.h on the coroutines of sched.c.
 *
 * mutex.sim tells the state: a marker while free, the owner's number (from 1)
 * as a pointer while held, and neither before mutex_init and after
 * mutex_destroy.  cond.sim is a marker while the condition is alive.  So every
 * misuse that sync.h forbids, and use after destroy, ends the run.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sched.h"

#define COND_ALIVE UINT64_C (0x636f6e6420697321)

static char free_marker;

static void *
owner_mark (void)
{
  static char marks[256];

  return &marks[sched_self () + 1];
}

static bool
mutex_is_free (void *arg)
{
  const struct mutex *m = arg;

  return m->sim == &free_marker;
}

static void
check_alive (const struct mutex *m)
{
  if (m->sim == NULL)
    sched_fail ("sync", "a mutex is used before init or after destroy");
}

static void
check_held (const struct mutex *m, const char *what)
{
  check_alive (m);
  if (m->sim != owner_mark ())
    sched_fail ("sync", "%s of a mutex that the caller does not hold", what);
}

void
mutex_init (struct mutex *m)
{
  memset (m, 0, sizeof *m);
  m->sim = &free_marker;
}

void
mutex_destroy (struct mutex *m)
{
  check_alive (m);
  if (!mutex_is_free (m))
    sched_fail ("sync", "a mutex is destroyed while it is held");
  if (sched_anybody_wants (m))
    sched_fail ("sync", "a mutex is destroyed while somebody wants it");
  m->sim = NULL;
}

void
mutex_lock (struct mutex *m)
{
  check_alive (m);
  if (sched_observing ()) {
    if (!mutex_is_free (m))
      sched_observer_gives_up ();
    return;
  }
  if (sched_self () < 0) {
    if (!mutex_is_free (m))
      sched_fail ("sync", "a mutex stayed locked after the run");
  }
  else {
    if (m->sim == owner_mark ())
      sched_fail ("sync", "a mutex is locked twice by the same thread");
    sched_wait (mutex_is_free, m, "a mutex");
  }
  m->sim = owner_mark ();
}

void
mutex_unlock (struct mutex *m)
{
  if (sched_observing ())
    return;
  check_held (m, "unlock");
  m->sim = &free_marker;
  sched_yield_here ();
}

void
cond_init (struct cond *c)
{
  memset (c, 0, sizeof *c);
  c->sim = COND_ALIVE;
}

static void
check_cond (const struct cond *c)
{
  if (c->sim != COND_ALIVE)
    sched_fail ("sync", "a condition is used before init or after destroy");
}

void
cond_destroy (struct cond *c)
{
  check_cond (c);
  if (sched_anybody_on (c))
    sched_fail ("sync", "a condition is destroyed while somebody waits");
  c->sim = 0;
}

static int
wait_on (struct cond *c, struct mutex *m, uint64_t deadline)
{
  bool woken;

  check_cond (c);
  check_held (m, "wait");
  m->sim = &free_marker;
  woken = sched_sleep_on (c, deadline, mutex_is_free, m);
  m->sim = owner_mark ();
  return woken ? 0 : -ETIMEDOUT;
}

void
cond_wait (struct cond *c, struct mutex *m)
{
  wait_on (c, m, UINT64_MAX);
}

void
cond_signal (struct cond *c)
{
  check_cond (c);
  sched_wake_on (c, false);
}

void
cond_broadcast (struct cond *c)
{
  check_cond (c);
  sched_wake_on (c, true);
}

void
sync_point (void)
{
  sched_yield_here ();
}

/* thread.sim is the coroutine's number (from 1) as a pointer into nothing. */
int
thread_start (struct thread *t, const char *name, void (*fn) (void *),
              void *arg)
{
  int who;

  assert (strlen (name) <= 15);
  who = sched_spawn (name, fn, arg);
  if (who < 0)
    return who;
  memset (t, 0, sizeof *t);
  t->sim = (void *) (intptr_t) (who + 1);
  sched_yield_here ();
  return 0;
}

static bool
has_ended (void *arg)
{
  return sched_ended ((int) (intptr_t) arg - 1);
}

void
thread_join (struct thread *t)
{
  if (t->sim == NULL)
    sched_fail ("sync", "a thread is joined twice, or was not started");
  if (sched_self () < 0) {
    if (!has_ended (t->sim))
      sched_fail ("sync", "a thread went on after the run");
  }
  else
    sched_wait (has_ended, t->sim, "the end of a thread");
  t->sim = NULL;
}

static uint64_t
sim_now (struct clock *clock)
{
  (void) clock;
  return sched_now ();
}

static int
sim_wait_until (struct clock *clock, struct cond *c, struct mutex *m,
                uint64_t deadline_ns)
{
  (void) clock;
  return wait_on (c, m, deadline_ns);
}

struct clock sched_clock = { sim_now, sim_wait_until };
