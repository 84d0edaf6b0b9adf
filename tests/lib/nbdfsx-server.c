/* SPDX-License-Identifier: BSD-3-Clause */
/* The servers: connections, whole images, and the commands that start and
 * change them.
 */

#include <config.h>

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <libnbd.h>

#include "nbdfsx.h"

#define MAX_DISK (UINT64_C (8) << 30)
#define CHUNK (64u << 10)       /* of whole images: what any server takes */

extern char **environ;

struct connection conns[MAX_CONNECTIONS];
struct geometry geometry;

static struct expected *base;           /* what the first run began with */
static unsigned next_command;           /* of opt.commands */
static pid_t command_pid;               /* the one that runs, or 0 */
static uint32_t wait_at;                /* for its end, before that number */

/*-- connections --------------------------------------------------------*/

static struct nbd_handle *
open_handle (const char *uri)
{
  struct nbd_handle *nbd = nbd_create ();

  if (nbd == NULL || nbd_add_meta_context (nbd, ALLOCATION) == -1 ||
      nbd_connect_uri (nbd, uri) == -1)
    trouble (uri, nbd_get_error ());
  return nbd;
}

static void
close_handle (struct nbd_handle *nbd)
{
  nbd_shutdown (nbd, 0);
  nbd_close (nbd);
}

static void
get_geometry (struct nbd_handle *nbd, struct geometry *g)
{
  int64_t size = nbd_get_size (nbd);
  int64_t block = nbd_get_block_size (nbd, LIBNBD_SIZE_MINIMUM);

  if (size < 0 || (uint64_t) size > MAX_DISK)
    trouble ("size", "not supported");
  memset (g, 0, sizeof *g);
  g->size = (uint64_t) size;
  g->block = block > 1 ? (uint32_t) block : 1;
  g->usable = g->size / g->block * g->block;
  g->can[OP_READ] = true;
  g->can[OP_WRITE] = nbd_is_read_only (nbd) == 0;
  g->can[OP_ZERO] = nbd_can_zero (nbd) == 1;
  g->can[OP_TRIM] = nbd_can_trim (nbd) == 1;
  g->can[OP_FLUSH] = nbd_can_flush (nbd) == 1;
  g->can[OP_CACHE] = nbd_can_cache (nbd) == 1;
  g->can[OP_STATUS] = nbd_can_meta_context (nbd, ALLOCATION) == 1;
  g->can_fua = nbd_can_fua (nbd) == 1;
  g->can_fast_zero = nbd_can_fast_zero (nbd) == 1;
  g->multi_conn = nbd_can_multi_conn (nbd) == 1;
}

unsigned
nr_conns (void)
{
  return geometry.multi_conn ? opt.connections : 1;
}

static void
open_all (void)
{
  struct geometry g;
  unsigned i;

  for (i = 0; i < nr_conns (); ++i) {
    conns[i].nbd = open_handle (opt.uri);
    conns[i].busy = 0;
    get_geometry (conns[i].nbd, &g);
    if (memcmp (&g, &geometry, sizeof g) != 0)
      trouble (opt.uri, "the export is no longer the same");
  }
}

void
close_all (void)
{
  unsigned i;

  for (i = 0; i < nr_conns (); ++i)
    close_handle (conns[i].nbd);
}

/*-- whole images -------------------------------------------------------*/

static void
read_image (struct nbd_handle *nbd, uint8_t *buf, uint32_t n, uint64_t at)
{
  if (nbd_pread (nbd, buf, n, at, 0) == -1)
    trouble ("reading an image", nbd_get_error ());
}

static uint32_t
chunk_at (uint64_t at)
{
  uint64_t left = geometry.usable - at;

  return left < CHUNK ? (uint32_t) left : CHUNK;
}

void
compare_images (struct expected *expected, const struct failure *f)
{
  struct nbd_handle *target = NULL;
  uint8_t *mine = malloc (CHUNK), *theirs = malloc (CHUNK);
  char text[EXPECT_TEXT], line[EXPECT_TEXT + 32];
  uint64_t at, bad;
  uint32_t n;

  if (mine == NULL || theirs == NULL)
    trouble ("malloc", strerror (errno));
  if (opt.target) {
    target = open_handle (opt.target);
    if (nbd_get_size (target) < (int64_t) geometry.size)
      found (NULL, NO_BYTE, "the target is smaller");
  }
  for (at = 0; at < geometry.usable && !f->failed; at += n) {
    n = chunk_at (at);
    read_image (conns[0].nbd, mine, n, at);
    if (!expect_check (expected, mine, n, at, &bad, text)) {
      found (NULL, bad, text);
      break;
    }
    if (target == NULL)
      continue;
    /* Unknown bytes must be the export's. */
    read_image (target, theirs, n, at);
    expect_data (expected, mine, n, at);
    if (!expect_check (expected, theirs, n, at, &bad, text)) {
      snprintf (line, sizeof line, "the target, %s", text);
      found (NULL, bad, line);
    }
  }
  if (target)
    close_handle (target);
  free (mine);
  free (theirs);
}

static struct expected *
read_expected (void)
{
  struct expected *e = expect_new (geometry.size);
  uint8_t *buf = malloc (CHUNK);
  uint64_t at;
  uint32_t n;

  if (buf == NULL)
    trouble ("malloc", strerror (errno));
  for (at = 0; at < geometry.usable; at += n) {
    n = chunk_at (at);
    read_image (conns[0].nbd, buf, n, at);
    expect_data (e, buf, n, at);
  }
  free (buf);
  return e;
}

struct expected *
begin_run (void)
{
  next_command = 0;
  wait_at = 0;
  open_all ();
  if (base == NULL)
    base = read_expected ();
  return read_expected ();
}

static void
write_base (void)
{
  uint8_t *is = malloc (CHUNK), *was = malloc (CHUNK);
  uint64_t at;
  uint32_t n;

  if (is == NULL || was == NULL)
    trouble ("malloc", strerror (errno));
  open_all ();
  for (at = 0; at < geometry.usable; at += n) {
    n = chunk_at (at);
    read_image (conns[0].nbd, is, n, at);
    expect_copy (base, was, n, at);
    if (memcmp (is, was, n) != 0 &&
        nbd_pwrite (conns[0].nbd, was, n, at, 0) == -1)
      trouble ("writing the image", nbd_get_error ());
  }
  close_all ();
  free (is);
  free (was);
}

/*-- commands -----------------------------------------------------------*/

static pid_t
spawn (const char *command)
{
  char *argv[] = { (char *) "sh", (char *) "-c", (char *) command, NULL };
  pid_t pid;
  int err = posix_spawn (&pid, "/bin/sh", NULL, NULL, argv, environ);

  if (err != 0)
    trouble (command, strerror (err));
  return pid;
}

static void
check_status (const char *command, int status)
{
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 0)
    trouble (command, "the command has failed");
}

void
run_command (const char *command)
{
  pid_t pid = spawn (command);
  int status;

  while (waitpid (pid, &status, 0) == -1)
    if (errno != EINTR)
      trouble (command, strerror (errno));
  check_status (command, status);
}

void
reset_export (void)
{
  if (opt.restart)
    run_command (opt.restart);
  else
    write_base ();
}

bool
command_ended (void)
{
  int status;

  if (command_pid != 0 && waitpid (command_pid, &status, WNOHANG) > 0) {
    command_pid = 0;
    check_status (opt.commands[next_command-1].text, status);
  }
  return command_pid == 0;
}

bool
commands_allow (uint32_t number)
{
  const struct command *c = &opt.commands[next_command];
  uint32_t end;

  if (command_pid != 0 && number >= wait_at && !command_ended ())
    return false;
  if (next_command == opt.nr_commands || number < c->at)
    return true;
  if (!command_ended ())
    return false;
  next_command++;
  command_pid = spawn (c->text);
  end = next_command < opt.nr_commands ? c[1].at : opt.ops;
  wait_at = end > c->at ? c->at + (end - c->at) / 2 : c->at;
  return commands_allow (number);
}

/*-- life ---------------------------------------------------------------*/

void
server_init (void)
{
  struct nbd_handle *nbd = open_handle (opt.uri);

  get_geometry (nbd, &geometry);
  close_handle (nbd);
}

void
server_free (void)
{
  if (base)
    expect_free (base);
}
