/* SPDX-License-Identifier: BSD-3-Clause */
/* Named profiles: the intent file, kills and restarts; see scenarios.h. */

#include <config.h>

#include "scenarios.h"

/* A file, of which nothing goes wrong; small regions, so that some retire. */
static void
with_file (struct profile *p)
{
  scenario_calm (p);
  p->intent = true;
  p->region_shift = (unsigned) draw (3);
  p->needs_flush = true;
  p->granularity = 512;
  p->block = 1;
  p->granules = 6 + (unsigned) draw (12);
  p->clients = 3;
  p->ops = 30;
  p->flushes = 5;
  p->orders = 8;
}

/* What is dirty must not retire: requests track, and are copied late. */
void
scenario_h8a (struct profile *p)
{
  with_file (p);
  p->write_blocking_percent = 20;
  p->equal = true;
  p->mode_percent = 40;
  p->pause_percent = 30;
  p->faults.target_error = (unsigned) draw (2) * 10;
}

/* ... nor what a copier has cleared and not yet copied. */
void
scenario_h8b (struct profile *p)
{
  with_file (p);
  p->write_blocking_percent = 30;
  p->data_percent = 100;
  p->faults.target_slow = 40;
}

/* ... nor where a request has begun, and waits for its range lock. */
void
scenario_h8c (struct profile *p)
{
  with_file (p);
  p->clients = 4;
  p->equal = true;
  p->hot_granules = 4;
  p->faults.target_slow = 20;
  p->faults.source_slow = 20;
}

/* A request begins while its region is being taken out of the file. */
void
scenario_h8d (struct profile *p)
{
  with_file (p);
  p->clients = 4;
  p->equal = true;
  p->intent_faults.slow = 30;
}

/* D grows without a write: full starts, another target, repairs; and requests
 * pass without W between jobs.
 */
void
scenario_h9 (struct profile *p)
{
  with_file (p);
  p->restart_percent = 30;
  p->restart_at_once = draw (2);
  p->none_percent = 30;
  p->lose_percent = 30;
  p->replace_percent = (unsigned) draw (2) * 50;
  p->verify_percent = 60;
  p->settle_percent = 50;
  p->policy_percent = 30;
  p->detach_percent = 10;
  p->faults.target_error = (unsigned) draw (2) * 3;
}

/* Nobody knows whether the commit record is in the file. */
void
scenario_h10 (struct profile *p)
{
  with_file (p);
  p->equal = true;
  p->pivot_percent = 60;
  p->settle_percent = 80;
  p->kills = 2;
  p->cut_intent = 50;
  p->intent_faults.write_error = (unsigned) draw (2) * 20;
  p->intent_faults.sync_error = (unsigned) draw (2) * 30;
  p->intent_faults.destroy_error = (unsigned) draw (3) * 50;
}

/* After a pivot: lost sessions, and restarts that must give the new disk. */
void
scenario_h19 (struct profile *p)
{
  with_file (p);
  p->equal = true;
  p->orders = 12;
  p->reads = 20;
  p->pivot_percent = 50;
  p->settle_percent = 80;
  p->lose_percent = 20;
  p->power_cut = 50;
  p->kills = 2;
  p->cut_target = p->cut_source = p->cut_intent = 30;
}

void
scenario_kill (struct profile *p)
{
  with_file (p);
  p->kills = 3;
  p->orders = 20;
  p->equal = draw (2);
  p->mode_percent = 20;
  p->faults.target_slow = p->faults.source_slow = 20;
  p->faults.ghost = (unsigned) draw (2) * 60;
}

/* What it had under way comes late, also at the source. */
void
scenario_kill_late (struct profile *p)
{
  scenario_kill (p);
  p->hot_granules = 3;
  p->aligned_percent = 60;
  p->faults.target_slow = p->faults.source_slow = 60;
  p->faults.ghost = 90;
}

/* Power cuts come with it, of one disk, of some, or of all. */
void
scenario_cut (struct profile *p)
{
  scenario_kill (p);
  p->flushes = 20;
  p->fua_percent = 10;
  p->cut_source = (unsigned) draw (3) * 50;
  p->cut_target = (unsigned) draw (3) * 50;
  p->cut_intent = (unsigned) draw (3) * 50;
  p->intent_faults.torn = 50;
  p->intent_faults.evict = (unsigned) draw (2) * 10;
}

/* The source fails flushes and has lost what it had acknowledged, at once or
 * when that is evicted; and then the process is killed.
 */
void
scenario_taken_back (struct profile *p)
{
  scenario_kill (p);
  p->flushes = 20;
  p->faults.source_error = 8;
  p->faults.drop = 60;
}

/* In each step of a pivot. */
void
scenario_kill_pivot (struct profile *p)
{
  with_file (p);
  p->equal = true;
  p->reads = 20;
  p->orders = 12;
  p->pivot_percent = 70;
  p->settle_percent = 80;
  p->kills = 3;
  p->cut_source = p->cut_target = p->cut_intent = (unsigned) draw (3) * 50;
}

/* Killed and ended in order, in turn. */
void
scenario_restart (struct profile *p)
{
  with_file (p);
  p->reads = 10;
  p->orders = 10;
  p->settle_percent = 30;
  p->shutdown_percent = 30;
  p->pivot_percent = (unsigned) draw (2) * 20;
  p->lose_percent = 30;
  p->kills = (unsigned) draw (2);
  p->faults.ghost = 60;
  p->faults.target_slow = 20;
}

/* Ends of a job that are answered, then a kill. */
void
scenario_kill_ends (struct profile *p)
{
  with_file (p);
  p->orders = 12;
  p->restart_percent = 30;
  p->detach_percent = 30;
  p->settle_percent = 60;
  p->policy_percent = 50;
  p->fence_percent = 40;
  p->keep_percent = 50;
  p->kills = 3;
  p->cut_intent = 50;
  p->faults.target_error = 5;
}

/* The file fails, and is given up. */
void
scenario_file_lost (struct profile *p)
{
  scenario_kill (p);
  p->cut_intent = 50;
  p->restart_percent = 20;
  p->shutdown_percent = (unsigned) draw (2) * 20;
  p->fence_percent = 20;
  p->intent_faults.read_error = 5;
  p->intent_faults.write_error = (unsigned) draw (2) * 10;
  p->intent_faults.sync_error = 5;
  p->intent_faults.slow = 10;
}

/* ... and cannot even be removed. */
void
scenario_file_broken (struct profile *p)
{
  scenario_file_lost (p);
  p->kills = p->shutdown_percent = 0;
  p->intent_faults.read_error = 0;
  p->file_fails_late = true;
  p->intent_faults.write_error = p->intent_faults.sync_error = 70;
  p->intent_faults.destroy_error = 95;
}
