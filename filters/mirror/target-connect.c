/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to a target: handshake with a deadline, checks.
 *
 * All connections go to the same URI.  The first tells whether the server
 * promises multi-conn; only then are the others made, all at once.  They must
 * tell the same about the export as the first did, or they may not be about
 * the same export.  A target must take all of them: its lanes are asked for.  A
 * source is what the user has, so one is enough.
 *
 * Plain text only so far: TLS that is asked for but not verified is worse
 * than none, so anything of TLS in the URI is refused.
 */

#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cleanup.h"
#include "errtext.h"
#include "target-private.h"
#include "target-uri.h"
#include "target.h"

/* Smaller payloads than this are no useful target. */
#define MIN_MAX_PAYLOAD 4096

/* How often to look whether to give up. */
#define STOP_POLL_MS 50

/* A source has answered on one connection; so long the others may take. */
#define MORE_MS 3000

/*-- what libnbd says ---------------------------------------------------*/

/* Without the name of its function. */
static const char *
nbd_reason (void)
{
  const char *text = nbd_get_error ();
  const char *colon;

  if (text == NULL)
    return "the server has closed the connection";
  colon = strstr (text, ": ");
  if (strncmp (text, "nbd_", 4) == 0 && colon)
    text = colon + 2;
  return text;
}

static int
nbd_reason_errno (void)
{
  int err = nbd_get_error () ? nbd_get_errno () : 0;

  return err > 0 ? -err : -EIO;
}

/*-- the URI ------------------------------------------------------------*/

/* Refuse in our own words what libnbd would refuse, or accept, in its. */
static int
check_uri (const char *uri, const char *public, char *error)
{
  static const char *const plain[] = { "nbd:", "nbd+unix:", "nbd+vsock:" };
  static const char *const tls[] = { "nbds:", "nbds+unix:", "nbds+vsock:" };
  struct uri_parts p = uri_split (uri);
  const char *param, *end = p.query;
  size_t i;

  for (i = 0; i < 3; ++i)
    if (strncasecmp (uri, tls[i], strlen (tls[i])) == 0) {
      target_error (error, public, "TLS to the target is not available yet");
      return -EINVAL;
    }
  while (uri_next_param (&p, &param, &end))
    if (uri_param_begins (param, end, "tls-")) {
      target_error (error, public, "TLS to the target is not available yet: "
                    "tls- parameters are refused");
      return -EINVAL;
    }
  for (i = 0; i < 3; ++i)
    if (strncasecmp (uri, plain[i], strlen (plain[i])) == 0
        && strncmp (uri + strlen (plain[i]), "//", 2) == 0)
      return 0;
  target_error (error, public, "not an NBD URI: it must begin with nbd://, "
                "nbd+unix:// or nbd+vsock://");
  return -EINVAL;
}

/*-- connecting ---------------------------------------------------------*/

struct attempt {
  const _Atomic bool *stop;     /* or NULL */
  _Atomic bool *looking_up;     /* to be set meanwhile; or NULL */
  struct target_session *session;
  const char *uri;
  const struct target_limit *limit;
  bool for_source;              /* see target_connect_source */
  char *error;
};

/* libnbd checks what it sends against what the server has offered; all but the
 * alignment, for which it would not let us try the end of an export whose size
 * is no multiple of its block.
 */
static int
set_strictness (struct nbd_handle *nbd)
{
  return nbd_set_strict_mode (nbd, nbd_get_strict_mode (nbd)
                              & ~LIBNBD_STRICT_ALIGN);
}

/* Blocks while libnbd looks the name of the host up, if it has one. */
static int
connect_uri (const struct attempt *a, struct conn *c)
{
  int r;

  if (a->looking_up)
    atomic_store (a->looking_up, true);
  r = nbd_aio_connect_uri (c->nbd, a->uri);
  if (a->looking_up)
    atomic_store (a->looking_up, false);
  return r;
}

static int
start_connecting (const struct attempt *a, struct conn *c)
{
  c->nbd = nbd_create ();
  if (c->nbd == NULL)
    goto err;
  if (nbd_set_debug (c->nbd, false) == -1
      || set_strictness (c->nbd) == -1
      || nbd_set_uri_allow_transports (c->nbd, LIBNBD_ALLOW_TRANSPORT_TCP
                                       | LIBNBD_ALLOW_TRANSPORT_UNIX
                                       | LIBNBD_ALLOW_TRANSPORT_VSOCK) == -1
      || nbd_set_uri_allow_tls (c->nbd, LIBNBD_TLS_DISABLE) == -1
      || nbd_set_uri_allow_local_file (c->nbd, false) == -1
      || nbd_add_meta_context (c->nbd,
                               LIBNBD_CONTEXT_BASE_ALLOCATION) == -1
      /* Buffers of failed reads are not looked at. */
      || nbd_set_pread_initialize (c->nbd, false) == -1
      || connect_uri (a, c) == -1)
    goto err;
  return 0;

 err:
  target_error (a->error, a->session->uri, "%s", nbd_reason ());
  return nbd_reason_errno ();
}

/* How many milliseconds are left, rounded up; 0: none. */
static int
ms_left (const struct attempt *a)
{
  const uint64_t now = clock_monotonic.now_ns (&clock_monotonic);
  const uint64_t deadline = target_deadline (a->limit);

  return now >= deadline ? 0 : (int) ((deadline - now + 999999) / 1000000);
}

/* Let libnbd react to an event on a connection in its handshake.  An end that
 * comes before it has seen that the connection is made is told as what it waits
 * for: it takes anything else for a mistake of ours.
 */
static int
advance (const struct attempt *a, struct conn *c, short revents)
{
  const unsigned dir = nbd_aio_get_direction (c->nbd);
  int r = 0;

  if ((dir & LIBNBD_AIO_DIRECTION_READ) && (revents & ~POLLOUT))
    r = nbd_aio_notify_read (c->nbd);
  else if ((dir & LIBNBD_AIO_DIRECTION_WRITE) && revents)
    r = nbd_aio_notify_write (c->nbd);
  if (r == 0 && (nbd_aio_is_connecting (c->nbd) == 1
                 || nbd_aio_is_ready (c->nbd) == 1))
    return 0;
  if (r == 0)
    target_error (a->error, a->session->uri,
                  "the server has closed the connection in the handshake");
  else
    target_error (a->error, a->session->uri, "%s", nbd_reason ());
  if (r == 0)
    return -ECONNRESET;
  /* There is a server, but no such export: see target_is_unreachable. */
  r = nbd_reason_errno ();
  return r == -ENOENT ? -ENXIO : r;
}

static int
give_up (const struct attempt *a)
{
  target_error (a->error, a->session->uri, "given up: it is not wanted any "
                "more");
  return -ECANCELED;
}

/* Go on with all of conns until none is connecting any more. */
static int
finish_connecting (const struct attempt *a, struct conn *conns, unsigned n)
{
  struct pollfd fds[MAX_CONNECTIONS];
  struct conn *polled[MAX_CONNECTIONS];
  unsigned i, waiting, dir;
  int ms, r;

  for (;;) {
    waiting = 0;
    for (i = 0; i < n; ++i)
      if (nbd_aio_is_connecting (conns[i].nbd) == 1) {
        dir = nbd_aio_get_direction (conns[i].nbd);
        polled[waiting] = &conns[i];
        /* Asked anew each time: a host may have several addresses. */
        fds[waiting].fd = nbd_aio_get_fd (conns[i].nbd);
        fds[waiting].events =
          (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0)
          | (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
        waiting++;
      }
    if (waiting == 0)
      return 0;
    ms = ms_left (a);
    if (ms == 0)
      break;
    if (a->stop && atomic_load (a->stop))
      return give_up (a);
    if (a->stop && ms > STOP_POLL_MS)
      ms = STOP_POLL_MS;
    if (poll (fds, waiting, ms) == -1) {
      if (errno == EINTR)
        continue;
      r = -errno;
      target_error (a->error, a->session->uri, "poll: %s", error_text (-r));
      return r;
    }
    for (i = 0; i < waiting; ++i)
      if (fds[i].revents) {
        r = advance (a, polled[i], fds[i].revents);
        if (r < 0)
          return r;
      }
  }
  target_error (a->error, a->session->uri,
                "no answer from the server within %u ms%s",
                atomic_load (&a->limit->timeout_ms), a->session->nr_conns > 1
                ? " on one of several connections" : "");
  return -ETIMEDOUT;
}

/* What is ours of a connection that is ready. */
static int
adopt (const struct attempt *a, struct conn *c)
{
  int fd = nbd_aio_get_fd (c->nbd);
  int err;

  if (fd >= 0)
    c->fd = fcntl (fd, F_DUPFD_CLOEXEC, 0);
  if (c->fd < 0) {
    err = errno;
    target_error (a->error, a->session->uri, "dup: %s", error_text (err));
    return -err;
  }
  target_socket_buffer (fd);
  /* A target that is lost is found again; a source, and all clients with it, is
   * lost for good: it is waited for as long as TCP does.
   */
  if (!a->for_source)
    target_socket_timeout (fd, atomic_load (&a->limit->timeout_ms));
  return 0;
}

static int
connect_some (const struct attempt *a, unsigned first, unsigned n)
{
  struct conn *conns = a->session->conns + first;
  unsigned i;
  int r;

  for (i = 0; i < n; ++i) {
    if (a->stop && atomic_load (a->stop))
      return give_up (a);
    r = start_connecting (a, &conns[i]);
    if (r < 0)
      return r;
  }
  r = finish_connecting (a, conns, n);
  for (i = 0; r == 0 && i < n; ++i) {
    if (nbd_aio_is_ready (conns[i].nbd) != 1) {
      target_error (a->error, a->session->uri,
                    "the server has closed the connection");
      return -ECONNRESET;
    }
    r = adopt (a, &conns[i]);
  }
  return r;
}

/*-- what the server offers ---------------------------------------------*/

struct offer {
  int64_t size, block_min, block_preferred, block_max;
  int read_only, flush, fua, zero, fast_zero, trim, multi_conn, extents;
};

static int
get_offer (const struct attempt *a, struct conn *c, struct offer *o)
{
  memset (o, 0, sizeof *o);
  o->size = nbd_get_size (c->nbd);
  o->block_min = nbd_get_block_size (c->nbd, LIBNBD_SIZE_MINIMUM);
  o->block_preferred = nbd_get_block_size (c->nbd, LIBNBD_SIZE_PREFERRED);
  o->block_max = nbd_get_block_size (c->nbd, LIBNBD_SIZE_MAXIMUM);
  o->read_only = nbd_is_read_only (c->nbd);
  o->flush = nbd_can_flush (c->nbd);
  o->fua = nbd_can_fua (c->nbd);
  o->zero = nbd_can_zero (c->nbd);
  o->fast_zero = nbd_can_fast_zero (c->nbd);
  o->trim = nbd_can_trim (c->nbd);
  o->multi_conn = nbd_can_multi_conn (c->nbd);
  o->extents = nbd_can_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION);
  if (o->size >= 0 && o->block_min >= 0 && o->block_preferred >= 0
      && o->block_max >= 0
      && o->read_only >= 0 && o->flush >= 0 && o->fua >= 0 && o->zero >= 0
      && o->fast_zero >= 0 && o->trim >= 0 && o->multi_conn >= 0
      && o->extents >= 0)
    return 0;
  target_error (a->error, a->session->uri,
                "the server tells nonsense about the export");
  return -EINVAL;
}

static int
check_offer (const struct attempt *a, const struct offer *o)
{
  if (o->read_only && !a->for_source) {
    target_error (a->error, a->session->uri, "the export is read-only");
    return -EROFS;
  }
  if (o->block_min > TARGET_MAX_BLOCK
      || (o->block_min > 0 && !is_power_of_2 ((uint64_t) o->block_min))) {
    target_error (a->error, a->session->uri, "a minimum block size of %"
                  PRIi64 " is not supported: it must be a power of two, at "
                  "most %" PRIu32, o->block_min, TARGET_MAX_BLOCK);
    return -EINVAL;
  }
  if (o->block_max > 0 && (o->block_max < MIN_MAX_PAYLOAD
                           || o->block_max < o->block_min)) {
    target_error (a->error, a->session->uri, "a maximum block size of %"
                  PRIi64 " is not supported", o->block_max);
    return -EINVAL;
  }
  return 0;
}

/* The other connections must have got what the first was offered. */
static int
check_same (const struct attempt *a, const struct offer *first)
{
  struct target_session *s = a->session;
  struct offer o;
  unsigned i;
  int r;

  for (i = 1; i < s->nr_conns; ++i) {
    r = get_offer (a, &s->conns[i], &o);
    if (r < 0)
      return r;
    if (memcmp (&o, first, sizeof o) != 0) {
      target_error (a->error, s->uri, "the server tells something else about "
                    "the export on each connection");
      return -EINVAL;
    }
  }
  return 0;
}

static void
use_offer (struct target_session *s, const struct offer *o)
{
  struct target *t = &s->target;

  t->size = (uint64_t) o->size;
  t->read_only = o->read_only;
  t->block = o->block_min > 0 ? (uint32_t) o->block_min : 1;
  t->preferred_block = (uint32_t) o->block_preferred;
  t->max_block = (uint32_t) o->block_max;
  t->can_flush = o->flush;
  t->can_fua = o->fua;
  t->can_zero = o->zero;
  t->can_fast_zero = o->zero && o->fast_zero;
  t->can_trim = o->trim;
  t->can_extents = o->extents;
  t->can_multi_conn = o->multi_conn;
  s->max_payload = LEG_MAX_REQUEST;
  if (o->block_max > 0 && o->block_max < LEG_MAX_REQUEST)
    s->max_payload =
      (uint32_t) round_down_p2 ((uint64_t) o->block_max, t->block);
}

static void
make_lanes (struct target_session *s)
{
  unsigned copy = s->nr_conns / 2;

  s->target.connections = s->nr_conns;
  s->lanes[LANE_TEE] = (struct lane) { copy, s->nr_conns - copy };
  s->lanes[LANE_COPY] = copy > 0 ? (struct lane) { 0, copy }
    : s->lanes[LANE_TEE];
  s->lanes[LANE_ONE] = (struct lane) { copy, 1 };
}

/*-- the session --------------------------------------------------------*/

static struct target_session *
session_new (const char *uri, unsigned connections)
{
  struct target_session *s =
    calloc (1, sizeof *s + connections * sizeof s->conns[0]);

  if (s == NULL)
    return NULL;
  s->target.ops = &target_ops;
  s->target.block = 1;
  s->uri = target_public_uri (uri);
  if (s->uri == NULL) {
    free (s);
    return NULL;
  }
  return s;
}

/* One more connection for conn_destroy to undo. */
static void
session_grow (struct target_session *s, unsigned connections)
{
  while (s->nr_conns < connections)
    conn_init (&s->conns[s->nr_conns++], s);
}

static void
session_shrink (struct target_session *s, unsigned connections)
{
  while (s->nr_conns > connections)
    conn_destroy (&s->conns[--s->nr_conns]);
}

/* All the others.  A server may not take so many: it ends the handshake, or
 * never begins it.
 */
static int
connect_more (const struct attempt *a, const struct offer *first,
              unsigned connections)
{
  const uint64_t now = clock_monotonic.now_ns (&clock_monotonic);
  struct target_limit limit = {
    .began_ns = a->limit->began_ns,
    .timeout_ms = atomic_load (&a->limit->timeout_ms),
  };
  struct attempt more = *a;
  int r;

  if (a->for_source && limit.timeout_ms > MORE_MS && ms_left (a) > MORE_MS) {
    limit.began_ns = now - (limit.timeout_ms - MORE_MS) * UINT64_C (1000000);
    more.limit = &limit;
  }
  session_grow (a->session, connections);
  r = connect_some (&more, 1, connections - 1);
  if (r < 0 && a->for_source) {
    session_shrink (a->session, 1);
    return 0;
  }
  return r == 0 ? check_same (a, first) : r;
}

static int
session_connect (const struct attempt *a, unsigned connections)
{
  struct target_session *s = a->session;
  struct offer offer;
  int r;

  r = check_uri (a->uri, s->uri, a->error);
  if (r < 0)
    return r;
  session_grow (s, 1);
  r = connect_some (a, 0, 1);
  if (r == 0 && target_is_self (s->conns[0].fd)) {
    target_error (a->error, s->uri, "the target is this server itself");
    r = -EINVAL;
  }
  if (r == 0)
    r = get_offer (a, &s->conns[0], &offer);
  if (r == 0)
    r = check_offer (a, &offer);
  if (r != 0)
    return r;
  /* Multi-conn promises that one connection sees what another has written only
   * after a flush.  Reading a block to write it back cannot wait for that.
   */
  if (offer.multi_conn && offer.block_min <= 1 && connections > 1) {
    r = connect_more (a, &offer, connections);
    if (r < 0)
      return r;
  }
  use_offer (s, &offer);
  make_lanes (s);
  return 0;
}

static int
attempt_connect (struct attempt *a, unsigned connections,
                 struct target **target)
{
  int r;

  if (connections < 1)
    connections = 1;
  if (connections > MAX_CONNECTIONS)
    connections = MAX_CONNECTIONS;
  a->session = session_new (a->uri, connections);
  if (a->session == NULL) {
    target_error (a->error, "mirror target", "%s", error_text (ENOMEM));
    return -ENOMEM;
  }
  r = session_connect (a, connections);
  if (r < 0) {
    a->session->target.ops->free (&a->session->target);
    return r;
  }
  *target = &a->session->target;
  return 0;
}

int
target_connect_within (const struct target_limit *limit,
                       const _Atomic bool *stop, _Atomic bool *looking_up,
                       const char *uri, unsigned connections,
                       struct target **target, char *error)
{
  struct attempt a = { .stop = stop, .looking_up = looking_up, .uri = uri,
                       .limit = limit, .error = error };

  return attempt_connect (&a, connections, target);
}

int
target_connect (const char *uri, unsigned connections, unsigned timeout_ms,
                struct target **target, char *error)
{
  const struct target_limit limit = {
    .began_ns = clock_monotonic.now_ns (&clock_monotonic),
    .timeout_ms = timeout_ms,
  };

  return target_connect_within (&limit, NULL, NULL, uri, connections, target,
                                error);
}

int
target_connect_source (const char *uri, unsigned connections,
                       unsigned timeout_ms, struct target **target,
                       char *error)
{
  const struct target_limit limit = {
    .began_ns = clock_monotonic.now_ns (&clock_monotonic),
    .timeout_ms = timeout_ms,
  };
  struct attempt a = { .uri = uri, .limit = &limit, .for_source = true,
                       .error = error };

  return attempt_connect (&a, connections, target);
}
