/* SPDX-License-Identifier: BSD-3-Clause */
/* Named profiles: targets that go, come back, hang or fail; see scenarios.h. */

#include <config.h>

#include "scenarios.h"

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
