/* SPDX-License-Identifier: BSD-3-Clause */
/* A local file or block device that is open, and what can be done with it.
 *
 * Offsets and lengths are bytes inside the disk's size: the caller sees to it.
 * All functions but disk_check, disk_open and disk_close are thread-safe; all
 * block for the disk.  0 or -errno; text of an error goes to why.
 */

#ifndef MIRROR_DISK_H
#define MIRROR_DISK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "blocklock.h"
#include "bounce.h"
#include "pagecache.h"
#include "range.h"
#include "ring.h"
#include "syncs.h"

/* auto, on, off: the keys direct and uring. */
enum choice { CHOICE_AUTO, CHOICE_ON, CHOICE_OFF };

/* What all that is open of one file shares.  Set up once, then used by all
 * threads.
 */
struct shared {
  const char *path;             /* absolute */
  enum choice direct;
  bool drop_cache;              /* cache=none */
  unsigned queue_depth;         /* pieces of one request in flight, >= 1 */
  struct blocklock blocks;
  struct bounce_pool bounces;
  struct ring_pool rings;
  struct syncs syncs;
};

struct disk {
  /* Read-only once open: */
  struct shared *shared;
  int fd;                       /* O_DIRECT if direct */
  int tail_fd;                  /* not O_DIRECT; -1 where there is no tail */
  bool direct, device, readonly;
  uint64_t size;
  uint64_t tail;                /* where the tail begins; size without one */
  uint32_t block;               /* unit of O_DIRECT; 1 if not direct */
  uint32_t mem_align;           /* of its buffers; 1 if not direct */
  uint32_t zero_align;          /* of zeroes and trims */
  bool fast_zeroes;             /* of a device: by the device itself */
  /* What has turned out not to be supported is not tried again. */
  atomic_bool no_punch, no_zero_range, no_allocate, no_zeroout, no_discard;
  atomic_uint seen_failures;    /* of shared->syncs */
  struct page_cache page_cache; /* if shared->drop_cache */
};

#define DISK_WHY_MAX 256

/*-- disk.c -------------------------------------------------------------*/

/* Does the path name what can be served, as asked?  Opens nothing. */
extern int disk_check (const struct shared *s, char why[DISK_WHY_MAX]);

extern int disk_open (struct disk *d, struct shared *s, bool readonly,
                      char why[DISK_WHY_MAX]);
extern void disk_close (struct disk *d);

/* The preferred block size. */
extern uint32_t disk_preferred (const struct disk *d);

/* The pages that are touched, of whatever size they are here. */
extern struct range disk_pages (const struct disk *d, struct range r);

/* Is the file still as long as it was?  Else -EIO. */
extern int disk_still_there (const struct disk *d, uint64_t end);

/*-- io.c ---------------------------------------------------------------*/

extern int disk_read (struct disk *d, void *buf, uint64_t count,
                      uint64_t offset);

/* buf NULL: zeroes.  With fua it is durable afterwards, and with it what the
 * file system needs to find it again.
 */
extern int disk_write (struct disk *d, const void *buf, uint64_t count,
                       uint64_t offset, bool fua);

/* All that has been written through any struct disk of this file.  When it
 * fails, or a write with fua does, what had been written may be lost: then the
 * next flush of each other struct disk that is open fails, too, as its data may
 * be among it.
 */
extern int disk_flush (struct disk *d);

/* A request with FUA that is no single write: the first before it, the second
 * after it, with what has become of it.  Returns that, or what became of making
 * it durable.
 */
extern void disk_fua_begin (struct disk *d, struct syncing *me);
extern int disk_fua_end (struct disk *d, struct syncing *me, int r);

/*-- zero.c -------------------------------------------------------------*/

struct zero_how {
  bool may_trim;                /* holes are welcome */
  bool fast;                    /* -EOPNOTSUPP rather than writing zeroes */
  bool fua;
};
extern int disk_zero (struct disk *d, uint64_t count, uint64_t offset,
                      struct zero_how how);

/* A disk that cannot trim takes no notice. */
extern int disk_trim (struct disk *d, uint64_t count, uint64_t offset,
                      bool fua);

/*-- extents.c ----------------------------------------------------------*/

/* Can the file system tell holes from data at all? */
extern bool disk_knows_extents (const struct disk *d);

/* Where the data or the hole at offset ends, at most at end > offset. */
extern int disk_extent (const struct disk *d, uint64_t offset, uint64_t end,
                        struct range *extent, bool *hole);

/* Read ahead into the page cache; not when direct. */
extern int disk_cache (const struct disk *d, uint64_t count, uint64_t offset);

#endif /* MIRROR_DISK_H */
