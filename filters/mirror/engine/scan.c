/* SPDX-License-Identifier: BSD-3-Clause */
/* See scan.h.
 *
 * The disk is cut into windows, and two threads take every second one: while
 * the source answers one of them, the target can answer the other.  Servers may
 * need a while for that, and it is all that a copy of a sparse disk takes.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "scan.h"

#define THREADS 2u

/* What one request to a leg asks for at most: NBD's lengths have 32 bits, and
 * a cancel should not wait long.  Aligned, so that no extent is cut oddly.  Of
 * a disk that is not so large each thread gets some.
 */
#define WINDOW_MAX (UINT64_C (2) << 30)
#define WINDOWS_MIN (2 * THREADS)

/* Of one thread. */
struct scan {
  struct pair *p;
  struct source *source;
  const _Atomic bool *stop;
  uint64_t start;               /* of the first window */
  uint64_t window;              /* bytes of one */
  uint64_t done;                /* both sides are known up to here */
  uint64_t stamp;               /* taken before the target was asked */
  struct hint *extents;         /* the source's */
  scan_told_fn *tell;
  void *opaque;
};

/* Both sides read as zero.  The target's may be in its cache only, written by
 * an earlier session: until a flush of this one it is in U (rule I1).  After a
 * failed flush its cache may hold what no flush will ever write again.
 */
static void
skip (struct scan *s, struct range r)
{
  const bool equal = s->stamp == 0 &&
    flusher_acked (s->p->flusher, r, false, s->stamp) == 0;

  pair_learn (s->p, r, !equal);
  if (equal)
    atomic_fetch_add (&s->p->counters.skipped_bytes, range_len (r));
}

static int
target_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct scan *s = opaque;

  if (r.start != s->done)
    return 1;
  if (kind == EXTENT_ZERO)
    skip (s, r);
  else
    pair_learn (s->p, r, true);
  s->done = r.end;
  return atomic_load (s->stop);
}

/* r reads as zero on the source. */
static void
scan_target (struct scan *s, struct range r)
{
  struct target *t = s->p->target;
  uint64_t before;

  s->done = r.start;
  while (s->done < r.end) {
    struct range rest = { s->done, r.end };

    if (atomic_load (s->stop))
      return;
    before = s->done;
    s->stamp = flusher_stamp (s->p->flusher);
    if (t->can_extents)
      pair_ask_target (s->p, rest, target_extent, s);
    if (s->done == before) {
      /* No answer, or nonsense: it may be anything. */
      pair_learn (s->p, rest, true);
      s->done = rest.end;
    }
  }
}

/* What the source has said of r. */
static void
source_extent (struct scan *s, struct range r, enum extent_kind kind)
{
  if (kind == EXTENT_ZERO && s->p->target_is_zero)
    skip (s, r);
  else if (kind == EXTENT_ZERO)
    scan_target (s, r);
  else
    pair_learn (s->p, r, true);
  if (!atomic_load (s->stop))
    s->done = r.end;
}

static void
scan_window (struct scan *s, struct range window)
{
  uint64_t most = range_len (window);
  struct range ask, r;
  enum extent_kind kind;

  s->done = window.start;
  while (s->done < window.end && !atomic_load (s->stop)) {
    ask.start = s->done;
    ask.end = window.end - ask.start < most ? window.end : ask.start + most;
    s->stamp = flusher_stamp (s->p->flusher);
    hint_ask (s->extents, s->source, ask);
    /* A server may go through all that it is asked about; so not through much
     * more than fits.
     */
    most = round_up_p2 (2 * (s->extents->end - s->extents->start),
                        s->p->granularity);
    s->tell (s->opaque, s->extents);
    while (!atomic_load (s->stop) &&
           hint_look (s->extents, s->done, &r, &kind))
      source_extent (s, r, kind);
  }
}

static void
scan_main (void *vp)
{
  struct scan *s = vp;
  const uint64_t size = s->p->size, window = s->window;
  uint64_t start;

  for (start = s->start; start < size && !atomic_load (s->stop);
       start += THREADS * window)
    scan_window (s, (struct range) {
        start, size - start < window ? size : start + window });
}

int
scan_full (struct pair *p, struct source *source, const _Atomic bool *stop,
           scan_told_fn *tell, void *opaque)
{
  struct scan s[THREADS];
  struct thread thread[THREADS];
  bool started[THREADS] = { false };
  struct hint *extents = calloc (THREADS, sizeof *extents);
  uint64_t window = WINDOW_MAX;
  unsigned i;

  if (extents == NULL) {
    pair_learn (p, (struct range) { 0, p->size }, true);
    return 0;
  }
  while (window > p->granularity && window * WINDOWS_MIN > p->size)
    window /= 2;
  for (i = 0; i < THREADS; ++i)
    s[i] = (struct scan) { .p = p, .source = source, .stop = stop,
                           .start = i * window, .window = window,
                           .extents = &extents[i],
                           .tell = tell, .opaque = opaque };
  for (i = 1; i < THREADS; ++i)
    started[i] = s[i].start < p->size &&
      thread_start (&thread[i], "mirror-scan", scan_main, &s[i]) == 0;
  for (i = 0; i < THREADS; ++i)
    if (!started[i])
      scan_main (&s[i]);
  for (i = 1; i < THREADS; ++i)
    if (started[i])
      thread_join (&thread[i]);
  free (extents);
  return atomic_load (stop) ? -ECANCELED : 0;
}
