/* SPDX-License-Identifier: BSD-3-Clause */
/* Token bucket with debt.
 *
 * The level rises by `rate` bytes a second up to the bucket's depth and falls
 * by what is let through, below 0 if need be.  A piece may go while the level
 * is above 0.
 *
 * Exact: what time has earned is counted in byte-nanoseconds; whole bytes go
 * to the level and the rest is kept in `remainder`.  So however often anybody
 * asks, no fraction is lost, and in the long run the rate is what was asked
 * for, down to 1 byte a second and up to 2^63-1.  A product of rate and time
 * takes 127 bits.
 *
 * Depth.  What is saved up while nobody takes anything is at most what
 * 100 ms earn: enough to make up for late timers and for a leg that stalls
 * for a moment, and too little to be felt as a burst.  It is at least 64 KiB,
 * so that slow rates save up whole pieces too.  (How far the level can go
 * below 0 does not depend on it.)
 */

#include <config.h>

#include <stdint.h>

#include "pace.h"

#define NS_PER_S UINT64_C (1000000000)
#define MIN_DEPTH (INT64_C (64) * 1024)

typedef unsigned __int128 uint128;

static int64_t
depth (uint64_t rate_bytes_per_s)
{
  int64_t d = (int64_t) (rate_bytes_per_s / 10);

  return d > MIN_DEPTH ? d : MIN_DEPTH;
}

/* Bring the level up to now. */
static void
refill (struct pace *p, uint64_t now_ns)
{
  uint128 earned, room;

  /* Threads that read the clock before they took the caller's lock may
   * come here a little out of order; what they miss the next one gets.
   */
  if (now_ns <= p->last_ns)
    return;
  earned = (uint128) p->rate_bytes_per_s * (now_ns - p->last_ns)
    + p->remainder;
  p->last_ns = now_ns;
  p->remainder = (uint64_t) (earned % NS_PER_S);
  earned /= NS_PER_S;

  /* The subtraction is done in 128 bits: the level may be near INT64_MIN. */
  room = (uint128) ((__int128) depth (p->rate_bytes_per_s) - p->level_bytes);
  if (earned >= room) {
    p->level_bytes = depth (p->rate_bytes_per_s);
    p->remainder = 0;
  }
  else
    p->level_bytes = (int64_t) (p->level_bytes + (__int128) earned);
}

void
pace_init (struct pace *p, uint64_t rate_bytes_per_s, uint64_t now_ns)
{
  pace_set_rate (p, rate_bytes_per_s, now_ns);
  p->level_bytes = depth (rate_bytes_per_s);
}

void
pace_set_rate (struct pace *p, uint64_t rate_bytes_per_s, uint64_t now_ns)
{
  p->rate_bytes_per_s = rate_bytes_per_s;
  p->last_ns = now_ns;
  p->level_bytes = 0;
  p->remainder = 0;
}

uint64_t
pace_delay_ns (struct pace *p, uint64_t now_ns)
{
  uint128 missing, delay;

  if (p->rate_bytes_per_s == 0)
    return 0;
  refill (p, now_ns);
  if (p->level_bytes > 0)
    return 0;

  /* Up to a level of 1, rounded up: then it is true that it may go. */
  missing = (uint128) (1 - (__int128) p->level_bytes) * NS_PER_S
    - p->remainder;
  delay = (missing + p->rate_bytes_per_s - 1) / p->rate_bytes_per_s;
  return delay < NS_PER_S ? (uint64_t) delay : NS_PER_S;
}

void
pace_take (struct pace *p, uint64_t bytes, uint64_t now_ns)
{
  __int128 level;

  if (p->rate_bytes_per_s == 0)
    return;
  refill (p, now_ns);
  level = (__int128) p->level_bytes - bytes;
  p->level_bytes = level < INT64_MIN ? INT64_MIN : (int64_t) level;
}
