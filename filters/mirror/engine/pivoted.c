/* SPDX-License-Identifier: BSD-3-Clause */
/* See pivoted.h.
 *
 * Requests use the session under a count (`users`).  The first who learns that
 * it is lost says so; then the thread waits until nobody uses it any more,
 * frees it and opens a new one.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "pivoted.h"
#include "range.h"
#include "rangelock.h"

/* Between attempts to open it again. */
#define REOPEN_MIN_NS UINT64_C (500000000)
#define REOPEN_MAX_NS UINT64_C (30000000000)

struct pivoted {
  struct source source;         /* first */
  struct pivoted_config config;
  struct rangelocks *locks;
  char *where;                  /* or NULL */
  _Atomic uint64_t timeout_ns;  /* config's, for reopen */
  bool several;                 /* connections */
  bool coherent;                /* ... which agree after a flush */
  struct pivoted_facts facts;   /* the thread's */
  struct thread thread;
  _Atomic bool stop;            /* quit or give_up: do not open it any more */

  struct mutex lock;
  struct cond wake;             /* for the thread */
  struct cond online;           /* for requests */

  /* Protected by lock. */
  struct target *target;        /* NULL: no session */
  bool lost;                    /* it has ended; not freed yet */
  int lost_err;
  unsigned users;               /* requests on it */
  uint64_t session;             /* how many have been lost */
  uint64_t reconnects;          /* how many have been made after that */

  /* Acknowledgements of this session, and how many of them a good flush has
   * covered.  The first stands for those of the sessions before that none has.
   */
  uint64_t acked, flushed;

  /* How often something acknowledged may have been lost, and up to which of
   * them a client's flush, or FUA, has failed for it.
   */
  uint64_t forgotten, told, told_fua;

  /* A flush has failed, which was told then.  What it should have made durable
   * may never be, and be gone after any later loss.
   */
  bool limbo;
  uint64_t noted;               /* ... and up to which `changed` has */
  bool quit, give_up;
};

static struct pivoted *
of (struct source *s)
{
  return (struct pivoted *) s;
}

/*-- the session --------------------------------------------------------*/

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
}

/* A session to use, or NULL after the time-out. */
static struct target *
get_target (struct pivoted *p, uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  struct clock *clock = p->config.clock;

  while (!p->target || p->lost)
    if (p->give_up ||
        clock->wait_until (clock, &p->online, &p->lock, deadline_ns) < 0)
      if (!p->target || p->lost)
        return NULL;
  p->users++;
  return p->target;
}

/* change: a write or a zero; durable: nothing remains to be flushed of it when
 * it is acknowledged.
 */
static void
put_target (struct pivoted *p, int result, bool change, bool durable)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  if (result == -ENOTCONN) {
    lost_locked (p, result);
    /* It may be in the server's cache now, be copied from there, and be lost
     * with the next session: as if it had been acknowledged.
     */
    if (change && p->acked == p->flushed)
      p->acked++;
  }
  else if (result == 0 && change && !durable) {
    if (p->lost)
      p->forgotten++;
    p->acked++;
  }
  assert (p->users > 0);
  if (--p->users == 0)
    cond_signal (&p->wake);
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
  while (p->users > 0)
    cond_wait (&p->wake, &p->lock);
  p->target = NULL;
  forgot = p->forgotten > p->noted || p->limbo;
  p->noted = p->forgotten;
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
    while (!p->quit && !p->give_up &&
           clock->wait_until (clock, &p->wake, &p->lock, until) == 0)
      ;
  }
  p->target = target;
  p->reconnects += target != NULL;
  p->lost = false;
  cond_broadcast (&p->online);
  mutex_unlock (&p->lock);
  if (old)
    old->ops->free (old);
  if (target && p->config.changed)
    p->config.changed (p->config.opaque, 0, false);
}

static void
reopen_main (void *vp)
{
  struct pivoted *p = vp;
  struct target *old;

  mutex_lock (&p->lock);
  while (!p->quit) {
    if (!p->lost) {
      cond_wait (&p->wake, &p->lock);
      continue;
    }
    old = p->target;
    mutex_unlock (&p->lock);
    replace_session (p, old);
    mutex_lock (&p->lock);
  }
  mutex_unlock (&p->lock);
}

/*-- requests -----------------------------------------------------------*/

static uint64_t
deadline (const struct pivoted *p)
{
  struct clock *clock = p->config.clock;

  return clock->now_ns (clock) + p->config.timeout_ns;
}

/* Send it, once there is a session. */
static int
once (struct pivoted *p, struct target_req *req, uint64_t deadline_ns,
      struct target **used)
{
  struct target *t = get_target (p, deadline_ns);
  int r;

  *used = t;
  if (!t)
    return -EIO;
  if (!t->can_fua)
    req->flags &= ~(unsigned) LEG_FUA;
  t->ops->submit (t, req);
  r = t->ops->wait (t, req);
  put_target (p, r, req->op != TARGET_READ && req->op != TARGET_FLUSH,
              req->flags & LEG_FUA);
  return r;
}

static int
pivoted_pread (struct source *s, void *buf, uint32_t count, uint64_t offset)
{
  struct pivoted *p = of (s);
  uint64_t until = deadline (p);
  struct target_req req;
  struct target *t;
  int r;

  do {
    req = (struct target_req) {
      .op = TARGET_READ, .lane = LANE_TEE, .buf = buf, .count = count,
      .offset = offset,
    };
    r = once (p, &req, until, &t);
  } while (r == -ENOTCONN);
  return r;
}

/* Flush the session that there is, or the next one. */
static int
flush_session (struct pivoted *p, uint64_t deadline_ns)
{
  struct target_req req = { .op = TARGET_FLUSH, .lane = LANE_TEE };
  struct target *t = get_target (p, deadline_ns);
  uint64_t acked, session;
  int r;

  if (!t)
    return -EIO;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    /* What is acknowledged from here on is not this flush's. */
    acked = p->acked;
    session = p->session;
  }
  t->ops->submit (t, &req);
  r = t->ops->wait (t, &req);
  put_target (p, r, false, false);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (r == 0 && p->session == session && p->flushed < acked)
    p->flushed = acked;
  if (r < 0 && r != -ENOTCONN)
    p->limbo = true;
  return r;
}

/* A flush that no client has asked for.  A server tells each failure once, so
 * the next client must be told.
 */
static int
flush_unasked (struct pivoted *p)
{
  int r = flush_session (p, deadline (p));

  if (r < 0 && r != -ENOTCONN) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
    p->forgotten++;
  }
  return r;
}

/* All that was lost before it began, or while it was under way, makes it fail;
 * but only what was lost before has been told by that.
 */
static int
pivoted_flush (struct source *s)
{
  struct pivoted *p = of (s);
  uint64_t seen, told;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
    seen = p->forgotten;
    told = p->told;
  }
  r = flush_session (p, deadline (p));

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (p->forgotten > told)
    r = -EIO;
  if (r < 0 && p->told < seen)
    p->told = seen;
  return r == -ENOTCONN ? -EIO : r;
}

/* The same for FUA, which does not stand for a flush: see request_tee_flush,
 * which takes the failure of one for the loss of anything.
 */
static int
end_fua (struct pivoted *p, int r)
{
  uint64_t told;

  if (r < 0)
    return r == -ENOTCONN ? -EIO : r;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  told = p->told > p->told_fua ? p->told : p->told_fua;
  if (p->forgotten <= told)
    return 0;
  p->told_fua = p->forgotten;
  return -EIO;
}

/* A write or a zero. */
static int
change (struct pivoted *p, struct target_req *req)
{
  const bool fua = req->flags & LEG_FUA, locked = p->source.block > 1;
  const uint64_t until = deadline (p);  /* not longer for who queues first */
  struct range range = { req->offset, req->offset + req->count };
  struct rangelock lk;
  struct target *t;
  int r;

  if (locked)
    rangelock_lock (p->locks, &lk, range_outer (range, TARGET_MAX_BLOCK,
                                                p->config.size));
  r = once (p, req, until, &t);
  if (locked)
    rangelock_unlock (p->locks, &lk);
  if (r == 0 && fua && !(req->flags & LEG_FUA))
    r = flush_unasked (p);
  if (fua)
    r = end_fua (p, r);
  return r == -ENOTCONN ? -EIO : r;
}

static int
pivoted_pwrite (struct source *s, const void *buf, uint32_t count,
                uint64_t offset, unsigned flags)
{
  struct target_req req = {
    .op = TARGET_WRITE, .lane = LANE_TEE, .flags = flags & LEG_FUA,
    .buf = (void *) buf, .count = count, .offset = offset,
  };

  return change (of (s), &req);
}

static int
pivoted_zero (struct source *s, uint32_t count, uint64_t offset,
              unsigned flags)
{
  struct target_req req = {
    .op = TARGET_ZERO, .lane = LANE_TEE,
    .flags = flags & (LEG_FUA | LEG_MAY_TRIM), .count = count,
    .offset = offset,
  };

  /* Whether it would be fast nobody knows. */
  if (flags & LEG_FAST_ZERO)
    return -ENOTSUP;
  return change (of (s), &req);
}

static int
pivoted_trim (struct source *s, uint32_t count, uint64_t offset,
              unsigned flags)
{
  struct pivoted *p = of (s);
  bool can_zero;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
    can_zero = p->target && p->target->can_zero;
  }
  if (can_zero)
    return pivoted_zero (s, count, offset, LEG_MAY_TRIM | (flags & LEG_FUA));
  return flags & LEG_FUA ? end_fua (p, flush_unasked (p)) : 0;
}

static int
pivoted_extents (struct source *s, struct range r, extent_fn *fn,
                 void *opaque)
{
  struct pivoted *p = of (s);
  struct target *t;
  bool can = true;
  int ret;

  /* Another connection may answer than those that write: it is sure to know
   * of what has ended only after a flush.
   */
  if (p->several)
    can = p->coherent && flush_unasked (p) == 0;
  t = get_target (p, deadline (p));
  if (!t)
    return -EIO;
  if (can && t->can_extents)
    ret = t->ops->extents (t, r, fn, opaque);
  else
    ret = fn (opaque, r, EXTENT_DATA);
  put_target (p, ret == -ENOTCONN ? ret : 0, false, false);
  return ret;
}

static const struct source_ops pivoted_ops = {
  .pread = pivoted_pread,
  .pwrite = pivoted_pwrite,
  .zero = pivoted_zero,
  .trim = pivoted_trim,
  .flush = pivoted_flush,
  .extents = pivoted_extents,
};

/*-- life ---------------------------------------------------------------*/

/* Of one that is not there yet the worst is assumed, but that it can flush, if
 * it had to when clients were moved to it.
 */
static void
describe (struct pivoted *p, struct target *target)
{
  p->source = (struct source) {
    .ops = &pivoted_ops, .block = TARGET_MAX_BLOCK,
    .can_flush = p->config.can_flush, .can_extents = true,
  };
  p->target = target;
  p->facts.size = target ? target->size : p->config.disk_size;
  p->facts.block = target ? target->block : TARGET_MAX_BLOCK;
  if (!target) {
    p->acked = !p->config.can_flush;
    p->several = true;
    p->lost = true;             /* the thread opens it */
    return;
  }
  p->source.block = target->block;
  p->source.can_flush = target->can_flush;
  p->acked = !target->can_flush;        /* nobody could flush what is there */
  p->several = target->connections > 1;
  p->coherent = target->can_multi_conn && target->can_flush;
}

struct pivoted *
pivoted_new (const struct pivoted_config *config, struct target *target,
             int *err)
{
  struct pivoted *p = calloc (1, sizeof *p);

  *err = -ENOMEM;
  if (!p)
    return NULL;
  p->locks = rangelocks_new ();
  atomic_init (&p->timeout_ns, config->timeout_ns);
  p->where = config->where ? strdup (config->where) : NULL;
  if (!p->locks || (config->where && !p->where)) {
    rangelocks_free (p->locks);
    free (p->where);
    free (p);
    return NULL;
  }
  p->config = *config;
  describe (p, target);
  mutex_init (&p->lock);
  cond_init (&p->wake);
  cond_init (&p->online);
  *err = thread_start (&p->thread, "mirror-reopen", reopen_main, p);
  if (*err < 0) {
    p->target = NULL;
    cond_destroy (&p->online);
    cond_destroy (&p->wake);
    mutex_destroy (&p->lock);
    rangelocks_free (p->locks);
    free (p->where);
    free (p);
    return NULL;
  }
  return p;
}

void
pivoted_free (struct pivoted *p)
{
  if (!p)
    return;
  mutex_lock (&p->lock);
  p->quit = true;
  atomic_store (&p->stop, true);
  cond_signal (&p->wake);
  mutex_unlock (&p->lock);
  thread_join (&p->thread);
  assert (p->users == 0);
  if (p->target)
    p->target->ops->free (p->target);
  cond_destroy (&p->online);
  cond_destroy (&p->wake);
  mutex_destroy (&p->lock);
  rangelocks_free (p->locks);
  free (p->where);
  free (p);
}

void
pivoted_disown (struct pivoted *p)
{
  mutex_lock (&p->lock);
  p->target = NULL;
  mutex_unlock (&p->lock);
  pivoted_free (p);
}

struct source *
pivoted_source (struct pivoted *p)
{
  return &p->source;
}

uint64_t
pivoted_reconnects (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  return p->reconnects;
}

bool
pivoted_online (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  return p->target && !p->lost;
}

void
pivoted_give_up (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  p->give_up = true;
  atomic_store (&p->stop, true);
  cond_broadcast (&p->online);
  cond_signal (&p->wake);
}
