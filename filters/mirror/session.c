/* SPDX-License-Identifier: BSD-3-Clause */
/* One client of the control socket.
 *
 * Input is taken only as long as its answers go out: a client that does not
 * read is not read from either.  Events cannot be stopped like that; when too
 * many lines wait, the client is dropped.
 *
 * A session that must end because of what the client sent (`closing`) still
 * sends what is queued, ends its side, and throws away input for a moment:
 * closing at once would reset the connection under the client's feet, and the
 * error would never be seen.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "control-impl.h"
#include "errtext.h"

#define INPUT_BYTES 4096
#define READS_AT_ONCE 16        /* then it is the turn of others */
#define BACKLOG_BYTES 65536u    /* unsent: no more commands for now */
#define WORD_MS 100             /* a bare word ends by itself after that */
#define LINGER_MS 1000          /* most time for closing */

/* A command that waits.  Its thread owns all but thread. */
struct waiting {
  struct session *session;
  struct qmp_request req;
  struct params params;         /* blockdev-mirror */
  struct thread thread;
  bool done;                    /* under control's lock */
};

struct session {
  struct control *control;
  int fd;
  struct framer framer;
  char in[INPUT_BYTES];
  size_t in_start, in_end;      /* in[in_start..in_end) is to be fed */
  bool eof;                     /* no more input will come */
  bool shut;                    /* no more output will go */
  uint64_t word_ns, closing_ns; /* since when */
  struct waiting *waiting;      /* or NULL */

  /* Under control's lock. */
  bool negotiated;
  bool broken;                  /* of no use any more */
  bool closing;                 /* set by the server's thread only */
  char *out;                    /* out[out_start..out_end) is unsent */
  size_t out_start, out_end, out_size;
  unsigned lines;               /* unsent ones */
};

static uint64_t
now_ns (void)
{
  return clock_monotonic.now_ns (&clock_monotonic);
}

/*-- output -------------------------------------------------------------*/

void
session_queue (struct session *s, char *line)
{
  size_t n = line ? strlen (line) : 0, size;
  char *p;

  if (line == NULL || s->broken || s->lines == CONTROL_MAX_LINES) {
    s->broken = true;
    goto out;
  }
  if (s->out_end + n > s->out_size && s->out_start > 0) {
    memmove (s->out, s->out + s->out_start, s->out_end - s->out_start);
    s->out_end -= s->out_start;
    s->out_start = 0;
  }
  if (s->out_end + n > s->out_size) {
    size = (s->out_end + n) * 2;
    p = realloc (s->out, size);
    if (p == NULL) {
      s->broken = true;
      goto out;
    }
    s->out = p;
    s->out_size = size;
  }
  memcpy (s->out + s->out_end, line, n);
  s->out_end += n;
  s->lines++;

 out:
  free (line);
}

bool
session_wants_events (const struct session *s)
{
  return s->negotiated && !s->closing;
}

static void
queue_locking (struct session *s, char *line)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);

  session_queue (s, line);
}

static size_t
backlog (struct session *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);

  return s->out_end - s->out_start;
}

static bool
is_broken (struct session *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);

  return s->broken;
}

static void
set_broken (struct session *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);

  s->broken = true;
}

/* Send what can be sent now. */
static void
flush (struct session *s)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);
  ssize_t n, i;

  while (!s->broken && s->out_start < s->out_end) {
    n = send (s->fd, s->out + s->out_start, s->out_end - s->out_start,
              MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
      if (errno == EINTR)
        continue;
      s->broken = errno != EAGAIN;
      return;
    }
    for (i = 0; i < n; i++)
      s->lines -= s->out[s->out_start + i] == '\n';
    s->out_start += n;
  }
  /* All sent: a large buffer is not kept. */
  free (s->out);
  s->out = NULL;
  s->out_start = s->out_end = s->out_size = 0;
}

/*-- commands -----------------------------------------------------------*/

static void
answer_error (struct session *s, const struct qmp_error *error, json_t *id)
{
  queue_locking (s, qmp_error_line (error, id));
}

static void
run_waiting (void *opaque)
{
  struct waiting *w = opaque;
  struct session *s = w->session;
  struct control *c = s->control;
  struct qmp_error error;
  json_t *result = command_wait (c, &w->req, &w->params, &error);
  char *line = result ? qmp_return_line (result, w->req.id)
    : qmp_error_line (&error, w->req.id);

  qmp_request_clear (&w->req);
  params_clear (&w->params);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);
    session_queue (s, line);
    w->done = true;
  }
  control_wake (c);
}

/* Takes over req, if it returns 0. */
static int
begin_waiting (struct session *s, struct qmp_request *req,
               struct qmp_error *error)
{
  struct waiting *w = calloc (1, sizeof *w);
  int r = 0;

  if (w == NULL) {
    qmp_fail (error, QMP_GENERIC_ERROR, "Out of memory");
    return -ENOMEM;
  }
  if (req->verb == QMP_blockdev_mirror)
    r = command_mirror_params (s->control, req, &w->params, error);
  if (r < 0) {
    free (w);
    return r;
  }
  w->session = s;
  w->req = *req;
  r = thread_start (&w->thread, "mirror-command", run_waiting, w);
  if (r < 0) {
    qmp_fail (error, QMP_GENERIC_ERROR, "Cannot start a thread: %s",
              error_text (-r));
    params_clear (&w->params);
    free (w);
    return r;
  }
  s->waiting = w;
  memset (req, 0, sizeof *req);
  return 0;
}

static void
reap_waiting (struct session *s, bool wait)
{
  if (s->waiting == NULL)
    return;
  if (!wait) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);
    if (!s->waiting->done)
      return;
  }
  thread_join (&s->waiting->thread);
  free (s->waiting);
  s->waiting = NULL;
}

static void
run_command (struct session *s, struct qmp_request *req)
{
  struct control *c = s->control;
  struct qmp_error error;
  json_t *result;

  if (!command_events_first (c, req))
    control_hold_events (c);
  result = command_run (c, req, &error);
  queue_locking (s, result ? qmp_return_line (result, req->id)
                 : qmp_error_line (&error, req->id));
  control_release_events (c);

  if (result && req->verb == QMP_quit) {
    control_end_events (c);
    flush (s);                  /* the answer is out before the end begins */
    c->ops->quit (c->opaque);
  }
}

/* The framer has a value. */
static void
execute (struct session *s)
{
  struct qmp_request req;
  struct qmp_error error;
  int r = qmp_parse (s->framer.text, &req, &error);

  if (r == -EBADMSG)
    framer_reject (&s->framer);
  if (r == 0)
    r = qmp_check (&req, s->negotiated, &error);
  if (r < 0)
    answer_error (s, &error, req.id);
  else if (req.verb == QMP_qmp_capabilities) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);
    session_queue (s, qmp_return_line (json_object (), req.id));
    s->negotiated = true;
  }
  else if (command_waits (req.verb)) {
    if (begin_waiting (s, &req, &error) < 0)
      answer_error (s, &error, req.id);
  }
  else
    run_command (s, &req);
  qmp_request_clear (&req);
}

/*-- input --------------------------------------------------------------*/

static void
begin_closing (struct session *s)
{
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&s->control->lock);
    s->closing = true;
  }
  s->closing_ns = now_ns ();
  s->in_start = s->in_end = 0;
  framer_clear (&s->framer);
}

static void
handle (struct session *s, enum framer_result r)
{
  struct qmp_error error;

  switch (r) {
  case FRAMER_VALUE:
    execute (s);
    break;
  case FRAMER_ERROR:
  case FRAMER_FATAL:
    qmp_fail (&error, QMP_GENERIC_ERROR, "%s", s->framer.error);
    answer_error (s, &error, NULL);
    if (r == FRAMER_FATAL)
      begin_closing (s);
    break;
  case FRAMER_MORE:
    break;
  }
}

static bool
may_execute (struct session *s)
{
  return s->waiting == NULL && !s->closing && backlog (s) < BACKLOG_BYTES;
}

static void
feed (struct session *s)
{
  enum framer_result r;
  size_t used;

  while (s->in_start < s->in_end && may_execute (s) && !is_broken (s)) {
    r = framer_feed (&s->framer, s->in + s->in_start,
                     s->in_end - s->in_start, &used);
    s->in_start += used;
    handle (s, r);
  }
}

/* Read until there is no more, or it is somebody else's turn. */
static void
read_input (struct session *s)
{
  unsigned i;
  ssize_t n;

  for (i = 0; i < READS_AT_ONCE && !s->eof && s->in_start == s->in_end &&
         (s->closing || may_execute (s)); i++) {
    n = recv (s->fd, s->in, sizeof s->in, MSG_DONTWAIT);
    if (n > 0 && !s->closing) {
      s->in_start = 0;
      s->in_end = n;
      s->word_ns = now_ns ();
      feed (s);
    }
    else if (n == 0) {
      s->eof = true;
      handle (s, framer_end_word (&s->framer));
    }
    else if (n < 0 && errno == EAGAIN) {
      framer_pause (&s->framer);
      break;
    }
    else if (n < 0 && errno != EINTR) {
      set_broken (s);
      break;
    }
  }
}

/*-- life ---------------------------------------------------------------*/

struct session *
session_new (struct control *c, int fd)
{
  struct session *s = calloc (1, sizeof *s);

  if (s == NULL) {
    close (fd);
    return NULL;
  }
  s->control = c;
  s->fd = fd;
  framer_init (&s->framer);
  queue_locking (s, qmp_greeting_line (c->package));
  return s;
}

void
session_free (struct session *s)
{
  reap_waiting (s, true);
  framer_clear (&s->framer);
  free (s->out);
  close (s->fd);
  free (s);
}

static int
ms_left (uint64_t since_ns, unsigned ms)
{
  const uint64_t past_ms = (now_ns () - since_ns) / 1000000;

  return past_ms < ms ? (int) (ms - past_ms) + 1 : 0;
}

int
session_poll (struct session *s, int *fd, short *events)
{
  const bool pending = s->in_start < s->in_end;

  *fd = -1;
  *events = 0;
  if (is_broken (s))
    return s->waiting ? -1 : 0; /* nothing but its end matters */

  if (!s->eof && (s->closing ||
                  (!pending && may_execute (s))))
    *events |= POLLIN;
  if (backlog (s) > 0)
    *events |= POLLOUT;
  /* Else a client that has hung up would be reported again and again. */
  if (*events)
    *fd = s->fd;

  if (pending && may_execute (s))
    return 0;
  if (s->closing)
    return ms_left (s->closing_ns, LINGER_MS);
  if (framer_in_word (&s->framer))
    return ms_left (s->word_ns, WORD_MS);
  return -1;
}

/* Has everything been done that will ever be? */
static bool
is_over (struct session *s)
{
  if (s->waiting)
    return false;               /* freeing would wait, too */
  if (is_broken (s))
    return true;
  if (s->closing && ms_left (s->closing_ns, LINGER_MS) == 0)
    return true;
  if (backlog (s) > 0)
    return false;
  if (s->closing && !s->shut) {
    shutdown (s->fd, SHUT_WR);
    s->shut = true;
  }
  return s->eof && s->in_start == s->in_end;
}

bool
session_run (struct session *s, short revents)
{
  reap_waiting (s, false);
  flush (s);
  feed (s);
  if (revents & (POLLIN | POLLHUP | POLLERR))
    read_input (s);
  if (framer_in_word (&s->framer) && ms_left (s->word_ns, WORD_MS) == 0)
    handle (s, framer_end_word (&s->framer));
  flush (s);
  return !is_over (s);
}
