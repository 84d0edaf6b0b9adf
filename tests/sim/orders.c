/* SPDX-License-Identifier: BSD-3-Clause */
/* Orders that bring everything to a halt, or stop and go on: pause, complete,
 * detach, hold, release, fence; and what the engine asks for after a pivot.
 * Each may be refused by a job that is not so far, and never in any other way.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "sched.h"
#include "sim.h"

#define MS UINT64_C (1000000)
#define SECOND UINT64_C (1000000000)

/* The target of the job comes back. */
static int
reconnect (struct sim *sim, const _Atomic bool *stop, struct target **target)
{
  const unsigned job = sim->job;

  sched_trace ("the target is connected to again", 0, 0, 0, 0);
  sched_sleep (sched_rand (sched_percent (50) ? MS : 2 * SECOND));
  if (atomic_load (stop))
    return -ECANCELED;
  if (!sim->w.faults_ended && sched_percent (sim->p.reopen_percent))
    return -ECONNREFUSED;
  if (sim->job != job || world_session (&sim->w, false))
    sched_fail ("I9", "a session is opened while the old one is there");
  if (sim->p.replace_percent > 0 && sched_percent (sim->p.replace_percent)) {
    image_replace (&sim->w, sim->w.copy);
    sim->replaced = true;
  }
  *target = &fake_target_new (&sim->w, false)->target;
  /* The old one has been handled: its U is empty. */
  sim->session_over = sim->w.power_was_cut = false;
  sim->w.seen[SEEN_BACK]++;
  if (sim->hung)
    sim->w.seen[SEEN_HUNG]++;
  sim->hung = false;
  return 0;
}

/* where: how many pivots there had been when the job began. */
int
sim_reopen (void *vp, const char *where, const _Atomic uint64_t *timeout_ns,
            const _Atomic bool *stop, struct target **target, char *why)
{
  struct sim *sim = vp;
  const unsigned pivots = sim->w.pivots;

  (void) timeout_ns;
  (void) why;
  if (strtoul (where, NULL, 10) == pivots)
    return reconnect (sim, stop, target);
  sched_trace ("the clients' disk is opened again", 0, 0, 0, 0);
  sched_sleep (sched_rand (sched_percent (50) ? MS : 2 * SECOND));
  /* Clients have been moved on from it meanwhile. */
  if (sim->w.pivots != pivots)
    return -ECONNREFUSED;
  if (!sim->w.faults_ended && sched_percent (sim->p.reopen_percent))
    return -ECONNREFUSED;
  /* ... or just before this began: the new one has a session. */
  if (pivots > 1 && world_session (&sim->w, true))
    return -ECONNREFUSED;
  if (world_session (&sim->w, true))
    sched_fail ("I9", "a session is opened while the old one is there");
  *target = &fake_target_new (&sim->w, true)->target;
  return 0;
}

static void
pause_job (struct sim *sim, bool pause)
{
  enum job_status status;
  struct mirror_status st;
  int r;

  sched_trace ("order: pause %llu", pause, 0, 0, 0);
  r = mirror_pause (sim->m, NULL, pause, &status);
  if (r != 0 && r != -EALREADY && r != -EPERM && r != -ENOENT)
    sched_fail ("pause", "mirror_pause: %d", r);
  mirror_get_status (sim->m, &st);
  if (pause && st.status == JOB_PAUSED && st.dirty_bytes > 0)
    sim->w.seen[SEEN_PAUSED]++;
}

static void
check_answer (const char *what, int r, const char *why)
{
  if (r == -EBUSY && !why)
    sched_fail (what, "-EBUSY without a reason");
  if (r != 0 && r != -EPERM && r != -ENOENT && r != -EBUSY)
    sched_fail (what, "%s: %d", what, r);
}

void
sim_complete (struct sim *sim)
{
  enum job_status status;
  const char *why = NULL;
  const unsigned job = sim->job;
  int r;

  sched_trace ("order: complete", 0, 0, 0, 0);
  sim->pivot_asked++;
  sim->switches++;
  sim_mode_is_asked (sim, COPY_WRITE_BLOCKING);
  r = mirror_complete (sim->m, NULL, &status, &why);
  check_answer ("complete", r, why);
  if (r != 0 && sim->job == job) {
    sim->pivot_asked--;
    sim->switches--;
  }
}

static void
detach (struct sim *sim)
{
  enum job_status status;
  const char *why = NULL;
  const unsigned job = sim->job;
  int r;

  sched_trace ("order: detach", 0, 0, 0, 0);
  sim->detach_asked++;
  sim->switches++;
  sim_mode_is_asked (sim, COPY_WRITE_BLOCKING);
  r = mirror_detach (sim->m, NULL, &status, &why);
  check_answer ("detach", r, why);
  if (r != 0 && sim->job == job) {
    sim->detach_asked--;
    sim->switches--;
  }
}

void
sim_release (struct sim *sim)
{
  uint64_t held_ns;
  int r = mirror_release (sim->m, &held_ns);

  sched_trace ("order: release, result -%llu", -r, 0, 0, 0);
  if (r != 0 && r != -ENOENT && r != -ETIMEDOUT)
    sched_fail ("hold", "mirror_release: %d", r);
}

void
sim_fence (struct sim *sim, bool enable)
{
  const unsigned unfenced = sim->unfenced;
  int r;

  sched_trace ("order: fence %llu", enable, 0, 0, 0);
  sim->fence_asked |= enable;
  if (!enable) {
    sim->w.fenced = false;
    sim->unfenced++;
  }
  r = mirror_fence (sim->m, enable, sched_percent (70));
  if (r == -EIO && sim->w.intent && sim->w.intent->failed) {
    sim->w.fenced = false;
    mirror_fence (sim->m, false, false);
    return;
  }
  if (r != 0 && (!enable || (r != -EPERM && r != -ETIMEDOUT)))
    sched_fail ("fence", "mirror_fence: %d", r);
  /* Somebody else may have taken it back meanwhile. */
  if (enable && r == 0 && sim->unfenced == unfenced) {
    if (world_client_changes (&sim->w))
      sched_fail ("fence", "a client's change is in flight");
    sim->w.fenced = true;
  }
  else if (r == -ETIMEDOUT)
    mirror_fence (sim->m, false, false);
}

static void
hold (struct sim *sim)
{
  const uint64_t timeout = sched_percent (50) ? 20 * MS : 2 * SECOND;
  uint64_t drain_ns, expires_ns;
  const char *why = NULL;
  int r;

  sched_trace ("order: hold", 0, 0, 0, 0);
  sim_mode_is_asked (sim, COPY_WRITE_BLOCKING);
  r = mirror_hold (sim->m, timeout, &drain_ns, &expires_ns, &why);
  if (r != 0 && !why)
    sched_fail ("hold", "mirror_hold: %d without a reason", r);
  if (r != 0)
    return;
  if (expires_ns > timeout)
    sched_fail ("hold", "the barrier stands for longer than it should");
  sched_trace ("the barrier stands", 0, 0, 0, 0);
  sched_sleep (sched_rand (100 * MS));
  if (sched_percent (sim->p.fence_percent))
    sim_fence (sim, true);
  if (sched_percent (70))
    sim_release (sim);
  if (sched_percent (30))
    sched_sleep (3 * SECOND);
  sim_fence (sim, false);
}

void
sim_order_switch (struct sim *sim)
{
  const struct profile *p = &sim->p;
  enum job_status status;

  if (sched_percent (p->pause_percent))
    pause_job (sim, sched_percent (60));
  if (sched_percent (p->pivot_percent)) {
    if (sched_percent (20))
      mirror_set_max_pause (sim->m, NULL, (1 + sched_rand (200)) * MS,
                            &status);
    sim_complete (sim);
  }
  if (sched_percent (p->detach_percent))
    detach (sim);
  if (sched_percent (p->hold_percent))
    hold (sim);
  if (sched_percent (p->fence_percent))
    sim_fence (sim, sched_percent (50));
}

void
sim_go_on (struct sim *sim)
{
  pause_job (sim, false);
  sim_release (sim);
  sim_fence (sim, false);
}

void
sim_dismiss (struct sim *sim)
{
  enum job_status status;
  int r;

  sched_trace ("order: dismiss", 0, 0, 0, 0);
  r = mirror_dismiss (sim->m, NULL, &status);
  if (r != 0 && r != -ENOENT && r != -EPERM)
    sched_fail ("dismiss", "mirror_dismiss: %d", r);
}
