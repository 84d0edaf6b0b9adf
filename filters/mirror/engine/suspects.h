/* SPDX-License-Identifier: BSD-3-Clause */
/* Suspect ranges: what may still change by itself (rules I3, I9).
 *
 * A request whose connection was lost before its reply came may still be
 * carried out: the end of a connection is no fence.  qemu-nbd closes a
 * connection before its requests have ended, and what is in the send queue of
 * a kernel arrives when the network is back.  The same holds for a source
 * that has failed a write.  So the range is not copied at once, which a late
 * write would undo unnoticed, but stays in doubt for a time, and then becomes
 * dirty.
 *
 * Suspect ranges are kept apart from D, so nobody can clear them; each group
 * of them is a reason not to be synced.
 *
 * Thread-safe.  One mutex, taken before dirty.lock and, for settled, before
 * flusher.lock and source_flusher.lock.
 */

#ifndef MIRROR_SUSPECTS_H
#define MIRROR_SUSPECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "dirty.h"
#include "reasons.h"

struct suspects;

/* Granules of a disk of `size` bytes stay suspect for time_ns, and at most a
 * quarter longer; with 0 they become dirty at once.  dirty and reasons are the
 * caller's and outlive this.  settled (opaque, r): r changes by itself no more,
 * and is about to become dirty; false: it has to be suspect for longer, and its
 * time begins again.  Called with the lock held.  NULL: out of memory.
 */
extern struct suspects *
suspects_new (uint64_t size, uint64_t granularity, uint64_t time_ns,
              struct dirty *dirty, struct reasons *reasons,
              bool (*settled) (void *opaque, struct range r), void *opaque);
extern void suspects_free (struct suspects *s);         /* accepts NULL */

/* All granules that r touches are suspect from now on. */
extern void suspects_add (struct suspects *s, struct range r,
                          uint64_t now_ns);

/* What has been suspect for long enough becomes dirty.  Returns whether
 * anything has.
 */
extern bool suspects_expire (struct suspects *s, uint64_t now_ns);

/* The time of all that is suspect begins again. */
extern void suspects_renew (struct suspects *s, uint64_t now_ns);

/* When the last of them will have; 0: nothing is suspect. */
extern uint64_t suspects_until (struct suspects *s);

/* Bytes; what has become suspect again later may count twice. */
extern uint64_t suspects_bytes (struct suspects *s);

/* The first suspect run that starts at or after `from`, as dirty_next with the
 * size of the disk as max_len.
 */
extern bool suspects_next (struct suspects *s, uint64_t from,
                           struct range *run);

/* Is any granule that r touches suspect? */
extern bool suspects_any (struct suspects *s, struct range r);

#endif /* MIRROR_SUSPECTS_H */
