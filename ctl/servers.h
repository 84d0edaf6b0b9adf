/* SPDX-License-Identifier: BSD-3-Clause */
/* Processes of nbdmirror run: the nbdkit that is the proxy, the one that serves
 * a local target, and the user's command.
 */

#ifndef MIRROR_SERVERS_H
#define MIRROR_SERVERS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "listen.h"

/* The words of a command, as exec takes them.  All zero: none. */
struct words {
  char **word;
  unsigned count;
  bool failed;                  /* out of memory: it is not complete */
};

/* Add one, made as printf does. */
extern void words_add (struct words *w, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));
extern void words_free (struct words *w);

/* Start a server: in a process group of its own, so that a terminal's signals
 * do not reach it.  It gets SIGTERM when we end in whatever way.  It is given
 * the sockets of l, and sigmask, and keeps lock, a descriptor or -1, open as
 * long as it lives.  The pid, or -1 after a line on stderr.
 */
extern pid_t spawn_server (struct words *argv, const struct listener *l,
                           int lock, const sigset_t *sigmask);

/* Does nbdkit say that it cannot load that plugin?  It may be there and fail
 * for another reason, or nbdkit be missing: that is false, and seen later.
 * Blocks for as long as nbdkit takes to look.
 */
extern bool server_lacks_plugin (const char *name, const sigset_t *sigmask);

/* Start the user's command, which stays in our process group, with $uri and
 * $NBDMIRROR_SOCK.  It gets SIGTERM when we end in whatever way, too.
 */
extern pid_t spawn_command (char **argv, const char *uri, const char *control,
                            const sigset_t *sigmask);

/* How a process has ended: "ended with status 1", "was killed by signal 9
 * (Killed)".  text has ENDING_MAX bytes.
 */
#define ENDING_MAX 80
extern const char *ending_text (int status, char *text);

#endif /* MIRROR_SERVERS_H */
