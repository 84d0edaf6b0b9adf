/* SPDX-License-Identifier: BSD-3-Clause */
/* Listening sockets that a server is given when it is started.
 *
 * They are made here and not by nbdkit, so that they outlive a server that
 * crashes (clients that come while it is started again wait, and are not
 * refused), so that port 0 works, and so that what is wrong with the address
 * is said before anything has been started.
 */

#ifndef MIRROR_LISTEN_H
#define MIRROR_LISTEN_H

#include <sys/types.h>

#define LISTEN_MAX 8            /* sockets: a host may have several addresses */
#define LISTEN_PATH_MAX 107     /* bytes of a Unix socket's path */

struct listener {
  int fds[LISTEN_MAX];          /* close-on-exec */
  int count;
  char *path;                   /* of a Unix socket, absolute; NULL: TCP */
  dev_t dev;                    /* what is there; somebody may replace it */
  ino_t ino;
  char *uri;                    /* for clients on this machine */
};

/* Listen on "unix:PATH" or "[HOST]:PORT".  A socket at PATH on which nobody
 * listens any more is replaced.  0, or -1 after a line on stderr; then there
 * is nothing to close.
 */
extern int listen_address (struct listener *l, const char *address);

/* The same on a Unix socket; what is for the line on stderr. */
extern int listen_unix (struct listener *l, const char *what,
                        const char *path);

/* The URI of an export of the NBD server on that socket, to be freed; NULL when
 * out of memory.
 */
extern char *listen_unix_uri (const char *export, const char *path);

/* Take no more clients. */
extern void listen_close (struct listener *l);

/* Close, remove the socket, and free.  All zero: nothing to do. */
extern void listen_free (struct listener *l);

/* Remove a Unix socket that a server of ours may have left behind.  What else
 * is there stays, a socket that a server listens on above all.
 */
extern void listen_remove (const char *path);

#endif /* MIRROR_LISTEN_H */
