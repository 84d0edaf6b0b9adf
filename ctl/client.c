/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines come in through one buffer.  An event is hardly ever looked at: that
 * one came is all that is told, since whoever waits asks for the whole status
 * then.  Events are on from the negotiation, so that a status asked for after
 * it cannot miss a change.
 */

#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "client.h"
#include "errtext.h"
#include "qmp.h"

struct client {
  int fd;
  char *in;                     /* room for one line and NUL */
  size_t length;                /* bytes in it */
  size_t line;                  /* of these, of the line given out last */
  bool event;                   /* one has come */
  char error[CLIENT_ERROR_MAX];
};

#define IN_BYTES (2 * QMP_MAX_LINE)

int64_t
client_now_ms (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t
deadline_of (int timeout_ms)
{
  return timeout_ms < 0 ? INT64_MAX : client_now_ms () + timeout_ms;
}

const char *
client_error (const struct client *c)
{
  return c->error;
}

static int
fail (struct client *c, int err)
{
  if (err == ETIMEDOUT)
    snprintf (c->error, sizeof c->error, "the server does not answer");
  else if (err == ECONNRESET || err == EPIPE)
    snprintf (c->error, sizeof c->error, "the server has closed the"
              " connection");
  else
    snprintf (c->error, sizeof c->error, "%s", error_text (err));
  return -err;
}

/* Wait for fd to become ready.  0, -ETIMEDOUT, -errno. */
static int
wait_fd (int fd, short events, int64_t deadline_ms)
{
  struct pollfd pfd = { .fd = fd, .events = events };
  int64_t left;
  int r;

  for (;;) {
    left = -1;
    if (deadline_ms != INT64_MAX) {
      left = deadline_ms - client_now_ms ();
      if (left < 0)
        left = 0;
      if (left > INT32_MAX)
        left = INT32_MAX;
    }
    r = poll (&pfd, 1, (int) left);
    if (r > 0)
      return 0;
    if (r == 0)
      return -ETIMEDOUT;
    if (errno != EINTR)
      return -errno;
  }
}

/*-- finding the socket -------------------------------------------------*/

/* How long connect may wait for a place in the server's queue. */
static int
limit_connect (int fd, int64_t deadline_ms)
{
  struct timeval tv = { .tv_sec = 0 };  /* no limit */
  int64_t left;

  if (deadline_ms != INT64_MAX) {
    left = deadline_ms - client_now_ms ();
    if (left < 1)
      left = 1;
    tv.tv_sec = left / 1000;
    tv.tv_usec = left % 1000 * 1000;
  }
  return setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv) < 0
    ? -errno : 0;
}

/* A connected, non-blocking socket, or -errno; -EAGAIN: a server listens there
 * but does not take connections, until the deadline (0: right now).
 *
 * It is the blocking connect that waits: for a Unix socket whose queue is full
 * a non-blocking one fails at once, and poll cannot tell when to try again.
 */
static int
connect_to (const char *path, int64_t deadline_ms)
{
  struct sockaddr_un sun = { .sun_family = AF_UNIX };
  const int flags = deadline_ms == 0 ? SOCK_NONBLOCK : 0;
  int fd, r;

  if (strlen (path) >= sizeof sun.sun_path)
    return -ENAMETOOLONG;
  strcpy (sun.sun_path, path);
  fd = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0)
    return -errno;
  do {
    r = deadline_ms == 0 ? 0 : limit_connect (fd, deadline_ms);
    if (r == 0 && connect (fd, (struct sockaddr *) &sun, sizeof sun) < 0)
      r = -errno;
  } while (r == -EINTR);
  if (r == 0 && fcntl (fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
    r = -errno;
  if (r == 0)
    return fd;
  close (fd);
  return r;
}

char *
client_directory (void)
{
  const char *run = getenv ("XDG_RUNTIME_DIR");
  char *dir;

  if (geteuid () == 0)
    return strdup ("/run/nbdmirror");
  if (run == NULL || run[0] == '\0' ||
      asprintf (&dir, "%s/nbdmirror", run) < 0)
    return NULL;
  return dir;
}

/* Add path to the list in error, which has one line each. */
static void
list (char *error, const char *path)
{
  const size_t n = strlen (error);

  snprintf (error + n, CLIENT_ERROR_MAX - n, "\n  %s", path);
}

static char *
search (const char *dir, char *error)
{
  DIR *d = opendir (dir);
  struct dirent *e;
  char *found = NULL, *path;
  unsigned count = 0;
  size_t n;
  int fd;

  snprintf (error, CLIENT_ERROR_MAX, "several servers are running; name one"
            " with -S:");
  while (d && (e = readdir (d)) != NULL) {
    n = strlen (e->d_name);
    if (n < 5 || strcmp (e->d_name + n - 5, ".sock") != 0 ||
        asprintf (&path, "%s/%s", dir, e->d_name) < 0)
      continue;
    fd = connect_to (path, 0);
    if (fd >= 0 || fd == -EAGAIN) {
      list (error, path);
      if (count++ == 0) {
        found = path;
        path = NULL;
      }
    }
    if (fd >= 0)
      close (fd);
    free (path);
  }
  if (d)
    closedir (d);
  if (count == 1)
    return found;
  if (count == 0)
    snprintf (error, CLIENT_ERROR_MAX, "no server is running: no live control"
              " socket in %s, and none given with -S or NBDMIRROR_SOCK", dir);
  free (found);
  return NULL;
}

char *
client_find (const char *given, char *error)
{
  CLEANUP_FREE char *dir = NULL;
  char *path;

  if (given == NULL)
    given = getenv ("NBDMIRROR_SOCK");
  if (given && given[0]) {
    path = strdup (given);
    if (path == NULL)
      snprintf (error, CLIENT_ERROR_MAX, "out of memory");
    return path;
  }
  dir = client_directory ();
  if (dir == NULL) {
    snprintf (error, CLIENT_ERROR_MAX, "no control socket given: use -S or"
              " NBDMIRROR_SOCK (XDG_RUNTIME_DIR is not set)");
    return NULL;
  }
  return search (dir, error);
}

/*-- lines --------------------------------------------------------------*/

/* Text and a newline, in one piece: a server that ends may be gone before a
 * second one.
 */
static int
send_line (struct client *c, const char *line, int64_t deadline_ms)
{
  CLEANUP_FREE char *whole = NULL;
  const char *text;
  size_t left;
  ssize_t n;
  int r;

  if (asprintf (&whole, "%s\n", line) < 0) {
    whole = NULL;
    return fail (c, ENOMEM);
  }
  text = whole;
  left = strlen (whole);
  while (left > 0) {
    n = send (c->fd, text, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      text += n;
      left -= n;
      continue;
    }
    if (errno == EINTR)
      continue;
    r = errno == EAGAIN ? wait_fd (c->fd, POLLOUT, deadline_ms) : -errno;
    if (r < 0)
      return fail (c, -r);
  }
  return 0;
}

/* The next line, without its end, in c->in.  It is gone with the next call. */
static int
next_line (struct client *c, int64_t deadline_ms)
{
  char *end;
  ssize_t n;
  int r;

  c->length -= c->line;
  memmove (c->in, c->in + c->line, c->length);
  c->line = 0;

  while ((end = memchr (c->in, '\n', c->length)) == NULL) {
    if (c->length == IN_BYTES)
      return fail (c, EMSGSIZE);
    r = wait_fd (c->fd, POLLIN, deadline_ms);
    if (r < 0)
      return fail (c, -r);
    n = recv (c->fd, c->in + c->length, IN_BYTES - c->length, MSG_DONTWAIT);
    if (n == 0)
      return fail (c, ECONNRESET);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return fail (c, errno);
    if (n > 0)
      c->length += n;
  }
  c->line = end + 1 - c->in;
  *end = '\0';
  if (end > c->in && end[-1] == '\r')
    end[-1] = '\0';
  return 0;
}

/* The next line that is no event, parsed. */
static int
next_answer (struct client *c, int64_t deadline_ms, json_t **answer)
{
  json_t *root;
  int r;

  for (;;) {
    r = next_line (c, deadline_ms);
    if (r < 0)
      return r;
    root = json_loads (c->in, 0, NULL);
    if (root == NULL)
      return fail (c, EPROTO);
    if (json_object_get (root, "event") == NULL)
      break;
    c->event = true;
    json_decref (root);
  }
  *answer = root;
  return 0;
}

/* -EREMOTEIO and its text if answer is an error. */
static int
check_answer (struct client *c, json_t *answer)
{
  json_t *error = json_object_get (answer, "error");
  const char *desc = json_string_value (json_object_get (error, "desc"));

  if (error == NULL)
    return 0;
  snprintf (c->error, sizeof c->error, "%s", desc ? desc : "unknown error");
  return -EREMOTEIO;
}

/*-- commands -----------------------------------------------------------*/

int
client_command (struct client *c, const char *name, json_t *args,
                int timeout_ms, json_t **result)
{
  const int64_t deadline_ms = deadline_of (timeout_ms);
  json_t *request = json_pack ("{s:s,s:o}", "execute", name, "arguments",
                               args ? args : json_object ());
  CLEANUP_FREE char *text = json_dumps (request, JSON_ENSURE_ASCII);
  json_t *answer;
  int r;

  *result = NULL;
  json_decref (request);
  if (text == NULL)
    return fail (c, ENOMEM);
  r = send_line (c, text, deadline_ms);
  if (r == 0)
    r = next_answer (c, deadline_ms, &answer);
  if (r < 0)
    return r;

  r = check_answer (c, answer);
  if (r == 0) {
    *result = json_incref (json_object_get (answer, "return"));
    if (*result == NULL)
      r = fail (c, EPROTO);
  }
  json_decref (answer);
  return r;
}

int
client_raw (struct client *c, const char *text, int timeout_ms, char **answer)
{
  const int64_t deadline_ms = deadline_of (timeout_ms);
  json_t *root;
  int r;

  *answer = NULL;
  r = send_line (c, text, deadline_ms);
  if (r == 0)
    r = next_answer (c, deadline_ms, &root);
  if (r < 0)
    return r;

  r = check_answer (c, root);
  json_decref (root);
  *answer = strdup (c->in);
  return *answer ? r : fail (c, ENOMEM);
}

int
client_wait_event (struct client *c, int timeout_ms)
{
  int r = 0;

  /* One that came along with an answer counts, too. */
  if (!c->event)
    r = next_line (c, deadline_of (timeout_ms));
  c->event = false;
  if (r < 0)
    return r;
  do                            /* the rest, without waiting */
    r = next_line (c, 0);
  while (r == 0);
  return r == -ETIMEDOUT ? 0 : r;
}

int
client_next_event (struct client *c, int timeout_ms, json_t **event)
{
  const int64_t deadline_ms = deadline_of (timeout_ms);
  json_t *root;
  int r;

  while ((r = next_line (c, deadline_ms)) == 0) {
    root = json_loads (c->in, 0, NULL);
    if (root == NULL)
      return fail (c, EPROTO);
    if (json_object_get (root, "event")) {
      *event = root;
      return 0;
    }
    json_decref (root);
  }
  return r;
}

int
client_fd (const struct client *c)
{
  return c->fd;
}

bool
client_has_line (const struct client *c)
{
  return memchr (c->in + c->line, '\n', c->length - c->line) != NULL;
}

pid_t
client_server (const struct client *c)
{
  struct ucred peer = { .pid = 0 };
  socklen_t len = sizeof peer;

  return getsockopt (c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? 0
    : peer.pid;
}

int
client_wait_end (struct client *c, int timeout_ms)
{
  const int64_t deadline_ms = deadline_of (timeout_ms);
  int r;

  do
    r = next_line (c, deadline_ms);
  while (r == 0);
  return r == -ETIMEDOUT ? r : 0;
}

/*-- life ---------------------------------------------------------------*/

int
client_open (const char *path, int timeout_ms, struct client **client,
             char *error)
{
  const int64_t deadline_ms = deadline_of (timeout_ms);
  struct client *c = calloc (1, sizeof *c);
  char *in = malloc (IN_BYTES + 1);
  json_t *json = NULL;
  int r;

  if (c == NULL || in == NULL) {
    free (c);
    free (in);
    snprintf (error, CLIENT_ERROR_MAX, "out of memory");
    return -ENOMEM;
  }
  c->in = in;
  c->fd = connect_to (path, deadline_ms);
  if (c->fd < 0) {
    r = c->fd == -EAGAIN ? -ETIMEDOUT : c->fd;
    snprintf (error, CLIENT_ERROR_MAX, "%s: %s", path,
              r == -ECONNREFUSED ? "no server is listening there"
              : r == -ETIMEDOUT ? "the server does not answer"
              : error_text (-r));
    goto out;
  }

  r = next_line (c, deadline_ms);
  if (r == 0) {
    json = json_loads (c->in, 0, NULL);
    if (json_object_get (json, "QMP") == NULL)
      r = fail (c, EPROTO);
    json_decref (json);
  }
  if (r == 0) {
    r = client_command (c, "qmp_capabilities", NULL, timeout_ms, &json);
    json_decref (json);
  }
  if (r < 0)
    snprintf (error, CLIENT_ERROR_MAX, "%.100s: %.900s", path, c->error);

 out:
  if (r < 0)
    client_close (c);
  else
    *client = c;
  return r;
}

void
client_close (struct client *c)
{
  if (c == NULL)
    return;
  if (c->fd >= 0)
    close (c->fd);
  free (c->in);
  free (c);
}
