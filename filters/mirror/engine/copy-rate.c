/* SPDX-License-Identifier: BSD-3-Clause */
/* See copy-rate.h. */

#include <config.h>

#include "copy-rate.h"

void
copy_rate_init (struct copy_rate *r, uint64_t speed, uint64_t now_ns)
{
  r->speed = speed;
  r->hurry = false;
  r->taken = 0;
  yield_init (&r->yield, now_ns);
  pace_init (&r->pace, speed ? speed : r->yield.rate, now_ns);
}

void
copy_rate_set (struct copy_rate *r, uint64_t speed, uint64_t now_ns)
{
  r->speed = speed;
  yield_init (&r->yield, now_ns);
  pace_set_rate (&r->pace, speed ? speed : r->yield.rate, now_ns);
}

void
copy_rate_hurry (struct copy_rate *r, bool hurry, uint64_t now_ns)
{
  r->hurry = hurry;
  if (r->speed == 0)            /* what was taken meanwhile is not owed */
    pace_set_rate (&r->pace, r->yield.rate, now_ns);
}

static struct yield_sums
sums_now (const struct copy_rate *r, struct pair *p)
{
  struct yield_sums s = {
    .taken = r->taken, .dirtied = atomic_load (&p->counters.dirtied_bytes),
  };

  latency_add_fine (p->latency, LATENCY_READ, &s.clients);
  latency_add_fine (p->latency, LATENCY_WRITE, &s.clients);
  return s;
}

static void
look (struct copy_rate *r, struct pair *p, bool caught_up, bool busy,
      uint64_t now_ns)
{
  const uint64_t rate = r->yield.rate;
  const enum yield_phase phase = r->yield.phase;
  const struct yield_sums sums = sums_now (r, p);

  yield_look (&r->yield, &sums, caught_up, busy, now_ns);
  /* What has been saved up in a quiet window would be a burst. */
  if (r->yield.rate != rate || r->yield.phase != phase)
    pace_set_rate (&r->pace, r->yield.rate, now_ns);
}

uint64_t
copy_rate_delay_ns (struct copy_rate *r, struct pair *p, bool caught_up,
                    bool busy, uint64_t now_ns)
{
  if (r->speed == 0) {
    if (r->hurry)
      return 0;
    if (now_ns >= r->yield.due_ns)
      look (r, p, caught_up, busy, now_ns);
    if (r->yield.phase != YIELD_COPY)
      return r->yield.due_ns - now_ns;
  }
  return pace_delay_ns (&r->pace, now_ns);
}

void
copy_rate_take (struct copy_rate *r, uint64_t bytes, uint64_t now_ns)
{
  r->taken += bytes;
  pace_take (&r->pace, bytes, now_ns);
}

void
copy_rate_quiet (struct copy_rate *r, struct pair *p, uint64_t now_ns)
{
  struct yield_sums sums;

  if (r->yield.phase != YIELD_DRAIN)
    return;
  sums = sums_now (r, p);
  yield_drained (&r->yield, &sums, now_ns);
}
