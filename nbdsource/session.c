/* SPDX-License-Identifier: BSD-3-Clause */
/* See session.h. */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "errtext.h"
#include "session.h"
#include "target.h"

struct session {
  struct target *leg;
  unsigned users;               /* server.lock */
  atomic_bool lost;
};

void
server_init (struct server *s)
{
  mutex_init (&s->lock);
  cond_init (&s->connected);
  s->connecting = false;
  s->current = NULL;
}

void
server_destroy (struct server *s)
{
  cond_destroy (&s->connected);
  mutex_destroy (&s->lock);
}

void
session_set_lost (struct session *session)
{
  atomic_store (&session->lost, true);
}

/* The leg's word that the server has ended it. */
static void
lost (void *opaque, struct target *leg, int err)
{
  (void) leg;
  (void) err;
  session_set_lost (opaque);
}

static void
session_free (struct session *session)
{
  if (session->leg)
    session->leg->ops->free (session->leg);
  free (session);
}

/* Without the lock. */
static int
session_connect (const struct server *s, struct session **made, char *why)
{
  struct session *session = calloc (1, sizeof *session);
  int r;

  if (session == NULL) {
    snprintf (why, TARGET_ERROR_MAX, "%s", error_text (ENOMEM));
    return -ENOMEM;
  }
  r = target_connect_source (s->uri, s->connections, s->timeout_s * 1000,
                             &session->leg, why);
  if (r < 0) {
    free (session);
    return r;
  }
  session->leg->lost_opaque = session;
  atomic_store (&session->leg->lost, lost);
  r = target_start (session->leg);
  if (r < 0) {
    snprintf (why, TARGET_ERROR_MAX, "starting a thread: %s",
              error_text (-r));
    session_free (session);
    return r;
  }
  *made = session;
  return 0;
}

/* Called with the lock, which is released meanwhile. */
static int
renew (struct server *s, char *why)
{
  struct session *made = NULL;
  int r;

  s->connecting = true;
  mutex_unlock (&s->lock);
  r = session_connect (s, &made, why);
  mutex_lock (&s->lock);
  s->connecting = false;
  /* What was lost is its users' until the last of them goes. */
  s->current = made;
  cond_broadcast (&s->connected);
  return r;
}

static bool
is_good (const struct session *session)
{
  return session && !atomic_load (&session->lost);
}

struct session *
session_get (struct server *s, int *error, char *why)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->lock);
  int r;

  while (s->connecting)
    cond_wait (&s->connected, &s->lock);
  if (!is_good (s->current)) {
    r = renew (s, why);
    if (r < 0) {
      *error = -r;
      return NULL;
    }
  }
  s->current->users++;
  return s->current;
}

void
session_put (struct server *s, struct session *session)
{
  bool last, ending = false;

  mutex_lock (&s->lock);
  last = --session->users == 0;
  if (last && s->current == session) {
    s->current = NULL;
    /* A server may take one client only: the next one waits for the end; but
     * not if this one was lost, and somebody else connects already.
     */
    ending = !s->connecting;
    s->connecting = true;
  }
  mutex_unlock (&s->lock);
  if (last)
    session_free (session);
  if (!ending)
    return;
  mutex_lock (&s->lock);
  s->connecting = false;
  cond_broadcast (&s->connected);
  mutex_unlock (&s->lock);
}

struct target *
session_leg (struct session *session)
{
  return session->leg;
}
