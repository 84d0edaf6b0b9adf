/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin that lies: a disk in memory that loses, bends or repeats
 * a request now and then and says that all is well.  With it the tests show
 * that the oracle and nbdfsx see such faults.
 *
 *   nbdkit liar.so size=SIZE lie=KIND [every=N] [at=OFFSET]
 *
 * With at it lies only of requests that cover that byte.  With every=1 as
 * well, the same requests always meet the same lies.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum lie {
  HONEST,
  DROP_WRITE,                   /* a write is not done */
  SHORT_WRITE,                  /* its last byte is missing */
  FLIP_WRITE,                   /* one of its bytes is wrong */
  MISPLACE_WRITE,               /* it goes to the next sector */
  REPEAT_WRITE,                 /* it is done again, later */
  HALF_OVERLAP,                 /* only half of it, if it meets another */
  FLIP_READ,                    /* a byte of a read is wrong */
  IGNORE_ZERO,
  SHORT_ZERO,                   /* the last byte keeps its value */
  WIDE_ZERO,                    /* the byte behind it is zeroed, too */
  FAST_ZERO_HALF,               /* refused with ENOTSUP, but half done */
  HALF_WRITE_ERROR,             /* half of a write, then EIO: no lie */
  FALSE_HOLE,                   /* data is said to read as zero */
  TRIM_MORE,                    /* the byte behind a trim is zeroed, too */
  LIES
};

static const char *const names[LIES] = {
  "none", "drop-write", "short-write", "flip-write", "misplace-write",
  "repeat-write", "half-overlap", "flip-read", "ignore-zero", "short-zero",
  "wide-zero", "fast-zero-half", "half-write-error", "false-hole",
  "trim-more",
};

static enum lie lie;
static unsigned every = 50;
static int64_t size, at = -1;
static uint8_t *disk;
static atomic_uint calls;

/* For overlaps: the writes in flight. */
struct range {
  uint64_t start, end;
  struct range *next;
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct range *ranges;

/* For repeats: a write of the past. */
static uint8_t *kept;
static uint32_t kept_count;
static uint64_t kept_offset;

static int
liar_config (const char *key, const char *value)
{
  if (strcmp (key, "size") == 0) {
    size = nbdkit_parse_size (value);
    return size == -1 ? -1 : 0;
  }
  if (strcmp (key, "at") == 0) {
    at = nbdkit_parse_size (value);
    return at == -1 ? -1 : 0;
  }
  if (strcmp (key, "every") == 0)
    return nbdkit_parse_unsigned (key, value, &every);
  if (strcmp (key, "lie") == 0) {
    for (lie = 0; lie < LIES; ++lie)
      if (strcmp (value, names[lie]) == 0)
        return 0;
  }
  nbdkit_error ("%s=%s: unknown", key, value);
  return -1;
}

static int
liar_get_ready (void)
{
  disk = calloc (1, size);
  if (disk == NULL) {
    nbdkit_error ("calloc: %m");
    return -1;
  }
  return 0;
}

static void *
liar_open (int readonly)
{
  (void) readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
liar_get_size (void *handle)
{
  (void) handle;
  return size;
}

static int
yes (void *handle)
{
  (void) handle;
  return 1;
}

static int
native_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

/* Is this the call to lie about? */
static bool
now (enum lie which, uint32_t count, uint64_t offset)
{
  if (at >= 0 && ((uint64_t) at < offset || (uint64_t) at - offset >= count))
    return false;
  return lie == which && atomic_fetch_add (&calls, 1) % every == every - 1;
}

static int
liar_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  (void) handle;
  (void) flags;
  memcpy (buf, disk + offset, count);
  if (now (FLIP_READ, count, offset))
    ((uint8_t *) buf)[count / 2] ^= 0x40;
  return 0;
}

static bool
meets_another (struct range *r)
{
  struct range *o;
  bool found = false;

  pthread_mutex_lock (&lock);
  for (o = ranges; o; o = o->next)
    if (r->start < o->end && o->start < r->end)
      found = true;
  r->next = ranges;
  ranges = r;
  pthread_mutex_unlock (&lock);
  return found;
}

static void
forget (struct range *r)
{
  struct range **link;

  pthread_mutex_lock (&lock);
  for (link = &ranges; *link != r; link = &(*link)->next)
    ;
  *link = r->next;
  pthread_mutex_unlock (&lock);
}

static void
write_half_if_overlapping (const void *buf, uint32_t count, uint64_t offset)
{
  struct range r = { .start = offset, .end = offset + count };

  if (meets_another (&r))
    count /= 2;
  nbdkit_nanosleep (0, 1000000);
  memcpy (disk + offset, buf, count);
  forget (&r);
}

static void
repeat_old_write (const void *buf, uint32_t count, uint64_t offset)
{
  bool turn = atomic_fetch_add (&calls, 1) % every == every - 1;

  pthread_mutex_lock (&lock);
  if (turn && kept) {
    memcpy (disk + kept_offset, kept, kept_count);
    free (kept);
    kept = NULL;
  }
  if (kept == NULL && (kept = malloc (count)) != NULL) {
    memcpy (kept, buf, count);
    kept_count = count;
    kept_offset = offset;
  }
  memcpy (disk + offset, buf, count);
  pthread_mutex_unlock (&lock);
}

static int
liar_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) handle;
  (void) flags;
  if (lie == HALF_OVERLAP) {
    write_half_if_overlapping (buf, count, offset);
    return 0;
  }
  if (lie == REPEAT_WRITE) {
    repeat_old_write (buf, count, offset);
    return 0;
  }
  if (now (DROP_WRITE, count, offset))
    return 0;
  if (now (HALF_WRITE_ERROR, count, offset)) {
    memcpy (disk + offset, buf, count / 2);
    nbdkit_set_error (EIO);
    return -1;
  }
  if (now (MISPLACE_WRITE, count, offset)
      && offset + 512 + count <= (uint64_t) size)
    offset += 512;
  memcpy (disk + offset, buf,
          now (SHORT_WRITE, count, offset) ? count - 1 : count);
  if (now (FLIP_WRITE, count, offset))
    disk[offset + count / 2] ^= 1;
  return 0;
}

static int
liar_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  if ((flags & NBDKIT_FLAG_FAST_ZERO) && lie == FAST_ZERO_HALF) {
    memset (disk + offset, 0, count / 2);
    nbdkit_set_error (EOPNOTSUPP);
    return -1;
  }
  if (now (IGNORE_ZERO, count, offset))
    return 0;
  if (now (SHORT_ZERO, count, offset))
    count--;
  if (now (WIDE_ZERO, count, offset) && offset + count < (uint64_t) size)
    count++;
  memset (disk + offset, 0, count);
  return 0;
}

static int
liar_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  if (now (TRIM_MORE, count, offset) && offset + count < (uint64_t) size)
    count++;
  return liar_zero (handle, count, offset, flags);
}

static int
liar_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  bool hole = now (FALSE_HOLE, count, offset);

  (void) handle;
  (void) flags;
  return nbdkit_add_extent (extents, offset, count,
                            hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
                            : 0);
}

static int
liar_flush (void *handle, uint32_t flags)
{
  (void) handle;
  (void) flags;
  return 0;
}

static void
liar_unload (void)
{
  free (disk);
  free (kept);
}

static struct nbdkit_plugin plugin = {
  .unload = liar_unload,
  .name = "liar",
  .config = liar_config,
  .get_ready = liar_get_ready,
  .open = liar_open,
  .get_size = liar_get_size,
  .can_write = yes,
  .can_flush = yes,
  .can_zero = yes,
  .can_fast_zero = yes,
  .can_trim = yes,
  .can_multi_conn = yes,
  .can_fua = native_fua,
  .pread = liar_pread,
  .pwrite = liar_pwrite,
  .zero = liar_zero,
  .trim = liar_trim,
  .flush = liar_flush,
  .extents = liar_extents,
};

NBDKIT_REGISTER_PLUGIN (plugin)
