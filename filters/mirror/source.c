/* SPDX-License-Identifier: BSD-3-Clause */
/* See source.h. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "source.h"

static nbdkit_next *
next_of (struct source *s)
{
  return ((struct nbdkit_source *) s)->next;
}

/* nbdkit's results to -errno.  A plugin that fails without a reason: EIO. */
static int
result (int r, int err)
{
  if (r == 0)
    return 0;
  return err > 0 ? -err : -EIO;
}

static uint32_t
nbdkit_flags (unsigned flags)
{
  uint32_t r = 0;

  if (flags & LEG_FUA)
    r |= NBDKIT_FLAG_FUA;
  if (flags & LEG_MAY_TRIM)
    r |= NBDKIT_FLAG_MAY_TRIM;
  if (flags & LEG_FAST_ZERO)
    r |= NBDKIT_FLAG_FAST_ZERO;
  return r;
}

/* Whole blocks (the last one ends with the disk), in pieces. */
static int
read_blocks (struct nbdkit_source *s, char *buf, struct range r)
{
  int err = 0, ret;
  uint64_t n;

  for (; !range_empty (r); r.start += n, buf += n) {
    n = range_len (r) < s->max_read ? range_len (r) : s->max_read;
    ret = s->next->pread (s->next, buf, (uint32_t) n, r.start, 0, &err);
    if (ret < 0)
      return result (ret, err);
  }
  return 0;
}

static int
source_pread (struct source *base, void *buf, uint32_t count, uint64_t offset)
{
  struct nbdkit_source *s = (struct nbdkit_source *) base;
  const struct range r = { offset, offset + count };
  const struct range blocks = range_outer (r, s->block, s->size);
  CLEANUP_FREE char *whole = NULL;
  int ret;

  if (range_len (blocks) == count)
    return read_blocks (s, buf, r);
  whole = malloc (range_len (blocks));
  if (!whole)
    return -ENOMEM;
  ret = read_blocks (s, whole, blocks);
  if (ret == 0)
    memcpy (buf, whole + (offset - blocks.start), count);
  return ret;
}

static int
source_pwrite (struct source *s, const void *buf, uint32_t count,
               uint64_t offset, unsigned flags)
{
  nbdkit_next *next = next_of (s);
  int err = 0, r;

  r = next->pwrite (next, buf, count, offset, nbdkit_flags (flags), &err);
  return result (r, err);
}

static int
source_zero (struct source *s, uint32_t count, uint64_t offset,
             unsigned flags)
{
  nbdkit_next *next = next_of (s);
  int err = 0, r;

  r = next->zero (next, count, offset, nbdkit_flags (flags), &err);
  r = result (r, err);
  /* The server asserts that only a fast zero is refused. */
  if (r == -ENOTSUP && !(flags & LEG_FAST_ZERO))
    r = -EIO;
  return r;
}

static int
source_trim (struct source *s, uint32_t count, uint64_t offset,
             unsigned flags)
{
  nbdkit_next *next = next_of (s);
  int err = 0, r;

  r = next->trim (next, count, offset, nbdkit_flags (flags), &err);
  return result (r, err);
}

static int
source_flush (struct source *s)
{
  nbdkit_next *next = next_of (s);
  int err = 0, r = next->flush (next, 0, &err);

  return result (r, err);
}

static int
source_extents (struct source *s, struct range r, extent_fn *fn, void *opaque)
{
  nbdkit_next *next = next_of (s);
  struct nbdkit_extents *extents;
  struct nbdkit_extent e;
  uint64_t len = range_len (r), at = r.start, end;
  int err = 0, ret;
  size_t i;

  /* A 32 bit length; aligned, so as not to cut an extent oddly. */
  if (len > UINT32_MAX)
    len = UINT32_C (1) << 31;
  extents = nbdkit_extents_new (r.start, r.start + len);
  if (!extents)
    return -ENOMEM;

  ret = result (next->extents (next, (uint32_t) len, r.start, 0, extents,
                               &err), err);
  for (i = 0; ret == 0 && i < nbdkit_extents_count (extents); ++i) {
    e = nbdkit_get_extent (extents, i);
    end = e.offset + e.length;
    if (e.offset > at)
      break;                    /* cannot be, says nbdkit-filter(3) */
    if (end > r.start + len)
      end = r.start + len;
    if (end <= at)
      continue;
    ret = fn (opaque, (struct range) { at, end },
              e.type & NBDKIT_EXTENT_ZERO ? EXTENT_ZERO : EXTENT_DATA);
    at = end;
  }
  nbdkit_extents_free (extents);
  return ret;
}

static const struct source_ops source_ops = {
  .pread = source_pread,
  .pwrite = source_pwrite,
  .zero = source_zero,
  .trim = source_trim,
  .flush = source_flush,
  .extents = source_extents,
};

/* nbdkit has checked the sizes; all 0: no limits. */
static void
use_block_size (struct nbdkit_source *s, uint32_t minimum, uint32_t maximum)
{
  s->block = minimum > 0 ? minimum : 1;
  s->max_read = LEG_MAX_REQUEST;
  if (maximum > 0 && maximum < s->max_read)
    s->max_read = (uint32_t) round_down_p2 (maximum, s->block);
  if (s->max_read < s->block)
    s->max_read = s->block;
}

int
source_init (struct nbdkit_source *s, nbdkit_next *next)
{
  uint32_t minimum, preferred, maximum;
  int64_t size;
  int r;

  s->base.ops = &source_ops;
  s->next = next;

  size = next->get_size (next);
  if (size < 0 || (r = next->can_write (next)) < 0)
    return -1;
  s->size = (uint64_t) size;
  s->read_only = r == 0;
  if ((r = next->can_flush (next)) < 0)
    return -1;
  s->base.can_flush = r == 1;
  if (next->can_fua (next) < 0 || next->can_zero (next) < 0 ||
      (r = next->can_fast_zero (next)) < 0)
    return -1;
  s->base.can_fast_zero = !s->read_only && r == 1;
  if (next->can_trim (next) < 0 || (r = next->can_extents (next)) < 0)
    return -1;
  s->base.can_extents = r == 1;
  if (next->can_cache (next) < 0 || next->can_multi_conn (next) < 0 ||
      next->is_rotational (next) < 0 ||
      next->block_size (next, &minimum, &preferred, &maximum) < 0)
    return -1;
  use_block_size (s, minimum, maximum);
  return 0;
}
