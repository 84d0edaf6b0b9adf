/* SPDX-License-Identifier: BSD-3-Clause */
/* A server that misbehaves on purpose.  One thread for each connection.
 *
 * It speaks just enough of the fixed newstyle handshake for libnbd, with
 * structured replies and base:allocation.  All numbers are big endian.
 */

#include <config.h>

#include <endian.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <check.h>

#include "cleanup.h"
#include "sync.h"
#include "target-peer.h"
#include "target-private.h"

#define MAX_GUESTS 16

#define OPT_GO 7
#define OPT_STRUCTURED_REPLY 8
#define OPT_SET_META_CONTEXT 10
#define REP_ACK 1
#define REP_INFO 3
#define REP_META_CONTEXT 4
#define REP_ERR_UNSUP (UINT32_C (1) << 31 | 1)

#define INFO_EXPORT 0
#define INFO_BLOCK_SIZE 3

struct guest {
  struct peer *peer;
  unsigned number;              /* 0 is the first connection */
  int fd;
  bool structured;
  struct thread thread;
};

struct peer_priv {
  char dir[64], path[100];
  int listener;
  struct thread accepter;
  struct mutex lock;
  unsigned n;
  struct guest guests[MAX_GUESTS];
};

static bool
get (int fd, void *buf, size_t len)
{
  return recv (fd, buf, len, MSG_WAITALL) == (ssize_t) len;
}

static bool
put (int fd, const void *buf, size_t len)
{
  return send (fd, buf, len, MSG_NOSIGNAL) == (ssize_t) len;
}

/* What is read goes to data, if there is any. */
static bool
skip (int fd, uint64_t len, unsigned char *data, atomic_ullong *count)
{
  static __thread char buf[65536];
  size_t n;

  for (; len > 0; len -= n) {
    n = len < sizeof buf ? len : sizeof buf;
    if (!get (fd, data ? (char *) data : buf, n))
      return false;
    if (data)
      data += n;
    if (count)
      *count += n;
  }
  return true;
}

/*-- handshake ----------------------------------------------------------*/

static bool
put_option_reply (int fd, uint32_t option, uint32_t type, const void *data,
                  uint32_t len)
{
  struct __attribute__ ((__packed__)) {
    uint64_t magic;
    uint32_t option, type, len;
  } h = { htobe64 (UINT64_C (0x3e889045565a9)), htobe32 (option),
          htobe32 (type), htobe32 (len) };

  return put (fd, &h, sizeof h) && (len == 0 || put (fd, data, len));
}

static bool
answer_go (struct guest *g)
{
  const struct peer *p = g->peer;
  uint64_t size = g->number > 0 && p->second_size
    ? p->second_size : p->size;
  /* has flags, flush, FUA, zeroes */
  struct __attribute__ ((__packed__)) {
    uint16_t info;
    uint64_t size;
    uint16_t flags;
  } info = { htobe16 (INFO_EXPORT), htobe64 (size),
             htobe16 (1 | 4 | 8 | 64 | (p->multi_conn ? 256 : 0)
                      | (p->fast_zero ? 2048 : 0)) };
  struct __attribute__ ((__packed__)) {
    uint16_t info;
    uint32_t min, preferred, max;
  } block = { htobe16 (INFO_BLOCK_SIZE), htobe32 (p->block_min),
              htobe32 (p->block_min > 4096 ? p->block_min : 4096),
              htobe32 (p->block_max ? p->block_max : UINT32_MAX) };

  return put_option_reply (g->fd, OPT_GO, REP_INFO, &info, sizeof info)
    && (p->block_min == 0
        || put_option_reply (g->fd, OPT_GO, REP_INFO, &block, sizeof block))
    && put_option_reply (g->fd, OPT_GO, REP_ACK, NULL, 0);
}

static bool
answer_meta (int fd)
{
  static const char context[] = "\0\0\0\1base:allocation";

  return put_option_reply (fd, OPT_SET_META_CONTEXT, REP_META_CONTEXT,
                           context, sizeof context - 1)
    && put_option_reply (fd, OPT_SET_META_CONTEXT, REP_ACK, NULL, 0);
}

static bool
handshake (struct guest *g)
{
  static const char greeting[] = "NBDMAGICIHAVEOPT\0\3";
  static const char garbage[] = "220 mail.example.com ESMTP ready\r\n";
  enum misdeed m = g->peer->misdeed;
  struct __attribute__ ((__packed__)) {
    uint64_t magic;
    uint32_t option, len;
  } h;
  uint32_t option, client_flags;
  bool ok;

  if (m == HANDSHAKE_SILENT
      || (m == HANDSHAKE_SECOND_SILENT && g->number > 0)) {
    skip (g->fd, UINT64_MAX, NULL, NULL);
    return false;
  }
  if (m == HANDSHAKE_HANG_UP)
    return false;
  if (m == HANDSHAKE_GARBAGE) {
    put (g->fd, garbage, sizeof garbage - 1);
    return false;
  }
  if (!put (g->fd, greeting, sizeof greeting - 1) || m == HANDSHAKE_CLOSE)
    return false;
  if (!get (g->fd, &client_flags, sizeof client_flags))
    return false;
  do {
    if (!get (g->fd, &h, sizeof h)
        || !skip (g->fd, be32toh (h.len), NULL, NULL))
      return false;
    option = be32toh (h.option);
    if (option == OPT_GO)
      ok = answer_go (g);
    else if (option == OPT_STRUCTURED_REPLY
             && g->peer->chunks != CHUNKS_SIMPLE)
      ok = g->structured =
        put_option_reply (g->fd, option, REP_ACK, NULL, 0);
    else if (option == OPT_SET_META_CONTEXT)
      ok = answer_meta (g->fd);
    else
      ok = put_option_reply (g->fd, option, REP_ERR_UNSUP, NULL, 0);
  } while (ok && option != OPT_GO);
  return ok;
}

/*-- requests -----------------------------------------------------------*/

struct __attribute__ ((__packed__)) wire_request {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t cookie, offset;
  uint32_t count;
};

struct __attribute__ ((__packed__)) chunk {
  uint32_t magic;
  uint16_t flags, type;
  uint64_t cookie;
  uint32_t len;
};

static bool
put_simple (int fd, uint64_t cookie, uint32_t error)
{
  struct __attribute__ ((__packed__)) {
    uint32_t magic, error;
    uint64_t cookie;
  } r = { htobe32 (0x67446698), htobe32 (error), cookie };

  return put (fd, &r, sizeof r);
}

/* To a read: a structured one. */
static bool
put_error (int fd, uint64_t cookie, uint32_t error)
{
  struct __attribute__ ((__packed__)) {
    struct chunk h;
    uint32_t error;
    uint16_t text_len;
  } r = { { htobe32 (0x668e33ef), htobe16 (1), htobe16 (32769), cookie,
            htobe32 (6) }, htobe32 (error), 0 };

  return put (fd, &r, sizeof r);
}

static bool
put_status (struct guest *g, uint64_t cookie)
{
  const struct peer *p = g->peer;
  struct chunk h = { htobe32 (0x668e33ef), htobe16 (1), htobe16 (5), cookie,
                     htobe32 (4 + 8 * p->nr_extents) };
  uint32_t id = htobe32 (1), e[2];
  unsigned i;

  if (p->status_error)
    return put_simple (g->fd, cookie, p->status_error);
  if (!put (g->fd, &h, sizeof h) || !put (g->fd, &id, sizeof id))
    return false;
  for (i = 0; i < p->nr_extents; ++i) {
    e[0] = htobe32 (p->extents[i].length);
    e[1] = htobe32 (p->extents[i].flags);
    if (!put (g->fd, e, sizeof e))
      return false;
  }
  return true;
}

static bool
put_bytes (struct guest *g, uint64_t offset, uint32_t count)
{
  static const char zero[4096];
  const unsigned char *disk = g->peer->disk;
  uint32_t n, left;

  if (disk)
    return put (g->fd, disk + offset, count);
  for (left = count; left > 0; left -= n) {
    n = left < sizeof zero ? left : sizeof zero;
    if (!put (g->fd, zero, n))
      return false;
  }
  return true;
}

static bool
put_data (struct guest *g, uint64_t cookie, uint64_t offset, uint32_t count,
          bool done)
{
  struct chunk h = { htobe32 (0x668e33ef), htobe16 (done), htobe16 (1),
                     cookie, htobe32 (count + 8) };
  const uint64_t at = htobe64 (offset);

  return put (g->fd, &h, sizeof h) && put (g->fd, &at, sizeof at)
    && put_bytes (g, offset, count);
}

/* The last chunk. */
static bool
put_hole (int fd, uint64_t cookie, uint64_t offset, uint32_t count)
{
  struct __attribute__ ((__packed__)) {
    struct chunk h;
    uint64_t offset;
    uint32_t count;
  } r = { { htobe32 (0x668e33ef), htobe16 (1), htobe16 (2), cookie,
            htobe32 (12) }, htobe64 (offset), htobe32 (count) };

  return put (fd, &r, sizeof r);
}

static bool
put_read (struct guest *g, const struct wire_request *r)
{
  const struct chunk none = { htobe32 (0x668e33ef), htobe16 (1), htobe16 (0),
                              r->cookie, 0 };
  const uint64_t offset = be64toh (r->offset);
  const uint32_t count = be32toh (r->count), half = count / 2;

  switch (g->peer->chunks) {
  case CHUNKS_ONE:
    break;
  case CHUNKS_SWAPPED:
    return put_data (g, r->cookie, offset + half, count - half, false)
      && put_hole (g->fd, r->cookie, offset, half);
  case CHUNKS_NONE:
    return put (g->fd, &none, sizeof none);
  case CHUNKS_HALF:
    return put_data (g, r->cookie, offset, half, true);
  case CHUNKS_TWICE:
    return put_data (g, r->cookie, offset, count, false)
      && put_data (g, r->cookie, offset, count, true);
  case CHUNKS_SIMPLE:
    return put_simple (g->fd, r->cookie, 0) && put_bytes (g, offset, count);
  }
  return put_data (g, r->cookie, offset, count, true);
}

/* Note a command. */
static struct peer_seen
see (struct peer *p, const struct wire_request *r)
{
  struct peer_seen seen = { be16toh (r->type), be16toh (r->flags),
                            be32toh (r->count), be64toh (r->offset) };
  struct peer_priv *pp = p->priv;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&pp->lock);

  if (p->nr_seen < PEER_SEEN_MAX)
    p->seen[p->nr_seen] = seen;
  p->nr_seen++;
  return seen;
}

static const struct peer_fault *
fault_for (const struct peer *p, const struct peer_seen *r)
{
  unsigned i;

  for (i = 0; i < p->nr_faults; ++i)
    if (p->faults[i].command == r->command && p->faults[i].at >= r->offset
        && p->faults[i].at - r->offset < r->count)
      return &p->faults[i];
  return NULL;
}

static bool
misbehave (struct guest *g, uint64_t cookie)
{
  static const char half[] = "\x67\x44\x66\x98\0\0";
  char junk[64];

  switch (g->peer->misdeed) {
  case REPLY_GARBAGE:
    memset (junk, 0x5a, sizeof junk);
    return put (g->fd, junk, sizeof junk);
  case REPLY_WRONG_COOKIE:
    /* libnbd 1.22 takes no offence at that, but waits on. */
    put_simple (g->fd, cookie ^ 0x1234567, 0);
    return false;
  case REPLY_HALF:
    put (g->fd, half, sizeof half);
    return false;
  default:
    return false;
  }
}

static bool
is_reply_misdeed (enum misdeed m)
{
  return m >= REPLY_CLOSE && m <= REPLY_HALF;
}

static bool
reply (struct guest *g, const struct wire_request *r,
       const struct peer_seen *seen)
{
  struct peer *p = g->peer;
  uint32_t error = 0;

  switch (seen->command) {
  case PEER_READ:
    return put_read (g, r);
  case PEER_STATUS:
    return put_status (g, r->cookie);
  case PEER_ZERO:
    if (seen->count > p->zero_max)
      error = p->zero_error;
    if (error == 0 && p->disk)
      memset (p->disk + seen->offset, 0, seen->count);
    break;
  default:
    break;
  }
  return put_simple (g->fd, r->cookie, error);
}

/* Read one request and reply as asked.  False: close. */
static bool
serve_one (struct guest *g, unsigned number)
{
  struct peer *p = g->peer;
  const struct peer_fault *fault;
  struct wire_request r;
  struct peer_seen seen;

  if (!get (g->fd, &r, sizeof r))
    return false;
  seen = see (p, &r);
  if (seen.command == PEER_DISCONNECT)
    return false;
  fault = fault_for (p, &seen);
  if (seen.command == PEER_WRITE) {
    if (!skip (g->fd, seen.count,
               p->disk && !fault ? p->disk + seen.offset : NULL,
               &p->written))
      return false;
    p->writes++;
  }
  p->zeroes += seen.command == PEER_ZERO;
  if (p->misdeed == READ_ONLY_NO_REPLY
      || (p->misdeed == REPLY_FEW && number >= p->when))
    return true;
  if (number == p->when && is_reply_misdeed (p->misdeed))
    return misbehave (g, r.cookie);
  if (fault && fault->error)
    return seen.command == PEER_READ
      ? put_error (g->fd, r.cookie, fault->error)
      : put_simple (g->fd, r.cookie, fault->error);
  if (fault)
    return false;
  return reply (g, &r, &seen);
}

static void
guest_main (void *vp)
{
  struct guest *g = vp;
  const struct peer *p = g->peer;
  unsigned number = 0;

  if (!handshake (g))
    goto out;
  if (p->misdeed == CLOSE_IDLE)
    goto out;
  while ((p->misdeed == STOP_READING || p->misdeed == REPLY_FEW) && !p->go)
    usleep (2000);
  while (serve_one (g, number))
    number++;
 out:
  shutdown (g->fd, SHUT_RDWR);
}

/*-- life ---------------------------------------------------------------*/

/* In place of target-self.c: a peer is this process, and welcome. */
bool
target_is_self (int fd __attribute__ ((__unused__)))
{
  return false;
}

static void
accepter_main (void *vp)
{
  struct peer *p = vp;
  struct peer_priv *pp = p->priv;
  struct guest *g;
  int fd;

  while ((fd = accept (pp->listener, NULL, NULL)) >= 0) {
    mutex_lock (&pp->lock);
    ck_assert_uint_lt (pp->n, MAX_GUESTS);
    g = &pp->guests[pp->n];
    g->peer = p;
    g->number = pp->n++;
    g->fd = fd;
    ck_assert_int_eq (thread_start (&g->thread, "guest", guest_main, g), 0);
    mutex_unlock (&pp->lock);
  }
}

static void
listen_tcp (struct peer *p, struct peer_priv *pp)
{
  struct sockaddr_in addr = {
    .sin_family = AF_INET, .sin_addr.s_addr = htonl (INADDR_LOOPBACK),
  };
  socklen_t len = sizeof addr;

  pp->listener = socket (AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge (pp->listener, 0);
  ck_assert_int_eq (bind (pp->listener, (void *) &addr, sizeof addr), 0);
  ck_assert_int_eq (getsockname (pp->listener, (void *) &addr, &len), 0);
  snprintf (p->uri, sizeof p->uri, "nbd://127.0.0.1:%d/",
            ntohs (addr.sin_port));
}

static void
listen_unix (struct peer *p, struct peer_priv *pp)
{
  struct sockaddr_un addr = { .sun_family = AF_UNIX };

  snprintf (p->uri, sizeof p->uri, "nbd+unix:///?socket=%s", pp->path);
  strcpy (addr.sun_path, pp->path);
  pp->listener = socket (AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ck_assert_int_ge (pp->listener, 0);
  ck_assert_int_eq (bind (pp->listener, (void *) &addr, sizeof addr), 0);
}

void
peer_start (struct peer *p)
{
  struct peer_priv *pp = calloc (1, sizeof *pp);

  p->priv = pp;
  strcpy (pp->dir, "/tmp/peerXXXXXX");
  ck_assert_ptr_nonnull (mkdtemp (pp->dir));
  snprintf (pp->path, sizeof pp->path, "%s/sock", pp->dir);
  if (p->tcp)
    listen_tcp (p, pp);
  else
    listen_unix (p, pp);
  ck_assert_int_eq (listen (pp->listener, 16), 0);
  mutex_init (&pp->lock);
  ck_assert_int_eq (thread_start (&pp->accepter, "accepter", accepter_main,
                                  p), 0);
}

void
peer_stop (struct peer *p)
{
  struct peer_priv *pp = p->priv;
  unsigned i;

  p->go = true;
  shutdown (pp->listener, SHUT_RDWR);
  thread_join (&pp->accepter);
  close (pp->listener);
  for (i = 0; i < pp->n; ++i) {
    shutdown (pp->guests[i].fd, SHUT_RDWR);
    thread_join (&pp->guests[i].thread);
    close (pp->guests[i].fd);
  }
  unlink (pp->path);
  rmdir (pp->dir);
  mutex_destroy (&pp->lock);
  free (pp);
}
