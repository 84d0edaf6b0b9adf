/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter's keys: one table from names to functions.  See params.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "params.h"

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
  return params_set_sync (&k->params, key, value, error);
}

/* The words that nbdkit_parse_bool knows. */
static int
parse_bool (const char *key, const char *value, bool *to, char *error)
{
  static const char *const words[] = { "0", "1", "false", "true", "f", "t",
                                       "no", "yes", "n", "y", "off", "on" };
  size_t i;

  for (i = 0; i < sizeof words / sizeof words[0]; ++i)
    if (strcasecmp (value, words[i]) == 0) {
      *to = i % 2;
      return 0;
    }
  return refuse (error, "%s=%.200s: must be true or false (or yes, no, on, "
                 "off, 1, 0)", key, value);
}

static int
key_unmap (struct filter_keys *k, const char *key, const char *value,
           char *error)
{
  return parse_bool (key, value, &k->params.unmap, error);
}

static int
key_detect_zeroes (struct filter_keys *k, const char *key, const char *value,
                   char *error)
{
  return parse_bool (key, value, &k->params.detect_zeroes, error);
}

static int
key_target_is_zero (struct filter_keys *k, const char *key,
                    const char *value, char *error)
{
  return parse_bool (key, value, &k->params.target_is_zero, error);
}

static int
key_target_flush (struct filter_keys *k, const char *key, const char *value,
                  char *error)
{
  k->params.defer_flush = strcmp (value, "defer") == 0;
  if (!k->params.defer_flush && strcmp (value, "propagate") != 0)
    return refuse (error, "%s=%.200s: allowed are propagate and defer", key,
                   value);
  return 0;
}

/* The empty name is the default: the plugin's default export. */
static int
key_export (struct filter_keys *k, const char *key, const char *value,
            char *error)
{
  (void) key;
  (void) error;
  if (value[0] == '\0')
    return 0;
  return params_replace (&k->export, value);
}

static int
key_size (const char *key, const char *value, const char *allowed,
          uint64_t *size, char *error)
{
  if (parse_size (value, size) < 0)
    return refuse (error, "%s=%.200s: must be %s", key, value, allowed);
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
    r = refuse (error, "%s=%.200s: must be %s", key, value, allowed);
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
    r = refuse (error, "%s=%.200s: must be %s", key, value, allowed);
  return r;
}

/* Digits only.  0 or -EINVAL. */
static int
parse_number (const char *value, long *n)
{
  char *end;

  errno = 0;
  *n = strtol (value, &end, 10);
  if (errno != 0 || *end != '\0' || value[0] < '0' || value[0] > '9')
    return -EINVAL;
  return 0;
}

static int
key_connections (struct filter_keys *k, const char *key, const char *value,
                 char *error)
{
  long n;

  if (parse_number (value, &n) < 0)
    return refuse (error, "%s=%.200s: must be a number from 1 to %u", key,
                   value, MIRROR_MAX_CONNECTIONS);
  return params_set_connections (&k->params, key, n, error);
}

/* What is counted in a unit: the setter says what is allowed, but of what is
 * no number at all.
 */
static int
key_number (struct filter_keys *k, const char *key, const char *value,
            const char *allowed,
            int (*set) (struct params *p, const char *what, int64_t n,
                        char *error), char *error)
{
  long n;

  if (parse_number (value, &n) < 0)
    return refuse (error, "%s=%.200s: must be %s", key, value, allowed);
  return set (&k->params, key, n, error);
}

static int
key_max_pause (struct filter_keys *k, const char *key, const char *value,
               char *error)
{
  return key_number (k, key, value, "milliseconds from 1 to 60000",
                     params_set_max_pause, error);
}

static int
key_target_timeout (struct filter_keys *k, const char *key,
                    const char *value, char *error)
{
  return key_number (k, key, value, "seconds from 1 to 3600",
                     params_set_timeout, error);
}

static int
key_suspect_time (struct filter_keys *k, const char *key, const char *value,
                  char *error)
{
  return key_number (k, key, value, "seconds from 0 to 3600",
                     params_set_suspect_time, error);
}

static int
key_on_source_error (struct filter_keys *k, const char *key,
                     const char *value, char *error)
{
  return params_set_on_error (&k->params, key, false, value, error);
}

static int
key_on_target_error (struct filter_keys *k, const char *key,
                     const char *value, char *error)
{
  return params_set_on_error (&k->params, key, true, value, error);
}

/* Relative to the current directory; *path is to be freed. */
static int
absolute_path (const char *value, char **path, char *error)
{
  char cwd[PATH_MAX];

  *path = NULL;
  if (value[0] != '/' && !getcwd (cwd, sizeof cwd))
    return refuse (error, "cannot find the current directory: %s",
                   error_text (errno));
  if (asprintf (path, "%s%s%s", value[0] == '/' ? "" : cwd,
                value[0] == '/' ? "" : "/", value) < 0) {
    *path = NULL;
    return -ENOMEM;
  }
  return 0;
}

static int
key_bitmap (struct filter_keys *k, const char *key, const char *value,
            char *error)
{
  CLEANUP_FREE char *path = NULL;
  int r = absolute_path (value, &path, error);

  return r < 0 ? r : params_set_bitmap (&k->params, key, path, error);
}

static int
key_after_pivot (struct filter_keys *k, const char *key, const char *value,
                 char *error)
{
  if (strcmp (value, "target") == 0)
    k->after_pivot = AFTER_PIVOT_TARGET;
  else if (strcmp (value, "refuse") == 0)
    k->after_pivot = AFTER_PIVOT_REFUSE;
  else if (strcmp (value, "source") == 0)
    k->after_pivot = AFTER_PIVOT_SOURCE;
  else
    return refuse (error, "%s=%.200s: allowed are target, refuse and source",
                   key, value);
  return 0;
}

static int
key_control (struct filter_keys *k, const char *key, const char *value,
             char *error)
{
  CLEANUP_FREE char *path = NULL;
  int r = absolute_path (value, &path, error);

  if (r < 0)
    return r;
  if (strlen (path) > CONTROL_PATH_MAX)
    return refuse (error, "%s=%s: the path of a Unix socket has at most %d "
                   "bytes, this one %zu", key, path, CONTROL_PATH_MAX,
                   strlen (path));
  return params_replace (&k->control, path);
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
  { "mirror-on-source-error", key_on_source_error },
  { "mirror-on-target-error", key_on_target_error },
  { "mirror-target-timeout", key_target_timeout },
  { "mirror-suspect-time", key_suspect_time },
  { "mirror-max-pause", key_max_pause },
  { "mirror-target-flush", key_target_flush },
  { "mirror-unmap", key_unmap },
  { "mirror-detect-zeroes", key_detect_zeroes },
  { "mirror-target-is-zero", key_target_is_zero },
  { "mirror-bitmap", key_bitmap },
  { "mirror-after-pivot", key_after_pivot },
  { "mirror-export", key_export },
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
  return refuse (error, "%.100s: unknown parameter; the nearest is %s", key,
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
  free (k->export);
  k->control = k->export = NULL;
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
    return refuse (error, "%s: not available in this version", key);
  if (k->given[i])
    return refuse (error, "%s=%.200s: given twice; it may be given once",
                   key, value);
  if (value[0] == '\0' && keys[i].set != key_export)
    return refuse (error, "%s: the value is empty", key);
  k->given[i] = true;
  return keys[i].set (k, key, value, error);
}

bool
filter_keys_given (const struct filter_keys *k, const char *key)
{
  size_t i;

  for (i = 0; i < FILTER_KEYS; ++i)
    if (strcmp (keys[i].name, key) == 0)
      return k->given[i];
  return false;
}
