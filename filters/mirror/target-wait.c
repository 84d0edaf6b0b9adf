/* SPDX-License-Identifier: BSD-3-Clause */
/* Waiting for replies and receiving them: leader, followers, watcher.
 *
 * Who polls.  Commands are sent by threads that submit.  Replies are
 * received by a thread that waits for one: of all waiters of a connection
 * one, the *leader*, polls the socket and lets libnbd complete whatever
 * arrives; when its own request has ended it hands over to the next waiter.
 * So a lone request costs no switch between threads at all, and with many in
 * flight each reply costs one.  A reply that nobody waits for stays in the
 * socket.
 *
 * The *watcher* is a thread that does what no waiter does.  It sleeps until
 *   - the peer hangs up (POLLRDHUP: plain data does not wake it), then it
 *     leads until libnbd has seen the end, so that an idle connection's loss
 *     is noticed and all commands end after a shutdown; or
 *   - a payload did not fit into the socket while nobody was leading, then
 *     it leads until the payload is out, so that the submitter can do its
 *     other leg meanwhile; or
 *   - somebody has sent enough for others (target-conn.c).
 */

#include <config.h>

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"
#include "target-private.h"

/* What the leader receives in one go at most; and how much may be in flight for
 * each request on average, as the first waits for the last.
 */
#define MORE_REPLIES 16
#define MORE_BYTES (UINT64_C (68) << 10)

/*-- waking -------------------------------------------------------------*/

static void
futex_wait (atomic_uint *state, unsigned while_it_is)
{
  syscall (SYS_futex, state, FUTEX_WAIT_PRIVATE, while_it_is, NULL, NULL, 0);
}

static void
wake (struct waiter *w, unsigned state)
{
  atomic_uint *futex = &w->state;

  atomic_store (futex, state);
  syscall (SYS_futex, futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void
enqueue (struct conn *c, struct waiter *w)
{
  w->next = NULL;
  w->prev = c->last;
  *(c->last ? &c->last->next : &c->first) = w;
  c->last = w;
  c->nr_waiters++;
  if (w->req)
    w->req->priv[PRIV_WAITER] = w;
  else
    c->slot_waiters++;
}

static void
dequeue (struct conn *c, struct waiter *w)
{
  *(w->prev ? &w->prev->next : &c->first) = w->next;
  *(w->next ? &w->next->prev : &c->last) = w->prev;
  c->nr_waiters--;
  if (!w->req)
    c->slot_waiters--;
  if (c->promoted == w)
    c->promoted = NULL;
}

/* Requests end while libnbd holds its lock, which is what a thread that has
 * just been woken needs next.  So those threads are woken when libnbd has
 * been left; in the order in which their requests have ended.
 */
static __thread struct waiter *to_release, *last_to_release;

void
waiter_release (struct conn *c, struct waiter *w)
{
  dequeue (c, w);
  /* The leader finds out by itself: it will leave libnbd soon, or
   * conn_look_again wakes it, or the end of the connection does.
   */
  if (c->leading && w == c->leader)
    return;
  w->releasing = true;
  w->next = NULL;
  *(to_release ? &last_to_release->next : &to_release) = w;
  last_to_release = w;
}

void
release_waiters (void)
{
  struct waiter *w;

  while ((w = to_release) != NULL) {
    to_release = w->next;
    /* *w may be gone as soon as the state is set, and waking at a stale
     * address does no harm.
     */
    wake (w, WAITER_RELEASED);
  }
}

/* Who waits for a free piece gets one in order of arrival, and nobody takes one
 * while others wait.  Else a copier, whose request may be of many times as many
 * pieces as there are, would have them all: it leads, so it is there when one
 * becomes free, while a client has to be woken first.
 *
 * Only the first is woken, and wakes the next if a piece is left.  What keeps
 * the others from sleeping on is: when the lock is released and a piece is
 * free, the first is not asleep, or will look again before it is.
 *   - A piece becomes free: the first is woken.  Both happen under the lock, as
 *     looking and falling asleep do, so nothing comes in between.
 *   - Another becomes the first: only after its predecessor has taken a piece,
 *     which wakes it in the same go, or ends its poll if it has come to lead
 *     meanwhile.  Nobody leaves without one.  When the connection or the
 *     session ends all commands do, so all pieces become free; and conn_issue
 *     gives back what it has no use for, which is the case above.
 *   - The first polls as the leader when a piece becomes free: it looks when it
 *     leaves libnbd, which is where that happens.  If it does in another thread
 *     conn_look_again follows, or else the session ends: both end the poll.
 */
static struct waiter *
first_slot_waiter (const struct conn *c)
{
  struct waiter *w;

  for (w = c->first; w && w->req; w = w->next)
    ;
  return w;
}

void
conn_wake_slot_waiter (struct conn *c)
{
  struct waiter *w;

  if (c->slot_waiters == 0 || c->free_pieces == NULL)
    return;
  w = first_slot_waiter (c);
  if (atomic_load (&w->state) == WAITER_ASLEEP)
    wake (w, WAITER_LOOK);
}

/*-- waiting and polling ------------------------------------------------*/

bool
conn_dead (const struct conn *c)
{
  return nbd_aio_is_dead (c->nbd) == 1 || nbd_aio_is_closed (c->nbd) == 1;
}

bool
conn_wants_write (const struct conn *c)
{
  return nbd_aio_get_direction (c->nbd) & LIBNBD_AIO_DIRECTION_WRITE;
}

static void
kick (int eventfd)
{
  uint64_t one = 1;

  /* Cannot fail but when the counter is full: then it is set, too. */
  if (write (eventfd, &one, sizeof one) == -1)
    return;
}

static void
drain (int eventfd)
{
  uint64_t count;

  if (read (eventfd, &count, sizeof count) == -1)
    return;
}

/* libnbd has closed the connection, so all its commands have ended or are
 * about to.
 */
void
conn_lost (struct conn *c, int err)
{
  struct waiter *w;

  mutex_lock (&c->lock);
  if (!c->closed) {
    c->closed = true;
    for (w = c->first; w; w = w->next)
      wake (w, WAITER_LOOK);
    cond_signal (&c->watcher_cond);
  }
  mutex_unlock (&c->lock);
  target_session_end (c->session, err);
}

/* More replies that are there already, if so many others wait for some.  Who is
 * woken takes the processor from the leader as a rule; so that is done for all
 * of them at once, afterwards.  0, or -1: the connection has ended.
 */
static int
receive_more (struct conn *c, unsigned others)
{
  struct pollfd fd = { .fd = c->fd, .events = POLLIN };
  int r = 0;

  if (atomic_load_explicit (&c->load, memory_order_relaxed) >
      (others + 1) * MORE_BYTES)
    return 0;
  if (others > MORE_REPLIES)
    others = MORE_REPLIES;
  for (; r == 0 && others > 0 && poll (&fd, 1, 0) == 1; others--)
    r = nbd_aio_notify_read (c->nbd);
  return r;
}

/* Wait for an event on the connection and handle it.  The leader's; so many
 * others wait, too.
 */
static void
conn_pump (struct conn *c, unsigned others)
{
  struct pollfd fds[2] = {
    { .fd = c->fd, .events = POLLIN },
    { .fd = c->lead_kick, .events = POLLIN },
  };
  int r = 0, err = -ENOTCONN;

  if (conn_wants_write (c))
    fds[0].events |= POLLOUT;
  if (poll (fds, 2, -1) == -1) {
    if (errno != EINTR && errno != EAGAIN)
      target_session_end (c->session, -errno);
    return;
  }
  if (fds[1].revents)
    drain (c->lead_kick);
  /* What is to be written has its turn when nothing is to be read. */
  if (fds[0].revents & ~POLLOUT) {
    r = nbd_aio_notify_read (c->nbd);
    if (r == 0)
      r = receive_more (c, others);
  }
  else if (fds[0].revents)
    r = nbd_aio_notify_write (c->nbd);
  release_waiters ();
  /* EINVAL: somebody who was submitting has seen the end before. */
  if (r == -1 && nbd_get_errno () > 0 && nbd_get_errno () != EINVAL)
    err = -nbd_get_errno ();
  if (conn_dead (c))
    conn_lost (c, err);
}

/* After a command was queued: is somebody needed for sending the rest? */
void
conn_kick (struct conn *c)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  kick (c->leading ? c->lead_kick : c->watch_kick);
}

void
conn_kick_watcher (struct conn *c)
{
  kick (c->watch_kick);
}

static bool
satisfied (const struct conn *c, const struct waiter *w)
{
  return w->req ? req_ended (w->req)
    : c->free_pieces && first_slot_waiter (c) == w;
}

/* Nobody leads: wake who should.  Called with the lock. */
static void
hand_over (struct conn *c)
{
  struct waiter *w;

  if (c->leading || c->closed || c->promoted)
    return;
  if (c->watcher_waits) {
    cond_signal (&c->watcher_cond);
    return;
  }
  for (w = c->first; w && satisfied (c, w); w = w->next)
    ;
  if (w) {
    c->promoted = w;
    wake (w, WAITER_LOOK);
  }
  else if (conn_wants_write (c))
    kick (c->watch_kick);
}

void
conn_look_again (struct conn *c)
{
  if (c->leading)
    kick (c->lead_kick);
  else
    hand_over (c);
}

/* Called with the lock, which is released meanwhile. */
static void
lead (struct conn *c, struct waiter *w)
{
  const unsigned others = c->nr_waiters - (w != NULL);

  c->leading = true;
  c->leader = w;
  c->promoted = NULL;
  mutex_unlock (&c->lock);
  conn_pump (c, others);
  mutex_lock (&c->lock);
  c->leading = false;
}

/* Sleep until w is set to something; called with the lock, which is held
 * again afterwards unless w was released (returns true).
 */
static bool
sleep_unlocked (struct conn *c, struct waiter *w)
{
  unsigned state;

  atomic_store (&w->state, WAITER_ASLEEP);
  mutex_unlock (&c->lock);
  while ((state = atomic_load (&w->state)) == WAITER_ASLEEP)
    futex_wait (&w->state, state);
  if (state == WAITER_RELEASED)
    return true;
  mutex_lock (&c->lock);
  return false;
}

/* Block until what w waits for has come, leading if nobody else does.
 * Called with the lock, which is held again afterwards unless w was released
 * (returns true).
 */
static bool
wait_locked (struct conn *c, struct waiter *w)
{
  enqueue (c, w);
  while (!satisfied (c, w)) {
    if (!c->leading && !c->closed)
      lead (c, w);
    else if (sleep_unlocked (c, w))
      return true;
  }
  return false;
}

/* The same for the end of a request; returns without the lock. */
static void
wait_and_unlock (struct conn *c, struct waiter *w)
{
  unsigned state;

  if (wait_locked (c, w))
    return;
  if (w->releasing) {
    /* Released, but not told yet: *w must stay until then. */
    mutex_unlock (&c->lock);
    while ((state = atomic_load (&w->state)) != WAITER_RELEASED)
      futex_wait (&w->state, state);
    return;
  }
  hand_over (c);
  mutex_unlock (&c->lock);
}

void
conn_wait (struct target_req *req)
{
  struct conn *c = req_conn (req);
  struct waiter w = { .req = req };

  if (req_ended (req))
    return;
  mutex_lock (&c->lock);
  if (req_ended (req))
    mutex_unlock (&c->lock);
  else
    wait_and_unlock (c, &w);
}

struct piece *
conn_lock_with_piece (struct conn *c)
{
  struct waiter w = { .req = NULL };
  struct piece *p;
  bool waited;

  mutex_lock (&c->lock);
  waited = c->free_pieces == NULL || c->slot_waiters > 0;
  if (waited) {
    wait_locked (c, &w);
    dequeue (c, &w);
  }
  p = c->free_pieces;
  c->free_pieces = p->next;
  if (waited) {
    conn_wake_slot_waiter (c);
    if (!c->leading || (c->leader && satisfied (c, c->leader)))
      conn_look_again (c);
  }
  return p;
}

/*-- the watcher --------------------------------------------------------*/

/* Returns whether the peer has hung up. */
static bool
watch (struct conn *c)
{
  struct pollfd fds[2] = {
    { .fd = c->fd, .events = POLLRDHUP },
    { .fd = c->watch_kick, .events = POLLIN },
  };

  if (poll (fds, 2, -1) == -1)
    return false;
  if (fds[1].revents)
    drain (c->watch_kick);
  return fds[0].revents != 0;
}

void
conn_watch (void *vp)
{
  struct conn *c = vp;
  bool hung_up;

  do {
    hung_up = watch (c);
    conn_send (c);
    mutex_lock (&c->lock);
    if (hung_up) {
      c->watcher_waits = true;
      while (c->leading && !c->closed)
        cond_wait (&c->watcher_cond, &c->lock);
      c->watcher_waits = false;
      while (!c->closed)
        lead (c, NULL);
    }
    else {
      /* A leader sees by itself that there is something to write. */
      while (!c->leading && !c->closed && conn_wants_write (c))
        lead (c, NULL);
      hand_over (c);
    }
    mutex_unlock (&c->lock);
  } while (!hung_up);
  conn_send (c);                /* what was left to us meanwhile */
}
