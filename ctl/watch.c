/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror watch
 *
 * Look at the status every now and then, and soon after something has happened;
 * draw it, or print a line where there is no terminal that can be drawn on.
 * Events only say that it is time to look.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "ctl.h"
#include "look.h"
#include "screen.h"
#include "terminal.h"

/* However much happens, not more often than that. */
#define SOON_MS 100

struct watch {
  struct client *client;
  int64_t interval_ms;
  bool draw;
  json_t *mirror;               /* the last answer, or NULL */
  struct screen_history dirty;
  char *line;                   /* the last one that was printed */

  int64_t looked_ms;            /* when */
  int64_t due_ms;               /* the next look that is not for an event */
  bool event;                   /* something has happened since */
};

/* Milliseconds, or -1 after a line on stderr. */
static int64_t
parse_interval (const char *text)
{
  double s;
  char *end;

  if (text == NULL)
    return 1000;
  s = strtod (text, &end);
  if (end == text || *end != '\0' || !(s >= 0.1 && s <= 3600)) {
    complain ("watch: --interval %s: must be a number of seconds from 0.1 to"
              " 3600", text);
    return -1;
  }
  return (int64_t) (s * 1000);
}

static void
draw (struct watch *w)
{
  struct screen_style style;
  struct look look;
  CLEANUP_FREE char *text = NULL;

  terminal_style (&style);
  look_fill (&look, w->mirror);
  text = screen_text (&look, &w->dirty, &style);
  if (text)
    terminal_draw (text);
}

/* A line for every interval, and in between for what has changed. */
static int
print_line (struct watch *w, bool due)
{
  struct screen_style style;
  struct look look;
  const time_t now = time (NULL);
  struct tm tm;
  char when[32];
  char *line;

  terminal_style (&style);
  style.columns = 0;
  look_fill (&look, w->mirror);
  line = screen_line (&look, &style);
  if (line == NULL)
    return -ENOMEM;
  if (!due && w->line && strcmp (line, w->line) == 0) {
    free (line);
    return 0;
  }
  free (w->line);
  w->line = line;
  localtime_r (&now, &tm);
  strftime (when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
  if (printf ("%s %s\n", when, line) < 0 || fflush (stdout) == EOF)
    return errno ? -errno : -EIO;
  return 0;
}

/* Ask and show.  Returns the exit status, STATUS_OK to go on. */
static int
ask_and_show (struct watch *w)
{
  const bool due = client_now_ms () >= w->due_ms;
  json_t *mirror;
  int r = client_command (w->client, "query-mirror", NULL, ANSWER_MS,
                          &mirror);

  if (r < 0) {
    terminal_leave ();
    complain ("watch: %s", client_error (w->client));
    return r == -EREMOTEIO ? STATUS_FAILED : STATUS_NO_PROXY;
  }
  json_decref (w->mirror);
  w->mirror = mirror;
  w->looked_ms = client_now_ms ();
  w->event = false;
  if (due) {
    w->due_ms = w->looked_ms + w->interval_ms;
    screen_remember (&w->dirty,
                     look_number (mirror, "dirty-bytes-per-second"));
  }
  if (w->draw)
    draw (w);
  else if ((r = print_line (w, due)) < 0) {
    complain ("watch: cannot write: %s", strerror (-r));
    return STATUS_FAILED;
  }
  return STATUS_OK;
}

/* Until it is time to look again: 1; 0: the user has seen enough. */
static int
rest (struct watch *w)
{
  struct pollfd fds[1 + TERMINAL_FDS];
  int64_t until, left;

  for (;;) {
    /* Also what has come along with an answer. */
    if (client_wait_event (w->client, 0) == 0)
      w->event = true;
    until = w->event && w->looked_ms + SOON_MS < w->due_ms
      ? w->looked_ms + SOON_MS : w->due_ms;
    left = until - client_now_ms ();
    if (left <= 0)
      return 1;

    fds[0] = (struct pollfd) { .fd = w->event ? -1 : client_fd (w->client),
                               .events = POLLIN };
    fds[1].fd = fds[2].fd = -1;
    fds[1].revents = fds[2].revents = 0;
    if (w->draw)
      terminal_fds (fds + 1);
    if (poll (fds, 1 + TERMINAL_FDS, (int) left) <= 0)
      continue;
    if (fds[0].revents & (POLLHUP | POLLERR))
      return 1;                 /* asking will tell what is wrong */
    if (w->draw && (fds[1].revents || fds[2].revents)) {
      if (terminal_quit_pressed ())
        return 0;
      draw (w);
    }
  }
}

int
run_watch (const struct call *call)
{
  struct watch w = {
    .interval_ms = parse_interval (call_option (call, "--interval")),
    .draw = terminal_can_draw (),
  };
  int status;

  if (w.interval_ms < 0)
    return STATUS_FAILED;
  w.client = call_connect (call, ANSWER_MS, &status);
  if (w.client == NULL)
    return status;
  if (w.draw)
    terminal_enter ();
  do
    status = ask_and_show (&w);
  while (status == STATUS_OK && rest (&w));
  if (w.draw)
    terminal_leave ();
  client_close (w.client);
  json_decref (w.mirror);
  free (w.line);
  return status;
}
