/* SPDX-License-Identifier: BSD-3-Clause */
/* The first pass of a full mirror: what has to be copied at all (rule I6).
 *
 * Everything is marked that the source does not say reads as zero, and where
 * it does, everything that the target does not say reads as zero: a target
 * may be full of old data.
 *
 * Tracking must be on and all older requests must have ended before the scan
 * begins; a write that lands after its place was scanned marks by itself.
 */

#ifndef MIRROR_SCAN_H
#define MIRROR_SCAN_H

#include <stdbool.h>

#include "hint.h"
#include "legs.h"
#include "pair.h"

/* What the source is like somewhere, before that is marked; several threads. */
typedef void scan_told_fn (void *opaque, const struct hint *extents);

/* Blocks.  Looks at *stop between requests to the legs; returns -ECANCELED
 * if it was set, else 0: what cannot be found out is marked.
 */
extern int scan_full (struct pair *p, struct source *source,
                      const _Atomic bool *stop, scan_told_fn *tell,
                      void *opaque);

#endif /* MIRROR_SCAN_H */
