/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: a QMP server (nbdkit-mirror-qmp(7)).
 *
 * One thread polls the socket and all clients and runs every command itself,
 * except for those that wait for the target or for requests in flight
 * (blockdev-mirror, mirror-hold, mirror-fence): each gets a thread of its own
 * while its client's later input waits.  Answers and events go out in the
 * order in which they came to be.
 */

#ifndef MIRROR_CONTROL_H
#define MIRROR_CONTROL_H

#include "mirror.h"
#include "params.h"

struct control;

/* What the source can do. */
enum source_flags {
  SOURCE_FLUSH = 1,
  SOURCE_FUA = 2,               /* else by a flush */
  SOURCE_TRIM = 4,
  SOURCE_ZERO = 8,
  SOURCE_FAST_ZERO = 16,
  SOURCE_EXTENTS = 32,
  SOURCE_MULTI_CONN = 64,
};

/* What the commands need of the filter.  Called from control's threads. */
struct control_ops {
  /* Connect to p->target and start a full mirror.  Blocks.  Returns 0, or
   * -errno with one line in error (PARAMS_ERROR_MAX bytes).
   */
  int (*start) (void *opaque, const struct params *p, char *error);

  /* The values that blockdev-mirror's arguments default to. */
  const struct params *(*defaults) (void *opaque);

  /* The URI, without secrets, of the latest job's target, or of the disk that
   * clients have been moved to; "" if none.  A copy, the caller frees.
   */
  char *(*target_uri) (void *opaque);
  char *(*disk_uri) (void *opaque);

  /* The path of the intent file, likewise. */
  char *(*bitmap_file) (void *opaque);

  /* What is not the engine's: facts for query-mirror. */
  unsigned (*clients) (void *opaque);
  uint64_t (*source_size) (void *opaque);
  unsigned (*source_flags) (void *opaque);      /* enum source_flags */

  /* quit: must return at once; the process ends a little later. */
  void (*quit) (void *opaque);
};

/* Bind and listen; no thread yet.  path: absolute, at most 107 bytes.  A dead
 * socket there is replaced; a live one, or anything that is not a socket, is
 * an error.  Mode 0600 from the first moment.  Returns NULL with one line in
 * error (PARAMS_ERROR_MAX bytes).
 */
extern struct control *control_new (const char *path,
                                    const struct control_ops *ops,
                                    void *opaque, char *error);

/* Start serving.  0 or -errno. */
extern int control_start (struct control *c, struct mirror *m);

/* Any thread; queues the event for all clients, does not block. */
extern void control_event (struct control *c, const struct mirror_event *ev);

/* Stop serving (drop all clients), join the threads. */
extern void control_stop (struct control *c);

/* Remove the socket (if it is still ours), free.  Accepts NULL. */
extern void control_free (struct control *c);

#endif /* MIRROR_CONTROL_H */
