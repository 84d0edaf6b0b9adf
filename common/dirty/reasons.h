/* SPDX-License-Identifier: BSD-3-Clause */
/* N, the number of reasons not to be synced (rule I8).
 *
 * One atomic number.  A reason is: each dirty granule, each claim (a copy or
 * request that has cleared a set bit and has not ended), each track request
 * in flight, an unfinished scan, no session, and - as a bit of its own, since
 * *ready* in background mode does without it - a mode other than
 * write-blocking.
 *
 * Every change raises before it lowers, so N never reads 0 while something
 * moves from one reason to another.
 *
 * "During all of a flush N was 0" cannot be seen by looking at both ends.
 * `breaks` counts how often N has left 0; a raise bumps it before it returns,
 * and nobody can lower N back to 0 before that raise has returned (the same
 * thread lowers, or a lock that the raiser holds orders the two).  So if N is
 * 0 and then `breaks` still has the value it had at the start, N was 0 all
 * the while.
 *
 * All functions are lock-free and thread-safe.
 */

#ifndef MIRROR_REASONS_H
#define MIRROR_REASONS_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sync.h"

/* The mode is not write-blocking.  Above any count: a disk has at most 2^54
 * granules.
 */
#define REASON_MODE (UINT64_C (1) << 62)

struct reasons {
  _Atomic uint64_t n;
  _Atomic uint64_t breaks;
};

static inline void
reasons_init (struct reasons *r)
{
  atomic_init (&r->n, 0);
  atomic_init (&r->breaks, 0);
}

static inline uint64_t
reasons_count (uint64_t n)
{
  return n & ~REASON_MODE;
}

/* Add k reasons, k > 0. */
static inline void
reasons_raise (struct reasons *r, uint64_t k)
{
  uint64_t old = atomic_fetch_add (&r->n, k);

  assert (k > 0);
  sync_point ();
  if (reasons_count (old) == 0)
    atomic_fetch_add (&r->breaks, 1);
}

/* Take back k reasons that were raised before. */
static inline void
reasons_lower (struct reasons *r, uint64_t k)
{
  uint64_t old = atomic_fetch_sub (&r->n, k);

  assert (reasons_count (old) >= k);
  (void) old;
  sync_point ();
}

/* Caller serialises changes of the mode. */
static inline void
reasons_set_mode (struct reasons *r, bool write_blocking)
{
  if (write_blocking)
    atomic_fetch_and (&r->n, ~REASON_MODE);
  else {
    atomic_fetch_or (&r->n, REASON_MODE);
    sync_point ();
    atomic_fetch_add (&r->breaks, 1);
  }
}

/* Is there no reason now; with_mode = false overlooks the mode. */
static inline bool
reasons_none (struct reasons *r, bool with_mode)
{
  uint64_t n = atomic_load (&r->n);

  return with_mode ? n == 0 : reasons_count (n) == 0;
}

static inline uint64_t
reasons_breaks (struct reasons *r)
{
  return atomic_load (&r->breaks);
}

#endif /* MIRROR_REASONS_H */
