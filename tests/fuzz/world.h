/* SPDX-License-Identifier: BSD-3-Clause */
/* What the control socket controls when it is fuzzed: the real engine between
 * two small disks in memory.
 *
 * One at a time; one thread.
 */

#ifndef FUZZ_WORLD_H
#define FUZZ_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "mirror.h"

struct world;

/* Serves a control socket at path; *path has been made by nobody yet.  Aborts
 * on failure, as all of these do.
 */
extern struct world *world_new (const char *path);

/* No client may be connected. */
extern void world_free (struct world *w);

/* Until the job is ready, has ended, or that much time is over. */
extern void world_settle (struct world *w, uint64_t ns);

/* End what may keep a command waiting. */
extern void world_cancel (struct world *w);

/* Nothing of an input has been left behind: it can serve for the next. */
extern bool world_is_new (struct world *w);

#endif /* FUZZ_WORLD_H */
