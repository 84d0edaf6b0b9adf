/* SPDX-License-Identifier: BSD-3-Clause */
/* Background copying: threads that carry dirty extents to the target, each
 * one extent at a time (rule I5).
 *
 * Thread-safe.
 */

#ifndef MIRROR_COPIER_H
#define MIRROR_COPIER_H

#include <stdbool.h>
#include <stdint.h>

#include "legs.h"
#include "hint.h"
#include "pair.h"

struct copiers;

struct copier_params {
  uint64_t speed;               /* bytes per second, 0 = no limit */
  uint64_t buf_size;            /* bytes in flight, all threads together */
  unsigned threads;             /* 0 = default; fewer if buf_size is small */
};

/* idle: called by a copier, without locks, when it has ended a claim and
 * found nothing more to do.  Both legs and the pair outlive the copiers.
 * Threads start at once but copy nothing until copiers_run (true).  Returns
 * NULL and *err = -ENOMEM or -EAGAIN.
 */
extern struct copiers *copiers_new (struct pair *p, struct source *source,
                                    const struct copier_params *params,
                                    void (*idle) (void *opaque),
                                    void *opaque, int *err);

/* Stop after the pieces in flight, join, free.  Accepts NULL. */
extern void copiers_free (struct copiers *c);

extern void copiers_run (struct copiers *c, bool run);

/* copiers_run (false), and block until no piece is being copied. */
extern void copiers_stop (struct copiers *c);

/* What has failed is tried again at once: there is reason to think that it
 * works now.
 */
extern void copiers_retry_now (struct copiers *c);

/* Takes effect at once, also for a copier that is waiting for its turn. */
extern void copiers_set_speed (struct copiers *c, uint64_t bytes_per_s);

/* Clients are being held until all has been copied: they do not come first.
 * The speed that the user has set stays.
 */
extern void copiers_hurry (struct copiers *c, bool hurry);

/* At least a granule; pieces that are being copied are not affected. */
/* What the source is like somewhere: whoever copies there soon need not ask. */
extern void copiers_note_extents (struct copiers *c, const struct hint *h);

extern void copiers_set_buf_size (struct copiers *c, uint64_t bytes);

/* D has grown.  Cheap when no copier sleeps. */
extern void copiers_wake (struct copiers *c);

/* How often choosing has come to the end of the disk and begun anew. */
extern uint64_t copiers_rounds (struct copiers *c);

/* Has all that is dirty failed again and again (retry.h)?  If it is in very
 * many pieces the answer may be no instead of yes.
 */
extern bool copiers_failing (struct copiers *c);

/* Is any piece being copied now? */
extern bool copiers_busy (struct copiers *c);

#endif /* MIRROR_COPIER_H */
