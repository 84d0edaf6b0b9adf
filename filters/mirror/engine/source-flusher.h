/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the source, and what they prove: V (rules I2, I3; hole H18).
 *
 * V is what the source has acknowledged and no good flush of it covers.  If a
 * flush fails the source may have lost any of that: a kernel tells such an
 * error once and drops the data, which can still be read until it is evicted.
 * So V becomes suspect then: it is copied again, but only after a while.  What
 * is suspect already may land unnoticed: it counts as V as long as it is, and
 * enters it when its time is over (job-make.c).
 *
 * As with the target (flusher.h) V is two bitmaps, at most one flush is in
 * flight, and who needs one shares the next to *begin*.  The flush is done by
 * the thread of one of those who need it, with its own handle: a source with
 * several handles has promised that a flush of one covers all.
 *
 * Thread-safe.  One mutex, taken before the bitmaps' (dirty.h).
 */

#ifndef MIRROR_SOURCE_FLUSHER_H
#define MIRROR_SOURCE_FLUSHER_H

#include <stdbool.h>
#include <stdint.h>

#include "dirty.h"
#include "legs.h"
#include "range.h"

struct source_flusher;

/* What the source had acknowledged before is not known: V is all of it.
 * lost (opaque, v): a flush has failed, and what is in v may be lost, and what
 * may have landed unnoticed, too.  Called without locks, before anybody is told
 * of the failure.  NULL: out of memory.
 */
extern struct source_flusher *
source_flusher_new (uint64_t size, uint64_t granularity,
                    void (*lost) (void *opaque, struct dirty *v),
                    void *opaque);
extern void source_flusher_free (struct source_flusher *f);     /* or NULL */

/* Before anything else: V is nothing, but for what source_flusher_acked says.
 */
extern void source_flusher_empty (struct source_flusher *f);

/* From here on source_flusher_acked says of all changes.  Until then V is all,
 * as one of the others may end after a good flush.
 */
extern void source_flusher_alone (struct source_flusher *f);

/* To be asked before a change is submitted, and given to the next. */
extern uint64_t source_flusher_stamp (struct source_flusher *f);

/* The source has acknowledged a change of r, and not with FUA.  0, or -EIO: a
 * flush has failed since the stamp, and r may be lost, whatever later flushes
 * say.
 */
extern int source_flusher_acked (struct source_flusher *f, struct range r,
                                 uint64_t stamp);

/* r may have changed at any moment until now, unnoticed.  False: at this moment
 * lost is being called, and r may be lost as well, and is not in what that is
 * told.
 */
extern bool source_flusher_add (struct source_flusher *f, struct range r);

/* A change with FUA has a flush in it, which may be told of an error that is
 * told but once: then V may be lost as by a failed flush, whatever one that ran
 * at the same time has said.  So it is counted in before it is submitted, and
 * out, with the number that the first has returned, when it has ended.
 */
extern unsigned source_flusher_begin_fua (struct source_flusher *f);
extern void source_flusher_end_fua (struct source_flusher *f, unsigned number,
                                    bool failed);

/* Flush; blocks until a flush that began after the call has ended.  0 or
 * -errno.
 */
extern int source_flusher_flush (struct source_flusher *f,
                                 struct source *source);

#endif /* MIRROR_SOURCE_FLUSHER_H */
