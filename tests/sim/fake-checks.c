/* SPDX-License-Identifier: BSD-3-Clause */
/* What the fake target checks: no two writes in flight that overlap or share a
 * block (I5, I10), one flush at a time (I11), no tee while there has only been
 * background mode (I4), nothing that the job was told not to send, the limits
 * of legs.h.  After a pivot: clients' calls arrive as they are (I7).
 */

#include <config.h>

#include <string.h>

#include "fakes.h"
#include "sched.h"

static bool
all_zero (const uint8_t *p, uint64_t n)
{
  while (n > 0 && *p == 0)
    p++, n--;
  return n == 0;
}

/* Does it carry what the client's call says? */
static bool
carries (struct world *w, const struct target_req *req,
         const struct client_op *op)
{
  const uint8_t *data = op->buf + (req->offset - op->range.start);

  if (op->kind != OP_WRITE)
    return req->op == TARGET_ZERO && op->kind != OP_FLUSH;
  if (req->op == TARGET_WRITE)
    return memcmp (req->buf, data, req->count) == 0;
  if (!w->detect_zeroes || !all_zero (data, req->count))
    return false;
  w->seen[SEEN_DETECTED]++;
  return true;
}

static void
check_client_request (struct world *w, const struct target_req *req)
{
  struct client_op *op = world_my_op (w);

  if (!op)
    sched_fail ("I4", "the tee lane carries data that is no client's");
  if (w->may_tee == TEE_NEVER)
    sched_fail ("I4", "a client's data goes to the target in background "
                "mode");
  if (req->offset < op->range.start ||
      req->offset + req->count > op->range.end)
    sched_fail ("I4", "a tee goes beyond the client's range");
  if (!carries (w, req, op))
    sched_fail ("I4", "a tee carries other data than the client's");
  if ((req->flags & LEG_MAY_TRIM) && op->kind == OP_ZERO &&
      !(op->flags & LEG_MAY_TRIM))
    sched_fail ("I4", "a zero that wants no hole may make one");
  if ((req->flags & LEG_FUA) && w->defer_flush)
    sched_fail ("defer", "a client's FUA goes to the target");
  if (w->may_tee == TEE_AFTER_SCAN)
    w->seen[SEEN_AUTO_TEE]++;
  op->teed = w->teed = true;
}

/* Clients have this disk: their calls arrive as they are, and the engine itself
 * only reads and flushes.
 */
static void
check_served (struct fake_target *ft, const struct target_req *req)
{
  struct client_op *op = world_my_op (ft->w);
  const bool change = req->op == TARGET_WRITE || req->op == TARGET_ZERO;

  if (req->op == TARGET_FLUSH && !ft->target.can_flush)
    sched_fail ("legs", "flush to a target that has none");
  if (!change)
    return;
  if (!op)
    sched_fail ("I4", "a thread of the engine changes the clients' disk");
  if (req->offset < op->range.start ||
      req->offset + req->count > op->range.end)
    sched_fail ("I7", "the disk gets other bytes than the client's");
  if (op->kind != OP_WRITE ? req->op != TARGET_ZERO
      : req->op != TARGET_WRITE ||
        memcmp (req->buf, op->buf + (req->offset - op->range.start),
                req->count) != 0)
    sched_fail ("I7", "the disk gets other data than the client's");
  if ((req->flags & LEG_FUA) && !ft->target.can_fua)
    sched_fail ("legs", "FUA to a target that has none");
  if ((req->flags & LEG_MAY_TRIM) && op->kind == OP_ZERO &&
      !(op->flags & LEG_MAY_TRIM))
    sched_fail ("I7", "a zero that wants no hole may make one");
  if (!op->teed)
    op->tracked = true;
}

static void
check_flush (const struct fake_target *ft, const struct target_req *req)
{
  if (!ft->target.can_flush)
    sched_fail ("legs", "flush to a target that has none");
  if (req->count != 0)
    sched_fail ("legs", "flush with a length");
  if (ft->flushes > 0 && !(ft->down || ft->lost))
    sched_fail ("I11", "two target flushes in flight");
  if (ft->w->defer_flush && world_my_op (ft->w))
    sched_fail ("defer", "a client's flush goes to the target");
}

static void
check_shape (const struct fake_target *ft, const struct target_req *req)
{
  const bool zero = req->op == TARGET_ZERO;

  if (req->count == 0 || req->offset + req->count > ft->w->size)
    sched_fail ("legs", "request to the target out of range");
  if (req->count > (zero ? TARGET_MAX_ZERO : LEG_MAX_REQUEST))
    sched_fail ("legs", "request to the target of %u bytes", req->count);
  if ((req->flags & LEG_FUA) && !ft->target.can_fua)
    sched_fail ("legs", "FUA to a target that has none");
  if ((req->flags & LEG_MAY_TRIM) && !(zero && ft->w->unmap))
    sched_fail ("legs", "op %u may punch holes", req->op);
  if (req->flags & ~(unsigned) (LEG_FUA | LEG_MAY_TRIM))
    sched_fail ("legs", "flags %x for the target", req->flags);
}

/* Is a write of blocks that another request is still busy with? */
static void
check_alone (const struct fake_target *ft, const struct target_req *req)
{
  const struct range blocks = request_blocks (ft, req);
  unsigned i;

  for (i = 0; i < MAX_REQUESTS; i++) {
    const struct fake_request *fr = &ft->requests[i];

    if (fr->req && !fr->req->done && fr->write &&
        range_overlap (fr->blocks, blocks) &&
        (!ft->serving || ft->target.block > 1))
      sched_fail ("I10", "%s in flight at the target: op %u lane %u "
                  "%llu-%llu and op %u lane %u %llu-%llu, block %u",
                  range_overlap (fr->range, request_bytes (req))
                  ? "overlapping writes" : "writes of the same block",
                  fr->req->op, fr->req->lane,
                  (unsigned long long) fr->range.start,
                  (unsigned long long) fr->range.end, req->op, req->lane,
                  (unsigned long long) req->offset,
                  (unsigned long long) req->offset + req->count,
                  ft->target.block);
  }
}

static void
note_neighbours (const struct fake_target *ft, const struct target_req *req)
{
  struct world *w = ft->w;
  const struct range r = request_bytes (req);
  const struct range blocks = request_blocks (ft, req);
  unsigned i;

  for (i = 0; i < w->nr_clients; i++)
    if (w->ops[i].active && range_overlap (w->ops[i].range, blocks) &&
        !range_overlap (w->ops[i].range, r))
      w->seen[SEEN_SHARED_BLOCK]++;
}

void
target_check_request (struct fake_target *ft, const struct target_req *req)
{
  if (ft->serving) {
    check_served (ft, req);
    if (req->op == TARGET_WRITE || req->op == TARGET_ZERO)
      check_alone (ft, req);
    return;
  }
  if (req->op == TARGET_FLUSH) {
    check_flush (ft, req);
    return;
  }
  check_shape (ft, req);
  if (req->op == TARGET_READ)
    return;
  if (req->lane == LANE_TEE)
    check_client_request (ft->w, req);
  else if (world_my_op (ft->w))
    sched_fail ("I5", "a client's data goes through the copy lane");
  check_alone (ft, req);
  note_neighbours (ft, req);
}
