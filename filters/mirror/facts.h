/* SPDX-License-Identifier: BSD-3-Clause */
/* What clients are told about the export.  It is told once to each, so it is
 * always the source's, also after a pivot, when there may be no source left
 * to ask.
 */

#ifndef MIRROR_FACTS_H
#define MIRROR_FACTS_H

#include <stdint.h>

#include <nbdkit-filter.h>

#include "legs.h"

struct facts {
  int64_t size;                 /* bytes */
  int can_write, can_flush, is_rotational, can_trim, can_zero, can_fast_zero,
    can_extents, can_fua, can_multi_conn, can_cache;
  uint32_t minimum, preferred, maximum;         /* blocks; 0: no limits */
  char *description;            /* or NULL; owned */
};

/* Ask a context that has been prepared.  0, or -1 after nbdkit_error. */
extern int facts_ask (struct facts *f, nbdkit_next *next);
/* Of a disk that is served in place of a source that is not asked.  What it
 * lacks is emulated, but for flushing; target NULL: nobody knows yet.
 */
extern void facts_of_disk (struct facts *f, uint64_t size,
                           const struct target *target);
extern void facts_clear (struct facts *f);

#endif /* MIRROR_FACTS_H */
