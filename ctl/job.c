/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror start, pause, resume, set, mode, speed, cancel */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"
#include "size.h"
#include "verbs.h"

/* Is value one of words, which have | between them?  If not a line on stderr
 * says which there are.
 */
static bool
check_word (const char *words, const char *who, const char *name,
            const char *value)
{
  char list[100];
  const size_t n = strcspn (value, "|");
  const char *word;
  size_t len = 0;

  for (word = words; word && value[n] == '\0'; word = strchr (word, '|')) {
    word += *word == '|';
    if (strcspn (word, "|") == n && memcmp (word, value, n) == 0)
      return true;
  }
  for (word = words; *word && len < sizeof list - 2; word++) {
    list[len++] = *word == '|' ? ',' : *word;
    if (*word == '|')
      list[len++] = ' ';
  }
  list[len] = '\0';
  complain ("%s: %s '%s': allowed are %s", who, name, value, list);
  return false;
}

/* Connect, run one command that returns nothing of interest, disconnect. */
static int
run_one (const struct call *call, const char *name, json_t *args,
         int timeout_ms)
{
  struct client *c;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL) {
    json_decref (args);
    return status;
  }
  json_decref (call_command (c, name, args, timeout_ms, &status));
  client_close (c);
  return status;
}

/* The same for the only job: its name is added to args as what it is called
 * there, "device" or "id".
 */
static int
run_on_job (const struct call *call, const char *name, const char *what,
            json_t *args)
{
  CLEANUP_FREE char *id = NULL;
  struct client *c;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL) {
    json_decref (args);
    return status;
  }
  id = call_job (c, &status);
  if (id) {
    json_object_set_new (args, what, json_string (id));
    json_decref (call_command (c, name, args, ANSWER_MS, &status));
  }
  else
    json_decref (args);
  client_close (c);
  return status;
}

int
run_start (const struct call *call)
{
  static const char *const words[] = { "--copy-mode", "--job-id" };
  static const char *const sizes[] = {
    "--speed", "--granularity", "--buf-size", "--connections",
  };
  json_t *args = json_pack ("{s:s,s:s}", "target", call->operands[0],
                            "sync", "full");
  const char *value;
  int64_t n;
  size_t i;

  if (args == NULL) {
    complain ("start: the target is not UTF-8");
    return STATUS_FAILED;
  }
  for (i = 0; i < sizeof words / sizeof words[0]; i++) {
    value = call_option (call, words[i]);
    if (value && json_object_set_new (args, words[i] + 2,
                                      json_string (value)) < 0) {
      complain ("start: %s: not UTF-8", words[i]);
      goto fail;
    }
  }
  for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    value = call_option (call, sizes[i]);
    if (value == NULL)
      continue;
    if (size_parse (value, &n) < 0) {
      complain ("start: %s %s: must be a number up to %" PRIi64 ", maybe with"
                " K, M, G or T", sizes[i], value, INT64_MAX);
      goto fail;
    }
    json_object_set_new (args, sizes[i] + 2, json_integer (n));
  }
  return run_one (call, "blockdev-mirror", args, TARGET_MS);

 fail:
  json_decref (args);
  return STATUS_FAILED;
}

int
run_cancel (const struct call *call)
{
  json_t *args = json_object ();

  if (call_option (call, "--force"))
    json_object_set_new (args, "force", json_true ());
  return run_on_job (call, "block-job-cancel", "device", args);
}

int
run_pause (const struct call *call)
{
  return run_on_job (call, "block-job-pause", "device", json_object ());
}

int
run_resume (const struct call *call)
{
  return run_on_job (call, "block-job-resume", "device", json_object ());
}

int
run_mode (const struct call *call)
{
  const char *mode = call->operands[0];

  if (!check_word (QMP_COPY_MODES, "mode", "copy-mode", mode))
    return STATUS_FAILED;
  return run_on_job (call, "block-job-change", "id",
                     json_pack ("{s:s,s:s}", "type", "mirror", "copy-mode",
                                mode));
}

/* What `set` can change: a word, a number of what, or a size. */
static const struct setting {
  const char *name;
  const char *words;            /* with | between them, or NULL */
  const char *unit;             /* or NULL */
  int64_t max;                  /* of that unit; what the filter takes */
} settings[] = {
  { "speed", .max = INT64_MAX },
  { "buf-size", .max = INT64_MAX },
  { "copy-mode", .words = QMP_COPY_MODES },
  { "on-source-error", .words = QMP_POLICIES },
  { "on-target-error", .words = QMP_POLICIES },
  { "target-timeout", .unit = "seconds", .max = 3600 },
  { "max-pause", .unit = "milliseconds", .max = 60000 },
};

/* The value of text, which is NAME=VALUE; NULL after a line on stderr. */
static json_t *
parse_setting (const struct setting *s, const char *text)
{
  const char *value = text + strlen (s->name) + 1;
  int64_t n = 0;

  if (s->words)
    return check_word (s->words, "set", s->name, value) ? json_string (value)
      : NULL;
  if (s->unit == NULL) {
    if (size_parse (value, &n) == 0)
      return json_integer (n);
    complain ("set: %s: must be a number up to %" PRIi64 ", maybe with K, M, G"
              " or T", text, s->max);
    return NULL;
  }
  if (value[strspn (value, "0123456789")] == '\0' &&
      size_parse (value, &n) == 0 && n >= 1 && n <= s->max)
    return json_integer (n);
  complain ("set: %s: must be a whole number of %s, 1 to %" PRIi64, text,
            s->unit, s->max);
  return NULL;
}

/* KEY=VALUE.  Returns false after a line on stderr. */
static bool
take_setting (json_t *args, const char *text)
{
  const char *value = strchr (text, '=');
  const size_t n = value ? (size_t) (value - text) : strlen (text);
  const struct setting *s = settings;
  const size_t count = sizeof settings / sizeof settings[0];
  json_t *json;

  while (s < settings + count && (strlen (s->name) != n ||
                                  memcmp (s->name, text, n) != 0))
    s++;
  if (value == NULL || s == settings + count) {
    complain ("set: '%s': allowed are speed=N, buf-size=N, copy-mode=M,"
              " on-source-error=P, on-target-error=P, target-timeout=S and"
              " max-pause=MS", text);
    return false;
  }
  if (json_object_get (args, s->name)) {
    complain ("set: %s is given twice", s->name);
    return false;
  }
  json = parse_setting (s, text);
  return json && json_object_set_new (args, s->name, json) == 0;
}

int
run_set (const struct call *call)
{
  json_t *args = json_object ();
  int i;

  for (i = 0; i < call->count; i++)
    if (!take_setting (args, call->operands[i])) {
      json_decref (args);
      return STATUS_FAILED;
    }
  return run_one (call, "mirror-set", args, ANSWER_MS);
}

int
run_speed (const struct call *call)
{
  int64_t speed;

  if (size_parse (call->operands[0], &speed) < 0) {
    complain ("speed: %s: must be a number of bytes per second up to %" PRIi64
              ", maybe with K, M, G or T; 0 is no limit", call->operands[0],
              INT64_MAX);
    return STATUS_FAILED;
  }
  return run_on_job (call, "block-job-set-speed", "device",
                     json_pack ("{s:I}", "speed", (json_int_t) speed));
}
