/* SPDX-License-Identifier: BSD-3-Clause */
/* See guard.h.
 *
 * Servers get SIGTERM from the kernel when we die (PR_SET_PDEATHSIG), but
 * nbdkit then waits for its clients to hang up, and one that is idle may never
 * do so.  A SIGKILL instead is not to be had: nbdkit sets SIGTERM itself when
 * it is given its sockets.  So somebody else must see to it that they end.
 *
 * The guard learns of our end by the end of a pipe that only we can write to,
 * and of servers by their pids that come through it.  It turns these into
 * pidfds, which never name another process.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client.h"
#include "guard.h"

#define SERVERS_MAX 16          /* at a time; there are two */
#define GRACE_MS 5000           /* from SIGTERM to SIGKILL */

struct servers {
  struct pollfd pidfds[SERVERS_MAX];
  nfds_t count;
};

/* Forget those that have ended. */
static void
sweep (struct servers *s, int timeout_ms)
{
  nfds_t i = 0;

  if (poll (s->pidfds, s->count, timeout_ms) <= 0)
    return;
  while (i < s->count)
    if (s->pidfds[i].revents != 0) {
      close (s->pidfds[i].fd);
      s->pidfds[i] = s->pidfds[--s->count];
    }
    else
      i++;
}

static void
add (struct servers *s, pid_t pid)
{
  int fd;

  sweep (s, 0);
  fd = s->count < SERVERS_MAX ? pidfd_open (pid, 0) : -1;
  if (fd >= 0)
    s->pidfds[s->count++] = (struct pollfd) { .fd = fd, .events = POLLIN };
}

static void __attribute__ ((__noreturn__))
guard_main (int fd)
{
  struct servers s = { .count = 0 };
  int64_t end_ms;
  pid_t pid;
  ssize_t n;
  nfds_t i;

  prctl (PR_SET_NAME, "nbdmirror-guard");
  setpgid (0, 0);               /* a terminal's signals are not for it */
  /* Nor is what we have inherited: the locks of disks, which the next run would
   * find taken as long as this lives, and sockets.
   */
  close_range (0, (unsigned) fd - 1, 0);
  close_range ((unsigned) fd + 1, ~0u, 0);
  do {
    n = read (fd, &pid, sizeof pid);
    if (n == sizeof pid)
      add (&s, pid);
  } while (n > 0 || (n < 0 && errno == EINTR));

  end_ms = client_now_ms () + GRACE_MS;
  for (sweep (&s, 0); s.count > 0 && client_now_ms () < end_ms;)
    sweep (&s, (int) (end_ms - client_now_ms ()));
  for (i = 0; i < s.count; i++)
    pidfd_send_signal (s.pidfds[i].fd, SIGKILL, NULL, 0);
  _exit (0);
}

int
guard_start (struct guard *g)
{
  int fds[2], r;

  if (pipe2 (fds, O_CLOEXEC) < 0)
    return -errno;
  g->pid = fork ();
  if (g->pid < 0) {
    r = -errno;
    close (fds[0]);
    close (fds[1]);
    g->pid = 0;
    return r;
  }
  if (g->pid == 0) {
    close (fds[1]);
    guard_main (fds[0]);
  }
  close (fds[0]);
  g->fd = fds[1];
  return 0;
}

void
guard_add (struct guard *g, pid_t pid)
{
  /* It fails only if the guard has been killed; then there is none. */
  while (g->pid != 0 && write (g->fd, &pid, sizeof pid) < 0 && errno == EINTR)
    ;
}

void
guard_end (struct guard *g)
{
  if (g->pid == 0)
    return;
  close (g->fd);
  while (waitpid (g->pid, NULL, 0) < 0 && errno == EINTR)
    ;
  g->pid = 0;
}
