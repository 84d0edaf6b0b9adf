/* SPDX-License-Identifier: BSD-3-Clause */
/* See scenarios.h.
 *
 * Profiles are drawn by a generator of their own, so that the order in which
 * a run draws does not change its profile.
 */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "scenarios.h"

static uint64_t state;

static uint64_t
draw (uint64_t n)
{
  uint64_t z = state += UINT64_C (0x9e3779b97f4a7c15);

  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return (z ^ (z >> 31)) % n;
}

/* Mostly 0: runs without faults see more of the rest. */
static unsigned
sometimes (unsigned percent)
{
  return draw (3) == 0 ? 1 + (unsigned) draw (percent) : 0;
}

static void
draw_faults (struct faults *f)
{
  f->source_error = sometimes (10);
  f->source_slow = sometimes (30);
  f->refuse_fast_zero = (unsigned) draw (3) * 50;
  f->target_error = sometimes (20);
  f->target_slow = sometimes (20);
  f->flush_error = sometimes (40);
  f->flush_slow = sometimes (60);
  f->stuck = draw (6) == 0 ? 2 : 0;
  f->evict = sometimes (40);
  f->loss_permille = draw (3) == 0 ? 1 + (unsigned) draw (10) : 0;
  f->power_cut = (unsigned) draw (3) * 50;
}

/* Large granules are slow, since every byte is looked at after every step. */
static void
draw_geometry (struct profile *p, bool may_be_large)
{
  static const unsigned shifts[] = { 0, 0, 0, 1, 1, 2, 3, 3 };

  if (draw (50) == 0 && may_be_large) {
    p->granularity = 64 << 10;
    p->granules = 2 + (unsigned) draw (2);
    p->ops /= 2;
    return;
  }
  p->granularity = UINT64_C (512) << (draw (3) == 0 ? shifts[draw (8)] : 0);
  p->granules = 3 + (unsigned) draw (p->granularity == 512 ? 18
                                     : p->granularity < 4096 ? 10 : 3);
}

/* Of any size up to the granule; blocks of 1 are what there mostly is. */
static uint32_t
draw_block (uint64_t granularity)
{
  uint64_t block = draw (2) ? 1 : UINT64_C (1) << draw (17);

  return (uint32_t) (block < granularity ? block : granularity);
}

static void
draw_job (struct profile *p)
{
  p->block = draw_block (p->granularity);
  p->auto_percent = (unsigned) draw (3) * 33;
  p->none_percent = (unsigned) draw (3) * 25;
  p->detect_percent = (unsigned) draw (3) * 40;
  p->is_zero_percent = (unsigned) draw (3) * 30;
  p->defer_percent = draw (3) == 0 ? 50 : 0;
}

void
profile_draw (struct profile *p, uint64_t seed,
              const struct scenario *scenario)
{
  state = seed ^ UINT64_C (0x70726f66696c6521);
  memset (p, 0, sizeof *p);
  p->clients = 1 + (unsigned) draw (MAX_CLIENTS);
  p->ops = 5 + (unsigned) draw (30);
  draw_geometry (p, !scenario);
  p->hot_granules = 1 + (unsigned) draw (4);
  p->writes = 50;
  p->zeroes = (unsigned) draw (3) * 12;
  p->trims = (unsigned) draw (3) * 10;
  p->flushes = (unsigned) draw (3) * 12;
  p->fua_percent = (unsigned) draw (3) * 15;
  p->aligned_percent = (unsigned) draw (4) * 30;
  p->data_percent = (unsigned) draw (4) * 33;
  p->equal = draw (4) == 0;
  p->orders = 2 + (unsigned) draw (10);
  p->restart_percent = sometimes (40);
  p->mode_percent = (unsigned) draw (4) * 20;
  p->speed_percent = sometimes (40);
  p->lose_percent = sometimes (20);
  p->settle_percent = (unsigned) draw (4) * 30;
  p->power_cut = (unsigned) draw (3) * 50;
  p->write_blocking_percent = (unsigned) draw (3) * 50;
  draw_job (p);
  p->restart_at_once = draw (2);
  p->meddler = draw (3) == 0;
  p->early_percent = 50;
  draw_faults (&p->faults);
  if (scenario)
    scenario->change (p);
}

uint64_t
profile_size (const struct profile *p, uint64_t seed)
{
  uint64_t size = p->granules * p->granularity;

  state = seed ^ UINT64_C (0x73697a652073697a);
  if (draw (2))
    size -= draw (p->granularity);
  return size;
}

/*-- named --------------------------------------------------------------*/

/* Small, write-blocking from the start, no faults but the ones set here. */
static void
calm (struct profile *p)
{
  memset (&p->faults, 0, sizeof p->faults);
  p->write_blocking_percent = 100;
  p->early_percent = 100;
  p->mode_percent = p->speed_percent = p->restart_percent = 0;
  p->lose_percent = 0;
  p->trims = 0;
  p->meddler = false;
  p->auto_percent = p->none_percent = p->is_zero_percent = 0;
  p->defer_percent = 0;
}

/* A tee that clears after its I/O clears what the loss has marked. */
static void
h1d (struct profile *p)
{
  calm (p);
  p->granules = 4;
  p->hot_granules = 1;
  p->aligned_percent = 90;
  p->equal = true;
  p->orders = 6;
  p->lose_percent = 60;
  p->power_cut = 100;
  p->restart_at_once = true;
  p->faults.loss_permille = 5;
  p->faults.power_cut = 100;
}

/* A late track request erased by a tee that clears at its end (H1a). */
static void
h1a (struct profile *p)
{
  calm (p);
  p->granules = 4;
  p->hot_granules = 1;
  p->aligned_percent = 90;
  p->clients = 3;
  p->equal = true;
  p->orders = 10;
  p->mode_percent = 100;
  p->faults.source_slow = 30;
}

/* D is empty, but the last granule is still being copied: not synced, not
 * drained.
 */
static void
h2b (struct profile *p)
{
  calm (p);
  p->granules = 3;
  p->clients = 1;
  p->ops = 3;
  p->equal = false;
  p->data_percent = 100;
}

/* Synced only when a target flush has followed what was copied. */
static void
h3 (struct profile *p)
{
  calm (p);
  p->flushes = 40;
  p->needs_flush = true;
  p->orders = 10;
  p->mode_percent = 60;
  p->settle_percent = 60;
  p->faults.evict = 40;
  p->faults.flush_slow = 60;
}

/* What the target had before a flush that failed may never become stable,
 * even if the engine hears of it later.
 */
static void
bad_flush (struct profile *p)
{
  calm (p);
  p->flushes = 30;
  p->needs_flush = true;
  p->equal = true;
  p->faults.source_slow = 40;
  p->faults.flush_error = 30;
}

/* What is acknowledged while a flush is under way does not leave U with it. */
static void
h5 (struct profile *p)
{
  calm (p);
  p->clients = 3;
  p->ops = 30;
  p->hot_granules = 3;
  p->flushes = 40;
  p->equal = true;
  p->needs_flush = true;
  p->fua_percent = 0;
  p->orders = 6;
  p->lose_percent = 40;
  p->power_cut = 100;
  p->restart_at_once = true;
}

/* Acknowledged before the session was lost, noticed afterwards. */
static void
h6 (struct profile *p)
{
  calm (p);
  p->clients = 4;
  p->granules = 8;
  p->hot_granules = 8;
  p->flushes = 10;
  p->equal = true;
  p->orders = 4;
  p->lose_percent = 60;
  p->settle_percent = 100;
  p->restart_at_once = false;
  p->faults.source_slow = 50;
  p->faults.loss_permille = 10;
  p->faults.power_cut = p->power_cut = 30;
}

/* A job starts while requests of no job or of an older one are in flight. */
static void
h11 (struct profile *p)
{
  calm (p);
  p->clients = 4;
  p->ops = 20;
  p->orders = 12;
  p->restart_percent = 70;
  p->early_percent = 0;
  p->write_blocking_percent = 50;
  p->faults.source_slow = 40;
}

/* Ready is reached although clients never stop. */
static void
h13 (struct profile *p)
{
  calm (p);
  p->clients = 4;
  p->ops = 60;
  p->settle_percent = 100;
  p->faults.source_slow = 0;
}

/* Few marks, copiers that sleep most of the time: a wakeup that is missed is
 * not made good by the next one.
 */
static void
wake (struct profile *p)
{
  calm (p);
  p->clients = 2;
  p->ops = 2;
  p->flushes = 0;
  p->write_blocking_percent = 0;
  p->equal = true;
  p->data_percent = 0;
  p->hot_granules = p->granules;
  p->one_copier = true;
  p->orders = 1;
}

/* Clients write to one block, each its own bytes. */
static void
block (struct profile *p)
{
  calm (p);
  p->clients = 4;
  p->ops = 20;
  p->granularity = 4096;
  p->granules = 3;
  p->hot_granules = 1;
  p->block = 512 << draw (4);
  p->aligned_percent = 0;
  p->equal = true;
}

/* The same, and what fails leaves garbage around it. */
static void
block_fails (struct profile *p)
{
  block (p);
  p->mode_percent = 30;
  p->faults.target_error = 20;
  p->faults.source_error = 5;
  p->faults.loss_permille = 2;
}

/* The largest block there is; the source ends within one. */
static void
block_64k (struct profile *p)
{
  block (p);
  p->clients = 2;
  p->ops = 6;
  p->granularity = p->block = 64 << 10;
  p->granules = 2;
  p->hot_granules = 2;
  p->orders = 2;
}

/* Sync none under load: nobody is lost between no job and the job. */
static void
none (struct profile *p)
{
  h11 (p);
  p->trims = 10;
  p->none_percent = 100;
  p->faults.source_slow = 15;
}

/* ... and older requests take longer than clients may be held. */
static void
none_late (struct profile *p)
{
  none (p);
  p->clients = 3;
  p->max_pause_ms = 20;
  p->faults.source_slow = 60;
}

/* Mode auto tees by itself, although clients never stop. */
static void
by_itself (struct profile *p)
{
  calm (p);
  p->clients = 3;
  p->ops = 40;
  p->auto_percent = 100;
  p->settle_percent = 100;
  p->orders = 4;
}

/* Switches among all three modes. */
static void
modes (struct profile *p)
{
  calm (p);
  p->clients = 3;
  p->ops = 30;
  p->flushes = 20;
  p->orders = 12;
  p->mode_percent = 100;
  p->auto_percent = 50;
  p->settle_percent = 30;
  p->meddler = true;
  p->faults.target_error = (unsigned) draw (2) * 5;
}

/* Data that is zero, in part of a request or in all of it. */
static void
detect (struct profile *p)
{
  calm (p);
  p->granules = p->granularity < 4096 ? 12 : 3;
  p->data_percent = 50;
  p->detect_percent = 100;
  p->write_blocking_percent = 50;
  p->mode_percent = 30;
}

/* A zero is not sent where the target reads as zero anyhow. */
static void
skip (struct profile *p)
{
  calm (p);
  p->zeroes = 50;
  p->trims = 20;
  p->data_percent = 40;
  p->detect_percent = 50;
  p->write_blocking_percent = 30;
  p->mode_percent = 30;
  p->faults.evict = 10;
  p->faults.flush_error = (unsigned) draw (2) * 20;
}

/* The target reads as zero where the source does - at the start, no longer. */
static void
is_zero (struct profile *p)
{
  skip (p);
  p->is_zero_percent = 100;
  p->early_percent = 50;
  p->restart_percent = 30;
}

/* Flushes and FUA of clients stay with the source. */
static void
defer (struct profile *p)
{
  calm (p);
  p->flushes = 30;
  p->fua_percent = 30;
  p->defer_percent = 100;
  p->needs_flush = true;
  p->faults.evict = 20;
}

const struct scenario scenarios[] = {
  { "H1a", "switches to and fro under late requests", SEEN_SYNCED_AGAIN,
    h1a },
  { "H1d", "power cut during a tee", SEEN_LOSS_DURING_TEE, h1d },
  { "H2b", "the last granule is being copied", SEEN_LAST_COPY, h2b },
  { "H3", "synced again after a detour", SEEN_SYNCED_AGAIN, h3 },
  { "H5", "acknowledged during a flush", SEEN_ACK_DURING_FLUSH, h5 },
  { "H6", "an acknowledgement outlives its session", SEEN_LATE_ACK, h6 },
  { "bad-flush", "a flush fails while a tee is half done",
    SEEN_BAD_FLUSH_DURING_TEE, bad_flush },
  { "H11", "a job starts over requests in flight", SEEN_OLD_REQUEST, h11 },
  { "H13", "ready under load", SEEN_READY_UNDER_LOAD, h13 },
  { "wake", "few marks, sleeping copiers", SEEN_LAST_COPY, wake },
  { "block", "neighbours in a block of the target", SEEN_SHARED_BLOCK, block },
  { "block-fails", "failures spoil their blocks", SEEN_GARBAGE, block_fails },
  { "block-64k", "blocks of 64 KiB", SEEN_SHARED_BLOCK, block_64k },
  { "none", "sync none holds clients", SEEN_HELD, none },
  { "none-late", "... for too long", SEEN_START_LATE, none_late },
  { "auto", "auto begins to tee", SEEN_AUTO_TEE, by_itself },
  { "modes", "auto among the other modes", SEEN_SYNCED_AGAIN, modes },
  { "detect", "data is sent as zeroes", SEEN_DETECTED, detect },
  { "skip", "zeroes are not sent", SEEN_SKIPPED, skip },
  { "is-zero", "the target is zero", SEEN_SKIPPED, is_zero },
  { "defer", "flushes stay with the source", SEEN_SYNCED, defer },
  { NULL, NULL, NR_WITNESSES, NULL },
};

const struct scenario *
scenario_find (const char *name)
{
  const struct scenario *s;

  for (s = scenarios; s->name; s++)
    if (strcmp (s->name, name) == 0)
      return s;
  return NULL;
}
