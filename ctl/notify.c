/* SPDX-License-Identifier: BSD-3-Clause */
/* See notify.h.  One datagram, so there is nothing to keep between two. */

#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "cleanup.h"
#include "notify.h"

int
notify_send (const char *assignment)
{
  const char *name = getenv ("NOTIFY_SOCKET");
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  CLEANUP_CLOSE int fd = -1;
  socklen_t len;
  size_t n;

  if (name == NULL || name[0] == '\0')
    return 0;
  n = strlen (name);
  if ((name[0] != '/' && name[0] != '@') || n >= sizeof sun.sun_path)
    return -EINVAL;
  memcpy (sun.sun_path, name, n);
  len = (socklen_t) (offsetof (struct sockaddr_un, sun_path) + n);
  if (name[0] == '@')
    sun.sun_path[0] = '\0';     /* the length says where it ends */
  else
    len++;

  fd = socket (AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0 ||
      sendto (fd, assignment, strlen (assignment), MSG_NOSIGNAL | MSG_DONTWAIT,
              (struct sockaddr *) &sun, len) < 0)
    return -errno;
  return 0;
}
