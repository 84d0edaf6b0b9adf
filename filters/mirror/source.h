/* SPDX-License-Identifier: BSD-3-Clause */
/* The source leg over an nbdkit context (see engine/legs.h).
 *
 * A client's own context serves its requests in its own threads; the copier
 * has a context of its own, opened in the background, that several threads
 * use.  Where the plugin does not promise that two contexts see each other's
 * writes (no multi-conn), there is only that one, and clients use it too.
 *
 * Reads may have any alignment and size: what the source does not take is
 * widened to its blocks and split.  Other requests are the clients', who know
 * its limits.
 */

#ifndef MIRROR_SOURCE_H
#define MIRROR_SOURCE_H

#include <nbdkit-filter.h>

#include "legs.h"

struct nbdkit_source {
  struct source base;           /* first */
  nbdkit_next *next;
  bool read_only;
  uint64_t size;                /* bytes */
  uint32_t block;               /* the least it reads: bytes, power of two */
  uint32_t max_read;            /* the most: bytes, multiple of block */
};

/* Ask the context for everything once: nbdkit asserts that this has been done
 * before data calls, and the answers are cached.  The context must have been
 * prepared.  Returns 0 or -1 after nbdkit_error.
 */
extern int source_init (struct nbdkit_source *s, nbdkit_next *next);

#endif /* MIRROR_SOURCE_H */
