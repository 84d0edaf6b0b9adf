/* SPDX-License-Identifier: BSD-3-Clause */
/* The two legs of the mirror, as the engine sees them.
 *
 * The engine knows no nbdkit and no libnbd.  A *source* is synchronous: the
 * thread that calls does the work (an nbdkit worker, or a copier).  A
 * *target* is asynchronous: submit, do something else, wait; that is how a
 * tee overlaps both legs with one thread.
 *
 * Everything returns 0 or -errno.  Offsets and lengths are bytes; a request
 * is never empty and never reaches past the size of the source.
 */

#ifndef MIRROR_LEGS_H
#define MIRROR_LEGS_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"

/* Most bytes of one request to the source, and of one that carries data to
 * the target.  nbdkit before 1.44.1 zeroes only the first 64 MiB of a larger
 * fallback zero, and many servers refuse payloads above 32 MiB.  Callers
 * split.
 */
#define LEG_MAX_REQUEST (UINT32_C (32) << 20)

/* Most bytes of one TARGET_ZERO.  It has no payload, but the target may be
 * served by such an nbdkit, whose fallback is not seen from here.
 */
#define TARGET_MAX_ZERO (UINT32_C (64) << 20)

enum leg_flags {
  LEG_FUA = 1,                  /* durable before the reply */
  LEG_MAY_TRIM = 2,             /* zero: may leave a hole */
  LEG_FAST_ZERO = 4,            /* zero: -ENOTSUP at once if slow */
};

enum extent_kind {
  EXTENT_DATA,                  /* anything */
  EXTENT_ZERO,                  /* reads as zero */
};

/* Called for consecutive, ascending, non-empty pieces.  Return other than 0 to
 * stop; extents then returns that value.  The function may make other calls
 * on either leg.
 */
typedef int extent_fn (void *opaque, struct range r, enum extent_kind kind);

/*----------------------------------------------------------------------*/

struct source;

struct source_ops {
  int (*pread) (struct source *, void *buf, uint32_t count, uint64_t offset);

  /* After a failure the content of the range is unknown.  flags: LEG_FUA. */
  int (*pwrite) (struct source *, const void *buf, uint32_t count,
                 uint64_t offset, unsigned flags);

  /* flags: all.  -ENOTSUP with LEG_FAST_ZERO promises that nothing has
   * changed; without it -ENOTSUP is not returned.
   */
  int (*zero) (struct source *, uint32_t count, uint64_t offset,
               unsigned flags);

  /* The content of the range is undefined afterwards, and may be so after a
   * failure.  flags: LEG_FUA.
   */
  int (*trim) (struct source *, uint32_t count, uint64_t offset,
               unsigned flags);

  int (*flush) (struct source *);

  /* Report the kind of everything from r.start on, at least one piece, maybe
   * less than r, never past r.end.  NULL if the source cannot tell.
   */
  int (*extents) (struct source *, struct range r, extent_fn *fn,
                  void *opaque);
};

/* Embed as first member.  A source may be used by several threads at once. */
struct source {
  const struct source_ops *ops;
  uint32_t block;               /* a change that failed may have spoilt what
                                 * it touches of this unit: a power of two,
                                 * 1 ... TARGET_MAX_BLOCK; 0 counts as 1 */
  bool can_flush;               /* flush may be called */
  bool can_fast_zero;           /* LEG_FAST_ZERO may be passed */
  bool can_extents;             /* extents may be called */
};

/*----------------------------------------------------------------------*/

struct target;

/* TARGET_TRIM only if the target can, and of whole blocks. */
enum target_op { TARGET_READ, TARGET_WRITE, TARGET_ZERO, TARGET_TRIM,
                 TARGET_FLUSH };

/* Which connections a request may use: bulk copying must not hold up client
 * writes.  A target with one connection has one lane.  What is sent by LANE_ONE
 * goes by the same connection, so a read sees all earlier writes, though what
 * was written by one connection another need not see before a flush.
 */
enum target_lane { LANE_TEE, LANE_COPY, LANE_ONE };
#define TARGET_LANES 3

/* One request to the target.  The submitter fills the first part, keeps the
 * struct and buf alive and untouched until target wait has returned.  Wait is
 * called exactly once for every submit that has returned, by any thread.
 */
struct target_req {
  enum target_op op;
  enum target_lane lane;
  unsigned flags;               /* LEG_FUA, LEG_MAY_TRIM; LEG_FAST_ZERO if the
                                 * target can, of whole blocks */
  uint32_t count;               /* <= LEG_MAX_REQUEST, zero and trim:
                                 * TARGET_MAX_ZERO; 0 for a flush */
  uint64_t offset;
  void *buf;                    /* not written to by TARGET_WRITE */

  /* The target's. */
  int result;
  bool done;
  void *priv[4];
};

struct target_ops {
  /* Start a request.  Does not fail: what goes wrong is told by wait.  May
   * block for as long as the payload takes to go out.
   *
   * Any alignment is allowed.  What is not a multiple of `block` is done by
   * reading the blocks at its ends and writing them back, so the caller sees
   * to it that nobody else writes to these blocks meanwhile: its range lock
   * is rounded out to `block`.
   */
  void (*submit) (struct target *, struct target_req *);

  /* Block until the request has ended; only then is buf the caller's again.
   * Returns 0, or -ENOTCONN if there was no reply (the connection was lost
   * or shut down: the outcome is unknown), or the target's own -errno.  Of
   * other errors the range may have been written in part, too; and whatever
   * the error, so may the blocks around its ends, with unknown bytes.
   */
  int (*wait) (struct target *, struct target_req *);

  /* As source extents, for scans only (LANE_COPY).  Blocks. */
  int (*extents) (struct target *, struct range r, extent_fn *fn,
                  void *opaque);

  /* End the session: after this every request in flight and every new one
   * ends with -ENOTCONN, soon and whatever the server does.  Any thread, any
   * number of times; does not block.
   */
  void (*shutdown) (struct target *);

  /* A server that has gone without a word is to be noticed in about so long,
   * also when nothing is asked of it.  Any thread; does not block.  May be
   * NULL.
   */
  void (*set_timeout) (struct target *, uint64_t ns);

  /* Shut down, join all threads, free.  No request may be in flight. */
  void (*free) (struct target *);
};

#define TARGET_MAX_BLOCK (UINT32_C (64) << 10)  /* the NBD protocol's limit */

/* Embed as first member.  Constant from the connection on, but for the last
 * two.
 */
struct target {
  const struct target_ops *ops;
  uint64_t size;                /* bytes, at least the source's */
  uint32_t block;               /* bytes, the least it takes: a power of two,
                                 * 1 ... TARGET_MAX_BLOCK */
  uint32_t preferred_block, max_block;  /* bytes, as it has said, for those who
                                 * want to know; 0: it has not */
  bool can_flush, can_fua, can_zero, can_extents, can_multi_conn;
  bool can_fast_zero;           /* LEG_FAST_ZERO may be passed */
  bool can_trim;                /* TARGET_TRIM may be asked for */
  bool read_only;               /* never a mirror's target */
  unsigned connections;

  /* Set by the engine, opaque first, when it takes the target over; NULL
   * until then.  Called at most once, from any thread without locks, when
   * the target finds its session ended by the other side.  err: -errno of the
   * first failure.  Must not call back into the target, except for shutdown.
   */
  void *lost_opaque;
  void (*_Atomic lost) (void *opaque, struct target *, int err);
};

#endif /* MIRROR_LEGS_H */
