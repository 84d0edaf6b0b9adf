/* SPDX-License-Identifier: BSD-3-Clause */
/* See facts.h. */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "facts.h"

int
facts_ask (struct facts *f, nbdkit_next *next)
{
  const char *text = next->export_description (next);

  f->size = next->get_size (next);
  f->can_write = next->can_write (next);
  f->can_flush = next->can_flush (next);
  f->is_rotational = next->is_rotational (next);
  f->can_trim = next->can_trim (next);
  f->can_zero = next->can_zero (next);
  f->can_fast_zero = next->can_fast_zero (next);
  f->can_extents = next->can_extents (next);
  f->can_fua = next->can_fua (next);
  f->can_multi_conn = next->can_multi_conn (next);
  f->can_cache = next->can_cache (next);
  if (f->size < 0 || f->can_write < 0 || f->can_flush < 0 ||
      f->is_rotational < 0 || f->can_trim < 0 || f->can_zero < 0 ||
      f->can_fast_zero < 0 || f->can_extents < 0 || f->can_fua < 0 ||
      f->can_multi_conn < 0 || f->can_cache < 0 ||
      next->block_size (next, &f->minimum, &f->preferred, &f->maximum) < 0)
    return -1;
  /* Emulation is for the layer below: if it happened above, a zero would come
   * as a write.
   */
  if (f->can_zero > NBDKIT_ZERO_NONE)
    f->can_zero = NBDKIT_ZERO_NATIVE;
  f->description = text ? strdup (text) : NULL;
  return 0;
}

void
facts_of_disk (struct facts *f, uint64_t size, const struct target *target)
{
  *f = (struct facts) {
    .size = (int64_t) size,
    .can_write = 1,
    .can_flush = !target || target->can_flush,
    .can_trim = 1,
    .can_zero = NBDKIT_ZERO_NATIVE,
    .can_extents = 1,
    .can_fua = NBDKIT_FUA_NATIVE,
    .can_multi_conn = 1,        /* all clients share its connections */
  };
  if (!f->can_flush)
    f->can_fua = NBDKIT_FUA_NONE;
}

void
facts_clear (struct facts *f)
{
  free (f->description);
  f->description = NULL;
}
