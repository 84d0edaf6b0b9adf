/* SPDX-License-Identifier: BSD-3-Clause */
/* See target-uri.h.
 *
 * libnbd parses the URI that is connected to.  What is here decides what may
 * be shown of it, what is refused, and what is compared; where the two could
 * disagree about a parameter's name, this one takes more for it (percent
 * escapes, upper case, ";" as separator).
 */

#include <config.h>

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "target-uri.h"
#include "target.h"

/* Of the URI in an error line; the reason must have room after it. */
#define ERROR_URI_MAX 256

struct uri_parts
uri_split (const char *uri)
{
  const char *colon = strstr (uri, "://");
  struct uri_parts p;
  const char *s;

  p.authority = colon ? colon + 3 : uri;
  p.fragment = p.authority + strcspn (p.authority, "#");
  p.query = p.authority + strcspn (p.authority, "?#");
  p.path = p.authority + strcspn (p.authority, "/?#");
  p.host = p.authority;
  for (s = p.authority; s < p.path; ++s)
    if (*s == '@')
      p.host = s + 1;
  return p;
}

bool
uri_next_param (const struct uri_parts *parts, const char **param,
                const char **end)
{
  if (*end >= parts->fragment)
    return false;
  *param = *end + 1;            /* after the separator */
  *end = *param + strcspn (*param, "&;#");
  return true;
}

/* The character at *s, percent-decoded; steps on. */
static int
next_char (const char **s, const char *end)
{
  char hex[3] = "";
  int ch = (unsigned char) **s;

  if (ch == '%' && end - *s > 2 && isxdigit ((unsigned char) (*s)[1])
      && isxdigit ((unsigned char) (*s)[2])) {
    hex[0] = (*s)[1];
    hex[1] = (*s)[2];
    ch = (int) strtol (hex, NULL, 16);
    *s += 2;
  }
  (*s)++;
  return ch;
}

bool
uri_param_begins (const char *param, const char *end, const char *prefix)
{
  for (; *prefix; ++prefix)
    if (param >= end || tolower (next_char (&param, end)) != *prefix)
      return false;
  return true;
}

char *
uri_decode (const char *s, const char *end)
{
  char *r = malloc ((size_t) (end - s) + 1), *out = r;

  if (r == NULL)
    return NULL;
  while (s < end)
    *out++ = (char) next_char (&s, end);
  *out = '\0';
  return r;
}

char *
target_public_uri (const char *uri)
{
  struct uri_parts p = uri_split (uri);
  char *r = malloc (strlen (uri) + 1), *out = r;
  const char *param, *end = p.query;
  char separator = '?';

  if (r == NULL)
    return NULL;
  out = mempcpy (out, uri, (size_t) (p.authority - uri));
  out = mempcpy (out, p.host, (size_t) (p.query - p.host));
  while (uri_next_param (&p, &param, &end)) {
    if (!uri_param_begins (param, end, "socket="))
      continue;
    *out++ = separator;
    out = mempcpy (out, param, (size_t) (end - param));
    separator = '&';
  }
  *out = '\0';
  return r;
}

const char *
target_error_reason (const char *error, const char *public_uri)
{
  const size_t len = strlen (public_uri);
  const size_t skip = (len > ERROR_URI_MAX
                       ? ERROR_URI_MAX + strlen ("...") : len) + strlen (": ");

  return strlen (error) > skip ? error + skip : error;
}

void
target_error (char *error, const char *uri, const char *fmt, ...)
{
  size_t len = strlen (uri);
  va_list args;
  char *p;
  int n;

  n = snprintf (error, TARGET_ERROR_MAX, "%.*s%s: ", ERROR_URI_MAX, uri,
                len > ERROR_URI_MAX ? "..." : "");
  va_start (args, fmt);
  vsnprintf (error + n, (size_t) (TARGET_ERROR_MAX - n), fmt, args);
  va_end (args);
  for (p = error; *p; ++p)
    if (!isascii ((unsigned char) *p) || !isprint ((unsigned char) *p))
      *p = '?';
}
