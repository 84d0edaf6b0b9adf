/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests that are no multiple of the target's minimum block.
 *
 *        block     block     block     block     block
 *     |----:----|---------|---------|---------|--:------|
 *          [========== the request ==============]
 *     [  head   ][          middle           ][  tail   ]
 *
 * The middle, if there is any, is a request of its own on the aligned path.
 * The blocks at the ends are read; of a read what was asked for is copied out,
 * else the new bytes are put in and the blocks are written back.
 *
 * submit sends the reads and the middle, so that the caller's other leg
 * overlaps with them; wait does the rest.  The reads go first: they are short
 * and their answers are what wait will wait for.  The blocks are written back
 * only when all else has succeeded, so that a failure touches as little as
 * possible.
 *
 * Between the read and the write of a block nobody else may write to it: the
 * caller's range lock covers whole blocks (see legs.h).  A session that is
 * lost meanwhile leaves each block old, new, or unknown.
 *
 * The last block of a target whose size is no multiple of it ends with the
 * target.  No server should have such an export; most take these requests.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "target-private.h"

/* A block that the request covers in part. */
struct edge {
  struct range block;           /* bytes of the target */
  char *data;                   /* what is in it */
  struct target_req req;
};

struct blocks {
  struct edge edges[2];
  unsigned nr_edges;
  bool has_middle;
  struct target_req middle;
  char data[];
};

static struct range
req_range (const struct target_req *req)
{
  return (struct range) { req->offset, req->offset + req->count };
}

/* The same kind of request, of a part of it. */
static struct target_req
part_of (const struct target_req *req, struct range r)
{
  return (struct target_req) {
    .op = req->op, .lane = req->lane, .flags = req->flags,
    .count = (uint32_t) range_len (r), .offset = r.start,
    .buf = req->op == TARGET_ZERO ? NULL
      : (char *) req->buf + (r.start - req->offset),
  };
}

static void
add_edge (struct blocks *b, const struct target *t, uint64_t offset)
{
  struct edge *e = &b->edges[b->nr_edges];

  e->block = range_outer ((struct range) { offset, offset + 1 }, t->block,
                          t->size);
  e->data = b->data + (size_t) b->nr_edges * t->block;
  b->nr_edges++;
}

void
target_blocks_submit (struct target_session *s, struct conn *c,
                      struct target_req *req)
{
  const struct target *t = &s->target;
  const struct range r = req_range (req);
  const struct range middle = range_inner (r, t->block, t->size);
  struct blocks *b = calloc (1, sizeof *b + 2 * (size_t) t->block);
  unsigned i;

  req->priv[PRIV_BLOCKS] = b;
  if (b == NULL)
    return;
  b->has_middle = !range_empty (middle);
  if (range_empty (middle) || r.start < middle.start)
    add_edge (b, t, r.start);
  if (range_empty (middle)
      ? r.end > b->edges[0].block.end : r.end > middle.end)
    add_edge (b, t, r.end - 1);

  for (i = 0; i < b->nr_edges; ++i) {
    struct edge *e = &b->edges[i];

    e->req = (struct target_req) {
      .op = TARGET_READ, .lane = req->lane, .buf = e->data,
      .count = (uint32_t) range_len (e->block), .offset = e->block.start,
    };
    target_submit_aligned (s, c, &e->req);
  }
  if (b->has_middle) {
    b->middle = part_of (req, middle);
    target_submit_aligned (s, c, &b->middle);
  }
}

/* Of two results the one to tell: an unknown outcome is worse than an error,
 * and of errors the first counts.
 */
static int
worse (int a, int b)
{
  return a == 0 || b == -ENOTCONN ? b : a;
}

static int
wait_edges (struct target_session *s, struct blocks *b)
{
  int r = 0;
  unsigned i;

  for (i = 0; i < b->nr_edges; ++i)
    r = worse (r, target_wait_aligned (s, &b->edges[i].req));
  return r;
}

/* The contents of the block have been read: move what the request is about
 * out of it, or into it.
 */
static void
exchange (const struct target_req *req, struct edge *e)
{
  const struct range all = req_range (req);
  const struct range r = {
    all.start > e->block.start ? all.start : e->block.start,
    all.end < e->block.end ? all.end : e->block.end,
  };
  char *in_block = e->data + (r.start - e->block.start);
  char *in_request = req->op == TARGET_ZERO ? NULL
    : (char *) req->buf + (r.start - all.start);

  if (req->op == TARGET_READ)
    memcpy (in_request, in_block, range_len (r));
  else if (req->op == TARGET_WRITE)
    memcpy (in_block, in_request, range_len (r));
  else
    memset (in_block, 0, range_len (r));
}

int
target_blocks_wait (struct target_session *s, struct target_req *req)
{
  CLEANUP_FREE struct blocks *b = req->priv[PRIV_BLOCKS];
  struct conn *c;
  unsigned i;
  int r;

  if (b == NULL)
    return -ENOMEM;
  c = req_conn (&b->edges[0].req);
  r = wait_edges (s, b);
  if (b->has_middle)
    r = worse (r, target_wait_aligned (s, &b->middle));
  if (r < 0)
    return r;

  for (i = 0; i < b->nr_edges; ++i)
    exchange (req, &b->edges[i]);
  if (req->op == TARGET_READ)
    return 0;
  for (i = 0; i < b->nr_edges; ++i) {
    b->edges[i].req.op = TARGET_WRITE;
    b->edges[i].req.flags = req->flags & LEG_FUA;
    target_submit_aligned (s, c, &b->edges[i].req);
  }
  return wait_edges (s, b);
}
