/* SPDX-License-Identifier: BSD-3-Clause */
/* See retry.h. */

#include <config.h>

#include "retry.h"

void
retry_init (struct retry *r, uint64_t seed)
{
  r->count = 0;
  r->all_due_ns = 0;
  r->random = seed | 1;
}

/* delay, and up to a quarter more: many proxies that lost one target at the
 * same moment do not come back at the same moment.  (Xorshift64, Marsaglia
 * 2003; any generator would do.)
 */
static uint64_t
with_jitter (struct retry *r, uint64_t delay_ns)
{
  r->random ^= r->random << 13;
  r->random ^= r->random >> 7;
  r->random ^= r->random << 17;
  return delay_ns + r->random % (delay_ns / 4 + 1);
}

/* Who began before the range was due had been chosen before its last failure
 * was known.
 */
void
retry_failed (struct retry *r, struct range range, uint64_t began_ns,
              uint64_t now_ns)
{
  struct retry_entry *e;
  unsigned i;

  for (i = 0; i < r->count; ++i) {
    e = &r->entries[i];
    if (!range_overlap (e->range, range))
      continue;
    if (began_ns >= e->due_ns)
      e->delay_ns = e->delay_ns * 2 < RETRY_MAX_NS
        ? e->delay_ns * 2 : RETRY_MAX_NS;
    e->due_ns = now_ns + with_jitter (r, e->delay_ns);
    if (range.start < e->range.start)
      e->range.start = range.start;
    if (range.end > e->range.end)
      e->range.end = range.end;
    return;
  }

  if (r->count == RETRY_MAX) {
    r->all_due_ns = now_ns + with_jitter (r, RETRY_MIN_NS);
    return;
  }
  e = &r->entries[r->count++];
  e->range = range;
  e->delay_ns = RETRY_MIN_NS;
  e->due_ns = now_ns + with_jitter (r, RETRY_MIN_NS);
}

void
retry_succeeded (struct retry *r, struct range range)
{
  unsigned i;

  for (i = 0; i < r->count;)
    if (range_overlap (r->entries[i].range, range))
      r->entries[i] = r->entries[--r->count];
    else
      ++i;
}

bool
retry_allows (const struct retry *r, struct range *range, uint64_t now_ns,
              uint64_t *due_ns)
{
  unsigned i;

  if (now_ns < r->all_due_ns) {
    *due_ns = r->all_due_ns;
    return false;
  }

  for (i = 0; i < r->count; ++i) {
    const struct retry_entry *e = &r->entries[i];

    if (now_ns >= e->due_ns || !range_overlap (e->range, *range))
      continue;
    if (e->range.start <= range->start) {
      *due_ns = e->due_ns;
      if (e->range.end < range->end)
        range->end = e->range.end;
      return false;
    }
    range->end = e->range.start;
  }
  return true;
}

/* An entry's first delay is the least, and each failure doubles it. */
static bool
failed_again (const struct retry_entry *e)
{
  return e->delay_ns >= RETRY_MIN_NS << (RETRY_AGAIN - 1);
}

bool
retry_failing (const struct retry *r, struct range range)
{
  unsigned i, j;

  for (i = 0; i < r->count; ++i)
    if (!failed_again (&r->entries[i]))
      return false;
  if (r->count == RETRY_MAX)
    return true;

  /* Each round takes an entry off the front of what is left of range. */
  for (i = 0; i < r->count && !range_empty (range); ++i)
    for (j = 0; j < r->count; ++j)
      if (r->entries[j].range.start <= range.start &&
          r->entries[j].range.end > range.start)
        range.start = r->entries[j].range.end < range.end
          ? r->entries[j].range.end : range.end;
  return r->count > 0 && range_empty (range);
}
