/* SPDX-License-Identifier: BSD-3-Clause */
/* The bytes of the fake target: how the pieces of a request land, the volatile
 * cache, flushes good and bad, power cuts.  See fakes.h.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "sched.h"

#define GARBAGE 0xdd

/*-- requests -----------------------------------------------------------*/

/* The request writes its own bytes, and writes back the others of an edge.
 * What is written back as it was is as stable as it was.
 */
static void
land_byte (struct fake_target *ft, const struct fake_request *fr,
           const struct fake_piece *piece, uint64_t b)
{
  struct image *im = ft->image;
  const bool own = fr->range.start <= b && b < fr->range.end;
  uint8_t value = 0;

  if (!own)
    value = piece->copy[b - piece->range.start];
  else if (fr->req->op == TARGET_WRITE)
    value = ((const uint8_t *) fr->req->buf)[b - fr->range.start];
  if (!own && value == im->now[b])
    return;
  if (own && ft->w->fenced && fr->req->lane != LANE_COPY)
    sched_fail ("fence", "a client's byte %llu lands on the target",
                (unsigned long long) b);
  im->now[b] = value;
  if (im == ft->w->copy)
    ft->w->rotten[b] = 0;
  im->cached[b] = 1;
  im->acked[b] = 0;
  if (ft->serving && own) {
    ft->w->dropped[b] = 0;
    ft->w->changed = im;
  }
}

bool
image_step (struct fake_target *ft, const struct fake_request *fr,
            struct fake_piece *piece)
{
  const struct range r = piece->range;
  uint64_t b;

  if (fr->req->op == TARGET_READ) {
    /* What has not been flushed another connection need not see. */
    const bool late = fr->req->lane != LANE_ONE && ft->target.can_flush &&
      ft->target.connections > 1 && sched_percent (50);

    memcpy ((uint8_t *) fr->req->buf + (r.start - fr->range.start),
            late ? &ft->view[r.start] : &ft->image->now[r.start],
            range_len (r));
    return true;
  }
  if (piece->edge && !piece->copy) {
    sched_trace ("target: block %llu-%llu is read", r.start, r.end, 0, 0);
    piece->copy = malloc (range_len (r));
    if (!piece->copy)
      abort ();
    memcpy (piece->copy, &ft->image->now[r.start], range_len (r));
    return false;
  }
  sched_trace ("target: bytes %llu-%llu land", r.start, r.end, 0, 0);
  for (b = r.start; b < r.end; b++)
    land_byte (ft, fr, piece, b);
  return true;
}

/* Who has had his reply, but has not told it yet, does not know what is there. */
static void
spoil_calls (struct world *w, struct range r)
{
  unsigned i;

  for (i = 0; i < w->nr_clients; i++)
    if (w->ops[i].active && range_overlap (w->ops[i].range, r))
      w->ops[i].overlapped = true;
}

void
image_spoil_edges (struct fake_target *ft, const struct fake_request *fr)
{
  struct image *im = ft->image;
  uint64_t b;
  unsigned i;

  for (i = 0; i < fr->nr_pieces; i++) {
    const struct range r = fr->pieces[i].range;

    if (!fr->pieces[i].edge || sched_percent (50))
      continue;
    sched_trace ("target: block %llu-%llu is spoilt", r.start, r.end, 0, 0);
    for (b = r.start; b < r.end; b++)
      if (b < fr->range.start || b >= fr->range.end) {
        im->now[b] = GARBAGE;
        im->cached[b] = 1;
        im->acked[b] = 0;
        if (ft->serving)
          ft->w->known[b] = 0;
      }
    if (ft->serving)
      spoil_calls (ft->w, r);
    ft->w->seen[ft->serving ? SEEN_DISK_GARBAGE : SEEN_GARBAGE]++;
  }
}

void
image_acked (struct fake_target *ft, const struct fake_request *fr,
             bool durable)
{
  struct image *im = ft->image;
  const struct range r = fr->range;

  /* What has landed is complete for later flushes, even if no good reply has
   * told.
   */
  memset (&im->acked[fr->blocks.start], 1, range_len (fr->blocks));
  if (durable) {
    memcpy (&ft->view[r.start], &im->now[r.start], range_len (r));
    memcpy (&im->stable[r.start], &im->now[r.start], range_len (r));
    memset (&im->cached[r.start], 0, range_len (r));
    memset (&ft->flushing[r.start], 0, range_len (r));
  }
}

/*-- flushes ------------------------------------------------------------*/

static void
make_stable (struct image *im, uint64_t b, uint8_t value)
{
  im->stable[b] = value;
  if (im->now[b] == value)
    im->cached[b] = im->acked[b] = 0;
}

/* Clients' own disks may get several at once: the later one counts for all,
 * and the earlier ones do more than they must.
 */
void
image_begin_flush (struct fake_target *ft)
{
  const struct image *im = ft->image;
  const bool more = ft->flushes > 0;
  uint64_t b;

  ft->flushes++;
  ft->acked_meanwhile = false;
  for (b = 0; b < ft->w->size; b++) {
    ft->flushing[b] = (im->cached[b] && im->acked[b]) ||
      (more && ft->flushing[b]);
    ft->ended[b] = !im->cached[b] || im->acked[b] || (more && ft->ended[b]);
  }
  memcpy (ft->snapshot, im->now, ft->w->size);
}

static void
drop (struct fake_target *ft, uint64_t b, bool clients)
{
  ft->image->cached[b] = 0;     /* never to be stable */
  if (ft->serving) {
    ft->w->dropped[b] = 1;
    ft->w->dropped_ns[b] = sched_now ();
    if (!clients)
      ft->w->drop_untold = true;
  }
}

void
image_end_flush (struct fake_target *ft, bool good, bool clients)
{
  struct world *w = ft->w;
  const bool late = sched_percent (50);
  unsigned fate = 0, i;
  uint64_t b;

  ft->flushes--;
  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      fate = sched_rand (3);
    if (good && ft->ended[b])
      ft->view[b] = ft->image->now[b];
    if (!ft->flushing[b])
      continue;
    if (good || fate == 0)
      make_stable (ft->image, b, late ? ft->image->now[b] : ft->snapshot[b]);
    else if (fate == 1)
      drop (ft, b, clients);
  }
  if (ft->flushes == 0)
    memset (ft->flushing, 0, w->size);
  if (good && ft->acked_meanwhile)
    w->seen[SEEN_ACK_DURING_FLUSH]++;
  for (i = 0; !good && i < MAX_REQUESTS; i++)
    if (ft->requests[i].req && ft->requests[i].replied_ok &&
        ft->requests[i].write)
      w->seen[SEEN_BAD_FLUSH_DURING_TEE]++;
}

/*-- the cache ----------------------------------------------------------*/

void
image_evict (struct world *w)
{
  const uint64_t start = sched_rand (w->size);
  uint64_t end = start + 1 + sched_rand (1024), b;
  struct image *im = w->pivots > 0 && sched_percent (50) ? w->disk : w->copy;
  struct fake_target *ft;

  if (end > w->size)
    end = w->size;
  for (b = start; b < end; b++)
    if (im->cached[b]) {
      im->stable[b] = im->now[b];
      im->cached[b] = im->acked[b] = 0;
      for (ft = w->targets; ft; ft = ft->next)
        if (ft->image == im)
          ft->flushing[b] = 0;
    }
}

void
image_cut_power (struct world *w, struct image *im)
{
  bool gone = true;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      gone = sched_percent (80);
    if (gone)
      im->now[b] = im->stable[b];
    else
      im->stable[b] = im->now[b];
    im->cached[b] = im->acked[b] = 0;
  }
  if (im == w->disk)
    w->disk_cuts++;
  else {
    w->power_was_cut = true;
    ghosts_end (w, im);
  }
  sched_trace ("target: power cut", 0, 0, 0, 0);
}

void
image_replace (struct world *w, struct image *im)
{
  uint64_t b;

  sched_trace ("target: another disk", 0, 0, 0, 0);
  for (b = 0; b < w->target_size; b++) {
    im->now[b] = im->stable[b] = (uint8_t) (im->now[b] + 1 + sched_rand (250));
    im->cached[b] = im->acked[b] = w->rotten[b] = 0;
  }
  ghosts_end (w, im);
}

void
image_forget_dropped (struct world *w, struct image *im)
{
  uint64_t b;

  for (b = 0; b < w->size; b++)
    if (!im->cached[b])
      im->now[b] = im->stable[b];
  if (im == w->disk)
    w->disk_cuts++;
}
