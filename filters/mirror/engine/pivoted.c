/* SPDX-License-Identifier: BSD-3-Clause */
/* See pivoted.h. */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "pivoted-private.h"
#include "range.h"

/* What a flush may take, in time-outs: a server may have a large cache. */
#define FLUSH_TIMES 10

static struct pivoted *
of (struct source *s)
{
  return (struct pivoted *) s;
}

/*-- requests -----------------------------------------------------------*/

static uint64_t
deadline (const struct pivoted *p)
{
  struct clock *clock = p->config.clock;

  return clock->now_ns (clock) + p->config.timeout_ns;
}

/* Send it, once there is a session.  All by one connection: another one need
 * not see what this one has written before a flush.
 */
static int
once (struct pivoted *p, struct target_req *req, uint64_t deadline_ns)
{
  struct target *t;
  struct user user;
  int r;

  if (!pivoted_begin_use (p, &user, req->op, deadline_ns, 1))
    return -EIO;
  t = user.target;
  if (!t->can_fua)
    req->flags &= ~(unsigned) LEG_FUA;
  t->ops->submit (t, req);
  r = t->ops->wait (t, req);
  pivoted_end_use (p, &user, r, req->flags & LEG_FUA);
  return r;
}

/* Again after a loss, as long as there is time. */
static bool
may_repeat (struct pivoted *p, int r, uint64_t deadline_ns)
{
  struct clock *clock = p->config.clock;

  return r == -ENOTCONN && clock->now_ns (clock) < deadline_ns;
}

static int
pivoted_pread (struct source *s, void *buf, uint32_t count, uint64_t offset)
{
  struct pivoted *p = of (s);
  uint64_t until = deadline (p);
  struct target_req req;
  int r;

  do {
    req = (struct target_req) {
      .op = TARGET_READ, .lane = LANE_ONE, .buf = buf, .count = count,
      .offset = offset,
    };
    r = once (p, &req, until);
  } while (may_repeat (p, r, until));
  return r == -ENOTCONN ? -EIO : r;
}

/* Flush the session that there is, or the next one. */
static int
flush_session (struct pivoted *p, uint64_t deadline_ns)
{
  struct target_req req = { .op = TARGET_FLUSH, .lane = LANE_ONE };
  uint64_t acked, session;
  struct user user;
  int r;

  if (!pivoted_begin_use (p, &user, req.op, deadline_ns,
                          atomic_load (&p->stop) ? 1 : FLUSH_TIMES))
    return -EIO;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    /* What is acknowledged from here on is not this flush's. */
    acked = p->acked;
    session = p->session;
  }
  user.target->ops->submit (user.target, &req);
  r = user.target->ops->wait (user.target, &req);
  pivoted_end_use (p, &user, r, false);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (r == 0 && p->session == session && p->flushed < acked)
    p->flushed = acked;
  return r;
}

static void
begin_flush (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  while (p->flushing)
    cond_wait (&p->flushed_one, &p->lock);
  p->flushing = true;
}

static void
end_flush_locked (struct pivoted *p)
{
  p->flushing = false;
  cond_signal (&p->flushed_one);
}

/* A flush that no client has asked for.  A server tells each failure once, so
 * the next client must be told.
 */
static int
flush_unasked (struct pivoted *p)
{
  int r;

  begin_flush (p);
  r = flush_session (p, deadline (p));

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (r < 0 && r != -ENOTCONN)
    p->forgotten++;
  end_flush_locked (p);
  return r;
}

/* All that was lost before it began, or while it was under way, makes it fail;
 * but only what was lost before has been told by that.
 */
static int
pivoted_flush (struct source *s)
{
  struct pivoted *p = of (s);
  const uint64_t until = deadline (p);
  uint64_t seen, told;
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
    seen = p->forgotten;
    told = p->told;
  }
  begin_flush (p);
  do
    r = flush_session (p, until);
  while (may_repeat (p, r, until));

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  end_flush_locked (p);
  /* The server tells that once, but it may be about what others have written,
   * who have not begun their flush, or wait to.
   */
  if (r < 0 && r != -ENOTCONN)
    seen = ++p->forgotten;
  if (p->forgotten > told)
    r = -EIO;
  if (r < 0 && p->told < seen)
    p->told = seen;
  return r == -ENOTCONN ? -EIO : r;
}

/* The same for FUA, which does not stand for a flush: see request_tee_flush,
 * which takes the failure of one for the loss of anything.
 */
static uint64_t
begin_fua (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  return p->told > p->told_fua ? p->told : p->told_fua;
}

/* told: what begin_fua has returned before. */
static int
end_fua (struct pivoted *p, int r, uint64_t told)
{
  if (r < 0)
    return r == -ENOTCONN ? -EIO : r;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (p->forgotten <= told)
    return 0;
  p->told_fua = p->forgotten;
  return -EIO;
}

/* With the range locked, widened to the greatest block there is: the block is
 * the session's, and the next one's may be another.  One that is not of whole
 * blocks is done by reading and writing; if it is cut off it may still write back
 * what the rest of the block was like.
 */
static int
change_blocks (struct pivoted *p, struct target_req *req, uint64_t until)
{
  const struct range range = { req->offset, req->offset + req->count };
  struct haunted *h = calloc (1, sizeof *h);
  int r;

  if (!h)
    return -ENOMEM;
  rangelock_lock (p->locks, &h->lk,
                  range_outer (range, TARGET_MAX_BLOCK, p->config.size));
  /* The end does not wait for blocks in doubt. */
  r = atomic_load (&p->stop) ? -EIO : once (p, req, until);
  if (r == -ENOTCONN && p->config.suspect_ns > 0 &&
      range_len (range_outer (range, p->source.block, p->config.size)) !=
      req->count) {
    pivoted_haunt (p, h);
    return r;
  }
  rangelock_unlock (p->locks, &h->lk);
  free (h);
  return r;
}

/* A write or a zero. */
static int
change (struct pivoted *p, struct target_req *req)
{
  const bool fua = req->flags & LEG_FUA;
  const uint64_t until = deadline (p);  /* not longer for who queues first */
  const uint64_t told = fua ? begin_fua (p) : 0;
  int r = p->source.block > 1 ? change_blocks (p, req, until)
    : once (p, req, until);

  if (r == 0 && fua && !(req->flags & LEG_FUA))
    r = flush_unasked (p);
  if (fua)
    r = end_fua (p, r, told);
  return r == -ENOTCONN ? -EIO : r;
}

static int
pivoted_pwrite (struct source *s, const void *buf, uint32_t count,
                uint64_t offset, unsigned flags)
{
  struct target_req req = {
    .op = TARGET_WRITE, .lane = LANE_ONE, .flags = flags & LEG_FUA,
    .buf = (void *) buf, .count = count, .offset = offset,
  };

  return change (of (s), &req);
}

static int
pivoted_zero (struct source *s, uint32_t count, uint64_t offset,
              unsigned flags)
{
  struct target_req req = {
    .op = TARGET_ZERO, .lane = LANE_ONE,
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
  uint64_t told;
  bool can_zero;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
    can_zero = p->target && p->target->can_zero;
  }
  if (can_zero)
    return pivoted_zero (s, count, offset, LEG_MAY_TRIM | (flags & LEG_FUA));
  if (!(flags & LEG_FUA))
    return 0;
  told = begin_fua (p);
  return end_fua (p, flush_unasked (p), told);
}

/* Pieces that are told when the session is not used any more: what is done with
 * them may take long, and may need this disk itself.
 */
#define PIECES 64

struct pieces {
  unsigned n;
  struct {
    struct range range;
    enum extent_kind kind;
  } piece[PIECES];
};

static int
add_piece (void *opaque, struct range r, enum extent_kind kind)
{
  struct pieces *to = opaque;

  to->piece[to->n].range = r;
  to->piece[to->n].kind = kind;
  return ++to->n == PIECES;
}

/* Another connection may answer than the one that writes: it is sure to know of
 * what has ended only after a flush.
 */
static bool
needs_flush (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  const struct target *t = p->target;

  return t && t->connections > 1 && t->can_multi_conn && t->can_flush;
}

/* Ask the session; 0 or -errno. */
static int
get_pieces (struct pivoted *p, struct range r, struct pieces *to)
{
  const bool flushed = needs_flush (p) && flush_unasked (p) == 0;
  struct target *t;
  struct user user;
  int ret = 0;

  if (!pivoted_begin_use (p, &user, TARGET_READ, deadline (p), 1))
    return -EIO;
  t = user.target;
  if (t->can_extents && (t->connections == 1 || flushed))
    ret = t->ops->extents (t, r, add_piece, to);
  else
    add_piece (to, r, EXTENT_DATA);
  pivoted_end_use (p, &user, ret < 0 ? ret : 0, false);
  if (ret == -ENOTCONN) {       /* nobody needs to know */
    to->n = 0;
    add_piece (to, r, EXTENT_DATA);
    return 0;
  }
  return ret < 0 ? ret : 0;
}

static int
pivoted_extents (struct source *s, struct range r, extent_fn *fn,
                 void *opaque)
{
  struct pieces pieces = { .n = 0 };
  unsigned i;
  int ret = get_pieces (of (s), r, &pieces);

  for (i = 0; ret == 0 && i < pieces.n; ++i)
    ret = fn (opaque, pieces.piece[i].range, pieces.piece[i].kind);
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
  /* What another process had written, and what nobody could flush. */
  p->acked = p->config.restarted || !p->source.can_flush;
  p->facts.size = target ? target->size : p->config.disk_size;
  p->facts.block = target ? target->block : TARGET_MAX_BLOCK;
  if (!target) {
    p->lost = true;             /* the thread opens it */
    return;
  }
  p->source.block = target->block;
  p->source.can_flush = target->can_flush;
  p->acked |= !target->can_flush;
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
  cond_init (&p->flushed_one);
  *err = thread_start (&p->thread, "mirror-reopen", pivoted_main, p);
  if (*err < 0) {
    p->target = NULL;
    cond_destroy (&p->flushed_one);
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
  assert (!p->users);
  if (p->target)
    p->target->ops->free (p->target);
  mutex_lock (&p->lock);
  pivoted_exorcise_locked (p, true);
  mutex_unlock (&p->lock);
  cond_destroy (&p->flushed_one);
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
pivoted_online (struct pivoted *p, struct target *facts)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  if (!p->target || p->lost)
    return false;
  memcpy (facts, p->target, offsetof (struct target, lost_opaque));
  return true;
}

void
pivoted_give_up (struct pivoted *p)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

  p->give_up = true;
  atomic_store (&p->stop, true);
  pivoted_exorcise_locked (p, true);
  pivoted_hurry_locked (p);
  cond_broadcast (&p->online);
}
