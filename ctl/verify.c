/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror verify, and complete --verify.
 *
 * The end is told by an event.  One that comes together with an answer is
 * lost, so whoever asks for the progress looks whether that was the end, too.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "size.h"

/* How often to look: where somebody watches, and where nobody does. */
#define WATCHED_MS 500
#define LOOK_MS 5000

static uint64_t
number (json_t *object, const char *name)
{
  return (uint64_t) json_integer_value (json_object_get (object, name));
}

static void
show_progress (json_t *verify)
{
  const uint64_t bytes = number (verify, "bytes");
  const uint64_t size = bytes + number (verify, "left-bytes");
  char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];

  fprintf (stderr, "\r%s of %s (%.1f%%), %" PRIu64 " differences  ",
           size_text (bytes, a), size_text (size, b),
           size > 0 ? 100.0 * (double) bytes / (double) size : 100.0,
           number (verify, "differences"));
}

/* What has been found: the event's data, or query-mirror's verify, which knows
 * where.
 */
static int
judge (json_t *found, const char *who)
{
  const uint64_t differences = number (found, "differences");
  const uint64_t left = number (found, "left-bytes");
  const char *error = json_string_value (json_object_get (found, "error"));
  json_t *first = json_object_get (found, "first-differences");
  char text[SIZE_TEXT_MAX];
  size_t i;

  printf ("compared %s", size_text (number (found, "bytes"), text));
  if (left > 0)
    printf (", left %s", size_text (left, text));
  printf (": %" PRIu64 " granules differ", differences);
  for (i = 0; i < json_array_size (first); i++)
    printf ("%s %" PRIu64, i == 0 ? ", found first at" : ",",
            (uint64_t) json_integer_value (json_array_get (first, i)));
  putchar ('\n');
  fflush (stdout);
  if (error)
    complain ("%s: not verified: %s", who, error);
  else if (differences > 0)
    complain ("%s: source and target differ", who);
  return error || differences > 0 ? STATUS_FAILED : STATUS_OK;
}

/* query-mirror's verify, or NULL: there is no job any more, and *status. */
static json_t *
look (struct client *c, const char *who, int *status)
{
  json_t *mirror = call_command (c, "query-mirror", NULL, ANSWER_MS, status);
  json_t *verify;

  if (mirror == NULL)
    return NULL;
  verify = json_incref (json_object_get (mirror, "verify"));
  json_decref (mirror);
  if (json_is_object (verify))
    return verify;
  json_decref (verify);
  complain ("%s: not verified: the job has ended", who);
  *status = STATUS_FAILED;
  return NULL;
}

/* Wait until it is not running any more; then what look returns. */
static json_t *
await_end (struct client *c, const char *who, bool watched, int *status)
{
  json_t *event, *verify;
  const char *name;
  bool over;
  int r;

  for (;;) {
    verify = look (c, who, status);
    if (verify == NULL ||
        json_is_false (json_object_get (verify, "running")))
      return verify;
    if (watched)
      show_progress (verify);
    json_decref (verify);

    do {
      r = client_next_event (c, watched ? WATCHED_MS : LOOK_MS, &event);
      if (r < 0 && r != -ETIMEDOUT) {
        complain ("%s: %s", who, client_error (c));
        *status = STATUS_NO_PROXY;
        return NULL;
      }
      name = r < 0 ? "" : json_string_value (json_object_get (event,
                                                              "event"));
      over = strcmp (name, "MIRROR_VERIFY_COMPLETED") == 0;
      if (over)                 /* by now it is not running any more */
        verify = json_incref (json_object_get (event, "data"));
      if (r == 0)
        json_decref (event);
      if (over)
        return verify;
    } while (r == 0);
  }
}

int
verify_and_wait (struct client *c, const char *who, json_t *args)
{
  const bool watched = isatty (STDERR_FILENO);
  json_t *result, *found;
  int status;

  json_object_set_new (args, "action", json_string ("start"));
  result = call_command (c, "mirror-verify", args, ANSWER_MS, &status);
  if (result == NULL)
    return status;
  json_decref (result);

  found = await_end (c, who, watched, &status);
  if (watched)
    fprintf (stderr, "\r%60s\r", "");
  if (found == NULL)
    return status;
  status = judge (found, who);
  json_decref (found);
  return status;
}

int
run_verify (const struct call *call)
{
  const char *value = call_option (call, "--speed");
  const bool stop = call_option (call, "--stop") != NULL;
  json_t *args = json_object ();
  struct client *c = NULL;
  int64_t speed;
  int status = STATUS_FAILED;

  if (stop && call->options_count > 1)
    complain ("verify: --stop goes with no other option");
  else if (value && size_parse (value, &speed) < 0)
    complain ("verify: --speed %s: must be a number of bytes per second,"
              " maybe with K, M, G or T; 0 is no limit", value);
  else
    c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL) {
    json_decref (args);
    return status;
  }
  if (value)
    json_object_set_new (args, "speed", json_integer (speed));
  if (call_option (call, "--repair"))
    json_object_set_new (args, "repair", json_true ());
  if (stop) {
    json_object_set_new (args, "action", json_string ("stop"));
    json_decref (call_command (c, "mirror-verify", args, ANSWER_MS,
                               &status));
  }
  else
    status = verify_and_wait (c, "verify", args);
  client_close (c);
  return status;
}
