/* SPDX-License-Identifier: BSD-3-Clause */
/* The fake target: sessions, requests in pieces, a volatile cache, losses and
 * power cuts; and what it checks: no two overlapping writes in flight (I5,
 * I10), one flush at a time (I11), no tee while there has only been
 * background mode (I4), buffers left alone while in flight, one wait for each
 * submit.  See fakes.h.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "sched.h"

#define SLOWEST_NS UINT64_C (300000000)

static struct fake_target *
target_of (struct target *t)
{
  return (struct fake_target *) t;
}

static bool
is_over (const struct fake_target *ft)
{
  return ft->down || ft->lost;
}

static struct range
request_bytes (const struct target_req *req)
{
  return (struct range) { req->offset, req->offset + req->count };
}

static uint64_t
checksum (const struct target_req *req)
{
  const uint8_t *buf = req->buf;
  uint64_t h = UINT64_C (0xcbf29ce484222325);
  uint32_t i;

  if (req->op != TARGET_WRITE)
    return 0;
  for (i = 0; i < req->count; i++)
    h = (h ^ buf[i]) * UINT64_C (0x100000001b3);
  return h;
}

/*-- checks -------------------------------------------------------------*/

static void
check_client_request (struct world *w, const struct target_req *req)
{
  struct client_op *op = world_my_op (w);

  if (!op)
    sched_fail ("I4", "the tee lane carries data that is no client's");
  if (w->only_background)
    sched_fail ("I4", "a client's data goes to the target in background "
                "mode");
  if (req->offset < op->range.start ||
      req->offset + req->count > op->range.end)
    sched_fail ("I4", "a tee goes beyond the client's range");
  if (req->op == TARGET_WRITE &&
      (op->kind != OP_WRITE ||
       memcmp (req->buf, op->buf + (req->offset - op->range.start),
               req->count) != 0))
    sched_fail ("I4", "a tee carries other data than the client's");
  op->teed = true;
}

static void
check_request (struct fake_target *ft, const struct target_req *req)
{
  const struct target *t = &ft->target;
  unsigned i;

  if (req->op == TARGET_FLUSH) {
    if (!t->can_flush)
      sched_fail ("legs", "flush to a target that has none");
    if (req->count != 0)
      sched_fail ("legs", "flush with a length");
    if (ft->flushes > 0 && !is_over (ft))
      sched_fail ("I11", "two target flushes in flight");
    return;
  }
  if (req->count == 0 || req->offset + req->count > ft->w->size)
    sched_fail ("legs", "request to the target out of range");
  if ((req->flags & LEG_FUA) && !t->can_fua)
    sched_fail ("legs", "FUA to a target that has none");
  if (req->op == TARGET_READ)
    return;
  if (req->lane == LANE_TEE)
    check_client_request (ft->w, req);
  else if (world_my_op (ft->w))
    sched_fail ("I5", "a client's data goes through the copy lane");
  for (i = 0; i < MAX_REQUESTS; i++) {
    const struct fake_request *fr = &ft->requests[i];

    if (fr->req && !fr->req->done && fr->write &&
        range_overlap (fr->range, request_bytes (req)))
      sched_fail ("I10", "overlapping writes in flight at the target: "
                  "%llu-%llu and %llu-%llu",
                  (unsigned long long) fr->range.start,
                  (unsigned long long) fr->range.end,
                  (unsigned long long) req->offset,
                  (unsigned long long) req->offset + req->count);
  }
}

/*-- the image ----------------------------------------------------------*/

static void
land_piece (struct fake_target *ft, struct fake_request *fr, struct range p)
{
  struct world *w = ft->w;
  uint8_t *buf = fr->req->buf;
  const uint64_t n = range_len (p);

  sched_trace ("target: bytes %llu-%llu land", p.start, p.end, 0, 0);
  switch (fr->req->op) {
  case TARGET_READ:
    memcpy (buf + (p.start - fr->range.start), &w->T[p.start], n);
    return;
  case TARGET_WRITE:
    memcpy (&w->T[p.start], buf + (p.start - fr->range.start), n);
    break;
  case TARGET_ZERO:
    memset (&w->T[p.start], 0, n);
    break;
  case TARGET_FLUSH:
    return;
  }
  memset (&w->cached[p.start], 1, n);
  memset (&w->acked[p.start], 0, n);
}

static void
make_stable (struct fake_target *ft, uint64_t b, uint8_t value)
{
  ft->w->stable[b] = value;
  if (ft->w->T[b] == value)
    ft->w->cached[b] = ft->w->acked[b] = 0;
}

static void
begin_flush (struct fake_target *ft)
{
  uint64_t b;

  ft->flushes++;
  ft->acked_meanwhile = false;
  for (b = 0; b < ft->w->size; b++)
    ft->flushing[b] = ft->w->cached[b] && ft->w->acked[b];
  memcpy (ft->snapshot, ft->w->T, ft->w->size);
}

static void
end_flush (struct fake_target *ft, bool good)
{
  struct world *w = ft->w;
  const bool late = sched_percent (50);
  unsigned fate = 0, i;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      fate = sched_rand (3);
    if (!ft->flushing[b])
      continue;
    if (good || fate == 0)
      make_stable (ft, b, late ? w->T[b] : ft->snapshot[b]);
    else if (fate == 1)
      w->cached[b] = 0;         /* dropped: never to be stable */
  }
  memset (ft->flushing, 0, sizeof ft->flushing);
  ft->flushes--;
  if (good && ft->acked_meanwhile)
    w->seen[SEEN_ACK_DURING_FLUSH]++;
  for (i = 0; !good && i < MAX_REQUESTS; i++)
    if (ft->requests[i].req && ft->requests[i].replied_ok &&
        ft->requests[i].write)
      w->seen[SEEN_BAD_FLUSH_DURING_TEE]++;
}

/* The cache writes back what it likes, when it likes. */
static void
evict (struct world *w)
{
  const uint64_t start = sched_rand (w->size);
  uint64_t end = start + 1 + sched_rand (1024), b;
  struct fake_target *ft;

  if (end > w->size)
    end = w->size;
  for (b = start; b < end; b++)
    if (w->cached[b]) {
      w->stable[b] = w->T[b];
      w->cached[b] = w->acked[b] = 0;
      for (ft = w->targets; ft; ft = ft->next)
        ft->flushing[b] = 0;
    }
}

static void
cut_power (struct world *w)
{
  bool gone = true;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      gone = sched_percent (80);
    if (gone)
      w->T[b] = w->stable[b];
    else
      w->stable[b] = w->T[b];
    w->cached[b] = w->acked[b] = 0;
  }
  w->power_was_cut = true;
  sched_trace ("target: power cut", 0, 0, 0, 0);
}

/*-- requests -----------------------------------------------------------*/

static struct fake_request *
find_request (struct fake_target *ft, const struct target_req *req)
{
  unsigned i;

  for (i = 0; i < MAX_REQUESTS; i++)
    if (ft->requests[i].req == req)
      return &ft->requests[i];
  return NULL;
}

static void
reply (struct fake_target *ft, struct fake_request *fr, int result)
{
  struct target_req *req = fr->req;
  const struct range r = fr->range;

  if (checksum (req) != fr->sum && req->op != TARGET_READ)
    sched_fail ("legs", "a buffer has changed while it was in flight");
  if (req->op == TARGET_FLUSH)
    end_flush (ft, result == 0);
  else if (fr->write) {
    /* What has landed is complete for later flushes, even if no good reply
     * has told.
     */
    memset (&ft->w->acked[r.start], 1, range_len (r));
    if (result == 0 && (req->flags & LEG_FUA)) {
      memcpy (&ft->w->stable[r.start], &ft->w->T[r.start], range_len (r));
      memset (&ft->w->cached[r.start], 0, range_len (r));
      memset (&ft->flushing[r.start], 0, range_len (r));
    }
    else if (result == 0 && ft->flushes > 0)
      ft->acked_meanwhile = true;
  }
  fr->replied_ok = result == 0;
  req->result = result;
  req->done = true;
  sched_trace ("target: %llu-%llu op %llu ends with -%llu", r.start, r.end,
               req->op, -result);
}

static void
draw_plan (struct world *w, struct fake_request *fr)
{
  const bool flush = fr->req->op == TARGET_FLUSH;

  fr->plan = 0;
  fr->quota = fr->nr_pieces;
  if (sched_percent (flush ? w->faults.flush_error
                     : w->faults.target_error)) {
    fr->plan = flush || sched_percent (50) ? -EIO : -ENOSPC;
    if (!flush)
      fr->quota = sched_rand (fr->nr_pieces + 1);
  }
  else if (fr->write && sched_percent (w->faults.lie))
    fr->quota--;
  fr->stuck = sched_percent (w->faults.stuck);
  if (sched_percent (flush ? w->faults.flush_slow : w->faults.target_slow))
    fr->not_before = sched_now () + sched_rand (SLOWEST_NS);
}

static void
target_submit (struct target *t, struct target_req *req)
{
  struct fake_target *ft = target_of (t);
  struct fake_request *fr;

  sched_yield_here ();
  check_request (ft, req);
  fr = find_request (ft, NULL);
  if (!fr)
    sched_fail ("sim", "too many requests in flight");
  memset (fr, 0, sizeof *fr);
  fr->req = req;
  fr->range = request_bytes (req);
  fr->write = req->op == TARGET_WRITE || req->op == TARGET_ZERO;
  fr->sum = checksum (req);
  req->done = false;
  sched_trace ("target: %llu-%llu op %llu lane %llu submitted",
               fr->range.start, fr->range.end, req->op, req->lane);
  if (is_over (ft)) {
    req->result = -ENOTCONN;
    req->done = true;
    return;
  }
  if (req->op == TARGET_FLUSH)
    begin_flush (ft);
  else
    fr->nr_pieces = world_cut (fr->range, fr->pieces);
  draw_plan (ft->w, fr);
  sched_yield_here ();
}

static bool
is_done (void *req)
{
  return ((struct target_req *) req)->done;
}

static int
target_wait (struct target *t, struct target_req *req)
{
  struct fake_target *ft = target_of (t);
  struct fake_request *fr = find_request (ft, req);

  if (!fr)
    sched_fail ("legs", "wait for a request that is not in flight");
  sched_wait (is_done, req, "a reply of the target");
  if (fr->replied_ok && fr->write && ft->told)
    ft->w->seen[SEEN_LATE_ACK]++;
  fr->req = NULL;
  return req->result;
}

static int
target_extents (struct target *t, struct range r, extent_fn *fn,
                void *opaque)
{
  struct fake_target *ft = target_of (t);

  if (!t->can_extents)
    sched_fail ("legs", "extents of a target that has none");
  if (range_empty (r) || r.end > ft->w->target_size)
    sched_fail ("legs", "extents of the target out of range");
  sched_yield_here ();
  if (is_over (ft))
    return -ENOTCONN;
  if (sched_percent (ft->w->faults.target_error))
    return -EIO;
  return world_extents (ft->w->T, r, fn, opaque);
}

/*-- sessions -----------------------------------------------------------*/

static void
target_shutdown (struct target *t)
{
  struct fake_target *ft = target_of (t);

  sched_trace ("target: shut down", 0, 0, 0, 0);
  ft->down = true;
}

static bool
poller_has_work (void *vp)
{
  struct fake_target *ft = vp;

  return ft->quit || (ft->lost && !ft->told);
}

/* Requests that are cut off before the engine hears of the loss, or after. */
static void
end_some_requests (struct fake_target *ft)
{
  unsigned i;

  for (i = 0; i < MAX_REQUESTS; i++) {
    struct fake_request *fr = &ft->requests[i];

    if (fr->req && !fr->req->done && sched_percent (50)) {
      reply (ft, fr, -ENOTCONN);
      sched_yield_here ();
    }
  }
}

static void
poller (void *vp)
{
  struct fake_target *ft = vp;

  for (;;) {
    sched_wait (poller_has_work, ft, "a loss");
    if (ft->quit)
      return;
    if (sched_percent (50))
      end_some_requests (ft);
    ft->told = true;
    if (!ft->down && ft->target.lost) {
      sched_trace ("target: tells the loss", 0, 0, 0, 0);
      ft->target.lost (ft->target.lost_opaque, -ECONNRESET);
    }
  }
}

static void
target_free (struct target *t)
{
  struct fake_target *ft = target_of (t), **p;
  unsigned i;

  target_shutdown (t);
  for (i = 0; i < MAX_REQUESTS; i++)
    if (ft->requests[i].req)
      sched_fail ("legs", "the target is freed with a request in flight");
  ft->quit = true;
  thread_join (&ft->poller);
  for (p = &ft->w->targets; *p != ft; p = &(*p)->next)
    ;
  *p = ft->next;
  free (ft);
}

static const struct target_ops fake_target_ops = {
  .submit = target_submit,
  .wait = target_wait,
  .extents = target_extents,
  .shutdown = target_shutdown,
  .free = target_free,
};

/* What a failed flush has dropped is read from the medium again in the end;
 * a new session could not know of it.
 */
static void
forget_dropped (struct world *w)
{
  uint64_t b;

  for (b = 0; b < w->size; b++)
    if (!w->cached[b])
      w->T[b] = w->stable[b];
}

struct fake_target *
fake_target_new (struct world *w)
{
  struct fake_target *ft = calloc (1, sizeof *ft);

  if (!ft)
    abort ();
  forget_dropped (w);
  ft->w = w;
  ft->target = (struct target) {
    .ops = &fake_target_ops,
    .size = w->target_size,
    .can_flush = sched_percent (85),
    .can_fua = sched_percent (50),
    .can_zero = sched_percent (80),
    .can_extents = sched_percent (70),
    .can_multi_conn = sched_percent (50),
    .connections = 1 + sched_rand (4),
  };
  if (!ft->target.can_flush)
    ft->target.can_fua = false;
  ft->next = w->targets;
  w->targets = ft;
  if (thread_start (&ft->poller, "target", poller, ft) != 0)
    abort ();
  return ft;
}

void
fake_target_lose (struct fake_target *ft, bool power_cut)
{
  struct world *w = ft->w;
  bool tee = false, unflushed = false;
  uint64_t b;
  unsigned i;

  if (is_over (ft))
    return;
  sched_trace ("target: lost", 0, 0, 0, 0);
  for (i = 0; i < MAX_REQUESTS; i++)
    if (ft->requests[i].req && !ft->requests[i].req->done &&
        ft->requests[i].write && ft->requests[i].req->lane == LANE_TEE)
      tee = true;
  for (b = 0; b < w->size; b++)
    unflushed = unflushed || w->acked[b];
  if (power_cut && tee && unflushed)
    w->seen[SEEN_LOSS_DURING_TEE]++;
  ft->lost = true;
  if (power_cut) {
    ft->dead = true;
    cut_power (w);
  }
}

/*-- I/O steps ----------------------------------------------------------*/

static bool
is_pending (const struct fake_target *ft, const struct fake_request *fr)
{
  return fr->req && !fr->req->done &&
    (is_over (ft) || (!fr->stuck && fr->not_before <= sched_now ()));
}

size_t
world_io_pending (void *vp)
{
  struct world *w = vp;
  struct fake_target *ft;
  size_t n = 0;
  unsigned i;

  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      n += is_pending (ft, &ft->requests[i]);
  return n;
}

uint64_t
world_io_deadline (void *vp)
{
  const struct world *w = vp;
  const struct fake_target *ft;
  uint64_t first = UINT64_MAX;
  unsigned i;

  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++) {
      const struct fake_request *fr = &ft->requests[i];

      if (fr->req && !fr->req->done && !fr->stuck &&
          fr->not_before > sched_now () && fr->not_before < first)
        first = fr->not_before;
    }
  return first;
}

/* One piece, or the reply. */
static void
request_step (struct fake_target *ft, struct fake_request *fr)
{
  const bool over = is_over (ft);
  unsigned left, i, pick = 0, n = 0;

  left = fr->quota - (unsigned) __builtin_popcount (fr->landed);
  if (left == 0 || (over && (ft->dead || sched_percent (40)))) {
    reply (ft, fr, over ? -ENOTCONN : fr->plan);
    return;
  }
  for (i = 0; i < fr->nr_pieces; i++)
    if (!(fr->landed & (1u << i)) && sched_rand (++n) == 0)
      pick = i;
  fr->landed |= 1u << pick;
  land_piece (ft, fr, fr->pieces[pick]);
}

void
world_io_step (void *vp)
{
  struct world *w = vp;
  size_t pick = sched_rand (world_io_pending (w));
  struct fake_target *ft;
  unsigned i;

  if (sched_percent (w->faults.evict))
    evict (w);
  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      if (is_pending (ft, &ft->requests[i]) && pick-- == 0) {
        if (sched_rand (1000) < w->faults.loss_permille)
          fake_target_lose (ft, sched_percent (w->faults.power_cut));
        else
          request_step (ft, &ft->requests[i]);
        return;
      }
}

void
world_unstick (struct world *w)
{
  struct fake_target *ft;
  unsigned i;

  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      ft->requests[i].stuck = false;
}
