/* SPDX-License-Identifier: BSD-3-Clause */
/* The write-intent record W (rule I2): which regions of the disk may differ
 * after any crash, durable before the first byte goes to either leg.
 *
 * W is kept in a file (common/intent/format.h) that is reached through a small
 * table, so that the simulator has one with power cuts.  While a mirror runs:
 *
 *   intent_begin    the regions are *active*, and recorded durably
 *   intent_end      they are not active any more
 *   intent_idle, intent_retire      regions leave W, lazily
 *
 * and when something changes for all of it, one header says so:
 *
 *   intent_start    a mirror begins: everything is in W
 *   intent_everything               what D may grow by, without a write
 *   intent_finish, intent_commit    it has ended; the clients have been moved
 *
 * Without a running mirror W is everything, so nothing need be recorded.
 *
 * Thread-safe.  One mutex (`intent.lock`, a leaf), never held across I/O.
 * Functions block for as long as the file's disk takes.  They return 0 or
 * -errno.
 */

#ifndef MIRROR_INTENT_H
#define MIRROR_INTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "io.h"
#include "range.h"
#include "sync.h"

struct intent;

/* io: a file that has been laid out, whose header that counts is *head, and in
 * copy `copy` (0 or 1; -1: none has been written yet).  Reads the pages, and
 * writes all of it again.  -EIO: the file is broken.  Takes over io, when it
 * succeeds.  lost (opaque): called once, without locks, if the file has been
 * given up because of an error; maybe before intent_new returns.
 */
extern int intent_new (struct intent **in, struct intent_io *io,
                       const struct intent_head *head, int copy,
                       struct clock *clock,
                       void (*lost) (void *opaque), void *opaque);

/* Closes the file as it is. */
extern void intent_free (struct intent *in);    /* accepts NULL */

/*-- requests and copies ------------------------------------------------*/

/* The regions that r touches are active, and recorded: blocks until that is
 * durable.  At the latest at deadline_ns (of the clock): -EIO, nothing is
 * active, and nothing may be done.
 */
extern int intent_begin (struct intent *in, struct range r,
                         uint64_t deadline_ns);
extern void intent_end (struct intent *in, struct range r);

/* Block until what r touches is recorded, without being active there: for who
 * has no mirror, after intent_finish has failed.  0, or -EIO at the deadline.
 */
extern int intent_ask (struct intent *in, struct range r,
                       uint64_t deadline_ns);

/*-- retiring -----------------------------------------------------------*/

/* How many recorded regions have not been active since the latest
 * intent_watch; those that it has not seen do not count.
 */
extern uint64_t intent_idle (struct intent *in);

/* From here on notice who becomes active. */
extern void intent_watch (struct intent *in);

/* All of what intent_idle counts and still is so leaves W, if next (opaque,
 * from, &run) does not say that something in it differs: it gives the first
 * run that starts at or after `from` (or contains it), or false.  To be called
 * after flushes of both legs that began after intent_idle and were good, and
 * only if W is known to be more than it must (after the scan).
 */
extern int intent_retire (struct intent *in,
                          bool (*next) (void *opaque, uint64_t from,
                                        struct range *run),
                          void *opaque);

/*-- all of it ----------------------------------------------------------*/

/* A mirror to target begins, and W is everything, durably.  Nothing is active.
 * The granularity may be another one than before.
 */
extern int intent_start (struct intent *in, const char *target,
                         uint64_t target_size, uint64_t granularity);

/* A mirror that the file says is running goes on, with W as it is. */
extern int intent_resume (struct intent *in);

/* W is everything.  If that cannot be written the file is lost or broken. */
extern int intent_everything (struct intent *in);

/* The mirror ends; from its return on nothing need be recorded, and no restart
 * goes on with it.  -EIO: the file is broken, and what is not recorded must not
 * be written to as before.  state: anything but INTENT_RUNNING.
 */
extern int intent_finish (struct intent *in, enum intent_state state);

/* The size of the target becomes known.  As long as it is not known any will
 * do, so that this cannot be written does not matter.
 */
extern void intent_target_size (struct intent *in, uint64_t size);

/* The commit record of a pivot: clients are given the target.  0: it is
 * durable.  Else it is certain that a restart will not believe it; while that
 * is unknown this blocks (rule I12, hole H10), unless *stop: then -EINPROGRESS,
 * and neither disk may be changed any more.
 */
extern int intent_commit (struct intent *in, const _Atomic bool *stop);

/* Clients have been moved back to the source, by order. */
extern int intent_unpivot (struct intent *in);

extern int intent_fence (struct intent *in, bool fenced);

/* Nothing is active and nothing will be; what of W has not been retired stays.
 * in_order: no request that got no reply may still arrive at a leg.
 */
extern int intent_close (struct intent *in, bool in_order);

/*-- looking ------------------------------------------------------------*/

/* Call fn for each run of recorded regions, ascending. */
extern void intent_each (struct intent *in,
                         void (*fn) (void *opaque, struct range r),
                         void *opaque);

/* A copy of the header as it is now. */
extern void intent_get_head (struct intent *in, struct intent_head *head);

struct intent_status {
  enum intent_state state;      /* as the file has it */
  bool fenced, clean;
  bool running;                 /* regions are being recorded */
  bool lost, gone;              /* given up; gone: there is no file any more */
  uint64_t bytes;               /* W; everything if not running, or lost */
  uint64_t syncs;               /* times that the file was made durable */
  uint64_t waits;               /* times that a begin has waited for that */
};

extern enum intent_state intent_state (struct intent *in);
extern void intent_get_status (struct intent *in, struct intent_status *st);

/* Asserts every internal invariant.  For tests. */
extern void intent_check (struct intent *in);

#endif /* MIRROR_INTENT_H */
