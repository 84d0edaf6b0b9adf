/* SPDX-License-Identifier: BSD-3-Clause */
/* Online verify in a run.
 *
 * As an order: it is started and stopped at any time, under load and faults.
 * Nobody spoils the target then, so any difference that it finds is a false
 * alarm.  (But for one case: the clients' disk has lost its cache while it
 * went on, and then the two really differ.)
 *
 * At the end of a run, when all is copied and nobody writes: some bytes of the
 * target change behind the engine's back.  It must find all of these granules
 * and no other, its repair must make the two equal, and then it must find
 * nothing.  Until such a byte is written again, the other checks leave it out.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "sched.h"
#include "sim.h"

#define MS UINT64_C (1000000)
#define SECOND UINT64_C (1000000000)
#define PATIENCE (300 * SECOND)

static int
start (struct sim *sim, bool repair, uint64_t speed)
{
  const char *why = NULL;
  int r;

  sched_trace ("order: verify, repair %llu, speed %llu", repair, speed, 0, 0);
  sim->verify.calls++;
  sim->verify.began++;
  r = mirror_verify_start (sim->m, repair, speed, &why);
  if (r != 0)
    sim->verify.began--;
  sim->verify.calls--;
  if (r != 0 && !why)
    sched_fail ("verify", "mirror_verify_start: %d without a reason", r);
  if (r != 0 && r != -EPERM && r != -EALREADY && r != -ECANCELED)
    sched_fail ("verify", "mirror_verify_start: %d", r);
  return r;
}

/* Where it is not, nothing is drawn: the run is as it was without. */
static bool
wanted (const struct sim *sim)
{
  return sim->p.verify_percent > 0 && sched_percent (sim->p.verify_percent);
}

void
sim_order_verify (struct sim *sim)
{
  const char *why;

  if (!wanted (sim))
    return;
  if (sched_percent (20)) {
    sched_trace ("order: stop verify", 0, 0, 0, 0);
    mirror_verify_stop (sim->m, &why);
  }
  else {
    const uint64_t speed = sched_percent (70) ? 0
      : sim->granularity * (1 + sched_rand (100));

    sim->verify.cuts = sim->w.disk_cuts;
    start (sim, sched_percent (50), speed);
  }
}

/*-- checks -------------------------------------------------------------*/

static void
check_result (struct sim *sim, const struct mirror_event *ev)
{
  const struct mirror_verify_status *st = ev->verify;

  if (++sim->verify.ended > sim->verify.began)
    sched_fail ("verify", "a verification ends that has not begun");
  if (st->running || st->bytes + st->left != sim->size)
    sched_fail ("verify", "running %d, %llu bytes compared, %llu left",
                st->running, (unsigned long long) st->bytes,
                (unsigned long long) st->left);
  if (!ev->error != (st->error[0] == '\0'))
    sched_fail ("verify", "the event has another error than the status");
  if (st->differences > sim->verify.rotten && !sim->source_lost_data &&
      sim->verify.cuts == sim->w.disk_cuts && !sim->w.drop_untold)
    sched_fail ("verify", "a false alarm: %llu differences, the first at "
                "%llu", (unsigned long long) st->differences,
                (unsigned long long) st->first[0]);
  if (!ev->error && st->differences == 0)
    sim->w.seen[SEEN_VERIFIED]++;
  if (writes_in_flight (sim) && st->bytes > 0)
    sim->w.seen[SEEN_VERIFIED_UNDER_LOAD]++;
}

void
checks_verify (struct sim *sim, const struct mirror_event *ev)
{
  if (ev->kind == EVENT_VERIFY_COMPLETED)
    check_result (sim, ev);
  if (ev->kind == EVENT_JOB_STATUS_CHANGE && ev->status == JOB_CONCLUDED &&
      sim->verify.calls == 0 && sim->verify.began != sim->verify.ended)
    sched_fail ("verify", "the job has ended, but its verification has not");
}

/*-- at rest ------------------------------------------------------------*/

static void
await_end (struct sim *sim, struct mirror_verify_status *st)
{
  const uint64_t deadline = sched_now () + PATIENCE;
  struct mirror_status status;

  do {
    sched_sleep (20 * MS);
    mirror_get_status (sim->m, &status);
    *st = status.verify;
    if (sched_now () > deadline)
      sched_fail ("verify", "it does not end: %llu of %llu bytes",
                  (unsigned long long) st->bytes,
                  (unsigned long long) sim->size);
  } while (st->running || sim->verify.ended != sim->verify.began);
}

static void
await_copied (struct sim *sim)
{
  const uint64_t deadline = sched_now () + PATIENCE;
  const struct fake_target *ft;
  struct mirror_status st;

  do {
    sched_sleep (20 * MS);
    mirror_get_status (sim->m, &st);
    ft = world_session (&sim->w, false);
    if (sched_now () > deadline)
      sched_fail ("verify", "what was repaired is not copied");
  } while (st.dirty_bytes + st.inflight_bytes + st.suspect_bytes > 0 ||
           !st.target_online || !ft || ft->lost);
}

static void
run (struct sim *sim, bool repair, struct mirror_verify_status *st)
{
  sim->verify.cuts = sim->w.disk_cuts;
  if (start (sim, repair, 0) != 0)
    sched_fail ("verify", "it is refused, though nothing speaks against it");
  await_end (sim, st);
  if (st->error[0] || st->left > 0)
    sched_fail ("verify", "it ends with %llu bytes left, error %llu",
                (unsigned long long) st->left,
                (unsigned long long) st->error[0]);
  if (st->differences != sim->verify.rotten)
    sched_fail ("verify", "%llu differences are found, there are %u",
                (unsigned long long) st->differences, sim->verify.rotten);
}

static uint64_t
random_byte (struct sim *sim)
{
  switch (sched_rand (4)) {
  case 0: return 0;
  case 1: return sim->size - 1;
  default: return sched_rand (sim->size);
  }
}

static bool
granule_is_rotten (const struct sim *sim, uint64_t b)
{
  const uint64_t g = round_down_p2 (b, sim->granularity);
  uint64_t i;

  for (i = g; i < g + sim->granularity && i < sim->size; i++)
    if (sim->verify.planted[i])
      return true;
  return false;
}

static void
rot (struct sim *sim)
{
  struct world *w = &sim->w;
  struct fake_target *ft = world_session (w, false);
  const uint64_t b = random_byte (sim);

  if (!granule_is_rotten (sim, b))
    sim->verify.rotten++;
  w->T[b] = (uint8_t) (w->S[b] + 1 + sched_rand (255));
  w->stable[b] = ft->view[b] = w->T[b];
  w->cached[b] = w->acked[b] = 0;
  w->rotten[b] = sim->verify.planted[b] = 1;
  sched_trace ("byte %llu of the target rots", b, 0, 0, 0);
}

static void
check_places (const struct sim *sim, const struct mirror_verify_status *st)
{
  uint64_t i;

  for (i = 0; i < st->differences && i < VERIFY_FIRST; i++)
    if (st->first[i] >= sim->size || !granule_is_rotten (sim, st->first[i]) ||
        (i > 0 && st->first[i] <= st->first[i - 1]))
      sched_fail ("verify", "a difference at %llu, which is wrong",
                  (unsigned long long) st->first[i]);
}

void
sim_verify_at_rest (struct sim *sim)
{
  struct mirror_verify_status st;
  unsigned n = (unsigned) sched_rand (5);
  const char *why;

  if (!wanted (sim))
    return;
  /* A target that comes back would be looked at, and found to rot. */
  world_unstick (&sim->w);
  /* One that was ordered before may still be at work. */
  mirror_verify_stop (sim->m, &why);
  await_end (sim, &st);
  await_copied (sim);
  memset (sim->verify.planted, 0, sim->size);
  while (n-- > 0)
    rot (sim);
  if (sched_percent (50)) {
    run (sim, false, &st);
    check_places (sim, &st);
  }
  run (sim, true, &st);
  check_places (sim, &st);
  if (st.differences > 0)
    sim->w.seen[SEEN_REPAIRED]++;
  await_copied (sim);
  sim->verify.rotten = 0;
  checks_equal (sim, false);
  run (sim, false, &st);
}
