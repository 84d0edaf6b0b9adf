/* SPDX-License-Identifier: BSD-3-Clause */
/* Named profiles: targets that go, come back, hang or fail; see scenarios.h. */

#include <config.h>

#include "scenarios.h"

/* A tee is cut off; the next session writes the same bytes; then the old
 * write arrives.
 */
void
scenario_h7 (struct profile *p)
{
  scenario_calm (p);
  p->clients = 2;
  p->ops = 60;
  p->granules = 4;
  p->hot_granules = 1;
  p->aligned_percent = 90;
  p->equal = true;
  p->orders = 8;
  p->lose_percent = 60;
  p->needs_flush = true;
  p->faults.target_slow = 30;
  p->faults.ghost = 90;
}

/* A source that fails a flush has lost what it had acknowledged. */
void
scenario_h18 (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 30;
  p->flushes = 20;
  p->fua_percent = 0;
  p->equal = true;
  p->orders = 6;
  p->mode_percent = 40;
  p->settle_percent = 40;
  p->faults.source_error = 10;
  p->faults.drop = 60;
}

/* What it has failed it does late, maybe when there is another job. */
void
scenario_h18_failed (struct profile *p)
{
  scenario_h18 (p);
  p->ops = 50;
  p->restart_percent = 50;
  p->early_percent = 0;
  p->faults.source_error = 20;
  p->faults.source_slow = 20;
  p->faults.ghost = 80;
}

/* The disk that clients were moved to fails, and what it has written back
 * around the request is anything.
 */
void
scenario_pivot_block (struct profile *p)
{
  scenario_pivot_back (p);
  p->granularity = p->block = 4096;     /* the next job's is often less */
  p->granules = 3;
  p->aligned_percent = 0;
  p->no_flush = false;
  p->faults.target_error = 5;
}

/* It is lost, and a block that it was writing back it writes back late. */
void
scenario_pivot_ghosts (struct profile *p)
{
  scenario_pivot_block (p);
  p->ops = 60;
  p->reads = 30;
  p->orders = 4;
  p->pivot_percent = 100;
  p->restart_percent = 0;
  p->lose_percent = 30;
  p->power_cut = 0;
  p->faults.target_error = 0;
  p->faults.target_slow = 30;
  p->faults.loss_permille = 10;
  p->faults.power_cut = 0;
  p->faults.ghost = 80;
}

/* It hangs. */
void
scenario_pivot_hangs (struct profile *p)
{
  scenario_pivot_back (p);
  p->flushes = 10;
  p->faults.stuck = 3;
}

/* Clients are moved to a disk that nobody can flush, and it loses what it had
 * been given before.
 */
void
scenario_pivot_cut (struct profile *p)
{
  scenario_pivot_back (p);
  p->ops = 10;
  p->no_flush = true;
  p->needs_flush = false;
  p->lose_percent = 60;
  p->power_cut = 100;
  p->faults.loss_permille = 3;
  p->faults.power_cut = 100;
}

/* The target goes and comes back, and what it had not done comes late. */
void
scenario_ghosts (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 40;
  p->orders = 10;
  p->equal = draw (2);
  p->lose_percent = 50;
  p->settle_percent = 30;
  p->mode_percent = 30;
  p->pivot_percent = 20;
  p->needs_flush = true;
  p->faults.loss_permille = 5;
  p->faults.target_slow = 40;
  p->faults.ghost = 80;
}

/* It comes back while requests have changed the source, but have not marked
 * that yet.
 */
void
scenario_back (struct profile *p)
{
  scenario_ghosts (p);
  p->granules = p->hot_granules = 20;   /* some are clean all the while */
  p->equal = true;
  p->pivot_percent = 0;
  p->meddler = draw (2);        /* gives orders while it is looked at */
  p->faults.ghost = 0;
  p->faults.source_slow = 80;
}

/* Another disk has its address when it comes back. */
void
scenario_another (struct profile *p)
{
  scenario_calm (p);
  p->clients = 2;
  p->ops = 30;
  p->orders = 8;
  p->lose_percent = 60;
  p->settle_percent = 50;
  p->needs_flush = true;
  p->block = 1;
  p->replace_percent = 70;
  p->faults.target_slow = 20;
}

/* It does not go, but does not answer. */
void
scenario_hung (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 30;
  p->orders = 6;
  p->flushes = 10;
  p->faults.stuck = 3;
  p->faults.ghost = (unsigned) draw (2) * 50;
}

/* Errors make the job fail, or stop until it is resumed. */
void
scenario_policy (struct profile *p)
{
  scenario_calm (p);
  p->clients = 3;
  p->ops = 40;
  p->orders = 12;
  p->policy_percent = 90;
  p->pause_percent = 30;
  p->lose_percent = 10;
  p->keep_percent = 30;
  p->pivot_percent = 10;
  p->faults.target_error = 3;
  p->faults.source_error = (unsigned) draw (2) * 3;
  p->faults.flush_error = (unsigned) draw (2) * 10;
}
