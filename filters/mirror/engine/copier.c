/* SPDX-License-Identifier: BSD-3-Clause */
/* Background copying; see copier.h.
 *
 * One piece:
 *
 *   1. Wait until there is leave to run, pace and something dirty that is
 *      not in back-off.  Nothing is held meanwhile; the buffer is the
 *      thread's own, so buf-size is kept by the number of threads.
 *   1a. The candidate is recorded in the intent file; it is already, if it is
 *      still dirty.
 *   2. Range lock of the longest free prefix of the candidate, in order of
 *      arrival if not even its first granule is free.
 *   3. Claim: clear what is *still* dirty under the lock.  From here to 7 the
 *      range is in flight.
 *   4. Only then look at the source: its extents, or its data.  Whatever a
 *      track request changes from now on it also marks again, later.
 *   5. Write or zero the target; its acknowledgement enters U.
 *   6. Failed: the run is dirty again before it is unlocked.
 *   7. The claim ends; unlock.
 *
 * Whether a candidate is data or a hole decides how much is taken at once: a
 * piece of data is bounded by the buffer, a hole by the largest request.  For
 * that a *hint* is kept, the kind of the extent where copying is at the
 * moment, asked without any lock.  A hint may be out of date.  That is
 * harmless: "data" only means that the range is read, and after "hole" the
 * source is asked again in step 4.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "copier-private.h"

/* Pieces of data.  256 KiB was nbdcopy's best of 32 KiB ... 32 MiB (libnbd
 * commit e9665aa); larger ones fall out of the processor's caches.
 */
#define COPY_UNIT (UINT64_C (256) << 10)

/* Pieces of holes.  As large as the target zeroes quickly, since a client that
 * writes there waits for it: doubled when one was done within the first time,
 * halved when it took the second.
 */
#define ZERO_UNIT_MIN (UINT64_C (1) << 20)
#define ZERO_UNIT (UINT64_C (32) << 20)
#define ZERO_QUICK_NS UINT64_C (20000000)
#define ZERO_SLOW_NS UINT64_C (100000000)

/* Threads.  A thread waits for one leg at a time, so some are needed to keep
 * both busy; more than 16 pieces in flight did not help nbdcopy either.
 */
#define COPY_THREADS 8u
#define COPY_THREADS_MAX 64u

/* Most dirty runs that copiers_failing looks at. */
#define FAILING_RUNS 1024

/*-- copying ------------------------------------------------------------*/

/* The piece may have found out how quickly the target zeroes. */
static void
adapt_zero_unit_locked (struct copiers *c, struct carrier *carrier)
{
  const uint64_t gran = c->p->granularity;
  const uint64_t least = gran > ZERO_UNIT_MIN ? gran : ZERO_UNIT_MIN;

  if (carrier->zero_ns >= ZERO_SLOW_NS && c->zero_unit > least)
    c->zero_unit /= 2;
  else if (carrier->zero_ns > 0 && carrier->zero_ns <= ZERO_QUICK_NS &&
           c->zero_unit < TARGET_MAX_ZERO)
    c->zero_unit *= 2;
  carrier->zero_ns = 0;
  carrier->large_zero = c->zero_unit / 2;
}

/* The intent file is broken: later. */
static void
give_back (struct copiers *c, struct range candidate)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  const uint64_t now = c->p->clock->now_ns (c->p->clock);

  retry_failed (&c->retry, candidate, now, now);
  copier_piece_done_locked (c);
}

static void
copy_piece (struct copier *cp, struct range candidate, enum extent_kind kind)
{
  struct copiers *c = cp->all;
  struct pair *p = c->p;
  struct carry_error error = { 0 };
  struct rangelock lk;
  struct range run;
  uint64_t stamp, since;
  bool some;

  if (pair_begin (p, candidate) < 0) {
    give_back (c, candidate);
    return;
  }
  rangelock_lock_prefix (p->locks, &lk, candidate, p->granularity);
  some = dirty_claim_run (p->dirty, lk.range, &run);
  if (some) {
    since = p->clock->now_ns (p->clock);
    stamp = flusher_stamp (p->flusher);
    carry (&cp->carrier, run, kind == EXTENT_ZERO, &error);
    if (error.err == 0)
      error = (struct carry_error) {
        SIDE_TARGET, "write", flusher_acked (p->flusher, run, false, stamp) };

    if (error.err < 0) {
      /* What has been written of it is unflushed, too: see carry.c. */
      flusher_acked (p->flusher, run, false, flusher_stamp (p->flusher));
      /* Before it can be chosen again it must be in back-off. */
      mutex_lock (&c->lock);
      retry_failed (&c->retry, run, since, p->clock->now_ns (p->clock));
      mutex_unlock (&c->lock);
      if (error.side == SIDE_TARGET && error.err == -ENOTCONN)
        pair_mark_suspect (p, run);
      else
        pair_mark (p, run);
    }
    pair_end_claim (p, range_len (run), error.err == 0);
    latency_record (p->latency, LATENCY_COPY,
                    p->clock->now_ns (p->clock) - since);
  }
  rangelock_unlock (p->locks, &lk);
  pair_end (p, candidate);

  if (error.err < 0)
    p->failed (p->opaque, error.side, false, error.op, run, error.err);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  if (some && error.err == 0 && c->retry.count > 0)
    retry_succeeded (&c->retry, run);
  if (some)
    copier_note_full_locked (c, error.err < 0 && error.side == SIDE_SOURCE ? 1
                      : error.err);
  adapt_zero_unit_locked (c, &cp->carrier);
  copier_piece_done_locked (c);
}

static void
copier_main (void *vp)
{
  struct copier *cp = vp;
  struct copiers *c = cp->all;
  enum extent_kind kind;
  struct range r;

  while (copier_get_work (cp, &r, &kind)) {
    copy_piece (cp, r, kind);
    pair_note_rates (c->p);
    if (reasons_none (&c->p->reasons, false))
      c->idle (c->opaque);
  }
}

/*-- life ---------------------------------------------------------------*/

static int
start_threads (struct copiers *c, unsigned threads)
{
  char name[32];
  unsigned i;
  int r;

  c->copier = calloc (threads, sizeof *c->copier);
  for (i = 0; i < HINTS; ++i)
    if ((c->hints[i].hint = calloc (1, sizeof *c->hints[i].hint)) == NULL)
      return -ENOMEM;
  if (!c->copier)
    return -ENOMEM;
  while (c->threads < threads) {
    struct copier *cp = &c->copier[c->threads];

    cp->all = c;
    cp->carrier = (struct carrier) {
      .p = c->p, .source = c->source, .unit = c->unit,
      .buf = malloc (COPY_UNIT), .large_zero = c->zero_unit / 2,
    };
    cp->hint = calloc (1, sizeof *cp->hint);
    if (!cp->carrier.buf || !cp->hint)
      r = -ENOMEM;
    else {
      snprintf (name, sizeof name, "mirror-copy%u", c->threads % 100);
      r = thread_start (&cp->thread, name, copier_main, cp);
    }
    if (r < 0) {
      free (cp->carrier.buf);
      free (cp->hint);
      return r;
    }
    c->threads++;
  }
  return 0;
}

/* So many threads may copy pieces of such a size. */
static void
limit_locked (struct copiers *c, uint64_t buf_size)
{
  c->unit = buf_size < COPY_UNIT ? buf_size : COPY_UNIT;
  if (c->unit > c->p->granularity)      /* pieces are whole granules */
    c->unit = round_down_p2 (c->unit, c->p->granularity);
  c->busy_max = buf_size / c->unit < COPY_THREADS_MAX
    ? (unsigned) (buf_size / c->unit) : COPY_THREADS_MAX;
}

void
copiers_set_buf_size (struct copiers *c, uint64_t bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  limit_locked (c, bytes);
  copiers_look_again_locked (c);
}

struct copiers *
copiers_new (struct pair *p, struct source *source,
             const struct copier_params *params,
             void (*idle) (void *opaque), void *opaque, int *err)
{
  struct copiers *c = calloc (1, sizeof *c);
  uint64_t now = p->clock->now_ns (p->clock), threads;

  if (!c) {
    *err = -ENOMEM;
    return NULL;
  }
  c->p = p;
  c->source = source;
  c->idle = idle;
  c->opaque = opaque;
  c->zero_unit = p->granularity > ZERO_UNIT ? p->granularity : ZERO_UNIT;
  mutex_init (&c->lock);
  cond_init (&c->wake);
  cond_init (&c->turn);
  cond_init (&c->quiet);
  cond_init (&c->asked);
  copy_rate_init (&c->rate, params->speed, now);
  retry_init (&c->retry, now);

  threads = params->threads ? params->threads : COPY_THREADS;
  assert (threads <= COPY_THREADS_MAX);
  limit_locked (c, params->buf_size);
  *err = start_threads (c, (unsigned) threads);
  if (*err < 0) {
    copiers_free (c);
    return NULL;
  }
  return c;
}

void
copiers_free (struct copiers *c)
{
  unsigned i;

  if (!c)
    return;
  mutex_lock (&c->lock);
  c->quit = true;
  copiers_look_again_locked (c);
  mutex_unlock (&c->lock);
  for (i = 0; i < c->threads; ++i) {
    thread_join (&c->copier[i].thread);
    free (c->copier[i].carrier.buf);
    free (c->copier[i].hint);
  }
  free (c->copier);
  for (i = 0; i < HINTS; ++i)
    free (c->hints[i].hint);
  cond_destroy (&c->asked);
  cond_destroy (&c->quiet);
  cond_destroy (&c->turn);
  cond_destroy (&c->wake);
  mutex_destroy (&c->lock);
  free (c);
}

void
copiers_run (struct copiers *c, bool run)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  c->run = run;
  copiers_look_again_locked (c);
}

void
copiers_stop (struct copiers *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  c->run = false;
  while (c->busy > 0)
    cond_wait (&c->quiet, &c->lock);
}

void
copiers_retry_now (struct copiers *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  retry_init (&c->retry, c->p->clock->now_ns (c->p->clock));
  c->full = false;
  copiers_look_again_locked (c);
}

void
copiers_set_speed (struct copiers *c, uint64_t bytes_per_s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  copy_rate_set (&c->rate, bytes_per_s, c->p->clock->now_ns (c->p->clock));
  copiers_look_again_locked (c);
}

void
copiers_hurry (struct copiers *c, bool hurry)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  if (c->rate.hurry == hurry)
    return;
  copy_rate_hurry (&c->rate, hurry, c->p->clock->now_ns (c->p->clock));
  copiers_look_again_locked (c);
}

void
copiers_wake (struct copiers *c)
{
  sync_point ();
  if (atomic_load (&c->sleepers) == 0)
    return;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  cond_signal (&c->wake);
}

uint64_t
copiers_rounds (struct copiers *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  return c->rounds;
}

/* The table is copied: looking at D may take a while. */
bool
copiers_failing (struct copiers *c)
{
  struct range run = { 0, 0 };
  struct retry retry;
  unsigned tries;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

    if (c->retry.count == 0)
      return false;
    retry = c->retry;
  }
  for (tries = 0; tries < FAILING_RUNS; ++tries) {
    if (!dirty_next (c->p->dirty, run.end, UINT64_MAX, &run))
      return retry_failing (&retry, (struct range) { 0, 0 });
    if (!retry_failing (&retry, run))
      return false;
  }
  return false;
}

bool
copiers_busy (struct copiers *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  return c->busy > 0;
}
