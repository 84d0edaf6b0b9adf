/* SPDX-License-Identifier: BSD-3-Clause */
/* Real nbdkit servers for tests in C. */

#ifndef TARGET_SERVER_H
#define TARGET_SERVER_H

#include <sys/types.h>

struct server {
  pid_t pid;                    /* -1: none (any more) */
  char dir[64];
  char sock[80], pidfile[80];
  char log[80];                 /* a place for the log filter's log */
  char uri[120];
};

/* Start nbdkit with these arguments, NULL at the end; "@LOG" stands for
 * logfile=(log).  Returns once it can be connected to.
 */
extern void server_start (struct server *sv, ...);

extern void server_kill (struct server *sv);

/* Kill it, if that has not been done, and remove its files. */
extern void server_stop (struct server *sv);

#endif /* TARGET_SERVER_H */
