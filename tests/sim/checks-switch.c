/* SPDX-License-Identifier: BSD-3-Clause */
/* Rule I12: pivot, detach, barrier, and what clients find on their disk.
 *
 * A switch is seen in the step in which the engine decides it, while the gate
 * is closed.  From a pivot on the two images have changed their parts.
 *
 * `told` is what a client was last told of each byte, if that is certain: an
 * overlapped, failed or undefined change leaves it unknown until the next one.
 * A power cut of the clients' disk may take what was not flushed; then the
 * next flush must fail, and each one that covers what is lost.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "sched.h"
#include "sim.h"

/*-- the clients' disk --------------------------------------------------*/

static bool
was_made_durable (const struct sim *sim, uint64_t b)
{
  return sim->last_touch[b] < sim->flushed_call ||
    sim->last_touch[b] < sim->fua_call[b];
}

/* The clients' disk has lost its cache: what it must not have lost. */
void
checks_cut (struct sim *sim)
{
  struct world *w = &sim->w;
  unsigned i;
  uint64_t b;

  if (sim->cuts == w->disk_cuts)
    return;
  sim->cuts = w->disk_cuts;
  sim->source_lost_data = true;
  for (i = 0; i < w->nr_clients; i++)
    w->ops[i].cut = w->ops[i].active;
  for (b = 0; b < sim->size; b++) {
    if (!w->known[b] || w->S[b] == w->told[b])
      continue;
    w->known[b] = 0;
    if (world_client_touches (w, b) || (w->dropped[b] && !w->drop_untold))
      continue;
    if (was_made_durable (sim, b) && !w->dropped[b])
      sched_fail ("I12", "byte %llu was flushed, and is %02x instead of %02x "
                  "after a power cut of the clients' disk",
                  (unsigned long long) b, w->S[b], w->told[b]);
    if (sim->last_touch[b] < sim->lost_touch)
      sim->lost_touch = sim->last_touch[b];
    sim->lost_call = sim->calls;
    sim->lost_flushes = w->disk_flushes;
  }
}

/* stable: the target can flush. */
static void
check_halt (struct sim *sim, bool stable, const char *what)
{
  const struct world *w = &sim->w;
  /* A disk that nobody can flush may lose all just before it is left. */
  const bool lost = sim->source_lost_data && !w->told_flush;
  uint64_t b;

  /* Without flushes a target that has lost its power may have lost all. */
  if (!stable && w->power_was_cut)
    return;
  for (b = 0; b < sim->size; b++)
    if ((w->S[b] != w->T[b] && !lost) || (stable && w->stable[b] != w->T[b]))
      sched_fail ("I12", "%s, but byte %llu differs (source %02x, target "
                  "%02x, stable %02x)", what, (unsigned long long) b,
                  w->S[b], w->T[b], w->stable[b]);
}

static bool
somebody_waits (const struct sim *sim)
{
  unsigned i;

  for (i = 0; i < sim->w.nr_clients; i++)
    if (sim->w.ops[i].active)
      return true;
  return false;
}

void
checks_switch (void *vp)
{
  struct sim *sim = vp;
  struct world *w = &sim->w;
  const void *disk = mirror_peek_disk (sim->m);
  const bool completed = mirror_peek_completed (sim->m);
  const struct fake_target *ft = world_session (w, false);
  const bool stable = ft && ft->target.can_flush;

  if (!completed || sim->completed)
    return;
  sim->completed = true;
  if (world_busy (w, true))
    sched_fail ("I12", "a switch with requests in flight");
  check_halt (sim, stable, "the job is completed");
  if (disk == sim->disk) {
    if (!sim->detach_asked)
      sched_fail ("I12", "a detach that nobody asked for");
    sim->have_detached = true;
    memcpy (sim->detached, w->T, sim->size);
    w->seen[SEEN_DETACH] += somebody_waits (sim);
    return;
  }
  if (!sim->pivot_asked)
    sched_fail ("I12", "a pivot that nobody asked for");
  sim->disk = disk;
  world_pivot (w);
  w->seen[SEEN_PIVOT] += somebody_waits (sim);
}

void
checks_detached (struct sim *sim)
{
  if (sim->have_detached &&
      memcmp (sim->detached, sim->w.T, sim->size) != 0 &&
      !sim->w.power_was_cut)
    sched_fail ("I12", "a target has changed after it was detached");
}

void
checks_barrier (struct sim *sim, const struct mirror_status *st)
{
  /* What a target that cannot flush had is copied again after a loss, and the
   * next session may be one that can.
   */
  sim->barrier_unflushed |= st->held && !st->target_flush;
  sim->barrier_lost |= sim->barrier_unflushed && !st->target_online;
  if (!st->held)
    sim->barrier_unflushed = sim->barrier_lost = false;
  if (!st->held || sim->barrier_lost || sim->cancelling || sim->cancels > 0)
    return;
  if (world_busy (&sim->w, false))
    sched_fail ("hold", "a request is in progress while the barrier stands");
  check_halt (sim, st->target_flush, "the barrier stands");
  sim->w.seen[SEEN_BARRIER] += somebody_waits (sim);
}

void
checks_read (struct sim *sim, const struct client_op *op)
{
  const struct world *w = &sim->w;
  uint64_t b;

  if (op->overlapped)
    return;
  for (b = op->range.start; b < op->range.end; b++)
    if (w->known[b] && op->buf[b - op->range.start] != w->told[b])
      sched_fail ("I12", "a read returns %02x for byte %llu, where %02x was "
                  "written", op->buf[b - op->range.start],
                  (unsigned long long) b, w->told[b]);
}

/* What the client knows of its bytes now. */
void
checks_told (struct sim *sim, const struct client_op *op, int result)
{
  struct world *w = &sim->w;
  uint64_t b;

  if (op->kind == OP_FLUSH || op->kind == OP_READ || result == -EPERM ||
      result == -ESHUTDOWN)
    return;
  for (b = op->range.start; b < op->range.end; b++) {
    w->known[b] = result == 0 && !op->overlapped && op->kind != OP_TRIM &&
      !op->cut;
    w->told[b] = op->kind == OP_WRITE ? op->buf[b - op->range.start] : 0;
  }
}

/* Another client's flush is under way, which may be about to fail for it. */
static bool
may_be_told (const struct sim *sim, const struct client_op *op)
{
  const struct client_op *other;
  unsigned i;

  for (i = 0; i < sim->w.nr_clients; i++) {
    other = &sim->w.ops[i];
    if (other != op && other->active && other->kind == OP_FLUSH)
      return true;
  }
  return false;
}

/* A flush that promises too much.  One of those that are under way together
 * must fail, at the latest the one that ends last.
 */
void
checks_flush (struct sim *sim, const struct client_op *op, int result)
{
  if (op->kind != OP_FLUSH)
    return;
  if (result == 0 && sim->lost_touch < op->number && !may_be_told (sim, op))
    sched_fail ("I12", "a flush succeeds after what was written before has "
                "been lost");
  /* One that was called before may have waited for its turn, or, in vain, for a
   * session.
   */
  if (result < 0 && (op->number > sim->lost_call ||
                     sim->w.disk_flushes > sim->lost_flushes ||
                     sched_now () - op->began_ns >= SERVED_TIMEOUT))
    sim->lost_touch = UINT64_MAX;
}
