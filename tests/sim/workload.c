/* SPDX-License-Identifier: BSD-3-Clause */
/* Who drives the mirror in a run: clients with random requests, and a driver
 * that starts, disturbs and cancels jobs; at the end it lets a job come to
 * rest without any faults, so that every run ends with equal legs.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched.h"
#include "sim.h"

#define MS UINT64_C (1000000)
#define SECOND UINT64_C (1000000000)

/* By the fake clock: longer than any back-off, shorter than the hour after
 * which a thread that has missed its wakeup looks again.
 */
#define PATIENCE (300 * SECOND)

/*-- clients ------------------------------------------------------------*/

static struct range
random_range (const struct sim *sim)
{
  const uint64_t g = sim->granularity;
  uint64_t space = sim->size, len;
  struct range r;

  if (sched_percent (75) && sim->p.hot_granules * g < space)
    space = sim->p.hot_granules * g;
  switch (sched_rand (4)) {
  case 0:
    len = 1 + sched_rand (16);
    break;
  case 1:
    len = g / 2 + sched_rand (g);
    break;
  case 2:
    len = 1 + sched_rand (4 * g);
    break;
  default:
    len = 1 + sched_rand (g < 4096 ? 4 * g : 2048);
    break;
  }
  r.start = sched_rand (space);
  r.end = r.start + len;
  if (sched_percent (sim->p.aligned_percent)) {
    r.start = round_down_p2 (r.start, g);
    r.end = round_up_p2 (r.end, g);
  }
  if (r.end > sim->size)
    r.end = sim->size;
  return r;
}

static void
fill (struct sim *sim, struct client_op *op)
{
  const uint64_t n = range_len (op->range);
  uint64_t i, stamp = ++sim->stamp;
  const bool zeroes = sched_percent (5 + sim->p.detect_percent / 4);

  op->buf = calloc (n, 1);
  if (!op->buf)
    abort ();
  if (!zeroes)
    for (i = 0; i < n; i++)
      op->buf[i] = (uint8_t) (stamp * 37 + i / 16 + 1);
  else if (sched_percent (50))  /* all but one byte */
    op->buf[sched_percent (50) ? n - 1 : sched_rand (n)] = 0xff;
}

static void
draw_op (struct sim *sim, struct client_op *op)
{
  const struct profile *p = &sim->p;
  const unsigned flushes = sim->w.told_flush ? p->flushes : 0;
  uint64_t pick = sched_rand (p->writes + p->reads + p->zeroes + p->trims +
                              flushes);

  op->flags = sim->w.told_flush && sched_percent (p->fua_percent)
    ? LEG_FUA : 0;
  op->range = random_range (sim);
  op->buf = NULL;
  if (pick < p->writes) {
    op->kind = OP_WRITE;
    fill (sim, op);
  }
  else if ((pick -= p->writes) < p->reads) {
    op->kind = OP_READ;
    op->flags = 0;
    op->buf = malloc (range_len (op->range));
    if (!op->buf)
      abort ();
  }
  else if ((pick -= p->reads) < p->zeroes) {
    op->kind = OP_ZERO;
    if (sched_percent (50))
      op->flags |= LEG_MAY_TRIM;
    if (sim->w.clients_source.source.can_fast_zero && sched_percent (40))
      op->flags |= LEG_FAST_ZERO;
  }
  else if (pick - p->zeroes < p->trims)
    op->kind = OP_TRIM;
  else {
    op->kind = OP_FLUSH;
    op->flags = 0;
    op->range = (struct range) { 0, 0 };
  }
}

static int
call (struct sim *sim, const struct client_op *op)
{
  struct source *source = &sim->w.clients_source.source;
  const uint32_t count = (uint32_t) range_len (op->range);

  switch (op->kind) {
  case OP_WRITE:
    return mirror_pwrite (sim->m, source, op->buf, count, op->range.start,
                          op->flags);
  case OP_ZERO:
    return mirror_zero (sim->m, source, count, op->range.start, op->flags);
  case OP_TRIM:
    return mirror_trim (sim->m, source, count, op->range.start, op->flags);
  case OP_FLUSH:
    return mirror_flush (sim->m, source);
  case OP_READ:
    return mirror_pread (sim->m, source, op->buf, count, op->range.start);
  }
  return -EINVAL;
}

static void
client_main (void *vp)
{
  struct sim_client *c = vp;
  struct sim *sim = c->sim;
  struct client_op *op = &sim->w.ops[c->number];
  int result;

  sim->w.coroutine[c->number] = sched_self ();
  while (sim->ops_left[c->number] > 0 && !sim->leaving) {
    sim->ops_left[c->number]--;
    if (sched_percent (20))
      sched_sleep (sched_rand (sched_percent (50) ? MS : 200 * MS));
    draw_op (sim, op);
    checks_call_begins (sim, op);
    result = call (sim, op);
    if (op->kind == OP_READ && result == 0)
      checks_read (sim, op);
    checks_call_ends (sim, op, result);
    free (op->buf);
    op->buf = NULL;
  }
}

static void meddle (void *sim);

void
sim_start_clients (struct sim *sim)
{
  static const char *const names[MAX_CLIENTS] = {
    "client0", "client1", "client2", "client3"
  };
  struct sim_client *c;
  unsigned i;

  sim->w.nr_clients = sim->p.clients + 1;
  sim->w.coroutine[sim->p.clients] = sched_self ();
  for (i = 0; i < sim->p.clients; i++) {
    c = &sim->clients[i];
    sim->w.coroutine[i] = -1;
    *c = (struct sim_client) { .sim = sim, .number = i };
    if (thread_start (&c->thread, names[i], client_main, c) != 0)
      abort ();
  }
  sim->meddler_may_go = false;
  if (sim->p.meddler &&
      thread_start (&sim->meddler, "meddler", meddle, sim) != 0)
    abort ();
}

/* All that there is to do for them has been done. */
void
sim_join_clients (struct sim *sim)
{
  unsigned i;

  for (i = 0; i < sim->p.clients; i++)
    thread_join (&sim->clients[i].thread);
  sim->meddler_may_go = true;
  if (sim->p.meddler)
    thread_join (&sim->meddler);
}

/*-- orders -------------------------------------------------------------*/

static void
cancel_job (struct sim *sim)
{
  enum job_status status;
  int r;

  sched_trace ("order: cancel", 0, 0, 0, 0);
  sim->cancels++;
  r = mirror_cancel (sim->m, sched_percent (50) ? NULL : "nonsense", &status);
  if (r == -ENOENT)
    r = mirror_cancel (sim->m, NULL, &status);
  sim->cancels--;
  if (r == 0)
    sim->cancelling = true;
  if (r != 0 && r != -ENOENT && r != -EPERM)
    sched_fail ("cancel", "mirror_cancel: %d", r);
}

/* The job is to end; one that is kept is dismissed. */
static void
await_end (struct sim *sim, const char *why)
{
  const uint64_t deadline = sched_now () + 60 * SECOND;
  struct mirror_status st;

  do {
    mirror_get_status (sim->m, &st);
    if (st.status == JOB_CONCLUDED && !st.auto_dismiss)
      sim_dismiss (sim);
    if (sched_now () > deadline)
      sched_fail ("end", "a job that is %s has not ended after a minute",
                  why);
  } while (mirror_wait_idle (sim->m, sched_now () + SECOND) != 0);
}

static void
cancel_and_wait (struct sim *sim)
{
  cancel_job (sim);
  await_end (sim, "cancelled");
}

static void
set_mode (struct sim *sim, enum copy_mode mode)
{
  enum job_status status;
  int r;

  sched_trace ("order: mode %llu", mode, 0, 0, 0);
  sim_mode_is_asked (sim, mode);
  r = mirror_set_mode (sim->m, NULL, mode, &status);
  if (r != 0 && r != -ENOENT && r != -EPERM)
    sched_fail ("mode", "mirror_set_mode: %d", r);
}

static void
set_speed (struct sim *sim, uint64_t speed)
{
  enum job_status status;
  int r;

  sched_trace ("order: speed %llu", speed, 0, 0, 0);
  r = mirror_set_speed (sim->m, NULL, speed, &status);
  if (r != 0 && r != -ENOENT && r != -EPERM)
    sched_fail ("speed", "mirror_set_speed: %d", r);
}

static void
lose_target (struct sim *sim)
{
  struct fake_target *ft = world_session (&sim->w, sched_percent (40));

  if (ft)
    fake_target_lose (ft, sched_percent (sim->p.power_cut));
}

static void
pause_a_little (void)
{
  static const uint64_t longest[] = { 10000, MS, 100 * MS, 2 * SECOND };

  sched_sleep (sched_rand (longest[sched_rand (4)]));
}

/* The second giver of orders: races with the driver, but starts nothing. */
static void
meddle (void *vp)
{
  struct sim *sim = vp;
  struct mirror_status st;

  while (!sim->meddler_may_go) {
    pause_a_little ();
    switch (sched_rand (9)) {
    case 0:
      set_mode (sim, sim_random_mode (sim));
      break;
    case 1:
      set_speed (sim, sched_percent (50) ? 0 : 5000);
      break;
    case 3:
      sim_order_switch (sim);
      break;
    case 2:
      if (sched_percent (20))
        cancel_job (sim);
      break;
    default:
      mirror_get_status (sim->m, &st);
      if (st.len - st.offset != st.dirty_bytes + st.inflight_bytes +
          st.suspect_bytes + st.unscanned_bytes)
        sched_fail ("status", "len - offset is not dirty + in flight");
      break;
    }
  }
}

static bool
have_job (struct sim *sim, bool *online, bool *ready)
{
  struct mirror_status st;

  mirror_get_status (sim->m, &st);
  *online = st.target_online && world_session (&sim->w, false) &&
    !world_session (&sim->w, false)->lost;
  *ready = st.ready;
  return mirror_wait_idle (sim->m, 0) != 0;
}

/* Wait for ready, but not for ever: faults and clients may prevent it. */
static void
await_ready (struct sim *sim)
{
  bool online, ready;
  unsigned i;

  for (i = 0; i < 40; i++) {
    if (!have_job (sim, &online, &ready) || !online || ready)
      return;
    sched_sleep (50 * MS);
  }
}

/* By itself. */
static bool
has_failed (struct sim *sim)
{
  struct mirror_status st;

  mirror_get_status (sim->m, &st);
  return mirror_peek_failed (sim->m) || st.status == JOB_CONCLUDED;
}

/* From now on errors change nothing; what they have changed already is taken
 * back.
 */
static void
ignore_errors (struct sim *sim)
{
  enum job_status status;
  bool online, ready;

  if (sim->p.policy_percent == 0)
    return;
  mirror_set_on_error (sim->m, NULL, false, ON_ERROR_IGNORE, &status);
  mirror_set_on_error (sim->m, NULL, true, ON_ERROR_IGNORE, &status);
  sched_sleep (2 * SECOND);
  if (have_job (sim, &online, &ready) && !sim->completed && has_failed (sim))
    await_end (sim, "failed");
}

void
sim_order (struct sim *sim)
{
  const struct profile *p = &sim->p;
  bool online, ready;

  pause_a_little ();
  if (!have_job (sim, &online, &ready)) {
    sim_start_job (sim, true);
    return;
  }
  if (sim->completed || has_failed (sim)) {
    if (sched_percent (50))
      await_end (sim, "completed");
    return;
  }
  if (sched_percent (p->settle_percent))
    await_ready (sim);
  if ((!online && (p->restart_at_once || sched_percent (30))) ||
      sched_percent (p->restart_percent)) {
    cancel_and_wait (sim);
    sim_start_job (sim, true);
    return;
  }
  if (sched_percent (p->mode_percent))
    set_mode (sim, sim_random_mode (sim));
  if (sched_percent (p->speed_percent))
    set_speed (sim, sched_percent (50) ? 0 : 1000 + sched_rand (100000));
  if (sched_percent (p->lose_percent))
    lose_target (sim);
  sim_order_verify (sim);
  sim_order_switch (sim);
}

/*-- the end of a run ---------------------------------------------------*/

enum rest { REST_DRAINED, REST_READY, REST_SYNCED };

static void
await (struct sim *sim, enum rest what)
{
  const uint64_t deadline = sched_now () + PATIENCE;
  const struct fake_target *ft;
  struct mirror_status st;
  bool there = false, online;

  while (!there) {
    mirror_get_status (sim->m, &st);
    if (!st.have_job)
      sched_fail ("rest", "the job has ended by itself");
    ft = world_session (&sim->w, false);
    online = st.target_online && ft && !ft->lost;
    if (what == REST_DRAINED)
      there = !st.scanning && !st.dirty_bytes && !st.inflight_bytes &&
        !st.suspect_bytes && online;
    else
      there = what == REST_READY ? st.ready : st.synced;
    if (!there && sched_now () > deadline)
      sched_fail ("rest", "%s is not reached: %llu bytes dirty, %llu in "
                  "flight, scanning %d", what == REST_DRAINED ? "copied"
                  : what == REST_READY ? "ready" : "synced",
                  (unsigned long long) st.dirty_bytes,
                  (unsigned long long) st.inflight_bytes, st.scanning);
    if (!there)
      sched_sleep (20 * MS);
  }
}

/* The driver as a client: the last of the slots. */
static void
flush (struct sim *sim)
{
  struct client_op *op = &sim->w.ops[sim->p.clients];

  *op = (struct client_op) { .kind = OP_FLUSH };
  checks_call_begins (sim, op);
  checks_call_ends (sim, op, call (sim, op));
}

/* A switch that was asked for ends, well or not. */
static void
await_switch (struct sim *sim)
{
  const uint64_t deadline = sched_now () + PATIENCE;
  bool online, ready;

  while (have_job (sim, &online, &ready) && !sim->completed &&
         !sim->cancelling && sim->switches > sim->failed_switches) {
    if (sched_now () > deadline)
      sched_fail ("rest", "a switch does not come to an end");
    sched_sleep (20 * MS);
  }
}

/* A disk that was lost comes back, also if nobody asks for it. */
static void
await_disk (struct sim *sim)
{
  const uint64_t deadline = sched_now () + PATIENCE;
  const struct fake_target *ft;

  while (sim->w.pivots > 0 &&
         (!(ft = world_session (&sim->w, true)) || ft->lost)) {
    if (sched_now () > deadline)
      sched_fail ("rest", "the clients' disk does not come back");
    sched_sleep (100 * MS);
  }
}

/* All that clients know of is there. */
static void
read_all (struct sim *sim)
{
  struct client_op *op = &sim->w.ops[sim->p.clients];
  int r;

  *op = (struct client_op) { .kind = OP_READ, .range = { 0, sim->size } };
  op->buf = malloc (sim->size);
  if (!op->buf)
    abort ();
  checks_call_begins (sim, op);
  r = call (sim, op);
  if (r != 0)
    sched_fail ("rest", "a read fails: %d", r);
  checks_read (sim, op);
  checks_call_ends (sim, op, r);
  free (op->buf);
}

/* Nothing speaks against it now. */
static void
switch_at_rest (struct sim *sim)
{
  enum job_status status;
  struct mirror_status st;
  unsigned i;

  mirror_get_status (sim->m, &st);
  if (sim->w.told_flush && !st.target_flush)
    return;
  mirror_set_max_pause (sim->m, NULL, 60 * SECOND, &status);
  world_unstick (&sim->w);
  /* A flush of an attempt before may still be under way. */
  for (i = 0; i < 10 && !sim->completed; i++) {
    sched_sleep (i * SECOND);
    sim_complete (sim);
    await_switch (sim);
  }
  if (!sim->completed)
    sched_fail ("rest", "a pivot fails, though nothing goes wrong");
  await_end (sim, "completed");
}

static void
come_to_rest (struct sim *sim)
{
  struct mirror_status st;
  struct fake_target *ft;
  bool online, ready;

  ignore_errors (sim);
  sim_go_on (sim);
  await_disk (sim);
  await_switch (sim);
  if (have_job (sim, &online, &ready) && sim->completed)
    await_end (sim, "completed");
  /* A target that is lost comes back by itself. */
  if (have_job (sim, &online, &ready) &&
      ((!online && sched_percent (30)) || sim->cancelling))
    cancel_and_wait (sim);
  if (!have_job (sim, &online, &ready)) {
    sim_start_job (sim, false);
    ignore_errors (sim);
  }
  /* Not without need: it would wake copiers that have missed a wakeup. */
  mirror_get_status (sim->m, &st);
  if (st.speed != 0)
    set_speed (sim, 0);
  await (sim, REST_DRAINED);
  checks_equal (sim, false);
  await (sim, REST_READY);
  /* Mode auto gets there by itself. */
  if (st.copy_mode != COPY_AUTO)
    set_mode (sim, sched_percent (sim->p.auto_percent) ? COPY_AUTO
              : COPY_WRITE_BLOCKING);
  ft = world_session (&sim->w, false);
  if (ft && ft->target.can_flush) {
    await (sim, REST_SYNCED);
    if (sim->w.told_flush)
      flush (sim);
    checks_equal (sim, sim->w.told_flush && !sim->w.defer_flush);
  }
}

/* The rest of a run: nothing goes wrong any more, and there are no clients. */
void
sim_finish (struct sim *sim)
{
  come_to_rest (sim);
  sim_verify_at_rest (sim);
  read_all (sim);
  if (sched_percent (sim->p.pivot_percent)) {
    switch_at_rest (sim);
    read_all (sim);
  }

  if (sched_percent (50))
    cancel_and_wait (sim);
  checks_detached (sim);
  sim->cancelling = sim->leaving = true;
  sim->watched = false;
  mirror_free (sim->m);
  if (sim->w.targets)
    sched_fail ("end", "a target was not freed");
}
