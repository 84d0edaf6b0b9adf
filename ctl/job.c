/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror start, cancel, speed */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"
#include "size.h"

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

/* The same for the only job: its name is added to args as "device". */
static int
run_on_job (const struct call *call, const char *name, json_t *args)
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
    json_object_set_new (args, "device", json_string (id));
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
      complain ("start: %s %s: must be a number, maybe with K, M, G or T",
                sizes[i], value);
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
  return run_on_job (call, "block-job-cancel", args);
}

int
run_speed (const struct call *call)
{
  int64_t speed;

  if (size_parse (call->operands[0], &speed) < 0) {
    complain ("speed: %s: must be a number of bytes per second, maybe with"
              " K, M, G or T; 0 is no limit", call->operands[0]);
    return STATUS_FAILED;
  }
  return run_on_job (call, "block-job-set-speed",
                     json_pack ("{s:I}", "speed", (json_int_t) speed));
}
