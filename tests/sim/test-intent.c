/* SPDX-License-Identifier: BSD-3-Clause */
/* The write-intent record alone (engine/intent.c) on a fake file: threads that
 * are active here and there, somebody who retires regions, orders that change
 * all of it, errors of the file, kills and power cuts.
 *
 * A region *matters* while somebody is active in it, while it is dirty, and
 * until a flush has been good that began after it was last active.  After every
 * step each region that matters must be in W of whatever a crash would leave
 * (rule I2); what has been said to be durable must be there, too (I12).
 *
 * Exit status: 0, or 1 and the seed.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake-intent.h"
#include "sched.h"

#define SEEDS 300
#define REGION 512u
#define MOST_REGIONS 24u
#define WORKERS 3
#define MS UINT64_C (1000000)

enum phase { PLAIN, RUNNING, PIVOTED, UNKNOWN };

static struct run {
  struct fake_intent file;
  struct intent *in;
  unsigned regions;
  bool faulty;

  /* What is true. */
  enum phase phase;
  bool changing;                /* ... and may be the next one already */
  bool fenced, fencing;
  unsigned active[MOST_REGIONS];
  bool dirty[MOST_REGIONS], unflushed[MOST_REGIONS];
  uint64_t end_of[MOST_REGIONS], ends;
  bool flushing;                /* a failed flush is about to mark */

  unsigned done;                /* workers */
  bool stop;
  bool closed;
  struct intent_view views[NR_AFTER];
  uint64_t seen_changes;
} run;

/* Over all seeds: nothing of this may be 0. */
static uint64_t retired, cold, lost, resumed, powerless, unknown, refused;

/*-- the rules ----------------------------------------------------------*/

static bool
matters (unsigned i)
{
  return run.active[i] > 0 || run.dirty[i] || run.unflushed[i] ||
    (run.phase == PLAIN && !run.changing);
}

static void
check_phase (const struct intent_view *v, const char *how)
{
  const bool pivoted = v->head.state == INTENT_PIVOTED;

  if (run.changing || run.phase == UNKNOWN)
    return;
  if (pivoted != (run.phase == PIVOTED) ||
      pivoted != (strcmp (v->head.disk, "target") == 0))
    sched_fail ("I12", "after %s clients would have %s disk", how,
                pivoted ? "the other" : "the old");
  if (run.phase == PLAIN && v->head.state == INTENT_RUNNING)
    sched_fail ("I2", "after %s a mirror that has ended would go on", how);
  if (run.phase == RUNNING && v->head.state != INTENT_RUNNING &&
      !run.file.failed)
    sched_fail ("I2", "after %s a mirror would be forgotten", how);
  if (!run.fencing && v->head.fenced != run.fenced)
    sched_fail ("fence", "after %s the fence would be another", how);
}

static void
check (void *vp)
{
  static const char *const how[] = { "a kill", "a power cut",
                                     "a power cut of some of it" };
  unsigned i, after;

  (void) vp;
  for (after = 0; after < NR_AFTER; after++) {
    struct intent_view *v = &run.views[after];

    if (run.seen_changes != run.file.changes)
      intent_view_file (&run.file, after, v);
    if (!v->there) {
      /* Then clients would have the source. */
      if (run.phase == PIVOTED && !run.changing)
        sched_fail ("I12", "after %s nothing would tell which disk clients "
                    "have", how[after]);
      continue;
    }
    if (v->copy < 0) {
      if (!run.file.failed && run.file.syncs > 0)
        sched_fail ("I2", "after %s no header counts", how[after]);
      continue;
    }
    for (i = 0; i < run.regions; i++)
      if (matters (i) && !v->recorded[i])
        sched_fail ("I2", "after %s region %u, which matters (%u active, "
                    "dirty %d, unflushed %d), is not in W", how[after], i,
                    run.active[i], run.dirty[i], run.unflushed[i]);
    check_phase (v, how[after]);
  }
  run.seen_changes = run.file.changes;
}

/*-- requests -----------------------------------------------------------*/

static void
touch (unsigned i)
{
  if (sched_percent (60))
    run.unflushed[i] = true;
  if (sched_percent (30))
    run.dirty[i] = sched_percent (40);
}

static void
worker (void *arg)
{
  const uint64_t size = run.regions * REGION;
  struct range r;
  uint64_t deadline, i;
  unsigned n, first, end;

  (void) arg;
  for (n = 0; n < 25 && !run.stop; n++) {
    if (sched_percent (30))
      sched_sleep (sched_rand (20 * MS));
    if (run.phase != RUNNING || run.changing)
      continue;
    r.start = sched_rand (sched_percent (50) ? 3 * REGION : size);
    r.end = r.start + 1 + sched_rand (sched_percent (80) ? 10 : 3 * REGION);
    if (r.end > size)
      r.end = size;
    first = (unsigned) (r.start / REGION);
    end = (unsigned) ((r.end - 1) / REGION) + 1;
    for (i = first; i < end; i++)
      cold += !run.views[AFTER_KILL].recorded[i];
    deadline = sched_now () + (sched_percent (50) ? 2000 * MS : 20 * MS);
    if (intent_begin (run.in, r, deadline) < 0) {
      if (sched_now () < deadline)
        sched_fail ("I2", "intent_begin gives up before its time");
      refused++;
      continue;
    }
    for (i = first; i < end; i++)
      run.active[i]++;
    sched_yield_here ();
    for (i = first; i < end; i++)
      touch ((unsigned) i);
    sched_yield_here ();
    run.ends++;
    for (i = first; i < end; i++) {
      run.active[i]--;
      run.end_of[i] = run.ends;
    }
    intent_end (run.in, r);
  }
  run.done++;
}

/*-- retiring -----------------------------------------------------------*/

static bool
next_dirty (void *opaque, uint64_t from, struct range *found)
{
  unsigned i;

  (void) opaque;
  for (i = (unsigned) (from / REGION); i < run.regions; i++)
    if (run.dirty[i]) {
      *found = (struct range) { i * REGION, (i + 1) * REGION };
      if (found->start < from)
        found->start = from;
      return true;
    }
  return false;
}

/* Both legs.  What has failed is dirty before anybody hears of it. */
static bool
flush (void)
{
  const uint64_t began = run.ends;
  bool covers[MOST_REGIONS], good = sched_percent (80);
  unsigned i;

  for (i = 0; i < run.regions; i++)
    covers[i] = run.active[i] == 0 && run.end_of[i] <= began;
  sched_sleep (sched_rand (5 * MS));
  for (i = 0; i < run.regions; i++)
    if (!good)
      run.dirty[i] |= run.unflushed[i];
    else if (covers[i] && run.active[i] == 0 && run.end_of[i] <= began)
      run.unflushed[i] = false;
  return good;
}

static void
retirer (void *arg)
{
  struct intent_status st;
  uint64_t before;

  (void) arg;
  while (!run.stop) {
    sched_sleep (sched_rand (10 * MS));
    if (run.phase != RUNNING || run.changing)
      continue;
    intent_watch (run.in);
    sched_sleep (sched_rand (10 * MS));
    if (intent_idle (run.in) == 0 || !flush ())
      continue;
    intent_get_status (run.in, &st);
    before = st.bytes;
    intent_retire (run.in, next_dirty, NULL);
    intent_get_status (run.in, &st);
    retired += st.bytes < before;
    lost += st.lost;
  }
  run.done++;
}

/*-- orders -------------------------------------------------------------*/

static bool
nobody_active (void *arg)
{
  unsigned i, n = 0;

  (void) arg;
  for (i = 0; i < run.regions; i++)
    n += run.active[i];
  return n == 0;
}

static void
become (enum phase phase)
{
  run.phase = phase;
  run.changing = false;
}

static void
begin_mirror (void)
{
  const int r = intent_start (run.in, "target", run.regions * REGION, 512);

  /* It may be running according to the file, and is not. */
  become (r == 0 ? RUNNING : UNKNOWN);
}

static void
commit (void)
{
  _Atomic bool stop = sched_percent (50);
  const int r = intent_commit (run.in, &stop);

  unknown += r == -EINPROGRESS;
  /* Without a file a restart will give them the source. */
  become (r == -EINPROGRESS || !run.file.linked ? UNKNOWN
          : r == 0 ? PIVOTED : RUNNING);
}

/* What the file says then is what a loader acts upon; errors leave a mirror
 * in it that goes on, with all in W.
 */
static void
end_mirror (void)
{
  static const enum intent_state states[] = {
    INTENT_CANCELLED, INTENT_DETACHED, INTENT_FAILED
  };
  const int r = intent_finish (run.in, states[sched_rand (3)]);

  become (r == 0 ? PLAIN : UNKNOWN);
}

static void
move_back (void)
{
  become (intent_unpivot (run.in) == 0 ? PLAIN : UNKNOWN);
}

static void
order (void)
{
  const bool fence = !run.fenced;

  switch (sched_rand (6)) {
  case 0:
    run.fencing = true;
    if (intent_fence (run.in, fence) == 0)
      run.fenced = fence;
    run.fencing = run.file.failed;
    return;
  case 1:
  case 2:
    if (run.phase == RUNNING)
      intent_everything (run.in);
    return;
  case 3:
    return;
  }
  run.changing = true;
  sched_wait (nobody_active, NULL, "the end of requests");
  if (run.phase == RUNNING && sched_percent (50))
    commit ();
  else if (run.phase == RUNNING)
    end_mirror ();
  else if (run.phase == PIVOTED)
    move_back ();
  else
    begin_mirror ();
}

/*-- lives --------------------------------------------------------------*/

static void
live (void *arg)
{
  struct thread t[WORKERS + 1];
  unsigned i, n = (unsigned) sched_rand (12);

  (void) arg;
  for (i = 0; i <= WORKERS; i++)
    if (thread_start (&t[i], i < WORKERS ? "worker" : "retirer",
                      i < WORKERS ? worker : retirer, NULL) != 0)
      abort ();
  if (run.phase == PLAIN) {
    run.changing = true;
    begin_mirror ();
  }
  while (n-- > 0) {
    sched_sleep (sched_rand (50 * MS));
    intent_check (run.in);
    if (run.phase != UNKNOWN)
      order ();
  }
  run.stop = true;
  for (i = 0; i <= WORKERS; i++)
    thread_join (&t[i]);
  intent_check (run.in);
  if (run.phase == RUNNING)
    intent_close (run.in, true);
  intent_free (run.in);
  run.closed = true;
}

static uint64_t until;

static bool
life_is_over (void *arg)
{
  (void) arg;
  return run.closed || sched_steps () >= until;
}

static void
on_lost (void *opaque)
{
  (void) opaque;
  run.file.failed = true;
}

/* What is in the file is what the new process believes; or it does not begin.
 */
static bool
load (void)
{
  struct intent_view *v = &run.views[AFTER_KILL];
  struct intent_head head = { .generation = 1, .epoch = 1,
    .size = run.regions * REGION - sched_rand (REGION), .granularity = 512,
    .region = REGION };
  int copy = -1;

  intent_view_file (&run.file, AFTER_KILL, v);
  if (v->there && v->copy >= 0) {
    head = v->head;
    copy = v->copy;
    intent_open (&run.file);
    resumed += head.state == INTENT_RUNNING;
  }
  else {
    head.size = run.regions * REGION;
    intent_lay_out (&run.file, &head);
  }
  run.phase = head.state == INTENT_RUNNING ? RUNNING
    : head.state == INTENT_PIVOTED ? PIVOTED : PLAIN;
  run.fenced = head.fenced;
  run.changing = run.fencing = true;
  if (intent_new (&run.in, &run.file.io, &head, copy, &sched_clock, on_lost,
                  NULL) < 0)
    return false;
  intent_resume (run.in);
  run.changing = run.fencing = false;
  return true;
}

/* What a killed process had is not lost, for a leak checker. */
static void
bury (struct intent *in)
{
  static struct intent **dead;
  static size_t n;

  dead = realloc (dead, (n + 1) * sizeof *dead);
  if (!dead)
    abort ();
  dead[n++] = in;
}

static void
crash (void)
{
  sched_kill_others ();
  bury (run.in);
  run.in = NULL;
  memset (run.active, 0, sizeof run.active);
  intent_crash (&run.file);
  if (sched_percent (50)) {
    intent_cut_power (&run.file);
    powerless++;
  }
}

static void
drive (void *arg)
{
  struct thread t;
  unsigned lives;

  (void) arg;
  sched_be_first ();
  for (lives = 0; lives < 4; lives++) {
    run.stop = run.closed = false;
    while (!load ())
      crash ();
    until = sched_steps () + 20 + sched_rand (sched_percent (50) ? 300 : 6000);
    if (thread_start (&t, "life", live, NULL) != 0)
      abort ();
    sched_wait (life_is_over, NULL, "the end of a life");
    crash ();
  }
}

static void
run_seed (uint64_t seed)
{
  static const struct sched_hooks hooks = { .check = check };

  memset (&run, 0, sizeof run);
  run.regions = 1 + seed % MOST_REGIONS;
  run.faulty = seed % 3 == 0;
  if (run.faulty) {
    run.file.faults = (struct intent_faults) {
      .read_error = 20, .write_error = seed % 5 == 0 ? 60 : 6,
      .sync_error = seed % 5 == 1 ? 60 : 6,
      .destroy_error = seed % 2 ? 50 : 90,
    };
  }
  run.file.faults.slow = seed % 2 ? 5 : 0;
  run.file.faults.torn = 50;
  sched_run (seed, 2000000, &hooks, drive, NULL);
}

int
main (int argc, char *argv[])
{
  uint64_t seed, first = 0, end = SEEDS;

  if (argc > 1) {
    first = strtoull (argv[1], NULL, 10);
    end = argc > 2 ? strtoull (argv[2], NULL, 10) : first + 1;
    sched_set_trace (argc == 2);
  }
  for (seed = first; seed < end; seed++)
    run_seed (seed);
  printf ("retired %llu, cold %llu, lost %llu, resumed %llu, power cuts %llu, "
          "unknown %llu, refused %llu\n", (unsigned long long) retired,
          (unsigned long long) cold, (unsigned long long) lost,
          (unsigned long long) resumed, (unsigned long long) powerless,
          (unsigned long long) unknown, (unsigned long long) refused);
  return argc > 1 || (retired && cold && lost && resumed && powerless &&
                      unknown && refused) ? EXIT_SUCCESS : EXIT_FAILURE;
}
