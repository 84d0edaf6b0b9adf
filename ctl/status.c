/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror status */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "ctl.h"
#include "look.h"
#include "screen.h"
#include "terminal.h"

static void
print_screen (json_t *mirror)
{
  struct screen_style style;
  struct look look;
  char *text;

  terminal_style (&style);
  look_fill (&look, mirror);
  text = screen_text (&look, NULL, &style);
  if (text)
    fputs (text, stdout);
  else
    complain ("out of memory");
  free (text);
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
