/* SPDX-License-Identifier: BSD-3-Clause */
/* Rule I2, and what of I12 the intent file must keep: whatever a crash would
 * leave of the file *now*
 *
 *   - outside of W the two legs are equal, in their caches and on their media,
 *     and nothing that changes them is on its way
 *   - clients have the disk that it says
 *   - what has been answered - a fence, a pivot, the end of a job - is there
 *   - it says "closed in order" only if nothing may arrive late
 *
 * A crash is a kill of the process, which leaves the file's cache, or a power
 * cut (fake-intent.h).  Where the target is told to be spoilt (verify.c), or
 * has become another one that nobody has looked at yet, there is nothing to
 * check.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "dirty.h"
#include "sched.h"
#include "sim.h"

static const char *const after_what[NR_AFTER] = {
  "a kill", "a power cut", "a power cut that leaves some of it"
};

/*-- situations ---------------------------------------------------------*/

/* A region has left W.  Requests that have not come to a leg yet have begun, or
 * are about to.
 */
static void
note_retired (struct sim *sim, const bool *before)
{
  const struct client_op *op;
  uint64_t s;
  unsigned i;

  for (i = 0; i < sim->w.nr_clients; i++) {
    op = &sim->w.ops[i];
    if (!op->active || op->calls > 0 || op->teed || op->kind == OP_READ ||
        op->kind == OP_FLUSH)
      continue;
    sim->w.seen[SEEN_RETIRED_WAITING]++;
    for (s = op->range.start / SECTOR; s * SECTOR < op->range.end; s++)
      sim->w.seen[SEEN_BEGIN_RETIRING] += sim->intent.out[s] && !before[s];
  }
}

static void
note_changes (struct sim *sim, const bool *before)
{
  uint64_t s, more = 0, less = 0;
  unsigned i;

  for (s = 0; s * SECTOR < sim->size; s++) {
    more += sim->intent.out[s] && !before[s];
    less += !sim->intent.out[s] && before[s];
  }
  if (more > 0)
    note_retired (sim, before);
  sim->w.seen[SEEN_GROWN] += less > 1 && !sim->intent.any_out;
  for (i = 0; i < NR_AFTER; i++)
    sim->intent.committing |= sim->intent.views[i].head.state ==
      INTENT_PIVOTED && !sim->completed;
}

/* What is known to differ, or not to be durable, is in W as well, or it would
 * be forgotten; if the file is well.  But a block of 64 KiB, which a failed
 * change may spoil, is larger than a region here, as it never is in earnest
 * (instance-intent.c).
 */
static void
check_known (struct sim *sim)
{
  struct dirty *dirty = mirror_peek_dirty (sim->m);
  struct range r;
  uint64_t s;
  unsigned i;

  for (s = 0; s * SECTOR < sim->size; s++) {
    r.start = s * SECTOR;
    r.end = r.start + SECTOR < sim->size ? r.start + SECTOR : sim->size;
    if (!sim->intent.out[s])
      continue;
    if (dirty_any (dirty, r) || mirror_peek_suspect (sim->m, r))
      sched_fail ("I2", "%llu-%llu is dirty, but not in W of every crash",
                  (unsigned long long) r.start, (unsigned long long) r.end);
    for (i = 0; i < 2; i++)
      if (dirty_any (mirror_peek_unflushed (sim->m, i), r))
        sched_fail ("I2", "%llu-%llu is not flushed, and not in W of every "
                    "crash", (unsigned long long) r.start,
                    (unsigned long long) r.end);
  }
}

void
checks_retired (struct sim *sim, const struct mirror_status *st)
{
  if (!sim->intent.any_out || st->scanning)
    return;
  if (mirror_peek_dirty (sim->m) && !sim->w.intent->failed &&
      !sim->cancelling && sim->cancels == 0 && !sim->completed &&
      !sim->any_block)
    check_known (sim);
  sim->w.seen[SEEN_RETIRED_DIRTY] += st->dirty_bytes > 0;
  sim->w.seen[SEEN_RETIRED_COPYING] += st->inflight_bytes > 0;
}

/*-- what a loader would find -------------------------------------------*/

static void
leave_out (struct sim *sim, const struct intent_view *v)
{
  const uint64_t region = v->head.region;
  uint64_t i, s, end;

  for (i = 0; i * region < sim->size; i++) {
    if (v->recorded[i])
      continue;
    end = (i + 1) * region < sim->size ? (i + 1) * region : sim->size;
    for (s = i * region / SECTOR; s * SECTOR < end; s++)
      sim->intent.out[s] = true;
    sim->intent.any_out = true;
  }
}

void
checks_view (struct sim *sim)
{
  struct fake_intent *fi = sim->w.intent;
  bool before[MAX_DISK / SECTOR];
  struct intent_view *v;
  unsigned i;

  if (sim->intent.changes == fi->changes)
    return;
  sim->intent.changes = fi->changes;
  memcpy (before, sim->intent.out, sizeof before);
  memset (sim->intent.out, 0, sizeof sim->intent.out);
  sim->intent.any_out = false;
  for (i = 0; i < NR_AFTER; i++) {
    v = &sim->intent.views[i];
    intent_view_file (fi, i, v);
    if (!v->there)
      continue;
    if (v->copy < 0 && !fi->failed && sim->intent.had_head)
      sched_fail ("I2", "after %s no header of the intent file counts",
                  after_what[i]);
    if (v->copy >= 0)
      leave_out (sim, v);
  }
  v = &sim->intent.views[AFTER_CUT];
  /* Of a new file no header is durable before the first sync. */
  sim->intent.had_head = v->there && v->copy >= 0 && fi->syncs > 0;
  note_changes (sim, before);
}

/*-- outside of W -------------------------------------------------------*/

static void
fail_byte (const struct sim *sim, uint64_t b)
{
  const struct world *w = &sim->w;

  sched_fail ("I2", "byte %llu is not in W of every crash, but source %02x, "
              "on its medium %02x, target %02x, on its medium %02x",
              (unsigned long long) b, w->S[b], w->disk->stable[b], w->T[b],
              w->stable[b]);
}

/* A failed flush has dropped it, and it is not suspect any more. */
static bool
is_dropped_long (const struct world *w, uint64_t b)
{
  return w->dropped[b] && sched_now () > w->dropped_ns[b] + w->suspect_ns;
}

static void
check_sector (const struct sim *sim, uint64_t start, uint64_t end)
{
  const struct world *w = &sim->w;
  uint64_t b;

  if (memcmp (&w->S[start], &w->T[start], end - start) == 0 &&
      memcmp (&w->S[start], &w->stable[start], end - start) == 0 &&
      memcmp (&w->S[start], &w->disk->stable[start], end - start) == 0)
    return;
  /* After a pivot the clients' disk keeps what it has dropped at a failed flush
   * until it is opened anew, and not, as a source does (fake-ghosts.c), for the
   * time only for which that is suspect.
   */
  for (b = start; b < end; b++)
    if (!w->rotten[b] && (w->S[b] != w->T[b] || w->S[b] != w->stable[b] ||
                          (w->S[b] != w->disk->stable[b] &&
                           !is_dropped_long (w, b))))
      fail_byte (sim, b);
}

/* Something that changes a leg is on its way. */
static void
check_recorded (const struct sim *sim, struct range r, const char *what)
{
  uint64_t s;

  for (s = r.start / SECTOR; s * SECTOR < r.end; s++)
    if (sim->intent.out[s])
      sched_fail ("I2", "%s of %llu-%llu is on its way, but it is not in W of "
                  "every crash", what, (unsigned long long) r.start,
                  (unsigned long long) r.end);
}

static void
check_on_its_way (const struct sim *sim)
{
  const struct world *w = &sim->w;
  const struct fake_target *ft;
  unsigned i;

  for (i = 0; i < MAX_CALLERS; i++)
    if (w->source_calls[i].active)
      check_recorded (sim, w->source_calls[i].range, "a change of the source");
  for (i = 0; i < w->nr_ghosts; i++)
    check_recorded (sim, w->ghosts[i].range, "a late change");
  for (ft = w->targets; ft; ft = ft->next)
    for (i = 0; i < MAX_REQUESTS; i++)
      if (ft->requests[i].req && !ft->requests[i].req->done &&
          ft->requests[i].write)
        check_recorded (sim, ft->requests[i].blocks,
                        "a change of the target");
}

static void
check_outside (struct sim *sim)
{
  uint64_t s, end;

  if (!sim->intent.any_out || sim->replaced)
    return;
  for (s = 0; s * SECTOR < sim->size; s++) {
    end = (s + 1) * SECTOR < sim->size ? (s + 1) * SECTOR : sim->size;
    if (sim->intent.out[s])
      check_sector (sim, s * SECTOR, end);
  }
  check_on_its_way (sim);
}

/*-- what it says of the rest -------------------------------------------*/

struct image *
checks_disk_of (struct sim *sim, const struct intent_head *head)
{
  const unsigned long pivots = strtoul (head->disk, NULL, 10);

  return &sim->w.images[head->disk[0] != '\0' && pivots % 2 == 0];
}

static void
check_head (struct sim *sim, const struct intent_view *v, const char *after)
{
  struct world *w = &sim->w;

  if (w->changed && checks_disk_of (sim, &v->head) != w->changed)
    sched_fail ("I12", "a client has changed a disk that it would not be "
                "given after %s", after);
  if (w->fenced && !v->head.fenced)
    sched_fail ("fence", "after %s clients would not be fenced", after);
  if (v->head.clean && v->head.state == INTENT_RUNNING &&
      (w->nr_ghosts > 0 || world_busy (w, true)))
    sched_fail ("I9", "after %s the file would have been closed in order, but "
                "something is on its way", after);
}

void
checks_intent (struct sim *sim)
{
  struct world *w = &sim->w;
  unsigned i;

  if (!w->intent)
    return;
  checks_view (sim);
  check_outside (sim);
  for (i = 0; i < NR_AFTER; i++)
    if (sim->intent.views[i].there && sim->intent.views[i].copy >= 0)
      check_head (sim, &sim->intent.views[i], after_what[i]);
  w->changed = NULL;
}

/* How the job has ended is told now. */
void
checks_recorded (struct sim *sim, enum intent_state state)
{
  unsigned i;

  if (!sim->w.intent || sim->w.intent->failed || sim->leaving)
    return;
  checks_view (sim);
  for (i = 0; i < NR_AFTER; i++)
    if (sim->intent.views[i].head.state != state)
      sched_fail ("I2", "a job that is said to be %s would be %s after %s",
                  intent_state_names[state],
                  intent_state_names[sim->intent.views[i].head.state],
                  after_what[i]);
}
