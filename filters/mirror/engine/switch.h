/* SPDX-License-Identifier: BSD-3-Clause */
/* Bringing everything to a halt for a moment: pivot, detach and hold (rule
 * I12).
 *
 * All three go the same way: tee until nothing differs, hold the clients,
 * drain, let the copiers finish, flush both legs.  Then a pivot gives the
 * clients the target, a detach lets go of it, a hold stays as it is until it
 * is released.  The clients are held for at most `max_pause_ns`; if that is
 * not enough, or a flush fails, or the target is lost, the gate is opened
 * again as if nothing had been.
 *
 * Called by the job's thread only.
 */

#ifndef MIRROR_SWITCH_H
#define MIRROR_SWITCH_H

#include <stdbool.h>

#include "job.h"

/* Bring it about, if everything is so far.  Returns false if the job has ended
 * by it: it is completed, and its regime is not the gate's any more.
 */
extern bool switch_try (struct job *job, enum halt_kind kind);

/* A disk for clients; see pivoted.h.  Of *config are taken where, disk_size,
 * timeout_ns, suspect_ns and restarted; the rest is m's.
 */
extern struct pivoted *switch_new_disk (struct mirror *m,
                                        const struct pivoted_config *config,
                                        struct target *target, int *err);

/* Join the thread of a flush that came too late. */
extern void switch_free (struct job *job);

#endif /* MIRROR_SWITCH_H */
