/* SPDX-License-Identifier: BSD-3-Clause */
/* What the source's extents looked like a while ago, around the place where
 * copying is at the moment.
 *
 * Only a hint: it decides how much is taken at once and whether the source is
 * asked again, never what is written.
 *
 * Not thread-safe; the caller's lock.  hint_ask blocks and wants none.
 */

#ifndef MIRROR_HINT_H
#define MIRROR_HINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "legs.h"

/* Extents remembered.  A server may have to go through its whole map to
 * answer (nbdkit's memory plugin does), so one question should last.
 */
#define HINT_EXTENTS 1024

struct hint {
  uint64_t start, end;          /* known: [start, end) */
  size_t count;
  struct {
    uint64_t end;
    enum extent_kind kind;
  } extents[HINT_EXTENTS];
};

/* Ask the source about what begins at `at`, and make *h just that.  Where the
 * source does not answer it is data.  at < size.
 */
extern void hint_ask (struct hint *h, struct source *source, uint64_t at,
                      uint64_t size);

/* The extent around `at`, from `at` on.  Returns false if nothing is known. */
extern bool hint_look (const struct hint *h, uint64_t at, struct range *r,
                       enum extent_kind *kind);

#endif /* MIRROR_HINT_H */
