/* SPDX-License-Identifier: BSD-3-Clause */
/* Dirty bitmap: bytes, claims, reasons and the lock around tree.c.
 *
 * Granules stay inside: what comes in as bytes is rounded by range.h,
 * outward to set and inward to clear, and what goes out ends with the disk.
 *
 * Reasons.  Under the lock N always holds one for each dirty granule and one
 * for each claim.  set raises by what it has newly set; a claim is raised
 * before the clear and the cleared granules are lowered after it; end_claim
 * lowers.  So whoever moves work on (set, then end_claim) is never without a
 * reason.  A claim must not raise when there turns out to be nothing to
 * clear: from 0 to 1 and back would count as a break of *synced*, with each
 * write of a mirror that is synced.
 *
 * Shortage of memory only ever leaves more dirty than need be (tree.h); what
 * is dirty without need is copied once more.  So nothing here fails.
 *
 * Locks: one mutex, held for the time of the work.  dirty_move alone takes
 * two of them, in the order of their addresses, so that two moves cannot
 * wait for each other.
 */

#include <config.h>

/* The assertions guard somebody's data: they stay whatever the compiler's
 * flags.
 */
#undef NDEBUG

#include <assert.h>
#include <stdlib.h>

#include "cleanup.h"
#include "dirty.h"
#include "sync.h"
#include "tree.h"

struct dirty {
  /* Constant. */
  uint64_t size;                /* of the disk, bytes */
  unsigned granule_shift;       /* log2 of bytes */
  struct reasons *reasons;      /* or NULL */

  struct mutex lock;

  /* Protected by lock (the tree's number of granules is constant). */
  struct tree tree;
  uint64_t claims;              /* open ones */
  uint64_t claimed_bytes;
  uint64_t done_bytes, unknown_bytes;   /* see struct dirty_counts */
};

static uint64_t
granularity (struct dirty *d)
{
  return UINT64_C (1) << d->granule_shift;
}

static uint64_t
granule_to_byte (struct dirty *d, uint64_t g)
{
  return g < d->tree.granules ? g << d->granule_shift : d->size;
}

/* The granule that a byte is in, and the number of granules that begin
 * before it.
 */
static uint64_t
byte_to_granule (struct dirty *d, uint64_t offset)
{
  return offset >> d->granule_shift;
}

static uint64_t
byte_to_granule_up (struct dirty *d, uint64_t offset)
{
  return round_up_p2 (offset, granularity (d)) >> d->granule_shift;
}

static uint64_t
bytes_locked (struct dirty *d)
{
  uint64_t bytes = d->tree.dirty << d->granule_shift;

  if (d->tree.last_dirty)
    bytes -= (d->tree.granules << d->granule_shift) - d->size;
  return bytes;
}

/* Clear granules [lo, hi), of which at least one is dirty, and open a claim.
 * Returns the bytes cleared; if 0 (memory is short) there is no claim.
 */
static uint64_t
claim_locked (struct dirty *d, uint64_t lo, uint64_t hi)
{
  uint64_t old = d->tree.dirty, bytes = bytes_locked (d);

  if (d->reasons)
    reasons_raise (d->reasons, 1);
  tree_clear (&d->tree, lo, hi);
  bytes -= bytes_locked (d);
  if (bytes > 0) {
    d->claims++;
    d->claimed_bytes += bytes;
  }
  if (d->reasons)
    reasons_lower (d->reasons, bytes > 0 ? old - d->tree.dirty : 1);
  return bytes;
}

struct dirty *
dirty_new (uint64_t size, uint64_t granularity_bytes,
           struct reasons *reasons)
{
  struct dirty *d;

  assert (size <= INT64_MAX);
  assert (is_power_of_2 (granularity_bytes));
  assert (granularity_bytes >= 512);
  assert (granularity_bytes <= UINT64_C (64) << 20);

  d = dirty_test_alloc (sizeof *d);
  if (d == NULL)
    return NULL;
  d->size = size;
  d->granule_shift = (unsigned) __builtin_ctzll (granularity_bytes);
  d->reasons = reasons;
  tree_init (&d->tree, byte_to_granule_up (d, size));
  mutex_init (&d->lock);
  return d;
}

void
dirty_free (struct dirty *d)
{
  if (d == NULL)
    return;
  tree_release (&d->tree);
  mutex_destroy (&d->lock);
  free (d);
}

/* Returns how many bytes were not. */
static uint64_t
set_locked (struct dirty *d, struct range r)
{
  const uint64_t old = d->tree.dirty;

  assert (r.start <= r.end);
  assert (r.end <= d->size);

  if (range_empty (r))
    return 0;
  tree_set (&d->tree, byte_to_granule (d, r.start),
            byte_to_granule_up (d, r.end));
  if (d->reasons && d->tree.dirty > old)
    reasons_raise (d->reasons, d->tree.dirty - old);
  return (d->tree.dirty - old) << d->granule_shift;
}

uint64_t
dirty_set (struct dirty *d, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  return set_locked (d, r);
}

void
dirty_set_unknown (struct dirty *d, uint64_t bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  d->unknown_bytes = bytes;
}

void
dirty_learn (struct dirty *d, struct range r, bool differs)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  assert (d->unknown_bytes >= range_len (r));
  d->unknown_bytes -= range_len (r);
  if (differs)
    set_locked (d, r);
}

void
dirty_set_all (struct dirty *d)
{
  dirty_set (d, (struct range) { 0, d->size });
}

void
dirty_clear_all (struct dirty *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  assert (d->reasons == NULL);
  if (d->tree.granules > 0)
    tree_clear (&d->tree, 0, d->tree.granules);
  assert (d->tree.dirty == 0);  /* it needs no memory */
}

uint64_t
dirty_claim_inner (struct dirty *d, struct range r)
{
  uint64_t lo, hi;

  assert (r.start <= r.end);
  assert (r.end <= d->size);

  r = range_inner (r, granularity (d), d->size);
  if (range_empty (r))
    return 0;
  lo = byte_to_granule (d, r.start);
  hi = byte_to_granule_up (d, r.end);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  if (tree_next_dirty (&d->tree, lo) >= hi)
    return 0;
  return claim_locked (d, lo, hi);
}

bool
dirty_claim_run (struct dirty *d, struct range r, struct range *run)
{
  uint64_t lo, hi, end, old;

  assert (r.start <= r.end);
  assert (r.end <= d->size);

  if (range_empty (r))          /* also what is left at the disk's end */
    return false;
  assert (round_down_p2 (r.start, granularity (d)) == r.start);
  assert (round_down_p2 (r.end, granularity (d)) == r.end ||
          r.end == d->size);
  lo = byte_to_granule (d, r.start);
  hi = byte_to_granule_up (d, r.end);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  lo = tree_next_dirty (&d->tree, lo);
  if (lo >= hi)
    return false;
  end = tree_next_clean (&d->tree, lo);
  if (end < hi)
    hi = end;
  old = d->tree.dirty;
  if (claim_locked (d, lo, hi) == 0)
    return false;

  /* When memory was short this is a part of the run, in one piece. */
  lo = tree_next_clean (&d->tree, lo);
  hi = lo + (old - d->tree.dirty);
  run->start = granule_to_byte (d, lo);
  run->end = granule_to_byte (d, hi);
  return true;
}

static void
end_claim_locked (struct dirty *d, uint64_t bytes)
{
  assert (bytes > 0);
  assert (d->claims > 0);
  assert (d->claimed_bytes >= bytes);
  d->claims--;
  d->claimed_bytes -= bytes;
  if (d->reasons)
    reasons_lower (d->reasons, 1);
}

void
dirty_end_claim (struct dirty *d, uint64_t bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  end_claim_locked (d, bytes);
}

void
dirty_end_claim_well (struct dirty *d, uint64_t bytes)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  d->done_bytes += bytes;
  end_claim_locked (d, bytes);
}

bool
dirty_next (struct dirty *d, uint64_t from, uint64_t max_len,
            struct range *run)
{
  uint64_t start, end, max = max_len >> d->granule_shift;

  if (from >= d->size)
    return false;
  if (max == 0)
    max = 1;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  start = tree_next_dirty (&d->tree, byte_to_granule (d, from));
  if (start == d->tree.granules)
    return false;
  end = tree_next_clean (&d->tree, start);
  if (end - start > max)
    end = start + max;
  run->start = granule_to_byte (d, start);
  run->end = granule_to_byte (d, end);
  return true;
}

void
dirty_move (struct dirty *from, struct dirty *to)
{
  struct dirty *first = (uintptr_t) from < (uintptr_t) to ? from : to;
  struct dirty *second = first == from ? to : from;
  uint64_t old;

  assert (from != to);
  assert (from->size == to->size);
  assert (from->granule_shift == to->granule_shift);
  assert (from->reasons == NULL);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&first->lock);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&second->lock);
  old = to->tree.dirty;
  tree_move (&from->tree, &to->tree);
  if (to->reasons && to->tree.dirty > old)
    reasons_raise (to->reasons, to->tree.dirty - old);
}

void
dirty_count (struct dirty *d, struct dirty_counts *counts)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);

  *counts = (struct dirty_counts) {
    .dirty = bytes_locked (d), .claimed = d->claimed_bytes,
    .done = d->done_bytes, .unknown = d->unknown_bytes,
  };
}

void
dirty_bytes (struct dirty *d, uint64_t *dirty, uint64_t *claimed)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  *dirty = bytes_locked (d);
  *claimed = d->claimed_bytes;
}

bool
dirty_any (struct dirty *d, struct range r)
{
  assert (r.start <= r.end);
  assert (r.end <= d->size);

  if (range_empty (r))
    return false;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return tree_next_dirty (&d->tree, byte_to_granule (d, r.start)) <
    byte_to_granule_up (d, r.end);
}

bool
dirty_all (struct dirty *d, struct range r)
{
  assert (r.start < r.end);
  assert (r.end <= d->size);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return tree_next_clean (&d->tree, byte_to_granule (d, r.start)) >=
    byte_to_granule_up (d, r.end);
}

size_t
dirty_memory (struct dirty *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  return sizeof *d + d->tree.memory;
}

void
dirty_check (struct dirty *d)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&d->lock);
  tree_check (&d->tree);
  assert (bytes_locked (d) <= d->size);
  assert ((d->claims == 0) == (d->claimed_bytes == 0));
  if (d->reasons)
    assert (reasons_count (atomic_load (&d->reasons->n)) >=
            d->tree.dirty + d->claims);
}
