/* SPDX-License-Identifier: BSD-3-Clause */
/* Judging a target: by the error that there was instead of one, and by what it
 * has told about its export.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>

#include "target-private.h"
#include "target-uri.h"
#include "target.h"

bool
target_is_unreachable (int err)
{
  switch (-err) {
  case ENOENT:                  /* a Unix socket */
  case ECONNREFUSED: case ECONNRESET: case ENOTCONN: case EPIPE:
  case EHOSTUNREACH: case EHOSTDOWN: case ENETUNREACH: case ENETDOWN:
  case ETIMEDOUT: case EAGAIN:
  case EIO:                     /* names that cannot be looked up */
    return true;
  default:
    return false;
  }
}

bool
target_is_unfit (int err)
{
  switch (-err) {
  case ENOMEM: case EMFILE: case ENFILE: case ECANCELED: case EBUSY:
    return false;
  default:
    return err < 0 && !target_is_unreachable (err);
  }
}

int
target_check (const struct target *target, uint64_t source_size,
              uint64_t granularity, char *error)
{
  const struct target_session *s = (const struct target_session *) target;

  if (target->size < source_size)
    target_error (error, s->uri, "the target is smaller (%" PRIu64 " bytes) "
                  "than the source (%" PRIu64 " bytes)", target->size,
                  source_size);
  else if (granularity < target->block)
    target_error (error, s->uri, "the granularity (%" PRIu64 ") is smaller "
                  "than the target's minimum block size (%" PRIu32 ")",
                  granularity, target->block);
  else if (round_down_p2 (target->size, target->block) < source_size)
    target_error (error, s->uri, "the source (%" PRIu64 " bytes) ends in a "
                  "block of %" PRIu32 " bytes that the target (%" PRIu64
                  " bytes) has not whole", source_size, target->block,
                  target->size);
  else
    return 0;
  return -EINVAL;
}
