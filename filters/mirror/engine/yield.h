/* SPDX-License-Identifier: BSD-3-Clause */
/* Clients first: how fast copying may be so that they do not feel it.
 *
 * Time is cut into windows.  In most of them there is copying; in one out of
 * YIELD_CYCLE there is none, and what requests of clients take then is what
 * they take (the *base*).  A client may feel copying in one request of a
 * hundred, so: while there is copying at most one of a hundred may take
 * longer than YIELD_PERCENT of the 99th percentile of the base.  Whenever more
 * do, copying becomes slower by a part, and otherwise faster by a smaller
 * part, as the senders of TCP do (Chiu and Jain, 1989).
 *
 * When clients come nobody knows yet what they feel.  Copying begins at
 * YIELD_FIRST then, and doubles until something is too slow.  So it does when
 * it begins, until it is known that there are none.
 *
 * That knows nothing of processors, disks and networks, and need not: it is
 * the clients' time that counts, whatever is short.
 *
 * Without clients, or with ones that ask seldom, there is no limit.  Nor does
 * the limit fall below YIELD_LEAST, nor below twice of what clients make dirty
 * once everything has been copied: there must be an end.
 *
 * Not thread-safe; the caller's lock.  Pure: time and counts come in as
 * arguments.
 */

#ifndef MIRROR_YIELD_H
#define MIRROR_YIELD_H

#include <stdbool.h>
#include <stdint.h>

#include "latency.h"

#define YIELD_PERCENT 120u
#define YIELD_CYCLE 10u
#define YIELD_LEAST (UINT64_C (8) << 20)        /* bytes per second */
#define YIELD_FIRST (UINT64_C (32) << 20)

/* How often to look whether a window has seen enough. */
#define YIELD_LOOK_NS UINT64_C (20000000)

enum yield_phase {
  YIELD_COPY,
  YIELD_DRAIN,                  /* pieces are still being copied */
  YIELD_QUIET,                  /* none is */
};

/* Sums since the job began. */
struct yield_sums {
  struct latency_fine clients;  /* their requests */
  uint64_t taken;               /* bytes that copiers went for */
  uint64_t dirtied;             /* bytes that clients made dirty */
};

struct yield {
  enum yield_phase phase;
  uint64_t rate;                /* bytes per second; 0: no limit */
  uint64_t due_ns;              /* call yield_look then */
  uint64_t began_ns;            /* of the window */
  struct yield_sums began;      /* as they were then */
  struct latency_fine base;     /* the older, the less */
  uint64_t slow_ns;             /* more than that is slow; 0: not known */
  unsigned windows;             /* since the last quiet one */
  bool starting;                /* no window has been too slow yet */
};

extern void yield_init (struct yield *y, uint64_t now_ns);

/* It is due.  caught_up: everything has been copied once.  busy: there are
 * pieces being copied.
 */
extern void yield_look (struct yield *y, const struct yield_sums *sums,
                        bool caught_up, bool busy, uint64_t now_ns);

/* In YIELD_DRAIN: the last piece has ended. */
extern void yield_drained (struct yield *y, const struct yield_sums *sums,
                           uint64_t now_ns);

#endif /* MIRROR_YIELD_H */
