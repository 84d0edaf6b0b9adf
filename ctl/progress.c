/* SPDX-License-Identifier: BSD-3-Clause */
/* See progress.h. */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "progress.h"
#include "size.h"

#define BAR_WIDTH 30
#define LINE_MAX_BYTES 160

static const char *
word (json_t *object, const char *name)
{
  const char *s = json_string_value (json_object_get (object, name));

  return s ? s : "";
}

static uint64_t
number (json_t *object, const char *name)
{
  return (uint64_t) json_integer_value (json_object_get (object, name));
}

void
progress_init (struct progress *p, FILE *out, bool live)
{
  *p = (struct progress) { .out = out };
  p->live = live && isatty (fileno (out));
}

void
progress_clear (struct progress *p)
{
  if (p->drawn)
    fputs ("\033[K", p->out);
  p->drawn = false;
  fflush (p->out);
}

void
progress_say (struct progress *p, const char *fmt, ...)
{
  va_list args;

  progress_clear (p);
  va_start (args, fmt);
  vfprintf (p->out, fmt, args);
  va_end (args);
  fputc ('\n', p->out);
  fflush (p->out);
}

void
progress_pivoted (struct progress *p, uint64_t pause_us)
{
  p->pivoted = true;
  progress_say (p, "pivoted   clients have been moved to the target, they were"
                " held for %.3f ms", (double) pause_us / 1000);
}

/*-- lines --------------------------------------------------------------*/

static void
tell_end (struct progress *p, json_t *last)
{
  const json_int_t when = json_integer_value (json_object_get (last, "time"));
  const bool ended = json_is_object (last);

  if (ended && (!p->ended || p->last_job != when))
    progress_say (p, "mirror    %s%s%s", word (last, "end"),
                  word (last, "error")[0] ? ": " : "", word (last, "error"));
  p->ended = ended;
  p->last_job = when;
}

static void
tell (struct progress *p, json_t *mirror)
{
  const bool ready = json_is_true (json_object_get (json_object_get
                                                    (mirror, "job"), "ready"));
  const bool pivoted = json_is_true (json_object_get (mirror, "pivoted"));

  if (ready && !p->ready)
    progress_say (p, "ready     source and target have been equal");
  if (pivoted && !p->pivoted)
    progress_say (p, "pivoted   clients have been moved to the target");
  tell_end (p, json_object_get (mirror, "last-job"));
  p->ready = ready;
  p->pivoted |= pivoted;
}

/*-- the line that is drawn ---------------------------------------------*/

static int
columns (const struct progress *p)
{
  struct winsize ws;

  if (ioctl (fileno (p->out), TIOCGWINSZ, &ws) < 0 || ws.ws_col == 0)
    return 80;
  return ws.ws_col;
}

/* "[####    ]  45.1%  1.5 GiB left", in LINE_MAX_BYTES. */
static int
format_bar (json_t *job, char *line)
{
  const uint64_t len = number (job, "len"), offset = number (job, "offset");
  const double part = len > 0 ? (double) offset / (double) len : 1;
  char bar[BAR_WIDTH + 1], left[SIZE_TEXT_MAX];

  memset (bar, ' ', BAR_WIDTH);
  memset (bar, '#', (size_t) (part * BAR_WIDTH));
  bar[BAR_WIDTH] = '\0';
  /* Never 100 % while there is something left. */
  return snprintf (line, LINE_MAX_BYTES, "[%s] %5.1f%%  %s left", bar,
                   offset < len && part > 0.999 ? 99.9 : part * 100,
                   size_text (len - offset, left));
}

/* Speed and the time that it will take, where they are known. */
static int
format_rate (json_t *mirror, char *text, size_t max)
{
  json_t *rate = json_object_get (mirror, "copy-bytes-per-second");
  json_t *eta = json_object_get (mirror, "eta-seconds");
  char speed[SIZE_TEXT_MAX];
  uint64_t s;
  int n = 0;

  if (json_is_number (rate))
    n = snprintf (text, max, "  %s/s",
                  size_text ((uint64_t) json_number_value (rate), speed));
  if (json_is_number (eta)) {
    s = (uint64_t) json_number_value (eta);
    n += snprintf (text + n, max - (size_t) n, "  %" PRIu64 ":%02u:%02u to go",
                   s / 3600, (unsigned) (s / 60 % 60), (unsigned) (s % 60));
  }
  return n;
}

static void
draw (struct progress *p, json_t *mirror)
{
  json_t *job = json_object_get (mirror, "job");
  char line[LINE_MAX_BYTES];
  int n;

  /* Started by a shell that has something else in the foreground now? */
  if (tcgetpgrp (fileno (p->out)) != getpgrp ())
    return;
  if (json_is_object (job)) {
    n = format_bar (job, line);
    if (!json_is_true (json_object_get (job, "ready")))
      n += format_rate (mirror, line + n, sizeof line - (size_t) n);
    snprintf (line + n, sizeof line - (size_t) n, "  %s",
              word (mirror, "convergence"));
  }
  else
    snprintf (line, sizeof line, "clients: %" PRIu64 "%s, no mirror is running",
              number (mirror, "clients"),
              p->pivoted ? ", on the target" : "");
  n = columns (p) - 1;
  fprintf (p->out, "%.*s\033[K\r", n, line);
  fflush (p->out);
  p->drawn = true;
}

void
progress_show (struct progress *p, json_t *mirror)
{
  tell (p, mirror);
  if (p->live)
    draw (p, mirror);
}
