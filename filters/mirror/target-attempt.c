/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to a target in a thread of its own, so that nobody waits longer
 * than he wants.
 *
 * All of it has a deadline but one thing: libnbd looks the name of the host
 * up with getaddrinfo, which takes as long as the name service does and
 * cannot be interrupted.  So the thread that does it is detached, and when
 * time is up, or *stop is set, it is left alone with the attempt: it ends what
 * it has made by itself, whenever that is.  The attempt belongs to both; the
 * second to let go of it frees it.
 *
 * Threads that were left alone are counted, since a name service that never
 * answers would otherwise gather more of them with every try.
 */

#include <config.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "target-private.h"
#include "target-uri.h"
#include "target.h"

/* How often to look whether to give up. */
#define STOP_POLL_NS UINT64_C (50000000)

/* Of threads that were left alone. */
#define MAX_ALONE 8

static atomic_uint alone;

struct attempt {
  /* Constant. */
  char *uri;
  unsigned connections;

  struct target_limit limit;
  atomic_bool abandoned;        /* nobody waits: end it */
  atomic_bool looking_up;       /* the name, in libnbd */

  struct mutex lock;            /* for what follows */
  struct cond ended;
  bool done;
  int result;                   /* 0: target, else error */
  struct target *target;
  char error[TARGET_ERROR_MAX];
};

static void
attempt_free (struct attempt *a)
{
  cond_destroy (&a->ended);
  mutex_destroy (&a->lock);
  free (a->uri);
  free (a);
}

static struct attempt *
attempt_new (const char *uri, unsigned connections, unsigned timeout_ms)
{
  struct attempt *a = calloc (1, sizeof *a);

  if (!a)
    return NULL;
  mutex_init (&a->lock);
  cond_init (&a->ended);
  a->uri = strdup (uri);
  a->connections = connections;
  a->limit.began_ns = clock_monotonic.now_ns (&clock_monotonic);
  atomic_init (&a->limit.timeout_ms, timeout_ms);
  if (!a->uri) {
    attempt_free (a);
    return NULL;
  }
  return a;
}

static void
attempt_main (void *vp)
{
  struct attempt *a = vp;
  struct target *t = NULL;
  bool abandoned;
  int r = target_connect_within (&a->limit, &a->abandoned, &a->looking_up,
                                 a->uri, a->connections, &t, a->error);

  mutex_lock (&a->lock);
  a->result = r;
  a->target = t;
  a->done = true;
  abandoned = atomic_load (&a->abandoned);
  cond_signal (&a->ended);
  mutex_unlock (&a->lock);
  if (!abandoned)
    return;                     /* *a may be gone */
  if (t)
    t->ops->free (t);
  attempt_free (a);
  atomic_fetch_sub (&alone, 1);
}

static unsigned
in_ms (const _Atomic uint64_t *ns)
{
  return (unsigned) (atomic_load (ns) / 1000000);
}

/* Wait for its end.  0: it is done; -ECANCELED, -ETIMEDOUT: the attempt is the
 * thread's now.  Past the deadline, what is not the looking up ends soon.
 */
static int
wait_until_done (struct attempt *a, const _Atomic bool *stop,
                 const _Atomic uint64_t *timeout_ns)
{
  struct clock *clock = &clock_monotonic;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&a->lock);
  uint64_t now;
  int r = 0;

  while (!a->done && r == 0) {
    now = clock->now_ns (clock);
    atomic_store (&a->limit.timeout_ms, in_ms (timeout_ns));
    if (atomic_load (stop))
      r = -ECANCELED;
    else if (now >= target_deadline (&a->limit) &&
             atomic_load (&a->looking_up))
      r = -ETIMEDOUT;
    else
      clock->wait_until (clock, &a->ended, &a->lock, now + STOP_POLL_NS);
  }
  if (a->done)
    return 0;
  atomic_fetch_add (&alone, 1);
  atomic_store (&a->abandoned, true);
  return r;
}

/* r: why it has not been waited for. */
static void
explain (const char *uri, unsigned timeout_ms, int r, char *error)
{
  CLEANUP_FREE char *public = target_public_uri (uri);
  const char *shown = public ? public : "mirror target";

  if (r == -ECANCELED)
    target_error (error, shown, "given up: it is not wanted any more");
  else if (r == -ETIMEDOUT)
    target_error (error, shown, "the name service has not answered within "
                  "%u ms", timeout_ms);
  else if (r == -EBUSY)
    target_error (error, shown, "the name service has not answered earlier "
                  "tries yet");
  else
    target_error (error, shown, "%s", error_text (-r));
}

static int
attempt_start (const char *uri, unsigned connections, unsigned timeout_ms,
               struct attempt **to)
{
  struct attempt *a;
  struct thread thread;
  int r;

  if (atomic_load (&alone) >= MAX_ALONE)
    return -EBUSY;
  a = attempt_new (uri, connections, timeout_ms);
  if (!a)
    return -ENOMEM;
  r = thread_start (&thread, "mirror-connect", attempt_main, a);
  if (r < 0) {
    attempt_free (a);
    return r;
  }
  pthread_detach (thread.pthread);
  *to = a;
  return 0;
}

int
target_connect_unless (const _Atomic bool *stop, const char *uri,
                       unsigned connections,
                       const _Atomic uint64_t *timeout_ns,
                       struct target **target, char *error)
{
  struct attempt *a = NULL;
  int r;

  if (!stop)
    return target_connect (uri, connections, in_ms (timeout_ns), target,
                           error);
  r = attempt_start (uri, connections, in_ms (timeout_ns), &a);
  if (r == 0)
    r = wait_until_done (a, stop, timeout_ns);
  if (r < 0) {
    explain (uri, in_ms (timeout_ns), r, error);
    return r;
  }
  r = a->result;
  if (r == 0)
    *target = a->target;
  else
    memcpy (error, a->error, sizeof a->error);
  attempt_free (a);
  return r;
}
