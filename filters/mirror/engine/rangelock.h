/* SPDX-License-Identifier: BSD-3-Clause */
/* Exclusive locks on byte ranges of the disk, served in order of arrival.
 *
 * Thread-safe.  A range is granted when no earlier range, held or waiting,
 * overlaps it.  So a copier that waits for a busy range is not starved by
 * later client writes, and two overlapping client writes go to both legs one
 * after the other (rules I5, I10).
 *
 * A thread holds at most one range lock and a holder waits only for I/O;
 * that is what makes waiting free of deadlock.
 */

#ifndef MIRROR_RANGELOCK_H
#define MIRROR_RANGELOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"
#include "sync.h"

struct rangelocks;

/* The caller's, usually on its stack; all fields are rangelock.c's. */
struct rangelock {
  struct range range;
  struct rangelock *prev, *next;
  unsigned blockers;            /* earlier overlapping ranges; 0 = held */
  struct cond granted;
};

extern struct rangelocks *rangelocks_new (void);        /* NULL: ENOMEM */
extern void rangelocks_free (struct rangelocks *rls);   /* nothing held */

/* Lock r, which must not be empty; blocks.  *lk is the callee's until
 * rangelock_unlock.  Returns true if it had to wait.
 */
extern bool rangelock_lock (struct rangelocks *rls, struct rangelock *lk,
                            struct range r);

/* Lock a prefix of r: the longest that is free of holders and of waiters, cut
 * to a multiple of align, without waiting; if not even `align` bytes (or all
 * of a shorter r) are free, wait in line for the first of them.  r.start must
 * be a multiple of align.  lk->range says what was locked.
 */
extern void rangelock_lock_prefix (struct rangelocks *rls,
                                   struct rangelock *lk, struct range r,
                                   uint64_t align);

extern void rangelock_unlock (struct rangelocks *rls, struct rangelock *lk);

/* Call fn for every range, held or waiting, in order of arrival, under the
 * internal mutex.  For tests and asserts.
 */
extern void rangelocks_foreach (struct rangelocks *rls,
                                void (*fn) (void *opaque, struct range r,
                                            bool held),
                                void *opaque);

#endif /* MIRROR_RANGELOCK_H */
