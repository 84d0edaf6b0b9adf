/* SPDX-License-Identifier: BSD-3-Clause */
/* The path of a client request; see tee.h.
 *
 * Track (background mode, no session, any trim):
 *
 *   1. The range is recorded in the intent file, if it is not already.
 *   2. N is raised: a track request is a reason not to be synced.
 *   3. The source does it, in this thread; what it acknowledges enters V.
 *   4. The range is marked, rounded outward - also if the source failed,
 *      since it may have done half of it, and do the rest later: suspect.
 *   5. N is lowered; the caller counts out and replies.
 *
 * Tee:
 *
 *   0. The range is recorded in the intent file.
 *   1. Range lock, in order of arrival: two clients that write the same bytes
 *      reach both legs in one order (I10), and no copy of the range is under
 *      way.  The lock is rounded out to the target's block, which may be read
 *      and written back as a whole.
 *   2. The covered granules are cleared, rounded inward, before the first
 *      byte goes to either leg: a mark found now stems from a source write
 *      that had completed, which this request overwrites on both legs; a
 *      mark set from here on stays (I4, hole H1).
 *      A write that clears nothing and touches dirty granules only is for the
 *      source alone: the copier, which must wait for the range lock, will carry
 *      it (leave_to_copier).  Else:
 *   3. The target leg starts; the source leg runs in this thread; the target
 *      leg is awaited.
 *   4. The target's acknowledgement enters U - if its session is still there -
 *      and the source's enters V.
 *   5. Any leg bad: the range is marked again, rounded outward, before
 *      anybody is released (I3).  Nothing is cleared after an I/O.  What may
 *      still happen - no reply, or a source that failed - is suspect.
 *   6. The claim ends, the lock is released, the client gets the source's
 *      result.
 *
 * A fast zero asks the source first, and touches the target only if the
 * source has done it (H21a).
 */

#include <config.h>

#include <assert.h>
#include <errno.h>

#include "iszero.h"
#include "tee.h"

struct range
request_range (const struct request *req)
{
  return (struct range) { req->offset, req->offset + req->count };
}

struct range
request_spoils (const struct request *req, const struct source *source,
                uint64_t size)
{
  return range_outer (request_range (req), source->block ? source->block : 1,
                      size);
}

static const char *
request_name (const struct request *req)
{
  switch (req->op) {
  case REQUEST_WRITE: return "write";
  case REQUEST_ZERO: return "zero";
  case REQUEST_TRIM: return "trim";
  }
  return "?";
}

/* Zeroes and trims that are larger than the source takes at once. */
static int
source_pieces (struct source *source, const struct request *req)
{
  uint64_t end = req->offset + req->count, at = req->offset, cut;
  unsigned flags = req->flags;
  int r;

  while (at < end) {
    cut = round_down_p2 (at, LEG_MAX_REQUEST) + LEG_MAX_REQUEST;
    if (cut > end)
      cut = end;
    r = req->op == REQUEST_ZERO
      ? source->ops->zero (source, (uint32_t) (cut - at), at, flags)
      : source->ops->trim (source, (uint32_t) (cut - at), at, flags);
    if (r < 0)
      return r;
    /* A refused fast zero must have changed nothing: from the second piece
     * on it is too late to refuse.
     */
    flags &= ~(unsigned) LEG_FAST_ZERO;
    at = cut;
  }
  return 0;
}

int
request_plain (struct source *source, const struct request *req)
{
  if (req->op == REQUEST_WRITE)
    return source->ops->pwrite (source, req->buf, req->count, req->offset,
                                req->flags);
  return source_pieces (source, req);
}

/* A client's request leaves the range dirty; so many bytes of it had been so
 * before.
 */
static void
mark_dirtied (struct pair *p, struct range r, uint64_t before)
{
  const uint64_t n = pair_mark (p, r);

  if (n > before)
    atomic_fetch_add (&p->counters.dirtied_bytes, n - before);
}

bool
request_was_refused (const struct request *req, int result)
{
  return result == -ENOTSUP && (req->flags & LEG_FAST_ZERO);
}

/* The source does it. */
static int
change_source (struct pair *p, struct source *source,
               const struct request *req)
{
  unsigned number;
  int r;

  if (!(req->flags & LEG_FUA) || !source->can_flush)
    return request_plain (source, req);
  number = source_flusher_begin_fua (p->source_flusher);
  r = request_plain (source, req);
  source_flusher_end_fua (p->source_flusher, number,
                          r < 0 && !request_was_refused (req, r));
  return r;
}

int
request_track (struct pair *p, struct source *source,
               const struct request *req)
{
  struct range range = request_range (req);
  uint64_t stamp;
  int r = pair_begin (p, range);

  if (r < 0)
    return r;
  reasons_raise (&p->reasons, 1);
  stamp = source_flusher_stamp (p->source_flusher);
  r = change_source (p, source, req);
  if (!request_was_refused (req, r)) {
    if (r < 0)
      pair_source_failed (p, source, range);
    else {
      mark_dirtied (p, range, 0);
      pair_source_acked (p, source, range, req->flags, stamp);
    }
    atomic_fetch_add (&p->counters.tracked_bytes, req->count);
  }
  reasons_lower (&p->reasons, 1);
  pair_end (p, range);
  return r;
}

static void
start_target_leg (struct pair *p, const struct request *req,
                  struct target_req *treq)
{
  if (req->op == REQUEST_WRITE &&
      !(p->detect_zeroes && is_zero (req->buf, req->count)))
    *treq = (struct target_req) {
      .op = TARGET_WRITE, .lane = LANE_TEE, .buf = (void *) req->buf,
      .count = req->count, .offset = req->offset,
    };
  else {
    *treq = pair_zero_req (p, LANE_TEE, req->count, req->offset);
    /* A client that wants no hole gets none on either side. */
    if (req->op == REQUEST_ZERO && !(req->flags & LEG_MAY_TRIM))
      treq->flags &= ~(unsigned) LEG_MAY_TRIM;
  }
  if ((req->flags & LEG_FUA) && p->target->can_fua && !p->defer_flush)
    treq->flags |= LEG_FUA;
  p->target->ops->submit (p->target, treq);
}

/* The source leg, which is not the target's time. */
static int
source_leg (struct pair *p, struct source *source, const struct request *req,
            struct wait *wait)
{
  int r;

  waits_change (p->waits, wait, WAIT_SOURCE, pair_now_ns (p));
  r = change_source (p, source, req);
  waits_change (p->waits, wait, WAIT_TARGET, pair_now_ns (p));
  return r;
}

/* Both legs of a request under its range lock.  Returns the source's result;
 * *target: 0, -errno, or 1 if the target was left alone; *no_reply: it may
 * still do it.
 */
static int
do_legs (struct pair *p, struct source *source, const struct request *req,
         struct wait *wait, int *target, bool *no_reply)
{
  uint64_t stamp = flusher_stamp (p->flusher);
  struct target_req treq;
  int r;

  *no_reply = false;
  if (req->op == REQUEST_ZERO && (req->flags & LEG_FAST_ZERO)) {
    r = source_leg (p, source, req, wait);
    *target = 1;
    if (r < 0)
      return r;
    start_target_leg (p, req, &treq);
  }
  else {
    start_target_leg (p, req, &treq);
    r = source_leg (p, source, req, wait);
  }

  atomic_fetch_add (&p->counters.target_waits, 1);
  *target = p->target->ops->wait (p->target, &treq);
  *no_reply = *target == -ENOTCONN;
  if (*target == 0)
    *target = flusher_acked (p->flusher, request_range (req),
                             treq.flags & LEG_FUA, stamp);
  else                          /* some of it may be there: see carry.c */
    flusher_acked (p->flusher, request_range (req), false,
                   flusher_stamp (p->flusher));
  return r;
}

/* After a leg failed: mark again what may differ now. */
static void
mark_failure (struct pair *p, struct source *source,
              const struct request *req, uint64_t claimed, int result,
              bool no_reply)
{
  struct range r = request_range (req);

  if (request_was_refused (req, result)) {
    /* Nothing has changed on either leg: only what was cleared is marked. */
    if (claimed > 0)
      pair_mark (p, range_inner (r, p->granularity, p->size));
  }
  else if (result < 0)
    pair_source_failed (p, source, r);
  else if (no_reply)
    pair_mark_suspect (p, r);
  else
    mark_dirtied (p, r, claimed);
}

/* May the copier carry this change, of which nothing has been claimed?  If it
 * touches dirty granules only: under the range lock nobody clears them, so
 * they are dirty after the change as before it.  What is sent to the target
 * would be sent once more.
 */
static bool
leave_to_copier (struct pair *p, const struct request *req)
{
  return !reasons_none (&p->reasons, false) &&
    dirty_all (p->dirty, request_range (req));
}

/* The source's leg of such a request; as do_legs. */
static int
do_source_only (struct pair *p, struct source *source,
                const struct request *req, struct wait *wait, int *target,
                bool *no_reply)
{
  int r = source_leg (p, source, req, wait);

  *no_reply = false;
  *target = 1;
  if (r == 0)
    atomic_fetch_add (&p->counters.tracked_bytes, req->count);
  return r;
}

static int
tee_locked (struct pair *p, struct source *source, const struct request *req,
            int *target)
{
  struct rangelock lk;
  struct wait wait;
  uint64_t claimed, stamp;
  bool ok, no_reply;
  int r;

  waits_begin (p->waits, &wait, WAIT_LOCK, pair_now_ns (p));
  rangelock_lock (p->locks, &lk, pair_lock_range (p, request_range (req)));
  waits_change (p->waits, &wait, WAIT_TARGET, pair_now_ns (p));
  claimed = dirty_claim_inner (p->dirty, request_range (req));

  stamp = source_flusher_stamp (p->source_flusher);
  r = claimed == 0 && leave_to_copier (p, req)
    ? do_source_only (p, source, req, &wait, target, &no_reply)
    : do_legs (p, source, req, &wait, target, &no_reply);
  waits_end (p->waits, &wait);

  ok = r == 0 && *target == 0;
  if (r == 0)
    pair_source_acked (p, source, request_range (req), req->flags, stamp);
  if (r < 0 || *target < 0)
    mark_failure (p, source, req, claimed, r, no_reply);
  if (claimed > 0)
    pair_end_claim (p, claimed, ok);
  rangelock_unlock (p->locks, &lk);

  if (ok)
    atomic_fetch_add (&p->counters.teed_bytes, req->count);
  return r;
}

int
request_tee (struct pair *p, struct source *source, const struct request *req)
{
  struct request zero = *req;
  int target, r;

  if (req->op == REQUEST_TRIM) {
    /* Better than a trim, which leaves the contents undefined and must be
     * copied: a zero that may punch holes on both legs.  Only a source that
     * cannot do that quickly gets the trim.
     */
    if (!source->can_fast_zero)
      return request_track (p, source, req);
    zero.op = REQUEST_ZERO;
    zero.flags |= LEG_MAY_TRIM | LEG_FAST_ZERO;
  }

  r = pair_begin (p, request_range (req));
  if (r < 0)
    return r;
  r = tee_locked (p, source, &zero, &target);
  pair_end (p, request_range (req));
  if (req->op == REQUEST_TRIM && r == -ENOTSUP)
    return request_track (p, source, req);

  if (target < 0) {
    p->failed (p->opaque, SIDE_TARGET, true, request_name (req),
               request_range (req), target);
    return r;
  }

  /* FUA on a target that has none: its flush stands in. */
  if (r == 0 && target == 0 && (req->flags & LEG_FUA) && !p->target->can_fua &&
      p->target->can_flush && !p->defer_flush)
    pair_flush (p, WAIT_TARGET);
  return r;
}

int
request_track_flush (struct pair *p, struct source *source)
{
  return pair_flush_source (p, source);
}

int
request_tee_flush (struct pair *p, struct source *source)
{
  struct flush_wait w;
  struct wait wait;
  int r, target;

  if (!p->target->can_flush || p->defer_flush)
    return pair_flush_source (p, source);

  waits_begin (p->waits, &wait, WAIT_TARGET, pair_now_ns (p));
  flusher_begin (p->flusher, &w);
  waits_change (p->waits, &wait, WAIT_SOURCE, pair_now_ns (p));
  r = pair_flush_source (p, source);
  waits_change (p->waits, &wait, WAIT_TARGET, pair_now_ns (p));
  atomic_fetch_add (&p->counters.target_waits, 1);
  target = flusher_wait (p->flusher, &w);
  waits_end (p->waits, &wait);
  if (target < 0) {
    p->work (p->opaque);
    p->failed (p->opaque, SIDE_TARGET, true, "flush",
               (struct range) { 0, 0 }, target);
  }
  return r;
}
