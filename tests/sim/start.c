/* SPDX-License-Identifier: BSD-3-Clause */
/* The start of a job in a run: what it is told, and what the target's image
 * must be like for that to be true.
 *
 *   target_is_zero   the target reads as zero where the source does.  While
 *                    clients may zero the source before they are tracked that
 *                    means: everywhere
 *   sync none        the target is identical until requests are tracked.
 *                    Somebody else sees to that: from the order on, what
 *                    lands on the source lands on the target, too, until
 *                    mirror_start has returned.  Requests that are still in
 *                    flight then, and have not sampled the job, make the two
 *                    differ.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sched.h"
#include "sim.h"

#define SECOND UINT64_C (1000000000)

enum copy_mode
sim_random_mode (struct sim *sim)
{
  if (sched_percent (sim->p.auto_percent))
    return COPY_AUTO;
  return sched_percent (50) ? COPY_BACKGROUND : COPY_WRITE_BLOCKING;
}

void
sim_mode_is_asked (struct sim *sim, enum copy_mode mode)
{
  if (mode == COPY_WRITE_BLOCKING)
    sim->w.may_tee = TEE_ANY;
  else if (mode == COPY_AUTO && sim->w.may_tee == TEE_NEVER)
    sim->w.may_tee = TEE_AFTER_SCAN;
}

/*-- the target's image -------------------------------------------------*/

static void
clear_target (struct sim *sim, bool clients)
{
  struct world *w = &sim->w;
  const bool in_cache = sched_percent (30);
  const bool everywhere = clients || sched_percent (30);
  uint64_t b;

  for (b = 0; b < sim->size; b++) {
    if (w->T[b] == 0 || (w->S[b] != 0 && !everywhere))
      continue;
    w->T[b] = 0;
    w->cached[b] = w->acked[b] = in_cache;
    if (!in_cache)
      w->stable[b] = 0;
  }
}

static void
begin_following (struct sim *sim)
{
  struct world *w = &sim->w;
  const bool in_cache = sched_percent (50);
  uint64_t b;

  for (b = 0; b < sim->size; b++) {
    if (w->T[b] != w->S[b]) {
      w->T[b] = w->S[b];
      w->cached[b] = w->acked[b] = 1;
    }
    if (!in_cache) {
      w->stable[b] = w->T[b];
      w->cached[b] = w->acked[b] = 0;
    }
  }
  w->following = true;
}

/*-- the order ----------------------------------------------------------*/

static struct fake_target *
connect_target (struct sim *sim)
{
  struct fake_target *ft;

  while ((ft = fake_target_new (&sim->w, false), sim->p.needs_flush) &&
         !ft->target.can_flush)
    ft->target.ops->free (&ft->target);
  return ft;
}

static uint64_t
random_pause (struct sim *sim)
{
  static const uint64_t pauses[] = { 1, 20, 200, 2000, 60000 };

  return UINT64_C (1000000) *
    (sim->p.max_pause_ms ? sim->p.max_pause_ms : pauses[sched_rand (5)]);
}

static enum on_error
random_policy (const struct profile *p)
{
  static const enum on_error policies[] = {
    ON_ERROR_REPORT, ON_ERROR_ENOSPC, ON_ERROR_STOP
  };

  return sched_percent (p->policy_percent) ? policies[sched_rand (3)]
    : ON_ERROR_IGNORE;
}

/* A disk that clients have been moved to may have larger blocks than the
 * granules of the next job.
 */
static uint64_t
draw_granularity (struct sim *sim)
{
  return sim->w.copy->block == 1 && sim->p.granularity <= 4096 &&
    sched_percent (50) ? 512 : sim->p.granularity;
}

static struct job_params
draw_params (struct sim *sim, uint64_t granularity)
{
  static const uint64_t bufs[] = { 1, 1, 2, 3 };
  static const uint64_t timeouts[] = { SECOND, 3 * SECOND, 10 * SECOND };
  static const uint64_t suspects[] = { 0, SECOND, SECOND, 30 * SECOND };
  const struct profile *p = &sim->p;
  struct job_params params = {
    .copy_mode = sched_percent (p->auto_percent) ? COPY_AUTO
      : sched_percent (p->write_blocking_percent) ? COPY_WRITE_BLOCKING
      : COPY_BACKGROUND,
    .sync = sim->w.pivots == 0 && sched_percent (p->none_percent)
      ? SYNC_NONE : SYNC_FULL,
    .unmap = sched_percent (70),
    .detect_zeroes = sched_percent (p->detect_percent),
    .target_is_zero = sched_percent (p->is_zero_percent),
    .defer_flush = sched_percent (p->defer_percent),
    .granularity = granularity,
    .speed = sched_percent (25)
      ? granularity * (4 + sched_rand (400)) : 0,
    .buf_size = p->one_copier || sched_percent (40)
      ? granularity * bufs[sched_rand (4)] + granularity / 2
      : (1 + sched_rand (3)) * (UINT64_C (512) << 10),
    .max_pause_ns = random_pause (sim),
    .timeout_ns = timeouts[sched_rand (3)],
    .suspect_time_ns = suspects[sched_rand (4)],
    .on_source_error = random_policy (p),
    .on_target_error = random_policy (p),
    .copiers = (unsigned) sched_rand (5),
    .keep = sched_percent (p->keep_percent),
  };

  return params;
}

/* What the checks must know of the job. */
static void
note_params (struct sim *sim, const struct job_params *params)
{
  struct world *w = &sim->w;

  w->may_tee = TEE_NEVER;
  sim_mode_is_asked (sim, params->copy_mode);
  w->unmap = params->unmap;
  w->detect_zeroes = params->detect_zeroes;
  w->defer_flush = params->defer_flush;
  w->teed = false;
  sim->pivot_asked = sim->detach_asked = 0;
  sim->completed = false;
  sim->switches = sim->failed_switches = 0;
  sim->timeout_ns = params->timeout_ns;
  sim->hung = sim->replaced = false;
  w->suspect_ns = params->suspect_time_ns;
}

static void
note_old_requests (struct sim *sim)
{
  unsigned i;

  for (i = 0; i < sim->w.nr_clients; i++)
    if (sim->w.ops[i].active && sim->w.ops[i].job != sim->job &&
        sim->w.ops[i].kind != OP_FLUSH)
      sim->w.seen[SEEN_OLD_REQUEST]++;
}

/* mirror_start has failed: that may only be because of requests that did not
 * end in time.
 */
static void
check_refusal (struct sim *sim, const struct job_params *params,
               uint64_t began, bool clients, int r)
{
  if (r == -EIO && sim->w.intent && sim->w.intent->failed)
    return;
  if (r != -ETIMEDOUT || params->sync != SYNC_NONE)
    sched_fail ("start", "mirror_start without a job: %d", r);
  if (!clients)
    sched_fail ("start", "mirror_start timed out without any clients");
  if (sched_now () - began < params->max_pause_ns)
    sched_fail ("start", "mirror_start timed out after %llu ns of %llu",
                (unsigned long long) (sched_now () - began),
                (unsigned long long) params->max_pause_ns);
  sim->w.seen[SEEN_START_LATE]++;
}

bool
sim_start_job (struct sim *sim, bool clients)
{
  const uint64_t granularity = draw_granularity (sim);
  struct job_params params = draw_params (sim, granularity);
  const uint64_t began = sched_now ();
  struct fake_target *ft;
  char id[32], where[16];
  int r;

  checks_detached (sim);
  sim->have_detached = false;
  sim->granularity = granularity;
  ft = connect_target (sim);
  sim->job++;
  sim->cancelling = sim->session_over = false;
  sim->w.power_was_cut = ft->dead;
  note_params (sim, &params);
  ghosts_begin_job (&sim->w);
  snprintf (id, sizeof id, "job%u", sim->job);
  params.id = id;
  snprintf (where, sizeof where, "%u", sim->w.pivots);
  params.where = params.identity = where;
  sched_trace ("order: start job %llu, mode %llu, speed %llu, buf %llu",
               sim->job, params.copy_mode, params.speed, params.buf_size);
  sched_trace ("sync %llu, is zero %llu, defer %llu, max pause %llu",
               params.sync, params.target_is_zero, params.defer_flush,
               params.max_pause_ns);
  if (params.target_is_zero)
    clear_target (sim, clients);
  if (params.sync == SYNC_NONE) {
    begin_following (sim);
    sim->held_since = 0;
    sim->max_pause_ns = params.max_pause_ns;
  }
  memcpy (ft->view, sim->w.T, sim->size);
  r = mirror_start (sim->m, &params, &sim->w.copy_source.source,
                    &ft->target);
  sim->w.following = false;
  sim->max_pause_ns = 0;
  if (r == 0) {
    note_old_requests (sim);
    return true;
  }
  sched_trace ("order: no job, result -%llu", -r, 0, 0, 0);
  check_refusal (sim, &params, began, clients, r);
  ft->target.ops->free (&ft->target);
  return false;
}

/* Its target is there already, or is connected to as one that was lost.  What
 * it was told need not be what it is told now, but for the time in which what
 * the last process has left may arrive.
 */
void
sim_resume_job (struct sim *sim, const struct intent_head *head)
{
  const uint64_t suspect_ns = sim->w.suspect_ns;
  struct job_params params = draw_params (sim, head->granularity);
  struct fake_target *ft = sched_percent (50) ? connect_target (sim) : NULL;
  char id[32];
  int r;

  sim->granularity = head->granularity;
  sim->job++;
  params.suspect_time_ns = suspect_ns;
  note_params (sim, &params);
  snprintf (id, sizeof id, "job%u", sim->job);
  params.id = id;
  params.sync = SYNC_INCREMENTAL;
  params.where = params.identity = head->target;
  params.target_size = head->target_size;
  params.in_order = head->clean;
  sched_trace ("order: resume job %llu, mode %llu, in order %llu", sim->job,
               params.copy_mode, params.in_order, 0);
  r = mirror_start (sim->m, &params, &sim->w.copy_source.source,
                    ft ? &ft->target : NULL);
  if (r != 0)
    sched_fail ("start", "a mirror is not resumed: %d", r);
  sim->w.seen[head->clean ? SEEN_RESUMED_CLEAN : SEEN_RESUMED]++;
}
