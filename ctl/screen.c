/* SPDX-License-Identifier: BSD-3-Clause */
/* See screen.h. */

#include <config.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "screen.h"
#include "size.h"

#define LABEL 10                /* columns */
#define BAR_MAX 40
#define PERCENT 8               /* columns after the bar */
#define TIME_TEXT_MAX 32
#define ITEM_MAX 1600

enum color { PLAIN, BOLD, RED, GREEN, YELLOW };

static const char *const sgr[] = {
  [PLAIN] = "", [BOLD] = "\033[1m", [RED] = "\033[31m", [GREEN] = "\033[32m",
  [YELLOW] = "\033[33m",
};

struct out {
  FILE *f;
  const struct screen_style *style;
  unsigned column;              /* where the next character goes */
  bool first;                   /* no item in this row yet */
};

/*-- characters ---------------------------------------------------------*/

/* Bytes of the character at s, or 0 if it must not be shown as it is. */
static size_t
printable (const char *s, bool utf8)
{
  const unsigned char c = (unsigned char) s[0];
  size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4, i;

  if (n == 1)
    return c >= 0x20 && c != 0x7f;
  if (n == 0 || !utf8)
    return 0;
  for (i = 1; i < n; i++)
    if (((unsigned char) s[i] & 0xc0) != 0x80)
      return 0;
  /* U+0080 ... U+009F are control characters, too. */
  return c == 0xc2 && (unsigned char) s[1] < 0xa0 ? 0 : n;
}

/* What cannot be shown takes the place of one character. */
static size_t
skip (const char *s)
{
  size_t n = 1;

  while (((unsigned char) s[n] & 0xc0) == 0x80)
    n++;
  return n;
}

static unsigned
width (const char *s)
{
  unsigned n = 0;

  for (; *s; s += skip (s))
    n++;
  return n;
}

/* At most room columns of s; the last one says that it has been cut. */
static void
put_text (struct out *o, const char *s, unsigned room)
{
  const bool utf8 = o->style->utf8, cut = width (s) > room;
  unsigned left = cut ? room - 1 : room;
  size_t n;

  for (; *s && left > 0; s += skip (s), left--, o->column++) {
    n = printable (s, utf8);
    if (n == 0)
      fputc ('?', o->f);
    else
      fwrite (s, 1, n, o->f);
  }
  if (cut) {
    fputs (utf8 ? "\u2026" : "~", o->f);
    o->column++;
  }
}

static void
put_colored (struct out *o, enum color color, const char *s, unsigned room)
{
  const bool on = o->style->color && color != PLAIN;

  if (room == 0)
    return;
  if (on)
    fputs (sgr[color], o->f);
  put_text (o, s, room);
  if (on)
    fputs ("\033[0m", o->f);
}

static unsigned
room (const struct out *o)
{
  if (o->style->columns == 0)
    return ITEM_MAX;
  return o->style->columns > o->column ? o->style->columns - o->column : 0;
}

/*-- rows ---------------------------------------------------------------*/

static void
row (struct out *o, const char *label)
{
  o->column = 0;
  o->first = true;
  put_colored (o, BOLD, label, LABEL);
  for (; o->column < LABEL; o->column++)
    fputc (' ', o->f);
}

static void
end_row (struct out *o)
{
  fputc ('\n', o->f);
}

/* Where it has room: here, or at the beginning of a new line. */
static void __attribute__ ((__format__ (__printf__, 3, 4)))
item (struct out *o, enum color color, const char *fmt, ...)
{
  char text[ITEM_MAX];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);

  if (!o->first && width (text) + 3 > room (o)) {
    fputc (',', o->f);
    end_row (o);
    o->column = 0;
    put_text (o, "          ", LABEL);
  }
  else if (!o->first)
    put_text (o, ", ", 2);
  o->first = false;
  put_colored (o, color, text, room (o) - 1);   /* a comma may follow */
}

/*-- numbers ------------------------------------------------------------*/

/* Two units at most: a third would be noise. */
static const char *
seconds_text (int64_t s, char *text)
{
  if (s < 60)
    snprintf (text, TIME_TEXT_MAX, "%" PRId64 "s", s);
  else if (s < 3600)
    snprintf (text, TIME_TEXT_MAX, "%" PRId64 "m %" PRId64 "s", s / 60, s % 60);
  else if (s < 86400)
    snprintf (text, TIME_TEXT_MAX, "%" PRId64 "h %" PRId64 "m", s / 3600,
              s % 3600 / 60);
  else
    snprintf (text, TIME_TEXT_MAX, "%" PRId64 "d %" PRId64 "h", s / 86400,
              s % 86400 / 3600);
  return text;
}

static const char *
us_text (uint64_t us, char *text)
{
  if (us < 1000)
    snprintf (text, TIME_TEXT_MAX, "%" PRIu64 "us", us);
  else if (us < 1000000)
    snprintf (text, TIME_TEXT_MAX, "%.*fms", us < 100000 ? 1 : 0,
              (double) us / 1e3);
  else
    snprintf (text, TIME_TEXT_MAX, "%.1fs", (double) us / 1e6);
  return text;
}

/* Tenths of a percent, never all of them while something is left. */
static unsigned
per_mille (const struct look *l)
{
  unsigned n;

  if (l->offset >= l->len)
    return 1000;
  n = (unsigned) ((double) l->offset / (double) l->len * 1000);
  return n < 1000 ? n : 999;
}

static enum color
verdict_color (const char *verdict)
{
  static const struct {
    const char *verdict;
    enum color color;
  } colors[] = {
    { "synced", GREEN }, { "tracking", GREEN }, { "converging", GREEN },
    { "scanning", PLAIN }, { "none", PLAIN }, { "paused", YELLOW },
    { "diverging", YELLOW },
  };
  size_t i;

  for (i = 0; i < sizeof colors / sizeof colors[0]; i++)
    if (strcmp (verdict, colors[i].verdict) == 0)
      return colors[i].color;
  return RED;
}

/*-- bars ---------------------------------------------------------------*/

static void
put_bar (struct out *o, const struct look *l)
{
  static const char *const eighths[] = {
    "", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589",
  };
  const bool utf8 = o->style->utf8;
  unsigned all = BAR_MAX, done, i;

  if (room (o) < BAR_MAX + 2 + PERCENT)
    all = room (o) - 2 - PERCENT;
  done = per_mille (l) * all * 8 / 1000;
  fputc ('[', o->f);
  if (o->style->color)
    fputs (sgr[GREEN], o->f);
  for (i = 0; i < all; i++) {
    if (i < done / 8)
      fputs (utf8 ? "\u2588" : "#", o->f);
    else if (utf8 && i == done / 8 && done % 8 != 0)
      fputs (eighths[done % 8], o->f);
    else
      fputs (utf8 ? " " : "-", o->f);
  }
  if (o->style->color)
    fputs ("\033[0m", o->f);
  fprintf (o->f, "] %u.%u%%", per_mille (l) / 10, per_mille (l) % 10);
}

void
screen_remember (struct screen_history *h, uint64_t rate)
{
  if (h->count == SCREEN_HISTORY)
    memmove (h->rates, h->rates + 1, --h->count * sizeof h->rates[0]);
  h->rates[h->count++] = rate;
}

/* As high as the largest; nothing is the lowest, and little is more. */
static void
put_history (struct out *o, const struct screen_history *h, unsigned columns)
{
  static const char *const high[] = {
    "\u2581", "\u2582", "\u2583", "\u2584", "\u2585", "\u2586", "\u2587",
    "\u2588",
  };
  static const char low[] = "_.:-=+*#";
  const unsigned first = h->count > columns ? h->count - columns : 0;
  uint64_t max = 1;
  unsigned i, level;

  for (i = first; i < h->count; i++)
    if (h->rates[i] > max)
      max = h->rates[i];
  for (i = first; i < h->count; i++) {
    level = h->rates[i] == 0 ? 0
      : 1 + (unsigned) ((double) h->rates[i] / (double) max * 6.001);
    if (o->style->utf8)
      fputs (high[level], o->f);
    else
      fputc (low[level], o->f);
    o->column++;
  }
}

/*-- the rows -----------------------------------------------------------*/

static void
job_row (struct out *o, const struct look *l)
{
  row (o, "job");
  if (l->have_job) {
    item (o, PLAIN, "%s: %s", l->id, l->status);
    item (o, PLAIN, "%s", l->copy_mode);
    if (l->teeing)
      item (o, PLAIN, "teeing");
    if (l->synced)
      item (o, GREEN, "synced");
    if (strcmp (l->io_status, "failed") == 0)
      item (o, RED, "stopped by an error");
    else if (strcmp (l->io_status, "nospace") == 0)
      item (o, RED, "stopped by a full disk");
    if (l->job_error[0])
      item (o, RED, "%s", l->job_error);
  }
  else if (l->have_last_job) {
    item (o, PLAIN, "none; the last");
    item (o, PLAIN, "%s", l->last_id);
    if (strcmp (l->last_end, "failed") == 0)
      item (o, RED, "failed: %s", l->last_error);
    else
      item (o, PLAIN, "%s", strcmp (l->last_end, "cancelled") == 0
            ? "was cancelled" : l->last_end);
  }
  else
    item (o, PLAIN, "none");
  end_row (o);
}

static void
progress_rows (struct out *o, const struct look *l)
{
  char a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX], t[TIME_TEXT_MAX];

  row (o, "progress");
  put_bar (o, l);
  end_row (o);

  row (o, "left");
  item (o, PLAIN, "%s of %s", size_text (l->len - l->offset, a),
        size_text (l->len, b));
  if (l->suspect > 0)
    item (o, YELLOW, "suspect: %s", size_text (l->suspect, a));
  if (l->eta > 0)
    item (o, PLAIN, "%s to go", seconds_text (l->eta, t));
  end_row (o);

  row (o, "rates");
  item (o, PLAIN, "copy %s/s", size_text (l->copy_rate, a));
  item (o, PLAIN, "dirty %s/s", size_text (l->dirty_rate, b));
  end_row (o);
}

static void
history_row (struct out *o, const struct screen_history *h)
{
  unsigned columns;

  row (o, "dirty");
  columns = room (o) < SCREEN_HISTORY ? room (o) : SCREEN_HISTORY;
  put_history (o, h, columns);
  end_row (o);
}

static void
latency_row (struct out *o, const struct look *l)
{
  char a[TIME_TEXT_MAX], b[TIME_TEXT_MAX];
  bool any = false;
  unsigned i;

  for (i = 0; i < LOOK_LATENCIES; i++)
    any |= l->latency[i].count > 0;
  if (!any)
    return;
  row (o, "p50/p99");
  for (i = 0; i < LOOK_LATENCIES; i++)
    if (l->latency[i].count > 0)
      item (o, PLAIN, "%s %s/%s", look_latency_names[i],
            us_text (l->latency[i].p50_us, a),
            us_text (l->latency[i].p99_us, b));
  end_row (o);
}

static void
bytes_row (struct out *o, const struct look *l)
{
  char text[SIZE_TEXT_MAX];

  row (o, "bytes");
  item (o, PLAIN, "copied %s", size_text (l->copied, text));
  item (o, PLAIN, "zeroed %s", size_text (l->zeroed, text));
  item (o, PLAIN, "teed %s", size_text (l->teed, text));
  item (o, PLAIN, "tracked %s", size_text (l->tracked, text));
  item (o, PLAIN, "skipped %s", size_text (l->skipped, text));
  end_row (o);
}

/* Where clients have been moved to: to the target that has been shown, or to
 * another one, of an earlier mirror.
 */
static void
disk_items (struct out *o, const struct look *l)
{
  if (l->disk_state[0] == '\0' || strcmp (l->disk_uri, l->target_uri) == 0) {
    item (o, PLAIN, "moved to the target");
    return;
  }
  item (o, PLAIN, "moved to %s", l->disk_uri);
  item (o, strcmp (l->disk_state, "offline") == 0 ? RED : PLAIN, "%s",
        l->disk_state);
  if (l->disk_reason[0])
    item (o, YELLOW, "%s", l->disk_reason);
}

static void
sides_rows (struct out *o, const struct look *l)
{
  char text[SIZE_TEXT_MAX];

  row (o, "source");
  item (o, PLAIN, "%s", size_text (l->source_size, text));
  item (o, PLAIN, "clients: %" PRIu64, l->clients);
  end_row (o);

  row (o, "target");
  if (strcmp (l->target_state, "none") == 0)
    item (o, PLAIN, "none");
  else {
    item (o, PLAIN, "%s", l->target_uri);
    item (o, strcmp (l->target_state, "offline") == 0 ? RED : PLAIN, "%s",
          l->target_state);
    if (l->connections > 0)
      item (o, PLAIN, "connections: %" PRIu64, l->connections);
    if (l->reconnects > 0)
      item (o, YELLOW, "reconnected: %" PRIu64, l->reconnects);
    if (l->target_reason[0])
      item (o, YELLOW, "%s", l->target_reason);
  }
  end_row (o);

  /* What is not as usual. */
  if (!l->pivoted && !l->held && !l->fenced)
    return;
  row (o, "clients");
  if (l->pivoted)
    disk_items (o, l);
  if (l->held)
    item (o, YELLOW, "held");
  if (l->fenced)
    item (o, RED, "fenced");
  end_row (o);
}

static void
bitmap_row (struct out *o, const struct look *l)
{
  char text[SIZE_TEXT_MAX];

  if (!l->have_bitmap)
    return;
  row (o, "bitmap");
  item (o, strcmp (l->bitmap_state, "lost") == 0 ? RED : PLAIN, "%s",
        l->bitmap_state);
  item (o, PLAIN, "dirty: %s", size_text (l->bitmap_dirty, text));
  item (o, PLAIN, "%s", l->bitmap_file);
  end_row (o);
}

static void
verify_row (struct out *o, const struct look *l)
{
  char text[SIZE_TEXT_MAX];

  if (!l->have_verify)
    return;
  row (o, "verify");
  if (l->verify_running)
    item (o, PLAIN, "running%s", l->verify_repair ? " and repairing" : "");
  else if (l->verify_error[0])
    item (o, RED, "ended: %s", l->verify_error);
  else
    item (o, PLAIN, "done");
  item (o, PLAIN, "compared %s", size_text (l->verify_bytes, text));
  if (l->verify_left > 0)
    item (o, PLAIN, "left %s", size_text (l->verify_left, text));
  item (o, l->verify_differences > 0 ? RED : PLAIN,
        "%" PRIu64 " granules differ", l->verify_differences);
  end_row (o);
}

static void
error_row (struct out *o, const struct look *l)
{
  const time_t when = (time_t) l->error_time;
  struct tm tm;
  char text[64];

  if (!l->have_error)
    return;
  localtime_r (&when, &tm);
  strftime (text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
  row (o, "error");
  item (o, RED, "%s %s at %" PRIu64 "+%" PRIu64 ": %s", l->error_side,
        l->error_op, l->error_offset, l->error_length, l->error_text);
  item (o, PLAIN, "%s", text);
  end_row (o);
}

/*-- all ----------------------------------------------------------------*/

static char *
finish (FILE *f, char **text)
{
  const bool failed = ferror (f) != 0;

  if (fclose (f) == 0 && !failed)
    return *text;
  free (*text);
  return NULL;
}

char *
screen_text (const struct look *l, const struct screen_history *dirty,
             const struct screen_style *style)
{
  char *text = NULL;
  size_t size;
  FILE *f = open_memstream (&text, &size);
  struct out o = { .f = f, .style = style };
  char *line;

  if (f == NULL)
    return NULL;
  if (style->columns > 0 && style->columns < SCREEN_MIN_COLUMNS) {
    line = screen_line (l, style);
    fprintf (f, "%s\n", line ? line : "");
    free (line);
    return finish (f, &text);
  }
  /* What matters most comes first: a terminal may have few rows. */
  job_row (&o, l);
  row (&o, "verdict");
  item (&o, verdict_color (l->verdict), "%s", l->verdict);
  end_row (&o);
  error_row (&o, l);
  verify_row (&o, l);
  if (l->have_job)
    progress_rows (&o, l);
  if (dirty)
    history_row (&o, dirty);
  if (l->have_job) {
    latency_row (&o, l);
    bytes_row (&o, l);
  }
  sides_rows (&o, l);
  bitmap_row (&o, l);
  return finish (f, &text);
}

char *
screen_line (const struct look *l, const struct screen_style *style)
{
  char *text = NULL, a[SIZE_TEXT_MAX], b[SIZE_TEXT_MAX], t[TIME_TEXT_MAX];
  char line[ITEM_MAX];
  size_t size;
  FILE *f = open_memstream (&text, &size);
  struct out o = { .f = f, .style = style };

  if (f == NULL)
    return NULL;
  if (!l->have_job)
    snprintf (line, sizeof line, "none%s%s", l->have_last_job
              ? ", the last was " : "", l->have_last_job ? l->last_end : "");
  else
    snprintf (line, sizeof line, "%s %u.%u%% %s, %s left, copy %s/s%s%s",
              l->status, per_mille (l) / 10, per_mille (l) % 10, l->verdict,
              size_text (l->len - l->offset, a), size_text (l->copy_rate, b),
              l->eta > 0 ? ", " : "",
              l->eta > 0 ? seconds_text (l->eta, t) : "");
  put_text (&o, line, room (&o));
  return finish (f, &text);
}
