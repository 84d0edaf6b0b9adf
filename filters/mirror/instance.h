/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter's one instance, from .get_ready to .cleanup: what is neither a
 * client's request (filter.c) nor the engine.
 *
 * Errors are reported with nbdkit_error; functions return 0 or -1.
 */

#ifndef MIRROR_INSTANCE_H
#define MIRROR_INSTANCE_H

#include <stdbool.h>
#include <stdint.h>

#include <nbdkit-filter.h>

#include "control.h"
#include "facts.h"
#include "mirror.h"
#include "params.h"
#include "place.h"
#include "source.h"

struct instance;

/* Before the fork: bind the control socket, connect to the target.  No
 * threads.  keys and place (of the source) are kept and must outlive the
 * instance.
 */
extern struct instance *instance_new (const struct filter_keys *keys,
                                      const struct place *place);

/* After the fork: open the source, start threads, start the mirror. */
extern int instance_start (struct instance *in, nbdkit_backend *backend);

/* End the job, join the threads, remove the socket, free.  Accepts NULL. */
extern void instance_free (struct instance *in);

/* Constant after instance_start. */
extern struct mirror *instance_mirror (struct instance *in);
extern uint64_t instance_size (struct instance *in);
extern const struct facts *instance_facts (struct instance *in);

/* The source that a new client must use, or NULL if it opens its own.  After
 * a pivot no client opens the source, which need not be there any more.
 */
extern struct nbdkit_source *instance_shared_source (struct instance *in);

/* Count connected clients. */
extern void instance_client (struct instance *in, int change);

#endif /* MIRROR_INSTANCE_H */
