/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle's command line; see oracle.c. */

#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stdint.h>

enum op { WRITE, READ, ZERO, TRIM, FLUSH, OPS };
extern const char *const op_names[OPS];

struct options {
  const char *uri, *image, *progress;
  unsigned connections, depth;
  unsigned weights[OPS];        /* how often each is chosen */
  uint64_t ops;                 /* stop after so many, 0 = never */
  double seconds;               /* stop after so long, 0 = never */
  uint64_t seed, iops;
  uint64_t max_size;            /* bytes of the largest request */
  uint64_t from, length;        /* part of the disk; length 0 = the rest */
  bool overlap, allow_errors, no_unaligned, no_fua;
};

extern struct options opt;

/* Fill opt; exits with status 2 if the command line is bad. */
extern void parse_options (int argc, char *argv[]);

#endif /* ORACLE_H */
