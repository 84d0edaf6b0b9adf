/* SPDX-License-Identifier: BSD-3-Clause */
/* The two sides of one job and what is known of their difference: all that
 * tee, copier and scan need, and all that they share.
 *
 * The fields are constant while the job lives, but for the target, which
 * changes with the session; what they point to has locks of its own.  Functions
 * are thread-safe.
 */

#ifndef MIRROR_PAIR_H
#define MIRROR_PAIR_H

#include <stdatomic.h>
#include <stdint.h>

#include "dirty.h"
#include "flusher.h"
#include "intent.h"
#include "late.h"
#include "latency.h"
#include "legs.h"
#include "mirror.h"
#include "rangelock.h"
#include "rates.h"
#include "reasons.h"
#include "source-flusher.h"
#include "suspects.h"
#include "sync.h"
#include "waits.h"

struct pair_counters {          /* see struct mirror_counters */
  _Atomic uint64_t copied_bytes, zeroed_bytes, teed_bytes, tracked_bytes,
    skipped_bytes, target_waits, target_errors, source_errors;

  /* Bytes whose claim has ended well, for rates. */
  _Atomic uint64_t progress_bytes;

  /* Bytes that were clean until a client's request made them dirty. */
  _Atomic uint64_t dirtied_bytes;
};

enum pair_side { SIDE_SOURCE, SIDE_TARGET };

struct pair {
  uint64_t size, granularity;   /* bytes */
  bool unmap, detect_zeroes, target_is_zero, defer_flush; /* see job_params */
  struct clock *clock;
  struct target *target;        /* NULL: no session.  For tees and copies
                                 * only: it stays while one is under way */
  struct dirty *dirty;          /* D */
  struct suspects *suspects;    /* belong to D */
  struct reasons reasons;       /* N */
  struct rangelocks *locks;
  uint64_t suspect_ns;          /* how long that is */
  struct late *late;            /* the mirror's */
  struct flusher *flusher;      /* U, synced */
  struct source_flusher *source_flusher;        /* V */
  struct intent *intent;        /* W; NULL: there is no file */
  const _Atomic uint64_t *timeout_ns;   /* for who must wait for the file */
  struct waits *waits;          /* for the target */
  struct pair_counters counters;
  struct latency *latency;
  struct rates rates;

  /* While verify.c looks twice at something: what pair_mark has marked since.
   * What it points to lives as long as the pair.
   */
  struct dirty *_Atomic watch;

  /* D has grown: copiers may sleep.  Any thread, no locks held. */
  void (*work) (void *opaque);

  /* A leg has failed; the range has been marked.  tee: a client's request,
   * else copying.  Any thread, no locks held.
   */
  void (*failed) (void *opaque, enum pair_side side, bool tee,
                  const char *op, struct range r, int err);
  void *opaque;
};

/* From here to pair_end whoever changes r, on either leg or in what is known of
 * it, is active there (rule I2).  Blocks while that is recorded; -EIO: it
 * cannot be, and nothing may be done.
 */
extern int pair_begin (struct pair *p, struct range r);
extern void pair_end (struct pair *p, struct range r);

/* pair_mark for who is not active there, and is about to. */
extern void pair_mark_outside (struct pair *p, struct range r);

/* The source has done a change of r, or failed it.  flags: of the request;
 * stamp: source_flusher_stamp before it was submitted.
 */
extern void pair_source_acked (struct pair *p, const struct source *source,
                               struct range r, unsigned flags,
                               uint64_t stamp);
extern void pair_source_failed (struct pair *p, const struct source *source,
                                struct range r);

/* Flush the source for a client; on failure V is suspect. */
extern int pair_flush_source (struct pair *p, struct source *source);

/* D gains r, rounded outward; wakes the copiers.  Returns the bytes that were
 * clean until then.
 */
extern uint64_t pair_mark (struct pair *p, struct range r);

/* The scan has come to r: dirty_learn, and what pair_mark does if it differs. */
extern void pair_learn (struct pair *p, struct range r, bool differs);

/* The numbers of which there are rates, now; and hand them in if it is time
 * (rates.h).
 */
extern struct rates_point pair_point (struct pair *p);
extern void pair_note_rates (struct pair *p);

/* The same, and whatever it was that failed may still happen: suspects.h. */
extern void pair_mark_suspect (struct pair *p, struct range r);

/* Is any granule that r touches dirty or suspect? */
extern bool pair_may_differ (const struct pair *p, struct range r);

/* The first run of such granules that starts at or after `from`. */
extern bool pair_next_differing (const struct pair *p, uint64_t from,
                                 struct range *run);

/* What must be locked to write r to the target, which may have to write whole
 * blocks: r rounded out to them.
 */
extern struct range pair_lock_range (const struct pair *p, struct range r);

/* The request that makes that range read as zero on the target. */
extern struct target_req pair_zero_req (const struct pair *p,
                                        enum target_lane lane, uint32_t count,
                                        uint64_t offset);

/* The target's extents of r; it is known to be waited for. */
extern void pair_ask_target (struct pair *p, struct range r, extent_fn *fn,
                             void *opaque);

/* A claim of that many bytes has ended; ok: the two sides became equal. */
extern void pair_end_claim (struct pair *p, uint64_t bytes, bool ok);

/* Flush the target; on failure all of U is dirty (flusher.h).  0 or -errno.
 * kind: WAIT_TARGET for a client, or WAIT_FLUSH.
 */
extern int pair_flush (struct pair *p, enum wait_kind kind);

extern uint64_t pair_now_ns (const struct pair *p);

#endif /* MIRROR_PAIR_H */
