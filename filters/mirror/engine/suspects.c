/* SPDX-License-Identifier: BSD-3-Clause */
/* See suspects.h.
 *
 * What becomes suspect within one quarter of the time is one group: a bitmap
 * and the time at which all of it is let go.  Few groups are enough, since a
 * group is gone five quarters after it began.
 */

#include <config.h>

#include <stdlib.h>

#include "cleanup.h"
#include "suspects.h"
#include "sync.h"

#define PARTS 4
#define GROUPS (PARTS + 2)

struct group {
  struct dirty *map;
  uint64_t began_ns, due_ns;
  bool used;
};

struct suspects {
  /* Constant. */
  uint64_t time_ns;
  struct dirty *dirty;
  struct reasons *reasons;
  bool (*settled) (void *opaque, struct range r);
  void *opaque;

  struct mutex lock;

  /* Protected by lock. */
  struct group groups[GROUPS];
  unsigned newest;
};

struct suspects *
suspects_new (uint64_t size, uint64_t granularity, uint64_t time_ns,
              struct dirty *dirty, struct reasons *reasons,
              bool (*settled) (void *opaque, struct range r), void *opaque)
{
  struct suspects *s = calloc (1, sizeof *s);
  unsigned i;

  if (!s)
    return NULL;
  s->time_ns = time_ns;
  s->dirty = dirty;
  s->reasons = reasons;
  s->settled = settled;
  s->opaque = opaque;
  mutex_init (&s->lock);
  for (i = 0; i < GROUPS; ++i) {
    s->groups[i].map = dirty_new (size, granularity, NULL);
    if (!s->groups[i].map) {
      suspects_free (s);
      return NULL;
    }
  }
  return s;
}

void
suspects_free (struct suspects *s)
{
  unsigned i;

  if (!s)
    return;
  for (i = 0; i < GROUPS; ++i)
    dirty_free (s->groups[i].map);
  mutex_destroy (&s->lock);
  free (s);
}

static bool
let_go_locked (struct suspects *s, struct group *g, uint64_t now)
{
  struct range run = { 0, 0 };

  while (dirty_next (g->map, run.end, UINT64_MAX, &run))
    if (!s->settled (s->opaque, run)) {
      g->due_ns = now + s->time_ns;
      return false;
    }
  dirty_move (g->map, s->dirty);        /* raises N first */
  g->used = false;
  reasons_lower (s->reasons, 1);
  return true;
}

/* The group for what becomes suspect now. */
static struct group *
group_locked (struct suspects *s, uint64_t now)
{
  struct group *g = &s->groups[s->newest], *next;
  unsigned n = (s->newest + 1) % GROUPS;

  if (g->used && now < g->began_ns + s->time_ns / PARTS)
    return g;
  next = &s->groups[n];
  if (next->used) {
    /* Cannot be, unless the clock stands or it was refused before. */
    if (now < next->due_ns || !let_go_locked (s, next, now))
      return g;
  }
  reasons_raise (s->reasons, 1);
  s->newest = n;
  next->used = true;
  next->began_ns = now;
  return next;
}

void
suspects_add (struct suspects *s, struct range r, uint64_t now_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct group *g;

  if (s->time_ns == 0) {
    s->settled (s->opaque, r);
    dirty_set (s->dirty, r);
    return;
  }
  g = group_locked (s, now_ns);
  dirty_set (g->map, r);
  g->due_ns = now_ns + s->time_ns;
}

void
suspects_renew (struct suspects *s, uint64_t now_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct group *g = &s->groups[s->newest], *old;

  for (old = s->groups; old < s->groups + GROUPS; ++old)
    if (old != g && old->used) {        /* then g is used, or was let go */
      dirty_move (old->map, g->map);
      old->used = false;
      if (g->used)
        reasons_lower (s->reasons, 1);
      g->used = true;
    }
  g->due_ns = now_ns + s->time_ns;
}

bool
suspects_expire (struct suspects *s, uint64_t now_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  bool any = false;
  unsigned i;

  for (i = 0; i < GROUPS; ++i)
    if (s->groups[i].used && now_ns >= s->groups[i].due_ns)
      any |= let_go_locked (s, &s->groups[i], now_ns);
  return any;
}

uint64_t
suspects_until (struct suspects *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  uint64_t last = 0;
  unsigned i;

  for (i = 0; i < GROUPS; ++i)
    if (s->groups[i].used && s->groups[i].due_ns > last)
      last = s->groups[i].due_ns;
  return last;
}

uint64_t
suspects_bytes (struct suspects *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  uint64_t sum = 0, dirty, claimed;
  unsigned i;

  for (i = 0; i < GROUPS; ++i)
    if (s->groups[i].used) {
      dirty_bytes (s->groups[i].map, &dirty, &claimed);
      sum += dirty;
    }
  return sum;
}

bool
suspects_next (struct suspects *s, uint64_t from, struct range *run)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  struct range r;
  bool found = false;
  unsigned i;

  for (i = 0; i < GROUPS; ++i)
    if (s->groups[i].used &&
        dirty_next (s->groups[i].map, from, UINT64_MAX, &r) &&
        (!found || r.start < run->start)) {
      *run = r;
      found = true;
    }
  return found;
}

bool
suspects_any (struct suspects *s, struct range r)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  unsigned i;

  for (i = 0; i < GROUPS; ++i)
    if (s->groups[i].used && dirty_any (s->groups[i].map, r))
      return true;
  return false;
}
