/* SPDX-License-Identifier: BSD-3-Clause */
/* The fake source, and what it checks: each client's call reaches the source
 * as it is, once, in the client's own thread, and nobody else writes there
 * (rules I4, I7).  See fakes.h.
 */

#include <config.h>

#include <errno.h>
#include <string.h>

#include "fakes.h"
#include "sched.h"

#define GARBAGE 0xee

static void
world_point (struct world *w)
{
  w->S = w->disk->now;
  w->T = w->copy->now;
  w->stable = w->copy->stable;
  w->cached = w->copy->cached;
  w->acked = w->copy->acked;
}

/* What the old source had is on its medium: nobody has asked. */
static void
close_source (struct world *w)
{
  memcpy (w->disk->stable, w->S, w->size);
  memset (w->disk->cached, 0, w->size);
  memset (w->disk->acked, 0, w->size);
  memset (w->since, 0, sizeof w->since);
}

void
world_pivot (struct world *w)
{
  struct fake_target *ft;
  struct image *old = w->disk;

  if (w->pivots++ == 0)
    close_source (w);
  else
    w->seen[SEEN_PIVOT_BACK]++;
  w->disk = w->copy;
  w->copy = old;
  world_point (w);
  w->features = w->latest;
  w->disk_suspect_ns = w->suspect_ns;
  for (ft = w->targets; ft; ft = ft->next) {
    ft->serving = ft->image == w->disk;
    w->disk_losses += ft->serving && (ft->lost || ft->down);
  }
  memset (w->dropped, 0, sizeof w->dropped);
  w->power_was_cut = w->drop_untold = false;
  if (ghosts_pending (w) > 0 || w->nr_ghosts > 0)
    sched_fail ("I12", "clients are moved to a target that may still do what "
                "a lost session has left");
}

void
world_serve_source (struct world *w)
{
  w->pivots = 0;
  w->disk = &w->images[0];
  w->copy = &w->images[1];
  world_point (w);
  close_source (w);
  memset (w->known, 0, sizeof w->known);
}

void
world_init (struct world *w, uint64_t size, uint64_t target_size,
            uint32_t block)
{
  memset (w, 0, sizeof *w);
  w->size = size;
  w->target_size = target_size;
  w->images[0].block = 1;       /* of the source */
  w->images[1].block = block;
  w->disk = &w->images[0];
  w->copy = &w->images[1];
  world_point (w);
}

struct client_op *
world_my_op (struct world *w)
{
  const int self = sched_self ();
  unsigned i;

  for (i = 0; i < w->nr_clients; i++)
    if (w->coroutine[i] == self && w->ops[i].active)
      return &w->ops[i];
  return NULL;
}

bool
world_client_touches (const struct world *w, uint64_t byte)
{
  unsigned i;

  for (i = 0; i < w->nr_clients; i++) {
    const struct client_op *op = &w->ops[i];
    const struct range r = range_outer (op->range, w->disk->block, w->size);

    if (op->active && r.start <= byte && byte < r.end)
      return true;
  }
  return false;
}

unsigned
world_cut (struct range r, struct range *pieces)
{
  unsigned n = 1, i, j;
  uint64_t at;

  pieces[0] = r;
  while (n < MAX_PIECES && sched_percent (50)) {
    i = sched_rand (n);
    if (range_len (pieces[i]) < 2)
      break;
    at = pieces[i].start + 1 + sched_rand (range_len (pieces[i]) - 1);
    pieces[n++] = (struct range) { at, pieces[i].end };
    pieces[i].end = at;
  }
  for (i = n - 1; i > 0; i--) {
    struct range t = pieces[i];

    j = sched_rand (i + 1);
    pieces[i] = pieces[j];
    pieces[j] = t;
  }
  return n;
}

/*-- checks -------------------------------------------------------------*/

static bool
may_become (const struct client_op *op, enum op_kind kind, unsigned flags)
{
  const unsigned as_zero = LEG_MAY_TRIM | LEG_FAST_ZERO;

  if (kind == op->kind)
    return flags == op->flags ||
      /* Too late to refuse once a part has been done. */
      (op->covered > 0 && flags == (op->flags & ~(unsigned) LEG_FAST_ZERO));
  return op->kind == OP_TRIM && kind == OP_ZERO &&
    flags == (op->flags | as_zero);
}

/* Clients have another disk for good. */
static void
check_still_used (const struct world *w)
{
  if (w->pivots > 0)
    sched_fail ("I12", "the old source is used after a pivot");
}

/* The engine changes the source. */
static struct client_op *
begin_call (struct world *w, enum op_kind kind, struct range r,
            unsigned flags, const void *buf)
{
  struct client_op *op = world_my_op (w);

  check_still_used (w);
  if (!op)
    sched_fail ("I4", "a thread of the engine changes the source");
  if (op->over)
    sched_fail ("I7", "the source is asked again after it has failed");
  if (!may_become (op, kind, flags))
    sched_fail ("I7", "the client's call %u with flags %x has become %u "
                "with flags %x", op->kind, op->flags, kind, flags);
  if (kind == OP_FLUSH ? op->calls > 0
      : r.start != op->range.start + op->covered || r.end > op->range.end)
    sched_fail ("I7", "the source gets other bytes than the client's, or "
                "gets them twice");
  if (kind == OP_WRITE && buf != op->buf + op->covered)
    sched_fail ("I7", "the source gets other data than the client's");
  op->calls++;
  /* Only a fast zero asks the source first. */
  if (!op->teed && kind != OP_FLUSH && !(flags & LEG_FAST_ZERO))
    op->tracked = true;
  return op;
}

static int
end_call (struct client_op *op, struct range r, int result, bool again)
{
  op->result = result;
  op->tracked = false;          /* the rest is up to the engine */
  if (result == 0)
    op->covered += range_len (r);
  else if (!again)
    op->over = true;
  sched_trace ("source: result -%llu", -result, 0, 0, 0);
  return result;
}

/*-- operations ---------------------------------------------------------*/

static struct world *
world_of (struct source *s)
{
  return ((struct fake_source *) s)->w;
}

static void
maybe_slow (struct world *w)
{
  if (sched_percent (w->faults.source_slow))
    sched_sleep (sched_rand (UINT64_C (300000000)));
}

static int
draw_error (struct world *w)
{
  return sched_percent (w->faults.source_error)
    ? sched_percent (50) ? -EIO : -ENOSPC : 0;
}

/* The source has changed in r. */
static void
follow (struct world *w, struct range r)
{
  const uint64_t n = range_len (r);
  struct fake_target *ft = world_session (w, false);

  if (!w->following)
    return;
  memcpy (&w->T[r.start], &w->S[r.start], n);
  if (ft)                       /* not lost meanwhile */
    memcpy (&ft->view[r.start], &w->S[r.start], n);
  memset (&w->cached[r.start], 1, n);
  memset (&w->acked[r.start], 1, n);
}

void
source_land (struct world *w, const struct source_call *c, struct range p)
{
  sched_trace ("source: bytes %llu-%llu land", p.start, p.end, 0, 0);
  check_still_used (w);
  if (w->fenced)
    sched_fail ("fence", "a client's bytes land on the source");
  if (c->buf)
    memcpy (&w->S[p.start], c->buf + (p.start - c->range.start),
            range_len (p));
  else if (c->value >= 0)
    memset (&w->S[p.start], c->value, range_len (p));
  else if (sched_percent (66))
    memset (&w->S[p.start], sched_percent (50) ? 0 : GARBAGE, range_len (p));
  follow (w, p);
  w->changed = w->disk;
  memset (&w->disk->cached[p.start], 1, range_len (p));
}

void
source_ended (struct world *w, struct range r, bool durable)
{
  uint64_t b;

  w->ends++;
  for (b = r.start; b < r.end; b++)
    if (durable) {
      w->disk->stable[b] = w->S[b];
      w->disk->cached[b] = 0;
      w->since[b] = 0;
    }
    else if (w->disk->cached[b] && w->since[b] == 0)
      w->since[b] = w->ends;
}

/* Land r, or a part of it if that is to fail: from buf, or as value. */
static int
land (struct world *w, const struct client_op *op, struct range r,
      const uint8_t *buf, int value, unsigned flags)
{
  struct source_call *c = &w->source_calls[op - w->ops];
  const int result = draw_error (w);
  unsigned i;

  w->changing++;
  *c = (struct source_call) { .active = true, .range = r, .buf = buf,
                              .value = value };
  maybe_slow (w);
  c->nr_pieces = world_cut (r, c->pieces);
  c->quota = result == 0 ? c->nr_pieces
    : (unsigned) sched_rand (c->nr_pieces + 1);
  for (i = 0; i < c->quota; i++) {
    sched_yield_here ();
    source_land (w, c, c->pieces[i]);
    c->landed++;
  }
  maybe_slow (w);
  sched_yield_here ();
  if (result < 0)
    ghosts_rise_source (w, c);
  source_ended (w, r, result == 0 && (flags & LEG_FUA));
  c->active = false;
  w->changing--;
  return result;
}

static int
source_pread (struct source *s, void *buf, uint32_t count, uint64_t offset)
{
  struct world *w = world_of (s);
  struct range r = { offset, offset + count }, pieces[MAX_PIECES];
  const int result = draw_error (w);
  unsigned n, i;

  if (count == 0 || r.end > w->size)
    sched_fail ("legs", "read of the source out of range");
  check_still_used (w);
  maybe_slow (w);
  n = world_cut (r, pieces);
  for (i = 0; i < n; i++) {
    sched_yield_here ();
    memcpy ((uint8_t *) buf + (pieces[i].start - offset),
            &w->S[pieces[i].start], range_len (pieces[i]));
  }
  sched_trace ("source: read %llu-%llu, result -%llu", r.start, r.end,
               -result, 0);
  sched_yield_here ();
  return result;
}

static int
source_pwrite (struct source *s, const void *buf, uint32_t count,
               uint64_t offset, unsigned flags)
{
  struct world *w = world_of (s);
  struct range r = { offset, offset + count };
  struct client_op *op = begin_call (w, OP_WRITE, r, flags, buf);

  return end_call (op, r, land (w, op, r, buf, 0, flags), false);
}

static int
source_zero (struct source *s, uint32_t count, uint64_t offset,
             unsigned flags)
{
  struct world *w = world_of (s);
  struct range r = { offset, offset + count };
  struct client_op *op = begin_call (w, OP_ZERO, r, flags, NULL);

  if (flags & LEG_FAST_ZERO) {
    if (!s->can_fast_zero)
      sched_fail ("legs", "fast zero on a source that has none");
    if (sched_percent (w->faults.refuse_fast_zero)) {
      maybe_slow (w);
      sched_yield_here ();
      return end_call (op, r, -ENOTSUP, op->kind == OP_TRIM);
    }
  }
  return end_call (op, r, land (w, op, r, NULL, 0, flags), false);
}

static int
source_trim (struct source *s, uint32_t count, uint64_t offset,
             unsigned flags)
{
  struct world *w = world_of (s);
  struct range r = { offset, offset + count };
  struct client_op *op = begin_call (w, OP_TRIM, r, flags, NULL);

  return end_call (op, r, land (w, op, r, NULL, -1, flags), false);
}

/* A good flush makes stable what had ended when it began, by `ends`; more of
 * the same bytes may be on its way.
 */
static void
settle (struct world *w, uint32_t ends)
{
  struct image *im = w->disk;
  uint64_t b;

  for (b = 0; b < w->size; b++)
    if (w->since[b] != 0 && w->since[b] <= ends) {
      im->stable[b] = im->now[b];
      im->cached[b] = 0;
      w->since[b] = 0;
    }
}

static bool
is_dropped (const struct world *w, uint64_t b)
{
  const struct image *im = w->disk;

  return im->cached[b] && im->now[b] != im->stable[b] &&
    !world_client_touches (w, b);
}

static bool
has_dropped (const struct world *w, struct range r)
{
  uint64_t b;

  for (b = r.start; b < r.end; b++)
    if (is_dropped (w, b))
      return true;
  return false;
}

/* A failed one takes some back, at once or later; not what is being written
 * now.  Until the caller returns nobody can know.
 */
static void
take_back (struct world *w, struct client_op *op)
{
  struct image *im = w->disk;
  bool gone = false, late = false;
  struct range r;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0) {
      gone = op && sched_percent (w->faults.drop);
      r = (struct range) { b, b + 64 < w->size ? b + 64 : w->size };
      late = gone && sched_percent (50) && has_dropped (w, r) &&
        ghosts_take_back (w, r);
    }
    if (!gone)
      continue;
    if (is_dropped (w, b)) {
      if (!late)
        im->now[b] = im->stable[b];
      w->known[b] = 0;
      op->rolled_back = true;
    }
    if (im->cached[b] && world_client_touches (w, b))
      continue;                 /* it is being written: to be written */
    im->cached[b] = 0;
    w->since[b] = 0;
  }
  if (op && op->rolled_back) {
    sched_trace ("source: takes back what it has acknowledged", 0, 0, 0, 0);
    w->rolled_back++;
    w->seen[SEEN_ROLLED_BACK]++;
  }
}

void
source_cut_power (struct world *w)
{
  struct image *im = w->disk;
  bool gone = true;
  uint64_t b;

  sched_trace ("source: power cut", 0, 0, 0, 0);
  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      gone = sched_percent (80);
    if (im->cached[b] && gone)
      im->now[b] = im->stable[b];
    im->stable[b] = im->now[b];
    im->cached[b] = 0;
    w->since[b] = 0;
  }
  w->disk_cuts++;
  ghosts_end (w, im);
}

static int
source_flush (struct source *s)
{
  struct world *w = world_of (s);
  const struct range none = { 0, 0 };
  const uint32_t ends = w->ends;
  struct client_op *op;
  uint64_t mine, *latest;
  int r;

  check_still_used (w);
  if (!w->told_flush)
    sched_fail ("legs", "flush of a source that cannot");
  /* The job itself flushes before a switch. */
  op = world_my_op (w) ? begin_call (w, OP_FLUSH, none, 0, NULL) : NULL;
  w->flushing++;
  mine = ++w->flushes;
  maybe_slow (w);
  sched_yield_here ();
  r = draw_error (w);
  w->flushing--;
  /* One that began later may have ended before. */
  latest = r == 0 ? &w->good_flush : &w->bad_flush;
  if (mine > *latest)
    *latest = mine;
  if (r == 0 && w->source_caches)
    settle (w, ends);
  else if (w->source_caches)
    take_back (w, op);
  if (r < 0 && w->flushes_owed < 2)     /* the job may have shared it */
    w->flushes_owed++;
  return op ? end_call (op, none, r, false) : r;
}

int
world_extents (const uint8_t *image, struct range r, extent_fn *fn,
               void *opaque)
{
  struct { struct range r; enum extent_kind kind; } found[64];
  unsigned n = 0, i;
  uint64_t at = r.start, end, j;
  int err;

  /* As of this moment. */
  while (at < r.end && n < 64 && (n == 0 || !sched_percent (5))) {
    end = at + (sched_percent (80) ? 512 * (1 + sched_rand (4))
                : 1 + sched_rand (1500));
    if (end > r.end)
      end = r.end;
    found[n].r = (struct range) { at, end };
    found[n].kind = EXTENT_ZERO;
    for (j = at; j < end; j++)
      if (image[j] != 0)
        found[n].kind = EXTENT_DATA;
    if (sched_percent (5))      /* a zero need not be known as such */
      found[n].kind = EXTENT_DATA;
    n++;
    at = end;
  }

  for (i = 0; i < n; i++) {
    sched_yield_here ();
    err = fn (opaque, found[i].r, found[i].kind);
    if (err < 0)
      return err;
  }
  return 0;
}

static int
source_extents (struct source *s, struct range r, extent_fn *fn,
                void *opaque)
{
  struct world *w = world_of (s);

  if (!s->can_extents)
    sched_fail ("legs", "extents of a source that has none");
  if (range_empty (r) || r.end > w->size)
    sched_fail ("legs", "extents of the source out of range");
  check_still_used (w);
  maybe_slow (w);
  sched_yield_here ();
  if (sched_percent (w->faults.source_error))
    return -EIO;
  return world_extents (w->S, r, fn, opaque);
}

static const struct source_ops fake_source_ops = {
  .pread = source_pread,
  .pwrite = source_pwrite,
  .zero = source_zero,
  .trim = source_trim,
  .flush = source_flush,
  .extents = source_extents,
};

void
world_open_source (struct world *w)
{
  w->clients_source = (struct fake_source) {
    .source = { .ops = &fake_source_ops,
                .can_flush = w->told_flush,
                .can_fast_zero = sched_percent (60),
                .can_extents = sched_percent (70) },
    .w = w,
  };
  w->copy_source = w->clients_source;
}
