/* SPDX-License-Identifier: BSD-3-Clause */
/* Flushes of the target, and what they prove (rules I1, I8, I9, I11).
 *
 * U is what the session has acknowledged and no good flush of it covers.  It
 * is kept as two bitmaps: when a flush begins U is set aside, and what is
 * acknowledged from then on goes to the other one.  The flush good: the part
 * set aside is gone.  The flush bad, or the session lost: all of U becomes
 * dirty, because a server that lost its cache has lost just that.
 *
 * At most one flush is in flight; whoever needs one shares the next to
 * *begin*, since one that has begun need not cover what was acknowledged
 * after it began.
 *
 * A good flush during all of which N was 0 makes the mirror *synced*.
 *
 * Thread-safe.  One mutex, taken before the bitmaps' (dirty.h).
 */

#ifndef MIRROR_FLUSHER_H
#define MIRROR_FLUSHER_H

#include <stdbool.h>
#include <stdint.h>

#include "dirty.h"
#include "legs.h"
#include "reasons.h"

struct flusher;

/* Somebody who needs a flush; the caller's, usually on its stack. */
struct flush_wait {
  struct flush_wait *next;
  bool done;
  int result;
  struct target_req req;
};

/* target: the session that begins, or NULL: there is none yet.  D and its
 * reasons belong to the caller and outlive the flusher.  NULL: out of memory.
 */
extern struct flusher *flusher_new (struct target *target,
                                    uint64_t size, uint64_t granularity,
                                    struct dirty *dirty,
                                    struct reasons *reasons);
extern void flusher_free (struct flusher *f);

/* A session begins; flusher_session_end must have returned. */
extern void flusher_session_begin (struct flusher *f, struct target *target);

/* To be asked before a request is submitted, and given to flusher_acked.  0
 * while no flush has failed: of this session or of one before, since a server
 * need not have forgotten.
 */
extern uint64_t flusher_stamp (struct flusher *f);

/* The target has acknowledged r: one step with "is the session still there".
 * durable: acknowledged with FUA, so r does not enter U.  Returns 0, or an
 * error if the acknowledgement does not count and the caller must mark r:
 * -ENOTCONN: the session has ended; -EIO: a flush has failed since `stamp`.
 * (A kernel that reports a write error to a flush forgets the data, so the
 * next flush says nothing about a write that was done by then, even if its
 * acknowledgement is handled only now.)
 */
extern int flusher_acked (struct flusher *f, struct range r, bool durable,
                          uint64_t stamp);

/* Is there anything in U? */
extern bool flusher_pending (struct flusher *f);

/* Is any granule that r touches in U? */
extern bool flusher_any (struct flusher *f, struct range r);

/* No acknowledgement counts from now on (rule I9). */
extern void flusher_session_lost (struct flusher *f);

/* After flusher_session_lost: U becomes dirty.  Blocks while a flush is in
 * flight, so the target must have been shut down.
 */
extern void flusher_session_end (struct flusher *f);

/* Ask for a flush: starts it if none is in flight, else stands in line.  Every
 * begin is followed by one wait in the same thread.
 */
extern void flusher_begin (struct flusher *f, struct flush_wait *w);

/* Block until a flush that began after flusher_begin was called has ended.
 * Returns its result: 0 or -errno.
 */
extern int flusher_wait (struct flusher *f, struct flush_wait *w);

/* Is the mirror synced now: N = 0, and a target flush has been good during
 * all of which N was 0, and N has been 0 since?
 */
extern bool flusher_synced (struct flusher *f);

/* The same without the mode, for *ready* in background mode. */
extern bool flusher_settled (struct flusher *f);

/* Good flushes so far. */
extern uint64_t flusher_count (struct flusher *f);

/* U: which = 0 the part that grows, 1 the part set aside. For tests. */
extern struct dirty *flusher_peek (struct flusher *f, int which);

#endif /* MIRROR_FLUSHER_H */
