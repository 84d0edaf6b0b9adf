/* SPDX-License-Identifier: BSD-3-Clause */
/* A process that outlives us to end our servers, should we be killed. */

#ifndef MIRROR_GUARD_H
#define MIRROR_GUARD_H

#include <sys/types.h>

struct guard {
  pid_t pid;                    /* 0: there is none */
  int fd;
};

/* Start it.  Must come before any server.  0 or -errno. */
extern int guard_start (struct guard *g);

/* Our child pid, not waited for yet, is a server. */
extern void guard_add (struct guard *g, pid_t pid);

/* All servers have ended. */
extern void guard_end (struct guard *g);

#endif /* MIRROR_GUARD_H */
