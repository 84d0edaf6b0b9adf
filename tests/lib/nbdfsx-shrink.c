/* SPDX-License-Identifier: BSD-3-Clause */
/* Delta debugging: leave out ever smaller parts of the list, and keep out what
 * is not needed for it to fail, until no single operation can be left out.
 *
 * Each trial starts with the export as it was at the beginning.  Any failure
 * counts, be it the same or another: both are worth a short list.  First it is
 * tried one operation at a time; if it fails then, too, that is how all trials
 * run, so that they say the same each time.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nbdfsx.h"

/* A failure that needs a race does not come at once. */
#define TRIES 3

struct shrink {
  struct op *ops;               /* it fails */
  uint32_t n;
  struct op *trial;
  struct failure failure;       /* of ops */
  unsigned tries, replays;
  time_t deadline;
};

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

/* Does it fail?  Then it becomes the list, without what came later. */
static bool
try_list (struct shrink *s, const struct op *ops, uint32_t n)
{
  struct failure f;
  unsigned i;

  for (i = 0; i < s->tries && now () < s->deadline; ++i) {
    s->replays++;
    reset_export ();
    run_ops (ops, n, &f);
    if (f.failed) {
      memmove (s->ops, ops, f.sent * sizeof *ops);
      s->n = f.sent;
      s->failure = f;
      return true;
    }
  }
  return false;
}

/* Without the operations [start, end). */
static bool
try_without (struct shrink *s, uint32_t start, uint32_t end)
{
  memcpy (s->trial, s->ops, start * sizeof *s->ops);
  memcpy (s->trial + start, s->ops + end, (s->n - end) * sizeof *s->ops);
  return try_list (s, s->trial, s->n - (end - start));
}

/* The rest goes at once where it can; then part after part. */
static void
reduce (struct shrink *s)
{
  uint32_t part, start, end, before;

  if (try_without (s, 0, s->n))
    return;
  part = s->n;
  while (now () < s->deadline) {
    part = part > 1 ? (part + 1) / 2 : 1;
    before = s->n;
    for (end = s->n; end > 0 && s->n > 1 && now () < s->deadline; ) {
      start = end > part ? end - part : 0;
      try_without (s, start, end);
      end = start < s->n ? start : s->n;
    }
    if (s->n <= 1 || (part == 1 && s->n == before))
      return;
  }
}

static void
print_result (const struct shrink *s, uint32_t n, bool serial)
{
  char text[OP_TEXT];
  uint32_t i;

  printf ("nbdfsx: shrunk from %" PRIu32 " to %" PRIu32 " operations%s in %u "
          "replays; then: %s\n", n, s->n, serial ? ", one at a time," : "",
          s->replays, s->failure.text);
  for (i = 0; i < s->n; ++i) {
    describe_op (&s->ops[i], text);
    printf ("nbdfsx: %6" PRIu32 ": %s\n", s->ops[i].number, text);
  }
  printf ("nbdfsx: again: --seed=%" PRIu64 " --ops=%" PRIu32 " --max-size=%"
          PRIu32 " --align=%" PRIu32 " --edge=%" PRIu32 " --connections=%u "
          "--depth=%u --weights=", opt.seed, opt.ops, opt.max_size, opt.align,
          opt.edge, opt.connections, opt.depth);
  for (i = 0; i < OP_KINDS; ++i)
    printf ("%s%s=%u", i > 0 ? "," : "", op_names[i], opt.weights[i]);
  printf (" --only=");
  for (i = 0; i < s->n; ++i)
    printf ("%s%" PRIu32, i > 0 ? "," : "", s->ops[i].number);
  printf ("\n");
}

void
shrink (const struct op *ops, uint32_t n)
{
  struct shrink s = { .tries = 1 };
  unsigned depth = opt.depth, connections = opt.connections;
  bool serial;

  s.deadline = now () + opt.shrink_seconds;
  s.ops = calloc (n + 1, sizeof *s.ops);
  s.trial = calloc (n + 1, sizeof *s.trial);
  if (s.ops == NULL || s.trial == NULL) {
    perror ("nbdfsx: calloc");
    exit (2);
  }
  opt.depth = opt.connections = 1;
  serial = try_list (&s, ops, n);
  if (!serial) {
    opt.depth = depth;
    opt.connections = connections;
    s.tries = TRIES;
  }
  if (serial || try_list (&s, ops, n)) {
    reduce (&s);
    print_result (&s, n, serial);
  }
  else
    printf ("nbdfsx: it does not fail again in %u replays\n", s.replays);
  free (s.ops);
  free (s.trial);
}
