/* SPDX-License-Identifier: BSD-3-Clause */
/* What the oracle and its surroundings hear of each other; see oracle.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "oracle.h"

/* "requests completed so far", for scripts that wait for progress. */
void
write_progress (uint64_t completed)
{
  static int fd = -1;
  char line[32];
  int n;

  if (opt.progress == NULL)
    return;
  if (fd == -1)
    fd = open (opt.progress, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
               0666);
  n = snprintf (line, sizeof line, "%12" PRIu64 "\n",
                completed);
  if (fd == -1 || pwrite (fd, line, n, 0) != n) {
    perror (opt.progress);
    exit (2);
  }
}

bool
over_asked (void)
{
  return opt.over && access (opt.over, F_OK) == 0;
}

void
over_answer (void)
{
  if (unlink (opt.over) == -1) {
    perror (opt.over);
    exit (2);
  }
}

double
since (const struct timespec *t)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return now.tv_sec - t->tv_sec + (now.tv_nsec - t->tv_nsec) / 1e9;
}

struct nbd_handle *
connect_again (const char *uri, unsigned seconds)
{
  const struct timespec pause = { .tv_nsec = 50000000 };
  struct timespec begin;
  struct nbd_handle *nbd;

  clock_gettime (CLOCK_MONOTONIC, &begin);
  do {
    nbd = nbd_create ();
    if (nbd == NULL || nbd_connect_uri (nbd, uri) == 0)
      return nbd;
    nbd_close (nbd);
    nanosleep (&pause, NULL);
  } while (since (&begin) < seconds);
  return NULL;
}
