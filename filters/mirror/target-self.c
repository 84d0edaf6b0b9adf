/* SPDX-License-Identifier: BSD-3-Clause */
/* Is the target this very server?
 *
 * A proxy that mirrors to itself writes what it is told to write to itself
 * again, for ever, each time under a range lock that the first write holds.
 * The URI does not tell: there are many names for one host, sockets have
 * links, and systemd may have made the socket.  But when the handshake is
 * done, a server that is this process has accepted the connection, so one of
 * this process's descriptors is its other end:
 *
 *   TCP, vsock  a socket whose local address is our peer's and whose peer's
 *               address is ours
 *   Unix        the end that connects has no name.  The other has the name of
 *               the listening socket, and SO_PEERCRED there tells the process
 *               that has connected: this one
 *
 * SO_PEERCRED of our own end would tell less: it names the process that called
 * listen, which for a daemon is its parent, gone since long.
 *
 * A connection through something that forwards it is not seen.
 */

#include <config.h>

#include <dirent.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "target-private.h"

union address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
  struct sockaddr_un un;
  struct sockaddr_vm vm;
  struct sockaddr_storage storage;
};

/* One end of a connection as seen by a descriptor. */
struct end {
  union address local, peer;
};

/* An IPv4 address may come as one of IPv6, when the server listens on both. */
static void
normalise (union address *a)
{
  static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
  struct sockaddr_in in = { .sin_family = AF_INET };

  if (a->any.sa_family != AF_INET6
      || memcmp (&a->in6.sin6_addr, mapped, sizeof mapped) != 0)
    return;
  in.sin_port = a->in6.sin6_port;
  memcpy (&in.sin_addr, a->in6.sin6_addr.s6_addr + 12, 4);
  memset (a, 0, sizeof *a);
  a->in = in;
}

/* False: it is no connected socket. */
static bool
get_end (int fd, struct end *e)
{
  socklen_t local = sizeof e->local, peer = sizeof e->peer;

  memset (e, 0, sizeof *e);
  if (getsockname (fd, &e->local.any, &local) == -1
      || getpeername (fd, &e->peer.any, &peer) == -1)
    return false;
  normalise (&e->local);
  normalise (&e->peer);
  return true;
}

static bool
same (const union address *a, const union address *b)
{
  if (a->any.sa_family != b->any.sa_family)
    return false;
  switch (a->any.sa_family) {
  case AF_INET:
    return a->in.sin_port == b->in.sin_port
      && a->in.sin_addr.s_addr == b->in.sin_addr.s_addr;
  case AF_INET6:
    return a->in6.sin6_port == b->in6.sin6_port
      && memcmp (&a->in6.sin6_addr, &b->in6.sin6_addr,
                 sizeof a->in6.sin6_addr) == 0;
  case AF_UNIX:
    return memcmp (a->un.sun_path, b->un.sun_path,
                   sizeof a->un.sun_path) == 0;
  case AF_VSOCK:
    /* One machine has several numbers for itself. */
    return a->vm.svm_port == b->vm.svm_port;
  default:
    return false;
  }
}

/* Is fd a Unix socket that this process has connected to? */
static bool
we_are_its_peer (int fd)
{
  struct ucred cred;
  socklen_t len = sizeof cred;

  return getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0
    && cred.pid == getpid ();
}

bool
target_is_self (int fd)
{
  struct end own, other;
  bool found = false;
  struct dirent *d;
  DIR *dir;
  int n;

  if (!get_end (fd, &own) || (dir = opendir ("/proc/self/fd")) == NULL)
    return false;
  while (!found && (d = readdir (dir)) != NULL) {
    n = atoi (d->d_name);       /* "." and ".." are 0: no harm */
    found = n != fd && get_end (n, &other)
      && same (&own.peer, &other.local) && same (&own.local, &other.peer)
      && (own.peer.any.sa_family != AF_UNIX || we_are_its_peer (n));
  }
  closedir (dir);
  return found;
}
