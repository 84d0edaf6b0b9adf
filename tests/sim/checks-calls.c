/* SPDX-License-Identifier: BSD-3-Clause */
/* Rule I7, for each call of a client: its result is the source's, once that has
 * done all of it; or it has not reached the source, and there is a reason.
 */

#include <config.h>

#include <errno.h>

#include "sched.h"
#include "sim.h"

#define LEAST_TIMEOUT_NS UINT64_C (1000000000)  /* of all jobs */

static void
touch (struct sim *sim, const struct client_op *op)
{
  uint64_t b;

  sim->calls++;
  if (op->kind != OP_FLUSH && op->kind != OP_READ)
    for (b = op->range.start; b < op->range.end; b++)
      sim->last_touch[b] = sim->calls;
}

void
checks_call_begins (struct sim *sim, struct client_op *op)
{
  unsigned i;

  sched_trace ("client: call %llu %llu-%llu, flags %llu", op->kind,
               op->range.start, op->range.end, op->flags);
  touch (sim, op);
  op->number = sim->calls;
  op->began_ns = sched_now ();
  op->job = sim->job;
  op->covered = op->calls = 0;
  op->flushes = sim->w.flushes;
  op->result = 0;
  op->cut = false;
  op->over = op->rolled_back = op->teed = op->tracked = op->overlapped =
    false;
  op->active = true;
  for (i = 0; i < sim->w.nr_clients; i++)
    if (&sim->w.ops[i] != op && sim->w.ops[i].active &&
        range_overlap (sim->w.ops[i].range, op->range)) {
      sim->w.ops[i].overlapped |= op->kind != OP_READ;
      op->overlapped |= sim->w.ops[i].kind != OP_READ;
    }
}

/* The job's own flush has failed, and a client must hear of it. */
static bool
flush_is_owed (struct sim *sim, const struct client_op *op, int result)
{
  if (sim->w.flushes_owed == 0 || op->kind != OP_FLUSH || result != -EIO)
    return false;
  sim->w.flushes_owed--;
  return true;
}

/* Somebody else's flush has begun since then, and ended so. */
static bool
shares_flush (const struct sim *sim, const struct client_op *op, int result)
{
  return op->kind == OP_FLUSH && op->flushes <
    (result == 0 ? sim->w.good_flush : sim->w.bad_flush);
}

/* The intent file can be neither written nor removed, and the client has waited
 * for that long enough.
 */
static bool
is_broken (struct sim *sim, const struct client_op *op, int result)
{
  const struct fake_intent *fi = sim->w.intent;

  if (result != -EIO || !fi || op->kind == OP_FLUSH || sim->w.pivots > 0)
    return false;
  if (sched_now () - op->began_ns < LEAST_TIMEOUT_NS)
    sched_fail ("intent", "a client gets %d after %llu ns", result,
                (unsigned long long) (sched_now () - op->began_ns));
  if (!fi->failed)
    sched_fail ("intent", "a client gets %d from a file that is well", result);
  sim->w.seen[SEEN_FILE_BROKEN] += fi->failed;
  return true;
}

/* Is the disk that clients were moved to well, and always was? */
static bool
may_not_fail (const struct sim *sim)
{
  const struct faults *f = &sim->p.faults;      /* not of its end only */

  return sim->w.disk_losses == 0 && !sim->disk_hung && !sim->any_block && !sim->leaving &&
    f->target_error == 0 && f->flush_error == 0 && f->source_error == 0;
}

/* The client's call has not reached the fake source. */
static void
check_served (struct sim *sim, const struct client_op *op, int result)
{
  const bool change = op->kind == OP_WRITE || op->kind == OP_ZERO;

  if (result == -EPERM && sim->fence_asked && op->kind != OP_FLUSH &&
      op->kind != OP_READ) {
    sim->w.seen[SEEN_FENCED]++;
    if (op->covered > 0)
      sched_fail ("fence", "a call that was refused has been done");
    return;
  }
  if (op->kind == OP_READ && result <= 0)
    return;                     /* see checks_read */
  if ((result == -ESHUTDOWN && sim->leaving) || is_broken (sim, op, result))
    return;
  if (sim->w.pivots == 0 && !shares_flush (sim, op, result) &&
      !(shares_flush (sim, op, 0) && flush_is_owed (sim, op, result)))
    sched_fail ("I7", "the source was not asked");
  if (result == 0 && change && op->covered != range_len (op->range))
    sched_fail ("I7", "the disk has done %llu bytes of %llu",
                (unsigned long long) op->covered,
                (unsigned long long) range_len (op->range));
  if (result == -EIO && sim->w.pivots > 0 && may_not_fail (sim))
    sched_fail ("I7", "a client gets an error of a disk that is well");
  if (result != 0 && result != -EIO && result != -ENOSPC &&
      !(result == -ENOTSUP && (op->flags & LEG_FAST_ZERO)))
    sched_fail ("I7", "a client gets %d", result);
}

void
checks_call_ends (struct sim *sim, struct client_op *op, int result)
{
  uint64_t b;

  sched_trace ("client: call %llu %llu-%llu, result -%llu", op->kind,
               op->range.start, op->range.end, -result);
  checks_told (sim, op, result);
  checks_flush (sim, op, result);
  if (op->calls == 0)
    check_served (sim, op, result);
  else if (result != op->result && !flush_is_owed (sim, op, result))
    sched_fail ("I7", "the client gets %d, but the source said %d", result,
                op->result);
  else if (result == 0 && op->covered != range_len (op->range))
    sched_fail ("I7", "the source has done %llu bytes of %llu",
                (unsigned long long) op->covered,
                (unsigned long long) range_len (op->range));
  touch (sim, op);
  if (op->kind == OP_FLUSH && result == 0 && op->number > sim->flushed_call)
    sim->flushed_call = op->number;
  /* Of overlapping calls it is not known which came last. */
  if (result == 0 && (op->flags & LEG_FUA) && !op->overlapped)
    for (b = op->range.start; b < op->range.end; b++)
      sim->fua_call[b] = sim->calls + 1;
  if (op->rolled_back)
    sim->w.rolled_back--;
  op->active = false;
}
