/* SPDX-License-Identifier: BSD-3-Clause */
/* How fast a job's numbers change: averages over the last five seconds.
 *
 * Whoever happens to be at work (a copier, the job's thread, somebody who asks
 * for the status) hands in a point now and then; half a second between two of
 * them is enough.  A rate is the difference between now and the newest point
 * that is at least RATES_WINDOW_NS old, or the oldest there is.  So with a gap
 * in the points it is the average over a longer time, never a guess.
 *
 * Thread-safe; the mutex is a leaf (job.h).
 */

#ifndef MIRROR_RATES_H
#define MIRROR_RATES_H

#include <stdbool.h>
#include <stdint.h>

#include "sync.h"

#define RATES_WINDOW_NS UINT64_C (5000000000)
#define RATES_STEP_NS UINT64_C (500000000)

/* Over a shorter time there is no rate. */
#define RATES_LEAST_NS UINT64_C (250000000)

/* Enough for the window, with one more point before it. */
#define RATES_POINTS (RATES_WINDOW_NS / RATES_STEP_NS + 2)

struct rates_point {
  uint64_t when_ns;
  uint64_t dirtied;             /* bytes that clients have made dirty */
  uint64_t progress;            /* bytes that have become equal */
  uint64_t copied;              /* bytes that were sent for that */
};

struct rates {
  _Atomic uint64_t due_ns;      /* of the next point; read without the lock */
  struct mutex lock;
  struct rates_point points[RATES_POINTS];      /* a ring */
  unsigned count, next;
};

/* Bytes per second; all 0 if span_ns is. */
struct rates_result {
  uint64_t span_ns;             /* the time they are about; 0: too short */
  uint64_t dirtied, progress, copied;
};

extern void rates_init (struct rates *r, uint64_t now_ns);
extern void rates_destroy (struct rates *r);

/* Is it time for a point?  Lock-free. */
extern bool rates_due (const struct rates *r, uint64_t now_ns);

/* Does nothing if it is not. */
extern void rates_note (struct rates *r, const struct rates_point *now);

extern void rates_read (struct rates *r, const struct rates_point *now,
                        struct rates_result *result);

#endif /* MIRROR_RATES_H */
