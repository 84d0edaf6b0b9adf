/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror events */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"

/* One line, at once, whoever reads it.  0 or -errno. */
static int
print_event (json_t *event)
{
  CLEANUP_FREE char *text = json_dumps (event, JSON_ENSURE_ASCII);

  if (text == NULL)
    return -ENOMEM;
  if (puts (text) == EOF || fflush (stdout) == EOF)
    return errno ? -errno : -EIO;
  return 0;
}

int
run_events (const struct call *call)
{
  struct client *c;
  json_t *event;
  int status, r;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  status = STATUS_NO_PROXY;
  while ((r = client_next_event (c, -1, &event)) == 0) {
    r = print_event (event);
    json_decref (event);
    if (r < 0) {
      complain ("events: cannot write: %s", strerror (-r));
      status = STATUS_FAILED;
      break;
    }
  }
  if (status == STATUS_NO_PROXY)
    complain ("events: %s", client_error (c));
  client_close (c);
  return status;
}
