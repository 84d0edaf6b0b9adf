/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror complete, hold, release, fence
 *
 * complete is answered at once; what came of it is told by events, of which
 * those that matter come after the answer.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"

static double
ms_of (json_t *object, const char *name)
{
  return (double) json_integer_value (json_object_get (object, name)) / 1000;
}

static const char *
word (json_t *object, const char *name)
{
  const char *s = json_string_value (json_object_get (object, name));

  return s ? s : "";
}

/*-- complete -----------------------------------------------------------*/

/* What has been seen of the end. */
struct ending {
  const char *last;             /* state: then there is nothing to come */
  bool over, failed, pivoted;
  double pause_ms;
};

static void
note_event (struct ending *e, json_t *event)
{
  const char *name = word (event, "event");
  json_t *data = json_object_get (event, "data");

  if (strcmp (name, "MIRROR_PIVOTED") == 0) {
    e->pivoted = true;
    e->pause_ms = ms_of (data, "pause-us");
  }
  else if (strcmp (name, "MIRROR_SWITCH_FAILED") == 0 &&
           strcmp (word (data, "operation"), "pivot") == 0) {
    complain ("complete: %s (clients were held for %.3f ms)",
              word (data, "error"), ms_of (data, "pause-us"));
    e->failed = e->over = true;
  }
  else if (strcmp (name, "BLOCK_JOB_CANCELLED") == 0) {
    complain ("complete: the job was cancelled");
    e->failed = true;
  }
  else if (strcmp (name, "BLOCK_JOB_COMPLETED") == 0 &&
           json_object_get (data, "error")) {
    complain ("complete: the job failed: %s", word (data, "error"));
    e->failed = true;
  }
  else if (strcmp (name, "JOB_STATUS_CHANGE") == 0 &&
           strcmp (word (data, "status"), e->last) == 0)
    e->over = true;
}

static int
wait_end (struct client *c, struct ending *e)
{
  json_t *event;
  int r;

  while (!e->over) {
    r = client_next_event (c, -1, &event);
    if (r < 0) {
      complain ("complete: %s", client_error (c));
      return STATUS_NO_PROXY;
    }
    note_event (e, event);
    json_decref (event);
  }
  if (e->failed)
    return STATUS_FAILED;
  if (e->pivoted)
    printf ("pivoted, clients were held for %.3f ms\n", e->pause_ms);
  return STATUS_OK;
}

/* Nothing but an intent file remembers a pivot. */
static void
warn_of_restart (struct client *c)
{
  json_t *mirror, *bitmap;

  if (client_command (c, "query-mirror", NULL, ANSWER_MS, &mirror) < 0)
    return;
  bitmap = json_object_get (mirror, "bitmap");
  if (!json_is_object (bitmap) || strcmp (word (bitmap, "state"), "lost") == 0)
    printf ("there is no intent file: a restart of the server would give"
            " clients the source again\n");
  json_decref (mirror);
}

/* The last state that the job will have by itself, NULL after a line on
 * stderr.  must_be_ready: a job that is not is an error.
 */
static const char *
last_state (struct client *c, bool must_be_ready, int *status)
{
  json_t *jobs = call_command (c, "query-block-jobs", NULL, ANSWER_MS,
                               status);
  bool kept;

  if (jobs == NULL)
    return NULL;
  if (must_be_ready &&
      json_is_false (json_object_get (json_array_get (jobs, 0), "ready"))) {
    json_decref (jobs);
    complain ("complete: the job is not ready");
    *status = STATUS_FAILED;
    return NULL;
  }
  kept = json_is_false (json_object_get (json_array_get (jobs, 0),
                                         "auto-dismiss"));
  json_decref (jobs);
  return kept ? "concluded" : "null";
}

int
run_complete (const struct call *call)
{
  CLEANUP_FREE char *id = NULL;
  const bool verify = call_option (call, "--verify") != NULL;
  struct ending ending = { .last = NULL };
  json_t *result = NULL;
  struct client *c;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  id = call_job (c, &status);
  if (id)
    ending.last = last_state (c, verify, &status);
  if (ending.last && verify)
    status = verify_and_wait (c, "complete", json_object ());
  if (ending.last && status == STATUS_OK)
    result = call_command (c, "block-job-complete",
                           json_pack ("{s:s}", "device", id), ANSWER_MS,
                           &status);
  if (result && !call_option (call, "--async"))
    status = wait_end (c, &ending);
  if (ending.pivoted && status == STATUS_OK)
    warn_of_restart (c);
  json_decref (result);
  client_close (c);
  return status;
}

/*-- barrier and fence --------------------------------------------------*/

/* Run one command; its result, or NULL and *status. */
static json_t *
run_simple (const struct call *call, const char *name, json_t *args,
            int timeout_ms, int *status)
{
  struct client *c = call_connect (call, ANSWER_MS, status);
  json_t *result;

  if (c == NULL) {
    json_decref (args);
    return NULL;
  }
  result = call_command (c, name, args, timeout_ms, status);
  client_close (c);
  return result;
}

/* It is held all the same: both sides are equal, and the target may have other
 * ways to make that durable.
 */
static void
warn_of_no_flush (struct client *c)
{
  json_t *mirror;

  if (client_command (c, "query-mirror", NULL, ANSWER_MS, &mirror) < 0)
    return;
  if (json_is_false (json_object_get (json_object_get (mirror, "target"),
                                      "flush")))
    complain ("hold: warning: the target cannot be flushed: what it holds now"
              " need not survive a power cut there");
  json_decref (mirror);
}

int
run_hold (const struct call *call)
{
  const char *value = call_option (call, "--timeout");
  json_t *args = json_object (), *result = NULL;
  struct client *c;
  char *end;
  long s;
  int status;

  if (value) {
    errno = 0;
    s = strtol (value, &end, 10);
    if (errno != 0 || end == value || *end != '\0') {
      complain ("hold: --timeout %s: must be seconds from 1 to 300", value);
      json_decref (args);
      return STATUS_FAILED;
    }
    json_object_set_new (args, "timeout", json_integer (s));
  }
  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL) {
    json_decref (args);
    return status;
  }
  /* How long it takes until both sides are equal is up to the clients. */
  result = call_command (c, "mirror-hold", args, -1, &status);
  if (result) {
    printf ("held after %.3f ms, for %.3f s\n", ms_of (result, "drain-us"),
            ms_of (result, "expires-us") / 1000);
    warn_of_no_flush (c);
  }
  json_decref (result);
  client_close (c);
  return status;
}

int
run_release (const struct call *call)
{
  int status;
  json_t *result = run_simple (call, "mirror-release", NULL, ANSWER_MS,
                               &status);

  if (result)
    printf ("released, clients were held for %.3f ms\n",
            ms_of (result, "held-us"));
  json_decref (result);
  return status;
}

/* Asked before, since the server would refuse it in the words of its protocol.
 * If it does not tell, it still judges.
 */
static bool
nothing_is_held (struct client *c)
{
  json_t *mirror;
  bool r;

  if (client_command (c, "query-mirror", NULL, ANSWER_MS, &mirror) < 0)
    return false;
  r = json_is_false (json_object_get (mirror, "held"));
  json_decref (mirror);
  return r;
}

int
run_fence (const struct call *call)
{
  const bool enable = call_option (call, "--off") == NULL;
  const bool force = call_option (call, "--force") != NULL;
  struct client *c;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  if (enable && !force && nothing_is_held (c)) {
    complain ("fence: nothing is held: use nbdmirror hold before it, or"
              " --force");
    status = STATUS_FAILED;
  }
  else
    json_decref (call_command (c, "mirror-fence",
                               json_pack ("{s:b,s:b}", "enable", enable,
                                          "force", force),
                               TARGET_MS, &status));
  client_close (c);
  return status;
}
