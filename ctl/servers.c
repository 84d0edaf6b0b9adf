/* SPDX-License-Identifier: BSD-3-Clause */
/* See servers.h.
 *
 * No shell is involved: file names may have any character.  Sockets are handed
 * over as systemd does it (sd_listen_fds(3)), which nbdkit understands.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "errtext.h"
#include "servers.h"

#define FIRST_LISTEN_FD 3       /* what sd_listen_fds promises */

/* As shells have it. */
#define STATUS_CANNOT_RUN 126
#define STATUS_NOT_FOUND 127

/* nbdkit's, whatever is wrong. */
#define STATUS_NBDKIT_FAILED 1

/*-- words --------------------------------------------------------------*/

void
words_add (struct words *w, const char *fmt, ...)
{
  char **word = reallocarray (w->word, w->count + 2, sizeof *word);
  va_list args;

  if (word == NULL) {
    w->failed = true;
    return;
  }
  w->word = word;
  va_start (args, fmt);
  if (vasprintf (&word[w->count], fmt, args) < 0)
    w->failed = true;
  else
    w->count++;
  va_end (args);
  word[w->count] = NULL;
}

void
words_free (struct words *w)
{
  unsigned i;

  for (i = 0; i < w->count; i++)
    free (w->word[i]);
  free (w->word);
  *w = (struct words) { .word = NULL };
}

/*-- in the child -------------------------------------------------------*/

static void __attribute__ ((__noreturn__))
child_exec (char **argv)
{
  const int err = (execvp (argv[0], argv), errno);

  complain ("run: cannot run %s: %s%s", argv[0], error_text (err),
            err == ENOENT && strcmp (argv[0], "nbdkit") == 0
            ? "; is nbdkit installed?" : "");
  _exit (err == ENOENT ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN);
}

static void
child_signals (const sigset_t *sigmask, pid_t parent)
{
  signal (SIGPIPE, SIG_DFL);
  sigprocmask (SIG_SETMASK, sigmask, NULL);
  prctl (PR_SET_PDEATHSIG, SIGTERM);
  if (getppid () != parent)     /* it was too late for that */
    _exit (STATUS_CANNOT_RUN);
  /* These are for us, not for our children. */
  unsetenv ("NOTIFY_SOCKET");
  unsetenv ("LISTEN_FDS");
  unsetenv ("LISTEN_PID");
  unsetenv ("LISTEN_FDNAMES");
}

/* Put the sockets where they belong.  They, and the lock, may stand in each
 * other's way, so they are first copied out of it.
 */
static int
child_sockets (const struct listener *l, int lock)
{
  int copies[LISTEN_MAX], i;
  char text[16];

  if (lock >= 0 && fcntl (lock, F_DUPFD, FIRST_LISTEN_FD + LISTEN_MAX) < 0)
    return -errno;
  for (i = 0; i < l->count; i++) {
    copies[i] = fcntl (l->fds[i], F_DUPFD_CLOEXEC,
                       FIRST_LISTEN_FD + LISTEN_MAX);
    if (copies[i] < 0)
      return -errno;
  }
  for (i = 0; i < l->count; i++)
    if (dup2 (copies[i], FIRST_LISTEN_FD + i) < 0)
      return -errno;
  snprintf (text, sizeof text, "%d", l->count);
  if (setenv ("LISTEN_FDS", text, 1) < 0)
    return -errno;
  snprintf (text, sizeof text, "%ld", (long) getpid ());
  return setenv ("LISTEN_PID", text, 1) < 0 ? -errno : 0;
}

/* A server has nothing to read, and one output. */
static int
child_stdio (bool silent)
{
  const int fd = open ("/dev/null", O_RDWR);

  if (fd < 0 || dup2 (fd, STDIN_FILENO) < 0 ||
      (silent && dup2 (fd, STDERR_FILENO) < 0) ||
      dup2 (STDERR_FILENO, STDOUT_FILENO) < 0)
    return -errno;
  if (fd > STDERR_FILENO)
    close (fd);
  return 0;
}

/*-- starting -----------------------------------------------------------*/

static pid_t
fork_child (void)
{
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  if (pid < 0)
    complain ("run: fork: %s", error_text (errno));
  return pid;
}

pid_t
spawn_server (struct words *argv, const struct listener *l, int lock,
              const sigset_t *sigmask)
{
  const pid_t parent = getpid ();
  pid_t pid;
  int r;

  if (argv->failed) {
    complain ("run: out of memory");
    return -1;
  }
  pid = fork_child ();
  if (pid != 0) {
    if (pid > 0)
      setpgid (pid, pid);       /* both sides, so that it is done in any case */
    return pid;
  }
  setpgid (0, 0);
  child_signals (sigmask, parent);
  r = child_stdio (false);
  if (r == 0)
    r = child_sockets (l, lock);
  if (r == 0)
    child_exec (argv->word);
  complain ("run: cannot run %s: %s", argv->word[0], error_text (-r));
  _exit (STATUS_CANNOT_RUN);
}

bool
server_lacks_plugin (const char *name, const sigset_t *sigmask)
{
  const pid_t parent = getpid (), pid = fork_child ();
  int status;

  if (pid < 0)
    return false;
  if (pid == 0) {
    child_signals (sigmask, parent);
    if (child_stdio (true) == 0)
      execlp ("nbdkit", "nbdkit", name, "--dump-plugin", (char *) NULL);
    _exit (STATUS_NOT_FOUND);
  }
  while (waitpid (pid, &status, 0) < 0)
    if (errno != EINTR)
      return false;
  return WIFEXITED (status) && WEXITSTATUS (status) == STATUS_NBDKIT_FAILED;
}

pid_t
spawn_command (char **argv, const char *uri, const char *control,
               const sigset_t *sigmask)
{
  const pid_t parent = getpid (), pid = fork_child ();

  if (pid != 0)
    return pid;
  child_signals (sigmask, parent);
  if (setenv ("uri", uri, 1) == 0 && setenv ("NBDMIRROR_SOCK", control, 1) == 0)
    child_exec (argv);
  complain ("run: cannot run %s: %s", argv[0], error_text (errno));
  _exit (STATUS_CANNOT_RUN);
}

const char *
ending_text (int status, char *text)
{
  const char *name;

  if (WIFSIGNALED (status)) {
    name = sigdescr_np (WTERMSIG (status));
    snprintf (text, ENDING_MAX, "was killed by signal %d (%s)",
              WTERMSIG (status), name ? name : "unknown");
  }
  else
    snprintf (text, ENDING_MAX, "ended with status %d", WEXITSTATUS (status));
  return text;
}
