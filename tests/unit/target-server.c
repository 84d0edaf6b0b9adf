/* SPDX-License-Identifier: BSD-3-Clause */
/* Real nbdkit servers for tests in C. */

#include <config.h>

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target-help.h"
#include "target-server.h"

#define MAX_ARGS 32

/* nbdkit writes its pid file when the socket listens. */
static bool
is_up (const struct server *sv)
{
  struct stat st;

  ck_assert_msg (waitpid (sv->pid, NULL, WNOHANG) == 0,
                 "nbdkit did not start");
  return stat (sv->pidfile, &st) == 0 && st.st_size > 0;
}

void
server_start (struct server *sv, ...)
{
  char *argv[MAX_ARGS] = {
    (char *) "nbdkit", (char *) "-f", (char *) "-U", sv->sock,
    (char *) "-P", sv->pidfile
  };
  char log_arg[100];
  va_list args;
  int i = 6;

  strcpy (sv->dir, "/tmp/targetXXXXXX");
  ck_assert_ptr_nonnull (mkdtemp (sv->dir));
  snprintf (sv->sock, sizeof sv->sock, "%s/sock", sv->dir);
  snprintf (sv->pidfile, sizeof sv->pidfile, "%s/pid", sv->dir);
  snprintf (sv->log, sizeof sv->log, "%s/log", sv->dir);
  snprintf (sv->uri, sizeof sv->uri, "nbd+unix:///?socket=%s", sv->sock);
  snprintf (log_arg, sizeof log_arg, "logfile=%s", sv->log);
  va_start (args, sv);
  while ((argv[i] = va_arg (args, char *)) != NULL) {
    if (strcmp (argv[i], "@LOG") == 0)
      argv[i] = log_arg;
    ck_assert_int_lt (++i, MAX_ARGS);
  }
  va_end (args);
  sv->pid = fork ();
  ck_assert_int_ge (sv->pid, 0);
  if (sv->pid == 0) {
    prctl (PR_SET_PDEATHSIG, SIGKILL);
    execvp (argv[0], argv);
    _exit (127);
  }
  EVENTUALLY (is_up (sv), 20);
}

void
server_kill (struct server *sv)
{
  kill (sv->pid, SIGKILL);
  waitpid (sv->pid, NULL, 0);
  sv->pid = -1;
}

void
server_stop (struct server *sv)
{
  if (sv->pid > 0)
    server_kill (sv);
  unlink (sv->sock);
  unlink (sv->pidfile);
  unlink (sv->log);
  rmdir (sv->dir);
}
