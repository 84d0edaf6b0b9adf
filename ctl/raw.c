/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror qmp, quit */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"
#include "framer.h"

/* Would the server take it as exactly one object?  If not, there would be no
 * answer, or more than one.
 */
static bool
is_one_object (const char *text)
{
  const size_t n = strlen (text);
  struct framer f;
  size_t used;
  bool r;

  framer_init (&f);
  r = framer_feed (&f, text, n, &used) == FRAMER_VALUE && f.text[0] == '{';
  r = r && strspn (text + used, " \t\r\n") == n - used;
  framer_clear (&f);
  return r;
}

int
run_qmp (const struct call *call)
{
  const char *text = call->operands[0];
  CLEANUP_FREE char *answer = NULL;
  struct client *c;
  int status, r;

  if (!is_one_object (text)) {
    complain ("qmp: must be exactly one JSON object");
    return STATUS_FAILED;
  }
  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;

  r = client_raw (c, text, TARGET_MS, &answer);
  if (answer)
    puts (answer);
  else
    complain ("qmp: %s", client_error (c));
  client_close (c);
  if (r == 0)
    return STATUS_OK;
  return r == -EREMOTEIO ? STATUS_FAILED : STATUS_NO_PROXY;
}

/* A clients' disk may be flushed, or hang for as long as it may. */
#define QUIT_MS 40000

int
run_quit (const struct call *call)
{
  struct client *c;
  json_t *result;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  result = call_command (c, "quit", NULL, ANSWER_MS, &status);
  if (result && client_wait_end (c, QUIT_MS) < 0) {
    complain ("quit: the server has agreed, but is still there");
    status = STATUS_FAILED;
  }
  json_decref (result);
  client_close (c);
  return status;
}
