/* SPDX-License-Identifier: BSD-3-Clause */
/* Deadlock between the range lock and any other limited thing (target request slots, copy buffers).
 * -DORDER=0: tee takes lock then slot, copier takes slot then lock, one pool.
 * -DORDER=1: both take the slot last (held only while the request is on the wire).
 * -DORDER=2: copier takes its slot first, but from a pool of its own. */
#ifndef ORDER
#define ORDER 1
#endif
byte slots = 1, cslots = 1; bool lock;
#define LOCK atomic { !lock -> lock = true }
#define UNLOCK lock = false
proctype tee () { byte n; do :: n < 2 -> n++; LOCK; atomic { slots > 0 -> slots-- }; skip; slots++; UNLOCK :: n >= 2 -> break od }
proctype copier () { byte n; do :: n < 2 -> n++;
#if ORDER == 0
  atomic { slots > 0 -> slots-- }; LOCK; skip; UNLOCK; slots++
#elif ORDER == 1
  LOCK; atomic { slots > 0 -> slots-- }; skip; slots++; UNLOCK
#else
  atomic { cslots > 0 -> cslots-- }; LOCK; skip; UNLOCK; cslots++
#endif
  :: n >= 2 -> break od }
init { atomic { run tee (); run tee (); run copier (); run copier () } }
