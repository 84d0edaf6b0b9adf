/* SPDX-License-Identifier: BSD-3-Clause */
/* See params.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "params.h"

static int __attribute__ ((__format__ (__printf__, 2, 3)))
bad (char *error, const char *fs, ...)
{
  va_list args;

  va_start (args, fs);
  vsnprintf (error, PARAMS_ERROR_MAX, fs, args);
  va_end (args);
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
  };
}

void
params_clear (struct params *p)
{
  free (p->target);
  free (p->job_id);
  p->target = p->job_id = NULL;
}

static int
replace (char **to, const char *value)
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
  to->target = to->job_id = NULL;
  if (replace (&to->target, from->target) < 0 ||
      replace (&to->job_id, from->job_id) < 0) {
    params_clear (to);
    return -ENOMEM;
  }
  return 0;
}

/*-- numbers ------------------------------------------------------------*/

/* A number of bytes with an optional suffix K, M, G, T, P or E (powers of
 * 1024), 0 ... 2^63-1.
 */
static int
parse_size (const char *value, uint64_t *size)
{
  static const char suffixes[] = "KMGTPE";
  const char *s;
  char *end;
  unsigned long long v;
  unsigned shift = 0;

  if (value[0] < '0' || value[0] > '9')
    return -EINVAL;
  errno = 0;
  v = strtoull (value, &end, 10);
  if (errno != 0)
    return -EINVAL;
  if (*end != '\0') {
    s = strchr (suffixes, *end >= 'a' && *end <= 'z' ? *end - 32 : *end);
    if (!s || end[1] != '\0')
      return -EINVAL;
    shift = (unsigned) (s - suffixes + 1) * 10;
  }
  if (v > (uint64_t) INT64_MAX >> shift)
    return -EINVAL;
  *size = (uint64_t) v << shift;
  return 0;
}

int
params_set_granularity (struct params *p, const char *what, uint64_t value,
                        char *error)
{
  if (!is_power_of_2 (value) || value < MIRROR_MIN_GRANULARITY ||
      value > MIRROR_MAX_GRANULARITY)
    return bad (error, "%s=%" PRIu64 ": must be a power of two "
                "from 512 to 64M", what, value);
  p->granularity = value;
  return 0;
}

int
params_set_buf_size (struct params *p, const char *what, uint64_t value,
                     char *error)
{
  if (value < MIRROR_MIN_GRANULARITY || value > MIRROR_MAX_BUF_SIZE)
    return bad (error, "%s=%" PRIu64 ": must be from 512 to 1G, and at least "
                "the granularity", what, value);
  p->buf_size = value;
  return 0;
}

int
params_set_connections (struct params *p, const char *what, int64_t value,
                        char *error)
{
  if (value < 1 || value > (int64_t) MIRROR_MAX_CONNECTIONS)
    return bad (error, "%s=%" PRIi64 ": must be from 1 to %u", what, value,
                MIRROR_MAX_CONNECTIONS);
  p->connections = (unsigned) value;
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
    return bad (error, "%s=auto: not available in this version; allowed are "
                "background and write-blocking", what);
  else
    return bad (error, "%s=%s: allowed are background and write-blocking",
                what, value);
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
    return bad (error, "Invalid job ID '%.300s'", value);
  return replace (&p->job_id, value);
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

/* nbdkit changes to "/" when it goes into the background. */
static int
set_absolute (struct params *p, const char *value, const char *path,
              char *error)
{
  char cwd[PATH_MAX];
  CLEANUP_FREE char *uri = NULL;

  if (!getcwd (cwd, sizeof cwd))
    return bad (error, "cannot find the current directory: %s",
                error_text (errno));
  if (asprintf (&uri, "%.*s%s/%s", (int) (path - value), value, cwd,
                path) < 0) {
    uri = NULL;
    return -ENOMEM;
  }
  return replace (&p->target, uri);
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
    if (strncmp (value, tls[i], strlen (tls[i])) == 0)
      return bad (error, "%s: TLS (%s) is not available in this version; "
                  "allowed are nbd://, nbd+unix:// and nbd+vsock://",
                  what, tls[i]);
  for (i = 0; i < 3; ++i)
    if (strncmp (value, plain[i], strlen (plain[i])) == 0)
      break;
  if (i == 3)
    return bad (error, "%s=%.200s: not an NBD URI; allowed are nbd://, "
                "nbd+unix:// and nbd+vsock://", what, value);
  if (strstr (value, "tls-"))
    return bad (error, "%s: TLS parameters in the URI are not available in "
                "this version", what);

  path = uri_socket (value, &len);
  if (strncmp (value, "nbd+unix://", 11) == 0) {
    if (!path || len == 0)
      return bad (error, "%s=%.200s: a Unix socket needs ?socket=PATH",
                  what, value);
    if (path[0] != '/' && path[0] != '%')
      return set_absolute (p, value, path, error);
  }
  return replace (&p->target, value);
}

int
params_check (const struct params *p, char *error)
{
  if (p->buf_size < p->granularity)
    return bad (error, "the buffer size (%" PRIu64 ") must be at least the "
                "granularity (%" PRIu64 ")", p->buf_size, p->granularity);
  return 0;
}

/*-- the filter's keys --------------------------------------------------*/

static int
key_target (struct filter_keys *k, const char *key, const char *value,
            char *error)
{
  return params_set_target (&k->params, key, value, error);
}

static int
key_copy_mode (struct filter_keys *k, const char *key, const char *value,
               char *error)
{
  return params_set_copy_mode (&k->params, key, value, error);
}

static int
key_sync (struct filter_keys *k, const char *key, const char *value,
          char *error)
{
  (void) k;
  if (strcmp (value, "full") == 0)
    return 0;
  if (strcmp (value, "none") == 0 || strcmp (value, "incremental") == 0)
    return bad (error, "%s=%s: not available in this version; allowed is "
                "full", key, value);
  return bad (error, "%s=%s: allowed is full", key, value);
}

static int
key_size (const char *key, const char *value, const char *allowed,
          uint64_t *size, char *error)
{
  if (parse_size (value, size) < 0)
    return bad (error, "%s=%s: must be %s", key, value, allowed);
  return 0;
}

static int
key_granularity (struct filter_keys *k, const char *key, const char *value,
                 char *error)
{
  uint64_t size;
  const char *allowed = "a power of two from 512 to 64M";
  int r = key_size (key, value, allowed, &size, error);

  /* Say it with the value as it was given. */
  if (r == 0 && params_set_granularity (&k->params, key, size, error) < 0)
    r = bad (error, "%s=%s: must be %s", key, value, allowed);
  return r;
}

static int
key_speed (struct filter_keys *k, const char *key, const char *value,
           char *error)
{
  return key_size (key, value, "bytes per second from 0 (no limit) to 2^63-1, "
                   "with an optional suffix K, M, G, T, P, E",
                   &k->params.speed, error);
}

static int
key_buf_size (struct filter_keys *k, const char *key, const char *value,
              char *error)
{
  uint64_t size;
  const char *allowed = "a size from 512, and from the granularity, to 1G";
  int r = key_size (key, value, allowed, &size, error);

  if (r == 0 && params_set_buf_size (&k->params, key, size, error) < 0)
    r = bad (error, "%s=%s: must be %s", key, value, allowed);
  return r;
}

static int
key_connections (struct filter_keys *k, const char *key, const char *value,
                 char *error)
{
  char *end;
  long n;

  errno = 0;
  n = strtol (value, &end, 10);
  if (errno != 0 || *end != '\0' || value[0] < '0' || value[0] > '9')
    return bad (error, "%s=%s: must be a number from 1 to %u", key, value,
                MIRROR_MAX_CONNECTIONS);
  return params_set_connections (&k->params, key, n, error);
}

static int
key_control (struct filter_keys *k, const char *key, const char *value,
             char *error)
{
  char cwd[PATH_MAX];
  CLEANUP_FREE char *path = NULL;

  if (value[0] != '/' && !getcwd (cwd, sizeof cwd))
    return bad (error, "cannot find the current directory: %s",
                error_text (errno));
  if (asprintf (&path, "%s%s%s", value[0] == '/' ? "" : cwd,
                value[0] == '/' ? "" : "/", value) < 0) {
    path = NULL;
    return -ENOMEM;
  }
  if (strlen (path) > CONTROL_PATH_MAX)
    return bad (error, "%s=%s: the path of a Unix socket has at most %d "
                "bytes, this one %zu", key, path, CONTROL_PATH_MAX,
                strlen (path));
  return replace (&k->control, path);
}

/* Every key of the filter; set = NULL: not available yet.  The man page is
 * compared with this table.
 */
static const struct key {
  const char *name;
  int (*set) (struct filter_keys *k, const char *key, const char *value,
              char *error);
} keys[FILTER_KEYS] = {
  { "mirror-target", key_target },
  { "mirror-copy-mode", key_copy_mode },
  { "mirror-sync", key_sync },
  { "mirror-granularity", key_granularity },
  { "mirror-speed", key_speed },
  { "mirror-buf-size", key_buf_size },
  { "mirror-connections", key_connections },
  { "mirror-control", key_control },
  { "mirror-on-source-error", NULL },
  { "mirror-on-target-error", NULL },
  { "mirror-target-timeout", NULL },
  { "mirror-suspect-time", NULL },
  { "mirror-max-pause", NULL },
  { "mirror-target-flush", NULL },
  { "mirror-unmap", NULL },
  { "mirror-detect-zeroes", NULL },
  { "mirror-target-is-zero", NULL },
  { "mirror-bitmap", NULL },
  { "mirror-after-pivot", NULL },
  { "mirror-export", NULL },
  { "mirror-complete", NULL },
  { "mirror-tls", NULL },
  { "mirror-tls-certificates", NULL },
  { "mirror-tls-psk", NULL },
  { "mirror-tls-username", NULL },
  { "mirror-tls-verify", NULL },
};

/* Levenshtein's distance, for names shorter than 64 bytes. */
static unsigned
distance (const char *a, const char *b)
{
  unsigned row[64], up, left_up, i, j, cost;
  const unsigned n = (unsigned) strlen (b);

  if (strlen (a) >= 64 || n >= 64)
    return UINT_MAX;
  for (j = 0; j <= n; ++j)
    row[j] = j;
  for (i = 1; a[i - 1]; ++i) {
    left_up = row[0];
    row[0] = i;
    for (j = 1; j <= n; ++j) {
      up = row[j];
      cost = left_up + (a[i - 1] != b[j - 1]);
      if (up + 1 < cost)
        cost = up + 1;
      if (row[j - 1] + 1 < cost)
        cost = row[j - 1] + 1;
      row[j] = cost;
      left_up = up;
    }
  }
  return row[n];
}

static int
unknown_key (const char *key, char *error)
{
  size_t i, best = 0;

  for (i = 1; i < FILTER_KEYS; ++i)
    if (distance (key, keys[i].name) < distance (key, keys[best].name))
      best = i;
  return bad (error, "%.100s: unknown parameter; the nearest is %s", key,
              keys[best].name);
}

void
filter_keys_init (struct filter_keys *k)
{
  memset (k, 0, sizeof *k);
  params_init (&k->params);
}

void
filter_keys_clear (struct filter_keys *k)
{
  params_clear (&k->params);
  free (k->control);
  k->control = NULL;
}

int
filter_keys_set (struct filter_keys *k, const char *key, const char *value,
                 char *error)
{
  size_t i;

  if (strncmp (key, "mirror-", 7) != 0)
    return 1;
  for (i = 0; i < FILTER_KEYS; ++i)
    if (strcmp (keys[i].name, key) == 0)
      break;
  if (i == FILTER_KEYS)
    return unknown_key (key, error);
  if (!keys[i].set)
    return bad (error, "%s: not available in this version", key);
  if (k->given[i])
    return bad (error, "%s=%.200s: given twice; it may be given once", key,
                value);
  if (value[0] == '\0')
    return bad (error, "%s: the value is empty", key);
  k->given[i] = true;
  return keys[i].set (k, key, value, error);
}
