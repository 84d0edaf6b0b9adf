/* SPDX-License-Identifier: BSD-3-Clause */
/* Which blocks of the disk are being written.
 *
 * A request that changes part of a block reads it, and writes all of it back
 * (read-modify-write): it holds its blocks exclusively.  One that writes whole
 * blocks, or leaves it to the kernel what becomes of parts, holds them shared.
 * So two requests wait for each other only if they meet in a block and one of
 * them would write back what it has not been asked to write.
 */

#ifndef MIRROR_BLOCKLOCK_H
#define MIRROR_BLOCKLOCK_H

#include <stdbool.h>

#include "range.h"
#include "sync.h"

/* One request that holds blocks, or waits for them.  On the stack of its
 * thread; must not be touched between acquire and release.
 */
struct blockhold {
  struct range blocks;
  bool exclusive;
  struct blockhold *prev, *next;
};

struct blocklock {
  struct mutex lock;
  /* Protected by lock: */
  struct cond changed;
  struct blockhold *first, *last;       /* in the order of their coming */
  unsigned waiters;
};

extern void blocklock_init (struct blocklock *l);
extern void blocklock_destroy (struct blocklock *l);

/* Wait until no request that came before meets these blocks, unless both are
 * shared.  A thread must hold at most one range.
 */
extern void blocklock_acquire (struct blocklock *l, struct blockhold *h,
                               struct range blocks, bool exclusive)
  __attribute__ ((__nonnull__ (1, 2)));
extern void blocklock_release (struct blocklock *l, struct blockhold *h)
  __attribute__ ((__nonnull__ (1, 2)));

#endif /* MIRROR_BLOCKLOCK_H */
