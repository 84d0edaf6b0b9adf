/* SPDX-License-Identifier: BSD-3-Clause */
/* See waits.h.
 *
 * A slot holds what is waited for and since when in one word, so that the
 * observer needs no lock; 0 is free.  A thread begins to look for a free one
 * where nobody else does, as a rule.
 */

#include <config.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "waits.h"

#define SLOTS 256u
#define NO_SLOT SLOTS

#define KIND_BITS 3
#define KIND_MASK ((UINT64_C (1) << KIND_BITS) - 1)

/* A flush of the job may take so many time-outs. */
#define FLUSH_TIMES 10

/* Who waits for a lock waits for the target only if somebody else has been
 * waiting for it for this part of the time-out.
 */
#define LOCK_PART 10

struct slot {
  _Atomic uint64_t word;        /* since << KIND_BITS | kind; 0: free */
} __attribute__ ((__aligned__ (64)));

struct waits {
  struct slot slots[SLOTS];
  _Atomic uint64_t progress_ns;
};

static uint64_t
word (enum wait_kind kind, uint64_t since_ns)
{
  /* Never 0. */
  return (since_ns + 1) << KIND_BITS | kind;
}

struct waits *
waits_new (void)
{
  struct waits *w = aligned_alloc (64, sizeof *w);
  unsigned i;

  if (!w)
    return NULL;
  for (i = 0; i < SLOTS; ++i)
    atomic_init (&w->slots[i].word, 0);
  atomic_init (&w->progress_ns, 0);
  return w;
}

void
waits_free (struct waits *w)
{
  free (w);
}

static unsigned
home (void)
{
  static _Atomic unsigned threads;
  static __thread unsigned mine;        /* plus 1; 0: none yet */

  if (mine == 0)
    mine = 1 + atomic_fetch_add (&threads, 1) % SLOTS;
  return mine - 1;
}

void
waits_begin (struct waits *w, struct wait *wait, enum wait_kind kind,
             uint64_t now_ns)
{
  const unsigned first = home ();
  unsigned i;

  *wait = (struct wait) { .slot = NO_SLOT, .began_ns = now_ns, .kind = kind };
  for (i = 0; i < SLOTS; ++i) {
    const unsigned slot = (first + i) % SLOTS;
    uint64_t none = 0;

    if (atomic_compare_exchange_strong (&w->slots[slot].word, &none,
                                        word (kind, now_ns))) {
      wait->slot = slot;
      return;
    }
  }
}

void
waits_change (struct waits *w, struct wait *wait, enum wait_kind kind,
              uint64_t now_ns)
{
  if (wait->kind != WAIT_SOURCE)
    wait->so_far_ns += now_ns - wait->began_ns;
  wait->began_ns = now_ns;
  wait->kind = kind;
  if (wait->slot != NO_SLOT)
    atomic_store (&w->slots[wait->slot].word,
                  word (kind, now_ns - wait->so_far_ns));
}

void
waits_end (struct waits *w, struct wait *wait)
{
  if (wait->slot != NO_SLOT)
    atomic_store (&w->slots[wait->slot].word, 0);
}

void
waits_progress (struct waits *w, uint64_t now_ns)
{
  atomic_store (&w->progress_ns, now_ns);
}

bool
waits_overdue (const struct waits *w, uint64_t now_ns, uint64_t timeout_ns)
{
  uint64_t longest[WAIT_FLUSH + 1] = { 0 }, ns, since, quiet, busy = 0;
  unsigned i;

  for (i = 0; i < SLOTS; ++i) {
    uint64_t v = atomic_load (&w->slots[i].word);
    unsigned kind = (unsigned) (v & KIND_MASK);

    if (v == 0)
      continue;
    since = (v >> KIND_BITS) - 1;
    ns = now_ns > since ? now_ns - since : 0;
    if (ns > longest[kind])
      longest[kind] = ns;
  }
  quiet = atomic_load (&w->progress_ns);
  quiet = now_ns > quiet ? now_ns - quiet : 0;
  for (i = 0; i <= WAIT_FLUSH; ++i)
    if (i != WAIT_SOURCE && i != WAIT_LOCK && longest[i] > busy)
      busy = longest[i];
  return longest[WAIT_TARGET] >= timeout_ns ||
    (longest[WAIT_LOCK] >= timeout_ns && busy >= timeout_ns / LOCK_PART) ||
    (longest[WAIT_COPY] >= timeout_ns && quiet >= timeout_ns) ||
    longest[WAIT_FLUSH] / FLUSH_TIMES >= timeout_ns;
}
