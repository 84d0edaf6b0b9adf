/* SPDX-License-Identifier: BSD-3-Clause */
/* See carry.h. */

#include <config.h>

#include <errno.h>

#include "carry.h"
#include "iszero.h"

/* The unit in which detect-zeroes looks at data, unless the granularity is
 * less.  Smaller ones cost more requests than they save.
 */
#define DETECT_UNIT (UINT64_C (64) << 10)
#define DETECT_UNIT_MIN (UINT64_C (4) << 10)

static void
target_step (struct carrier *c, struct target_req *req, const char *op,
             struct carry_error *error)
{
  struct pair *p = c->p;
  struct target *t = p->target;
  struct wait wait;

  req->lane = LANE_COPY;
  waits_begin (p->waits, &wait, WAIT_COPY, pair_now_ns (p));
  t->ops->submit (t, req);
  *error = (struct carry_error) { SIDE_TARGET, op, t->ops->wait (t, req) };
  waits_end (p->waits, &wait);
  if (error->err != -ENOTCONN)
    waits_progress (p->waits, pair_now_ns (p));
}

/* From the target's extents: what needs zeroing. */
struct zeroing {
  struct carrier *c;
  struct carry_error *error;
  uint64_t done;                /* reads as zero up to here */
};

static void
send_zero (struct carrier *c, struct range r, struct carry_error *error)
{
  struct pair *p = c->p;
  uint64_t before = p->clock->now_ns (p->clock), took;
  struct target_req req = pair_zero_req (p, LANE_COPY,
                                         (uint32_t) range_len (r), r.start);

  target_step (c, &req, "zero", error);
  if (error->err < 0)
    return;
  took = p->clock->now_ns (p->clock) - before;
  if (range_len (r) >= c->large_zero && took >= c->zero_ns)
    c->zero_ns = took + 1;
  atomic_fetch_add (&p->counters.zeroed_bytes, range_len (r));
}

static int
zero_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct zeroing *z = opaque;

  if (r.start != z->done)
    return 1;
  if (kind == EXTENT_ZERO)
    atomic_fetch_add (&z->c->p->counters.skipped_bytes, range_len (r));
  else
    send_zero (z->c, r, z->error);
  z->done = r.end;
  return z->error->err;
}

/* Make r read as zero on the target, where it does not already.
 *
 * The target is asked under the range lock, so nobody writes there meanwhile.
 * But what this session has written over one connection it may see over
 * another only after a flush, so for ranges in U the answer is not trusted.
 * Nor is it after a failed flush: what reads as zero then may be in a cache
 * that no flush will write again.
 */
static void
copy_zero (struct carrier *c, struct range r, struct carry_error *error)
{
  struct target *t = c->p->target;
  struct zeroing z = { .c = c, .error = error, .done = r.start };
  struct range rest;
  uint64_t before;

  while (z.done < r.end && error->err == 0) {
    rest = (struct range) { z.done, r.end };
    if (range_len (rest) > TARGET_MAX_ZERO)
      rest.end = rest.start + TARGET_MAX_ZERO;
    before = z.done;
    if (t->can_extents && flusher_stamp (c->p->flusher) == 0 &&
        !flusher_any (c->p->flusher, rest))
      pair_ask_target (c->p, rest, zero_extent, &z);
    if (z.done == before && error->err == 0)
      zero_extent (&z, rest, EXTENT_DATA);
  }
}

/* Send what is in the buffer and belongs to r. */
static void
send_data (struct carrier *c, const char *buf, struct range r,
           struct carry_error *error)
{
  struct target_req req = {
    .op = TARGET_WRITE, .buf = (void *) buf,
    .count = (uint32_t) range_len (r), .offset = r.start,
  };

  target_step (c, &req, "write", error);
  if (error->err == 0)
    atomic_fetch_add (&c->p->counters.copied_bytes, range_len (r));
}

static uint64_t
detect_unit (const struct pair *p)
{
  if (p->granularity >= DETECT_UNIT)
    return DETECT_UNIT;
  return p->granularity > DETECT_UNIT_MIN ? p->granularity : DETECT_UNIT_MIN;
}

/* The same with detect-zeroes: in runs that are zero and runs that are not. */
static void
send_detecting (struct carrier *c, struct range r, struct carry_error *error)
{
  const uint64_t unit = detect_unit (c->p);
  const char *buf = c->buf;
  struct range run = { r.start, r.start };
  bool zero = false, run_zero = false;
  uint64_t n;

  while (run.end < r.end && error->err == 0) {
    n = r.end - run.end < unit ? r.end - run.end : unit;
    zero = is_zero (buf + (run.end - r.start), n);
    if (!range_empty (run) && zero != run_zero) {
      if (run_zero)
        copy_zero (c, run, error);
      else
        send_data (c, buf + (run.start - r.start), run, error);
      run.start = run.end;
    }
    run_zero = zero;
    run.end += n;
  }
  if (error->err < 0)
    return;
  if (run_zero)
    copy_zero (c, run, error);
  else
    send_data (c, buf + (run.start - r.start), run, error);
}

static void
copy_data (struct carrier *c, struct range r, struct carry_error *error)
{
  struct range piece;
  uint64_t n;

  for (; !range_empty (r); r.start += n) {
    n = range_len (r) < c->unit ? range_len (r) : c->unit;
    *error = (struct carry_error) {
      SIDE_SOURCE, "read",
      c->source->ops->pread (c->source, c->buf, (uint32_t) n, r.start) };
    if (error->err < 0)
      return;
    piece = (struct range) { r.start, r.start + n };
    if (c->p->detect_zeroes)
      send_detecting (c, piece, error);
    else
      send_data (c, c->buf, piece, error);
    if (error->err < 0)
      return;
  }
}

struct extents_copy {
  struct carrier *c;
  struct carry_error error;
  uint64_t done;                /* copied up to here */
};

static int
copy_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct extents_copy *x = opaque;

  if (r.start != x->done)
    return 1;                   /* a gap: the rest is read */
  if (kind == EXTENT_ZERO)
    copy_zero (x->c, r, &x->error);
  else
    copy_data (x->c, r, &x->error);
  x->done = r.end;
  return x->error.err;
}

/* Copy what the source's extents say as of now; what they do not cover, or
 * if they fail, is read.
 */
static void
copy_by_extents (struct carrier *c, struct range r, struct carry_error *error)
{
  struct source *source = c->source;
  struct extents_copy x = { .c = c, .done = r.start };

  source->ops->extents (source, r, copy_extent, &x);
  *error = x.error;
  if (error->err == 0 && x.done < r.end)
    copy_data (c, (struct range) { x.done, r.end }, error);
}

void
carry (struct carrier *c, struct range r, bool ask, struct carry_error *error)
{
  if (ask)
    copy_by_extents (c, r, error);
  else
    copy_data (c, r, error);
}
