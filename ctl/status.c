/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror status */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "ctl.h"
#include "size.h"

#define BAR_WIDTH 40

static const char *
word (json_t *object, const char *name)
{
  const char *s = json_string_value (json_object_get (object, name));

  return s ? s : "?";
}

static uint64_t
number (json_t *object, const char *name)
{
  return (uint64_t) json_integer_value (json_object_get (object, name));
}

static bool
truth (json_t *object, const char *name)
{
  return json_is_true (json_object_get (object, name));
}

static bool
is_there (json_t *value)
{
  return value && !json_is_null (value);
}

static void
print_job (json_t *mirror)
{
  json_t *job = json_object_get (mirror, "job");
  json_t *last = json_object_get (mirror, "last-job");

  if (is_there (job))
    printf ("job       %s: %s, %s%s%s\n", word (job, "id"),
            word (job, "status"), word (job, "copy-mode"),
            truth (job, "teeing") ? ", teeing" : "",
            truth (job, "actively-synced") ? ", synced" : "");
  else if (is_there (last))
    printf ("job       none; the last, %s, %s%s%s\n", word (last, "id"),
            strcmp (word (last, "end"), "cancelled") == 0
            ? "was cancelled" : word (last, "end"),
            is_there (json_object_get (last, "error")) ? ": " : "",
            is_there (json_object_get (last, "error"))
            ? word (last, "error") : "");
  else
    printf ("job       none\n");
}

static void
print_progress (json_t *mirror)
{
  json_t *job = json_object_get (mirror, "job");
  const uint64_t len = number (job, "len"), offset = number (job, "offset");
  const double part = len > 0 ? (double) offset / (double) len : 1;
  const int done = (int) (part * BAR_WIDTH);
  char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX];
  int i;

  if (!is_there (job))
    return;
  printf ("progress  [");
  for (i = 0; i < BAR_WIDTH; i++)
    putchar (i < done ? '#' : '-');
  /* Never 100 % while there is something left. */
  printf ("] %.1f%%\n", offset < len && part > 0.999 ? 99.9 : part * 100);
  printf ("left      %s of %s\n", size_text (len - offset, a),
          size_text (len, b));
}

static void
print_bytes (json_t *mirror)
{
  static const char *const names[] = {
    "copied-bytes", "zeroed-bytes", "teed-bytes", "tracked-bytes",
    "skipped-bytes",
  };
  char text[SIZE_TEXT_MAX];
  const char *name;
  size_t i;

  if (!is_there (json_object_get (mirror, "job")))
    return;
  printf ("bytes    ");
  for (i = 0; i < sizeof names / sizeof names[0]; i++) {
    name = names[i];
    printf ("%s %.*s %s", i > 0 ? "," : "",
            (int) (strchr (name, '-') - name), name,
            size_text (number (mirror, name), text));
  }
  putchar ('\n');
}

static void
print_target (json_t *mirror)
{
  json_t *target = json_object_get (mirror, "target");

  if (strcmp (word (target, "state"), "none") == 0)
    printf ("target    none\n");
  else {
    printf ("target    %s, %s", word (target, "uri"),
            word (target, "state"));
    if (json_object_get (target, "connections"))
      printf (", connections: %" PRIu64, number (target, "connections"));
    putchar ('\n');
  }
}

/* What is not as usual, in one line. */
static void
print_clients (json_t *mirror)
{
  const bool pivoted = truth (mirror, "pivoted"), held = truth (mirror, "held");
  const bool fenced = truth (mirror, "fenced");

  if (pivoted || held || fenced)
    printf ("clients   %s%s%s%s%s\n", pivoted ? "moved to the target" : "",
            pivoted && (held || fenced) ? ", " : "", held ? "held" : "",
            held && fenced ? ", " : "", fenced ? "fenced" : "");
}

static void
print_last_error (json_t *mirror)
{
  json_t *e = json_object_get (mirror, "last-error");
  time_t when;
  struct tm tm;
  char text[64];

  if (!is_there (e))
    return;
  when = (time_t) number (e, "time");
  localtime_r (&when, &tm);
  strftime (text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
  printf ("error     %s %s at %" PRIu64 "+%" PRIu64 ": %s (%s)\n",
          word (e, "side"), word (e, "op"), number (e, "offset"),
          number (e, "length"), word (e, "text"), text);
}

static void
print_screen (json_t *mirror)
{
  json_t *source = json_object_get (mirror, "source");
  char text[SIZE_TEXT_MAX];

  print_job (mirror);
  print_progress (mirror);
  print_bytes (mirror);
  printf ("source    %s, clients: %" PRIu64 "\n",
          size_text (number (source, "size"), text),
          number (mirror, "clients"));
  print_target (mirror);
  print_clients (mirror);
  printf ("verdict   %s\n", word (mirror, "convergence"));
  print_last_error (mirror);
}

int
run_status (const struct call *call)
{
  CLEANUP_FREE char *text = NULL;
  struct client *c;
  json_t *mirror;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  mirror = call_command (c, "query-mirror", NULL, ANSWER_MS, &status);
  client_close (c);
  if (mirror == NULL)
    return status;

  if (call_option (call, "--json")) {
    text = json_dumps (mirror, JSON_ENSURE_ASCII | JSON_INDENT (2));
    if (text)
      puts (text);
  }
  else
    print_screen (mirror);
  json_decref (mirror);
  return STATUS_OK;
}
