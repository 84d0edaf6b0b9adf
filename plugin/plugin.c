/* SPDX-License-Identifier: BSD-3-Clause */
/* The plugin uring: nbdkit's callbacks and nothing else.
 *
 * Each client has the file open for itself, so that the kernel tells each of
 * data that could not be written, and what the file is, is found out when the
 * client comes.  They share locks, buffers and rings.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "disk.h"
#include "errtext.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

#define MAX_REQUEST (UINT32_C (32) << 20)
#define QUEUE_DEPTH 8
#define QUEUE_DEPTH_MAX 1024

/* Of one answer to a client. */
#define EXTENTS_MAX 16384

static char *file;
static enum choice uring;
static bool cache_given;
static struct shared shared = { .queue_depth = QUEUE_DEPTH };

/* 0, or -1 with the errno set. */
static int
result (int r)
{
  if (r == 0)
    return 0;
  nbdkit_set_error (-r);
  return -1;
}

/* The same, after a line about it. */
static int
told (const char *what, int r)
{
  if (r < 0)
    nbdkit_error ("file=%s: %s: %s", file, what, error_text (-r));
  return result (r);
}

/*-- life ---------------------------------------------------------------*/

static void
uring_unload (void)
{
  free (file);
}

static int
parse_choice (const char *key, const char *value, enum choice *choice)
{
  static const char *const words[] = {
    [CHOICE_AUTO] = "auto", [CHOICE_ON] = "on", [CHOICE_OFF] = "off" };
  size_t i;

  for (i = 0; i < sizeof words / sizeof words[0]; ++i)
    if (strcmp (value, words[i]) == 0) {
      *choice = (enum choice) i;
      return 0;
    }
  nbdkit_error ("%s=%s: allowed are auto, on and off", key, value);
  return -1;
}

static int
parse_depth (const char *key, const char *value)
{
  unsigned long n;
  char *end;

  errno = 0;
  n = strtoul (value, &end, 10);
  if (errno == 0 && *end == 0 && *value >= '0' && *value <= '9' && n >= 1 &&
      n <= QUEUE_DEPTH_MAX) {
    shared.queue_depth = (unsigned) n;
    return 0;
  }
  nbdkit_error ("%s=%s: allowed are 1 to %d", key, value, QUEUE_DEPTH_MAX);
  return -1;
}

static int
uring_config (const char *key, const char *value)
{
  if (strcmp (key, "file") == 0) {
    if (file != NULL) {
      nbdkit_error ("file=%s: given twice", value);
      return -1;
    }
    file = nbdkit_absolute_path (value);
    return file ? 0 : -1;
  }
  if (strcmp (key, "direct") == 0)
    return parse_choice (key, value, &shared.direct);
  if (strcmp (key, "uring") == 0)
    return parse_choice (key, value, &uring);
  if (strcmp (key, "queue-depth") == 0)
    return parse_depth (key, value);
  if (strcmp (key, "cache") == 0) {
    cache_given = true;
    shared.drop_cache = strcmp (value, "none") == 0;
    if (shared.drop_cache || strcmp (value, "default") == 0)
      return 0;
    nbdkit_error ("cache=%s: allowed are default and none", value);
    return -1;
  }
  nbdkit_error ("%s: unknown key; the plugin uring has file, direct, uring, "
                "queue-depth and cache", key);
  return -1;
}

#define uring_config_help \
  "file=PATH        The file or block device to serve (required).\n" \
  "direct=WHEN      O_DIRECT: auto (default), on or off.\n" \
  "uring=WHEN       io_uring: auto (default), on or off.\n" \
  "queue-depth=N    Pieces of one request in flight (default 8).\n" \
  "cache=WHAT       Of the page cache: default or none."

static int
uring_config_complete (void)
{
  if (file == NULL) {
    nbdkit_error ("file=PATH is missing: the file or block device to serve");
    return -1;
  }
  if (cache_given && shared.direct == CHOICE_ON) {
    nbdkit_error ("cache: makes no sense with direct=on, which does not use "
                  "the page cache");
    return -1;
  }
  shared.path = file;
  return 0;
}

/* Why not, for the log and --dump-plugin. */
static const char *
refusal (int r)
{
#ifdef HAVE_LIBURING
  switch (r) {
  case -EPERM:
    return "not permitted (kernel.io_uring_disabled, or a container's "
      "seccomp profile)";
  case -ENOSYS:
    return "this kernel has none";
  default:
    return error_text (-r);
  }
#else
  (void) r;
  return "built without liburing";
#endif
}

/* Errors are seen by who starts us only before the fork, so a ring is made to
 * see whether it can be, and thrown away: it would be of no use after.
 */
static int
uring_get_ready (void)
{
  char why[DISK_WHY_MAX];
  int r;

  if (disk_check (&shared, why) < 0) {
    nbdkit_error ("file=%s: %s", file, why);
    return -1;
  }
  r = uring == CHOICE_OFF ? -ECANCELED : ring_probe ();
  if (r < 0 && uring == CHOICE_ON) {
    nbdkit_error ("uring=on: io_uring cannot be used: %s", refusal (r));
    return -1;
  }
  if (r < 0 && uring == CHOICE_AUTO)
    nbdkit_error ("io_uring cannot be used: %s; preadv and pwritev are used "
                  "instead", refusal (r));
  blocklock_init (&shared.blocks);
  syncs_init (&shared.syncs);
  bounce_pool_init (&shared.bounces);
  ring_pool_init (&shared.rings, r == 0, shared.queue_depth);
  return 0;
}

/* As another user, maybe, and with the depth that was asked for. */
static int
uring_after_fork (void)
{
  struct ring *ring;
  int r;

  ring = ring_get (&shared.rings, &r);
  if (ring != NULL)
    ring_put (&shared.rings, ring);
  if (r == 0)
    return 0;
  shared.rings.enabled = false;
  nbdkit_error ("%sio_uring cannot be used: %s%s",
                uring == CHOICE_ON ? "uring=on: " : "", refusal (r),
                uring == CHOICE_ON ? ""
                : "; preadv and pwritev are used instead");
  return uring == CHOICE_ON ? -1 : 0;
}

static void
uring_cleanup (void)
{
  ring_pool_destroy (&shared.rings);
  bounce_pool_destroy (&shared.bounces);
  syncs_destroy (&shared.syncs);
  blocklock_destroy (&shared.blocks);
}

static void
uring_dump_plugin (void)
{
  int r = ring_probe ();

#ifdef HAVE_LIBURING
  printf ("uring_liburing=yes\n");
#else
  printf ("uring_liburing=no\n");
#endif
  printf ("uring_io_uring=%s\n", r == 0 ? "yes" : "no");
  if (r < 0)
    printf ("uring_io_uring_refused=%s\n", refusal (r));
}

/*-- clients ------------------------------------------------------------*/

static void *
uring_open (int readonly)
{
  struct disk *d = malloc (sizeof *d);
  char why[DISK_WHY_MAX];
  int r;

  if (d == NULL) {
    nbdkit_error ("malloc: %m");
    return NULL;
  }
  r = disk_open (d, &shared, readonly, why);
  if (r < 0) {
    nbdkit_error ("file=%s: %s", file, why);
    nbdkit_set_error (-r);
    free (d);
    return NULL;
  }
  nbdkit_debug ("file=%s: %s, block %u, memory %u, tail of %u bytes", file,
                d->direct ? "direct" : "buffered", d->block, d->mem_align,
                (unsigned) (d->size - d->tail));
  return d;
}

static void
uring_close (void *handle)
{
  disk_close (handle);
  free (handle);
}

static int64_t
uring_get_size (void *handle)
{
  struct disk *d = handle;

  return (int64_t) d->size;
}

static int
uring_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
  *minimum = 1;
  *preferred = disk_preferred (handle);
  *maximum = MAX_REQUEST;
  return 0;
}

static int
uring_can_write (void *handle)
{
  struct disk *d = handle;

  return !d->readonly;
}

static int
uring_yes (void *handle)
{
  (void) handle;
  return 1;
}

static int
uring_can_fua (void *handle)
{
  (void) handle;
  return NBDKIT_FUA_NATIVE;
}

static int
uring_can_extents (void *handle)
{
  return disk_knows_extents (handle);
}

static int
uring_can_cache (void *handle)
{
  struct disk *d = handle;

  return d->direct ? NBDKIT_CACHE_NONE : NBDKIT_CACHE_NATIVE;
}

/*-- requests -----------------------------------------------------------*/

static int
uring_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
  (void) flags;
  return told ("read", disk_read (handle, buf, count, offset));
}

static int
uring_pwrite (void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
  return told ("write", disk_write (handle, buf, count, offset,
                                    flags & NBDKIT_FLAG_FUA));
}

static int
uring_flush (void *handle, uint32_t flags)
{
  (void) flags;
  return told ("flush", disk_flush (handle));
}

static int
uring_zero (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  struct zero_how how = {
    .may_trim = flags & NBDKIT_FLAG_MAY_TRIM,
    .fast = flags & NBDKIT_FLAG_FAST_ZERO,
    .fua = flags & NBDKIT_FLAG_FUA,
  };
  int r = disk_zero (handle, count, offset, how);

  return r == -EOPNOTSUPP ? result (r) : told ("zero", r);
}

static int
uring_trim (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  return told ("trim", disk_trim (handle, count, offset,
                                  flags & NBDKIT_FLAG_FUA));
}

static int
uring_cache (void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
  (void) flags;
  return told ("cache", disk_cache (handle, count, offset));
}

static int
uring_extents (void *handle, uint32_t count, uint64_t offset, uint32_t flags,
               struct nbdkit_extents *extents)
{
  uint64_t end = offset + count;
  struct range r = { offset, offset };
  unsigned n = 0;
  bool hole;
  int err;

  do {
    err = disk_extent (handle, r.end, end, &r, &hole);
    if (err < 0)
      return told ("extents", err);
    if (nbdkit_add_extent (extents, r.start, range_len (r),
                           hole ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO
                           : 0) < 0)
      return -1;
  } while (r.end < end && ++n < EXTENTS_MAX &&
           (flags & NBDKIT_FLAG_REQ_ONE) == 0);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "uring",
  .longname = "nbdkit uring plugin",
  .version = PACKAGE_VERSION,
  .description = "serve a local file or block device by direct I/O",
  .unload = uring_unload,
  .config = uring_config,
  .config_complete = uring_config_complete,
  .config_help = uring_config_help,
  .magic_config_key = "file",
  .get_ready = uring_get_ready,
  .after_fork = uring_after_fork,
  .cleanup = uring_cleanup,
  .dump_plugin = uring_dump_plugin,
  .open = uring_open,
  .close = uring_close,
  .get_size = uring_get_size,
  .block_size = uring_block_size,
  .can_write = uring_can_write,
  .can_flush = uring_yes,
  .can_fua = uring_can_fua,
  .can_trim = uring_yes,
  .can_zero = uring_yes,
  .can_fast_zero = uring_yes,
  .can_extents = uring_can_extents,
  .can_cache = uring_can_cache,
  .can_multi_conn = uring_yes,
  .pread = uring_pread,
  .pwrite = uring_pwrite,
  .flush = uring_flush,
  .zero = uring_zero,
  .trim = uring_trim,
  .extents = uring_extents,
  .cache = uring_cache,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN (plugin)
