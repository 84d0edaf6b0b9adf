/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror status */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "ctl.h"
#include "look.h"
#include "screen.h"
#include "terminal.h"

/* Text, which is freed, and the end of the line.  The exit status. */
static int
print (char *text, const char *end)
{
  if (text == NULL) {
    complain ("out of memory");
    return STATUS_FAILED;
  }
  printf ("%s%s", text, end);
  free (text);
  return call_written ("status");
}

static int
print_screen (json_t *mirror)
{
  struct screen_style style;
  struct look look;

  terminal_style (&style);
  look_fill (&look, mirror);
  return print (screen_text (&look, NULL, &style), "");
}

int
run_status (const struct call *call)
{
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

  status = call_option (call, "--json")
    ? print (json_dumps (mirror, JSON_ENSURE_ASCII | JSON_INDENT (2)), "\n")
    : print_screen (mirror);
  json_decref (mirror);
  return status;
}
