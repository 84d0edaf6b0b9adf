/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection to the control socket.
 *
 * Functions that wait take a time-out in milliseconds, < 0: none.  They
 * return 0 or -errno, with one line in client_error:
 *
 *   -ETIMEDOUT   the server did not answer in time
 *   -EREMOTEIO   it answered with an error
 *   others       there is no server, or it has gone
 *
 * One thread.
 */

#ifndef MIRROR_CLIENT_H
#define MIRROR_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <jansson.h>

#define CLIENT_ERROR_MAX 1280

struct client;

/* The default directory for sockets, to be freed; NULL if there is none. */
extern char *client_directory (void);

/* Find the socket: the one given, else $NBDMIRROR_SOCK, else the only one in
 * the default directory that somebody listens on.  Returns a path to be
 * freed, or NULL and error (CLIENT_ERROR_MAX bytes; may have several lines).
 */
extern char *client_find (const char *given, char *error);

/* Connect and negotiate.  error as above. */
extern int client_open (const char *path, int timeout_ms, struct client **c,
                        char *error);
extern void client_close (struct client *c);

extern const char *client_error (const struct client *c);

/* Run a command.  args is taken over, NULL if none.  *result is the caller's
 * (only if it returns 0).  Events that come meanwhile are kept.
 */
extern int client_command (struct client *c, const char *name, json_t *args,
                           int timeout_ms, json_t **result);

/* Send text as it is; *answer becomes the answer as it came, to be freed, also
 * with -EREMOTEIO.
 */
extern int client_raw (struct client *c, const char *text, int timeout_ms,
                       char **answer);

/* Wait until at least one event has come, and forget all that have. */
extern int client_wait_event (struct client *c, int timeout_ms);

/* Wait for the next event: *event is the caller's.  Those that came before the
 * last answer are lost.
 */
extern int client_next_event (struct client *c, int timeout_ms,
                              json_t **event);

/* Readable when something has come, for poll.  But what has come along with the
 * last answer has been read already.
 */
extern int client_fd (const struct client *c);
extern bool client_has_line (const struct client *c);

/* Whose socket it is, 0 if that cannot be told. */
extern pid_t client_server (const struct client *c);

/* Wait until the server closes the connection: 0. */
extern int client_wait_end (struct client *c, int timeout_ms);

/* Milliseconds on a clock that never jumps. */
extern int64_t client_now_ms (void);

#endif /* MIRROR_CLIENT_H */
