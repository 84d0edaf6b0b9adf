/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes, and writes with FUA, of one file: which are on their way, and how
 * many have failed.
 *
 * The kernel tells an error of what the page cache could not write once to
 * each descriptor, and one of the disk's own cache only to who asked.  Threads
 * that share a descriptor, or the disk's cache, share that error, but only one
 * of them is told.  So failures are counted, and success is not believed when
 * there has been a failure since a request began; nor before all that were on
 * their way then, and may have been told of it, have said so.
 */

#ifndef MIRROR_SYNCS_H
#define MIRROR_SYNCS_H

#include <stdbool.h>
#include <stdint.h>

#include "sync.h"

/* One that is on its way.  On the stack of its thread; must not be touched
 * between begin and end.
 */
struct syncing {
  uint64_t number;
  unsigned failures;            /* before it began */
  struct syncing *prev, *next;
};

struct syncs {
  struct mutex lock;
  /* Protected by lock: */
  struct cond ended;
  struct syncing *first, *last; /* in the order of their numbers */
  uint64_t begun;               /* the last number */
  unsigned failures;
  unsigned waiters;
};

extern void syncs_init (struct syncs *s);
extern void syncs_destroy (struct syncs *s);

/* How many have failed; wraps around. */
extern unsigned syncs_failures (struct syncs *s);

/* Before the kernel is asked, and of FUA before what is to be durable is
 * written.
 */
extern void syncs_begin (struct syncs *s, struct syncing *me)
  __attribute__ ((__nonnull__ (1, 2)));

/* An error that may be about what others have written.  Before syncs_end. */
extern void syncs_failed (struct syncs *s);

/* The kernel has answered.  Returns the number of failures: another one than
 * me->failures, and what has been written may be lost.  With wait, first all
 * that have begun by now must have ended; they never wait for this one, so it
 * takes no longer than they do.
 */
extern unsigned syncs_end (struct syncs *s, struct syncing *me, bool wait)
  __attribute__ ((__nonnull__ (1, 2)));

#endif /* MIRROR_SYNCS_H */
