/* SPDX-License-Identifier: BSD-3-Clause */
/* What the subcommands of nbdmirror share. */

#ifndef MIRROR_CTL_H
#define MIRROR_CTL_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "client.h"
#include "subcommands.h"

enum {
  STATUS_OK = 0,
  STATUS_FAILED = 1,            /* also: wrong usage */
  STATUS_TIMEOUT = 2,
  STATUS_NO_PROXY = 3,
};

/* Longest wait for an answer, for the greeting too. */
#define ANSWER_MS 10000
/* The same for what waits for the target. */
#define TARGET_MS 90000

#define MAX_OPTIONS 64          /* in one call */

/* How a subcommand was called. */
struct call {
  const char *socket;           /* -S, or NULL */
  char **operands;              /* ends with NULL */
  int count;                    /* of operands */
  int before;                   /* of these, before "--"; -1: there is none */
  struct {
    const char *name, *value;   /* value is "" if it takes none */
  } options[MAX_OPTIONS];
  unsigned options_count;
};

/* One line on stderr, after "nbdmirror: ". */
extern void complain (const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));

/* The value of an option, NULL if it was not given. */
extern const char *call_option (const struct call *call, const char *name);

/* Connect to the server that the user means.  NULL, after a line on stderr,
 * with *status the exit status.  timeout_ms < 0: no limit.
 */
extern struct client *call_connect (const struct call *call, int timeout_ms,
                                    int *status);

/* Run a command.  Returns its result, or NULL after a line on stderr, with
 * *status the exit status.  args is taken over, NULL if there are none.
 */
extern json_t *call_command (struct client *c, const char *name, json_t *args,
                             int timeout_ms, int *status);

/* The name of the only job (to be freed), or NULL after a line on stderr. */
extern char *call_job (struct client *c, int *status);

/* All has been printed: the exit status.  What could not be written must not
 * pass for all there is: STATUS_FAILED then, after a line on stderr that begins
 * with who.
 */
extern int call_written (const char *who);

/* verify.c: mirror-verify with args (which is taken over), its progress where
 * stderr is a terminal, its result on stdout.  Returns the exit status; who
 * begins the line that says why it is not STATUS_OK.
 */
extern int verify_and_wait (struct client *c, const char *who, json_t *args);

/* Each subcommand; returns the exit status. */
#define SUB(id, name, operands, least, most, help)      \
  extern int run_##id (const struct call *call);
#define OPT(name, value, help)
SUBCOMMANDS (SUB, OPT)
#undef SUB
#undef OPT

#endif /* MIRROR_CTL_H */
