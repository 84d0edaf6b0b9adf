/* SPDX-License-Identifier: BSD-3-Clause */
/* A fake intent file (engine/intent.h) in memory: a volatile cache over what
 * the medium has, in sectors.
 *
 *   cache     what is read, also by the next process after a kill
 *   stable    what is on the medium now
 *
 * A write lands in pieces of whole sectors, in any order; the medium gets what
 * it likes of that at any time, and all of it by a good sync.  A sector that is
 * unsynced may be found in either state after a power cut, and one of them
 * torn.  A write that fails has landed in part.  A sync that fails leaves each
 * sector on the medium, or still unsynced, or *dropped*: neither on the medium
 * nor ever to be written by a later sync, as Linux does it; what is read then
 * may go back to the old at any time.
 *
 * A process that is killed leaves what it had written (intent_crash).  What a
 * loader would find after a crash *now* is told by intent_view_file.
 */

#ifndef SIM_FAKE_INTENT_H
#define SIM_FAKE_INTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "intent.h"

#define INTENT_SECTOR 512u
#define MAX_REGIONS 512u
#define MAX_INTENT (INTENT_PAGES_OFFSET + INTENT_PAGE_SIZE * \
                    ((MAX_REGIONS + INTENT_PAGE_BITS - 1) / INTENT_PAGE_BITS))
#define MAX_SECTORS (MAX_INTENT / INTENT_SECTOR)

/* Percent. */
struct intent_faults {
  unsigned read_error, write_error, sync_error, destroy_error;
  unsigned slow;                /* up to SLOW_NS */
  unsigned evict;               /* of I/O steps */
  unsigned torn;                /* of power cuts */
};

enum intent_call { INTENT_NOTHING, INTENT_WRITE, INTENT_SYNC, INTENT_DESTROY };

struct fake_intent {
  struct intent_io io;
  struct intent_faults faults;  /* may change */
  uint64_t size;
  uint8_t cache[MAX_INTENT], stable[MAX_INTENT];
  bool unsynced[MAX_SECTORS];
  bool linked, linked_stable;   /* there is a file: now, on the medium */
  bool open;                    /* not freed */
  enum intent_call busy;        /* what is being done now */
  bool failed;                  /* something has, since it was laid out */
  uint64_t calls;               /* writes, syncs and removals that began */
  uint64_t syncs;               /* good ones, of this file */
  uint64_t changes;             /* of what a crash may leave */
  uint64_t head_changes;        /* ... of the headers */
  uint64_t random;              /* for views, which must not draw */
};

/* A new file with room for that, durably, and without a header. */
extern void intent_lay_out (struct fake_intent *fi,
                            const struct intent_head *head);

/* It is opened once more, by another process. */
extern void intent_open (struct fake_intent *fi);

/* The medium gets a sector, or what was dropped is read anew. */
extern void intent_evict (struct fake_intent *fi);

/* The process is killed; the file's disk loses its power, too. */
extern void intent_crash (struct fake_intent *fi);
extern void intent_cut_power (struct fake_intent *fi);

/* What a loader would find: after a kill; after a power cut that leaves only
 * what is on the medium; or after one that leaves anything.
 */
enum intent_after { AFTER_KILL, AFTER_CUT, AFTER_ANY_CUT, NR_AFTER };

struct intent_view {            /* zero at first */
  uint64_t head_changes;
  bool there;                   /* there is a file */
  int copy;                     /* of the header that counts, or -errno */
  struct intent_head head;      /* if copy >= 0 */
  bool recorded[MAX_REGIONS];   /* W; all of it if there is no mirror */
};

extern void intent_view_file (struct fake_intent *fi, enum intent_after after,
                              struct intent_view *v);

#endif /* SIM_FAKE_INTENT_H */
