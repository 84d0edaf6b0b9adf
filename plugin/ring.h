/* SPDX-License-Identifier: BSD-3-Clause */
/* A pool of io_uring instances, and reading through one of them.
 *
 * A ring belongs to one request at a time.  Rings are not bound to threads:
 * nbdkit's threads come and go with their connections, and would each pay for
 * making one, and most requests want none at all.
 *
 * Built without liburing there is no ring: ring_probe fails with -ENOSYS and
 * ring_get returns NULL.
 */

#ifndef MIRROR_RING_H
#define MIRROR_RING_H

#include <stdbool.h>

#include "sync.h"
#include "transfer.h"

struct ring;

#define RING_POOL_MAX 64        /* rings, free or in use */

struct ring_pool {
  bool enabled;                 /* set before the first ring_get */
  unsigned depth;               /* pieces in flight in each ring, >= 1 */
  struct mutex lock;
  /* Protected by lock: */
  struct ring *free[RING_POOL_MAX];     /* the one used last is next */
  unsigned nr_free, nr_all;
};

/* Can a ring be made?  0 or -errno, as the kernel refuses it. */
extern int ring_probe (void);

extern void ring_pool_init (struct ring_pool *p, bool enabled, unsigned depth);

/* All rings must be back. */
extern void ring_pool_destroy (struct ring_pool *p);

/* A ring for the caller alone, until ring_put.  NULL: there is none, not
 * enabled or too many or no memory for it; *error is 0, or -errno of making
 * one.  Not before the server has forked.
 */
extern struct ring *ring_get (struct ring_pool *p, int *error);
extern void ring_put (struct ring_pool *p, struct ring *ring);

/* Read all of it, depth pieces at once.  0 or -errno; nothing is in
 * flight any more afterwards.  Blocks.
 */
extern int ring_run (struct ring *ring, struct transfer *t);

#endif /* MIRROR_RING_H */
