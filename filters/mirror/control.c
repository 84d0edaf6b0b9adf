/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket: its life and the loop of its thread.
 *
 * The loop polls the listening socket, an eventfd by which other threads wake
 * it, and every client.  It never blocks but in poll: sockets are
 * non-blocking, commands only look at the engine or tell it something, and
 * blockdev-mirror runs elsewhere.
 *
 * Order: a client gets its lines in the order in which they were queued,
 * under one lock.  Events that a command causes come after its answer, as in
 * QEMU, since they are held back while it runs; events of blockdev-mirror
 * come before it.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-filter.h>

#include "cleanup.h"
#include "control-impl.h"
#include "errtext.h"

/* When no connection can be accepted (no file descriptors, say), look again
 * after that time rather than at once.
 */
#define ACCEPT_RETRY_MS 100

_Static_assert (SOCKET_ERROR_MAX <= PARAMS_ERROR_MAX, "socket_open's errors"
                " go into control_new's buffer");

struct control *
control_new (const char *path, const struct control_ops *ops, void *opaque,
             char *error)
{
  struct control *c = calloc (1, sizeof *c);

  if (c == NULL) {
    snprintf (error, PARAMS_ERROR_MAX, "out of memory");
    return NULL;
  }
  c->ops = ops;
  c->opaque = opaque;
  snprintf (c->package, sizeof c->package, "%s %s (nbdkit %s)", PACKAGE_NAME,
            PACKAGE_VERSION, NBDKIT_VERSION_STRING);

  c->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->wake < 0) {
    snprintf (error, PARAMS_ERROR_MAX, "eventfd: %s", error_text (errno));
    free (c);
    return NULL;
  }
  if (socket_open (&c->socket, path, error) < 0) {
    close (c->wake);
    free (c);
    return NULL;
  }
  mutex_init (&c->lock);
  return c;
}

void
control_wake (struct control *c)
{
  const uint64_t one = 1;

  /* It fails only if the counter is full, and then poll does not sleep. */
  if (write (c->wake, &one, sizeof one) < 0)
    return;
}

static void
drain_wake (struct control *c)
{
  uint64_t n;

  if (read (c->wake, &n, sizeof n) < 0)
    return;
}

static bool
is_stopping (struct control *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  return c->stopping;
}

/*-- events -------------------------------------------------------------*/

/* Takes over line.  With the lock held. */
static void
send_to_all (struct control *c, char *line)
{
  unsigned i;

  for (i = 0; i < c->count; i++)
    if (session_wants_events (c->sessions[i]))
      session_queue (c->sessions[i], strdup (line));
  free (line);
}

void
control_event (struct control *c, const struct mirror_event *ev)
{
  char *line = event_line (ev);
  char **held;

  if (line == NULL)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

    if (c->quitting)
      free (line);
    else if (!c->holding)
      send_to_all (c, line);
    else {
      held = realloc (c->held, (c->held_count + 1) * sizeof *held);
      if (held) {
        c->held = held;
        c->held[c->held_count++] = line;
      }
      else                      /* early is better than never */
        send_to_all (c, line);
    }
  }
  control_wake (c);
}

void
control_end_events (struct control *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  c->quitting = true;
}

void
control_hold_events (struct control *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  c->holding = true;
}

void
control_release_events (struct control *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  size_t i;

  c->holding = false;
  for (i = 0; i < c->held_count; i++)
    send_to_all (c, c->held[i]);
  free (c->held);
  c->held = NULL;
  c->held_count = 0;
}

/*-- the server's thread ------------------------------------------------*/

static void
remove_session (struct control *c, unsigned i)
{
  struct session *s = c->sessions[i];

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
    c->sessions[i] = c->sessions[--c->count];
  }
  session_free (s);
}

/* fds: of the sessions, in their order, as poll has left them; or NULL: look
 * at all of them.  Downward, since removing moves the last one into the gap.
 */
static void
run_sessions (struct control *c, const struct pollfd *fds)
{
  unsigned i;

  for (i = c->count; i > 0; i--)
    if (!session_run (c->sessions[i - 1], fds ? fds[i - 1].revents : POLLIN))
      remove_session (c, i - 1);
}

static void
add_session (struct control *c, int fd)
{
  struct session *s;

  /* Those who have come and gone while we did something else must not keep
   * others out.
   */
  if (c->count == CONTROL_MAX_CLIENTS)
    run_sessions (c, NULL);
  if (c->count == CONTROL_MAX_CLIENTS || !socket_peer_allowed (fd)) {
    close (fd);
    return;
  }
  s = session_new (c, fd);
  if (s == NULL)
    return;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
  c->sessions[c->count++] = s;
}

/* Returns false if it failed for another reason than that nobody is there. */
static bool
accept_all (struct control *c)
{
  int fd;

  for (;;) {
    fd = socket_accept (&c->socket);
    if (fd >= 0)
      add_session (c, fd);
    else if (fd != -EINTR && fd != -ECONNABORTED)
      return fd == -EAGAIN;
  }
}

/* The first two are ours; then one for each session, in their order. */
static int
prepare_poll (struct control *c, struct pollfd *fds, bool accepting)
{
  int timeout_ms = accepting ? -1 : ACCEPT_RETRY_MS;
  unsigned i;
  int t;

  fds[0] = (struct pollfd) { .fd = c->wake, .events = POLLIN };
  fds[1] = (struct pollfd) { .fd = accepting ? c->socket.fd : -1,
                             .events = POLLIN };
  for (i = 0; i < c->count; i++) {
    fds[i + 2].revents = 0;
    t = session_poll (c->sessions[i], &fds[i + 2].fd, &fds[i + 2].events);
    if (t >= 0 && (timeout_ms < 0 || t < timeout_ms))
      timeout_ms = t;
  }
  return timeout_ms;
}

static void
serve (void *opaque)
{
  struct control *c = opaque;
  struct pollfd fds[2 + CONTROL_MAX_CLIENTS];
  bool accepting = true;
  int timeout_ms;

  while (!is_stopping (c)) {
    timeout_ms = prepare_poll (c, fds, accepting);
    if (poll (fds, c->count + 2, timeout_ms) < 0)
      continue;                 /* EINTR, or ENOMEM: try again */
    drain_wake (c);

    run_sessions (c, fds + 2);
    accepting = accept_all (c);
  }

  while (c->count > 0) {
    session_run (c->sessions[c->count - 1], 0);
    remove_session (c, c->count - 1);
  }
}

int
control_start (struct control *c, struct mirror *m)
{
  int r;

  c->mirror = m;
  r = thread_start (&c->thread, "mirror-control", serve, c);
  c->started = r == 0;
  return r;
}

void
control_stop (struct control *c)
{
  if (!c->started)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
    c->stopping = true;
  }
  control_wake (c);
  thread_join (&c->thread);
  c->started = false;
}

void
control_free (struct control *c)
{
  if (c == NULL)
    return;
  control_stop (c);
  control_release_events (c);
  socket_close (&c->socket);
  close (c->wake);
  mutex_destroy (&c->lock);
  free (c);
}
