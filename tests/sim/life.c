/* SPDX-License-Identifier: BSD-3-Clause */
/* The lives of the process in a run: it begins with what the intent file says,
 * and ends by itself, in order (mirror_shutdown), or by a kill at any step, of
 * which some bring a power cut of either disk or of the file's.
 *
 * A run without an intent file has one life, and ends by itself.
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

/*-- the disks at first -------------------------------------------------*/

static void
fill_images (struct sim *sim)
{
  struct world *w = &sim->w;
  /* Zeroes in pieces of what detect-zeroes looks at, and of granules. */
  const uint64_t unit = sim->granularity > 4096 ? sim->granularity / 2
    : sim->granularity;
  bool data = false, old = false;
  uint64_t b;

  for (b = 0; b < w->target_size; b++) {
    if (b % unit == 0) {
      data = sched_percent (sim->p.data_percent);
      old = sched_percent (sim->p.data_percent);
    }
    if (b < sim->size)
      w->S[b] = data ? (uint8_t) (b / 7 + 1) : 0;
    w->T[b] = old ? (uint8_t) (b / 5 + 3) : 0;
  }
  if (sim->p.equal)
    memcpy (w->T, w->S, sim->size);
  memcpy (w->stable, w->T, w->target_size);
  memcpy (w->disk->stable, w->S, sim->size);
  memcpy (w->told, w->S, sim->size);
  memset (w->known, 1, sim->size);
}

/*-- the file -----------------------------------------------------------*/

/* There is none, or nobody can read it: as at first, and clients have the
 * source.
 */
static void
new_file (struct sim *sim, struct intent_head *head)
{
  if (sim->w.pivots > 0)
    world_serve_source (&sim->w);
  memset (head, 0, sizeof *head);
  head->generation = head->epoch = 1;
  head->size = sim->size;
  head->granularity = sim->p.granularity;
  head->region = sim->p.granularity << sim->p.region_shift;
  head->state = INTENT_IDLE;
  sim->intent.had_head = false;
  intent_lay_out (sim->w.intent, head);
}

/* The copy of the header that counts, or -1.  What the last process has left in
 * the cache is what is read.
 */
static int
read_file (struct sim *sim, struct intent_head *head)
{
  struct intent_view *v = &sim->intent.views[AFTER_KILL];

  checks_view (sim);
  if (!v->there || v->copy < 0) {
    new_file (sim, head);
    return -1;
  }
  intent_open (sim->w.intent);
  *head = v->head;
  return v->copy;
}

static void
on_lost (void *vp)
{
  struct sim *sim = vp;

  sim->w.seen[SEEN_FILE_LOST]++;
}

/* Who cannot write the file does not begin: until it can. */
static void
open_file (struct sim *sim, struct intent_head *head)
{
  struct intent *in;
  int copy;

  for (;;) {
    copy = read_file (sim, head);
    if (intent_new (&in, &sim->w.intent->io, head, copy, &sched_clock,
                    on_lost, sim) == 0)
      break;
    intent_crash (sim->w.intent);
    sched_sleep (sched_rand (100 * MS));
  }
  mirror_use_intent (sim->m, in);
  sim->w.fenced = head->fenced;
  sim->w.seen[SEEN_FENCE_KEPT] += head->fenced;
}

/*-- the beginning ------------------------------------------------------*/

/* The file says that clients have been moved; the last process may not have
 * come to doing it.
 */
static void
give_disk (struct sim *sim, const struct intent_head *head)
{
  struct world *w = &sim->w;
  struct fake_target *ft = NULL;

  if (checks_disk_of (sim, head) != w->disk) {
    /* What nobody could flush may be lost. */
    if (w->told_flush && w->latest.can_flush &&
        memcmp (w->S, w->T, sim->size) != 0)
      sched_fail ("I12", "a restart gives clients a disk that is not equal");
    world_pivot (w);
    w->seen[SEEN_COMMITTED]++;
  }
  if (w->pivots == 0)
    return;
  w->seen[SEEN_RESTART_PIVOTED]++;
  if (sched_percent (50))
    ft = fake_target_new (w, true);
  sim->any_block = !ft;
  if (mirror_start_pivoted (sim->m, head->disk, w->target_size,
                            ft ? &ft->target : NULL, SECOND,
                            w->disk_suspect_ns) != 0)
    abort ();
}

static void
start_engine (struct sim *sim)
{
  const struct mirror_config config = {
    .size = sim->size, .clock = &sched_clock,
    .told_flush = sim->w.told_flush,
    .event = checks_event, .event_opaque = sim,
    .reopen = sim_reopen,
    .tidy_ns = sim->w.intent ? (1 + sched_rand (200)) * MS : 0,
  };
  struct intent_head *head = &sim->intent.head;

  memset (head, 0, sizeof *head);
  sim->m = mirror_new (&config);
  if (!sim->m)
    abort ();
  sim->any_block = false;
  if (sim->w.intent) {
    open_file (sim, head);
    give_disk (sim, head);
  }
  sim->disk = mirror_peek_disk (sim->m);
  sim->watched = true;
  if (head->state == INTENT_RUNNING)
    sim_resume_job (sim, head);
  else if (sched_percent (sim->p.early_percent))
    sim_start_job (sim, false);
}

/*-- one life -----------------------------------------------------------*/

/* The process ends in order. */
static void
leave (struct sim *sim)
{
  sched_trace ("order: shut down", 0, 0, 0, 0);
  sim->leaving = sim->cancelling = true;
  mirror_shutdown (sim->m, sched_percent (70) ? 10 * SECOND
                   : sched_rand (SECOND));
  world_unstick (&sim->w);
  sim_join_clients (sim);
  sim->watched = false;
  mirror_free (sim->m);
  if (sim->w.targets)
    sched_fail ("end", "a target was not freed");
}

static void
live (void *vp)
{
  struct sim *sim = vp;

  start_engine (sim);
  sim_start_clients (sim);
  while (sim->orders_left > 0) {
    sim->orders_left--;
    if (sim->intent.any_out)
      sim->intent.file.faults = sim->p.intent_faults;
    sim_order (sim);
    if (sim->p.shutdown_percent > 0 &&
        sched_percent (sim->p.shutdown_percent)) {
      leave (sim);
      sim->over = true;
      return;
    }
  }

  /* Nothing goes wrong any more. */
  sched_trace ("the faults end", 0, 0, 0, 0);
  memset (&sim->w.faults, 0, sizeof sim->w.faults);
  if (sim->w.intent)
    memset (&sim->w.intent->faults, 0, sizeof sim->w.intent->faults);
  sim->w.faults_ended = true;
  if (sched_percent (30))       /* else they are given up */
    world_unstick (&sim->w);
  sim_join_clients (sim);
  sim_finish (sim);
  sim->ended = sim->over = true;
}

/*-- kills --------------------------------------------------------------*/

/* When: after so many steps, or calls of the file and then steps, or steps
 * after a commit record has been begun.
 */
static void
plan_kill (struct sim *sim)
{
  sim->kill.steps = sim->kill.calls = UINT64_MAX;
  sim->kill.at_commit = false;
  sim->kill.more = sched_rand (UINT64_C (1) << sched_rand (9));
  if (sim->kills_left == 0)
    return;
  switch (sched_rand (sim->p.pivot_percent > 0 ? 3 : 2)) {
  case 0:
    sim->kill.steps = sched_steps () +
      sched_rand (UINT64_C (1) << (6 + sched_rand (9)));
    break;
  case 1:
    sim->kill.calls = sim->w.intent->calls + 1 +
      sched_rand (UINT64_C (1) << sched_rand (7));
    break;
  default:
    sim->kill.at_commit = true;
  }
}

static bool
is_due (void *vp)
{
  struct sim *sim = vp;
  unsigned i;

  if (sim->over)
    return true;
  /* What a verification is to find is in no file: first that, then a kill. */
  if (sim->verify.rotten > 0)
    return false;
  for (i = 0; i < NR_AFTER && sim->kill.at_commit; i++)
    if (sim->watched && sim->intent.views[i].there &&
        sim->intent.views[i].copy >= 0 &&
        sim->intent.views[i].head.state == INTENT_PIVOTED &&
        sim->kill.steps == UINT64_MAX)
      sim->kill.steps = sched_steps () + sim->kill.more;
  if (sim->w.intent->calls >= sim->kill.calls &&
      sim->kill.steps == UINT64_MAX)
    sim->kill.steps = sched_steps () + sim->kill.more;
  return sched_steps () >= sim->kill.steps;
}

static unsigned
draw_cuts (struct sim *sim)
{
  unsigned cuts = 0;

  if (sched_percent (sim->p.cut_source))
    cuts |= CUT_SOURCE;
  if (sched_percent (sim->p.cut_target))
    cuts |= CUT_TARGET;
  if (sched_percent (sim->p.cut_intent))
    cuts |= CUT_INTENT;
  return cuts;
}

static void
note_kill (struct sim *sim, unsigned cuts)
{
  struct world *w = &sim->w;
  const struct intent_view *v = sim->intent.views;
  uint64_t b, source = 0, target = 0;

  for (b = 0; b < sim->size; b++) {
    source += w->S[b] != w->disk->stable[b];
    target += w->T[b] != w->stable[b];
  }
  w->seen[SEEN_KILLED] += sim->intent.any_out &&
    (memcmp (w->S, w->T, sim->size) != 0 || world_busy (w, true));
  w->seen[SEEN_CUT_SOURCE] += (cuts & CUT_SOURCE) && source > 0;
  w->seen[SEEN_CUT_TARGET] += (cuts & CUT_TARGET) && target > 0;
  w->seen[SEEN_CUT_INTENT] += (cuts & CUT_INTENT) &&
    (v[AFTER_KILL].head.generation != v[AFTER_CUT].head.generation ||
     memcmp (v[AFTER_KILL].recorded, v[AFTER_CUT].recorded,
             sizeof v->recorded) != 0);
  w->seen[SEEN_CUT_ALL] += cuts == (CUT_SOURCE | CUT_TARGET | CUT_INTENT);
  w->seen[SEEN_KILLED_AT_COMMIT] += v[AFTER_KILL].there &&
    v[AFTER_CUT].there && v[AFTER_KILL].head.state == INTENT_PIVOTED &&
    v[AFTER_CUT].head.state != INTENT_PIVOTED;
}

/* What was about the engine. */
static void
forget (struct sim *sim)
{
  sim->m = NULL;
  sim->watched = sim->cancelling = sim->leaving = false;
  sim->cancels = 0;
  sim->completed = sim->session_over = sim->hung = sim->replaced = false;
  sim->max_pause_ns = sim->held_since = 0;
  sim->status_job = sim->event_job = 0;
  sim->source_lost_data = false;
  sim->lost_touch = UINT64_MAX;
  sim->verify.calls = sim->verify.began = sim->verify.ended = 0;
  sim->w.power_was_cut = sim->w.drop_untold = false;
  sim->over = sim->intent.committing = false;
}

static void
die (struct sim *sim)
{
  const unsigned cuts = draw_cuts (sim);

  sim->dead[--sim->kills_left] = sim->m;
  sched_kill_others ();
  checks_view (sim);
  note_kill (sim, cuts);
  world_crash (&sim->w, cuts);
  checks_cut (sim);
  if (cuts & CUT_TARGET)
    sim->have_detached = false;
  forget (sim);
  sched_sleep (sched_rand (sched_percent (50) ? MS : 2 * SECOND));
}

/*-- a run --------------------------------------------------------------*/

void
sim_drive (void *vp)
{
  struct sim *sim = vp;
  struct thread driver;
  unsigned i;

  sim->w.told_flush = !sim->p.no_flush;
  sim->w.source_caches = sim->p.intent || sim->p.faults.drop > 0;
  sim->lost_touch = UINT64_MAX;
  sim->orders_left = sim->p.orders;
  sim->kills_left = sim->p.kills;
  for (i = 0; i < sim->p.clients; i++)
    sim->ops_left[i] = sim->p.ops;
  world_open_source (&sim->w);
  fill_images (sim);
  if (sim->p.intent) {
    sim->w.intent = &sim->intent.file;
    if (!sim->p.file_fails_late)
      sim->intent.file.faults = sim->p.intent_faults;
  }
  if (!sim->p.intent || (sim->p.kills == 0 && sim->p.shutdown_percent == 0)) {
    live (sim);
    return;
  }
  sched_be_first ();
  for (;;) {
    plan_kill (sim);
    if (thread_start (&driver, "driver", live, sim) != 0)
      abort ();
    sched_wait (is_due, sim, "the end of a life");
    if (!sim->over) {
      die (sim);
      continue;
    }
    thread_join (&driver);
    if (sim->ended)
      return;
    sched_kill_others ();       /* all have ended: their numbers */
    intent_crash (sim->w.intent);
    forget (sim);
  }
}
