/* SPDX-License-Identifier: BSD-3-Clause */
/* Online verify: compare both sides while clients read and write.
 *
 * One thread for each job goes over the disk.  What is dirty or in flight may
 * differ and is left for later; what is found different and has no such
 * excuse is a *difference*, counted in granules.  docs/correctness.md argues
 * why there are no false alarms.
 *
 * Thread-safe.
 */

#ifndef MIRROR_VERIFY_H
#define MIRROR_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "gate.h"
#include "legs.h"
#include "mirror.h"
#include "pair.h"

struct verifier;

enum verify_leave { VERIFY_GO, VERIFY_WAIT, VERIFY_END };

struct verify_env {
  struct pair *p;               /* all three outlive the verifier */
  struct source *source;
  struct gate *gate;

  /* May it compare now?  Asked before every piece, without locks.  With
   * VERIFY_END, *why becomes the reason, a constant string.  After
   * VERIFY_WAIT it is asked again a little later.
   */
  enum verify_leave (*leave) (void *opaque, const char **why);

  /* It has ended; a new one may be started.  No locks. */
  void (*completed) (void *opaque, const struct mirror_verify_status *st);
  void *opaque;
};

/* Starts nothing.  NULL: out of memory. */
extern struct verifier *verifier_new (const struct verify_env *env);

/* Go over the whole disk once.  speed: bytes per second that are read from
 * each side, 0 = no limit.  unit: most bytes that are read at once, unless a
 * granule is larger; at least 512.  Returns 0, -EALREADY (one is running),
 * -ENOMEM, -EAGAIN.
 */
extern int verifier_start (struct verifier *v, bool repair, uint64_t speed,
                           uint64_t unit);

/* Ask the one that is running to end, with the error "stopped"; returns at
 * once.  -ENOENT: none is running.
 */
extern int verifier_stop (struct verifier *v);

/* Block until it is between two pieces.  It will not begin another one before
 * leave has said VERIFY_GO after this was called.
 */
extern void verifier_quiesce (struct verifier *v);

/* End it, if one is running, with what leave gives as the reason, and join the
 * thread.  None can be started any more.
 */
extern void verifier_end (struct verifier *v);

/* After verifier_end; no request may use the pair any more.  Accepts NULL. */
extern void verifier_free (struct verifier *v);

/* `set` is false if there has been none. */
extern void verifier_status (struct verifier *v,
                             struct mirror_verify_status *st);

#endif /* MIRROR_VERIFY_H */
