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
land_byte (struct world *w, const struct fake_request *fr,
           const struct fake_piece *piece, uint64_t b)
{
  const bool own = fr->range.start <= b && b < fr->range.end;
  uint8_t value = 0;

  if (!own)
    value = piece->copy[b - piece->range.start];
  else if (fr->req->op == TARGET_WRITE)
    value = ((const uint8_t *) fr->req->buf)[b - fr->range.start];
  if (!own && value == w->T[b])
    return;
  w->T[b] = value;
  w->cached[b] = 1;
  w->acked[b] = 0;
}

bool
image_step (struct world *w, const struct fake_request *fr,
            struct fake_piece *piece)
{
  const struct range r = piece->range;
  uint64_t b;

  if (fr->req->op == TARGET_READ) {
    memcpy ((uint8_t *) fr->req->buf + (r.start - fr->range.start),
            &w->T[r.start], range_len (r));
    return true;
  }
  if (piece->edge && !piece->copy) {
    sched_trace ("target: block %llu-%llu is read", r.start, r.end, 0, 0);
    piece->copy = malloc (range_len (r));
    if (!piece->copy)
      abort ();
    memcpy (piece->copy, &w->T[r.start], range_len (r));
    return false;
  }
  sched_trace ("target: bytes %llu-%llu land", r.start, r.end, 0, 0);
  for (b = r.start; b < r.end; b++)
    land_byte (w, fr, piece, b);
  return true;
}

void
image_spoil_edges (struct world *w, const struct fake_request *fr)
{
  uint64_t b;
  unsigned i;

  for (i = 0; i < fr->nr_pieces; i++) {
    const struct range r = fr->pieces[i].range;

    if (!fr->pieces[i].edge || sched_percent (50))
      continue;
    sched_trace ("target: block %llu-%llu is spoilt", r.start, r.end, 0, 0);
    for (b = r.start; b < r.end; b++)
      if (b < fr->range.start || b >= fr->range.end) {
        w->T[b] = GARBAGE;
        w->cached[b] = 1;
        w->acked[b] = 0;
      }
    w->seen[SEEN_GARBAGE]++;
  }
}

void
image_acked (struct fake_target *ft, const struct fake_request *fr,
             bool durable)
{
  struct world *w = ft->w;
  const struct range r = fr->range;

  /* What has landed is complete for later flushes, even if no good reply has
   * told.
   */
  memset (&w->acked[fr->blocks.start], 1, range_len (fr->blocks));
  if (durable) {
    memcpy (&ft->view[r.start], &w->T[r.start], range_len (r));
    memcpy (&w->stable[r.start], &w->T[r.start], range_len (r));
    memset (&w->cached[r.start], 0, range_len (r));
    memset (&ft->flushing[r.start], 0, range_len (r));
  }
}

/*-- flushes ------------------------------------------------------------*/

static void
make_stable (struct world *w, uint64_t b, uint8_t value)
{
  w->stable[b] = value;
  if (w->T[b] == value)
    w->cached[b] = w->acked[b] = 0;
}

void
image_begin_flush (struct fake_target *ft)
{
  const struct world *w = ft->w;
  uint64_t b;

  ft->flushes++;
  ft->acked_meanwhile = false;
  for (b = 0; b < w->size; b++) {
    ft->flushing[b] = w->cached[b] && w->acked[b];
    ft->ended[b] = !w->cached[b] || w->acked[b];
  }
  memcpy (ft->snapshot, w->T, w->size);
}

void
image_end_flush (struct fake_target *ft, bool good)
{
  struct world *w = ft->w;
  const bool late = sched_percent (50);
  unsigned fate = 0, i;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      fate = sched_rand (3);
    if (good && ft->ended[b])
      ft->view[b] = w->T[b];
    if (!ft->flushing[b])
      continue;
    if (good || fate == 0)
      make_stable (w, b, late ? w->T[b] : ft->snapshot[b]);
    else if (fate == 1)
      w->cached[b] = 0;         /* dropped: never to be stable */
  }
  memset (ft->flushing, 0, w->size);
  ft->flushes--;
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
  struct fake_target *ft;

  if (end > w->size)
    end = w->size;
  for (b = start; b < end; b++)
    if (w->cached[b]) {
      w->stable[b] = w->T[b];
      w->cached[b] = w->acked[b] = 0;
      for (ft = w->targets; ft; ft = ft->next)
        ft->flushing[b] = 0;
    }
}

void
image_cut_power (struct world *w)
{
  bool gone = true;
  uint64_t b;

  for (b = 0; b < w->size; b++) {
    if (b % 64 == 0)
      gone = sched_percent (80);
    if (gone)
      w->T[b] = w->stable[b];
    else
      w->stable[b] = w->T[b];
    w->cached[b] = w->acked[b] = 0;
  }
  w->power_was_cut = true;
  sched_trace ("target: power cut", 0, 0, 0, 0);
}

void
image_forget_dropped (struct world *w)
{
  uint64_t b;

  for (b = 0; b < w->size; b++)
    if (!w->cached[b])
      w->T[b] = w->stable[b];
}
