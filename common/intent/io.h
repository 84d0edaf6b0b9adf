/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file as those see it who keep it (filters/mirror/engine/intent.h):
 * a small table, so that the simulator has one with power cuts.
 *
 * All or nothing: a short read or write is an error.  Functions block for as
 * long as the file's disk takes, and return 0 or -errno.  One call at a time,
 * but for pread.
 */

#ifndef MIRROR_INTENT_IO_H
#define MIRROR_INTENT_IO_H

#include <stddef.h>
#include <stdint.h>

struct intent_io;

struct intent_io_ops {
  int (*pread) (struct intent_io *, void *buf, size_t count, uint64_t offset);
  int (*pwrite) (struct intent_io *, const void *buf, size_t count,
                 uint64_t offset);

  /* What has been written is durable.  After a failure nobody knows what of it
   * is, and a later success says nothing about it.
   */
  int (*sync) (struct intent_io *);

  /* 0: it is what will be found under its name; -ENOENT: nothing will; or
   * -ESTALE: another file.  May be NULL: it is.
   */
  int (*check) (struct intent_io *);

  /* The file is gone, durably.  What was open stays open. */
  int (*destroy) (struct intent_io *);

  void (*free) (struct intent_io *);    /* closes it */
};

/* Embed as first member. */
struct intent_io {
  const struct intent_io_ops *ops;
};

#endif /* MIRROR_INTENT_IO_H */
