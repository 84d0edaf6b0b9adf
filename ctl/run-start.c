/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror run: the command lines of the two servers, and the job.
 *
 * The job is started with the proxy, by mirror-target: what is wrong with the
 * target is then said in one line before any client is served, and a proxy that
 * is started again goes on by its intent file.
 *
 * But a local target must have the size of the source before it can be served,
 * and of a source that is an NBD server that is known only when somebody has
 * connected.  Not we: a server may be there for one client only, and end with
 * the first.  So in that case the proxy is started without a job, asked, and
 * then told to start one.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "known.h"
#include "run.h"

static int
words_ready (const struct words *w)
{
  if (!w->failed)
    return 0;
  complain ("run: out of memory");
  return -1;
}

/*-- local disks --------------------------------------------------------*/

/* The plugin that serves them.  Both are given the file by the same key, so an
 * intent file knows a disk again whatever served it before.
 */
static const char *
local_plugin (struct run *run)
{
  if (run->plugin == NULL) {
    run->plugin = "uring";
    if (server_lacks_plugin (run->plugin, &run->sigmask)) {
      run->plugin = "file";
      complain ("run: nbdkit cannot load the plugin uring (nbdkit uring"
                " --dump-plugin tells why); the plugin file serves local disks"
                " instead, through the page cache");
    }
  }
  return run->plugin;
}

/* The plugin that is the client of a source that is a server.  Both are told
 * which by the same key.
 */
static const char *
client_plugin (struct run *run)
{
  const char *uri = run->source.name;

  if (run->client_plugin == NULL) {
    run->client_plugin = "nbdsource";
    if (strncasecmp (uri, "nbds", 4) == 0 || strcasestr (uri, "tls-") ||
        server_lacks_plugin (run->client_plugin, &run->sigmask))
      run->client_plugin = "nbd";
  }
  return run->client_plugin;
}

/* If it cannot be told, it is for the plugin to say why. */
static bool
can_write (const char *path)
{
  CLEANUP_CLOSE int fd = open (path, O_RDWR | O_CLOEXEC | O_NOCTTY);
  int ro = 0;

  if (fd < 0)
    return !(errno == EACCES || errno == EPERM || errno == EROFS ||
             errno == ETXTBSY);
  /* A device can be opened all the same.  What is none has no such ioctl. */
  return ioctl (fd, BLKROGET, &ro) < 0 || ro == 0;
}

/*-- the target ---------------------------------------------------------*/

bool
run_target_first (const struct run *run)
{
  struct known known;

  known_look (&known, run->bitmap);
  return run->target.kind == DISK_URI || run->source.kind != DISK_URI ||
    known.state > 0;
}

/* The socket and the URI of a local target.  An intent file knows a target by
 * its URI, so with one the same file must have the same URI in the next run,
 * and another one another: the file's path is the name of the export (both
 * plugins take any), and the socket is next to the intent file.
 */
static int
listen_for_proxy (struct run *run)
{
  char *path;
  int r;

  if (run->bitmap == NULL)
    path = rundir_file (&run->dir, "target");
  else if (asprintf (&path, "%s.target", run->bitmap) < 0) {
    complain ("run: out of memory");
    path = NULL;
  }
  if (path == NULL)
    return -1;
  r = listen_unix (&run->target_listener, run->bitmap
                   ? "the socket for the target, next to the intent file: "
                   : "", path);
  free (path);
  if (r < 0)
    return -1;
  run->target_uri = run->target_listener.uri;
  if (run->bitmap == NULL)
    return 0;
  run->own_uri = listen_unix_uri (run->target.path + 1,
                                  run->target_listener.path);
  if (run->own_uri == NULL) {
    complain ("run: out of memory");
    return -1;
  }
  run->target_uri = run->own_uri;
  return 0;
}

int
run_spawn_target (struct run *run)
{
  struct words argv = { .word = NULL };
  pid_t pid = -1;

  run->target_server.started_ms = client_now_ms ();     /* also if it fails */
  words_add (&argv, "nbdkit");
  words_add (&argv, "-f");
  words_add (&argv, "%s", local_plugin (run));
  words_add (&argv, "file=%s", run->target.path);
  if (words_ready (&argv) == 0)
    pid = spawn_server (&argv, &run->target_listener, run->target.fd,
                        &run->sigmask);
  words_free (&argv);
  if (pid < 0)
    return -1;
  guard_add (&run->guard, pid);
  run->target_server.pid = pid;
  return 0;
}

int
run_start_target (struct run *run, uint64_t size)
{
  /* Who may read the source may read its copy, but nobody else. */
  const mode_t mode = run->source.kind == DISK_FILE
    ? (run->source.mode & 0666) | S_IRUSR | S_IWUSR : S_IRUSR | S_IWUSR;
  struct known known;

  if (run->target.kind == DISK_URI) {
    run->target_uri = run->target.name;
    return 0;
  }
  known_look (&known, run->bitmap);
  if (known.state < 0) {
    complain ("run: --bitmap: %s", known.error);
    return -1;
  }
  if (known.state > 0 && run->target.kind == DISK_MISSING) {
    complain ("run: TARGET %s: does not exist, but the intent file %s says what"
              " of it is equal; delete that file to start over",
              run->target.name, run->bitmap);
    return -1;
  }
  /* One that the file knows is the filter's to judge.  If it was cut off it
   * must not be made to fit: the zeroes would pass for what was there.
   */
  if (known.state == 0 &&
      disk_prepare (&run->target, size, mode, run->force) < 0)
    return -1;
  if (listen_for_proxy (run) < 0 || run_spawn_target (run) < 0) {
    run->target_uri = NULL;
    return -1;
  }
  return 0;
}

/*-- the proxy ----------------------------------------------------------*/

/* The value of -o KEY=VALUE, NULL if it was not given. */
static const char *
key_value (const struct run *run, const char *key)
{
  const size_t n = strlen (key);
  const char *value;
  unsigned i;

  for (i = 0; i < run->call->options_count; i++) {
    value = run->call->options[i].value;
    if (strcmp (run->call->options[i].name, "-o") == 0 &&
        strncmp (value, key, n) == 0 && value[n] == '=')
      return value + n + 1;
  }
  return NULL;
}

/* An order for the first start only: by the next one clients may have been
 * moved again, and must not be taken back.
 */
static bool
is_done (const struct run *run, const char *option)
{
  return run->announced && strcmp (option, "after-pivot=source") == 0;
}

static void
add_keys (const struct run *run, struct words *argv)
{
  const char *copy_mode = call_option (run->call, "--copy-mode");
  const char *speed = call_option (run->call, "--speed");
  struct known known;
  unsigned i;

  words_add (argv, "mirror-control=%s", run->control);
  /* When clients have been moved, and maybe again, to which disk the file says,
   * and to which one a mirror from there goes on.
   */
  known_look (&known, run->bitmap);
  if (run->target_uri && !known.moved)
    words_add (argv, "mirror-target=%s", run->target_uri);
  if (run->bitmap)
    words_add (argv, "mirror-bitmap=%s", run->bitmap);
  if (copy_mode)
    words_add (argv, "mirror-copy-mode=%s", copy_mode);
  if (speed)
    words_add (argv, "mirror-speed=%s", speed);
  for (i = 0; i < run->call->options_count; i++)
    if (strcmp (run->call->options[i].name, "-o") == 0 &&
        !is_done (run, run->call->options[i].value))
      words_add (argv, "mirror-%s", run->call->options[i].value);
}

/* When clients have been moved the source is not even opened, whatever has
 * become of a further mirror, unless they are to be taken back.
 */
static bool
source_is_left (const struct run *run)
{
  const char *after = key_value (run, "after-pivot");
  struct known known;

  known_look (&known, run->bitmap);
  return known.moved &&
    (run->announced || after == NULL || strcmp (after, "source") != 0);
}

int
run_spawn_proxy (struct run *run)
{
  struct words argv = { .word = NULL };
  pid_t pid = -1;

  run->proxy.started_ms = client_now_ms ();     /* also if it fails */
  words_add (&argv, "nbdkit");
  words_add (&argv, "-f");
  words_add (&argv, "--filter=mirror");
  if (run->source.kind == DISK_URI) {
    words_add (&argv, "%s", client_plugin (run));
    words_add (&argv, "uri=%s", run->source.name);
  }
  else {
    if (!source_is_left (run) && !can_write (run->source.path))
      words_add (&argv, "-r");
    words_add (&argv, "%s", local_plugin (run));
    words_add (&argv, "file=%s", run->source.path);
  }
  add_keys (run, &argv);
  if (words_ready (&argv) == 0)
    pid = spawn_server (&argv, &run->clients, run->source.fd, &run->sigmask);
  words_free (&argv);
  if (pid < 0)
    return -1;
  guard_add (&run->guard, pid);
  run->proxy.pid = pid;
  return 0;
}

/*-- the job ------------------------------------------------------------*/

int
run_start_job (struct run *run)
{
  const char *sync = key_value (run, "sync");
  json_t *result;
  uint64_t size;
  int status;

  result = call_command (run->client, "query-mirror", NULL, ANSWER_MS,
                         &status);
  if (result == NULL)
    return -1;
  size = (uint64_t) json_integer_value (json_object_get (json_object_get
                                                         (result, "source"),
                                                         "size"));
  json_decref (result);
  if (run_start_target (run, size) < 0)
    return -1;
  result = call_command (run->client, "blockdev-mirror",
                         json_pack ("{s:s,s:s}", "target", run->target_uri,
                                    "sync", sync ? sync : "full"),
                         TARGET_MS, &status);
  json_decref (result);
  return result ? 0 : -1;
}
