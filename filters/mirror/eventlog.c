/* SPDX-License-Identifier: BSD-3-Clause */
/* See eventlog.h. */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "eventlog.h"

void
eventlog_init (struct eventlog *l)
{
  memset (l, 0, sizeof *l);
  mutex_init (&l->lock);
}

void
eventlog_destroy (struct eventlog *l)
{
  mutex_destroy (&l->lock);
}

/* A target that is online for the first time is not back, and of one that is
 * lost, or was never there, it is of no interest how each try to connect fails,
 * unless somebody has to see to it.
 */
static enum eventlog_kind
target_kind_locked (struct eventlog *l, const struct mirror_event *ev)
{
  bool *lost = ev->id ? &l->lost : &l->disk_lost;
  const bool was_lost = *lost;

  *lost = ev->unfit || strcmp (ev->target_state, "offline") == 0 ||
    (was_lost && strcmp (ev->target_state, "connecting") == 0);
  if (ev->unfit)
    return ev->id ? EVENTLOG_UNFIT : EVENTLOG_DISK_UNFIT;
  if (*lost && !was_lost)
    return ev->id ? EVENTLOG_LOST : EVENTLOG_DISK_LOST;
  if (was_lost && !*lost && strcmp (ev->target_state, "none") != 0)
    return ev->id ? EVENTLOG_BACK : EVENTLOG_DISK_BACK;
  return EVENTLOG_KINDS;
}

/* EVENTLOG_KINDS: of no interest. */
static enum eventlog_kind
kind_locked (struct eventlog *l, const struct mirror_event *ev)
{
  switch (ev->kind) {
  case EVENT_TARGET_STATE:
    return target_kind_locked (l, ev);
  case EVENT_JOB_ERROR:
    if (ev->lost)               /* that the target is offline says it */
      return EVENTLOG_KINDS;
    return ev->write ? EVENTLOG_TARGET_FAILED : EVENTLOG_SOURCE_FAILED;
  case EVENT_SWITCH_FAILED:
    return EVENTLOG_REFUSED;
  case EVENT_FENCED:
    return ev->synced ? EVENTLOG_FENCED : EVENTLOG_UNFENCED;
  case EVENT_PIVOTED:
    return EVENTLOG_PIVOTED;
  case EVENT_BITMAP_LOST:
    return EVENTLOG_BITMAP_LOST;
  default:
    return EVENTLOG_KINDS;
  }
}

static int
format (enum eventlog_kind kind, const struct mirror_event *ev, char *line)
{
  const size_t n = EVENTLOG_LINE_MAX;
  const char *colon = ev->error ? ": " : "";
  const char *why = ev->error ? ev->error : "";
  const char *who = ev->id ? "target" : "the clients' disk";

  switch (kind) {
  case EVENTLOG_LOST:
  case EVENTLOG_DISK_LOST:
    return snprintf (line, n, "mirror: %s offline%s%.200s", who, colon, why);
  case EVENTLOG_BACK:
  case EVENTLOG_DISK_BACK:
    return snprintf (line, n, "mirror: %s is back%s%.200s", who, colon, why);
  case EVENTLOG_UNFIT:
  case EVENTLOG_DISK_UNFIT:
    return snprintf (line, n, "mirror: %s refused%s%.200s", who, colon, why);
  case EVENTLOG_SOURCE_FAILED:
  case EVENTLOG_TARGET_FAILED:
    return snprintf (line, n, "mirror: %s failed at %" PRIu64 "+%" PRIu64
                     ": %s", ev->write ? "target" : "source", ev->range.start,
                     range_len (ev->range), error_text (ev->err));
  case EVENTLOG_REFUSED:
    return snprintf (line, n, "mirror: %s given up, clients stay with the"
                     " source: %.200s", ev->operation, ev->error);
  case EVENTLOG_FENCED:
    return snprintf (line, n, "mirror: fenced: writes of clients fail from"
                     " now on");
  case EVENTLOG_UNFENCED:
    return snprintf (line, n, "mirror: the fence is gone");
  case EVENTLOG_PIVOTED:
    return snprintf (line, n, "mirror: pivoted: clients have the target after"
                     " %" PRIu64 " us%s", ev->pause_ns / 1000, ev->durable
                     ? "" : "; there is no intent file: a restart will serve"
                     " the source");
  case EVENTLOG_BITMAP_LOST:
    return snprintf (line, n, "mirror: the intent file cannot be written, and "
                     "is given up: the next start will copy everything");
  case EVENTLOG_KINDS:
    break;
  }
  return 0;
}

bool
eventlog_line (struct eventlog *l, const struct mirror_event *ev,
               uint64_t now_ns, char *line)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&l->lock);
  const enum eventlog_kind kind = kind_locked (l, ev);
  int n;

  if (kind == EVENTLOG_KINDS)
    return false;
  if (kind != EVENTLOG_UNFIT && kind != EVENTLOG_DISK_UNFIT &&
      l->kinds[kind].when_ns != 0 &&
      now_ns - l->kinds[kind].when_ns < EVENTLOG_NS) {
    l->kinds[kind].more++;
    return false;
  }
  n = format (kind, ev, line);
  if (l->kinds[kind].more > 0)
    snprintf (line + n, EVENTLOG_LINE_MAX - (size_t) n,
              " (and %u more like it before)", l->kinds[kind].more);
  l->kinds[kind].when_ns = now_ns;
  l->kinds[kind].more = 0;
  return true;
}
