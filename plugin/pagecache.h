/* SPDX-License-Identifier: BSD-3-Clause */
/* cache=none: keep what is read and written out of the page cache.
 *
 * What has been read is dropped.  What has been written cannot be before it is
 * on the disk: it is sent there at once, and dropped when so many more writes
 * have followed that it has arrived without anybody having to wait for it,
 * mostly.
 */

#ifndef MIRROR_PAGECACHE_H
#define MIRROR_PAGECACHE_H

#include "range.h"
#include "sync.h"

#define PAGE_CACHE_WRITES 8

struct page_cache {
  struct mutex lock;
  /* Protected by lock: the last writes, a ring. */
  struct range written[PAGE_CACHE_WRITES];
  unsigned next;
};

extern void page_cache_init (struct page_cache *c);
extern void page_cache_destroy (struct page_cache *c);

/* After a read of that range, with fd. */
extern void page_cache_read (int fd, struct range r);

/* After a write.  Thread-safe.  Returns 0 or -errno: any write before it may
 * have failed, and with fd the kernel does not tell that again.
 */
extern int page_cache_written (struct page_cache *c, int fd, struct range r);

#endif /* MIRROR_PAGECACHE_H */
