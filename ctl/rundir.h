/* SPDX-License-Identifier: BSD-3-Clause */
/* Where the sockets are that nobody gave a name. */

#ifndef MIRROR_RUNDIR_H
#define MIRROR_RUNDIR_H

#include <stdbool.h>

/* All zero: not looked for yet. */
struct rundir {
  char *path;
  bool private;                 /* made for this process only */
};

/* The absolute path DIR/PID.SUFFIX, to be freed.  The directory is the default
 * one of nbdmirror, or if that cannot be had one under /tmp; it is made when
 * it is missing, for nobody but us.  NULL after a line on stderr.
 */
extern char *rundir_file (struct rundir *dir, const char *suffix);

/* Remove a private directory, which must be empty, and free. */
extern void rundir_free (struct rundir *dir);

/* The absolute path, to be freed; NULL: out of memory, or there is no current
 * directory.  The path need not exist.
 */
extern char *absolute_path (const char *path);

#endif /* MIRROR_RUNDIR_H */
