/* SPDX-License-Identifier: BSD-3-Clause */
/* An intent file in memory, with a disk that may lose power (intent.h).
 *
 * What is written is in the cache, and of each sector that has not been synced
 * since nobody knows whether it is on the medium.  After a failed sync it stays
 * so: a later one says nothing about it (until it is written again).  A *crash
 * image* is what a restart may read.
 *
 * What an image means is worked out here, from nbdkit-mirror-intent(5) and with
 * format.h only.
 *
 * The file and its images are thread-safe.
 */

#ifndef MIRROR_INTENT_FAKE_H
#define MIRROR_INTENT_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "intent.h"

#define FAKE_SECTOR 512u

/* What a write that fails has done: nothing, half of it, all of it. */
enum fake_damage { DAMAGE_NONE, DAMAGE_HALF, DAMAGE_ALL, DAMAGES };

struct fake {
  struct intent_io io;          /* first */
  size_t size;                  /* bytes, a multiple of a sector */

  struct mutex lock;
  struct cond changed;

  /* Protected by lock. */
  char *cache;                  /* what a read gets */
  char *medium;                 /* what a sector was when it was last certain */
  char *older;                  /* ... or has been since, but for the cache */
  unsigned char *sector;        /* [size / FAKE_SECTOR]: enum in the .c file */
  bool gone, freed;
  unsigned ops;                 /* writes, syncs and destroys so far */
  unsigned syncs;               /* that were good */
  unsigned fail_at, fail_count; /* ops that fail: [fail_at, + fail_count) */
  enum fake_damage damage;
  bool keep;                    /* destroy fails */
  int elsewhere;                /* what check says */
  bool fail_pread;
  bool block;                   /* syncs wait until it is false */
  unsigned blocked;             /* that are waiting */

  /* If set: called after each op, without the lock. */
  void (*after) (void *opaque);
  void *opaque;
};

/* A header of a disk that had no mirror yet. */
extern void fake_init_head (struct intent_head *head, uint64_t size,
                            uint64_t granularity);

/* A file of so many bytes, all zero and durable; ck_asserts that it can. */
extern struct fake *fake_new (uint64_t size);

/* A header in copy 0, durable; no pages. */
extern struct fake *fake_new_laid_out (const struct intent_head *head);

/* After intent_free, which only notes that it was called; or NULL. */
extern void fake_free (struct fake *f);

/* Another one as it is now; with nothing set to fail, block or follow. */
extern struct fake *fake_copy (struct fake *f);

/* The n-th op from here on fails (from 0), and those after it, `count` in all.
 * (destroy fails only by keep.)
 */
extern void fake_fail (struct fake *f, unsigned n, unsigned count);

/* A byte becomes another one, also on the medium; the second time what it was.
 */
extern void fake_rot (struct fake *f, uint64_t offset);

extern void fake_block (struct fake *f, bool block);
extern void fake_wait_blocked (struct fake *f); /* until a sync waits */

/* What a restart believes. */
struct image {
  const char *bytes;
  size_t size;
  bool gone;                    /* there is no file */
  int copy;                     /* which header counts, or -errno */
  struct intent_head head;
};

/* bytes, of so many, as an image.  They are only referred to. */
extern void image_read (struct image *im, const char *bytes, size_t size);

/* Is a region in W?  Of a file that is gone or damaged nobody trusts anything.
 */
extern bool image_has (const struct image *im, uint64_t region);

/* ... all that r touches? */
extern bool image_covers (const struct image *im, struct range r);

/* fn for each image that a crash may leave now: the cache as it is (if only the
 * process dies); what is not certain all absent, all there, or a single sector
 * of it.
 */
extern void fake_each_image (struct fake *f,
                             void (*fn) (void *opaque, const struct image *im),
                             void *opaque);

/* Does W have r, if the power fails now?  Looks at three images: all absent,
 * all there, and all as it was written before the latest time.
 */
extern bool fake_covers (struct fake *f, struct range r);

/* What counts of the cache as head and copy for intent_new; ck_asserts that
 * something does.
 */
extern void fake_head (struct fake *f, struct intent_head *head, int *copy);

/* A clock that stands still, unless somebody waits for it: then it is there at
 * once.  One thread.
 */
struct fake_clock {
  struct clock clock;           /* first */
  uint64_t now_ns;
  unsigned waits;
  void (*waiting) (void *opaque);       /* if set: called for each */
  void *opaque;
};

extern void fake_clock_init (struct fake_clock *c);

#endif /* MIRROR_INTENT_FAKE_H */
