/* SPDX-License-Identifier: BSD-3-Clause */
/* Options, and the list of operations that a seed stands for. */

#include <config.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nbdfsx.h"

const char *const op_names[OP_KINDS] =
  { "read", "write", "zero", "trim", "flush", "cache", "status" };

struct options opt = {
  .ops = 1000, .max_size = 128 << 10, .align = 1, .edge = 64 << 10,
  .seed = 1, .connections = 2, .depth = 8, .shrink_seconds = 60,
  .weights = { 30, 45, 15, 5, 2, 2, 10 },
};

/* Requests without data may be that much larger. */
#define LARGER 4

/*-- options ------------------------------------------------------------*/

static void __attribute__ ((noreturn))
usage (void)
{
  fprintf (stderr,
"usage: nbdfsx [OPTIONS] URI [TARGET-URI]\n"
"  --ops=N  --seed=N  --max-size=BYTES      what to send\n"
"  --align=BYTES                            offsets and lengths; power of 2\n"
"  --edge=BYTES                             they like multiples of that, +-1\n"
"  --weights=read=N,write=N,zero=N,trim=N,flush=N,cache=N,status=N\n"
"  --connections=N  --depth=N               connections; in flight on each\n"
"  --at=N:COMMAND                           run it beside operation N and on\n"
"  --settle=COMMAND                         before the images are compared\n"
"  --restart=COMMAND                        makes a fresh server at URI\n"
"  --shrink-seconds=N                       0: do not\n"
"  --only=N,N...                            only these operations\n");
  exit (2);
}

static uint64_t
parse_number (const char *s, uint64_t max)
{
  char *end;
  uint64_t n = strtoull (s, &end, 0);

  switch (*end) {
  case 'K': n <<= 10; end++; break;
  case 'M': n <<= 20; end++; break;
  }
  if (*s < '0' || *s > '9' || *end != '\0' || n > max) {
    fprintf (stderr, "nbdfsx: %s: not a number up to %" PRIu64 "\n", s, max);
    exit (2);
  }
  return n;
}

/* What is not named gets the weight 0. */
static void
parse_weights (char *arg)
{
  char *word, *value, *save;
  unsigned i;

  memset (opt.weights, 0, sizeof opt.weights);
  for (word = strtok_r (arg, ",", &save); word;
       word = strtok_r (NULL, ",", &save)) {
    value = strchr (word, '=');
    if (value == NULL)
      usage ();
    *value++ = '\0';
    for (i = 0; i < OP_KINDS && strcmp (word, op_names[i]) != 0; ++i)
      ;
    if (i == OP_KINDS)
      usage ();
    opt.weights[i] = (unsigned) parse_number (value, 1000);
  }
  if (opt.weights[OP_READ] + opt.weights[OP_WRITE] == 0)
    usage ();
}

static void
parse_command (char *arg)
{
  struct command *c = &opt.commands[opt.nr_commands];
  char *colon = strchr (arg, ':');

  if (colon == NULL || opt.nr_commands == MAX_COMMANDS)
    usage ();
  *colon = '\0';
  c->at = (uint32_t) parse_number (arg, UINT32_MAX);
  c->text = colon + 1;
  if (opt.nr_commands++ > 0 && c[-1].at > c->at)
    usage ();
}

enum {
  OPT_ALIGN = 256, OPT_AT, OPT_CONNECTIONS, OPT_DEPTH, OPT_EDGE,
  OPT_MAX_SIZE, OPT_ONLY, OPT_OPS, OPT_RESTART, OPT_SEED, OPT_SETTLE,
  OPT_SHRINK_SECONDS, OPT_WEIGHTS,
};

static const struct option options[] = {
  { "align", required_argument, NULL, OPT_ALIGN },
  { "at", required_argument, NULL, OPT_AT },
  { "connections", required_argument, NULL, OPT_CONNECTIONS },
  { "depth", required_argument, NULL, OPT_DEPTH },
  { "edge", required_argument, NULL, OPT_EDGE },
  { "max-size", required_argument, NULL, OPT_MAX_SIZE },
  { "only", required_argument, NULL, OPT_ONLY },
  { "ops", required_argument, NULL, OPT_OPS },
  { "restart", required_argument, NULL, OPT_RESTART },
  { "seed", required_argument, NULL, OPT_SEED },
  { "settle", required_argument, NULL, OPT_SETTLE },
  { "shrink-seconds", required_argument, NULL, OPT_SHRINK_SECONDS },
  { "weights", required_argument, NULL, OPT_WEIGHTS },
  { NULL, 0, NULL, 0 }
};

static uint32_t
parse_u32 (const char *s)
{
  return (uint32_t) parse_number (s, UINT32_C (1) << 30);
}

void
parse_options (int argc, char *argv[])
{
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1) {
    switch (c) {
    case OPT_ALIGN: opt.align = parse_u32 (optarg); break;
    case OPT_AT: parse_command (optarg); break;
    case OPT_CONNECTIONS: opt.connections = parse_u32 (optarg); break;
    case OPT_DEPTH: opt.depth = parse_u32 (optarg); break;
    case OPT_EDGE: opt.edge = parse_u32 (optarg); break;
    case OPT_MAX_SIZE: opt.max_size = parse_u32 (optarg); break;
    case OPT_ONLY: opt.only = optarg; break;
    case OPT_OPS: opt.ops = parse_u32 (optarg); break;
    case OPT_RESTART: opt.restart = optarg; break;
    case OPT_SEED: opt.seed = parse_number (optarg, UINT64_MAX); break;
    case OPT_SETTLE: opt.settle = optarg; break;
    case OPT_SHRINK_SECONDS: opt.shrink_seconds = parse_u32 (optarg); break;
    case OPT_WEIGHTS: parse_weights (optarg); break;
    default: usage ();
    }
  }
  if (argc - optind < 1 || argc - optind > 2 || opt.edge < 1 ||
      opt.connections < 1 || opt.connections > 16 || opt.depth < 1 ||
      opt.depth > 64 || opt.align < 1 || (opt.align & (opt.align - 1)) ||
      (opt.nr_commands > 0 &&
       opt.commands[opt.nr_commands-1].at >= opt.ops) ||
      opt.max_size < 1 || opt.max_size > 32 << 20)
    usage ();
  opt.uri = argv[optind];
  opt.target = argv[optind+1];
}

/*-- the list -----------------------------------------------------------*/

/* xorshift64*. */
static uint64_t
below (uint64_t *state, uint64_t n)
{
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return (*state * UINT64_C (0x2545f4914f6cdd1d) >> 11) % n;
}

static uint8_t
random_kind (uint64_t *state, const struct geometry *g)
{
  unsigned sum = 0, i, r;

  for (i = 0; i < OP_KINDS; ++i)
    sum += g->can[i] ? opt.weights[i] : 0;
  r = (unsigned) below (state, sum);
  for (i = 0; i < OP_KINDS - 1; ++i) {
    unsigned w = g->can[i] ? opt.weights[i] : 0;

    if (r < w)
      break;
    r -= w;
  }
  return (uint8_t) i;
}

/* n, or one more or less, but not below 0. */
static uint64_t
about (uint64_t *state, uint64_t n, uint64_t one)
{
  switch (below (state, 3)) {
  case 0: return n;
  case 1: return n + one;
  default: return n >= one ? n - one : n;
  }
}

/* Sizes of any magnitude; some are about a few edges long. */
static uint64_t
random_count (uint64_t *state, uint64_t max, uint64_t one)
{
  uint64_t magnitude = 1, n;

  if (below (state, 6) == 0)
    n = about (state, opt.edge * (1 + below (state, 3)), one);
  else {
    while (magnitude < max && below (state, 100) < 93)
      magnitude *= 2;
    n = 1 + below (state, magnitude);
  }
  if (n > max)
    n = max;
  if (n == 0)
    n = 1;
  return (n + one - 1) / one * one;
}

/* Where faults live: the edges of granules and blocks, the first and the last
 * byte; and anywhere.
 */
static void
random_range (uint64_t *state, const struct geometry *g, struct op *op)
{
  uint64_t one = opt.align > g->block ? opt.align : g->block;
  bool data = op->kind == OP_READ || op->kind == OP_WRITE;
  uint64_t count = random_count (state, (uint64_t) opt.max_size *
                                 (data ? 1 : LARGER), one);
  uint64_t edge = below (state, g->usable / opt.edge + 1) * opt.edge, at;

  switch (below (state, 16)) {
  case 0: at = 0; break;
  case 1: at = g->usable - 1; break;
  case 2: at = g->usable > count ? g->usable - count : 0; break;
  case 3: case 4: case 5: case 6: at = about (state, edge, one); break;
  case 7: case 8:                       /* it ends there */
    at = about (state, edge, one);
    at = at > count ? at - count : 0;
    break;
  case 9:                               /* it has the edge in its middle */
    at = edge > count / 2 ? edge - count / 2 : 0;
    break;
  default: at = below (state, g->usable);
  }
  if (at >= g->usable)
    at = g->usable - 1;
  at = at / one * one;
  if (count > g->usable - at)
    count = g->usable - at;
  op->offset = at;
  op->count = (uint32_t) count;
}

static void
random_op (uint64_t *state, const struct geometry *g, struct op *op)
{
  op->kind = random_kind (state, g);
  if (op->kind == OP_FLUSH)
    return;
  random_range (state, g, op);
  switch (op->kind) {
  case OP_WRITE:
    op->fill = below (state, 8) == 0 ? FILL_ZEROES :
      below (state, 8) == 0 ? FILL_HALF_ZEROES : FILL_PATTERN;
    break;
  case OP_ZERO:
    op->no_hole = below (state, 2) == 0;
    op->fast = g->can_fast_zero && below (state, 3) == 0;
    break;
  case OP_TRIM: break;
  default: return;
  }
  op->fua = g->can_fua && below (state, 16) == 0;
}

/* Keep what opt.only names, in the order of the list. */
static uint32_t
pick (struct op *ops, uint32_t n)
{
  uint32_t kept = 0, i;
  char *p, *end;

  for (i = 0; i < n; ++i)
    for (p = opt.only; *p; p = *end == ',' ? end + 1 : end) {
      unsigned long number = strtoul (p, &end, 10);

      if (end == p)
        usage ();
      if (number == ops[i].number) {
        ops[kept++] = ops[i];
        break;
      }
    }
  return kept;
}

struct op *
make_ops (const struct geometry *g, uint32_t *n)
{
  struct op *ops = calloc (opt.ops + 1, sizeof *ops);
  uint64_t state = (opt.seed + 1) * UINT64_C (0x9e3779b97f4a7c15) | 1;
  uint32_t i;

  if (ops == NULL) {
    perror ("nbdfsx: calloc");
    exit (2);
  }
  for (i = 0; i < 8; ++i)
    below (&state, 2);
  *n = g->usable > 0 ? opt.ops : 0;
  for (i = 0; i < *n; ++i) {
    ops[i].number = i;
    random_op (&state, g, &ops[i]);
  }
  if (opt.only)
    *n = pick (ops, *n);
  return ops;
}

void
describe_op (const struct op *op, char *text)
{
  static const char *const fills[] = { "", ", zeroes", ", half zeroes" };

  if (op->kind == OP_FLUSH)
    snprintf (text, OP_TEXT, "flush");
  else
    snprintf (text, OP_TEXT, "%s %" PRIu32 " bytes at %" PRIu64 "%s%s%s%s",
              op_names[op->kind], op->count, op->offset, fills[op->fill],
              op->no_hole ? ", no hole" : "", op->fast ? ", fast" : "",
              op->fua ? ", fua" : "");
}
