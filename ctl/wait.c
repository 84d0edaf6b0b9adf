/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror wait
 *
 * Look at the status, then sleep until an event comes, and so on.  Events are
 * on before the first look, so that none that matters is missed; what they
 * say does not matter, since the status is looked at after each of them.
 * And it is looked at now and then without one, which costs nothing.
 */

#include <config.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"

#define LEAST_MS 1000
#define LOOK_MS 5000

enum verdict { NOT_YET, REACHED, NEVER };

static const char *
word (json_t *object, const char *name)
{
  const char *s = json_string_value (json_object_get (object, name));

  return s ? s : "";
}

static enum verdict
no_job (json_t *last, const char *goal)
{
  const char *end = word (last, "end");

  if (strcmp (goal, "completed") == 0 && strcmp (end, "completed") == 0)
    return REACHED;
  if (end[0] == '\0')
    complain ("wait: there is no job");
  else if (strcmp (end, "failed") == 0)
    complain ("wait: the job '%s' failed: %s", word (last, "id"),
              word (last, "error"));
  else if (strcmp (end, "cancelled") == 0)
    complain ("wait: the job '%s' was cancelled", word (last, "id"));
  else
    complain ("wait: there is no job; the last, '%s', was completed",
              word (last, "id"));
  return NEVER;
}

/* One that has ended, and is kept until it is dismissed. */
static enum verdict
kept_job (json_t *job, const char *goal)
{
  const char *error = word (job, "error");

  if (error[0] != '\0') {
    complain ("wait: the job '%s' has failed or was cancelled: %s",
              word (job, "id"), error);
    return NEVER;
  }
  if (strcmp (goal, "completed") == 0)
    return REACHED;
  complain ("wait: the job '%s' has been completed", word (job, "id"));
  return NEVER;
}

/* A mirror is synced only by flushes of its target.  While there is no
 * connection that is not known, and another one may be connected next.
 */
static bool
cannot_flush (json_t *target)
{
  return strcmp (word (target, "state"), "online") == 0 &&
    json_is_false (json_object_get (target, "flush"));
}

static enum verdict
judge (json_t *mirror, const char *goal)
{
  json_t *job = json_object_get (mirror, "job");
  const char *status = word (job, "status");
  const bool concluded = strcmp (status, "concluded") == 0;

  if (job == NULL || json_is_null (job))
    return no_job (json_object_get (mirror, "last-job"), goal);
  if (concluded && json_is_false (json_object_get (job, "auto-dismiss")))
    return kept_job (job, goal);
  /* It is ending: how, will be seen when it has. */
  if (concluded || strcmp (status, "aborting") == 0)
    return NOT_YET;
  if (strcmp (goal, "ready") == 0 &&
      json_is_true (json_object_get (job, "ready")))
    return REACHED;
  if (strcmp (goal, "synced") != 0)
    return NOT_YET;
  if (json_is_true (json_object_get (job, "actively-synced")))
    return REACHED;
  if (cannot_flush (json_object_get (mirror, "target"))) {
    complain ("wait: the job '%s' can never be synced: its target cannot"
              " flush; it can be ready", word (job, "id"));
    return NEVER;
  }
  return NOT_YET;
}

/* Milliseconds; -1 is no limit, < -1 wrong. */
static int
parse_timeout (const char *text)
{
  double s;
  char *end;

  if (text == NULL)
    return -1;
  s = strtod (text, &end);
  if (end == text || *end != '\0' || !(s >= 0 && s <= 1000000)) {
    complain ("wait: --timeout %s: must be a number of seconds from 0 to"
              " 1000000", text);
    return -2;
  }
  return (int) ceil (s * 1000);
}

static int
left_of (int64_t deadline_ms)
{
  const int64_t left = deadline_ms - client_now_ms ();

  return deadline_ms < 0 ? -1 : left < 0 ? 0 : (int) left;
}

/* Time for an answer: even with hardly any time left the server is asked. */
static int
answer_ms (int64_t deadline_ms)
{
  const int left = left_of (deadline_ms);

  return left < 0 || left > LEAST_MS ? left : LEAST_MS;
}

/* Not longer than that without a look, whatever events there are. */
static int
look_again_ms (int64_t deadline_ms)
{
  const int left = left_of (deadline_ms);

  return left < 0 || left > LOOK_MS ? LOOK_MS : left;
}

static int
timed_out (const char *goal)
{
  complain ("wait: timed out: not %s yet", goal);
  return STATUS_TIMEOUT;
}

static int
wait_for (struct client *c, const char *goal, int64_t deadline_ms)
{
  enum verdict verdict;
  json_t *mirror;
  int r;

  for (;;) {
    r = client_command (c, "query-mirror", NULL, answer_ms (deadline_ms),
                        &mirror);
    if (r == 0) {
      verdict = judge (mirror, goal);
      json_decref (mirror);
      if (verdict != NOT_YET)
        return verdict == REACHED ? STATUS_OK : STATUS_FAILED;
      r = client_wait_event (c, look_again_ms (deadline_ms));
      if (r == -ETIMEDOUT && left_of (deadline_ms) != 0)
        continue;
    }
    if (r == -ETIMEDOUT)
      return timed_out (goal);
    if (r < 0) {
      complain ("wait: %s", client_error (c));
      return r == -EREMOTEIO ? STATUS_FAILED : STATUS_NO_PROXY;
    }
  }
}

int
run_wait (const struct call *call)
{
  const char *goal = call->operands[0];
  const int timeout_ms = parse_timeout (call_option (call, "--timeout"));
  int64_t deadline_ms = -1;
  struct client *c;
  int status;

  if (strcmp (goal, "ready") != 0 && strcmp (goal, "synced") != 0 &&
      strcmp (goal, "completed") != 0) {
    complain ("wait: '%s': allowed are ready, synced and completed", goal);
    return STATUS_FAILED;
  }
  if (timeout_ms < -1)
    return STATUS_FAILED;

  if (timeout_ms >= 0)
    deadline_ms = client_now_ms () + timeout_ms;
  c = call_connect (call, answer_ms (deadline_ms), &status);
  if (c == NULL)                /* a server that hangs is one that is there */
    return left_of (deadline_ms) == 0 ? STATUS_TIMEOUT : status;
  status = wait_for (c, goal, deadline_ms);
  client_close (c);
  return status;
}
