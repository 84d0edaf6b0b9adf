/* SPDX-License-Identifier: BSD-3-Clause */
/* See oracle.h. */

#include <config.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

const char *const op_names[OPS] =
  { "write", "read", "zero", "trim", "flush" };

struct options opt = {
  .connections = 2, .depth = 8, .seed = 1, .max_size = 256 << 10,
  .weights = { 50, 25, 10, 5, 2 },
};

static void
usage (void)
{
  fprintf (stderr,
"usage: oracle [OPTIONS] URI\n"
"  -c, --connections=N  -d, --depth=N       connections; in flight on each\n"
"  --ops=N  --seconds=S                     stop after that (or on SIGTERM)\n"
"  --seed=N  --max-size=BYTES  --iops=N     requests to send\n"
"  --from=OFFSET  --length=BYTES            part of the disk to write to\n"
"  --weights=write=N,read=N,zero=N,trim=N,flush=N\n"
"  --overlap  --no-unaligned  --no-fua\n"
"  --allow-errors                           failed requests are no failure\n"
"  --reconnect                              after a lost connection\n"
"  --over=FILE                              all that was cut off is over\n"
"  --final=URI                              read that back at the end\n"
"  --image=FILE                             write what should be there\n"
"  --progress=FILE                          keep the number completed there\n"
           );
  exit (2);
}

static uint64_t
parse_number (const char *s)
{
  char *end;
  uint64_t n = strtoull (s, &end, 0);

  switch (*end) {
  case 'K': n <<= 10; end++; break;
  case 'M': n <<= 20; end++; break;
  case 'G': n <<= 30; end++; break;
  }
  if (*s < '0' || *s > '9' || *end != '\0') {
    fprintf (stderr, "oracle: %s: not a number\n", s);
    exit (2);
  }
  return n;
}

/* What is not named gets the weight 0. */
static void
parse_weights (char *arg)
{
  char *value;
  unsigned i;

  memset (opt.weights, 0, sizeof opt.weights);
  while (*arg) {
    for (i = 0; i < OPS; ++i) {
      size_t n = strlen (op_names[i]);

      if (strncmp (arg, op_names[i], n) == 0 && arg[n] == '=')
        break;
    }
    if (i == OPS)
      usage ();
    value = strchr (arg, '=') + 1;
    arg = value + strspn (value, "0123456789");
    if (*arg == ',')
      *arg++ = '\0';
    opt.weights[i] = parse_number (value);
  }
  if (opt.weights[WRITE] + opt.weights[READ] == 0)
    usage ();
}

enum {
  OPT_ALLOW_ERRORS = 256, OPT_FINAL, OPT_FROM, OPT_IMAGE, OPT_IOPS, OPT_LENGTH,
  OPT_MAX_SIZE, OPT_NO_FUA, OPT_NO_UNALIGNED, OPT_OPS, OPT_OVER,
  OPT_OVERLAP,
  OPT_PROGRESS, OPT_RECONNECT, OPT_SECONDS, OPT_SEED, OPT_WEIGHTS,
};

static const struct option options[] = {
  { "allow-errors", no_argument, NULL, OPT_ALLOW_ERRORS },
  { "connections", required_argument, NULL, 'c' },
  { "depth", required_argument, NULL, 'd' },
  { "final", required_argument, NULL, OPT_FINAL },
  { "from", required_argument, NULL, OPT_FROM },
  { "image", required_argument, NULL, OPT_IMAGE },
  { "iops", required_argument, NULL, OPT_IOPS },
  { "length", required_argument, NULL, OPT_LENGTH },
  { "max-size", required_argument, NULL, OPT_MAX_SIZE },
  { "no-fua", no_argument, NULL, OPT_NO_FUA },
  { "no-unaligned", no_argument, NULL, OPT_NO_UNALIGNED },
  { "ops", required_argument, NULL, OPT_OPS },
  { "over", required_argument, NULL, OPT_OVER },
  { "overlap", no_argument, NULL, OPT_OVERLAP },
  { "progress", required_argument, NULL, OPT_PROGRESS },
  { "reconnect", no_argument, NULL, OPT_RECONNECT },
  { "seconds", required_argument, NULL, OPT_SECONDS },
  { "seed", required_argument, NULL, OPT_SEED },
  { "weights", required_argument, NULL, OPT_WEIGHTS },
  { NULL, 0, NULL, 0 }
};

void
parse_options (int argc, char *argv[])
{
  int c;

  while ((c = getopt_long (argc, argv, "c:d:", options, NULL)) != -1) {
    switch (c) {
    case 'c': opt.connections = parse_number (optarg); break;
    case 'd': opt.depth = parse_number (optarg); break;
    case OPT_ALLOW_ERRORS: opt.allow_errors = true; break;
    case OPT_FINAL: opt.final = optarg; break;
    case OPT_FROM: opt.from = parse_number (optarg); break;
    case OPT_IMAGE: opt.image = optarg; break;
    case OPT_IOPS: opt.iops = parse_number (optarg); break;
    case OPT_LENGTH: opt.length = parse_number (optarg); break;
    case OPT_MAX_SIZE: opt.max_size = parse_number (optarg); break;
    case OPT_NO_FUA: opt.no_fua = true; break;
    case OPT_NO_UNALIGNED: opt.no_unaligned = true; break;
    case OPT_OPS: opt.ops = parse_number (optarg); break;
    case OPT_OVER: opt.over = optarg; break;
    case OPT_OVERLAP: opt.overlap = true; break;
    case OPT_PROGRESS: opt.progress = optarg; break;
    case OPT_RECONNECT: opt.reconnect = true; break;
    case OPT_SECONDS: opt.seconds = atof (optarg); break;
    case OPT_SEED: opt.seed = parse_number (optarg); break;
    case OPT_WEIGHTS: parse_weights (optarg); break;
    default: usage ();
    }
  }
  if (argc - optind != 1 || opt.connections < 1 || opt.depth < 1 ||
      opt.max_size < 1 || opt.max_size > 32 << 20 ||
      (opt.image && opt.overlap))
    usage ();
  opt.uri = argv[optind];
}
