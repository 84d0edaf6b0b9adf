/* SPDX-License-Identifier: BSD-3-Clause */
/* Does a file count, and which of its headers?  See store.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "store.h"

/* What to do about a file that was ours.  It may have known that the clients
 * have been moved, which nothing else does.
 */
#define START_OVER \
  "delete it to start over: that costs a full copy (but if clients had been " \
  "moved to the target, only that has their data)"

int
intent_load (const void *buf, uint64_t size, struct intent_head *head,
             int *copy, char *error)
{
  const char *b = buf;
  CLEANUP_FREE struct intent_head *h = calloc (2, sizeof *h);
  int result[2], i, r;

  if (!h) {
    snprintf (error, INTENT_ERROR_MAX, "out of memory");
    return -ENOMEM;
  }
  for (i = 0; i < 2; ++i)
    result[i] = intent_decode_head (&h[i], b + i * INTENT_HEADER_SIZE);
  r = intent_choose_head (h, result);
  switch (r) {
  case 0:
  case 1:
    break;
  case -ENOTSUP:
    snprintf (error, INTENT_ERROR_MAX, "is an intent file of version %" PRIu64
              ", this program knows %u: use a newer program, or " START_OVER,
              result[0] == -ENOTSUP ? h[0].generation : h[1].generation,
              INTENT_VERSION);
    return r;
  case -EINVAL:
    snprintf (error, INTENT_ERROR_MAX, "is no intent file: it is left alone; "
              "give a name that does not exist, for a new one");
    return r;
  default:
    snprintf (error, INTENT_ERROR_MAX, "is damaged (no header is whole): "
              START_OVER);
    return r;
  }
  if (size < intent_file_size (&h[r])) {
    snprintf (error, INTENT_ERROR_MAX, "is cut off: it has %" PRIu64 " bytes "
              "and needs %" PRIu64 ": " START_OVER, size,
              intent_file_size (&h[r]));
    return -ENODATA;
  }
  *head = h[r];
  *copy = r;
  return 0;
}
