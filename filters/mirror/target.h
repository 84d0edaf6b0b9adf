/* SPDX-License-Identifier: BSD-3-Clause */
/* The target leg over libnbd (see engine/legs.h for the contract).
 *
 * One *session*: all connections are opened together, and the first that is
 * lost ends them all (rule I9).
 */

#ifndef MIRROR_TARGET_H
#define MIRROR_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "legs.h"

/* Connect to `uri` with up to `connections` connections (1 if the server does
 * not promise multi-conn), within timeout_ms altogether, handshake included.
 * The export must be writable and no export of this process.  Blocks for at
 * most timeout_ms, but for looking up the name of the host, which takes as long
 * as the name service does.  Starts no thread, so it may be called before
 * nbdkit forks.  TCP, too, takes a connection for lost when nothing has been
 * heard of the other host for about timeout_ms.
 *
 * Returns 0 and *target, or -errno and one line in error (ERROR_MAX bytes)
 * that names the URI without secrets and the reason.
 */
#define TARGET_ERROR_MAX 512
extern int target_connect (const char *uri, unsigned connections,
                           unsigned timeout_ms, struct target **target,
                           char *error);

/* The same for a source: the export may be read-only, target->read_only tells;
 * and if the server does not take so many connections, one is enough.
 */
extern int target_connect_source (const char *uri, unsigned connections,
                                  unsigned timeout_ms, struct target **target,
                                  char *error);

/* target_connect, but give up soon (-ECANCELED) once *stop is true; *timeout_ns
 * is the limit for all of it, also when it is changed meanwhile.  May leave a
 * thread behind that still looks up the name: -EBUSY if there are too many.
 * Not before nbdkit forks, unless stop is NULL: then it is target_connect.
 */
extern int target_connect_unless (const _Atomic bool *stop, const char *uri,
                                  unsigned connections,
                                  const _Atomic uint64_t *timeout_ns,
                                  struct target **target, char *error);

/* Does that error of target_connect mean that no server is there now, rather
 * than one that is unfit?
 */
extern bool target_is_unreachable (int err);

/* ... that one is there, and unfit?  Of neither is what went wrong here. */
extern bool target_is_unfit (int err);

/* What follows the URI, as it may be shown, in such a line. */
extern const char *target_error_reason (const char *error,
                                        const char *public_uri);

/* Is it fit to be the mirror of a source of that many bytes, with granules
 * of that many bytes?  0 or -EINVAL with a line in error.
 */
extern int target_check (const struct target *target, uint64_t source_size,
                         uint64_t granularity, char *error);

/* Start the threads; must precede the first request, and should follow the
 * setting of `lost`: a loss before that is told by the first request only.
 * 0 or -errno; then the target is good for ops->free only.
 */
extern int target_start (struct target *target);

/* uri as it may be shown: without user information and without any query
 * parameter but socket=.  For any string, also one that is no URI.  To be
 * freed; NULL when out of memory.
 */
extern char *target_public_uri (const char *uri);

#endif /* MIRROR_TARGET_H */
