/* SPDX-License-Identifier: BSD-3-Clause */
/* Sparse dirty bitmap of a disk.
 *
 * Thread-safe; no function blocks for longer than it works (one internal
 * mutex, number 3 in the lock order, under which nothing else is taken but,
 * by dirty_move, that of the other bitmap).
 *
 * Units are bytes; bits never leave this module.  A granule is dirty or
 * clean; marking rounds outward, clearing inward (rule I3).  Memory follows
 * the dirty data, not the disk: all-clean and all-dirty subtrees cost
 * nothing.
 *
 * A *claim* is what somebody has cleared in order to make the two sides
 * equal and has not finished with.  The bitmap counts claims under its own
 * lock, so that dirty + claimed is exact at every moment, and keeps
 * `reasons` (which may be NULL) up to date: one for each dirty granule and
 * one for each claim.
 */

#ifndef MIRROR_DIRTY_H
#define MIRROR_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "range.h"
#include "reasons.h"

struct dirty;

/* size: bytes, 0 ... 2^63-1.  granularity: power of two, 512 ... 64M.  All
 * granules are clean.  reasons may be NULL and must outlive the bitmap.
 * Returns NULL when out of memory.
 */
extern struct dirty *dirty_new (uint64_t size, uint64_t granularity,
                                struct reasons *reasons);
extern void dirty_free (struct dirty *d);     /* accepts NULL */

/* Mark every granule that r touches.  r must lie inside the disk; an empty r
 * does nothing.  Cannot fail: when memory is short it marks more than asked.
 * Returns the bytes of the granules that were clean until then.
 */
extern uint64_t dirty_set (struct dirty *d, struct range r);

/* Mark the whole disk. */
extern void dirty_set_all (struct dirty *d);

/* Clear the whole disk, without a claim: what was set is taken care of.  Only
 * for a bitmap without reasons.
 */
extern void dirty_clear_all (struct dirty *d);

/* Clear every dirty granule that lies wholly inside r (the granule at the
 * end of the disk is whole if r reaches the end) and open a claim for them.
 * Returns the bytes cleared; if 0 there is no claim.  May clear less than it
 * could when memory is short.  End the claim with dirty_end_claim.
 */
extern uint64_t dirty_claim_inner (struct dirty *d, struct range r);

/* Clear the first run of dirty granules inside r and open a claim for it.  r
 * must be aligned to granules (or end with the disk).  Returns false, and no
 * claim, if nothing in r is dirty (or memory is short); else *run is what was
 * cleared.
 */
extern bool dirty_claim_run (struct dirty *d, struct range r,
                             struct range *run);

/* End a claim of that many bytes.  If the work failed, dirty_set first. */
extern void dirty_end_claim (struct dirty *d, uint64_t bytes);

/* The same, of one whose work has been done. */
extern void dirty_end_claim_well (struct dirty *d, uint64_t bytes);

/* The first dirty run that starts at or after `from` (rounded down to a
 * granule), cut at max_len bytes rounded down to granules, at least one
 * granule.  Returns false if nothing is dirty there; does not wrap.
 */
extern bool dirty_next (struct dirty *d, uint64_t from, uint64_t max_len,
                        struct range *run);

/* Set in `to` everything that is set in `from`, then clear `from`.  A bit is
 * in `to` before it leaves `from`.  Same size and granularity; `from` has no
 * reasons and nobody else changes it meanwhile.
 */
extern void dirty_move (struct dirty *from, struct dirty *to);

/* How far it is, of one moment; bytes. */
struct dirty_counts {
  uint64_t dirty;
  uint64_t claimed;             /* claims that are open */
  uint64_t done;                /* ... that have ended well: never falls */
  uint64_t unknown;             /* nobody has said yet whether it differs */
};
extern void dirty_count (struct dirty *d, struct dirty_counts *counts);

/* So many bytes, from now on: of a new one that is 0. */
extern void dirty_set_unknown (struct dirty *d, uint64_t bytes);

/* r, which was unknown and is not any more, differs (then it is set as by
 * dirty_set) or not.  In pieces of any alignment, each once.
 */
extern void dirty_learn (struct dirty *d, struct range r, bool differs);

/* Exact at the moment of the call: dirty bytes, and bytes under claim. */
extern void dirty_bytes (struct dirty *d, uint64_t *dirty, uint64_t *claimed);

/* Is any granule that r touches dirty? */
extern bool dirty_any (struct dirty *d, struct range r);

/* Is every granule that r touches dirty?  r must not be empty. */
extern bool dirty_all (struct dirty *d, struct range r);

/* Bytes of memory in use, the handle included. */
extern size_t dirty_memory (struct dirty *d);

/* Asserts every internal invariant; O(memory).  For tests. */
extern void dirty_check (struct dirty *d);

#endif /* MIRROR_DIRTY_H */
