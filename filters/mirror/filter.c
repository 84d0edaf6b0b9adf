/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit's callbacks and nothing else: keys, clients, requests.
 *
 * Capabilities are told to a client once, so they are always the source's,
 * whether there is a mirror or not; the mirror emulates what the target lacks.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <nbdkit-filter.h>

#include "beneath.h"
#include "instance.h"
#include "readonly.h"

static unsigned loaded;         /* how often in this chain of filters */
static struct filter_keys keys;
static struct place place;      /* of the source, from the plugin's keys */
static struct instance *instance;

/* What nbdkit has resolved the default export "" to.  It cannot be asked for
 * before the first client asks; set once and never freed before the end.
 */
static char *_Atomic default_name;

/* One connected client. */
struct client {
  struct nbdkit_source own;     /* its own context, unless shared */
  struct nbdkit_source *source; /* the one it uses until a pivot */
};

/*-- life ---------------------------------------------------------------*/

static void
mirror_load (void)
{
  if (loaded++ == 0)
    filter_keys_init (&keys);
}

static void
mirror_unload (void)
{
  if (--loaded > 0)
    return;
  filter_keys_clear (&keys);
  place_clear (&place);
  free (default_name);
}

static int
mirror_config (nbdkit_next_config *next, nbdkit_backend *nxdata,
               const char *key, const char *value)
{
  char error[PARAMS_ERROR_MAX];

  switch (filter_keys_set (&keys, key, value, error)) {
  case 0:
    return 0;
  case 1:
    if (place_note (&place, key, value) < 0) {
      nbdkit_error ("out of memory");
      return -1;
    }
    return next (nxdata, key, value);
  case -ENOMEM:
    nbdkit_error ("out of memory");
    return -1;
  default:
    nbdkit_error ("%s", error);
    return -1;
  }
}

#define mirror_config_help \
  "mirror-target=URI                NBD target: start a mirror to it.\n" \
  "mirror-copy-mode=MODE            background, write-blocking or auto.\n" \
  "mirror-sync=WHAT                 full (default), none, incremental.\n" \
  "mirror-granularity=SIZE          Unit of tracking (default 64K).\n" \
  "mirror-speed=BYTES               Limit of copying per second (0: none).\n" \
  "mirror-buf-size=SIZE             Copying in flight (default 16M).\n" \
  "mirror-connections=N             To the target (default 4).\n" \
  "mirror-max-pause=MS              Longest hold of clients (default 2000).\n" \
  "mirror-on-source-error=POLICY    report, ignore (default), enospc, stop.\n" \
  "mirror-on-target-error=POLICY    The same.\n" \
  "mirror-target-timeout=S          Longest wait for it (default 10).\n" \
  "mirror-suspect-time=S            Distrust of late writes (default 30).\n" \
  "mirror-unmap=BOOL                Zeroes may become holes (default true).\n" \
  "mirror-detect-zeroes=BOOL        Send zeroes as such (default false).\n" \
  "mirror-target-is-zero=BOOL       Do not clear it (default false).\n" \
  "mirror-target-flush=WHEN         propagate (default), defer.\n" \
  "mirror-bitmap=FILE               Record there what may differ.\n" \
  "mirror-after-pivot=WHAT          target (default), refuse, source.\n" \
  "mirror-export=NAME               The export to serve (default \"\").\n" \
  "mirror-control=PATH              QMP control socket."

static int
check_beneath (void)
{
  const struct beneath beneath = what_is_beneath ();

  if (beneath.cacheextents) {
    nbdkit_error ("--filter=cacheextents: must come before --filter=mirror: "
                  "below it, it would remember holes that are none any more");
    return -1;
  }
  if (beneath.retry_request && !readonly_is_server ()) {
    nbdkit_error ("--filter=retry-request: must come before --filter=mirror, "
                  "or with -r: below it, it would ask again for a flush that "
                  "has failed, and hide what was lost");
    return -1;
  }
  return 0;
}

static int
mirror_get_ready (int thread_model)
{
  if (loaded > 1) {
    nbdkit_error ("--filter=mirror: given twice; one mirror filter is allowed "
                  "in a chain");
    return -1;
  }
  if (check_beneath () == -1)
    return -1;
  if (thread_model < NBDKIT_THREAD_MODEL_PARALLEL) {
    nbdkit_error ("the mirror filter needs a plugin (and filters) of the "
                  "parallel thread model; this one serializes requests");
    return -1;
  }
  instance = instance_new (&keys, &place);
  return instance ? 0 : -1;
}

static int
mirror_after_fork (nbdkit_backend *backend)
{
  if (instance_start (instance, backend) == 0)
    return 0;
  instance_free (instance);     /* removes the control socket */
  instance = NULL;
  return -1;
}

static void
mirror_cleanup (nbdkit_backend *backend)
{
  (void) backend;
  instance_free (instance);
  instance = NULL;
}

/*-- clients ------------------------------------------------------------*/

static const char *
mirror_default_export (nbdkit_next_default_export *next,
                       nbdkit_backend *nxdata, int readonly, int is_tls)
{
  const char *name = next (nxdata, readonly);
  char *none = NULL, *copy;

  (void) is_tls;
  copy = name ? strdup (name) : NULL;
  if (copy && !atomic_compare_exchange_strong (&default_name, &none, copy))
    free (copy);
  return name;
}

static bool
served (const char *name)
{
  if (keys.export)
    return strcmp (name, keys.export) == 0;
  return strcmp (name, "") == 0 ||
    (default_name && strcmp (name, default_name) == 0);
}

static void *
mirror_open (nbdkit_next_open *next, nbdkit_context *context, int readonly,
             const char *exportname, int is_tls)
{
  struct client *client;

  (void) is_tls;
  if (!served (exportname)) {
    nbdkit_error ("export '%s' is not served: only %s%s%s is (mirror-export)",
                  exportname, keys.export ? "'" : "",
                  keys.export ? keys.export : "the default export",
                  keys.export ? "'" : "");
    return NULL;
  }
  client = calloc (1, sizeof *client);
  if (!client) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  client->source = instance_shared_source (instance);
  if (!client->source) {
    if (next (context, readonly, exportname) == -1) {
      free (client);
      return NULL;
    }
    client->source = &client->own;
  }
  instance_client (instance, 1);
  return client;
}

static void
mirror_close (void *handle)
{
  if (instance)
    instance_client (instance, -1);
  free (handle);
}

static int
mirror_prepare (nbdkit_next *next, void *handle, int readonly)
{
  struct client *client = handle;
  int64_t size;

  (void) readonly;
  if (client->source != &client->own)
    return 0;
  if (source_init (&client->own, next) == -1)
    return -1;
  size = next->get_size (next);
  if (size < 0)
    return -1;
  if ((uint64_t) size != instance_size (instance)) {
    nbdkit_error ("the source has changed its size from %" PRIu64 " to %"
                  PRIi64 " bytes: this client is refused",
                  instance_size (instance), size);
    return -1;
  }
  return 0;
}

/*-- capabilities: the source's -----------------------------------------*/

#define FACT(what)                                                      \
  static int                                                            \
  mirror_##what (nbdkit_next *next, void *handle)                       \
  {                                                                     \
    (void) next;                                                        \
    (void) handle;                                                      \
    return instance_facts (instance)->what;                             \
  }

FACT (can_flush)
FACT (is_rotational)
FACT (can_trim)
FACT (can_zero)
FACT (can_fast_zero)
FACT (can_extents)
FACT (can_fua)
FACT (can_multi_conn)
FACT (can_cache)

/* A client may have been opened read-only. */
static int
mirror_can_write (nbdkit_next *next, void *handle)
{
  struct client *client = handle;

  (void) next;
  if (client->source == &client->own)
    return client->own.next->can_write (client->own.next);
  return instance_facts (instance)->can_write;
}

static int64_t
mirror_get_size (nbdkit_next *next, void *handle)
{
  (void) next;
  (void) handle;
  return instance_facts (instance)->size;
}

static const char *
mirror_export_description (nbdkit_next *next, void *handle)
{
  (void) next;
  (void) handle;
  return instance_facts (instance)->description;
}

static int
mirror_block_size (nbdkit_next *next, void *handle, uint32_t *minimum,
                   uint32_t *preferred, uint32_t *maximum)
{
  const struct facts *f = instance_facts (instance);

  (void) next;
  (void) handle;
  *minimum = f->minimum;
  *preferred = f->preferred;
  *maximum = f->maximum;
  return 0;
}

/*-- requests -----------------------------------------------------------*/

static unsigned
leg_flags (uint32_t flags)
{
  unsigned r = 0;

  if (flags & NBDKIT_FLAG_FUA)
    r |= LEG_FUA;
  if (flags & NBDKIT_FLAG_MAY_TRIM)
    r |= LEG_MAY_TRIM;
  if (flags & NBDKIT_FLAG_FAST_ZERO)
    r |= LEG_FAST_ZERO;
  return r;
}

static struct source *
source_of (void *handle)
{
  struct client *client = handle;

  return &client->source->base;
}

/* The engine's -errno to nbdkit's convention. */
static int
reply (int r, int *err)
{
  if (r == 0)
    return 0;
  *err = -r;
  return -1;
}

static int
mirror_do_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
                 uint64_t offset, uint32_t flags, int *err)
{
  (void) next;
  (void) flags;
  return reply (mirror_pread (instance_mirror (instance), source_of (handle),
                              buf, count, offset), err);
}

static int
mirror_do_pwrite (nbdkit_next *next, void *handle, const void *buf,
                  uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  (void) next;
  return reply (mirror_pwrite (instance_mirror (instance),
                               source_of (handle), buf, count, offset,
                               leg_flags (flags)), err);
}

static int
mirror_do_zero (nbdkit_next *next, void *handle, uint32_t count,
                uint64_t offset, uint32_t flags, int *err)
{
  (void) next;
  return reply (mirror_zero (instance_mirror (instance), source_of (handle),
                             count, offset, leg_flags (flags)), err);
}

static int
mirror_do_trim (nbdkit_next *next, void *handle, uint32_t count,
                uint64_t offset, uint32_t flags, int *err)
{
  (void) next;
  return reply (mirror_trim (instance_mirror (instance), source_of (handle),
                             count, offset, leg_flags (flags)), err);
}

static int
mirror_do_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  (void) next;
  (void) flags;
  return reply (mirror_flush (instance_mirror (instance),
                              source_of (handle)), err);
}

/* nbdkit before 1.43.7 aborts when the answer to a block status request of
 * 2^32-1 bytes is one extent (CVE-2025-47711); a shorter answer is always
 * allowed.
 */
#define EXTENTS_MAX (UINT32_C (1) << 30)

/* A request that is the source's alone, while there is one. */
struct query {
  nbdkit_next *next;
  struct range range;
  uint32_t flags;
  struct nbdkit_extents *extents;
  int err;
};

static int
own_extents (void *opaque)
{
  struct query *q = opaque;
  struct nbdkit_extents *some;
  struct nbdkit_extent e;
  int r = -1;
  size_t i;

  q->err = ENOMEM;
  some = nbdkit_extents_new (q->range.start, q->range.end);
  if (!some)
    return -1;
  if (q->next->extents (q->next, (uint32_t) range_len (q->range),
                        q->range.start, q->flags, some, &q->err) == -1)
    goto out;
  for (i = 0; i < nbdkit_extents_count (some); ++i) {
    e = nbdkit_get_extent (some, i);
    if (e.offset >= q->range.end)
      break;
    if (e.length > q->range.end - e.offset)
      e.length = q->range.end - e.offset;
    if (nbdkit_add_extent (q->extents, e.offset, e.length, e.type) == -1) {
      q->err = errno ? errno : EIO;
      goto out;
    }
  }
  r = 0;
 out:
  nbdkit_extents_free (some);
  return r;
}

static int
add_extent (void *opaque, struct range r, enum extent_kind kind)
{
  struct query *q = opaque;

  if (nbdkit_add_extent (q->extents, r.start, range_len (r),
                         kind == EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0) == 0)
    return 0;
  return errno ? -errno : -EIO;
}

static int
mirror_do_extents (nbdkit_next *next, void *handle, uint32_t count,
                   uint64_t offset, uint32_t flags,
                   struct nbdkit_extents *extents, int *err)
{
  uint32_t n = count < EXTENTS_MAX ? count : EXTENTS_MAX;
  struct client *client = handle;
  struct query q = {
    .next = client->source->next, .range = { offset, offset + n },
    .flags = flags, .extents = extents,
  };
  int r = mirror_extents (instance_mirror (instance), own_extents, q.range,
                          add_extent, &q);

  (void) next;
  if (r == 0)
    return 0;
  *err = q.err > 0 ? q.err : r < -1 ? -r : EIO;
  return -1;
}

static int
own_cache (void *opaque)
{
  struct query *q = opaque;

  q->err = EIO;
  return q->next->cache (q->next, (uint32_t) range_len (q->range),
                         q->range.start, q->flags, &q->err);
}

static int
mirror_do_cache (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags, int *err)
{
  struct client *client = handle;
  struct query q = {
    .next = client->source->next, .range = { offset, offset + count },
    .flags = flags,
  };
  int r = mirror_cache (instance_mirror (instance), own_cache, &q);

  (void) next;
  *err = q.err;
  return r;
}

static struct nbdkit_filter filter = {
  .name = "mirror",
  .longname = "nbdkit mirror filter",
  .description = "Mirror the export to another NBD server while it is used",
  .load = mirror_load,
  .unload = mirror_unload,
  .config = mirror_config,
  .config_help = mirror_config_help,
  .get_ready = mirror_get_ready,
  .after_fork = mirror_after_fork,
  .cleanup = mirror_cleanup,
  .default_export = mirror_default_export,
  .open = mirror_open,
  .close = mirror_close,
  .prepare = mirror_prepare,
  .get_size = mirror_get_size,
  .export_description = mirror_export_description,
  .block_size = mirror_block_size,
  .can_write = mirror_can_write,
  .can_flush = mirror_can_flush,
  .is_rotational = mirror_is_rotational,
  .can_trim = mirror_can_trim,
  .can_zero = mirror_can_zero,
  .can_fast_zero = mirror_can_fast_zero,
  .can_extents = mirror_can_extents,
  .can_fua = mirror_can_fua,
  .can_multi_conn = mirror_can_multi_conn,
  .can_cache = mirror_can_cache,
  .pread = mirror_do_pread,
  .pwrite = mirror_do_pwrite,
  .flush = mirror_do_flush,
  .trim = mirror_do_trim,
  .zero = mirror_do_zero,
  .extents = mirror_do_extents,
  .cache = mirror_do_cache,
};

NBDKIT_REGISTER_FILTER (filter)
