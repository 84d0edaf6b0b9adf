/* SPDX-License-Identifier: BSD-3-Clause */
/* The process with the engine is killed.
 *
 * Its requests were on their way: of each some pieces land at once, some later
 * (fake-ghosts.c), and some never.  What a leg has acknowledged stays in its
 * cache, which outlives the process, if not a power cut comes with it.
 */

#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "fakes.h"
#include "sched.h"

static void
end_source_call (struct world *w, struct source_call *c)
{
  if (!c->active)
    return;
  for (; c->landed < c->quota && sched_percent (40); c->landed++)
    source_land (w, c, c->pieces[c->landed]);
  ghosts_rise_source (w, c);
  source_ended (w, c->range, false);
  c->active = false;
}

static void
end_request (struct fake_target *ft, struct fake_request *fr)
{
  unsigned i;

  if (!fr->req)
    return;
  if (fr->write && !fr->req->done && !ft->lost) {
    for (i = 0; i < fr->nr_pieces; i++)
      if (!(fr->landed & (1u << i)) && sched_percent (40) &&
          image_step (ft, fr, &fr->pieces[i]))
        fr->landed |= 1u << i;
    image_acked (ft, fr, false);
    ghosts_rise (ft, fr);
  }
  for (i = 0; i < fr->nr_pieces; i++)
    free (fr->pieces[i].copy);
  fr->req = NULL;
}

static void
end_session (struct fake_target *ft)
{
  unsigned i;

  for (i = 0; i < MAX_REQUESTS; i++)
    end_request (ft, &ft->requests[i]);
  ft->w->targets = ft->next;
  free (ft);
}

/* The client gets no answer. */
static void
end_call (struct world *w, struct client_op *op)
{
  const struct range r = range_outer (op->range, w->disk->block, w->size);

  if (!op->active)
    return;
  if (op->kind != OP_FLUSH && op->kind != OP_READ)
    memset (&w->known[r.start], 0, range_len (r));
  op->active = false;
  free (op->buf);
  op->buf = NULL;
}

void
world_crash (struct world *w, unsigned cuts)
{
  unsigned i;

  for (i = 0; i < MAX_CALLERS; i++)
    end_source_call (w, &w->source_calls[i]);
  while (w->targets)
    end_session (w->targets);
  for (i = 0; i < w->nr_ghosts; i++)
    w->ghosts[i].of_dead = true;
  for (i = 0; i < MAX_CALLERS; i++)
    end_call (w, &w->ops[i]);
  w->changing = w->flushing = w->rolled_back = 0;
  w->flushes_owed = 0;
  w->following = w->fenced = false;
  if (cuts & CUT_SOURCE && w->pivots == 0)
    source_cut_power (w);
  else if (cuts & CUT_SOURCE)
    image_cut_power (w, w->disk);
  if (cuts & CUT_TARGET)
    image_cut_power (w, w->copy);
  intent_crash (w->intent);
  if (cuts & CUT_INTENT)
    intent_cut_power (w->intent);
}
