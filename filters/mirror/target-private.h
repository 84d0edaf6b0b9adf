/* SPDX-License-Identifier: BSD-3-Clause */
/* Inside of the target leg; see target.h for what it does.
 *
 *   target-connect.c   handshake, checks; makes the session
 *   target-attempt.c   the same in a thread that need not be waited for
 *   target-socket.c    what the kernel is told about the sockets
 *   target-uri.c       what a URI says
 *   target-self.c      is it this very process?
 *   target-conn.c      one connection: pieces of requests on the wire
 *   target-wait.c      waiting for their ends and receiving the replies
 *   target.c           the session: splitting, lanes, loss, the ops
 *   target-zero.c      zeroes, where the server likes them or not
 *   target-blocks.c    requests that are no multiple of the server's block
 *   target-extents.c   block status
 *
 * Lock order: libnbd's own handle lock, then conn.lock.  Completions run
 * with the handle lock held and take conn.lock, so nothing may call libnbd
 * with conn.lock held, but for the functions that libnbd keeps free of its
 * lock (get_direction, is_dead, is_closed).
 */

#ifndef MIRROR_TARGET_PRIVATE_H
#define MIRROR_TARGET_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libnbd.h>

#include "legs.h"
#include "range.h"
#include "sync.h"

/* libnbd searches the commands in flight linearly for every reply. */
#define CONN_PIECES 64

#define MAX_CONNECTIONS 16u

/* What goes over the wire: the requests of the leg contract, and queries. */
enum wire_op { WIRE_READ, WIRE_WRITE, WIRE_ZERO, WIRE_TRIM, WIRE_FLUSH,
               WIRE_STATUS };

struct conn;
struct target_session;

/* One command on the wire.  A request is one or several. */
struct piece {
  struct conn *conn;
  struct target_req *req;       /* NULL: it is free */
  struct piece *next;           /* free list, or those to be sent */
  uint64_t generation;          /* how many times it has ended */

  /* What is to be sent. */
  enum wire_op op;
  uint32_t count, nbd_flags;
  uint64_t offset;
  void *buf;
  struct extent_list *list;

  /* Of a WIRE_READ what has come, in bytes; under libnbd's lock. */
  uint64_t got;
};

/* What a waiter sleeps on. */
enum { WAITER_ASLEEP, WAITER_LOOK, WAITER_RELEASED };

/* A thread that waits on a connection; on its stack. */
struct waiter {
  struct target_req *req;       /* for its end; NULL: for a free piece */
  atomic_uint state;            /* a futex */
  bool releasing;               /* it must wait for WAITER_RELEASED */
  struct waiter *prev, *next;
};

/* Answer to a WIRE_STATUS. */
#define EXTENT_LIST_MAX 128
struct extent_list {
  size_t n;
  struct {
    uint64_t length;            /* as the server said: not to be trusted */
    enum extent_kind kind;
  } e[EXTENT_LIST_MAX];
};

struct conn {
  struct target_session *session;
  struct nbd_handle *nbd;
  int fd;                       /* a dup of libnbd's: see target-conn.c */
  int lead_kick, watch_kick;    /* eventfds */
  struct thread watcher;
  bool started;                 /* the watcher runs */

  atomic_uint_fast64_t load;    /* bytes in flight, about */

  struct mutex lock;            /* for what follows */
  struct piece pieces[CONN_PIECES];
  struct piece *free_pieces;
  struct piece *to_send, **to_send_end; /* in order */
  bool sending;                 /* somebody gives them to libnbd */
  bool leading;                 /* somebody polls this connection */
  struct waiter *leader;        /* who; NULL: the watcher */
  bool closed;                  /* libnbd has closed it for good */
  bool watcher_waits;           /* the watcher wants to lead */
  struct cond watcher_cond;
  struct waiter *first, *last;  /* waiters, in order of arrival */
  struct waiter *promoted;      /* has been woken to lead */
  unsigned nr_waiters, slot_waiters;    /* the latter: req == NULL */
};

struct lane {
  unsigned first, count;        /* indices into conns */
};

struct target_session {
  struct target target;
  char *uri;                    /* without secrets */
  uint32_t max_payload;         /* bytes of data in one command: a multiple
                                 * of target.block */
  atomic_bool ended;            /* no reply counts any more */
  atomic_bool silent;           /* ended by us: lost is not to be called */
  atomic_bool told;             /* lost has been called */
  atomic_int error;             /* -errno of the first failure */
  atomic_uint zero_method;      /* enum zero_method, to begin with */
  struct lane lanes[TARGET_LANES];      /* by enum target_lane */
  unsigned nr_conns;
  struct conn conns[];
};

/*-- target-connect.c ---------------------------------------------------*/

/* How long connecting may take; whoever waits for it may change that. */
struct target_limit {
  uint64_t began_ns;            /* constant */
  atomic_uint timeout_ms;
};

static inline uint64_t
target_deadline (const struct target_limit *l)
{
  return l->began_ns + UINT64_C (1000000) * atomic_load (&l->timeout_ms);
}

/* target_connect, in the calling thread.  Ends soon with -ECANCELED when *stop
 * is true; may be NULL, then changes of the limit may be seen late.  But while
 * *looking_up, which may be NULL, neither counts: the name service answers when
 * it does.
 */
extern int target_connect_within (const struct target_limit *limit,
                                  const _Atomic bool *stop,
                                  _Atomic bool *looking_up, const char *uri,
                                  unsigned connections,
                                  struct target **target, char *error);

/*-- target-socket.c ----------------------------------------------------*/

/* A host that has gone without a word is noticed by TCP itself in about that
 * time, whether there is something to be sent or not.  For other sockets, too:
 * then there is nothing to do.
 */
extern void target_socket_timeout (int fd, unsigned timeout_ms);

extern void target_socket_buffer (int fd);

/*-- target-conn.c ------------------------------------------------------*/

/* The private part of a request (target_req.priv).  Written by the submitter
 * before the first piece, then under conn.lock; but PRIV_ZERO is the zeroing
 * code's alone.  A request that target-blocks.c does has only the last: the
 * requests that it consists of have connections.
 */
enum { PRIV_CONN, PRIV_WAITER, PRIV_PIECES, PRIV_ZERO, PRIV_BLOCKS = 0 };

static inline uintptr_t
req_number (const struct target_req *req, int i)
{
  return (uintptr_t) req->priv[i];
}

static inline void
req_set_number (struct target_req *req, int i, uintptr_t n)
{
  req->priv[i] = (void *) n;
}

extern void req_begin (struct target_req *req, struct conn *c,
                       unsigned pieces);
/* Instead: it has ended already. */
extern void req_refuse (struct target_req *req, struct conn *c, int result);
extern struct conn *req_conn (const struct target_req *req);

/* Without conn.lock only its waiter may ask. */
static inline bool
req_ended (const struct target_req *req)
{
  return __atomic_load_n (&req->done, __ATOMIC_ACQUIRE);
}

/* Initialise everything but nbd and fd, which become the connection's. */
extern void conn_init (struct conn *c, struct target_session *s);
extern int conn_start (struct conn *c);

/* Have the peer and all threads here see the end of the connection. */
extern void conn_shutdown (struct conn *c);

/* Say goodbye as the protocol asks; nothing may be in flight. */
extern void conn_disconnect (struct conn *c);

/* Join the watcher (after conn_shutdown); conn_destroy: and close, free. */
extern void conn_join (struct conn *c);
extern void conn_destroy (struct conn *c);

/* Put one piece of req on the wire; list only for WIRE_STATUS.  May block
 * until a slot is free.  Whatever happens, the piece ends.  It may be sent by
 * another thread that is just sending, so soon, but after the return.
 */
extern void conn_issue (struct conn *c, struct target_req *req,
                        enum wire_op op, void *buf, uint32_t count,
                        uint64_t offset, uint32_t nbd_flags,
                        struct extent_list *list);

/* Send what there is to be sent, unless somebody does. */
extern void conn_send (struct conn *c);

/*-- target-wait.c ------------------------------------------------------*/

/* Block until all pieces of req have ended. */
extern void conn_wait (struct target_req *req);

/* Take conn.lock, and a free piece: who has come first gets the first. */
extern struct piece *conn_lock_with_piece (struct conn *c);

/* A piece was freed; with conn.lock. */
extern void conn_wake_slot_waiter (struct conn *c);

/* The request of w has ended; with conn.lock.  It will be woken by this
 * thread's next release_waiters, which must follow every call of libnbd that
 * may complete commands.
 */
extern void waiter_release (struct conn *c, struct waiter *w);
extern void release_waiters (void);

/* The same outside of libnbd, that is, not by the leader: for which it may have
 * been, or for who was to become it.  With conn.lock.
 */
extern void conn_look_again (struct conn *c);

/* Has libnbd closed it for good? */
extern bool conn_dead (const struct conn *c);

/* It has, because of err (-errno).  No locks may be held. */
extern void conn_lost (struct conn *c, int err);

/* Has libnbd something to send?  Then after a submission conn_kick sees to
 * it that somebody does.
 */
extern bool conn_wants_write (const struct conn *c);
extern void conn_kick (struct conn *c);

/* The watcher shall call conn_send. */
extern void conn_kick_watcher (struct conn *c);

/* The watcher thread. */
extern void conn_watch (void *conn);

/*-- target.c -----------------------------------------------------------*/

extern const struct target_ops target_ops;

/* The other side has ended the session (err < 0), or we have (0).  No locks
 * may be held.
 */
extern void target_session_end (struct target_session *s, int err);

extern struct conn *target_pick_conn (struct target_session *s,
                                      enum target_lane lane);

/* Submit and wait for a request that is a multiple of the block. */
extern void target_submit_aligned (struct target_session *s, struct conn *c,
                                   struct target_req *req);
extern int target_wait_aligned (struct target_session *s,
                                struct target_req *req);

/* What of it goes over the wire in one go: count > 0 bytes from its byte
 * `from` on, as commands of at most max bytes.
 */
struct share {
  uint32_t from, count, max;
};

/* Begin req (again) and put that share of it on the wire.  buf: of the whole
 * request; NULL: WIRE_ZERO, WIRE_TRIM, or WIRE_WRITE of zeroes, of which max
 * must be at most TARGET_ZEROES.
 */
#define TARGET_ZEROES (UINT32_C (256) << 10)
extern void target_issue (struct conn *c, struct target_req *req,
                          enum wire_op op, char *buf, struct share share,
                          uint32_t nbd_flags);

/* What of the flags libnbd wants to have of a request to write. */
extern uint32_t target_fua_flag (const struct target_session *s,
                                 const struct target_req *req);

static inline uint32_t
min_u32 (uint32_t a, uint32_t b)
{
  return a < b ? a : b;
}

/*-- target-zero.c ------------------------------------------------------*/

/* From the best to the worst; see there. */
enum zero_method { ZERO_WHOLE, ZERO_IN_PARTS, ZERO_AS_DATA };

extern void target_zero_submit (struct target_session *s, struct conn *c,
                                struct target_req *req);
extern int target_zero_wait (struct target_session *s,
                             struct target_req *req);

/*-- target-blocks.c ----------------------------------------------------*/

/* Is this no request for target_submit_aligned?  The end of the target counts
 * as a multiple; what lies past it is not sent by libnbd.
 */
static inline bool
target_is_unaligned (const struct target *t, const struct target_req *req)
{
  const uint64_t end = req->offset + req->count;
  const uint64_t mask = t->block - 1;

  return t->block > 1 && end <= t->size
    && ((req->offset & mask) || ((end & mask) && end != t->size));
}

extern void target_blocks_submit (struct target_session *s, struct conn *c,
                                  struct target_req *req);
extern int target_blocks_wait (struct target_session *s,
                               struct target_req *req);

/*-- target-extents.c ---------------------------------------------------*/

/* target_ops.extents */
extern int target_extents (struct target *t, struct range r, extent_fn *fn,
                           void *opaque);

/*-- target-self.c ------------------------------------------------------*/

/* Is the other end of that connection, whose handshake is done, a descriptor
 * of this process?
 */
extern bool target_is_self (int fd);

#endif /* MIRROR_TARGET_PRIVATE_H */
