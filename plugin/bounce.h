/* SPDX-License-Identifier: BSD-3-Clause */
/* Aligned buffers for direct I/O.
 *
 * nbdkit's buffers are aligned to 16 bytes and no more, and a client's range
 * need not be whole blocks: what the kernel reads and writes then is one of
 * these, and the data is copied.
 *
 * Thread-safe; no function blocks but for memory.
 */

#ifndef MIRROR_BOUNCE_H
#define MIRROR_BOUNCE_H

#include <stddef.h>

#include "sync.h"

/* Of each buffer: the largest piece of a request that is one I/O. */
#define BOUNCE_SIZE ((size_t) 256 << 10)
#define BOUNCE_ALIGN ((size_t) 4096)

/* Buffers that are kept for the next request; more are freed. */
#define BOUNCE_KEEP 64

struct bounce_pool {
  struct mutex lock;
  unsigned count;               /* protected by lock, as is: */
  void *buffer[BOUNCE_KEEP];    /* the one used last is the first to go */
};

extern void bounce_pool_init (struct bounce_pool *p);

/* All buffers must be back. */
extern void bounce_pool_destroy (struct bounce_pool *p);

/* A buffer with any content, or NULL when out of memory. */
extern void *bounce_get (struct bounce_pool *p);

/* buffer may be NULL. */
extern void bounce_put (struct bounce_pool *p, void *buffer);

/* BOUNCE_SIZE zeroes, aligned; never to be written to, or put back. */
extern void *bounce_zeroes (void);

#endif /* MIRROR_BOUNCE_H */
