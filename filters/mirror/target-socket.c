/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel is told about the sockets of a target.  Nothing depends on
 * it, so errors do not matter.
 */

#include <config.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "target-private.h"

/* An unprivileged process gets net.core.wmem_max. */
#define UNIX_SEND_BUFFER (1 << 20)

/* Half of the time-out a connection is idle, the other half it is asked. */
#define KEEP_ALIVE_PROBES 3

static int
family (int fd)
{
  struct sockaddr_storage addr;
  socklen_t len = sizeof addr;

  return getsockname (fd, (struct sockaddr *) &addr, &len) == -1
    ? AF_UNSPEC : addr.ss_family;
}

void
target_socket_timeout (int fd, unsigned timeout_ms)
{
  const int on = 1, probes = KEEP_ALIVE_PROBES;
  const int s = (int) (timeout_ms / 1000);
  const int idle = s / 2 > 1 ? s / 2 : 1;
  const int interval = s / (2 * probes) > 1 ? s / (2 * probes) : 1;
  const int f = family (fd);

  if (f != AF_INET && f != AF_INET6)
    return;
  setsockopt (fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms,
              sizeof timeout_ms);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
  setsockopt (fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
  setsockopt (fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

/* The default of a Unix socket does not take a copy's block at once, and the
 * rest would cost a switch to another thread.  TCP sizes its own.
 */
void
target_socket_buffer (int fd)
{
  const int size = UNIX_SEND_BUFFER;

  if (family (fd) == AF_UNIX)
    setsockopt (fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}
