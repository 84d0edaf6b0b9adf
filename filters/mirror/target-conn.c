/* SPDX-License-Identifier: BSD-3-Clause */
/* One connection to the target: pieces in flight on a libnbd handle.
 *
 * A thread that submits queues its piece and gives it to libnbd, which sends
 * it from there if the socket takes it.  If another one is just doing that, it
 * sends this piece, too: libnbd's lock is held for as long as the system calls
 * take, and to wait for it would cost more than they do.  After SEND_AT_ONCE
 * pieces it has done enough for others, and the watcher goes on.
 * target-wait.c has who receives.
 *
 * libnbd's rules that shape this (1.14):
 *   - one nbd_aio_notify_read handles at most one reply, so poll must be
 *     level-triggered; and a notify_read without input can leave the handle
 *     in a state in which it never sends again.  Hence one leader at a time,
 *     which acts once on what its own poll saw.
 *   - the direction may change to write in a submitter's thread; only then
 *     must the leader be kicked out of its poll.
 *   - nothing can be cancelled but by shutdown(2) on the socket.  libnbd
 *     closes its descriptor when the connection ends, and the number may be
 *     somebody else's a moment later; so shutdown and poll work on a dup.
 *   - when nbd_aio_xxx returns -1 the completion has not been called in
 *     1.14, and may have been later; hence the generation of a piece.
 */

#include <config.h>

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cleanup.h"
#include "target-private.h"

/* What one thread sends at most. */
#define SEND_AT_ONCE 32

/* Counted for a request besides its payload. */
#define LOAD_OVERHEAD 4096

/*-- requests -----------------------------------------------------------*/

static uint64_t
req_load (const struct target_req *req)
{
  return LOAD_OVERHEAD
    + (req->op == TARGET_READ || req->op == TARGET_WRITE ? req->count : 0);
}

struct conn *
req_conn (const struct target_req *req)
{
  return req->priv[PRIV_CONN];
}

void
req_begin (struct target_req *req, struct conn *c, unsigned pieces)
{
  req->priv[PRIV_CONN] = c;
  req->priv[PRIV_WAITER] = NULL;
  req_set_number (req, PRIV_PIECES, pieces);
  req->result = 0;
  __atomic_store_n (&req->done, false, __ATOMIC_RELAXED);
  atomic_fetch_add_explicit (&c->load, req_load (req),
                             memory_order_relaxed);
}

void
req_refuse (struct target_req *req, struct conn *c, int result)
{
  req->priv[PRIV_CONN] = c;
  req->result = result;
  __atomic_store_n (&req->done, true, __ATOMIC_RELAXED);
}

/* A piece of req has ended.  An unknown outcome is worse than an error.
 * Called with the connection's lock; req may be gone afterwards.
 */
static void
req_piece_ended (struct conn *c, struct target_req *req, int result)
{
  uintptr_t left = req_number (req, PRIV_PIECES) - 1;
  struct waiter *w = req->priv[PRIV_WAITER];

  if (result < 0 && (req->result == 0 || result == -ENOTCONN))
    req->result = result;
  req_set_number (req, PRIV_PIECES, left);
  if (left > 0)
    return;
  atomic_fetch_sub_explicit (&c->load, req_load (req),
                             memory_order_relaxed);
  if (w)
    waiter_release (c, w);
  __atomic_store_n (&req->done, true, __ATOMIC_RELEASE);
}

/*-- pieces -------------------------------------------------------------*/

/* Called with the lock. */
static void
piece_ended (struct piece *p, int result)
{
  struct conn *c = p->conn;
  struct target_req *req = p->req;

  p->req = NULL;
  p->generation++;
  p->next = c->free_pieces;
  c->free_pieces = p;
  conn_wake_slot_waiter (c);
  /* Nothing of a session that has ended counts (rule I9). */
  if (atomic_load_explicit (&c->session->ended, memory_order_acquire))
    result = -ENOTCONN;
  req_piece_ended (c, req, result);
}

/* What this thread is just giving to libnbd. */
static __thread struct piece *issuing;

/* libnbd's completion.  Runs with the handle's lock.  Returns whether libnbd
 * may free the command: not if sending it has failed at once, for then
 * nbd_aio_xxx looks into it once more after this.  The handle is dead then
 * and frees it when it is closed; from 1.18 on it calls this again before, but
 * nothing is in flight then, so that the piece is nobody's.
 */
static int
completion (void *vp, int *error)
{
  struct piece *p = vp;
  int result = -abs (*error);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->conn->lock);

  if (result == 0 && p->op == WIRE_READ && p->got != p->count)
    result = -EIO;
  if (p->req)
    piece_ended (p, result);
  return p == issuing ? 0 : 1;
}

/* A part of what was to be read has arrived, or a hole; runs before the
 * completion of the same command and in the same thread.  libnbd calls a read
 * good whatever is missing, and where it is the buffer has what was in it
 * before: to be copied, or to be given to a client.  More than was asked for is
 * the same part twice, so that another one may be missing.
 */
static int
data_arrived (void *vp, const void *data __attribute__ ((__unused__)),
              size_t count, uint64_t offset __attribute__ ((__unused__)),
              unsigned status __attribute__ ((__unused__)),
              int *error __attribute__ ((__unused__)))
{
  struct piece *p = vp;

  p->got += count;              /* of an error it is 0 */
  return 0;
}

/* libnbd's answer to a block status; runs before the completion of the same
 * command and in the same thread.
 */
static int
extents_arrived (void *vp, const char *metacontext,
                 uint64_t offset __attribute__ ((__unused__)),
                 uint32_t *entries, size_t nr_entries,
                 int *error __attribute__ ((__unused__)))
{
  struct extent_list *list = vp;
  size_t i;

  if (strcmp (metacontext, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
    return 0;
  for (i = 0; i + 1 < nr_entries && list->n < EXTENT_LIST_MAX; i += 2) {
    list->e[list->n].length = entries[i];
    list->e[list->n].kind = (entries[i + 1] & LIBNBD_STATE_ZERO)
      ? EXTENT_ZERO : EXTENT_DATA;
    list->n++;
  }
  return 0;
}

/*-- issuing ------------------------------------------------------------*/

static int64_t
send_command (struct conn *c, struct piece *p)
{
  nbd_completion_callback done = { .callback = completion, .user_data = p };
  nbd_chunk_callback chunk = { .callback = data_arrived, .user_data = p };
  nbd_extent_callback extent = { .callback = extents_arrived,
                                 .user_data = p->list };

  switch (p->op) {
  case WIRE_READ:
    return nbd_aio_pread_structured (c->nbd, p->buf, p->count, p->offset,
                                     chunk, done, p->nbd_flags);
  case WIRE_WRITE:
    return nbd_aio_pwrite (c->nbd, p->buf, p->count, p->offset, done,
                           p->nbd_flags);
  case WIRE_ZERO:
    return nbd_aio_zero (c->nbd, p->count, p->offset, done, p->nbd_flags);
  case WIRE_TRIM:
    return nbd_aio_trim (c->nbd, p->count, p->offset, done, p->nbd_flags);
  case WIRE_FLUSH:
    return nbd_aio_flush (c->nbd, done, p->nbd_flags);
  case WIRE_STATUS:
    return nbd_aio_block_status (c->nbd, p->count, p->offset, extent, done,
                                 p->nbd_flags);
  }
  abort ();
}

/* Give p, whose generation that is, to libnbd. */
static void
send_piece (struct conn *c, struct piece *p, uint64_t generation)
{
  int64_t cookie;
  int err;

  issuing = p;
  cookie = send_command (c, p);
  issuing = NULL;
  if (cookie == -1) {
    /* Not queued.  If its completion has run the piece may already be
     * another request's; but it has run here, not in the leader's thread.
     */
    err = nbd_get_errno ();
    if (err <= 0)
      err = EIO;
    if (conn_dead (c))
      err = ENOTCONN;
    mutex_lock (&c->lock);
    if (p->generation == generation)
      piece_ended (p, -err);
    conn_look_again (c);
    mutex_unlock (&c->lock);
  }
  release_waiters ();
}

/* Called with the lock, which is released meanwhile; `sending` is this
 * thread's.  Returns whether something is left for the watcher, who may be gone
 * when the connection has been closed; then there is no limit.
 */
static bool
send_locked (struct conn *c)
{
  struct piece *p;
  uint64_t generation;
  unsigned n;

  for (n = 0; (p = c->to_send) != NULL; n++) {
    if (n >= SEND_AT_ONCE && !c->closed)
      break;
    c->to_send = p->next;
    if (p->next == NULL)
      c->to_send_end = &c->to_send;
    generation = p->generation;
    mutex_unlock (&c->lock);
    send_piece (c, p, generation);
    mutex_lock (&c->lock);
  }
  c->sending = false;
  return c->to_send != NULL;
}

/* Called with the lock; returns without it. */
static void
send_and_unlock (struct conn *c)
{
  bool more;

  if (c->to_send == NULL || c->sending) {
    mutex_unlock (&c->lock);
    return;
  }
  c->sending = true;
  more = send_locked (c);
  mutex_unlock (&c->lock);
  if (more)
    conn_kick_watcher (c);
  if (conn_dead (c))
    conn_lost (c, -ENOTCONN);
  else if (conn_wants_write (c))
    conn_kick (c);
}

void
conn_send (struct conn *c)
{
  mutex_lock (&c->lock);
  send_and_unlock (c);
}

void
conn_issue (struct conn *c, struct target_req *req, enum wire_op op,
            void *buf, uint32_t count, uint64_t offset, uint32_t nbd_flags,
            struct extent_list *list)
{
  struct piece *p = conn_lock_with_piece (c);

  p->req = req;
  if (atomic_load_explicit (&c->session->ended, memory_order_acquire)) {
    piece_ended (p, -ENOTCONN);
    mutex_unlock (&c->lock);
    return;
  }
  p->op = op;
  p->buf = buf;
  p->count = count;
  p->offset = offset;
  p->nbd_flags = nbd_flags;
  p->list = list;
  p->got = 0;
  p->next = NULL;
  *c->to_send_end = p;
  c->to_send_end = &p->next;
  send_and_unlock (c);
}

/*-- life ---------------------------------------------------------------*/

void
conn_init (struct conn *c, struct target_session *s)
{
  size_t i;

  c->session = s;
  c->nbd = NULL;
  c->fd = c->lead_kick = c->watch_kick = -1;
  c->started = false;
  atomic_init (&c->load, 0);
  mutex_init (&c->lock);
  cond_init (&c->watcher_cond);
  c->to_send_end = &c->to_send;
  for (i = 0; i < CONN_PIECES; ++i) {
    c->pieces[i].conn = c;
    c->pieces[i].next = c->free_pieces;
    c->free_pieces = &c->pieces[i];
  }
}

int
conn_start (struct conn *c)
{
  int r;

  c->lead_kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  c->watch_kick = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (c->lead_kick == -1 || c->watch_kick == -1)
    return -errno;
  r = thread_start (&c->watcher, "mirror-target", conn_watch, c);
  c->started = r == 0;
  return r;
}

void
conn_shutdown (struct conn *c)
{
  if (c->fd >= 0)
    shutdown (c->fd, SHUT_RDWR);
}

void
conn_disconnect (struct conn *c)
{
  struct pollfd fd = { .fd = c->fd, .events = POLLRDHUP };

  /* Without an answer in the protocol, so a failure means nothing.  But
   * libnbd looks into a command that it has freed if sending it fails.
   */
  if (c->fd >= 0 && nbd_aio_is_ready (c->nbd) == 1 && poll (&fd, 1, 0) == 0)
    nbd_aio_disconnect (c->nbd, 0);
}

void
conn_join (struct conn *c)
{
  if (c->started)
    thread_join (&c->watcher);
  c->started = false;
}

void
conn_destroy (struct conn *c)
{
  conn_join (c);
  if (c->nbd)
    nbd_close (c->nbd);
  if (c->fd >= 0)
    close (c->fd);
  if (c->lead_kick >= 0)
    close (c->lead_kick);
  if (c->watch_kick >= 0)
    close (c->watch_kick);
  cond_destroy (&c->watcher_cond);
  mutex_destroy (&c->lock);
}
