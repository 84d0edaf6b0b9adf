/* SPDX-License-Identifier: BSD-3-Clause */
/* See params.h. */

#include <config.h>

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "params.h"

int
refuse (char *error, const char *fs, ...)
{
  va_list args;
  char *p;

  va_start (args, fs);
  vsnprintf (error, PARAMS_ERROR_MAX, fs, args);
  va_end (args);
  /* One line, whatever was given. */
  for (p = error; *p; ++p)
    if ((unsigned char) *p < ' ' || *p == 127)
      *p = '?';
  return -EINVAL;
}

void
params_init (struct params *p)
{
  *p = (struct params) {
    .copy_mode = COPY_BACKGROUND,
    .granularity = 64 << 10,
    .speed = 0,
    .buf_size = 16 << 20,
    .connections = 4,
    .max_pause_ms = 2000,
    .timeout_s = 10,
    .suspect_s = 30,
    .on_source_error = ON_ERROR_IGNORE,
    .on_target_error = ON_ERROR_IGNORE,
    .unmap = true,
  };
}

void
params_clear (struct params *p)
{
  free (p->target);
  free (p->job_id);
  free (p->bitmap);
  p->target = p->job_id = p->bitmap = NULL;
}

int
params_replace (char **to, const char *value)
{
  char *copy = value ? strdup (value) : NULL;

  if (value && !copy)
    return -ENOMEM;
  free (*to);
  *to = copy;
  return 0;
}

int
params_copy (struct params *to, const struct params *from)
{
  *to = *from;
  to->target = to->job_id = to->bitmap = NULL;
  if (params_replace (&to->target, from->target) < 0 ||
      params_replace (&to->bitmap, from->bitmap) < 0 ||
      params_replace (&to->job_id, from->job_id) < 0) {
    params_clear (to);
    return -ENOMEM;
  }
  return 0;
}

/*-- numbers ------------------------------------------------------------*/

int
params_set_granularity (struct params *p, const char *what, uint64_t value,
                        char *error)
{
  if (!is_power_of_2 (value) || value < MIRROR_MIN_GRANULARITY ||
      value > MIRROR_MAX_GRANULARITY)
    return refuse (error, "%s=%" PRIu64 ": must be a power of two "
                   "from 512 to 64M", what, value);
  p->granularity = value;
  return 0;
}

int
params_set_buf_size (struct params *p, const char *what, uint64_t value,
                     char *error)
{
  if (value < MIRROR_MIN_GRANULARITY || value > MIRROR_MAX_BUF_SIZE)
    return refuse (error, "%s=%" PRIu64 ": must be from 512 to 1G, and at "
                   "least the granularity", what, value);
  p->buf_size = value;
  return 0;
}

int
params_set_connections (struct params *p, const char *what, int64_t value,
                        char *error)
{
  if (value < 1 || value > (int64_t) MIRROR_MAX_CONNECTIONS)
    return refuse (error, "%s=%" PRIi64 ": must be from 1 to %u", what, value,
                   MIRROR_MAX_CONNECTIONS);
  p->connections = (unsigned) value;
  return 0;
}

int
params_set_max_pause (struct params *p, const char *what, int64_t ms,
                      char *error)
{
  if (ms < 1 || ms > PARAMS_MAX_PAUSE_MS)
    return refuse (error, "%s=%" PRIi64 ": must be milliseconds from 1 to %d",
                   what, ms, PARAMS_MAX_PAUSE_MS);
  p->max_pause_ms = (unsigned) ms;
  return 0;
}

int
params_set_timeout (struct params *p, const char *what, int64_t s,
                    char *error)
{
  if (s < 1 || s > PARAMS_MAX_TIMEOUT_S)
    return refuse (error, "%s=%" PRIi64 ": must be seconds from 1 to %d",
                   what, s, PARAMS_MAX_TIMEOUT_S);
  p->timeout_s = (unsigned) s;
  return 0;
}

int
params_set_suspect_time (struct params *p, const char *what, int64_t s,
                         char *error)
{
  if (s < 0 || s > PARAMS_MAX_SUSPECT_S)
    return refuse (error, "%s=%" PRIi64 ": must be seconds from 0 to %d",
                   what, s, PARAMS_MAX_SUSPECT_S);
  p->suspect_s = (unsigned) s;
  return 0;
}

/*-- words --------------------------------------------------------------*/

int
params_set_copy_mode (struct params *p, const char *what, const char *value,
                      char *error)
{
  if (strcmp (value, "background") == 0)
    p->copy_mode = COPY_BACKGROUND;
  else if (strcmp (value, "write-blocking") == 0)
    p->copy_mode = COPY_WRITE_BLOCKING;
  else if (strcmp (value, "auto") == 0)
    p->copy_mode = COPY_AUTO;
  else
    return refuse (error, "%s=%.200s: allowed are background, write-blocking "
                   "and auto", what, value);
  return 0;
}

int
params_set_sync (struct params *p, const char *what, const char *value,
                 char *error)
{
  if (strcmp (value, "full") == 0)
    p->sync = SYNC_FULL;
  else if (strcmp (value, "none") == 0)
    p->sync = SYNC_NONE;
  else if (strcmp (value, "incremental") == 0)
    p->sync = SYNC_INCREMENTAL;
  else
    return refuse (error, "%s=%.200s: allowed are full, none and incremental",
                   what, value);
  return 0;
}

int
params_set_on_error (struct params *p, const char *what, bool target,
                     const char *value, char *error)
{
  enum on_error *to = target ? &p->on_target_error : &p->on_source_error;

  if (strcmp (value, "report") == 0)
    *to = ON_ERROR_REPORT;
  else if (strcmp (value, "ignore") == 0)
    *to = ON_ERROR_IGNORE;
  else if (strcmp (value, "enospc") == 0)
    *to = ON_ERROR_ENOSPC;
  else if (strcmp (value, "stop") == 0)
    *to = ON_ERROR_STOP;
  else
    return refuse (error, "%s=%.200s: allowed are report, ignore, enospc and "
                   "stop", what, value);
  return 0;
}

/* QEMU's rule for names that users give. */
int
params_set_job_id (struct params *p, const char *value, char *error)
{
  const char *s = value;
  bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');

  for (; ok && *s; ++s)
    ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
      (*s >= '0' && *s <= '9') || strchr ("-._", *s) != NULL;
  if (!ok || s - value > JOB_ID_MAX)
    return refuse (error, "Invalid job ID '%.300s'", value);
  return params_replace (&p->job_id, value);
}

int
params_set_bitmap (struct params *p, const char *what, const char *value,
                   char *error)
{
  if (value[0] != '/')
    return refuse (error, "%s=%.200s: must be an absolute path", what, value);
  if (strlen (value) >= PATH_MAX)
    return refuse (error, "%s=%.200s...: the path is too long, at most %d "
                   "bytes are allowed", what, value, PATH_MAX - 1);
  return params_replace (&p->bitmap, value);
}

/*-- the target ---------------------------------------------------------*/

/* The value of the socket parameter of a URI, or NULL; *len its length. */
static const char *
uri_socket (const char *uri, size_t *len)
{
  const char *s = strchr (uri, '?');

  for (; s; s = strchr (s, '&')) {
    ++s;
    if (strncmp (s, "socket=", 7) == 0) {
      s += 7;
      *len = strcspn (s, "&#");
      return s;
    }
  }
  return NULL;
}

/* nbdkit changes to "/" when it goes into the background.  What has a meaning
 * in a URI is encoded.
 */
static int
set_absolute (struct params *p, const char *value, const char *path,
              char *error)
{
  static const char hex[] = "0123456789ABCDEF";
  char cwd[PATH_MAX], encoded[3 * PATH_MAX], *to = encoded;
  CLEANUP_FREE char *uri = NULL;
  const char *s;

  if (!getcwd (cwd, sizeof cwd))
    return refuse (error, "cannot find the current directory: %s",
                   error_text (errno));
  for (s = cwd; *s; ++s) {
    unsigned char c = (unsigned char) *s;

    if (isalnum (c) || strchr ("/-._~", c))
      *to++ = *s;
    else {
      *to++ = '%';
      *to++ = hex[c >> 4];
      *to++ = hex[c & 15];
    }
  }
  *to = '\0';
  if (asprintf (&uri, "%.*s%s/%s", (int) (path - value), value, encoded,
                path) < 0) {
    uri = NULL;
    return -ENOMEM;
  }
  return params_replace (&p->target, uri);
}

/* libnbd takes a port modulo 65536. */
static bool
port_is_bad (const char *uri)
{
  const char *host = strstr (uri, "://") + 3, *end, *s;
  unsigned long port = 0;

  end = host + strcspn (host, "/?#");
  for (s = host; s < end; ++s)
    if (*s == '@' || *s == ']')
      host = s + 1;
  s = memchr (host, ':', (size_t) (end - host));
  if (!s || s + 1 == end)
    return false;
  for (++s; s < end; ++s) {
    if (*s < '0' || *s > '9')
      return true;
    port = port * 10 + (unsigned long) (*s - '0');
    if (port > 65535)
      return true;
  }
  return port == 0;
}

/* Does the query have a parameter that begins with "tls-"? */
static bool
has_tls_param (const char *uri)
{
  const char *s;

  for (s = strpbrk (uri, "?#"); s && *s != '#'; s = strpbrk (s + 1, "&;#"))
    if (strncasecmp (s + 1, "tls-", 4) == 0)
      return true;
  return false;
}

/* QEMU's old way of naming a server, which many scripts still use. */
static const char *
legacy_hint (const char *value)
{
  if (strncmp (value, "nbd:unix:", 9) == 0)
    return " (nbd:unix:PATH is nbd+unix:///?socket=PATH)";
  if (strncmp (value, "nbd:", 4) == 0)
    return " (nbd:HOST:PORT is nbd://HOST:PORT)";
  return "";
}

int
params_set_target (struct params *p, const char *what, const char *value,
                   char *error)
{
  static const char *const plain[] = { "nbd://", "nbd+unix://",
                                       "nbd+vsock://" };
  static const char *const tls[] = { "nbds://", "nbds+unix://",
                                     "nbds+vsock://" };
  const char *path;
  size_t i, len;

  for (i = 0; i < 3; ++i)
    if (strncasecmp (value, tls[i], strlen (tls[i])) == 0)
      return refuse (error, "%s=%.200s: TLS (%s) is not available in this "
                     "version; allowed are nbd://, nbd+unix:// and "
                     "nbd+vsock://",
                     what, value, tls[i]);
  for (i = 0; i < 3; ++i)
    if (strncasecmp (value, plain[i], strlen (plain[i])) == 0)
      break;
  if (i == 3)
    return refuse (error, "%s=%.200s: not an NBD URI; allowed are nbd://, "
                   "nbd+unix:// and nbd+vsock://%s", what, value,
                   legacy_hint (value));
  if (has_tls_param (value))
    return refuse (error, "%s: TLS parameters in the URI are not available in "
                   "this version", what);

  if (i == 0 && port_is_bad (value))
    return refuse (error, "%s=%.200s: the port must be a number from 1 to "
                   "65535", what, value);

  path = uri_socket (value, &len);
  if (i == 1) {
    if (!path || len == 0)
      return refuse (error, "%s=%.200s: a Unix socket needs ?socket=PATH",
                     what, value);
    if (path[0] != '/' && path[0] != '%')
      return set_absolute (p, value, path, error);
  }
  return params_replace (&p->target, value);
}

int
params_check (const struct params *p, char *error)
{
  if (p->buf_size < p->granularity)
    return refuse (error, "buf-size=%" PRIu64 ": must be at least the "
                   "granularity, %" PRIu64, p->buf_size, p->granularity);
  if (p->sync == SYNC_INCREMENTAL && !p->bitmap)
    return refuse (error, "sync=incremental: there is no intent file that "
                   "says what differs; it needs mirror-bitmap, or use full or "
                   "none");
  return 0;
}
