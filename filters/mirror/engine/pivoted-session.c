/* SPDX-License-Identifier: BSD-3-Clause */
/* The session with the clients' disk; see pivoted-private.h.
 *
 * Requests use the session as its users.  The first who learns that it is lost
 * says so; then the thread waits until nobody uses it any more, frees it and
 * opens a new one.  The thread also finds out that a user has waited for too
 * long: it sleeps until the time of the first of them is over, and while there
 * is none without limit.  Who begins wakes it if it would sleep for too long,
 * which is at most once in a time-out, as a rule.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "pivoted-private.h"

/* Of the time-out: what who is overdue is given. */
#define GRACE_PART 8

/* Between attempts to open it again. */
#define REOPEN_MIN_NS UINT64_C (500000000)
#define REOPEN_MAX_NS UINT64_C (30000000000)

/*-- its end -------------------------------------------------------------*/

static void
lost_locked (struct pivoted *p, int err)
{
  if (p->lost || !p->target)
    return;
  p->lost = true;
  p->lost_err = err;
  p->session++;
  if (p->acked > p->flushed)
    p->forgotten++;
  /* The server may have it in its cache still, and lose it the next time. */
  p->acked = p->acked > p->flushed;
  p->flushed = 0;
  cond_signal (&p->wake);
}

void
pivoted_lost (struct pivoted *p, struct target *t, int err)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  if (p->target == t)
    lost_locked (p, err);
  else if (!p->target)          /* or it is a job's, which has just ended */
    p->lost_early = t;
}

/*-- its users -----------------------------------------------------------*/

bool
pivoted_begin_use (struct pivoted *p, struct user *user, enum target_op op,
                   uint64_t deadline_ns, unsigned times)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  struct clock *clock = p->config.clock;

  while (!p->target || p->lost)
    if (p->give_up ||
        clock->wait_until (clock, &p->online, &p->lock, deadline_ns) < 0)
      if (!p->target || p->lost)
        return false;
  *user = (struct user) {
    .op = op, .target = p->target, .next = p->users,
    .due_ns = clock->now_ns (clock) + times * p->config.timeout_ns,
  };
  if (p->users)
    p->users->prev = user;
  p->users = user;
  if (user->due_ns < p->asleep_ns)
    cond_signal (&p->wake);
  return true;
}

static void
leave_locked (struct pivoted *p, struct user *user)
{
  if (user->prev)
    user->prev->next = user->next;
  else
    p->users = user->next;
  if (user->next)
    user->next->prev = user->prev;
  if (!p->users && p->lost)
    cond_signal (&p->wake);
}

void
pivoted_end_use (struct pivoted *p, struct user *user, int result,
                 bool durable)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  const bool change = user->op == TARGET_WRITE || user->op == TARGET_ZERO;

  if (result == -ENOTCONN)
    lost_locked (p, result);
  if (result < 0 && (change || user->op == TARGET_FLUSH))
    *(result == -ENOTCONN ? &p->limbo_next : &p->limbo) = true;
  if (result == 0 && change && !durable) {
    if (p->lost)
      p->forgotten++;
    p->acked++;
  }
  leave_locked (p, user);
}

/*-- blocks in doubt ------------------------------------------------------*/

void
pivoted_haunt (struct pivoted *p, struct haunted *h)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  struct clock *clock = p->config.clock;
  struct haunted **last = &p->haunted;

  h->until_ns = clock->now_ns (clock) + p->config.suspect_ns;
  h->next = NULL;
  while (*last)
    last = &(*last)->next;
  *last = h;
  if (p->give_up)
    pivoted_exorcise_locked (p, true);
  else
    cond_signal (&p->wake);
}

void
pivoted_exorcise_locked (struct pivoted *p, bool all)
{
  struct clock *clock = p->config.clock;
  struct haunted *h;

  while ((h = p->haunted) != NULL &&
         (all || h->until_ns <= clock->now_ns (clock))) {
    p->haunted = h->next;
    mutex_unlock (&p->lock);
    rangelock_unlock (p->locks, &h->lk);
    free (h);
    mutex_lock (&p->lock);
  }
}

/* Nobody waits for longer than for one time-out from now on: not for a flush
 * either.
 */
void
pivoted_hurry_locked (struct pivoted *p)
{
  struct clock *clock = p->config.clock;
  const uint64_t due = clock->now_ns (clock) + p->config.timeout_ns;
  struct user *user;

  for (user = p->users; user; user = user->next)
    if (user->due_ns > due)
      user->due_ns = due;
  cond_signal (&p->wake);
}

/*-- the thread ----------------------------------------------------------*/

/* When there will be something to do if nothing happens.  There are as many
 * users as nbdkit has threads, at most.
 */
static uint64_t
next_due_locked (const struct pivoted *p)
{
  uint64_t first = p->haunted ? p->haunted->until_ns : UINT64_MAX;
  const struct user *user;

  for (user = p->users; user && !p->lost; user = user->next)
    if (user->due_ns < first)
      first = user->due_ns;
  return first < p->grace_ns ? p->grace_ns : first;
}

/* Wait until somebody wakes the thread, or it has something to do; or no longer
 * than that.
 */
static void
wait_locked (struct pivoted *p, uint64_t until_ns)
{
  struct clock *clock = p->config.clock;
  uint64_t due = next_due_locked (p);

  if (until_ns < due)
    due = until_ns;
  p->asleep_ns = due;
  if (due == UINT64_MAX)
    cond_wait (&p->wake, &p->lock);
  else
    clock->wait_until (clock, &p->wake, &p->lock, due);
  p->asleep_ns = 0;
  pivoted_exorcise_locked (p, false);
}

/* Has who uses the session waited for too long?  Not if it is only that this
 * process did not run, as one that was stopped, and that the reply is there: so
 * there is a time of grace.
 */
static bool
is_overdue_locked (struct pivoted *p)
{
  struct clock *clock = p->config.clock;
  const uint64_t now = clock->now_ns (clock);
  const struct user *user = p->users;

  while (user && user->due_ns > now)
    user = user->next;
  if (!user)
    p->grace_ns = 0;
  else if (p->grace_ns == 0)
    p->grace_ns = now + p->config.timeout_ns / GRACE_PART;
  return user && p->grace_ns <= now;
}

static void
replace_session (struct pivoted *p, struct target *old)
{
  struct clock *clock = p->config.clock;
  uint64_t delay = REOPEN_MIN_NS, until;
  struct target *target = NULL;
  bool forgot, tell;
  int r, err;

  if (old)
    old->ops->shutdown (old);
  mutex_lock (&p->lock);
  while (p->users)
    wait_locked (p, UINT64_MAX);
  p->target = NULL;
  forgot = p->forgotten > p->noted || p->limbo;
  p->noted = p->forgotten;
  p->limbo |= p->limbo_next;
  err = p->lost_err;
  tell = old && !p->give_up;    /* else nobody has this disk any more */
  mutex_unlock (&p->lock);
  /* Who mirrors it must hear of it before there is anything new to read. */
  if (tell && p->config.changed)
    p->config.changed (p->config.opaque, err, forgot);
  mutex_lock (&p->lock);
  while (!p->quit && !p->give_up && !target) {
    mutex_unlock (&p->lock);
    if (old)
      old->ops->free (old);
    old = NULL;
    r = -ENOTCONN;
    if (p->config.reopen)
      r = p->config.reopen (p->config.reopen_opaque, p->where, &p->facts,
                            &p->timeout_ns, &p->stop, &target);
    mutex_lock (&p->lock);
    if (r == 0) {
      p->facts.size = target->size;
      break;
    }
    until = clock->now_ns (clock) + delay;
    delay = delay * 2 < REOPEN_MAX_NS ? delay * 2 : REOPEN_MAX_NS;
    while (!p->quit && !p->give_up && clock->now_ns (clock) < until)
      wait_locked (p, until);
  }
  p->target = target;
  p->reconnects += target != NULL;
  p->lost = false;
  if (target && p->lost_early == target)
    lost_locked (p, -ECONNRESET);
  p->lost_early = NULL;
  cond_broadcast (&p->online);
  mutex_unlock (&p->lock);
  if (old)
    old->ops->free (old);
  if (target && p->config.changed)
    p->config.changed (p->config.opaque, 0, false);
}

void
pivoted_main (void *vp)
{
  struct pivoted *p = vp;
  struct target *old;

  mutex_lock (&p->lock);
  while (!p->quit) {
    if (!p->lost) {
      if (is_overdue_locked (p))
        lost_locked (p, -ETIMEDOUT);
      else
        wait_locked (p, UINT64_MAX);
      continue;
    }
    old = p->target;
    mutex_unlock (&p->lock);
    replace_session (p, old);
    mutex_lock (&p->lock);
  }
  mutex_unlock (&p->lock);
}
