/* SPDX-License-Identifier: BSD-3-Clause */
/* Random profiles; see scenarios.h.
 *
 * Profiles are drawn by a generator of their own, so that the order in which
 * a run draws does not change its profile.
 */

#include <config.h>

#include <string.h>

#include "scenarios.h"

static uint64_t state;

uint64_t
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
  f->ghost = (unsigned) draw (3) * 40;
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

static void
draw_switches (struct profile *p)
{
  p->reads = (unsigned) draw (3) * 15;
  p->keep_percent = (unsigned) draw (3) * 50;
  p->policy_percent = draw (4) == 0 ? 60 : 0;
  p->no_flush = draw (8) == 0;
  p->pause_percent = sometimes (30);
  p->pivot_percent = (unsigned) draw (3) * 25;
  p->detach_percent = sometimes (30);
  p->hold_percent = sometimes (30);
  p->fence_percent = sometimes (30);
  p->reopen_percent = (unsigned) draw (3) * 30;
}

static void
draw_file (struct profile *p)
{
  if (draw (2))
    return;
  p->intent = true;
  p->region_shift = (unsigned) draw (3);
  p->kills = (unsigned) draw (4);
  p->shutdown_percent = sometimes (20);
  p->cut_source = (unsigned) draw (3) * 40;
  p->cut_target = (unsigned) draw (3) * 40;
  p->cut_intent = (unsigned) draw (3) * 40;
  if (draw (3) > 0)
    return;
  p->intent_faults = (struct intent_faults) {
    .read_error = sometimes (10), .write_error = sometimes (20),
    .sync_error = sometimes (20), .destroy_error = (unsigned) draw (3) * 45,
    .slow = sometimes (30), .evict = sometimes (20), .torn = 50,
  };
  p->file_fails_late = draw (2);
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
  draw_switches (p);
  p->restart_at_once = draw (2);
  p->meddler = draw (3) == 0;
  p->early_percent = 50;
  draw_faults (&p->faults);
  if (scenario)
    scenario->change (p);
  else
    p->verify_percent = sometimes (60);
  if (!scenario)
    draw_file (p);
  /* Who waits for a barrier is the one who ends the faults. */
  if (p->hold_percent > 0)
    p->faults.stuck = 0;
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
