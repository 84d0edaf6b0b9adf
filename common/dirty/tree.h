/* SPDX-License-Identifier: BSD-3-Clause */
/* Sparse set of granules, the inside of the dirty bitmap (dirty.c only).
 *
 * Not thread-safe; the caller's lock.  No function blocks.  Units are
 * granules.
 */

#ifndef MIRROR_TREE_H
#define MIRROR_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tree {
  /* Constant. */
  uint64_t granules;            /* of the disk */
  unsigned level;               /* of the root */

  /* Read them, but only tree.c changes them. */
  uint64_t dirty;               /* dirty granules */
  bool last_dirty;              /* is the last granule dirty? */
  size_t memory;                /* bytes allocated */

  uint64_t root;                /* tree.c only */
};

/* granules: 0 ... 2^54.  All are clean. */
extern void tree_init (struct tree *t, uint64_t granules);
extern void tree_release (struct tree *t);

/* Make granules [lo, hi) dirty.  0 <= lo < hi <= t->granules.  When memory
 * is short it makes more dirty.
 */
extern void tree_set (struct tree *t, uint64_t lo, uint64_t hi);

/* Make granules [lo, hi) clean.  When memory is short it leaves some of them
 * dirty; those that it did make clean are then without gap between lo and
 * hi (but for any that were clean before).
 */
extern void tree_clear (struct tree *t, uint64_t lo, uint64_t hi);

/* The first granule at or after g that is dirty (clean); t->granules if
 * there is none.  g < t->granules.
 */
extern uint64_t tree_next_dirty (const struct tree *t, uint64_t g);
extern uint64_t tree_next_clean (const struct tree *t, uint64_t g);

/* Make dirty in `to` what is dirty in `from`, which becomes all clean.  Same
 * number of granules.  Needs no memory.
 */
extern void tree_move (struct tree *from, struct tree *to);

/* Assert all invariants; O(memory). */
extern void tree_check (const struct tree *t);

/* All memory of a bitmap comes from here: size bytes, zeroed, to be released
 * with free; or NULL.  For tests, which change it only while no bitmap is in
 * use.
 */
extern void *(*dirty_test_alloc) (size_t size);

#endif /* MIRROR_TREE_H */
