/* SPDX-License-Identifier: BSD-3-Clause */
/* preadv and pwritev, to the end.
 *
 * What the kernel did only in part, or interrupted, or said to try again, is
 * asked for again.
 */

#ifndef MIRROR_RW_H
#define MIRROR_RW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

/* What to do with a file.  With O_DIRECT all offsets, lengths and buffers must
 * be aligned as it wants them.
 */
struct rw_how {
  int fd;
  bool write;
  int flags;                    /* RWF_DSYNC */
  uint32_t block;               /* O_DIRECT's, a power of two; else 1 */
};

/* Read or write all of it, at offset; iov is changed.  0 or -errno: -EIO where
 * the file ends before, or where it does not go on.  Blocks.
 */
extern int rw_full (const struct rw_how *how, struct iovec *iov, int n,
                    uint64_t offset);

/* The same, with one buffer. */
extern int rw_buffer (const struct rw_how *how, void *buf, size_t len,
                      uint64_t offset);

/* An error of a read or write as NBD should hear of it.  Takes and returns
 * -errno.
 */
extern int rw_error (int r);

#endif /* MIRROR_RW_H */
