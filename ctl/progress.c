/* SPDX-License-Identifier: BSD-3-Clause */
/* See progress.h. */

#include <config.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "look.h"
#include "progress.h"
#include "screen.h"
#include "size.h"
#include "terminal.h"

#define BAR_WIDTH 30

void
progress_init (struct progress *p, FILE *out, bool live)
{
  *p = (struct progress) { .out = out };
  p->live = live && terminal_can_draw ();
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
tell_end (struct progress *p, const struct look *look, json_t *mirror)
{
  const uint64_t when = look_number (json_object_get (mirror, "last-job"),
                                     "time");

  if (look->have_last_job && (!p->ended || p->last_job != when))
    progress_say (p, "mirror    %s%s%s", look->last_end,
                  look->last_error[0] ? ": " : "", look->last_error);
  p->ended = look->have_last_job;
  p->last_job = when;
}

static void
tell (struct progress *p, const struct look *look, json_t *mirror)
{
  char left[SIZE_TEXT_MAX], size[SIZE_TEXT_MAX];

  if (look->have_job && look->resumed && !p->resumed)
    progress_say (p, "resumed   by the intent file, %s of %s may differ",
                  size_text (look->len - look->offset, left),
                  size_text (look->source_size, size));
  p->resumed = look->have_job && look->resumed;
  if (look->ready && !p->ready)
    progress_say (p, "ready     source and target have been equal");
  if (look->pivoted && !p->pivoted)
    progress_say (p, "pivoted   clients have been moved to the target");
  tell_end (p, look, mirror);
  p->ready = look->ready;
  p->pivoted |= look->pivoted;
}

/*-- the line that is drawn ---------------------------------------------*/

/* "[####    ] ", or nothing where there is no room, in BAR_WIDTH + 4 bytes. */
static void
format_bar (const struct look *look, unsigned columns, char *bar)
{
  const double part = look->len > 0
    ? (double) look->offset / (double) look->len : 1;

  bar[0] = '\0';
  if (!look->have_job || columns < 2 * BAR_WIDTH)
    return;
  memset (bar + 1, ' ', BAR_WIDTH);
  memset (bar + 1, '#', (size_t) (part * BAR_WIDTH));
  bar[0] = '[';
  strcpy (bar + 1 + BAR_WIDTH, "] ");
}

static void
draw (struct progress *p, const struct look *look)
{
  struct screen_style style = { .columns = 80 };
  char bar[BAR_WIDTH + 4];
  char *line;

  /* Started by a shell that has something else in the foreground now? */
  if (tcgetpgrp (fileno (p->out)) != getpgrp ())
    return;
  terminal_style (&style);
  style.color = false;          /* the last column is for the cursor */
  style.columns = style.columns > 1 ? style.columns - 1 : 80;
  format_bar (look, style.columns, bar);
  style.columns -= (unsigned) strlen (bar);
  line = screen_line (look, &style);
  fprintf (p->out, "%s%s\033[K\r", bar, line ? line : "");
  free (line);
  fflush (p->out);
  p->drawn = true;
}

void
progress_show (struct progress *p, json_t *mirror)
{
  struct look look;

  look_fill (&look, mirror);
  tell (p, &look, mirror);
  if (p->live)
    draw (p, &look);
}
