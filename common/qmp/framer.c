/* SPDX-License-Identifier: BSD-3-Clause */
/* States:
 *
 *   START       between values: white space is skipped
 *   NESTED      inside brackets, or in a string outside of any
 *   WORD        in a bare word or number outside of brackets
 *   SKIP_JUNK   after an error: skip up to { or a newline
 *   SKIP_LINE   after an error: skip up to a newline
 *   DEAD        after FRAMER_FATAL
 *
 * Malformed input gets exactly one error.  What follows it in the same burst
 * is most likely the rest of the same mistake, so it is skipped: up to the
 * newline, or up to the end of what has been sent (framer_pause), so that a
 * client that never sends newlines is not locked out.
 *
 * After a bracket that does not match, a { is no sign of a new request.  But
 * after a forbidden byte it is: a client that has lost its place sends such
 * a byte on purpose, to bring the server back to a known state.
 *
 * The text of a value is never longer than twice its raw bytes plus one
 * (each byte becomes at most two), so all memory is bounded.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "framer.h"

enum { START, NESTED, WORD, SKIP_JUNK, SKIP_LINE, DEAD };

void
framer_init (struct framer *f)
{
  memset (f, 0, sizeof *f);
  f->state = START;
}

void
framer_clear (struct framer *f)
{
  free (f->text);
  framer_init (f);
}

static void
begin (struct framer *f, int state)
{
  f->state = state;
  f->length = f->raw = 0;
  f->depth = 0;
  f->brackets = 0;
  f->quote = 0;
  f->escaped = false;
}

/* Append, keeping room for a NUL. */
static int
put (struct framer *f, char c)
{
  if (f->length + 2 > f->allocated) {
    size_t n = f->allocated ? f->allocated * 2 : 256;
    char *p = realloc (f->text, n);

    if (p == NULL)
      return -ENOMEM;
    f->text = p;
    f->allocated = n;
  }
  f->text[f->length++] = c;
  f->text[f->length] = '\0';
  return 0;
}

static enum framer_result
fatal (struct framer *f, const char *error)
{
  snprintf (f->error, sizeof f->error, "%s", error);
  f->state = DEAD;
  return FRAMER_FATAL;
}

/* c is where it went wrong. */
static enum framer_result
stray (struct framer *f, char c, int skip)
{
  unsigned char byte = c;

  if (byte > 0x20 && byte < 0x7f)
    snprintf (f->error, sizeof f->error, "JSON parse error, stray '%c'", c);
  else
    snprintf (f->error, sizeof f->error, "JSON parse error, stray '\\x%02x'",
              byte);
  begin (f, skip);
  return FRAMER_ERROR;
}

/* Only an object is a request: what is not begins a skip. */
static enum framer_result
complete (struct framer *f)
{
  f->state = f->text[0] == '{' ? START : SKIP_JUNK;
  return FRAMER_VALUE;
}

static bool
is_space (char c)
{
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool
is_word (char c)
{
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
    (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '+' || c == '.';
}

static enum framer_result
in_string (struct framer *f, char c)
{
  unsigned char byte = c;
  int r = 0;

  /* fe and ff are in no UTF-8 text; the parser finds other bad sequences. */
  if (byte < 0x20 || byte >= 0xfe)
    return stray (f, c, SKIP_JUNK);

  if (f->escaped) {
    f->escaped = false;
    if (c != '\'')              /* \' is QEMU's, not JSON */
      r = put (f, '\\');
    if (r == 0)
      r = put (f, c);
  }
  else if (c == '\\')
    f->escaped = true;
  else if (c == f->quote) {
    f->quote = 0;
    r = put (f, '"');
    if (r == 0 && f->depth == 0)
      return complete (f);
  }
  else {
    if (c == '"')
      r = put (f, '\\');
    if (r == 0)
      r = put (f, c);
  }
  return r == 0 ? FRAMER_MORE : fatal (f, "Out of memory");
}

static enum framer_result
open_bracket (struct framer *f, char c)
{
  if (f->depth == FRAMER_MAX_DEPTH)
    return fatal (f, "JSON nesting depth limit exceeded");
  f->brackets = f->brackets << 1 | (c == '[');
  f->depth++;
  return put (f, c) == 0 ? FRAMER_MORE : fatal (f, "Out of memory");
}

static enum framer_result
close_bracket (struct framer *f, char c)
{
  if (f->depth == 0 || (f->brackets & 1) != (c == ']'))
    return stray (f, c, SKIP_LINE);
  if (put (f, c) < 0)
    return fatal (f, "Out of memory");
  f->brackets >>= 1;
  f->depth--;
  return f->depth == 0 ? complete (f) : FRAMER_MORE;
}

static enum framer_result
nested (struct framer *f, char c)
{
  unsigned char byte = c;

  if (++f->raw > FRAMER_MAX_BYTES)
    return fatal (f, "QMP input is longer than 65536 bytes");
  if (f->quote)
    return in_string (f, c);

  switch (c) {
  case '{':
  case '[':
    return open_bracket (f, c);
  case '}':
  case ']':
    return close_bracket (f, c);
  case '"':
  case '\'':
    f->quote = c;
    c = '"';
    break;
  default:
    if (!is_space (c) && (byte < 0x20 || byte >= 0x7f))
      return stray (f, c, SKIP_JUNK);
  }
  return put (f, c) == 0 ? FRAMER_MORE : fatal (f, "Out of memory");
}

/* One byte.  *used becomes false if it has to be looked at again. */
static enum framer_result
step (struct framer *f, char c, bool *used)
{
  *used = true;
  switch (f->state) {
  case SKIP_LINE:
    if (c == '\n')
      f->state = START;
    return FRAMER_MORE;

  case SKIP_JUNK:
    if (c != '{') {
      if (c == '\n')
        f->state = START;
      return FRAMER_MORE;
    }
    /* fall through */
  case START:
    if (is_space (c))
      return FRAMER_MORE;
    if (c == '{' || c == '[' || c == '"' || c == '\'') {
      begin (f, NESTED);
      return nested (f, c);
    }
    if (!is_word (c))
      return stray (f, c, c >= 0x20 && c < 0x7f ? SKIP_LINE : SKIP_JUNK);
    begin (f, WORD);
    /* fall through */
  case WORD:
    if (!is_word (c)) {
      *used = false;
      return complete (f);
    }
    if (++f->raw > FRAMER_MAX_BYTES)
      return fatal (f, "QMP input is longer than 65536 bytes");
    return put (f, c) == 0 ? FRAMER_MORE : fatal (f, "Out of memory");

  case NESTED:
    return nested (f, c);
  }
  return FRAMER_FATAL;
}

enum framer_result
framer_feed (struct framer *f, const char *bytes, size_t count, size_t *used)
{
  enum framer_result r = FRAMER_MORE;
  bool taken;

  *used = 0;
  while (r == FRAMER_MORE && *used < count) {
    r = step (f, bytes[*used], &taken);
    *used += taken;
  }
  return r;
}

void
framer_pause (struct framer *f)
{
  if (f->state == SKIP_JUNK || f->state == SKIP_LINE)
    f->state = START;
}

bool
framer_in_word (const struct framer *f)
{
  return f->state == WORD;
}

enum framer_result
framer_end_word (struct framer *f)
{
  return f->state == WORD ? complete (f) : FRAMER_MORE;
}

void
framer_reject (struct framer *f)
{
  if (f->state == START)
    f->state = SKIP_JUNK;
}
