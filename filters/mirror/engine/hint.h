/* SPDX-License-Identifier: BSD-3-Clause */
/* What a part of the source's extents looked like when it was asked: for the
 * scan, what it goes by; for copying, around the place where it is at the
 * moment, a while ago.
 *
 * For copying it is only a hint: it decides how much is taken at once and
 * whether the source is asked again, never what is written.
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

/* How far to ask at once, if nothing else limits it. */
#define HINT_WINDOW (UINT64_C (1) << 30)

/* Ask the source about a range that is not empty, and make *h just that: of its
 * beginning, as much as it tells and fits.  Where the source does not answer it
 * is data, all of it.
 */
extern void hint_ask (struct hint *h, struct source *source,
                      struct range window);

static inline struct range
hint_window (uint64_t at, uint64_t size)
{
  return (struct range) {
    at, size - at < HINT_WINDOW ? size : at + HINT_WINDOW };
}

extern void hint_copy (struct hint *to, const struct hint *from);

/* The extent around `at`, from `at` on.  Returns false if nothing is known. */
extern bool hint_look (const struct hint *h, uint64_t at, struct range *r,
                       enum extent_kind *kind);

#endif /* MIRROR_HINT_H */
