/* SPDX-License-Identifier: BSD-3-Clause */
/* See pagecache.h. */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cleanup.h"
#include "pagecache.h"

void
page_cache_init (struct page_cache *c)
{
  mutex_init (&c->lock);
  memset (c->written, 0, sizeof c->written);
  c->next = 0;
}

void
page_cache_destroy (struct page_cache *c)
{
  mutex_destroy (&c->lock);
}

void
page_cache_read (int fd, struct range r)
{
  posix_fadvise (fd, (off_t) r.start, (off_t) range_len (r),
                 POSIX_FADV_DONTNEED);
}

int
page_cache_written (struct page_cache *c, int fd, struct range r)
{
  struct range old;
  int err = 0;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

    old = c->written[c->next];
    c->written[c->next] = r;
    c->next = (c->next + 1) % PAGE_CACHE_WRITES;
  }
  if (sync_file_range (fd, (off_t) r.start, (off_t) range_len (r),
                       SYNC_FILE_RANGE_WRITE) < 0)
    err = -errno;
  if (range_empty (old))
    return err;
  if (sync_file_range (fd, (off_t) old.start, (off_t) range_len (old),
                       SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                       SYNC_FILE_RANGE_WAIT_AFTER) < 0)
    err = -errno;
  page_cache_read (fd, old);
  return err;
}
