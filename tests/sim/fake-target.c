/* SPDX-License-Identifier: BSD-3-Clause */
/* The fake target: sessions, requests in pieces, losses; see fakes.h.  What it
 * checks is in fake-checks.c.
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

struct range
request_bytes (const struct target_req *req)
{
  return (struct range) { req->offset, req->offset + req->count };
}

struct range
request_blocks (const struct fake_target *ft, const struct target_req *req)
{
  return range_outer (request_bytes (req), ft->target.block,
                      ft->target.size);
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
  unsigned i;

  if (checksum (req) != fr->sum && req->op != TARGET_READ)
    sched_fail ("legs", "a buffer has changed while it was in flight");
  if (req->op == TARGET_FLUSH)
    image_end_flush (ft, result == 0, fr->op != NULL);
  else if (fr->write) {
    if (result != 0 && !ft->dead && sched_percent (30))
      image_spoil_edges (ft, fr);
    image_acked (ft, fr, result == 0 && (req->flags & LEG_FUA));
    if (result == -ENOTCONN)
      ghosts_rise (ft, fr);
    if (result == 0 && !(req->flags & LEG_FUA) && ft->flushes > 0)
      ft->acked_meanwhile = true;
  }
  for (i = 0; i < fr->nr_pieces; i++) {
    free (fr->pieces[i].copy);
    fr->pieces[i].copy = NULL;
  }
  if (fr->op && fr->write) {
    fr->op->tracked = false;
    fr->op->covered += result == 0 ? req->count : 0;
  }
  fr->replied_ok = result == 0;
  req->result = result;
  req->done = true;
  sched_trace ("target: %llu-%llu op %llu ends with -%llu", fr->range.start,
               fr->range.end, req->op, -result);
}

static void
add_edge (struct fake_request *fr, uint64_t start, uint32_t block)
{
  fr->pieces[fr->nr_pieces++] = (struct fake_piece) {
    .range = { start, start + block }, .edge = true
  };
}

static void
cut_request (struct fake_target *ft, struct fake_request *fr)
{
  const uint32_t block = ft->target.block;
  struct range middle = fr->range, pieces[MAX_PIECES];
  unsigned n, i;

  if (fr->write && fr->range.start != fr->blocks.start) {
    add_edge (fr, fr->blocks.start, block);
    middle.start = fr->blocks.start + block;
  }
  if (fr->write && fr->range.end != fr->blocks.end &&
      middle.start < fr->range.end) {
    add_edge (fr, fr->blocks.end - block, block);
    middle.end = fr->blocks.end - block;
  }
  if (range_empty (middle))
    return;
  n = world_cut (middle, pieces);
  for (i = 0; i < n; i++)
    fr->pieces[fr->nr_pieces++] = (struct fake_piece) { .range = pieces[i] };
}

static void
draw_plan (struct fake_target *ft, struct fake_request *fr)
{
  struct world *w = ft->w;
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
  /* A flush of the clients' disk may take very long. */
  fr->stuck = !(flush && ft->serving) && sched_percent (w->faults.stuck);
  if (sched_percent (flush ? w->faults.flush_slow : w->faults.target_slow))
    fr->not_before = sched_now () + sched_rand (SLOWEST_NS);
}

static void
target_submit (struct target *t, struct target_req *req)
{
  struct fake_target *ft = target_of (t);
  struct fake_request *fr;

  sched_yield_here ();
  target_check_request (ft, req);
  fr = find_request (ft, NULL);
  if (!fr)
    sched_fail ("sim", "too many requests in flight");
  memset (fr, 0, sizeof *fr);
  fr->req = req;
  fr->op = ft->serving ? world_my_op (ft->w) : NULL;
  fr->since = sched_now ();
  fr->range = request_bytes (req);
  fr->blocks = request_blocks (ft, req);
  fr->write = req->op == TARGET_WRITE || req->op == TARGET_ZERO;
  fr->sum = checksum (req);
  req->done = false;
  sched_trace ("target: %llu-%llu op %llu lane %llu submitted",
               fr->range.start, fr->range.end, req->op, req->lane);
  if (is_over (ft)) {
    if (fr->op)
      fr->op->tracked = false;
    req->result = -ENOTCONN;
    req->done = true;
    return;
  }
  if (req->op == TARGET_FLUSH) {
    ft->w->disk_flushes += ft->serving;
    image_begin_flush (ft);
  }
  else
    cut_request (ft, fr);
  draw_plan (ft, fr);
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
  return world_extents (t->connections > 1 && sched_percent (50)
                        ? ft->view : ft->image->now, r, fn, opaque);
}

/*-- sessions -----------------------------------------------------------*/

/* Has somebody waited for so long that the session may be given up?  Maybe he
 * only has not run since his reply was there: that nobody can see.
 */
static bool
is_overdue (const struct fake_target *ft)
{
  unsigned i;

  for (i = 0; i < MAX_REQUESTS; i++)
    if (ft->requests[i].req &&
        sched_now () - ft->requests[i].since >= SERVED_TIMEOUT)
      return true;
  return false;
}

static void
target_shutdown (struct target *t)
{
  struct fake_target *ft = target_of (t);

  if (ft->serving && !is_over (ft) && is_overdue (ft)) {
    ft->w->disk_losses++;
    ft->w->seen[SEEN_DISK_HANGS]++;
  }
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
      ft->target.lost (ft->target.lost_opaque, &ft->target, -ECONNRESET);
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

struct fake_target *
fake_target_new (struct world *w, bool serving)
{
  struct fake_target *ft = calloc (1, sizeof *ft);

  if (!ft)
    abort ();
  ft->number = ++w->nr_sessions;
  ft->serving = serving;
  ft->image = serving ? w->disk : w->copy;
  image_forget_dropped (w, ft->image);
  memcpy (ft->view, ft->image->now, w->target_size);
  ft->w = w;
  ft->target = (struct target) {
    .ops = &fake_target_ops,
    .size = w->target_size,
    .block = ft->image->block,
    .can_flush = sched_percent (85),
    .can_fua = sched_percent (50),
    .can_zero = sched_percent (80),
    .can_extents = sched_percent (70),
    .can_multi_conn = sched_percent (50),
    .connections = 1 + sched_rand (4),
  };
  if (!ft->target.can_flush)
    ft->target.can_fua = false;
  if (serving) {
    ft->target = w->features;
    ft->target.lost = NULL;
    ft->target.lost_opaque = NULL;
  }
  else
    w->latest = ft->target;
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
        ft->requests[i].write && ft->requests[i].req->lane != LANE_COPY)
      tee = true;
  for (b = 0; b < w->size; b++)
    unflushed = unflushed || ft->image->acked[b];
  if (ft->serving) {
    w->disk_losses++;
    if (unflushed)
      w->seen[SEEN_DISK_LOST]++;
  }
  else if (power_cut && tee && unflushed)
    w->seen[SEEN_LOSS_DURING_TEE]++;
  ft->lost = true;
  if (power_cut) {
    ft->dead = true;
    image_cut_power (w, ft->image);
  }
}

struct fake_target *
world_session (struct world *w, bool serving)
{
  struct fake_target *ft = w->targets;

  while (ft && ft->serving != serving)
    ft = ft->next;
  return ft;
}

/* Does a client's call change any leg now? */
bool
world_client_changes (struct world *w)
{
  const struct fake_target *ft;
  unsigned i;

  if (w->changing > 0)
    return true;
  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      if (ft->requests[i].req && !ft->requests[i].req->done &&
          ft->requests[i].write && ft->requests[i].req->lane != LANE_COPY)
        return true;
  return false;
}

/* A verification may read, and ask for extents, at any time. */
static bool
is_clients_or_flush (const struct fake_target *ft,
                     const struct fake_request *fr)
{
  return fr->op || (!ft->serving && fr->req->op == TARGET_FLUSH);
}

bool
world_busy (struct world *w, bool changes)
{
  const struct fake_target *ft;
  unsigned i;

  if (w->changing > 0 || (!changes && w->flushing > 0))
    return true;
  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      if (ft->requests[i].req && !ft->requests[i].req->done &&
          (ft->requests[i].write ||
           (!changes && is_clients_or_flush (ft, &ft->requests[i]))))
        return true;
  return false;
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
  return n + ghosts_pending (w);
}

uint64_t
world_io_deadline (void *vp)
{
  const struct world *w = vp;
  const struct fake_target *ft;
  uint64_t first = ghosts_deadline (w);
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
  if (image_step (ft, fr, &fr->pieces[pick]))
    fr->landed |= 1u << pick;
}

void
world_io_step (void *vp)
{
  struct world *w = vp;
  size_t pick = sched_rand (world_io_pending (w));
  struct fake_target *ft;
  unsigned i;

  if (sched_percent (w->faults.evict))
    image_evict (w);
  if (w->intent && sched_percent (w->intent->faults.evict))
    intent_evict (w->intent);
  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      if (is_pending (ft, &ft->requests[i]) && pick-- == 0) {
        if (sched_rand (1000) < w->faults.loss_permille)
          fake_target_lose (ft, sched_percent (w->faults.power_cut));
        else
          request_step (ft, &ft->requests[i]);
        return;
      }
  ghosts_step (w, pick);
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
