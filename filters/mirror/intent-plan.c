/* SPDX-License-Identifier: BSD-3-Clause */
/* See intent-plan.h.
 *
 * A file is good for one pair of disks.  When in doubt it is refused: then
 * nothing has happened, and to start over costs a full copy.  What is never
 * done without an order is to write to a disk that clients may have been moved
 * to, or to a target that has been let go.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "intent-plan.h"
#include "place.h"

#define OR_DELETE "; or delete the file to start over, with a full copy"

/* What else there is to do than what the line has said: nothing that would give
 * clients a disk that lacks their data.
 */
static const char *
or_else (const struct intent_head *h, char *buf, size_t size)
{
  if (!h->disk[0])
    return OR_DELETE;
  snprintf (buf, size, "; keep the file: clients had been moved to '%.120s', "
            "and only that has their data", h->disk);
  return buf;
}

/* refuse makes one line of it, whatever is in the texts. */
#define SAY(plan, ...) ((void) refuse ((plan)->line, __VA_ARGS__))

#define REFUSE(plan, ...)                       \
  do {                                          \
    (plan)->action = PLAN_REFUSE;               \
    (plan)->target = (plan)->disk = NULL;       \
    SAY (plan, __VA_ARGS__);                    \
  } while (0)

/* Is it the same target?  What cannot be parsed (there is no such thing, but
 * who knows who has written the file) is so if it is the same text.
 */
static bool
is_same (const char *a, const char *b)
{
  return strcmp (a, b) == 0 || place_same_uri (a, b);
}

static void
without_file (struct plan *plan, const struct plan_wanted *w)
{
  plan->create = true;
  plan->target = w->target;
  if (!w->target)
    plan->action = PLAN_NO_JOB;
  else if (w->sync == SYNC_INCREMENTAL) {
    plan->create = false;
    REFUSE (plan, "there is no such file, so mirror-sync=incremental is not "
            "possible; allowed are full and none");
  }
  else
    plan->action = PLAN_START;
}

/* Is it about these disks at all? */
static bool
is_about (struct plan *plan, const struct intent_head *h,
          const struct plan_wanted *w)
{
  char buf[256];
  const char *or = or_else (h, buf, sizeof buf);

  if (strcmp (h->source, w->source) != 0)
    REFUSE (plan, "is of another source: '%.120s', this one is '%.120s'; give "
            "that source%s", h->source, w->source, or);
  else if (h->state == INTENT_RUNNING && !h->target[0])
    REFUSE (plan, "makes no sense: a mirror is running, but to no target%s",
            or);
  else if (w->granularity && w->granularity != h->granularity)
    REFUSE (plan, "is of another granularity: %" PRIu64 ", "
            "mirror-granularity=%" PRIu64 " is wanted; give that one, or "
            "none%s", h->granularity, w->granularity, or);
  else if (w->target && h->target[0] && !is_same (w->target, h->target) &&
           !(h->disk[0] && is_same (w->target, h->disk)))
    REFUSE (plan, "is of another target: '%.120s', mirror-target=%.120s is "
            "wanted; give that one, or none%s", h->target, w->target, or);
  else
    return true;
  return false;
}

/* Clients have been moved to h->disk.  Returns true if that is what they get.
 */
static bool
after_pivot (struct plan *plan, const struct intent_head *h,
             const struct plan_wanted *w)
{
  switch (w->after_pivot) {
  case AFTER_PIVOT_TARGET:
    plan->disk = h->disk;
    return true;
  case AFTER_PIVOT_REFUSE:
    REFUSE (plan, "clients had been moved to '%.120s', and "
            "mirror-after-pivot=refuse is given; serve that disk, or start "
            "with target, or source (the old disk, which lacks what was "
            "written since)", h->disk);
    return false;
  case AFTER_PIVOT_SOURCE:
    plan->unpivot = true;
    SAY (plan, "clients had been moved to '%.120s'; they get the "
         "source again, by mirror-after-pivot=source: it lacks what was "
         "written since, and no mirror is started", h->disk);
    return false;
  }
  return false;
}

/* The state is running. */
static void
resume (struct plan *plan, const struct intent_head *h,
        const struct plan_wanted *w)
{
  plan->action = PLAN_RESUME;
  plan->target = w->target ? w->target : h->target;
  if (plan->disk)
    SAY (plan, "clients had been moved to '%.120s', and get that disk; the "
         "mirror from there to '%.120s' goes on with what is recorded",
         h->disk, h->target);
  else
    SAY (plan, "the mirror to '%.120s' goes on with what is recorded",
         h->target);
}

/* The state is another one, and the command line wants a mirror. */
static void
start (struct plan *plan, const struct intent_head *h,
       const struct plan_wanted *w)
{
  if (w->sync == SYNC_INCREMENTAL)
    REFUSE (plan, "says '%s': what was written since is not recorded, so "
            "mirror-sync=incremental is not possible; allowed are full and "
            "none", intent_state_names[h->state]);
  else if (h->state == INTENT_IDLE) {
    plan->action = PLAN_START;
    plan->target = w->target;
  }
  else
    SAY (plan, "the mirror to '%.120s' has ended (%s), and none is started; "
         "blockdev-mirror starts a new one, which copies everything",
         h->target, intent_state_names[h->state]);
}

void
plan_make (struct plan *plan, const struct intent_head *h,
           const struct plan_wanted *wanted)
{
  struct plan_wanted w = *wanted;

  memset (plan, 0, sizeof *plan);
  plan->action = PLAN_NO_JOB;
  if (!h) {
    without_file (plan, &w);
    return;
  }
  plan->fenced = h->fenced;
  if (!is_about (plan, h, &w))
    return;
  if (h->disk[0]) {
    if (!after_pivot (plan, h, &w))
      return;
    SAY (plan, "clients had been moved to '%.120s', and get that disk; no "
         "mirror is started", h->disk);
    /* It is no target any more. */
    if (w.target && is_same (w.target, h->disk))
      w.target = NULL;
  }
  if (h->state == INTENT_RUNNING)
    resume (plan, h, &w);
  else if (w.target && (!h->disk[0] || w.sync == SYNC_INCREMENTAL))
    start (plan, h, &w);
}

int
plan_check_sizes (const struct plan *plan, const struct intent_head *h,
                  uint64_t source_size, uint64_t target_size, char *error)
{
  char buf[256];

  if (h && !plan->disk && source_size != h->size)
    return refuse (error, "is of another source: that has %" PRIu64 " bytes, "
                   "this one %" PRIu64 "; give that source%s", h->size,
                   source_size, or_else (h, buf, sizeof buf));
  /* A target that has not been there yet may have any size. */
  if (h && plan->action == PLAN_RESUME && target_size && h->target_size &&
      target_size != h->target_size)
    return refuse (error, "is of another target: that has %" PRIu64 " bytes, "
                   "this one %" PRIu64 "; give that one%s", h->target_size,
                   target_size, or_else (h, buf, sizeof buf));
  return 0;
}
