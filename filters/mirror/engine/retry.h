/* SPDX-License-Identifier: BSD-3-Clause */
/* Ranges whose copy has failed, and when each may be tried again.
 *
 * Back-off doubles from 0.5 s to 30 s for each range by itself, with jitter,
 * so that one bad range of the target neither blocks the rest nor is hammered.
 * A range that failed as one may be tried again as several, side by side; when
 * these fail, too, that is one failure more, not several: an outage of a
 * moment must not cost half a minute.
 * The number of ranges is bounded; when the table is full, everything waits.
 *
 * Not thread-safe; the caller's lock.  Pure: time comes in as an argument.
 */

#ifndef MIRROR_RETRY_H
#define MIRROR_RETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"

#define RETRY_MAX 64
#define RETRY_MIN_NS UINT64_C (500000000)
#define RETRY_MAX_NS UINT64_C (30000000000)

struct retry {
  struct retry_entry {
    struct range range;
    uint64_t due_ns, delay_ns;
  } entries[RETRY_MAX];
  unsigned count;
  uint64_t all_due_ns;          /* nothing before that: the table was full */
  uint64_t random;
};

extern void retry_init (struct retry *r, uint64_t seed);

/* A copy of range, which was begun at began_ns, failed. */
extern void retry_failed (struct retry *r, struct range range,
                          uint64_t began_ns, uint64_t now_ns);

/* A copy of range succeeded. */
extern void retry_succeeded (struct retry *r, struct range range);

/* Has everything in range failed so often in a row, and everything else in the
 * table, too?  If the table is full range does not matter.
 */
#define RETRY_AGAIN 3
extern bool retry_failing (const struct retry *r, struct range range);

/* What of range may be tried now: cuts it down to its first part that is not
 * waiting.  Returns false if nothing of it may; then *due_ns is when to ask
 * again at the latest, and range->end says up to where nothing may.
 */
extern bool retry_allows (const struct retry *r, struct range *range,
                          uint64_t now_ns, uint64_t *due_ns);

#endif /* MIRROR_RETRY_H */
