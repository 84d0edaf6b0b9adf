/* SPDX-License-Identifier: BSD-3-Clause */
/* See rates.h. */

#include <config.h>

#include <stdatomic.h>
#include <string.h>

#include "cleanup.h"
#include "rates.h"

void
rates_init (struct rates *r, uint64_t now_ns)
{
  memset (r, 0, sizeof *r);
  mutex_init (&r->lock);
  r->points[0].when_ns = now_ns;        /* the counters begin at 0 */
  r->count = r->next = 1;
  atomic_init (&r->due_ns, now_ns + RATES_STEP_NS);
}

void
rates_destroy (struct rates *r)
{
  mutex_destroy (&r->lock);
}

bool
rates_due (const struct rates *r, uint64_t now_ns)
{
  return now_ns >= atomic_load_explicit (&r->due_ns, memory_order_relaxed);
}

void
rates_note (struct rates *r, const struct rates_point *now)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);

  if (!rates_due (r, now->when_ns))
    return;                     /* somebody else was faster */
  r->points[r->next] = *now;
  r->next = (r->next + 1) % RATES_POINTS;
  if (r->count < RATES_POINTS)
    r->count++;
  atomic_store (&r->due_ns, now->when_ns + RATES_STEP_NS);
}

/* The newest that is old enough, else the oldest. */
static const struct rates_point *
base_locked (const struct rates *r, uint64_t now_ns)
{
  const struct rates_point *p = NULL;
  unsigned i;

  for (i = 1; i <= r->count; ++i) {
    p = &r->points[(r->next + RATES_POINTS - i) % RATES_POINTS];
    if (now_ns - p->when_ns >= RATES_WINDOW_NS && now_ns >= p->when_ns)
      break;
  }
  return p;
}

/* Counters that two threads read in different order may seem to have fallen
 * by a little.
 */
static uint64_t
per_second (uint64_t then, uint64_t now, uint64_t span_ns)
{
  if (now <= then)
    return 0;
  return (uint64_t) ((double) (now - then) * 1e9 / (double) span_ns);
}

void
rates_read (struct rates *r, const struct rates_point *now,
            struct rates_result *result)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&r->lock);
  const struct rates_point *base = base_locked (r, now->when_ns);
  uint64_t span;

  memset (result, 0, sizeof *result);
  if (now->when_ns < base->when_ns + RATES_LEAST_NS)
    return;
  span = now->when_ns - base->when_ns;
  result->span_ns = span;
  result->dirtied = per_second (base->dirtied, now->dirtied, span);
  result->progress = per_second (base->progress, now->progress, span);
  result->copied = per_second (base->copied, now->copied, span);
}
