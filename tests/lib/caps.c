/* SPDX-License-Identifier: BSD-3-Clause */
/* An nbdkit plugin whose abilities are chosen: a disk in memory that offers
 * what caps= names and nothing else, for all the sources and targets that
 * there may be.
 *
 *   nbdkit caps.so size=SIZE [caps=NAME,NAME...] [opens=N grow=BYTES]
 *
 * The names: flush fua zero fast-zero trim multi-conn extents cache.  After
 * N opens (not counting the one before it forks) the disk is BYTES larger.
 *
 * It is honest: a request that was not offered fails, and a disk that says
 * that it reads as zero does.  All is kept in anonymous memory, so only what
 * was written to costs anything.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum cap { FLUSH, FUA, ZERO, FAST_ZERO, TRIM, MULTI_CONN, EXTENTS, CACHE,
           CAPS };

static const char *const names[CAPS] = {
  "flush", "fua", "zero", "fast-zero", "trim", "multi-conn", "extents",
  "cache",
};

static bool caps[CAPS];
static int64_t size, grow;
static unsigned opens_before = UINT32_MAX;
static atomic_uint opens;
static uint8_t *disk;

/* What extents looks at: a unit, and how far in one call. */
#define UNIT 4096u
#define LOOK (UINT32_C (64) << 20)

static int
set_caps (const char *value)
{
  size_t n, i;

  for (; *value; value += n + (value[n] == ',')) {
    n = strcspn (value, ",");
    for (i = 0; i < CAPS; ++i)
      if (strlen (names[i]) == n && strncmp (value, names[i], n) == 0)
        break;
    if (i == CAPS) {
      nbdkit_error ("caps=%s: unknown", value);
      return -1;
    }
    caps[i] = true;
  }
  return 0;
}

static int
caps_config (const char *key, const char *value)
{
  if (strcmp (key, "caps") == 0)
    return set_caps (value);
  if (strcmp (key, "size") == 0) {
    size = nbdkit_parse_size (value);
    return size == -1 ? -1 : 0;
  }
  if (strcmp (key, "opens") == 0)
    return nbdkit_parse_unsigned (key, value, &opens_before);
  if (strcmp (key, "grow") == 0) {
    grow = nbdkit_parse_size (value);
    return grow == -1 ? -1 : 0;
  }
  nbdkit_error ("%s: unknown", key);
  return -1;
}

static int
caps_get_ready (void)
{
  disk = mmap (NULL, (size_t) (size + grow) + 1, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (disk == MAP_FAILED) {
    nbdkit_error ("mmap: %m");
    return -1;
  }
  return 0;
}

static void *
caps_open (int readonly)
{
  int64_t *h = malloc (sizeof *h);

  (void) readonly;
  if (h == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  *h = atomic_fetch_add (&opens, 1) < opens_before ? size : size + grow;
  return h;
}

static void
caps_close (void *handle)
{
  free (handle);
}

static int64_t
caps_get_size (void *handle)
{
  return *(int64_t *) handle;
}

#define CAN(function, cap, yes)                                         \
  static int                                                            \
  function (void *handle)                                               \
  {                                                                     \
    (void) handle;                                                      \
    return caps[cap] ? yes : 0;                                         \
  }

CAN (caps_can_flush, FLUSH, 1)
CAN (caps_can_fua, FUA, NBDKIT_FUA_NATIVE)
CAN (caps_can_zero, ZERO, 1)
CAN (caps_can_fast_zero, FAST_ZERO, 1)
CAN (caps_can_trim, TRIM, 1)
CAN (caps_can_multi_conn, MULTI_CONN, 1)
CAN (caps_can_extents, EXTENTS, 1)
CAN (caps_can_cache, CACHE, NBDKIT_CACHE_NATIVE)

/* Was that offered? */
static int
check (enum cap cap, uint32_t flags)
{
  if (cap != CAPS && !caps[cap])
    nbdkit_error ("%s was not offered", names[cap]);
  else if ((flags & NBDKIT_FLAG_FUA) && !caps[FUA])
    nbdkit_error ("FUA was not offered");
  else if ((flags & NBDKIT_FLAG_FAST_ZERO) && !caps[FAST_ZERO])
    nbdkit_error ("a fast zero was not offered");
  else
    return 0;
  nbdkit_set_error (EINVAL);
  return -1;
}

static int
caps_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
            uint32_t flags)
{
  (void) handle;
  (void) flags;
  memcpy (buf, disk + offset, count);
  return 0;
}

static int
caps_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) handle;
  if (check (CAPS, flags) == -1)
    return -1;
  memcpy (disk + offset, buf, count);
  return 0;
}

static int
caps_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  if (check (ZERO, flags) == -1)
    return -1;
  memset (disk + offset, 0, count);
  return 0;
}

/* A trim may leave anything; here the first half is lost. */
static int
caps_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  if (check (TRIM, flags) == -1)
    return -1;
  memset (disk + offset, 0, count / 2);
  return 0;
}

static int
caps_flush (void *handle, uint32_t flags)
{
  (void) handle;
  return check (FLUSH, flags);
}

static int
caps_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) handle;
  (void) count;
  (void) offset;
  return check (CACHE, flags);
}

static int
caps_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
              struct nbdkit_extents *extents)
{
  uint64_t end = offset + (count < LOOK ? count : LOOK), n;
  bool zero;

  (void) handle;
  if (check (EXTENTS, flags) == -1)
    return -1;
  for (; offset < end; offset += n) {
    n = UNIT - offset % UNIT;
    if (n > end - offset)
      n = end - offset;
    zero = disk[offset] == 0 &&
      memcmp (disk + offset, disk + offset + 1, n - 1) == 0;
    if (nbdkit_add_extent (extents, offset, n,
                           zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
                           : 0) == -1)
      return -1;
  }
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "caps",
  .config = caps_config,
  .get_ready = caps_get_ready,
  .open = caps_open,
  .close = caps_close,
  .get_size = caps_get_size,
  .can_flush = caps_can_flush,
  .can_fua = caps_can_fua,
  .can_zero = caps_can_zero,
  .can_fast_zero = caps_can_fast_zero,
  .can_trim = caps_can_trim,
  .can_multi_conn = caps_can_multi_conn,
  .can_extents = caps_can_extents,
  .can_cache = caps_can_cache,
  .pread = caps_pread,
  .pwrite = caps_pwrite,
  .zero = caps_zero,
  .trim = caps_trim,
  .flush = caps_flush,
  .cache = caps_cache,
  .extents = caps_extents,
};

NBDKIT_REGISTER_PLUGIN (plugin)
