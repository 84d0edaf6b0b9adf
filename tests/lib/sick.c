/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin: a disk in memory, full of data, that fails as disks do,
 * and says so.
 *
 *   nbdkit sick.so size=SIZE [bad=OFFSET] [flush-fails=FILE] [extents=KIND]
 *
 * bad          reads of that byte fail by EIO until it has been written to
 * flush-fails  as long as FILE exists a flush fails by EIO, and what has been
 *              written since the last good one is gone, as in a kernel that
 *              drops what it could not write
 * extents      "error": there is no answer, and "none": one without any; or
 *              "tiny", of a few bytes each and of any alignment; "past", far
 *              beyond what was asked for.  What is said of zeroes is true.
 *
 * Every seventh sector is zero at first.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define SECTOR 512
#define TINY_MAX 777
#define EXTENTS_MAX 1000        /* of one answer */

enum kind { HONEST, ERROR, NONE, TINY, PAST, KINDS };
static const char *const names[KINDS] = {
  "honest", "error", "none", "tiny", "past",
};

static enum kind kind;
static int64_t size, bad = -1;
static char *flush_fails;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t *disk, *durable;
static uint64_t state = 1;

static int
sick_config (const char *key, const char *value)
{
  if (strcmp (key, "size") == 0)
    return (size = nbdkit_parse_size (value)) == -1 ? -1 : 0;
  if (strcmp (key, "bad") == 0)
    return (bad = nbdkit_parse_size (value)) == -1 ? -1 : 0;
  if (strcmp (key, "flush-fails") == 0)
    return (flush_fails = nbdkit_absolute_path (value)) == NULL ? -1 : 0;
  if (strcmp (key, "extents") == 0)
    for (kind = 0; kind < KINDS; ++kind)
      if (strcmp (value, names[kind]) == 0)
        return 0;
  nbdkit_error ("%s=%s: unknown", key, value);
  return -1;
}

static uint64_t
next_random (void)
{
  state ^= state << 13;         /* xorshift64, Marsaglia 2003 */
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

static int
sick_get_ready (void)
{
  int64_t i;

  disk = malloc (size + 1);
  durable = malloc (size + 1);
  if (disk == NULL || durable == NULL) {
    nbdkit_error ("malloc: %m");
    return -1;
  }
  for (i = 0; i < size; ++i)
    disk[i] = i / SECTOR % 7 == 0 ? 0 : next_random () | 1;
  memcpy (durable, disk, size);
  return 0;
}

static void *
sick_open (int readonly)
{
  (void) readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
sick_get_size (void *handle)
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

/* With the lock. */
static bool
is_bad (uint32_t count, uint64_t offset)
{
  return bad >= 0 && (uint64_t) bad >= offset &&
    (uint64_t) bad - offset < count;
}

static int
sick_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  int r = 0;

  (void) handle;
  (void) flags;
  pthread_mutex_lock (&lock);
  if (is_bad (count, offset)) {
    memset (buf, 'X', count);
    nbdkit_set_error (EIO);
    r = -1;
  }
  else
    memcpy (buf, disk + offset, count);
  pthread_mutex_unlock (&lock);
  return r;
}

static int
sick_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) handle;
  (void) flags;
  pthread_mutex_lock (&lock);
  if (is_bad (count, offset))
    bad = -1;
  memcpy (disk + offset, buf, count);
  pthread_mutex_unlock (&lock);
  return 0;
}

static int
sick_flush (void *handle, uint32_t flags)
{
  const bool fails = flush_fails && access (flush_fails, F_OK) == 0;

  (void) handle;
  (void) flags;
  pthread_mutex_lock (&lock);
  if (fails)
    memcpy (disk, durable, size);
  else if (flush_fails)
    memcpy (durable, disk, size);
  pthread_mutex_unlock (&lock);
  if (fails) {
    nbdkit_error ("flush failed");
    nbdkit_set_error (EIO);
  }
  return fails ? -1 : 0;
}

static uint32_t
type_of (uint64_t offset, uint64_t count)
{
  uint64_t i;

  for (i = 0; i < count; ++i)
    if (disk[offset + i] != 0)
      return next_random () % 2 ? 0 : NBDKIT_EXTENT_HOLE;
  return NBDKIT_EXTENT_ZERO | (next_random () % 2 ? 0 : NBDKIT_EXTENT_HOLE);
}

static int
sick_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  uint64_t n, end = offset + count;
  int i, r = 0;

  (void) handle;
  (void) flags;
  if (kind == ERROR) {
    nbdkit_set_error (EIO);
    return -1;
  }
  if (kind == NONE)
    return 0;
  if (kind != TINY)
    return nbdkit_add_extent (extents, offset, kind == PAST
                              ? UINT64_C (1) << 50 : count, 0);
  pthread_mutex_lock (&lock);
  for (i = 0; r == 0 && i < EXTENTS_MAX && offset < end; ++i, offset += n) {
    n = 1 + next_random () % TINY_MAX;
    if (n > end - offset)
      n = end - offset;
    r = nbdkit_add_extent (extents, offset, n, type_of (offset, n));
  }
  pthread_mutex_unlock (&lock);
  return r;
}

static void
sick_unload (void)
{
  free (disk);
  free (durable);
  free (flush_fails);
}

static struct nbdkit_plugin plugin = {
  .unload = sick_unload,
  .name = "sick",
  .config = sick_config,
  .get_ready = sick_get_ready,
  .open = sick_open,
  .get_size = sick_get_size,
  .can_write = yes,
  .can_flush = yes,
  .can_multi_conn = yes,
  .pread = sick_pread,
  .pwrite = sick_pwrite,
  .flush = sick_flush,
  .extents = sick_extents,
};

NBDKIT_REGISTER_PLUGIN (plugin)
