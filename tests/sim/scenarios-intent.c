/* SPDX-License-Identifier: BSD-3-Clause */
/* Named profiles: the intent file, kills and restarts; see scenarios.h. */

#include <config.h>

#include "scenarios.h"

/* Nothing goes wrong with the file, and nobody is killed. */
static void
with_file (struct profile *p)
{
  scenario_calm (p);
  p->intent = true;
  p->region_shift = (unsigned) draw (2);
  p->needs_flush = true;
  p->granules = 8 + (unsigned) draw (8);
  p->granularity = 512;
  p->block = 1;
}

void
scenario_intent (struct profile *p)
{
  with_file (p);
  p->clients = 3;
  p->ops = 30;
  p->orders = 8;
}

void
scenario_kill (struct profile *p)
{
  scenario_intent (p);
  p->kills = 2;
}
