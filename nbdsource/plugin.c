/* SPDX-License-Identifier: BSD-3-Clause */
/* The plugin nbdsource: nbdkit's callbacks over the session (session.h), which
 * is the same code as the mirror's leg to its target.
 *
 * The thread of nbdkit that has a request sends it and, if nobody else does
 * already, receives what arrives until its own reply is there; so a request
 * costs no switch between threads where it is alone, and one otherwise.  That
 * is what the plugin is for: the plugin nbd has a thread for each client which
 * receives all replies.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "errtext.h"
#include "legs.h"
#include "session.h"
#include "target.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* What has been written by one connection is to be read by another at once,
 * and multi-conn promises that after a flush only: more are the user's word.
 */
#define CONNECTIONS 1
#define CONNECTIONS_MAX 16
#define TIMEOUT_S 15
#define TIMEOUT_MAX_S 3600

/* From so many bytes on a request goes over other connections, if there are
 * any, so that small ones need not wait behind it: the mirror copies in pieces
 * of 256 KiB, or of 64 while clients come first.
 */
#define BULK (UINT32_C (64) << 10)

/* What nbdkit takes for good manners. */
#define PREFERRED 4096

static char *uri;
static struct server server = { .connections = CONNECTIONS,
                                .timeout_s = TIMEOUT_S };

/* 0, or -1 with the errno set and a line about it. */
static int
told (const char *what, int r)
{
  if (r == 0)
    return 0;
  if (r == -ENOTCONN)
    r = -ESHUTDOWN;
  nbdkit_error ("%s: %s", what, error_text (-r));
  nbdkit_set_error (-r);
  return -1;
}

/*-- parameters ---------------------------------------------------------*/

static void
nbdsource_load (void)
{
  server_init (&server);
}

static void
nbdsource_unload (void)
{
  server_destroy (&server);
  free (uri);
}

static int
parse_number (const char *key, const char *value, unsigned max, unsigned *n)
{
  unsigned long v;
  char *end;

  errno = 0;
  v = strtoul (value, &end, 10);
  if (errno == 0 && *end == 0 && *value >= '0' && *value <= '9' && v >= 1 &&
      v <= max) {
    *n = (unsigned) v;
    return 0;
  }
  nbdkit_error ("%s=%s: allowed are 1 to %u", key, value, max);
  return -1;
}

static int
parse_uri (const char *value)
{
  static const char *const plain[] = { "nbd://", "nbd+unix://",
                                       "nbd+vsock://" };
  size_t i;

  if (uri) {
    nbdkit_error ("uri: given twice");
    return -1;
  }
  for (i = 0; i < sizeof plain / sizeof plain[0]; ++i)
    if (strncmp (value, plain[i], strlen (plain[i])) == 0) {
      uri = strdup (value);
      if (uri == NULL)
        nbdkit_error ("strdup: %m");
      return uri ? 0 : -1;
    }
  nbdkit_error ("uri: must begin with nbd://, nbd+unix:// or nbd+vsock://; "
                "for TLS use the plugin nbd");
  return -1;
}

static int
nbdsource_config (const char *key, const char *value)
{
  if (strcmp (key, "uri") == 0)
    return parse_uri (value);
  if (strcmp (key, "connections") == 0)
    return parse_number (key, value, CONNECTIONS_MAX, &server.connections);
  if (strcmp (key, "timeout") == 0)
    return parse_number (key, value, TIMEOUT_MAX_S, &server.timeout_s);
  nbdkit_error ("%s: unknown key; the plugin nbdsource has uri, connections "
                "and timeout", key);
  return -1;
}

#define nbdsource_config_help \
  "uri=URI          NBD URI of the server, without TLS (required).\n" \
  "connections=N    To it, at most, 1 to 16 (default 1).\n" \
  "timeout=SECONDS  For connecting, 1 to 3600 (default 15)."

static int
nbdsource_config_complete (void)
{
  if (uri == NULL) {
    nbdkit_error ("uri=URI is missing: the NBD server to connect to");
    return -1;
  }
  server.uri = uri;
  return 0;
}

/*-- clients ------------------------------------------------------------*/

static void *
nbdsource_open (int readonly)
{
  char why[TARGET_ERROR_MAX];
  struct session *session;
  int err = 0;

  (void) readonly;
  session = session_get (&server, &err, why);
  if (session == NULL) {
    nbdkit_error ("%s", why);
    nbdkit_set_error (err);
  }
  return session;
}

static void
nbdsource_close (void *handle)
{
  session_put (&server, handle);
}

static const struct target *
leg_of (void *handle)
{
  return session_leg (handle);
}

static int64_t
nbdsource_get_size (void *handle)
{
  return (int64_t) leg_of (handle)->size;
}

static int
nbdsource_block_size (void *handle, uint32_t *minimum, uint32_t *preferred,
                      uint32_t *maximum)
{
  *minimum = leg_of (handle)->block;
  *preferred = *minimum > PREFERRED ? *minimum : PREFERRED;
  *maximum = LEG_MAX_REQUEST;
  return 0;
}

static int
nbdsource_yes (void *handle)
{
  (void) handle;
  return 1;
}

static int
nbdsource_can_write (void *handle)
{
  return !leg_of (handle)->read_only;
}

static int
nbdsource_can_flush (void *handle)
{
  return leg_of (handle)->can_flush;
}

static int
nbdsource_can_fua (void *handle)
{
  const struct target *leg = leg_of (handle);

  return leg->can_fua ? NBDKIT_FUA_NATIVE
    : leg->can_flush ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

static int
nbdsource_can_trim (void *handle)
{
  return leg_of (handle)->can_trim;
}

static int
nbdsource_can_zero (void *handle)
{
  return leg_of (handle)->can_zero;
}

static int
nbdsource_can_fast_zero (void *handle)
{
  return leg_of (handle)->can_fast_zero;
}

static int
nbdsource_can_extents (void *handle)
{
  return leg_of (handle)->can_extents;
}

/*-- requests -----------------------------------------------------------*/

/* The leg would do what is no multiple of the server's block by reading and
 * writing, for which it asks to be the only one there.
 */
static bool
is_whole (const struct target *leg, uint64_t count, uint64_t offset)
{
  const uint64_t end = offset + count, mask = leg->block - 1;

  return (offset & mask) == 0 && ((end & mask) == 0 || end == leg->size);
}

static int
request (void *handle, enum target_op op, unsigned flags, char *buf,
         uint64_t count, uint64_t offset)
{
  const bool data = op == TARGET_READ || op == TARGET_WRITE;
  const uint32_t max = data ? LEG_MAX_REQUEST : TARGET_MAX_ZERO;
  struct target *leg = session_leg (handle);
  struct target_req req;
  int r;

  if (!is_whole (leg, count, offset))
    return -EINVAL;
  do {
    req = (struct target_req) {
      .op = op, .flags = flags, .offset = offset, .buf = buf,
      .count = count < max ? (uint32_t) count : max,
    };
    req.lane = data && req.count >= BULK ? LANE_COPY : LANE_TEE;
    leg->ops->submit (leg, &req);
    r = leg->ops->wait (leg, &req);
    /* nbdkit takes that for a zero that it may do in another way, and asserts
     * that nothing else is told so.
     */
    if (r == -ENOTSUP && !(flags & LEG_FAST_ZERO))
      r = -EIO;
    count -= req.count;
    offset += req.count;
    buf = buf ? buf + req.count : NULL;
    /* Something has changed: it is too late to refuse. */
    flags &= ~(unsigned) LEG_FAST_ZERO;
  } while (r == 0 && count > 0);
  /* Who is told of the loss, and connects again, must find it lost. */
  if (r == -ENOTCONN)
    session_set_lost (handle);
  return r;
}

static unsigned
leg_flags (uint32_t flags)
{
  return (flags & NBDKIT_FLAG_FUA ? LEG_FUA : 0)
    | (flags & NBDKIT_FLAG_MAY_TRIM ? LEG_MAY_TRIM : 0)
    | (flags & NBDKIT_FLAG_FAST_ZERO ? LEG_FAST_ZERO : 0);
}

static int
nbdsource_pread (void *handle, void *buf, uint32_t count, uint64_t offset,
                 uint32_t flags)
{
  (void) flags;
  return told ("read", request (handle, TARGET_READ, 0, buf, count, offset));
}

static int
nbdsource_pwrite (void *handle, const void *buf, uint32_t count,
                  uint64_t offset, uint32_t flags)
{
  /* Not written to, says legs.h. */
  return told ("write", request (handle, TARGET_WRITE, leg_flags (flags),
                                 (char *) buf, count, offset));
}

static int
nbdsource_flush (void *handle, uint32_t flags)
{
  (void) flags;
  return told ("flush", request (handle, TARGET_FLUSH, 0, NULL, 0, 0));
}

static int
nbdsource_zero (void *handle, uint32_t count, uint64_t offset,
                uint32_t flags)
{
  const int r = request (handle, TARGET_ZERO, leg_flags (flags), NULL, count,
                         offset);

  /* That is an answer, and no error. */
  if (r == -ENOTSUP && (flags & NBDKIT_FLAG_FAST_ZERO)) {
    nbdkit_set_error (ENOTSUP);
    return -1;
  }
  return told ("zero", r);
}

static int
nbdsource_trim (void *handle, uint32_t count, uint64_t offset,
                uint32_t flags)
{
  return told ("trim", request (handle, TARGET_TRIM, leg_flags (flags), NULL,
                                count, offset));
}

/*-- extents ------------------------------------------------------------*/

/* Which zeroes are a hole the leg does not tell. */
static int
add_extent (void *opaque, struct range r, enum extent_kind kind)
{
  return nbdkit_add_extent (opaque, r.start, range_len (r),
                            kind == EXTENT_ZERO ? NBDKIT_EXTENT_ZERO : 0) < 0
    ? -ENOMEM : 0;
}

static int
nbdsource_extents (void *handle, uint32_t count, uint64_t offset,
                   uint32_t flags, struct nbdkit_extents *extents)
{
  const struct range range = { offset, offset + count };
  struct target *leg = session_leg (handle);
  const int r = leg->ops->extents (leg, range, add_extent, extents);

  (void) flags;
  if (r == -ENOTCONN)
    session_set_lost (handle);
  return told ("extents", r);
}

static struct nbdkit_plugin plugin = {
  .name = "nbdsource",
  .longname = "nbdkit nbdsource plugin",
  .version = PACKAGE_VERSION,
  .description = "forward to an NBD server, for the filter mirror",
  .load = nbdsource_load,
  .unload = nbdsource_unload,
  .config = nbdsource_config,
  .config_complete = nbdsource_config_complete,
  .config_help = nbdsource_config_help,
  .magic_config_key = "uri",
  .open = nbdsource_open,
  .close = nbdsource_close,
  .get_size = nbdsource_get_size,
  .block_size = nbdsource_block_size,
  .can_write = nbdsource_can_write,
  .can_flush = nbdsource_can_flush,
  .can_fua = nbdsource_can_fua,
  .can_trim = nbdsource_can_trim,
  .can_zero = nbdsource_can_zero,
  .can_fast_zero = nbdsource_can_fast_zero,
  .can_extents = nbdsource_can_extents,
  .can_multi_conn = nbdsource_yes,
  .pread = nbdsource_pread,
  .pwrite = nbdsource_pwrite,
  .flush = nbdsource_flush,
  .zero = nbdsource_zero,
  .trim = nbdsource_trim,
  .extents = nbdsource_extents,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN (plugin)
