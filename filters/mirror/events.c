/* SPDX-License-Identifier: BSD-3-Clause */
/* What the events say: tables as in query.c, read by scripts/check-docs.
 *
 * Called on engine threads: no locks, nothing that waits.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "control-impl.h"

#define FIELD(name, value)                      \
  failed |= json_object_set_new (data, name, value) < 0;
#define FIELD_IF(condition, name, value)        \
  if (condition)                                \
    FIELD (name, value)

#define NUMBER(n) json_integer ((json_int_t) (n))
#define TRUTH(b) json_boolean (b)
#define TEXT(s) qmp_string (s)

/* event JOB_STATUS_CHANGE */
#define JOB_STATUS_CHANGE                                       \
  FIELD ("id", TEXT (ev->id))                                   \
  FIELD ("status", TEXT (job_status_name (ev->status)))

/* event BLOCK_JOB_READY */
#define BLOCK_JOB_READY                                         \
  FIELD ("type", TEXT ("mirror"))                               \
  FIELD ("device", TEXT (ev->id))                               \
  FIELD ("len", NUMBER (ev->len))                               \
  FIELD ("offset", NUMBER (ev->offset))                         \
  FIELD ("speed", NUMBER (ev->speed))

/* event BLOCK_JOB_CANCELLED */
#define BLOCK_JOB_CANCELLED                                     \
  FIELD ("type", TEXT ("mirror"))                               \
  FIELD ("device", TEXT (ev->id))                               \
  FIELD ("len", NUMBER (ev->len))                               \
  FIELD ("offset", NUMBER (ev->offset))                         \
  FIELD ("speed", NUMBER (ev->speed))

/* event BLOCK_JOB_COMPLETED */
#define BLOCK_JOB_COMPLETED                                     \
  FIELD ("type", TEXT ("mirror"))                               \
  FIELD ("device", TEXT (ev->id))                               \
  FIELD ("len", NUMBER (ev->len))                               \
  FIELD ("offset", NUMBER (ev->offset))                         \
  FIELD ("speed", NUMBER (ev->speed))                           \
  FIELD_IF (ev->error, "error", TEXT (ev->error))

/* event BLOCK_JOB_ERROR */
#define BLOCK_JOB_ERROR                                         \
  FIELD ("device", TEXT (ev->id))                               \
  FIELD ("operation", TEXT (ev->write ? "write" : "read"))      \
  FIELD ("action", TEXT (on_error_name (ev->action)))           \
  FIELD ("errno", NUMBER (ev->err))                             \
  FIELD ("offset", NUMBER (ev->range.start))                    \
  FIELD ("length", NUMBER (ev->range.end - ev->range.start))

/* event MIRROR_TARGET_STATE */
#define MIRROR_TARGET_STATE                                     \
  FIELD ("state", TEXT (ev->target_state))                      \
  FIELD_IF (!ev->id, "disk", TRUTH (true))                      \
  FIELD_IF (ev->error, "reason", TEXT (ev->error))

/* event MIRROR_SYNCED */
#define MIRROR_SYNCED                                           \
  FIELD ("synced", TRUTH (ev->synced))

/* event MIRROR_PIVOTED */
#define MIRROR_PIVOTED                                          \
  FIELD ("pause-us", NUMBER (ev->pause_ns / 1000))

/* event MIRROR_SWITCH_FAILED */
#define MIRROR_SWITCH_FAILED                                    \
  FIELD ("operation", TEXT (ev->operation))                     \
  FIELD ("error", TEXT (ev->error))                             \
  FIELD ("pause-us", NUMBER (ev->pause_ns / 1000))

/* event MIRROR_RELEASED */
#define MIRROR_RELEASED                                         \
  FIELD ("reason", TEXT (ev->error))                            \
  FIELD ("held-us", NUMBER (ev->held_ns / 1000))

/* event MIRROR_FENCED */
#define MIRROR_FENCED                                           \
  FIELD ("enabled", TRUTH (ev->synced))

/* event MIRROR_VERIFY_COMPLETED */
#define MIRROR_VERIFY_COMPLETED                                 \
  FIELD ("differences", NUMBER (ev->verify->differences))       \
  FIELD ("bytes", NUMBER (ev->verify->bytes))                   \
  FIELD ("left-bytes", NUMBER (ev->verify->left))               \
  FIELD ("first-differences", first_differences (ev->verify))   \
  FIELD_IF (ev->error, "error", TEXT (ev->error))

/* event MIRROR_BITMAP_LOST */
#define MIRROR_BITMAP_LOST

/* Fills data; returns the event's name, or NULL when out of memory. */
static const char *
fill (json_t *data, const struct mirror_event *ev)
{
  const char *name = NULL;
  bool failed = false;

#define CASE(kind, table)                       \
  case kind: name = #table; table break

  switch (ev->kind) {
  CASE (EVENT_JOB_STATUS_CHANGE, JOB_STATUS_CHANGE);
  CASE (EVENT_JOB_READY, BLOCK_JOB_READY);
  CASE (EVENT_JOB_CANCELLED, BLOCK_JOB_CANCELLED);
  CASE (EVENT_JOB_COMPLETED, BLOCK_JOB_COMPLETED);
  CASE (EVENT_JOB_ERROR, BLOCK_JOB_ERROR);
  CASE (EVENT_TARGET_STATE, MIRROR_TARGET_STATE);
  CASE (EVENT_SYNCED, MIRROR_SYNCED);
  CASE (EVENT_PIVOTED, MIRROR_PIVOTED);
  CASE (EVENT_SWITCH_FAILED, MIRROR_SWITCH_FAILED);
  CASE (EVENT_RELEASED, MIRROR_RELEASED);
  CASE (EVENT_FENCED, MIRROR_FENCED);
  CASE (EVENT_VERIFY_COMPLETED, MIRROR_VERIFY_COMPLETED);
  CASE (EVENT_BITMAP_LOST, MIRROR_BITMAP_LOST);
  }
  return failed ? NULL : name;
}

char *
event_line (const struct mirror_event *ev)
{
  json_t *data = json_object ();
  const char *name = fill (data, ev);
  struct timeval when;

  if (name == NULL) {
    json_decref (data);
    return NULL;
  }
  gettimeofday (&when, NULL);
  return qmp_event_line (name, data, &when);
}
