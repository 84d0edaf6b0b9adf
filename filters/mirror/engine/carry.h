/* SPDX-License-Identifier: BSD-3-Clause */
/* Carrying one run of granules from the source to the target: reading,
 * zeroing, detecting zeroes.  What to carry, and the protocol of locking and
 * clearing around it, is copier.c's.
 *
 * One carrier for each thread.  The functions block for as long as the legs
 * take.
 */

#ifndef MIRROR_CARRY_H
#define MIRROR_CARRY_H

#include <stdbool.h>
#include <stdint.h>

#include "legs.h"
#include "pair.h"

struct carrier {
  /* Constant. */
  struct pair *p;
  struct source *source;
  char *buf;
  uint64_t unit;                /* bytes of buf: read and written at once */

  /* How long the target took for zero requests of at least large_zero bytes
   * since the caller last looked and cleared it.
   */
  uint64_t large_zero;
  uint64_t zero_ns;             /* the longest; 0: there was none */
};

/* What went wrong, for the report. */
struct carry_error {
  enum pair_side side;
  const char *op;
  int err;                      /* 0 or -errno */
};

/* Make the target equal to the source in r, which is under the caller's range
 * lock and claim.  ask: ask the source for the extents as of now, for where
 * it reads as zero; else everything is read.
 */
extern void carry (struct carrier *c, struct range r, bool ask,
                   struct carry_error *error);

#endif /* MIRROR_CARRY_H */
