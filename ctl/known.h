/* SPDX-License-Identifier: BSD-3-Clause */
/* What the intent file of nbdmirror run says of its mirror.  The filter reads
 * it for itself, and judges it; this is for what is to be decided before that.
 */

#ifndef MIRROR_KNOWN_H
#define MIRROR_KNOWN_H

#include <stdbool.h>

#include "store.h"

struct known {
  /* An enum intent_state: then the target has data that belongs to the source,
   * and the filter sees to it that both are the right ones, and that nothing is
   * written to the target of a mirror that has ended.  0, INTENT_IDLE: there
   * has been no mirror, or there is no file.  -errno: the file cannot be used.
   */
  int state;
  bool moved;                   /* clients have been moved to the target */
  char error[INTENT_ERROR_MAX]; /* one line, if state is -errno */
};

/* bitmap: the path; NULL: there is no intent file.  Changes nothing. */
extern void known_look (struct known *known, const char *bitmap);

#endif /* MIRROR_KNOWN_H */
