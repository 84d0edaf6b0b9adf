/* SPDX-License-Identifier: BSD-3-Clause */
/* What follows at the start from what the intent file says: a decision, and
 * nothing else.  The table is in nbdkit-mirror-filter(1).
 *
 * It comes in two parts, since the size of the source is only known when nbdkit
 * has forked, and the user should be told the rest before that.
 *
 * No I/O but the looking for Unix sockets that place.h does; functions are
 * pure.
 */

#ifndef MIRROR_INTENT_PLAN_H
#define MIRROR_INTENT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "format.h"
#include "params.h"

/* What the command line wants. */
struct plan_wanted {
  const char *file;             /* path of the intent file */
  const char *source;           /* its identity (place.h) */
  const char *target;           /* URI, or NULL: none */
  uint64_t granularity;         /* 0: not given, so the file's is good */
  enum sync_mode sync;
  enum after_pivot after_pivot;
};

enum plan_action {
  PLAN_REFUSE,                  /* nbdkit does not start; the file stays */
  PLAN_NO_JOB,                  /* clients are served, that is all */
  PLAN_START,                   /* a new mirror to wanted->target, as it says */
  PLAN_RESUME,                  /* the recorded one goes on */
};

struct plan {
  enum plan_action action;
  bool create;                  /* there is no file yet: make one */
  bool unpivot;                 /* clients get the source again, by order */
  bool fenced;                  /* from the start on */

  /* URI of the target of PLAN_START and PLAN_RESUME, else NULL; and of what
   * clients have instead of the source, or NULL.  Of the arguments' strings.
   */
  const char *target, *disk;

  /* One line for the log, or why it is refused; "" = there is nothing to say.
   * Does not name the file.
   */
  char line[PARAMS_ERROR_MAX];
};

/* head: what the file says; NULL: there is none. */
extern void plan_make (struct plan *plan, const struct intent_head *head,
                       const struct plan_wanted *wanted);

/* Does it hold, now that the sizes are known?  target_size: of a connected one,
 * else 0.  0, or -EINVAL with one line in error, which does not name the file.
 */
extern int plan_check_sizes (const struct plan *plan,
                             const struct intent_head *head,
                             uint64_t source_size, uint64_t target_size,
                             char *error);

#endif /* MIRROR_INTENT_PLAN_H */
