/* SPDX-License-Identifier: BSD-3-Clause */
/* See late.h. */

#include <config.h>

#include "cleanup.h"
#include "late.h"

/* The longest suspect time that can be set: what is older is forgotten. */
#define KEEP_NS (UINT64_C (3600) * 1000000000)

void
late_init (struct late *late)
{
  mutex_init (&late->lock);
  late->range = (struct range) { 0, 0 };
  late->when_ns = 0;
}

void
late_destroy (struct late *late)
{
  mutex_destroy (&late->lock);
}

void
late_note (struct late *late, struct range r, uint64_t now_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&late->lock);

  if (range_empty (late->range) || now_ns > late->when_ns + KEEP_NS)
    late->range = r;
  if (r.start < late->range.start)
    late->range.start = r.start;
  if (r.end > late->range.end)
    late->range.end = r.end;
  late->when_ns = now_ns;
}

struct range
late_get (struct late *late, uint64_t now_ns, uint64_t time_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&late->lock);

  return now_ns < late->when_ns + time_ns ? late->range
    : (struct range) { 0, 0 };
}
