/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file on disk: opening it, making it, and its table (io.h).
 *
 * A file that is not certainly ours, whole and of this version is refused and
 * left as it is.  Nothing here follows a symbolic link in the last part of the
 * path, or waits for somebody at the other end of a FIFO.
 *
 * Who uses a file holds a lock on it until the table is freed.  It belongs to
 * the open file, not to the process: it survives nbdkit's fork, and there is no
 * second user in the same process either.
 *
 * Functions return 0 or -errno with one line in error (INTENT_ERROR_MAX bytes,
 * printable), which begins with the path and says what is wrong and what to do.
 * They block for as long as the disk takes, never for another process.
 */

#ifndef MIRROR_INTENT_STORE_H
#define MIRROR_INTENT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "format.h"
#include "io.h"

#define INTENT_ERROR_MAX 512

/* What a file says whose first INTENT_PAGES_OFFSET bytes are buf (of a shorter
 * one: what there is, and zeroes) and whose length is size: the header that
 * counts, and which copy of it that is.  -EINVAL: foreign; -ENOTSUP: of a newer
 * version; -EBADMSG: damaged; -ENODATA: not all of it is there.  No I/O; error
 * does not name the file.
 */
extern int intent_load (const void *buf, uint64_t size,
                        struct intent_head *head, int *copy, char *error);

enum intent_store_how {
  INTENT_STORE_USE,             /* to read and write; locked */
  INTENT_STORE_LOOK,            /* to read what may be in use: no lock, nobody
                                 * is asked whose it is, and write, sync and
                                 * destroy fail */
};

/* Does the file belong to who we are, or to root?  Of others only root can open
 * one to use it, since he may be about to become its owner (nbdkit -u does that
 * after .get_ready): to be asked when that has been done.
 */
extern int intent_store_check_owner (struct intent_io *io, const char *path,
                                     char *error);

/* path: absolute, or of the current directory.  -ENOENT: there is none.
 * -EBUSY: another proxy uses it.  Else as intent_load, and what open says.  The
 * table is to be freed.
 */
extern int intent_store_open (const char *path, enum intent_store_how how,
                              struct intent_io **io, struct intent_head *head,
                              int *copy, char *error);

/* A new one, laid out for *head, which is in copy 0; every region is set.  It
 * has its name when all of it is durable.  -EEXIST: there is something.
 */
extern int intent_store_create (const char *path,
                                const struct intent_head *head,
                                struct intent_io **io, char *error);

/* Could one be made there, as far as can be told without its size?  Leaves
 * nothing behind.
 */
extern int intent_store_can_create (const char *path, char *error);

#endif /* MIRROR_INTENT_STORE_H */
