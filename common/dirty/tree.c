/* SPDX-License-Identifier: BSD-3-Clause */
/* Sparse set: a radix tree whose uniform subtrees take no memory.
 *
 * Everything is made of *slots*, 64-bit numbers.  A slot of level 0 stands
 * for 64 granules, one bit each; a slot of level k+1 for 512 slots of level
 * k.  At every level
 *
 *   0           all granules below are clean   (CLEAN)
 *   all ones    all granules below are dirty   (FULL)
 *
 * and anything else is mixed: the 64 bits themselves in level 0, above it a
 * pointer to a node, which holds the 512 slots.  (Memory is never allocated
 * at an odd address, so no pointer looks like FULL.)
 *
 *   level   1 slot stands for     memory if mixed
 *     0     64 granules           none, it is the slot
 *     1     32768 granules        a leaf: 4 KiB of bits and 136 bytes
 *     2     2^24 granules         an inner node of the same size
 *     6     2^60 granules         the root of the largest disk
 *
 * The root is one slot, of the least level that covers the disk.
 *
 * Each node knows how many granules below it are dirty; as soon as that is
 * none or all of them, the node is freed and its slot becomes CLEAN or FULL.
 * So equal sets of granules have equal trees, and memory follows the edges
 * of the dirty data.  A change of a range goes down at its two ends only:
 * what lies between is overwritten, and the nodes freed that were there
 * (each was paid for when it was made).
 *
 * Each node also has two summary bitmaps, of slots that are not CLEAN and of
 * slots that are not FULL.  The search for the next dirty (clean) granule
 * asks the first (second) for the way, so it looks at no more than two slots
 * of a level, and counts trailing zeros for the rest.
 *
 * Padding.  The tree covers more granules than the disk has.  Those behind
 * the end are always in the state of the last granule, as if that were very
 * long: so there are no half-valid slots, and "all dirty" stays one slot.
 * settle keeps this true and takes the padding out of the count.
 *
 * Shortage of memory.  To change a part of a uniform slot takes a node.  If
 * there is none, setting makes the whole slot FULL and clearing leaves it
 * FULL.  Only the slots at the two ends of a range need memory, so what a
 * shortened clear did clear has no gap.
 *
 * Invariants (tree_check asserts them): no node is empty or full; counts and
 * summaries are true; the padding is like the last granule.
 */

#include <config.h>

/* The assertions guard somebody's data and tree_check consists of them: they
 * stay whatever the compiler's flags.
 */
#undef NDEBUG

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

#define WORD_SHIFT 6            /* a slot of level 0 has 2^6 granules ... */
#define NODE_SHIFT 9            /* ... and one of level k+1 2^9 of level k */
#define SLOTS (1 << NODE_SHIFT)

#define CLEAN UINT64_C (0)
#define FULL UINT64_MAX

struct node {
  uint64_t dirty;               /* granules below */
  uint64_t not_clean[SLOTS / 64];
  uint64_t not_full[SLOTS / 64];
  uint64_t slot[SLOTS];
};

static void *
zeroed (size_t size)
{
  return calloc (1, size);
}

void *(*dirty_test_alloc) (size_t size) = zeroed;

static inline unsigned
span_shift (unsigned level)
{
  return WORD_SHIFT + NODE_SHIFT * level;
}

/* Granules that a slot stands for. */
static inline uint64_t
span (unsigned level)
{
  return UINT64_C (1) << span_shift (level);
}

static inline bool
is_uniform (uint64_t slot)
{
  return slot == CLEAN || slot == FULL;
}

static inline struct node *
slot_node (uint64_t slot)
{
  return (struct node *) (uintptr_t) slot;
}

/* Dirty granules below a slot. */
static inline uint64_t
slot_dirty (uint64_t slot, unsigned level)
{
  if (slot == CLEAN)
    return 0;
  if (slot == FULL)
    return span (level);
  if (level == 0)
    return (uint64_t) __builtin_popcountll (slot);
  return slot_node (slot)->dirty;
}

/* Bring the summaries of a node in line with its slot i. */
static inline void
summarize (struct node *node, unsigned i)
{
  uint64_t bit = UINT64_C (1) << (i % 64);
  uint64_t slot = node->slot[i];

  if (slot == CLEAN)
    node->not_clean[i / 64] &= ~bit;
  else
    node->not_clean[i / 64] |= bit;
  if (slot == FULL)
    node->not_full[i / 64] &= ~bit;
  else
    node->not_full[i / 64] |= bit;
}

/* The first bit of a summary that is set, at or after i; SLOTS if none. */
static inline unsigned
summary_next (const uint64_t *summary, unsigned i)
{
  uint64_t w;

  if (i >= SLOTS)
    return SLOTS;
  w = summary[i / 64] & (UINT64_MAX << (i % 64));
  for (i /= 64; w == 0; w = summary[i])
    if (++i == SLOTS / 64)
      return SLOTS;
  return i * 64 + (unsigned) __builtin_ctzll (w);
}

/* A node that stands for what the uniform slot `fill` stood for. */
static struct node *
node_new (struct tree *t, unsigned level, uint64_t fill)
{
  struct node *node = dirty_test_alloc (sizeof *node);

  if (node == NULL)
    return NULL;
  t->memory += sizeof *node;
  if (fill == FULL) {
    node->dirty = span (level);
    memset (node->not_clean, 0xff, sizeof node->not_clean);
    memset (node->slot, 0xff, sizeof node->slot);
  }
  else
    memset (node->not_full, 0xff, sizeof node->not_full);
  return node;
}

static void
node_free (struct tree *t, struct node *node)
{
  free (node);
  t->memory -= sizeof *node;
}

/* Free all nodes of a slot; the caller overwrites it. */
static void
slot_release (struct tree *t, uint64_t slot, unsigned level)
{
  struct node *node;
  unsigned i;

  if (level == 0 || is_uniform (slot))
    return;
  node = slot_node (slot);
  if (level > 1)
    for (i = summary_next (node->not_clean, 0); i < SLOTS;
         i = summary_next (node->not_clean, i + 1))
      slot_release (t, node->slot[i], level - 1);
  node_free (t, node);
}

/* If all granules of a mixed slot above level 0 have become alike, free its
 * node.
 */
static inline void
slot_collapse (struct tree *t, uint64_t *slot, unsigned level)
{
  struct node *node = slot_node (*slot);

  if (node->dirty == 0)
    *slot = CLEAN;
  else if (node->dirty == span (level))
    *slot = FULL;
  else
    return;
  node_free (t, node);
}

/* Make granules [lo, hi) of a slot, lo < hi, CLEAN or FULL.  Returns how
 * many changed; when memory is short that may be more for FULL, less for
 * CLEAN.
 */
static uint64_t
slot_assign (struct tree *t, uint64_t *slot, unsigned level,
             uint64_t lo, uint64_t hi, uint64_t to)
{
  struct node *node;
  unsigned shift, i, last;
  uint64_t old, mask, base, n, changed = 0;

  if (*slot == to)
    return 0;

  if (lo == 0 && hi == span (level)) {
    old = slot_dirty (*slot, level);
    slot_release (t, *slot, level);
    *slot = to;
    return to == FULL ? span (level) - old : old;
  }

  if (level == 0) {
    mask = (UINT64_MAX >> (64 - (hi - lo))) << lo;
    old = *slot;
    *slot = to == FULL ? old | mask : old & ~mask;
    return (uint64_t) __builtin_popcountll (old ^ *slot);
  }

  if (is_uniform (*slot)) {
    node = node_new (t, level, *slot);
    if (node == NULL) {
      if (to == CLEAN)
        return 0;
      *slot = FULL;
      return span (level);
    }
    *slot = (uintptr_t) node;
  }

  node = slot_node (*slot);
  shift = span_shift (level - 1);
  last = (hi - 1) >> shift;
  for (i = lo >> shift; i <= last; i++) {
    base = (uint64_t) i << shift;
    n = slot_assign (t, &node->slot[i], level - 1, lo > base ? lo - base : 0,
                     i < last ? span (level - 1) : hi - base, to);
    if (n > 0) {
      summarize (node, i);
      changed += n;
    }
  }
  if (to == FULL)
    node->dirty += changed;
  else
    node->dirty -= changed;
  slot_collapse (t, slot, level);
  return changed;
}

/* The first granule of a slot, at or after g, that is in state `what` (CLEAN
 * or FULL); span (level) if none.
 */
static uint64_t
slot_find (uint64_t slot, unsigned level, uint64_t g, uint64_t what)
{
  const struct node *node;
  unsigned shift, i;
  uint64_t w, found;

  if (slot == what)
    return g;
  if (is_uniform (slot))
    return span (level);

  if (level == 0) {
    w = (what == FULL ? slot : ~slot) & (UINT64_MAX << g);
    return w != 0 ? (uint64_t) __builtin_ctzll (w) : span (0);
  }

  node = slot_node (slot);
  shift = span_shift (level - 1);
  i = g >> shift;
  found = slot_find (node->slot[i], level - 1, g & (span (level - 1) - 1),
                     what);
  if (found == span (level - 1)) {
    i = summary_next (what == FULL ? node->not_clean : node->not_full, i + 1);
    if (i == SLOTS)
      return span (level);
    found = slot_find (node->slot[i], level - 1, 0, what);
  }
  return ((uint64_t) i << shift) + found;
}

/* Move what is dirty in slot `from` over to slot `to`; the nodes of both are
 * in the care of t.  Whole subtrees change hands where they can.
 */
static void
slot_move (struct tree *t, uint64_t *from, uint64_t *to, unsigned level)
{
  struct node *from_node, *to_node;
  unsigned i;

  if (*to == CLEAN)
    *to = *from;
  else if (*to == FULL || *from == FULL) {
    slot_release (t, *to, level);
    slot_release (t, *from, level);
    *to = FULL;
  }
  else if (level == 0)
    *to |= *from;
  else {
    from_node = slot_node (*from);
    to_node = slot_node (*to);
    for (i = summary_next (from_node->not_clean, 0); i < SLOTS;
         i = summary_next (from_node->not_clean, i + 1)) {
      to_node->dirty -= slot_dirty (to_node->slot[i], level - 1);
      slot_move (t, &from_node->slot[i], &to_node->slot[i], level - 1);
      to_node->dirty += slot_dirty (to_node->slot[i], level - 1);
      summarize (to_node, i);
    }
    node_free (t, from_node);
    slot_collapse (t, to, level);
  }
  *from = CLEAN;
}

/* After a change: make the padding like the last granule and count anew.
 *
 * They differ only if memory was short in the slot that holds the last
 * granule; then that granule is dirty and some padding is not.  To set that
 * takes no memory, since the slot where the range begins is FULL and all
 * others are set as a whole.
 */
static void
settle (struct tree *t)
{
  uint64_t capacity = span (t->level), last = t->granules - 1;

  t->last_dirty = slot_find (t->root, t->level, last, FULL) == last;
  if (t->last_dirty &&
      slot_find (t->root, t->level, last, CLEAN) != capacity)
    slot_assign (t, &t->root, t->level, last, capacity, FULL);

  t->dirty = slot_dirty (t->root, t->level);
  if (t->last_dirty)
    t->dirty -= capacity - t->granules;
}

static void
assign (struct tree *t, uint64_t lo, uint64_t hi, uint64_t to)
{
  assert (lo < hi);
  assert (hi <= t->granules);

  if (hi == t->granules)
    hi = span (t->level);
  if (slot_assign (t, &t->root, t->level, lo, hi, to) > 0)
    settle (t);
}

void
tree_init (struct tree *t, uint64_t granules)
{
  assert (granules <= UINT64_C (1) << 54);

  memset (t, 0, sizeof *t);
  t->granules = granules;
  while (span (t->level) < granules)
    t->level++;
}

void
tree_release (struct tree *t)
{
  slot_release (t, t->root, t->level);
}

void
tree_set (struct tree *t, uint64_t lo, uint64_t hi)
{
  assign (t, lo, hi, FULL);
}

void
tree_clear (struct tree *t, uint64_t lo, uint64_t hi)
{
  assign (t, lo, hi, CLEAN);
}

static uint64_t
find (const struct tree *t, uint64_t g, uint64_t what)
{
  uint64_t found;

  assert (g < t->granules);
  found = slot_find (t->root, t->level, g, what);
  return found < t->granules ? found : t->granules;
}

uint64_t
tree_next_dirty (const struct tree *t, uint64_t g)
{
  return find (t, g, FULL);
}

uint64_t
tree_next_clean (const struct tree *t, uint64_t g)
{
  return find (t, g, CLEAN);
}

void
tree_move (struct tree *from, struct tree *to)
{
  assert (from->granules == to->granules);

  if (from->root == CLEAN)
    return;
  to->memory += from->memory;
  from->memory = 0;
  slot_move (to, &from->root, &to->root, to->level);
  from->dirty = 0;
  from->last_dirty = false;
  settle (to);
}

/* Bytes of the nodes of a slot, asserting all that must be true of them. */
static size_t
slot_check (uint64_t slot, unsigned level)
{
  const struct node *node;
  size_t memory = sizeof *node;
  uint64_t bit, dirty = 0;
  unsigned i;

  if (level == 0 || is_uniform (slot))
    return 0;
  node = slot_node (slot);
  for (i = 0; i < SLOTS; i++) {
    bit = UINT64_C (1) << (i % 64);
    assert (!(node->not_clean[i / 64] & bit) == (node->slot[i] == CLEAN));
    assert (!(node->not_full[i / 64] & bit) == (node->slot[i] == FULL));
    memory += slot_check (node->slot[i], level - 1);
    dirty += slot_dirty (node->slot[i], level - 1);
  }
  assert (node->dirty == dirty);
  assert (dirty > 0);
  assert (dirty < span (level));
  return memory;
}

void
tree_check (const struct tree *t)
{
  uint64_t capacity = span (t->level), last = t->granules - 1;
  uint64_t padding = capacity - t->granules;

  assert (slot_check (t->root, t->level) == t->memory);
  if (t->granules == 0) {
    assert (t->root == CLEAN);
    assert (!t->last_dirty);
    assert (t->dirty == 0);
    return;
  }
  assert (t->level == 0 || span (t->level - 1) < t->granules);
  /* From the last granule on all is in one state, which is last_dirty. */
  assert (slot_find (t->root, t->level, last,
                     t->last_dirty ? CLEAN : FULL) == capacity);
  assert (t->dirty <= t->granules);
  assert (t->dirty + (t->last_dirty ? padding : 0) ==
          slot_dirty (t->root, t->level));
}
