/* SPDX-License-Identifier: BSD-3-Clause */
/* See ring.h.
 *
 * Why not for writes?  A process that is killed is gone, and its parent knows,
 * while what it has submitted to a ring is still on its way to the disk.  It
 * may arrive when another process serves the disk already, and overwrite what
 * that has written, or what a client had read and copied is not what stays.  A
 * thread in pwritev does not end before the disk has answered.  And a large
 * pwritev is as fast as a ring.
 *
 * The thread that has a ring queues pieces, submits them, waits for any of
 * them to complete, and queues more.  What the ring does not do in one go is
 * left to preadv, which knows how to go on: the rest of a piece that was read
 * in part, one that was interrupted or shall be tried again, and, when the
 * kernel does not take submissions any more, all that it has not taken.  A ring
 * with which that has happened is not used again, as entries that were not
 * taken are still in it.
 *
 * The kernel takes submissions in the order they were queued; so what it has
 * not taken is the newest of it.  A ring has room for `depth` pieces, and each
 * is in one of these states:
 *
 *   idle      not in use
 *   queued    in the ring, but the kernel has not taken it
 *   taken     the kernel writes to its buffer
 *
 * Nothing returns while one is taken, whatever has failed: its buffer is
 * the client's, or will be another request's.
 *
 * SINGLE_ISSUER and DEFER_TASKRUN would bind a ring to a thread, SQPOLL would
 * cost a core, and registered buffers are limited by RLIMIT_MEMLOCK.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "ring.h"

#ifdef HAVE_LIBURING

#include <liburing.h>
#include <time.h>

#define PAUSE_NS 1000000        /* between looks where waiting has failed */

struct ring {
  struct io_uring uring;
  unsigned depth;
  bool broken;                  /* must not be used again */
  unsigned nr_idle, nr_taken, untaken;
  struct piece **idle;          /* depth entries, as have: */
  struct piece **queued;        /* those that are untaken, the oldest first */
  struct piece pieces[];
};

static int
queue_init (struct io_uring *uring, unsigned depth)
{
  int r = io_uring_queue_init (depth, uring, IORING_SETUP_COOP_TASKRUN);

  /* Before Linux 5.19. */
  return r == -EINVAL ? io_uring_queue_init (depth, uring, 0) : r;
}

int
ring_probe (void)
{
  struct io_uring uring;
  int r = queue_init (&uring, 1);

  if (r < 0)
    return r;
  io_uring_queue_exit (&uring);
  return 0;
}

static void
ring_free (struct ring *ring)
{
  free (ring->idle);
  free (ring->queued);
  free (ring);
}

static int
ring_new (unsigned depth, struct ring **ring)
{
  struct ring *n = calloc (1, sizeof *n + depth * sizeof n->pieces[0]);
  int r = -ENOMEM;

  if (n == NULL)
    return r;
  n->depth = depth;
  n->idle = calloc (depth, sizeof n->idle[0]);
  n->queued = calloc (depth, sizeof n->queued[0]);
  if (n->idle != NULL && n->queued != NULL)
    r = queue_init (&n->uring, depth);
  if (r < 0) {
    ring_free (n);
    return r;
  }
  while (n->nr_idle < depth) {
    n->idle[n->nr_idle] = &n->pieces[n->nr_idle];
    n->nr_idle++;
  }
  *ring = n;
  return 0;
}

static void
ring_destroy (struct ring *ring)
{
  io_uring_queue_exit (&ring->uring);
  ring_free (ring);
}

/*-- the pool -----------------------------------------------------------*/

void
ring_pool_destroy (struct ring_pool *p)
{
  while (p->nr_free > 0)
    ring_destroy (p->free[--p->nr_free]);
  mutex_destroy (&p->lock);
}

struct ring *
ring_get (struct ring_pool *p, int *error)
{
  struct ring *ring = NULL;

  *error = 0;
  if (!p->enabled)
    return NULL;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    if (p->nr_free > 0)
      return p->free[--p->nr_free];
    if (p->nr_all == RING_POOL_MAX)
      return NULL;
    p->nr_all++;
  }
  *error = ring_new (p->depth, &ring);
  if (*error == 0)
    return ring;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    p->nr_all--;
  }
  return NULL;
}

void
ring_put (struct ring_pool *p, struct ring *ring)
{
  bool broken = ring->broken;

  if (broken)
    ring_destroy (ring);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);
  if (broken)
    p->nr_all--;
  else
    p->free[p->nr_free++] = ring;
}

/*-- a transfer ---------------------------------------------------------*/

/* The kernel has done the first n bytes of it, or none; see to the rest. */
static int
do_rest (const struct transfer *t, const struct piece *p, uint32_t n)
{
  n = round_down_p2 (n, t->how.block);
  return rw_buffer (&t->how, p->buf + n, p->len - n, p->offset + n);
}

/* res is what the ring answered. */
static int
finish (struct ring *ring, struct transfer *t, struct piece *p, int res)
{
  int r = 0;

  if (res == -EINTR || res == -EAGAIN)
    res = 0;
  if (res < 0)
    r = rw_error (res);
  else if ((uint32_t) res < p->len)
    r = do_rest (t, p, (uint32_t) res);
  transfer_done (t, p, r == 0);
  ring->idle[ring->nr_idle++] = p;
  return r;
}

static void
queue (struct ring *ring, const struct transfer *t, struct piece *p)
{
  struct io_uring_sqe *sqe = io_uring_get_sqe (&ring->uring);

  /* There is always one: the ring has room for `depth`. */
  io_uring_prep_read (sqe, t->how.fd, p->buf, p->len, p->offset);
  io_uring_sqe_set_data (sqe, p);
  ring->queued[ring->untaken++] = p;
}

/* Let the kernel take what is queued, and wait for the first answer with the
 * same call.  Returns 0, or -1 when it does not take all of it.
 */
static int
submit (struct ring *ring)
{
  unsigned i;
  int n;

  while (ring->untaken > 0) {
    n = io_uring_submit_and_wait (&ring->uring, 1);
    if (n == -EINTR)
      continue;
    if (n <= 0)
      return -1;
    ring->nr_taken += (unsigned) n;
    ring->untaken -= (unsigned) n;
    for (i = 0; i < ring->untaken; ++i)
      ring->queued[i] = ring->queued[i + (unsigned) n];
  }
  return 0;
}

static struct io_uring_cqe *
wait_for_one (struct ring *ring)
{
  struct io_uring_cqe *cqe;
  int r;

  do {
    r = io_uring_wait_cqe (&ring->uring, &cqe);
    /* It cannot fail in another way; but if it does, what has been taken must
     * be waited for all the same.
     */
    if (r < 0 && r != -EINTR)
      nanosleep (&(struct timespec) { .tv_nsec = PAUSE_NS }, NULL);
  } while (r < 0);
  return cqe;
}

/* One or more answers.  Returns the first error. */
static int
reap (struct ring *ring, struct transfer *t)
{
  struct io_uring_cqe *cqe = wait_for_one (ring);
  struct piece *p;
  int r = 0, one, res;

  do {
    p = io_uring_cqe_get_data (cqe);
    res = cqe->res;
    io_uring_cqe_seen (&ring->uring, cqe);
    ring->nr_taken--;
    one = finish (ring, t, p, res);
    if (r == 0)
      r = one;
  } while (ring->nr_taken > 0 &&
           io_uring_peek_cqe (&ring->uring, &cqe) == 0);
  return r;
}

/* Queue as many pieces as there is room for. */
static int
queue_pieces (struct ring *ring, struct transfer *t)
{
  int more;

  if (ring->broken)
    return 0;
  while (ring->nr_idle > 0) {
    more = transfer_next (t, ring->idle[ring->nr_idle - 1]);
    if (more < 0 && ring->nr_taken + ring->untaken == 0)
      return more;
    if (more <= 0)              /* the end, or wait for a buffer of ours */
      break;
    queue (ring, t, ring->idle[--ring->nr_idle]);
  }
  if (submit (ring) < 0)
    ring->broken = true;
  return 0;
}

/* What the kernel has not taken. */
static int
do_untaken (struct ring *ring, struct transfer *t, int r)
{
  unsigned i;
  int one;

  for (i = 0; i < ring->untaken; ++i) {
    one = r == 0 ? do_rest (t, ring->queued[i], 0) : r;
    transfer_done (t, ring->queued[i], one == 0);
    r = one;
  }
  ring->untaken = 0;
  return r;
}

int
ring_run (struct ring *ring, struct transfer *t)
{
  int r = 0, one;

  do {
    one = r == 0 ? queue_pieces (ring, t) : 0;
    if (one == 0 && ring->nr_taken > 0)
      one = reap (ring, t);
    if (r == 0)
      r = one;
  } while (ring->nr_taken > 0 ||
           (r == 0 && !ring->broken && t->next < t->outer.end));
  if (ring->broken) {
    r = do_untaken (ring, t, r);
    if (r == 0)
      r = transfer_run (t);
  }
  return r;
}

#else /* !HAVE_LIBURING */

int
ring_probe (void)
{
  return -ENOSYS;
}

void
ring_pool_destroy (struct ring_pool *p)
{
  mutex_destroy (&p->lock);
}

struct ring *
ring_get (struct ring_pool *p, int *error)
{
  (void) p;
  *error = 0;
  return NULL;
}

void
ring_put (struct ring_pool *p, struct ring *ring)
{
  (void) p;
  (void) ring;
}

int
ring_run (struct ring *ring, struct transfer *t)
{
  (void) ring;
  return transfer_run (t);
}

#endif /* !HAVE_LIBURING */

void
ring_pool_init (struct ring_pool *p, bool enabled, unsigned depth)
{
  mutex_init (&p->lock);
  p->enabled = enabled;
  p->depth = depth;
  p->nr_free = p->nr_all = 0;
}
