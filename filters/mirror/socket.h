/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket as an object in the file system.
 *
 * Does not log; one thread.
 */

#ifndef MIRROR_SOCKET_H
#define MIRROR_SOCKET_H

#include <stdbool.h>
#include <sys/types.h>

#define SOCKET_PATH_MAX 107
#define SOCKET_ERROR_MAX 512

struct control_socket {
  int fd;                       /* listening, non-blocking; -1 if closed */
  char path[SOCKET_PATH_MAX + 1];
  dev_t dev;                    /* which file we have made */
  ino_t ino;
};

/* Bind and listen.  path: absolute.  The file has mode 0600 from the first
 * moment.  A socket that nobody listens on is replaced; anything else that is
 * there is an error.  Returns 0, or -errno with one line in error
 * (SOCKET_ERROR_MAX bytes).
 */
extern int socket_open (struct control_socket *s, const char *path,
                        char *error);

/* Close, and remove the file if it is still the one that we made. */
extern void socket_close (struct control_socket *s);

/* The next connection, non-blocking, or -errno; -EAGAIN if there is none. */
extern int socket_accept (struct control_socket *s);

/* Is the other side of the connection root or our own user? */
extern bool socket_peer_allowed (int fd);

#endif /* MIRROR_SOCKET_H */
