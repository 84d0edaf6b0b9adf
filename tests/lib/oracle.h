/* SPDX-License-Identifier: BSD-3-Clause */
/* The oracle's parts; see oracle.c. */

#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stdint.h>

struct nbd_handle;
struct timespec;

enum op { WRITE, READ, ZERO, TRIM, FLUSH, OPS };
extern const char *const op_names[OPS];

struct options {
  const char *uri, *image, *progress, *final, *over;
  unsigned connections, depth;
  unsigned weights[OPS];        /* how often each is chosen */
  uint64_t ops;                 /* stop after so many, 0 = never */
  double seconds;               /* stop after so long, 0 = never */
  uint64_t seed, iops;
  uint64_t max_size;            /* bytes of the largest request */
  uint64_t from, length;        /* part of the disk; length 0 = the rest */
  bool overlap, allow_errors, no_unaligned, no_fua, reconnect;
};

extern struct options opt;

/*-- oracle-options.c ---------------------------------------------------*/

/* Fill opt; exits with status 2 if the command line is bad. */
extern void parse_options (int argc, char *argv[]);

/*-- oracle-connect.c ---------------------------------------------------*/

/* Put it in opt.progress, for scripts that wait for progress. */
extern void write_progress (uint64_t completed);

/* Whoever makes the file opt.over says that no request that has been sent and
 * cut off can still happen: the server is dead.  The answer is that the file
 * has gone; only then may there be a server again.
 */
extern bool over_asked (void);
extern void over_answer (void);

/* Seconds from then to now, by the monotonic clock. */
extern double since (const struct timespec *t);

/* Try for that long; NULL if nothing comes of it. */
extern struct nbd_handle *connect_again (const char *uri, unsigned seconds);

#endif /* ORACLE_H */
