/* SPDX-License-Identifier: BSD-3-Clause */
/* Comparing the two sides of a job piece by piece, while clients read and
 * write: the protocol of verify.c's thread.
 *
 * One comparer at a time for a pair; its functions are for one thread.
 */

#ifndef MIRROR_COMPARE_H
#define MIRROR_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "gate.h"
#include "hint.h"
#include "legs.h"
#include "mirror.h"
#include "pair.h"

#define COMPARE_ERROR_MAX 128

struct comparer {
  /* Constant. */
  struct pair *p;
  struct source *source;
  struct gate *gate;
  struct dirty *touched;        /* see pair.h; the caller's */
  bool repair;                  /* mark what differs */
  /* Has nobody asked for the end of the job?  No locks. */
  bool (*goes_on) (void *opaque);
  void *opaque;
  uint64_t unit;                /* bytes of each buffer */
  char *source_buf, *target_buf;

  /* Results; they only grow. */
  uint64_t bytes;               /* compared */
  uint64_t read;                /* read from each side */
  uint64_t differences;
  uint64_t first[VERIFY_FIRST];
  char error[COMPARE_ERROR_MAX]; /* after a failure of a leg */

  /* Private. */
  struct hint hint;             /* the source's extents, a while ago */
  struct dirty *todo;           /* what has not been compared */
  struct dirty *differing;
  uint64_t cursor;
  uint64_t read_until;          /* up to here extents have been asked */
};

/* Set the constants, up to unit, before.  The unit is as of verifier_start and
 * becomes what is used.  0 or -ENOMEM; comparer_clear in both cases.
 */
extern int comparer_init (struct comparer *c);
extern void comparer_clear (struct comparer *c);

/* Compare the next piece of what is left.  Blocks for a range lock, I/O, and
 * for requests that are inside the gate.  0; 1: the end of the disk has come;
 * or -errno and c->error: a leg has failed.
 */
extern int compare_piece (struct comparer *c);

/* From the beginning again.  Returns the bytes that are left. */
extern uint64_t compare_rewind (struct comparer *c);

#endif /* MIRROR_COMPARE_H */
