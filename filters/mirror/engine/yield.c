/* SPDX-License-Identifier: BSD-3-Clause */
/* See yield.h. */

#include <config.h>

#include <string.h>

#include "yield.h"

#define NS_PER_S UINT64_C (1000000000)

/* A window ends when it has seen so many requests: enough to tell one of a
 * hundred from two; or before, when so many are slow that they will be too many
 * then.  While starting less is enough: there one of twenty is to be told.
 */
#define ENOUGH 500u
#define ENOUGH_STARTING 100u
#define TOO_MANY(enough) ((enough) / 100 + 1)

/* That few are chance. */
#define CHANCE 2u

/* Or after that time.  Who asks less often than FEW in it does not count. */
#define WINDOW_NS NS_PER_S
#define QUIET_NS (NS_PER_S / 4)
#define FEW 8u

/* No statement about more than that: copiers slept meanwhile. */
#define STALE_NS (3 * NS_PER_S)

void
yield_init (struct yield *y, uint64_t now_ns)
{
  memset (y, 0, sizeof *y);
  y->rate = YIELD_FIRST;
  y->began_ns = now_ns;
  y->due_ns = now_ns + YIELD_LOOK_NS;
}

static uint64_t
count_of (const struct latency_fine *l)
{
  uint64_t n = 0;
  unsigned i;

  for (i = 0; i < LATENCY_FINE; ++i)
    n += l->counts[i];
  return n;
}

static struct latency_fine
difference (const struct latency_fine *now, const struct latency_fine *then)
{
  struct latency_fine d;
  unsigned i;

  for (i = 0; i < LATENCY_FINE; ++i)
    d.counts[i] = now->counts[i] - then->counts[i];
  return d;
}

static void
begin_window (struct yield *y, enum yield_phase phase,
              const struct yield_sums *sums, uint64_t now_ns)
{
  y->phase = phase;
  y->began = *sums;
  y->began_ns = now_ns;
  y->due_ns = now_ns + YIELD_LOOK_NS;
}

/* How many took longer than what is slow. */
static uint64_t
slow_of (const struct yield *y, const struct latency_fine *seen)
{
  uint64_t n = 0;
  unsigned i;

  for (i = LATENCY_FINE; i > 0 && latency_fine_ns (i - 1) > y->slow_ns; --i)
    n += seen->counts[i - 1];
  return n;
}

/* A quiet window has ended: what is slow from now on. */
static void
learn (struct yield *y, const struct latency_fine *seen)
{
  uint64_t n, above = 0;
  unsigned i;

  for (i = 0; i < LATENCY_FINE; ++i)
    y->base.counts[i] = y->base.counts[i] / 2 + seen->counts[i];
  n = count_of (&y->base);
  for (i = LATENCY_FINE - 1; i > 0; --i) {
    above += y->base.counts[i];
    if (above * 100 > n)
      break;
  }
  y->slow_ns = latency_fine_ns (i) / 100 * YIELD_PERCENT;
}

static uint64_t
per_second (uint64_t bytes, uint64_t ns)
{
  return (uint64_t) ((double) bytes * 1e9 / (double) ns);
}

static bool
is_too_slow (uint64_t slow, uint64_t n)
{
  return slow > CHANCE && slow * 100 > n;
}

/* After a window with copying: a new rate. */
static void
adapt (struct yield *y, const struct yield_sums *sums, uint64_t slow,
       uint64_t n, bool caught_up, uint64_t ns)
{
  const uint64_t taken = per_second (sums->taken - y->began.taken, ns);
  uint64_t least = YIELD_LEAST;

  if (is_too_slow (slow, n)) {
    y->starting = false;
    if (y->rate == 0 || y->rate > 2 * taken)
      y->rate = taken ? taken : 1;      /* 0 is no limit */
    y->rate -= y->rate / (slow * 25 > n ? 2 : 4);
  }
  /* A limit that is far from being reached need not grow. */
  else if (y->rate != 0 && taken >= y->rate / 2)
    y->rate += y->starting ? y->rate : y->rate / 8;

  if (caught_up)
    least += 2 * per_second (sums->dirtied - y->began.dirtied, ns);
  if (y->rate != 0 && y->rate < least)
    y->rate = least;
}

static void
end_copy_window (struct yield *y, const struct yield_sums *sums, uint64_t slow,
                 uint64_t n, bool caught_up, bool busy, uint64_t now_ns)
{
  if (n < FEW) {
    y->rate = 0;
    y->slow_ns = 0;             /* who comes then may be somebody else */
  }
  else if (y->slow_ns != 0)
    adapt (y, sums, slow, n, caught_up, now_ns - y->began_ns);

  if (n >= FEW && (y->slow_ns == 0 || ++y->windows >= YIELD_CYCLE)) {
    y->windows = 0;
    begin_window (y, busy ? YIELD_DRAIN : YIELD_QUIET, sums, now_ns);
  }
  else
    begin_window (y, YIELD_COPY, sums, now_ns);
}

static void
end_quiet_window (struct yield *y, const struct yield_sums *sums,
                  const struct latency_fine *seen, uint64_t n, uint64_t now_ns)
{
  if (n >= FEW) {
    if (y->slow_ns == 0) {
      memset (&y->base, 0, sizeof y->base);
      y->rate = YIELD_FIRST;
      y->starting = true;
    }
    learn (y, seen);
  }
  begin_window (y, YIELD_COPY, sums, now_ns);
}

void
yield_look (struct yield *y, const struct yield_sums *sums, bool caught_up,
            bool busy, uint64_t now_ns)
{
  const uint64_t ns = now_ns - y->began_ns;
  const uint64_t enough = y->starting ? ENOUGH_STARTING : ENOUGH;
  struct latency_fine seen;
  uint64_t n, slow;

  y->due_ns = now_ns + YIELD_LOOK_NS;
  if (y->phase == YIELD_DRAIN)
    return;
  if (ns > STALE_NS) {
    begin_window (y, YIELD_COPY, sums, now_ns);
    return;
  }
  seen = difference (&sums->clients, &y->began.clients);
  n = count_of (&seen);
  if (y->phase == YIELD_QUIET) {
    if (n < ENOUGH && ns < QUIET_NS)
      return;
    end_quiet_window (y, sums, &seen, n, now_ns);
    return;
  }

  if (n == 0 && y->slow_ns == 0)
    y->rate = 0;
  slow = y->slow_ns ? slow_of (y, &seen) : 0;
  if (n < (y->slow_ns ? enough : FEW) && ns < WINDOW_NS &&
      slow <= TOO_MANY (enough))
    return;
  end_copy_window (y, sums, slow, n, caught_up, busy, now_ns);
}

void
yield_drained (struct yield *y, const struct yield_sums *sums,
               uint64_t now_ns)
{
  if (y->phase == YIELD_DRAIN)
    begin_window (y, YIELD_QUIET, sums, now_ns);
}
