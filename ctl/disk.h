/* SPDX-License-Identifier: BSD-3-Clause */
/* The two disks of nbdmirror run, as its command line names them.
 *
 * Functions return 0, or -1 after a line on stderr.
 */

#ifndef MIRROR_DISK_H
#define MIRROR_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum disk_kind {
  DISK_URI,                     /* an NBD server */
  DISK_FILE, DISK_BLOCK,
  DISK_MISSING,                 /* a file to be created */
};

struct disk {
  enum disk_kind kind;
  const char *name;             /* as it was given */
  char *path;                   /* absolute; NULL: DISK_URI */
  int fd;                       /* -1, or what keeps others off the disk */
  uint64_t size;                /* not known of DISK_URI and DISK_MISSING */
  dev_t dev;                    /* identity of a file or device */
  ino_t ino;
  mode_t mode;
  bool created;                 /* by disk_prepare */
};

/* The source: must be there. */
extern int disk_open_source (struct disk *d, const char *name);

/* The target: may be missing; must not be the source.  Nothing is changed. */
extern int disk_open_target (struct disk *d, const char *name,
                             const struct disk *source);

/* Make a local target at least size bytes large, creating it with the mode if
 * it is missing.  One with data in it is refused unless overwrite is set.  It
 * may take as long as reading all of it.
 */
extern int disk_prepare (struct disk *d, uint64_t size, mode_t mode,
                         bool overwrite);

/* Let go of the disk, and remove the target if it was created and is not
 * wanted.
 */
extern void disk_close (struct disk *d, bool unwanted);

#endif /* MIRROR_DISK_H */
