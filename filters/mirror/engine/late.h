/* SPDX-License-Identifier: BSD-3-Clause */
/* What the source has failed of late, kept for a job that begins later (rule
 * I3).
 *
 * A change that the source has failed may still be carried out, and what it has
 * lost at a failed flush may go only when it is evicted.  A job that is there
 * makes that suspect (suspects.h); but it may end, and another begin, before
 * the suspect time is over.  Such things are rare, so one range is kept that
 * has all of them.
 *
 * Thread-safe.  One mutex, a leaf.
 */

#ifndef MIRROR_LATE_H
#define MIRROR_LATE_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"
#include "sync.h"

struct late {
  struct mutex lock;

  /* Protected by lock. */
  struct range range;           /* empty: nothing */
  uint64_t when_ns;             /* of the latest */
};

extern void late_init (struct late *late);
extern void late_destroy (struct late *late);

/* r may still change by itself. */
extern void late_note (struct late *late, struct range r, uint64_t now_ns);

/* What has been noted within the last time_ns, or more; empty if nothing has
 * been.
 */
extern struct range late_get (struct late *late, uint64_t now_ns,
                              uint64_t time_ns);

#endif /* MIRROR_LATE_H */
