/* SPDX-License-Identifier: BSD-3-Clause */
/* See intent-model.h. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <inttypes.h>
#include <stdio.h>

#include "intent-model.h"

struct model model;

struct core
core_of (const struct intent_head *h)
{
  struct core c = { h->state, h->fenced, h->clean, 0, 0, h->disk[0] };

  /* The target is of no interest when no mirror is running. */
  if (h->state == INTENT_RUNNING) {
    c.target = h->target[0];
    c.target_size = h->target_size;
  }
  return c;
}

bool
same (struct core a, struct core b)
{
  return a.state == b.state && a.fenced == b.fenced && a.clean == b.clean &&
    a.target_size == b.target_size && a.target == b.target &&
    a.disk == b.disk;
}

/* For messages. */
static const char *
tell (struct core c)
{
  static char text[100];

  snprintf (text, sizeof text, "%s%s%s, target %c %" PRIu64 ", disk %c",
            intent_state_names[c.state], c.fenced ? " fenced" : "",
            c.clean ? " clean" : "", c.target ? c.target : '-',
            c.target_size, c.disk ? c.disk : '-');
  return text;
}

bool
allowed (struct core c)
{
  unsigned i;

  for (i = 0; i < model.count; ++i)
    if (same (model.allowed[i], c))
      return true;
  return false;
}

void
allow (struct core c)
{
  if (allowed (c))
    return;
  ck_assert_uint_lt (model.count, ALLOWED);
  model.allowed[model.count++] = c;
}

void
need_all (void)
{
  unsigned i;

  for (i = 0; i < N; ++i)
    model.need[i] = true;
}

void
check_image (void *opaque, const struct image *im)
{
  const struct core *before = opaque;
  unsigned i;

  if (im->gone) {
    /* A restart gives the clients the source. */
    ck_assert_int_eq (before ? before->disk : model.allowed[0].disk, 0);
    return;
  }
  ck_assert_int_ge (im->copy, 0);
  ck_assert_msg (allowed (core_of (&im->head)), "op %u: the file says %s",
                 file->ops, tell (core_of (&im->head)));
  for (i = 0; i < N; ++i)
    ck_assert_msg (!model.need[i] || image_has (im, i),
                   "region %u is not in W, op %u", i, file->ops);
}
