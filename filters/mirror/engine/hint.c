/* SPDX-License-Identifier: BSD-3-Clause */
/* See hint.h. */

#include <config.h>

#include "hint.h"

/* How far to ask at once. */
#define HINT_WINDOW (UINT64_C (1) << 30)

static int
add_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct hint *h = opaque;

  if (r.start != h->end)
    return 1;
  if (h->count > 0 && h->extents[h->count - 1].kind == kind)
    h->extents[h->count - 1].end = r.end;
  else if (h->count < HINT_EXTENTS) {
    h->extents[h->count].end = r.end;
    h->extents[h->count].kind = kind;
    h->count++;
  }
  else
    return 1;
  h->end = r.end;
  return 0;
}

void
hint_ask (struct hint *h, struct source *source, uint64_t at, uint64_t size)
{
  struct range window = { at, at + HINT_WINDOW };

  if (window.end > size)
    window.end = size;
  h->start = h->end = at;
  h->count = 0;
  if (source->can_extents)
    source->ops->extents (source, window, add_extent, h);
  if (h->end == at)
    add_extent (h, window, EXTENT_DATA);
}

bool
hint_look (const struct hint *h, uint64_t at, struct range *r,
           enum extent_kind *kind)
{
  size_t lo = 0, hi = h->count, mid;

  if (at < h->start || at >= h->end)
    return false;
  while (lo < hi) {             /* the first extent that ends after `at` */
    mid = lo + (hi - lo) / 2;
    if (h->extents[mid].end > at)
      hi = mid;
    else
      lo = mid + 1;
  }
  *r = (struct range) { at, h->extents[lo].end };
  *kind = h->extents[lo].kind;
  return true;
}
