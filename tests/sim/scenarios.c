/* SPDX-License-Identifier: BSD-3-Clause */
/* The named profiles; see scenarios.h. */

#include <config.h>

#include <stdio.h>
#include <string.h>

#include "scenarios.h"

/* Small, write-blocking from the start, no faults but the ones set here. */
void
scenario_calm (struct profile *p)
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
  p->pause_percent = p->pivot_percent = p->detach_percent = 0;
  p->hold_percent = p->fence_percent = p->keep_percent = 0;
  p->no_flush = false;
  p->policy_percent = 0;
}

/* A tee that clears after its I/O clears what the loss has marked. */
void
scenario_h1d (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_h1a (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_h2b (struct profile *p)
{
  scenario_calm (p);
  p->granules = 3;
  p->clients = 1;
  p->ops = 3;
  p->equal = false;
  p->data_percent = 100;
}

/* Small writes to what is dirty, while copies are under way. */
void
scenario_left (struct profile *p)
{
  scenario_calm (p);
  p->granules = 5;
  p->hot_granules = 2;
  p->aligned_percent = 20;
  p->clients = 3;
  p->ops = 12;
  p->equal = false;
  p->data_percent = 100;
  p->faults.source_slow = p->faults.target_slow = 30;
  p->faults.target_error = 10;
}

/* Synced only when a target flush has followed what was copied. */
void
scenario_h3 (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_bad_flush (struct profile *p)
{
  scenario_calm (p);
  p->flushes = 30;
  p->needs_flush = true;
  p->equal = true;
  p->faults.source_slow = 40;
  p->faults.flush_error = 30;
}

/* What is acknowledged while a flush is under way does not leave U with it. */
void
scenario_h5 (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_h6 (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_h11 (struct profile *p)
{
  scenario_calm (p);
  p->clients = 4;
  p->ops = 20;
  p->orders = 12;
  p->restart_percent = 70;
  p->early_percent = 0;
  p->write_blocking_percent = 50;
  p->faults.source_slow = 40;
}

/* ... and zero what a tee of the new job has written. */
void
scenario_zeroes_late (struct profile *p)
{
  scenario_h11 (p);
  p->granules = 3;
  p->hot_granules = 1;
  p->writes = 30;
  p->zeroes = 60;
  p->aligned_percent = 60;
  p->write_blocking_percent = 100;
  p->is_zero_percent = 50;
}

/* Ready is reached although clients never stop. */
void
scenario_h13 (struct profile *p)
{
  scenario_calm (p);
  p->clients = 4;
  p->ops = 60;
  p->settle_percent = 100;
  p->faults.source_slow = 0;
}

/* Few marks, copiers that sleep most of the time: a wakeup that is missed is
 * not made good by the next one.
 */
void
scenario_wake (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_block (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_block_fails (struct profile *p)
{
  scenario_block (p);
  p->mode_percent = 30;
  p->faults.target_error = 20;
  p->faults.source_error = 5;
  p->faults.loss_permille = 2;
}

/* The largest block there is; the source ends within one. */
void
scenario_block_64k (struct profile *p)
{
  scenario_block (p);
  p->clients = 2;
  p->ops = 6;
  p->granularity = p->block = 64 << 10;
  p->granules = 2;
  p->hot_granules = 2;
  p->orders = 2;
}

/* Sync none under load: nobody is lost between no job and the job. */
void
scenario_none (struct profile *p)
{
  scenario_h11 (p);
  p->trims = 10;
  p->none_percent = 100;
  p->faults.source_slow = 15;
}

/* ... and older requests take longer than clients may be held. */
void
scenario_none_late (struct profile *p)
{
  scenario_none (p);
  p->clients = 3;
  p->max_pause_ms = 20;
  p->faults.source_slow = 60;
}

/* Mode auto tees by itself, although clients never stop. */
void
scenario_by_itself (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 40;
  p->auto_percent = 100;
  p->settle_percent = 100;
  p->orders = 4;
}

/* Switches among all three modes. */
void
scenario_modes (struct profile *p)
{
  scenario_calm (p);
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
void
scenario_detect (struct profile *p)
{
  scenario_calm (p);
  p->granules = p->granularity < 4096 ? 12 : 3;
  p->data_percent = 50;
  p->detect_percent = 100;
  p->write_blocking_percent = 50;
  p->mode_percent = 30;
}

/* A zero is not sent where the target reads as zero anyhow. */
void
scenario_skip (struct profile *p)
{
  scenario_calm (p);
  p->zeroes = 50;
  p->trims = 20;
  p->data_percent = 40;
  p->detect_percent = 50;
  p->write_blocking_percent = 30;
  p->mode_percent = 30;
  p->needs_flush = true;
  p->faults.evict = 10;
  p->faults.flush_error = (unsigned) draw (2) * 60;
  p->faults.target_error = (unsigned) draw (2) * 20;
}

/* The target reads as zero where the source does - at the start, no longer. */
void
scenario_is_zero (struct profile *p)
{
  scenario_skip (p);
  p->is_zero_percent = 100;
  p->early_percent = 50;
  p->restart_percent = 30;
}

/* Flushes and FUA of clients stay with the source. */
void
scenario_defer (struct profile *p)
{
  scenario_calm (p);
  p->flushes = 30;
  p->fua_percent = 30;
  p->defer_percent = 100;
  p->needs_flush = true;
  p->faults.evict = 20;
}

/* Clients are moved under load. */
void
scenario_pivot (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 30;
  p->reads = 25;
  p->flushes = 10;
  p->zeroes = 10;
  p->needs_flush = true;
  p->write_blocking_percent = 50;
  p->orders = 4;
  p->settle_percent = 100;
  p->pivot_percent = 60;
  p->keep_percent = 30;
  p->reopen_percent = 30;
}

/* ... but the target is lost, or a flush fails or hangs, or the time is too
 * short; and the clients go on with the source.
 */
void
scenario_pivot_fails (struct profile *p)
{
  scenario_pivot (p);
  p->orders = 10;
  p->pivot_percent = 90;
  p->max_pause_ms = draw (2) ? 30 : 0;
  p->lose_percent = 20;
  p->pause_percent = (unsigned) draw (2) * 30;
  p->restart_at_once = true;
  p->faults.flush_error = 40;
  p->faults.source_error = (unsigned) draw (2) * 10;
  p->faults.flush_slow = 60;
  p->faults.source_slow = 30;
  p->faults.stuck = (unsigned) draw (2) * 3;
  p->faults.loss_permille = (unsigned) draw (2) * 10;
  p->faults.power_cut = 50;
}

/* From the source to the target and back again. */
void
scenario_pivot_back (struct profile *p)
{
  scenario_pivot (p);
  p->flushes = 0;       /* they would make good what has been forgotten */
  p->ops = 40;
  p->orders = 10;
  p->pivot_percent = 80;
  p->block = draw (2) ? 1 : 512;
  p->aligned_percent = 30;
  p->equal = true;
}

/* The clients' disk is lost and comes back, with a job or without one. */
void
scenario_pivot_lost (struct profile *p)
{
  scenario_pivot_back (p);
  p->ops = 60;
  p->orders = 12;
  p->flushes = 20;
  p->fua_percent = 10;
  p->lose_percent = 40;
  p->power_cut = 50;
  p->faults.loss_permille = 3;
  p->faults.power_cut = 50;
  p->faults.target_slow = 20;
}

/* ... again and again, with few flushes in between: what one session had not
 * flushed may be lost by the next one.
 */
void
scenario_pivot_twice (struct profile *p)
{
  scenario_pivot_lost (p);
  p->ops = 100;
  p->flushes = 8;
  p->fua_percent = 0;
  p->orders = 6;
  p->pivot_percent = 100;
  p->reopen_percent = 0;
  p->faults.loss_permille = 15;
}

/* ... and what it refuses it has done in part. */
void
scenario_pivot_partly (struct profile *p)
{
  scenario_pivot_twice (p);
  p->flushes = 4;
  p->reads = 5;
  p->write_blocking_percent = 30;
  p->faults.target_error = 8;
  p->faults.target_slow = 5;
  p->faults.ghost = 40;
}

/* It cannot be flushed now and then, and several clients want that at once. */
void
scenario_pivot_flushes (struct profile *p)
{
  scenario_pivot_back (p);
  p->clients = 3;
  p->ops = 60;
  p->flushes = 40;
  p->fua_percent = 20;
  p->reads = 20;
  p->orders = 4;
  p->pivot_percent = 100;
  p->faults.flush_error = 20;
  p->faults.flush_slow = 40;
}

void
scenario_detach (struct profile *p)
{
  scenario_pivot (p);
  p->pivot_percent = 0;
  p->detach_percent = 60;
  p->settle_percent = 50;
  p->orders = 8;
  p->faults.flush_slow = 40;
}

/* A barrier, and what happens to who waits at it. */
void
scenario_hold (struct profile *p)
{
  scenario_pivot (p);
  p->pivot_percent = 0;
  p->hold_percent = 70;
  p->fence_percent = 20;
  p->mode_percent = 20;
  p->lose_percent = 5;
  p->orders = 8;
  p->meddler = true;
  p->faults.flush_error = (unsigned) draw (2) * 20;
}

void
scenario_fence (struct profile *p)
{
  scenario_pivot (p);
  p->pivot_percent = 20;
  p->fence_percent = 70;
  p->orders = 10;
  p->faults.source_slow = 20;
  p->faults.target_slow = 20;
}

/* Two who pause and go on, and cancel. */
void
scenario_pause_and_go (struct profile *p)
{
  scenario_calm (p);
  p->clients = 2;
  p->pause_percent = 90;
  p->restart_percent = 20;
  p->pivot_percent = 10;
  p->settle_percent = 20;
  p->write_blocking_percent = 50;
  p->equal = false;
  p->data_percent = 66;
  p->meddler = true;
  p->orders = 10;
}

/* Comparing under load: a false alarm needs a granule that is clean, and a
 * write to it whose mark comes late.
 */
void
scenario_verify (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 40;
  p->granules = 4;
  p->hot_granules = 2;
  p->trims = (unsigned) draw (2) * 10;
  p->flushes = 10;
  p->equal = true;
  p->orders = 12;
  p->verify_percent = 90;
  p->mode_percent = (unsigned) draw (2) * 40;
  p->write_blocking_percent = 50;
  p->faults.source_slow = 20;
  p->faults.target_slow = 20;
}

/* ... and everything that may become of the job meanwhile. */
void
scenario_verify_fails (struct profile *p)
{
  scenario_verify (p);
  p->lose_percent = 10;
  p->power_cut = 50;
  p->restart_percent = 20;
  p->restart_at_once = true;
  p->pause_percent = 20;
  p->pivot_percent = 20;
  p->detach_percent = 10;
  p->hold_percent = 20;
  p->meddler = true;
  p->faults.source_error = (unsigned) draw (2) * 10;
  p->faults.target_error = (unsigned) draw (2) * 5;
  p->faults.flush_error = (unsigned) draw (2) * 30;
  p->faults.loss_permille = (unsigned) draw (2) * 5;
}

/* Everything that ends a job, while a piece is being compared. */
void
scenario_verify_ends (struct profile *p)
{
  scenario_verify (p);
  p->ops = 15;
  p->trims = 20;
  p->orders = 8;
  p->needs_flush = true;
  p->write_blocking_percent = 30;
  p->settle_percent = 60;
  p->restart_percent = 40;
  p->pivot_percent = 40;
  p->detach_percent = 20;
  p->faults.target_slow = 60;
}

/* A quiet disk, some of it holes, of which some bytes change. */
void
scenario_verify_repair (struct profile *p)
{
  scenario_calm (p);
  p->clients = 1;
  p->ops = 5;
  p->data_percent = 50;
  p->detect_percent = 50;
  p->is_zero_percent = 30;
  p->verify_percent = 100;
  p->write_blocking_percent = 50;
}
