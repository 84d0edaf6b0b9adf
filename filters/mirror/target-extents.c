/* SPDX-License-Identifier: BSD-3-Clause */
/* Block status of the target.
 *
 * What a server says is a hint to save work, and only "reads as zero" saves
 * any: so an error, and whatever makes no sense, counts as data.
 */

#include <config.h>

#include <errno.h>

#include "target-private.h"

/* The most that fits the wire, but a multiple of any block. */
#define MAX_QUERY ((UINT64_C (1) << 32) - TARGET_MAX_BLOCK)

/* Report what the server has said about r; its list begins at `at`, which may
 * be before r.  Neighbours of one kind are reported as one.
 */
static int
report (const struct extent_list *list, uint64_t at, struct range r,
        extent_fn *fn, void *opaque)
{
  struct range piece = { r.start, r.start };
  enum extent_kind kind = EXTENT_DATA;
  uint64_t length;
  size_t i;
  int ret;

  for (i = 0; i < list->n && at < r.end; ++i) {
    length = list->e[i].length;
    if (length == 0)
      break;
    if (length > r.end - at)
      length = r.end - at;
    at += length;
    if (at <= r.start)
      continue;
    if (!range_empty (piece) && list->e[i].kind != kind) {
      ret = fn (opaque, piece, kind);
      if (ret != 0)
        return ret;
      piece.start = piece.end;
    }
    kind = list->e[i].kind;
    piece.end = at;
  }
  if (piece.end == r.start) {
    piece.end = r.end;
    kind = EXTENT_DATA;
  }
  return fn (opaque, piece, kind);
}

int
target_extents (struct target *t, struct range r, extent_fn *fn,
                void *opaque)
{
  struct target_session *s = (struct target_session *) t;
  struct extent_list list = { .n = 0 };
  struct target_req req = { .op = TARGET_FLUSH, .lane = LANE_COPY };
  struct range query = range_outer (r, t->block, t->size);

  if (range_len (query) > MAX_QUERY)
    query.end = query.start + MAX_QUERY;
  if (r.end > query.end)
    r.end = query.end;
  if (t->can_extents) {
    req_begin (&req, target_pick_conn (s, LANE_COPY), 1);
    conn_issue (req_conn (&req), &req, WIRE_STATUS, NULL,
                (uint32_t) range_len (query), query.start, 0, &list);
    conn_wait (&req);
    if (req.result == -ENOTCONN)
      return req.result;
    if (req.result < 0)
      list.n = 0;
  }
  return report (&list, query.start, r, fn, opaque);
}
