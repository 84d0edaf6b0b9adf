/* SPDX-License-Identifier: BSD-3-Clause */
/* See failpoint.h. */

#include <config.h>

#include "failpoint.h"

#ifdef MIRROR_FAILPOINTS

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_POINTS 8
#define MAX_NAME 64

enum action { ABORT = 1, PAUSE = 2 };   /* else: -errno */

static struct point {
  char name[MAX_NAME];
  atomic_uint left;             /* until it happens; 0: it has */
  bool again;                   /* each time from then on */
  int action;
} points[MAX_POINTS];
static unsigned nr_points;

static const struct {
  const char *name;
  int action;
} actions[] = {
  { "abort", ABORT }, { "pause", PAUSE },
  { "EAGAIN", -EAGAIN }, { "EBUSY", -EBUSY }, { "EINVAL", -EINVAL },
  { "EIO", -EIO }, { "ENOMEM", -ENOMEM }, { "ENOSPC", -ENOSPC },
  { "ENOTCONN", -ENOTCONN }, { "ETIMEDOUT", -ETIMEDOUT },
};

/* One NAME[:COUNT[+]]=ACTION of that length. */
static int
parse (const char *text, size_t len, struct point *p)
{
  const char *equals = memchr (text, '=', len), *colon;
  size_t name, i, n;
  unsigned long count = 1;
  bool again = false;
  char *end;

  if (equals == NULL)
    return -EINVAL;
  name = equals - text;
  colon = memchr (text, ':', name);
  if (colon) {
    name = colon - text;
    errno = 0;
    count = strtoul (colon + 1, &end, 10);
    again = *end == '+';
    end += again;
    if (colon[1] < '0' || colon[1] > '9' || end != equals || errno != 0 ||
        count < 1 || count > UINT32_MAX)
      return -EINVAL;
  }
  if (name == 0 || name >= MAX_NAME)
    return -EINVAL;
  n = text + len - (equals + 1);
  for (i = 0; i < sizeof actions / sizeof actions[0]; ++i)
    if (strlen (actions[i].name) == n &&
        memcmp (actions[i].name, equals + 1, n) == 0)
      break;
  if (i == sizeof actions / sizeof actions[0])
    return -EINVAL;
  memcpy (p->name, text, name);
  p->name[name] = '\0';
  atomic_store (&p->left, (unsigned) count);
  p->again = again;
  p->action = actions[i].action;
  return 0;
}

int
failpoint_set (const char *text)
{
  unsigned n = 0;
  size_t len;
  int r;

  nr_points = 0;
  while (text && *text) {
    len = strcspn (text, ",");
    if (n == MAX_POINTS)
      return -E2BIG;
    r = parse (text, len, &points[n++]);
    if (r < 0)
      return r;
    text += len + (text[len] == ',');
  }
  nr_points = n;
  return 0;
}

/* Before any thread that may reach one. */
static void __attribute__ ((constructor))
read_environment (void)
{
  const char *text = getenv ("MIRROR_FAILPOINT");

  if (failpoint_set (text) < 0) {
    fprintf (stderr, "MIRROR_FAILPOINT=%s: allowed is "
             "NAME[:COUNT[+]]=abort|pause|EIO|...[,...]\n", text);
    abort ();
  }
}

int
failpoint_reached (const char *name)
{
  unsigned i, left;

  for (i = 0; i < nr_points; ++i) {
    struct point *p = &points[i];

    if (strcmp (p->name, name) != 0)
      continue;
    left = atomic_load (&p->left);
    while (left > 0 && !(left == 1 && p->again) &&
           !atomic_compare_exchange_weak (&p->left, &left, left - 1))
      ;
    if (left != 1)
      continue;
    switch (p->action) {
    case ABORT:
      abort ();
    case PAUSE:
      raise (SIGSTOP);          /* kill would let this thread go on a little */
      break;
    default:
      return p->action;
    }
  }
  return 0;
}

#endif /* MIRROR_FAILPOINTS */
