/* SPDX-License-Identifier: BSD-3-Clause */
/* See hint.h. */

#include <config.h>

#include <string.h>

#include "hint.h"

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
hint_copy (struct hint *to, const struct hint *from)
{
  to->start = from->start;
  to->end = from->end;
  to->count = from->count;
  memcpy (to->extents, from->extents, from->count * sizeof from->extents[0]);
}

void
hint_ask (struct hint *h, struct source *source, struct range window)
{
  h->start = h->end = window.start;
  h->count = 0;
  if (source->can_extents)
    source->ops->extents (source, window, add_extent, h);
  if (h->end == window.start)
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
