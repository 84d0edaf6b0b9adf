/* SPDX-License-Identifier: BSD-3-Clause */
/* Token bucket: how long to wait before the next piece of copying.
 *
 * Not thread-safe; the caller's lock.  Time comes in as an argument
 * (nanoseconds, never going back) and is never read here.
 *
 * The bucket may go into debt: a piece is let through whole once the level
 * is above zero, and the next one waits until the debt is paid.  So a piece
 * larger than the bucket passes, and the long-run rate is exact.
 */

#ifndef MIRROR_PACE_H
#define MIRROR_PACE_H

#include <stdint.h>

struct pace {
  uint64_t rate_bytes_per_s;    /* 0 = no limit */
  uint64_t last_ns;             /* when level was computed */
  int64_t level_bytes;          /* negative: debt */
  uint64_t remainder;           /* byte-nanoseconds below one byte */
};

/* A full bucket.  rate 0 ... 2^63-1 bytes per second, 0 = no limit. */
extern void pace_init (struct pace *p, uint64_t rate_bytes_per_s,
                       uint64_t now_ns);

/* Change the rate; what has been saved up or owed so far is dropped. */
extern void pace_set_rate (struct pace *p, uint64_t rate_bytes_per_s,
                           uint64_t now_ns);

/* May a piece go now?  0: yes; else the nanoseconds after which to ask again
 * (an upper bound of a second, so that a new rate takes effect soon).
 */
extern uint64_t pace_delay_ns (struct pace *p, uint64_t now_ns);

/* A piece of that many bytes has been let through. */
extern void pace_take (struct pace *p, uint64_t bytes, uint64_t now_ns);

#endif /* MIRROR_PACE_H */
