/* SPDX-License-Identifier: BSD-3-Clause */
/* One session with the source's server, which all clients of nbdkit share.
 *
 * The first client that comes makes it, those that come meanwhile wait for
 * it, and the last that goes ends it.  A session that was lost stays so for
 * those who have it: what they have written may be lost with it, and only a
 * flush that fails tells them.  Who comes afterwards gets a new one.
 */

#ifndef NBDSOURCE_SESSION_H
#define NBDSOURCE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "legs.h"
#include "sync.h"

struct session;

/* What is to be connected to.  Constant but for what is said otherwise. */
struct server {
  const char *uri;
  unsigned connections;         /* at most; 1 ... 16 */
  unsigned timeout_s;           /* for connecting, and for silence of TCP */

  struct mutex lock;            /* for what follows */
  struct cond connected;
  bool connecting;              /* or ending, by a thread without the lock */
  struct session *current;      /* what a new client gets, unless lost */
};

extern void server_init (struct server *s);
extern void server_destroy (struct server *s);

/* A session to be put back, or NULL: then *error is an errno, and in why is a
 * line of at most TARGET_ERROR_MAX bytes.  Blocks for at most the timeout, and
 * for as long as others take who connect just then.
 */
extern struct session *session_get (struct server *s, int *error, char *why);
extern void session_put (struct server *s, struct session *session);

/* It has been seen to be lost: from now on nobody gets it. */
extern void session_set_lost (struct session *session);

/* Its connections, until it is put back. */
extern struct target *session_leg (struct session *session);

#endif /* NBDSOURCE_SESSION_H */
