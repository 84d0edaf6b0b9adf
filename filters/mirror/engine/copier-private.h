/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of background copying:
 *
 *   copier.c           copying a piece; the threads' life
 *   copier-choose.c    which piece, and when
 */

#ifndef MIRROR_COPIER_PRIVATE_H
#define MIRROR_COPIER_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "carry.h"
#include "copier.h"
#include "copy-rate.h"
#include "hint.h"
#include "retry.h"
#include "sync.h"

struct copier {
  struct copiers *all;
  struct thread thread;
  struct carrier carrier;
  struct hint *hint;            /* spare, for asking without the lock */
};

#define HINTS 3

/* So long a hint of a hole is believed. */
#define HINT_FRESH_NS UINT64_C (1000000000)

struct copiers {
  /* Constant. */
  struct pair *p;
  struct source *source;
  void (*idle) (void *opaque);
  void *opaque;
  unsigned threads;
  struct copier *copier;        /* [threads] */

  _Atomic unsigned sleepers;    /* threads that found nothing dirty */

  struct mutex lock;
  struct cond wake;             /* any of the below has changed; D has grown */
  struct cond quiet;            /* busy is 0 */

  /* Protected by lock. */
  bool run, quit;
  uint64_t unit;                /* most bytes of a piece of data */
  unsigned busy, busy_max;
  struct copy_rate rate;
  bool turn_taken;              /* somebody waits for rate */
  unsigned turn_waiters;        /* others, for that one */
  struct cond turn;
  struct retry retry;
  uint64_t zero_unit;           /* most bytes of a piece that is a hole */
  bool full;                    /* the target said so; one try until due */
  uint64_t full_due_ns;
  uint64_t cursor;
  uint64_t rounds;              /* how often the cursor has come to the end */
  struct {
    struct hint *hint;
    uint64_t ns;                /* when the source said that */
  } hints[HINTS];               /* the first: what a copier has asked, each has
                                 * a spare one; the others: the scan's latest */
  unsigned next_hint;           /* which of those is the oldest */
  bool asking;                  /* somebody is getting a newer one */
  struct cond asked;            /* no more */
};

/* Block until there is a piece to copy; it counts as busy then.  Returns false
 * to quit.
 */
extern bool copier_get_work (struct copier *cp, struct range *r,
                             enum extent_kind *kind);

/* The lock is held: what a piece has found out about the target having no
 * space: 0, -errno, or 1: nothing.
 */
extern void copier_note_full_locked (struct copiers *c, int err);

/* The lock is held; a piece that was taken is done with. */
extern void copier_piece_done_locked (struct copiers *c);

/* The lock is held; whatever copiers wait for has changed. */
extern void copiers_look_again_locked (struct copiers *c);

#endif /* MIRROR_COPIER_PRIVATE_H */
