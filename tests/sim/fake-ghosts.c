/* SPDX-License-Identifier: BSD-3-Clause */
/* Ghosts: what a target still does of requests whose connection is lost, a
 * source of those it has failed, and either leg of those of a process that was
 * killed.
 *
 * Each piece of a write that had not landed when the request was failed may
 * land at any time within the job's suspect time, whatever has
 * been written there meanwhile; or never.  A piece of a block that was read
 * to be written back lands as a whole, with the old bytes of its neighbours.
 *
 * What the source has dropped at a failed flush, and still shows, is such a
 * late change, too: when it is evicted the old is read, unless it has been
 * written again.
 *
 * A power cut of a leg takes its ghosts with it, and so does a job that begins
 * anew: those of the target, and those of the process before.  That a target
 * may still be busy with a job that was cancelled is told in the manual, and
 * nobody can help it.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "sched.h"

static void
take_back (struct world *w, const struct ghost *g)
{
  struct image *im = g->image;
  uint64_t b, i;

  sched_trace ("source: what was dropped of %llu-%llu is evicted",
               g->range.start, g->range.end, 0, 0);
  for (b = g->range.start; b < g->range.end; b++) {
    i = b - g->range.start;
    if (im->cached[b] || im->now[b] != g->before[i] ||
        im->stable[b] != g->data[i] || g->data[i] == g->before[i])
      continue;
    im->now[b] = g->data[i];
    w->known[b] = 0;
    w->seen[SEEN_ROLLED_BACK_LATE]++;
  }
}

static void
bury (struct world *w, unsigned i)
{
  free (w->ghosts[i].data);
  free (w->ghosts[i].before);
  w->ghosts[i] = w->ghosts[--w->nr_ghosts];
}

/* It never lands, but what was dropped is evicted in the end. */
static void
end_ghost (struct world *w, unsigned i)
{
  if (w->ghosts[i].take_back)
    take_back (w, &w->ghosts[i]);
  bury (w, i);
}

void
ghosts_end (struct world *w, const struct image *im)
{
  unsigned i = 0;

  while (i < w->nr_ghosts)
    if (!im || w->ghosts[i].image == im)
      end_ghost (w, i);
    else
      i++;
}

void
ghosts_begin_job (struct world *w)
{
  unsigned i = 0;

  ghosts_end (w, w->copy);
  while (i < w->nr_ghosts) {
    struct ghost *g = &w->ghosts[i];

    if (g->until > g->began + w->suspect_ns)
      g->until = g->began + w->suspect_ns;
    if (g->of_dead || sched_now () >= g->until || g->not_before > g->until)
      end_ghost (w, i);
    else
      i++;
  }
}

static void
fill (struct ghost *g, const struct fake_request *fr,
      const struct fake_piece *piece)
{
  uint64_t b;

  for (b = g->range.start; b < g->range.end; b++) {
    uint8_t *to = &g->data[b - g->range.start];

    if (b < fr->range.start || b >= fr->range.end)
      *to = piece->copy[b - piece->range.start];
    else if (fr->req->op == TARGET_WRITE)
      *to = ((const uint8_t *) fr->req->buf)[b - fr->range.start];
    else
      *to = 0;
  }
}

/* How long a ghost of the request may be about: of one of the clients' disk
 * both who serves it and who mirrors it want to know.
 */
static uint64_t
ghost_time (const struct world *w, bool serving)
{
  return serving && w->disk_suspect_ns < w->suspect_ns ? w->disk_suspect_ns
    : w->suspect_ns;
}

static struct ghost *
rise (struct world *w, struct image *im, struct range r)
{
  struct ghost *g = &w->ghosts[w->nr_ghosts++];

  g->image = im;
  g->take_back = g->of_dead = false;
  g->range = g->own = r;
  g->data = malloc (range_len (r));
  g->before = malloc (range_len (r));
  if (!g->data || !g->before)
    abort ();
  memcpy (g->before, &im->now[r.start], range_len (r));
  g->session = w->nr_sessions;
  g->began = sched_now ();
  g->until = g->began + w->suspect_ns;
  g->not_before = sched_now () + sched_rand (w->suspect_ns);
  return g;
}

void
ghosts_rise_source (struct world *w, const struct source_call *c)
{
  struct ghost *g;
  unsigned i;
  uint64_t b;

  if (w->suspect_ns == 0)
    return;
  for (i = c->landed; i < c->nr_pieces && w->nr_ghosts < MAX_GHOSTS; i++) {
    if (!sched_percent (w->faults.ghost))
      continue;
    g = rise (w, w->disk, c->pieces[i]);
    for (b = g->range.start; b < g->range.end; b++)
      g->data[b - g->range.start] =
        c->buf ? c->buf[b - c->range.start] : (uint8_t) c->value;
  }
}

bool
ghosts_take_back (struct world *w, struct range r)
{
  struct ghost *g;

  if (w->suspect_ns == 0 || w->nr_ghosts == MAX_GHOSTS)
    return false;
  g = rise (w, w->disk, r);
  g->take_back = true;
  memcpy (g->data, &w->disk->stable[r.start], range_len (r));
  return true;
}

void
ghosts_rise (struct fake_target *ft, const struct fake_request *fr)
{
  struct world *w = ft->w;
  struct ghost *g;
  unsigned i;

  if (!fr->write || ft->dead || ghost_time (w, ft->serving) == 0)
    return;
  for (i = 0; i < fr->nr_pieces && w->nr_ghosts < MAX_GHOSTS; i++) {
    const struct fake_piece *piece = &fr->pieces[i];

    if ((fr->landed & (1u << i)) || (piece->edge && !piece->copy) ||
        !sched_percent (w->faults.ghost))
      continue;
    g = rise (w, ft->image, piece->range);
    g->session = ft->number;
    g->own = fr->range;
    g->until = g->began + ghost_time (w, ft->serving);
    g->not_before = g->began + sched_rand (g->until - g->began);
    fill (g, fr, piece);
  }
}

/* Whose time is over without their having landed. */
static void
forget (struct world *w)
{
  unsigned i = 0;

  while (i < w->nr_ghosts)
    if (sched_now () > w->ghosts[i].until)
      end_ghost (w, i);
    else
      i++;
}

size_t
ghosts_pending (struct world *w)
{
  size_t n = 0;
  unsigned i;

  forget (w);
  for (i = 0; i < w->nr_ghosts; i++)
    n += w->ghosts[i].not_before <= sched_now ();
  return n;
}

uint64_t
ghosts_deadline (const struct world *w)
{
  uint64_t first = UINT64_MAX;
  unsigned i;

  for (i = 0; i < w->nr_ghosts; i++)
    if (w->ghosts[i].not_before > sched_now () &&
        w->ghosts[i].not_before < first)
      first = w->ghosts[i].not_before;
  return first;
}

/* Clients that are writing there do not know who was last. */
static void
land_on_disk (struct world *w, struct range r)
{
  unsigned i;

  for (i = 0; i < w->nr_clients; i++)
    if (w->ops[i].active && range_overlap (w->ops[i].range, r))
      w->ops[i].overlapped = true;
  w->seen[SEEN_LATE_SOURCE]++;
  source_ended (w, r, false);
}

void
ghosts_step (struct world *w, size_t pick)
{
  const struct fake_target *ft = world_session (w, false);
  struct image *im;
  uint64_t b;
  unsigned i;

  for (i = 0; i < w->nr_ghosts; i++) {
    const struct ghost *g = &w->ghosts[i];
    const uint64_t n = range_len (g->range);

    if (g->not_before > sched_now () || pick-- > 0)
      continue;
    im = g->image;
    if (g->take_back) {
      take_back (w, g);
      bury (w, i);
      return;
    }
    sched_trace (im == w->copy
                 ? "target: bytes %llu-%llu of a lost session land"
                 : "source: bytes %llu-%llu land late",
                 g->range.start, g->range.end, 0, 0);
    if (ft && ft->number > g->session &&
        memcmp (&im->now[g->range.start], g->before, n) != 0)
      w->seen[SEEN_GHOST_AGAIN]++;
    for (b = g->range.start; b < g->range.end; b++) {
      im->now[b] = g->data[b - g->range.start];
      im->cached[b] = im->acked[b] = 1;
      /* Not of the rest of a block: nobody else is to have written there. */
      if (im == w->disk && g->own.start <= b && b < g->own.end)
        w->known[b] = 0;
    }
    if (im == w->disk)
      land_on_disk (w, g->own);
    w->seen[SEEN_GHOST]++;
    bury (w, i);
    return;
  }
}
