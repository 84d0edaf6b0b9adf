/* SPDX-License-Identifier: BSD-3-Clause */
/* What nbdmirror run shows while it runs: a line whenever something has
 * happened, and on a terminal one more, the last, that is drawn over and over.
 *
 * The cursor is left at the beginning of that line, so that what a server
 * writes to the terminal by itself goes over it.
 */

#ifndef MIRROR_PROGRESS_H
#define MIRROR_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

struct progress {
  FILE *out;
  bool live;                    /* the line that is drawn again */
  bool drawn;
  bool ready;                   /* the job, at the last look */
  bool pivoted;                 /* has been told */
  bool resumed;                 /* the same, of the proxy that runs */
  bool ended;                   /* last_job is set */
  uint64_t last_job;            /* when it ended */
};

/* live: draw, if standard output is a terminal, in the foreground of which we
 * are; then out must be stdout.
 */
extern void progress_init (struct progress *p, FILE *out, bool live);

/* Tell what has changed, and draw.  mirror: the answer to query-mirror. */
extern void progress_show (struct progress *p, json_t *mirror);

/* Tell that clients have been moved to the target. */
extern void progress_pivoted (struct progress *p, uint64_t pause_us);

/* Tell something else. */
extern void progress_say (struct progress *p, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));

/* Erase the line that is drawn, until the next progress_show. */
extern void progress_clear (struct progress *p);

#endif /* MIRROR_PROGRESS_H */
