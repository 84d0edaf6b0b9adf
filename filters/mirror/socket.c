/* SPDX-License-Identifier: BSD-3-Clause */
/* Making and removing the socket file.
 *
 * The mode is set on the socket before bind: Linux gives the file the mode of
 * the socket, less the umask.  So there is no moment at which others could
 * connect, and the umask of the process, which all threads share, is left
 * alone.
 *
 * Whether a socket is dead is asked by connecting to it.  From the question
 * to listen, and from the comparison to unlink, nobody of us may come
 * between: both are done under a lock on the directory.  If somebody else
 * keeps that lock we go on without it after a while, since it only guards
 * against two servers that start at the same moment with the same path.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "socket.h"

#define BACKLOG 64
#define LOCK_TRIES 300
#define LOCK_PAUSE_NS 10000000

/* Returns a file descriptor whose closing unlocks, or -1. */
static int
lock_directory (const char *path)
{
  char dir[SOCKET_PATH_MAX + 1];
  const struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
  char *slash;
  int fd, i;

  strcpy (dir, path);
  slash = strrchr (dir, '/');
  slash[slash == dir] = '\0';
  fd = open (dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  for (i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
    if (flock (fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
      break;
    nanosleep (&pause, NULL);
  }
  return fd;
}

static void
fill_address (struct sockaddr_un *sun, const char *path)
{
  memset (sun, 0, sizeof *sun);
  sun->sun_family = AF_UNIX;
  memcpy (sun->sun_path, path, strlen (path));
}

/* 0: nobody listens there (or the file is gone), -EADDRINUSE: somebody does,
 * or -errno: cannot tell.
 */
static int
probe (const char *path)
{
  struct sockaddr_un sun;
  CLEANUP_CLOSE int fd = socket (AF_UNIX,
                                 SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
                                 0);

  if (fd < 0)
    return -errno;
  fill_address (&sun, path);
  if (connect (fd, (struct sockaddr *) &sun, sizeof sun) == 0 ||
      errno == EAGAIN)          /* its backlog is full */
    return -EADDRINUSE;
  return errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
}

/* Make the way free for bind. */
static int
remove_dead (const char *path, char *error)
{
  struct stat st;
  int r;

  if (lstat (path, &st) < 0) {
    if (errno == ENOENT)
      return 0;
    r = -errno;
    snprintf (error, SOCKET_ERROR_MAX, "%s: %s", path, error_text (-r));
    return r;
  }
  if (!S_ISSOCK (st.st_mode)) {
    snprintf (error, SOCKET_ERROR_MAX, "%s: there is something that is not a"
              " socket; it is left alone", path);
    return -EEXIST;
  }
  r = probe (path);
  if (r == -EADDRINUSE) {
    snprintf (error, SOCKET_ERROR_MAX, "%s: another server is listening"
              " there", path);
    return r;
  }
  if (r < 0) {
    snprintf (error, SOCKET_ERROR_MAX, "%s: cannot tell whether the socket is"
              " in use: %s", path, error_text (-r));
    return r;
  }
  if (unlink (path) < 0 && errno != ENOENT) {
    r = -errno;
    snprintf (error, SOCKET_ERROR_MAX, "%s: cannot remove the dead socket:"
              " %s", path, error_text (-r));
    return r;
  }
  return 0;
}

static int
bind_private (struct control_socket *s, char *error)
{
  struct sockaddr_un sun;
  struct stat st;
  int r;

  fill_address (&sun, s->path);
  if (fchmod (s->fd, 0600) < 0 ||
      bind (s->fd, (struct sockaddr *) &sun, sizeof sun) < 0) {
    r = -errno;
    snprintf (error, SOCKET_ERROR_MAX, "%s: cannot bind: %s", s->path,
              error_text (-r));
    return r;
  }
  if (lstat (s->path, &st) < 0 || listen (s->fd, BACKLOG) < 0) {
    r = -errno;
    snprintf (error, SOCKET_ERROR_MAX, "%s: cannot listen: %s", s->path,
              error_text (-r));
    unlink (s->path);
    return r;
  }
  s->dev = st.st_dev;
  s->ino = st.st_ino;
  return 0;
}

int
socket_open (struct control_socket *s, const char *path, char *error)
{
  CLEANUP_CLOSE int lock = -1;
  int r;

  memset (s, 0, sizeof *s);
  s->fd = -1;
  if (path[0] != '/' || strlen (path) > SOCKET_PATH_MAX) {
    snprintf (error, SOCKET_ERROR_MAX, "%.200s: the path must be absolute and"
              " at most %d bytes long", path, SOCKET_PATH_MAX);
    return -EINVAL;
  }
  strcpy (s->path, path);

  lock = lock_directory (path);
  r = remove_dead (path, error);
  if (r < 0)
    return r;

  s->fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (s->fd < 0) {
    r = -errno;
    snprintf (error, SOCKET_ERROR_MAX, "%s: %s", path, error_text (-r));
    return r;
  }
  r = bind_private (s, error);
  if (r < 0) {
    close (s->fd);
    s->fd = -1;
  }
  return r;
}

void
socket_close (struct control_socket *s)
{
  CLEANUP_CLOSE int lock = -1;
  struct stat st;

  if (s->fd < 0)
    return;
  lock = lock_directory (s->path);
  if (lstat (s->path, &st) == 0 && S_ISSOCK (st.st_mode) &&
      st.st_dev == s->dev && st.st_ino == s->ino)
    unlink (s->path);
  close (s->fd);
  s->fd = -1;
}

int
socket_accept (struct control_socket *s)
{
  int fd = accept4 (s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

  return fd >= 0 ? fd : -errno;
}

bool
socket_peer_allowed (int fd)
{
  struct ucred peer;
  socklen_t len = sizeof peer;

  return getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
    (peer.uid == 0 || peer.uid == geteuid ());
}
