/* SPDX-License-Identifier: BSD-3-Clause */
/* The session with a target: lanes, splitting, emulation, loss.
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
static char zeroes[256 << 10];

/*-- the end of the session ---------------------------------------------*/

/* The engine may set `lost` after the connection has been lost already; then
 * the first request tells it.
 */
static void
tell_lost (struct target_session *s)
{
  void (*lost) (void *, int) = atomic_load (&s->target.lost);

  if (lost && !atomic_load (&s->silent) && !atomic_exchange (&s->told, true))
    lost (s->target.lost_opaque, atomic_load (&s->error));
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

/*-- requests -----------------------------------------------------------*/

static struct conn *
pick_conn (struct target_session *s, enum target_lane lane)
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

static uint32_t
min_u32 (uint32_t a, uint32_t b)
{
  return a < b ? a : b;
}

/* Send req in pieces of at most `max` bytes; buf NULL: zeroes. */
static void
issue_data (struct target_session *s, struct conn *c, struct target_req *req,
            enum wire_op op, char *buf, uint32_t max, uint32_t nbd_flags)
{
  uint32_t done, n;

  max = min_u32 (max, s->max_payload);
  req_begin (req, c, (req->count + max - 1) / max);
  for (done = 0; done < req->count; done += n) {
    n = min_u32 (max, req->count - done);
    conn_issue (c, req, op, buf ? buf + done : zeroes, n, req->offset + done,
                nbd_flags, NULL);
  }
}

static uint32_t
fua_flag (const struct target_session *s, const struct target_req *req)
{
  if (!(req->flags & LEG_FUA) || req->op == TARGET_READ
      || req->op == TARGET_FLUSH)
    return 0;
  assert (s->target.can_fua);   /* else the engine flushes */
  return LIBNBD_CMD_FLAG_FUA;
}

static void
issue_zero_as_data (struct target_session *s, struct conn *c,
                    struct target_req *req)
{
  issue_data (s, c, req, WIRE_WRITE, NULL, sizeof zeroes,
              fua_flag (s, req));
}

static void
op_submit (struct target *t, struct target_req *req)
{
  struct target_session *s = (struct target_session *) t;
  struct conn *c = pick_conn (s, req->op == TARGET_FLUSH
                              ? LANE_TEE : req->lane);
  uint32_t flags = fua_flag (s, req);

  assert (req->count <= LEG_MAX_REQUEST);
  if (atomic_load_explicit (&s->ended, memory_order_acquire)) {
    tell_lost (s);
    req_refuse (req, c, -ENOTCONN);
    return;
  }
  switch (req->op) {
  case TARGET_READ:
    issue_data (s, c, req, WIRE_READ, req->buf, UINT32_MAX, 0);
    break;
  case TARGET_WRITE:
    issue_data (s, c, req, WIRE_WRITE, req->buf, UINT32_MAX, flags);
    break;
  case TARGET_ZERO:
    if (!t->can_zero || atomic_load (&s->zero_refused)) {
      issue_zero_as_data (s, c, req);
      break;
    }
    if (!(req->flags & LEG_MAY_TRIM))
      flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    req_begin (req, c, 1);
    conn_issue (c, req, WIRE_ZERO, NULL, req->count, req->offset, flags,
                NULL);
    break;
  case TARGET_FLUSH:
    req_begin (req, c, 1);
    conn_issue (c, req, WIRE_FLUSH, NULL, 0, 0, 0, NULL);
    break;
  }
}

static int
op_wait (struct target *t, struct target_req *req)
{
  struct target_session *s = (struct target_session *) t;

  conn_wait (req);
  if (req->op != TARGET_ZERO || !t->can_zero
      || (req->result != -ENOTSUP && req->result != -EOPNOTSUPP
          && req->result != -EINVAL))
    return req->result;

  /* The server says that it zeroes but does not, or not this range. */
  if (req->result != -EINVAL)
    atomic_store (&s->zero_refused, true);
  issue_zero_as_data (s, req_conn (req), req);
  conn_wait (req);
  return req->result;
}

/*-- extents ------------------------------------------------------------*/

/* Report what the server has said about r; whatever makes no sense is data.
 * Neighbours of one kind are reported as one.
 */
static int
report_extents (const struct extent_list *list, struct range r,
                extent_fn *fn, void *opaque)
{
  struct range piece = { r.start, r.start };
  enum extent_kind kind = EXTENT_DATA;
  uint64_t length;
  size_t i;
  int ret;

  for (i = 0; i < list->n && piece.end < r.end; ++i) {
    length = list->e[i].length;
    if (length == 0)
      break;
    if (!range_empty (piece) && list->e[i].kind != kind) {
      ret = fn (opaque, piece, kind);
      if (ret < 0)
        return ret;
      piece.start = piece.end;
    }
    kind = list->e[i].kind;
    if (length > r.end - piece.end)
      length = r.end - piece.end;
    piece.end += length;
  }
  if (piece.end == r.start) {
    piece.end = r.end;
    kind = EXTENT_DATA;
  }
  ret = fn (opaque, piece, kind);
  return ret < 0 ? ret : 0;
}

static int
op_extents (struct target *t, struct range r, extent_fn *fn, void *opaque)
{
  /* The most that fits the wire, but a multiple of any block size. */
  const uint64_t max = (UINT64_C (1) << 32) - (64 << 10);
  struct target_session *s = (struct target_session *) t;
  struct extent_list list = { .n = 0 };
  struct target_req req = { .op = TARGET_FLUSH, .lane = LANE_COPY };

  if (range_len (r) > max)
    r.end = r.start + max;
  if (t->can_extents) {
    req_begin (&req, pick_conn (s, LANE_COPY), 1);
    conn_issue (req_conn (&req), &req, WIRE_STATUS, NULL,
                (uint32_t) range_len (r), r.start, 0, &list);
    conn_wait (&req);
    if (req.result == -ENOTCONN)
      return req.result;
    if (req.result < 0)
      list.n = 0;
  }
  return report_extents (&list, r, fn, opaque);
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
  for (i = 0; i < s->nr_conns; ++i)
    conn_destroy (&s->conns[i]);
  free (s->uri);
  free (s);
}

const struct target_ops target_ops = {
  .submit = op_submit,
  .wait = op_wait,
  .extents = op_extents,
  .shutdown = op_shutdown,
  .free = op_free,
};
