/* SPDX-License-Identifier: BSD-3-Clause */
/* One direct read or write, as pieces of at most BOUNCE_SIZE.
 *
 * The pieces are whole blocks and together the client's range rounded outward
 * to blocks.  They are made one after the other by transfer_next, read or
 * written by whoever asked for them, several at once and in any order, and
 * given back to transfer_done.
 */

#ifndef MIRROR_TRANSFER_H
#define MIRROR_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "bounce.h"
#include "range.h"
#include "rw.h"

struct transfer {
  struct rw_how how;
  char *data;                   /* the client's, of want; NULL: zeroes */
  struct range want;            /* what the client asked for */
  struct range outer;           /* that, rounded outward to blocks */
  /* Where a write begins or ends within a block: what was in the first, and in
   * the last block.
   */
  const char *head, *tail;
  bool bounce;                  /* data cannot be used as it is */
  struct bounce_pool *bounces;
  uint64_t next;                /* where the next piece begins */
};

struct piece {
  char *buf;
  uint64_t offset;
  uint32_t len;
};

/* The next piece, with its content if it is to be written.  1; 0: there is no
 * more; -ENOMEM: not now.
 */
extern int transfer_next (struct transfer *t, struct piece *p);

/* A piece has been read or written (ok), or never will be.  */
extern void transfer_done (struct transfer *t, struct piece *p, bool ok);

/* How many pieces there are. */
extern uint64_t transfer_pieces (const struct transfer *t);

/* Read or write all by preadv or pwritev, some pieces with each call.  0 or
 * -errno.  Blocks.
 */
#define TRANSFER_AT_ONCE 8
extern int transfer_run (struct transfer *t);

#endif /* MIRROR_TRANSFER_H */
