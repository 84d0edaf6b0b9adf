/* SPDX-License-Identifier: BSD-3-Clause */
/* See transfer.h. */

#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "transfer.h"

uint64_t
transfer_pieces (const struct transfer *t)
{
  return (range_len (t->outer) + BOUNCE_SIZE - 1) / BOUNCE_SIZE;
}

static struct range
common_part (struct range a, struct range b)
{
  struct range r = { a.start > b.start ? a.start : b.start,
                     a.end < b.end ? a.end : b.end };

  if (r.end < r.start)
    r.end = r.start;
  return r;
}

/* Copy what the piece has in common with `where`, the bytes at `from`. */
static void
fill_part (const struct piece *p, struct range where, const char *from)
{
  struct range part = common_part (
    where, (struct range) { p->offset, p->offset + p->len });

  if (range_empty (part))
    return;
  if (from != NULL)
    memcpy (p->buf + (part.start - p->offset),
            from + (part.start - where.start), range_len (part));
  else
    memset (p->buf + (part.start - p->offset), 0, range_len (part));
}

static void
fill (const struct transfer *t, const struct piece *p)
{
  struct range before = { t->outer.start, t->want.start };
  struct range after = { t->want.end, t->outer.end };

  fill_part (p, t->want, t->data);
  if (!range_empty (before))
    fill_part (p, before, t->head);
  if (!range_empty (after))
    fill_part (p, after, t->tail + t->how.block - range_len (after));
}

int
transfer_next (struct transfer *t, struct piece *p)
{
  uint64_t left = t->outer.end - t->next;

  if (left == 0)
    return 0;
  p->offset = t->next;
  p->len = left < BOUNCE_SIZE ? left : BOUNCE_SIZE;
  if (!t->bounce)
    p->buf = t->data ? t->data + (t->next - t->want.start) : bounce_zeroes ();
  else {
    p->buf = bounce_get (t->bounces);
    if (p->buf == NULL)
      return -ENOMEM;
    if (t->how.write)
      fill (t, p);
  }
  t->next += p->len;
  return 1;
}

void
transfer_done (struct transfer *t, struct piece *p, bool ok)
{
  struct range part;

  if (!t->bounce)
    return;
  if (ok && !t->how.write) {
    part = common_part (t->want,
                        (struct range) { p->offset, p->offset + p->len });
    memcpy (t->data + (part.start - t->want.start),
            p->buf + (part.start - p->offset), range_len (part));
  }
  bounce_put (t->bounces, p->buf);
}

int
transfer_run (struct transfer *t)
{
  struct piece pieces[TRANSFER_AT_ONCE];
  struct iovec iov[TRANSFER_AT_ONCE];
  int i, n, r = 0, more;

  do {
    for (n = 0; n < TRANSFER_AT_ONCE; ++n) {
      more = transfer_next (t, &pieces[n]);
      if (more <= 0)
        break;
      iov[n] = (struct iovec) { pieces[n].buf, pieces[n].len };
    }
    if (n > 0)
      r = rw_full (&t->how, iov, n, pieces[0].offset);
    else if (more < 0)
      r = more;
    for (i = 0; i < n; ++i)
      transfer_done (t, &pieces[i], r == 0);
  } while (n > 0 && r == 0);
  return r;
}
