/* SPDX-License-Identifier: BSD-3-Clause */
/* Who waits for the target, and since when: finds out that it hangs.
 *
 * A client request waits for the target as long as it waits for the target's
 * reply, for the target to take the request, or for the range lock of
 * somebody who does; not while its own source leg is under way.  However many
 * requests queue up behind each other, each has its own clock, so a target
 * that answers just in time, again and again, does not make the last of them
 * wait for ever.
 *
 * Copies and the job's own flushes are waited for by nobody at first; they
 * may take longer: copies as long as any copy ends, since a lot of them may
 * be queued on a slow line; a flush ten times as long, since a target may
 * have a large cache to write.
 *
 * begin, change and end are lock-free.  A request that finds no free slot is
 * not recorded; there are so many others then.
 */

#ifndef MIRROR_WAITS_H
#define MIRROR_WAITS_H

#include <stdbool.h>
#include <stdint.h>

struct waits;

enum wait_kind {
  WAIT_SOURCE,                  /* recorded, but nothing of the target */
  WAIT_TARGET,                  /* a client's request */
  WAIT_LOCK,                    /* ... for a range lock */
  WAIT_COPY,
  WAIT_FLUSH,                   /* the job's */
};

/* A recorded wait; on the stack of who waits. */
struct wait {
  unsigned slot;
  uint64_t began_ns;            /* of the part that goes on */
  uint64_t so_far_ns;           /* of the target's in the parts before */
  enum wait_kind kind;
};

extern struct waits *waits_new (void);          /* NULL: ENOMEM */
extern void waits_free (struct waits *w);       /* nobody waits */

extern void waits_begin (struct waits *w, struct wait *wait,
                         enum wait_kind kind, uint64_t now_ns);

/* The same request now waits for something else. */
extern void waits_change (struct waits *w, struct wait *wait,
                          enum wait_kind kind, uint64_t now_ns);

extern void waits_end (struct waits *w, struct wait *wait);

/* A copy's request has been answered. */
extern void waits_progress (struct waits *w, uint64_t now_ns);

/* Has anybody waited for longer than he may? */
extern bool waits_overdue (const struct waits *w, uint64_t now_ns,
                           uint64_t timeout_ns);

#endif /* MIRROR_WAITS_H */
