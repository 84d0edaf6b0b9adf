/* SPDX-License-Identifier: BSD-3-Clause */
/* The session with a target: lanes, splitting, loss.
 *
 * A request goes over one connection of its lane, the one with the least in
 * flight, as one or several pieces; it has ended when all of them have.
 *
 * A session ends once: `ended` is set, then all sockets are shut down, then
 * lost is called.  A reply that arrives after `ended` was set does not count:
 * its request gets -ENOTCONN like those without a reply, since the engine has
 * been told, or is being told, that everything in flight is in doubt.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "target-private.h"
#include "target.h"

/* What zeroes are sent from where zero requests are not possible.  Never
 * written to; not const so that it costs no space in the file.
 */
static char zeroes[TARGET_ZEROES];

/*-- the end of the session ---------------------------------------------*/

/* The engine may set `lost` after the connection has been lost already; then
 * the first request tells it.
 */
static void
tell_lost (struct target_session *s)
{
  void (*lost) (void *, struct target *, int) =
    atomic_load (&s->target.lost);

  if (lost && !atomic_load (&s->silent) && !atomic_exchange (&s->told, true))
    lost (s->target.lost_opaque, &s->target, atomic_load (&s->error));
}

void
target_session_end (struct target_session *s, int err)
{
  unsigned i;

  if (atomic_load_explicit (&s->ended, memory_order_acquire))
    return;
  if (err < 0) {
    int none = 0;

    atomic_compare_exchange_strong (&s->error, &none, err);
  }
  else
    atomic_store (&s->silent, true);
  if (atomic_exchange (&s->ended, true))
    return;
  for (i = 0; i < s->nr_conns; ++i)
    conn_shutdown (&s->conns[i]);
  tell_lost (s);
}

static void
op_shutdown (struct target *t)
{
  target_session_end ((struct target_session *) t, 0);
}

static void
op_set_timeout (struct target *t, uint64_t ns)
{
  struct target_session *s = (struct target_session *) t;
  unsigned i;

  for (i = 0; i < s->nr_conns; ++i)
    target_socket_timeout (s->conns[i].fd, (unsigned) (ns / 1000000));
}

/*-- requests -----------------------------------------------------------*/

struct conn *
target_pick_conn (struct target_session *s, enum target_lane lane)
{
  const struct lane *l = &s->lanes[lane];
  uint64_t load, least = UINT64_MAX;
  unsigned i, best = l->first;

  for (i = l->first; i < l->first + l->count && least > 0; ++i) {
    load = atomic_load_explicit (&s->conns[i].load, memory_order_relaxed);
    if (load < least) {
      least = load;
      best = i;
    }
  }
  return &s->conns[best];
}

uint32_t
target_fua_flag (const struct target_session *s, const struct target_req *req)
{
  if (!(req->flags & LEG_FUA))
    return 0;
  assert (s->target.can_fua);   /* else the engine flushes */
  return LIBNBD_CMD_FLAG_FUA;
}

void
target_issue (struct conn *c, struct target_req *req, enum wire_op op,
              char *buf, struct share share, uint32_t nbd_flags)
{
  const uint32_t max = share.max;
  uint32_t n, at = share.from, end = share.from + share.count;
  char *p;

  assert (op != WIRE_WRITE || buf || max <= TARGET_ZEROES);
  req_begin (req, c, share.count / max + (share.count % max > 0));
  for (; at < end; at += n) {
    n = min_u32 (max, end - at);
    p = buf ? buf + at : op == WIRE_WRITE ? zeroes : NULL;
    conn_issue (c, req, op, p, n, req->offset + at, nbd_flags, NULL);
  }
}

void
target_submit_aligned (struct target_session *s, struct conn *c,
                       struct target_req *req)
{
  const struct share all = { 0, req->count, s->max_payload };

  if (atomic_load_explicit (&s->ended, memory_order_acquire)) {
    tell_lost (s);
    req_refuse (req, c, -ENOTCONN);
    return;
  }
  switch (req->op) {
  case TARGET_READ:
    target_issue (c, req, WIRE_READ, req->buf, all, 0);
    break;
  case TARGET_WRITE:
    target_issue (c, req, WIRE_WRITE, req->buf, all,
                  target_fua_flag (s, req));
    break;
  case TARGET_ZERO:
    target_zero_submit (s, c, req);
    break;
  case TARGET_TRIM:
    target_issue (c, req, WIRE_TRIM, NULL,
                  (struct share) { 0, req->count, req->count },
                  target_fua_flag (s, req));
    break;
  case TARGET_FLUSH:
    req_begin (req, c, 1);
    conn_issue (c, req, WIRE_FLUSH, NULL, 0, 0, 0, NULL);
    break;
  }
}

int
target_wait_aligned (struct target_session *s, struct target_req *req)
{
  conn_wait (req);
  return req->op == TARGET_ZERO ? target_zero_wait (s, req) : req->result;
}

static void
op_submit (struct target *t, struct target_req *req)
{
  struct target_session *s = (struct target_session *) t;
  /* A flush has no data that clients would have to wait behind. */
  const bool copy = req->lane == LANE_COPY && req->op != TARGET_FLUSH;
  struct conn *c = target_pick_conn (s, copy || req->lane == LANE_ONE
                                     ? req->lane : LANE_TEE);

  assert (req->count <= (req->op == TARGET_ZERO || req->op == TARGET_TRIM
                         ? TARGET_MAX_ZERO : LEG_MAX_REQUEST));
  if (target_is_unaligned (t, req))
    target_blocks_submit (s, c, req);
  else
    target_submit_aligned (s, c, req);
}

static int
op_wait (struct target *t, struct target_req *req)
{
  struct target_session *s = (struct target_session *) t;

  return target_is_unaligned (t, req)
    ? target_blocks_wait (s, req) : target_wait_aligned (s, req);
}

/*-- life ---------------------------------------------------------------*/

int
target_start (struct target *target)
{
  struct target_session *s = (struct target_session *) target;
  unsigned i;
  int r;

  for (i = 0; i < s->nr_conns; ++i) {
    r = conn_start (&s->conns[i]);
    if (r < 0) {
      target_session_end (s, 0);
      return r;
    }
  }
  return 0;
}

static void
op_free (struct target *t)
{
  struct target_session *s = (struct target_session *) t;
  unsigned i;

  /* First, or the end of the first connection would be taken for a loss. */
  if (!atomic_exchange (&s->ended, true))
    for (i = 0; i < s->nr_conns; ++i) {
      conn_disconnect (&s->conns[i]);
      conn_shutdown (&s->conns[i]);
    }
  /* All, before a descriptor is closed: the watcher of one that was lost shuts
   * down those of the others.
   */
  for (i = 0; i < s->nr_conns; ++i)
    conn_join (&s->conns[i]);
  for (i = 0; i < s->nr_conns; ++i)
    conn_destroy (&s->conns[i]);
  free (s->uri);
  free (s);
}

const struct target_ops target_ops = {
  .submit = op_submit,
  .wait = op_wait,
  .extents = target_extents,
  .shutdown = op_shutdown,
  .set_timeout = op_set_timeout,
  .free = op_free,
};
