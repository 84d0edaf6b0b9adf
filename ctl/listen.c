/* SPDX-License-Identifier: BSD-3-Clause */
/* See listen.h. */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cleanup.h"
#include "ctl.h"
#include "errtext.h"
#include "listen.h"
#include "rundir.h"

#define BACKLOG SOMAXCONN

/*-- Unix sockets -------------------------------------------------------*/

/* Percent-encoded; returns the end. */
static char *
put_encoded (char *p, const char *text)
{
  for (; *text; text++)
    if (isalnum ((unsigned char) *text) || strchr ("/-._~", *text))
      *p++ = *text;
    else
      p += sprintf (p, "%%%02X", (unsigned char) *text);
  *p = '\0';
  return p;
}

char *
listen_unix_uri (const char *export, const char *path)
{
  static const char head[] = "nbd+unix:///", socket[] = "?socket=";
  char *uri = malloc (sizeof head + sizeof socket + 3 * strlen (export) +
                      3 * strlen (path));

  if (uri)
    put_encoded (stpcpy (put_encoded (stpcpy (uri, head), export), socket),
                 path);
  return uri;
}

/* Nobody listens there, but a socket is left: remove it.  0, or -errno:
 * -EEXIST is something else, -EADDRINUSE a server.
 */
static int
make_room (const struct sockaddr_un *sun)
{
  struct stat st;
  CLEANUP_CLOSE int fd = -1;

  if (lstat (sun->sun_path, &st) < 0)
    return errno == ENOENT ? 0 : -errno;
  if (!S_ISSOCK (st.st_mode))
    return -EEXIST;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  if (connect (fd, (const struct sockaddr *) sun, sizeof *sun) == 0 ||
      errno != ECONNREFUSED)
    return -EADDRINUSE;
  return unlink (sun->sun_path) < 0 ? -errno : 0;
}

/* path: of at most LISTEN_PATH_MAX bytes. */
static void
set_path (struct sockaddr_un *sun, const char *path)
{
  *sun = (struct sockaddr_un) { .sun_family = AF_UNIX };
  memcpy (sun->sun_path, path, strlen (path) + 1);
}

void
listen_remove (const char *path)
{
  struct sockaddr_un sun;

  set_path (&sun, path);
  make_room (&sun);
}

/* A listening socket, or -errno. */
static int
open_unix (const char *path)
{
  struct sockaddr_un sun;
  int fd, r;

  set_path (&sun, path);
  r = make_room (&sun);
  if (r < 0)
    return r;
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return -errno;
  if (bind (fd, (struct sockaddr *) &sun, sizeof sun) < 0 ||
      listen (fd, BACKLOG) < 0) {
    r = -errno;
    close (fd);
    return r;
  }
  return fd;
}

int
listen_unix (struct listener *l, const char *what, const char *path)
{
  CLEANUP_FREE char *absolute = absolute_path (path);
  struct stat st;
  int fd;

  if (absolute == NULL || path[0] == '\0') {
    complain ("run: %s%s: must be the path of a Unix socket", what, path);
    return -1;
  }
  if (strlen (absolute) > LISTEN_PATH_MAX) {
    complain ("run: %s%s: the path of a Unix socket has at most %d bytes, this"
              " one %zu", what, absolute, LISTEN_PATH_MAX, strlen (absolute));
    return -1;
  }
  fd = open_unix (absolute);
  if (fd < 0) {
    complain ("run: %s%s: %s", what, path,
              fd == -EADDRINUSE ? "a server is listening there already"
              : fd == -EEXIST ? "exists and is no socket"
              : error_text (-fd));
    return -1;
  }
  l->fds[0] = fd;
  l->count = 1;
  if (lstat (absolute, &st) == 0) {
    l->dev = st.st_dev;
    l->ino = st.st_ino;
  }
  l->uri = listen_unix_uri ("", absolute);
  l->path = absolute;
  absolute = NULL;
  if (l->uri)
    return 0;
  listen_free (l);
  complain ("run: out of memory");
  return -1;
}

/*-- TCP ----------------------------------------------------------------*/

/* A listening socket, or -errno. */
static int
open_tcp (const struct addrinfo *ai)
{
  const int fd = socket (ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  int r;

  if (fd < 0)
    return -errno;
  setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (ai->ai_family == AF_INET6)        /* IPv4 has a socket of its own */
    setsockopt (fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind (fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen (fd, BACKLOG) < 0) {
    r = -errno;
    close (fd);
    return r;
  }
  return fd;
}

static in_port_t *
port_of (struct sockaddr *sa)
{
  return sa->sa_family == AF_INET6 ? &((struct sockaddr_in6 *) sa)->sin6_port
    : &((struct sockaddr_in *) sa)->sin_port;
}

/* The port that the system has chosen, 0 if that cannot be known. */
static unsigned
bound_port (int fd)
{
  struct sockaddr_storage ss;
  socklen_t len = sizeof ss;

  if (getsockname (fd, (struct sockaddr *) &ss, &len) < 0)
    return 0;
  return ntohs (*port_of ((struct sockaddr *) &ss));
}

/* Listen on each; with the same port if it is not fixed.  Kernels without
 * IPv6 are no error as long as one is left.  0 or -errno.
 */
static int
open_all (struct listener *l, struct addrinfo *ai, unsigned *port)
{
  int fd, r = -EADDRNOTAVAIL;

  for (; ai && l->count < LISTEN_MAX; ai = ai->ai_next) {
    *port_of (ai->ai_addr) = htons ((uint16_t) *port);
    fd = open_tcp (ai);
    if (fd < 0 && fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL)
      return fd;
    if (fd < 0) {
      r = fd;
      continue;
    }
    l->fds[l->count++] = fd;
    *port = bound_port (fd);
  }
  return l->count > 0 ? 0 : r;
}

/* "[HOST]:PORT", where the host may be in brackets, which one with colons
 * must, or missing.  host is to be freed.  False: it is not like that.
 */
static bool
split (const char *address, char **host, unsigned *port)
{
  const char *colon = strrchr (address, ':'), *end;
  unsigned long n = 0;
  char *rest;

  if (colon == NULL || colon[1] < '0' || colon[1] > '9')
    return false;
  n = strtoul (colon + 1, &rest, 10);
  if (*rest != '\0' || n > 65535)
    return false;
  end = colon;
  if (address[0] == '[') {
    if (end[-1] != ']')
      return false;
    address++;
    end--;
  }
  else if (memchr (address, ':', (size_t) (end - address)))
    return false;
  *port = (unsigned) n;
  *host = strndup (address, (size_t) (end - address));
  return *host != NULL;
}

static int
listen_tcp (struct listener *l, const char *address)
{
  struct addrinfo hints = {
    .ai_flags = AI_PASSIVE, .ai_family = AF_UNSPEC,
    .ai_socktype = SOCK_STREAM,
  }, *list = NULL;
  CLEANUP_FREE char *host = NULL;
  unsigned port;
  int r;

  if (!split (address, &host, &port)) {
    complain ("run: --listen %s: must be unix:PATH or [HOST]:PORT, with PORT"
              " from 0 (any that is free) to 65535", address);
    return -1;
  }
  r = getaddrinfo (host[0] ? host : NULL, "0", &hints, &list);
  if (r != 0) {
    complain ("run: --listen %s: %s: %s", address, host, gai_strerror (r));
    return -1;
  }
  r = open_all (l, list, &port);
  freeaddrinfo (list);
  if (r == 0 && asprintf (&l->uri, strchr (host, ':') ? "nbd://[%s]:%u/"
                          : "nbd://%s:%u/", host[0] ? host : "localhost",
                          port) < 0) {
    l->uri = NULL;
    r = -ENOMEM;
  }
  if (r == 0)
    return 0;
  complain ("run: --listen %s: %s", address, error_text (-r));
  listen_free (l);
  return -1;
}

/*-- both ---------------------------------------------------------------*/

int
listen_address (struct listener *l, const char *address)
{
  if (strncmp (address, "unix:", 5) == 0)
    return listen_unix (l, "--listen unix:", address + 5);
  return listen_tcp (l, address);
}

void
listen_close (struct listener *l)
{
  while (l->count > 0)
    close (l->fds[--l->count]);
}

/* Who has removed our socket may listen there now. */
static bool
is_ours (const struct listener *l)
{
  struct stat st;

  return lstat (l->path, &st) == 0 && st.st_dev == l->dev &&
    st.st_ino == l->ino;
}

void
listen_free (struct listener *l)
{
  listen_close (l);
  if (l->path && is_ours (l))
    listen_remove (l->path);    /* the number may have been used again */
  free (l->path);
  free (l->uri);
  l->path = l->uri = NULL;
}
