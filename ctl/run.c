/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror run: options, and what is made before anything is started. */

#include <config.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "known.h"
#include "run.h"
#include "size.h"

/*-- options ------------------------------------------------------------*/

static int
check_values (const struct call *call)
{
  const char *mode = call_option (call, "--copy-mode");
  const char *speed = call_option (call, "--speed");
  int64_t n;

  if (mode && strcmp (mode, "background") != 0 &&
      strcmp (mode, "write-blocking") != 0 && strcmp (mode, "auto") != 0) {
    complain ("run: --copy-mode %s: must be background, write-blocking or"
              " auto", mode);
    return -1;
  }
  if (speed && size_parse (speed, &n) < 0) {
    complain ("run: --speed %s: must be a number of bytes per second, 0 = no"
              " limit, and may end with K, M, G or T", speed);
    return -1;
  }
  return 0;
}

/* The filter judges keys and values; but some belong to us. */
static int
check_key (const char *text)
{
  static const struct { const char *key, *instead; } ours[] = {
    { "target", "TARGET" }, { "control", "--control" },
    { "bitmap", "--bitmap" }, { "copy-mode", "--copy-mode" },
    { "speed", "--speed" },
  };
  const size_t n = strcspn (text, "=");
  size_t i;

  if (n == 0 || text[n] == '\0') {
    complain ("run: -o %s: must be KEY=VALUE", text);
    return -1;
  }
  for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
    if (strlen (ours[i].key) == n && memcmp (ours[i].key, text, n) == 0) {
      complain ("run: -o %s: use %s", text, ours[i].instead);
      return -1;
    }
  return 0;
}

static int
check_usage (const struct call *call)
{
  unsigned i;

  if (call->before >= 0 ? call->before != 2 : call->count != 2) {
    complain ("run takes SOURCE and TARGET; a command comes after --, and a"
              " name that begins with - is written as ./-NAME");
    return -1;
  }
  if (call->before >= 0 && call->count == 2) {
    complain ("run: a command is missing after --");
    return -1;
  }
  if (call->socket && call_option (call, "--control")) {
    complain ("run: -S and --control are the same; give one of them");
    return -1;
  }
  for (i = 0; i < call->options_count; i++)
    if (strcmp (call->options[i].name, "-o") == 0 &&
        check_key (call->options[i].value) < 0)
      return -1;
  return check_values (call);
}

/*-- what it needs ------------------------------------------------------*/

/* Sockets and pipes must not become 0, 1 or 2. */
static int
open_stdio (void)
{
  int fd;

  do
    fd = open ("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0)
    close (fd);
  return fd < 0 ? -1 : 0;
}

static int
choose_control (struct run *run)
{
  const char *given = call_option (run->call, "--control");

  if (given == NULL)
    given = run->call->socket;
  if (given == NULL)
    run->control = rundir_file (&run->dir, "sock");
  else if (given[0] == '\0')
    complain ("run: --control: must be the path of a Unix socket");
  else {
    run->control = absolute_path (given);
    if (run->control == NULL)
      complain ("run: --control %s: cannot find the current directory", given);
  }
  if (run->control == NULL)
    return -1;
  if (strlen (run->control) <= LISTEN_PATH_MAX)
    return 0;
  complain ("run: %s: the path of a Unix socket has at most %d bytes, this one"
            " %zu; use --control", run->control, LISTEN_PATH_MAX,
            strlen (run->control));
  return -1;
}

static int
listen_for_clients (struct run *run)
{
  const char *given = call_option (run->call, "--listen");
  char *path;
  int r;

  if (given)
    return listen_address (&run->clients, given);
  path = rundir_file (&run->dir, "nbd");
  if (path == NULL)
    return -1;
  r = listen_unix (&run->clients, "", path);
  free (path);
  return r;
}

static int
prepare (struct run *run)
{
  char **names = run->call->operands;

  if (disk_open_source (&run->source, names[0]) < 0 ||
      disk_open_target (&run->target, names[1], &run->source) < 0 ||
      choose_control (run) < 0 || listen_for_clients (run) < 0)
    return -1;
  return 0;
}

/*-- all ----------------------------------------------------------------*/

/* A target that was created for nothing is removed.  But if the mirror has got
 * as far as the intent file, the next start goes on with both.
 */
static bool
target_is_unwanted (const struct run *run)
{
  struct known known;

  known_look (&known, run->bitmap);
  return !run->announced && known.state == INTENT_IDLE;
}

static void
finish (struct run *run)
{
  disk_close (&run->source, false);
  disk_close (&run->target, target_is_unwanted (run));
  listen_free (&run->clients);
  listen_free (&run->target_listener);
  if (run->control_left)
    listen_remove (run->control);
  free (run->control);
  free (run->own_uri);
  rundir_free (&run->dir);
}

int
run_run (const struct call *call)
{
  struct run run = {
    .call = call, .source.fd = -1, .target.fd = -1, .sigfd = -1,
    .bitmap = call_option (call, "--bitmap"),
    .complete = call_option (call, "--complete") != NULL,
    .force = call_option (call, "--force") != NULL,
    .status = STATUS_FAILED,
  };

  if (check_usage (call) < 0)
    return STATUS_FAILED;
  if (call->before >= 0)
    run.command = call->operands + call->before;
  if (open_stdio () < 0) {
    complain ("run: /dev/null cannot be opened");
    return STATUS_FAILED;
  }
  /* A command may want its output for itself. */
  progress_init (&run.progress, run.command ? stderr : stdout,
                 run.command == NULL);
  if (prepare (&run) == 0)
    run.status = run_supervise (&run);
  finish (&run);
  return run.status;
}
