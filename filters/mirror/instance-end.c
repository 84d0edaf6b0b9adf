/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of the instance; see instance.h.
 *
 * What clients have been told is in the source, but may be in its cache: at the
 * end it is flushed, once, by whoever comes to that first.
 *
 * SIGTERM and nbdkit_shutdown only set a flag in nbdkit; it then waits without
 * limit for all connections to end.  A request that waits for a target that
 * hangs would hold that up for ever.  The one way for a filter to learn of the
 * flag is that nbdkit_nanosleep fails; so while there is a job one thread
 * sleeps, and when it is woken the engine is shut down, which releases every
 * request and closes the intent file (it costs the line "aborting sleep" in the
 * log).
 *
 * `quit` moreover ends the process after two seconds even if clients are still
 * connected, which no call of this nbdkit can disconnect; and, later, whatever
 * it is that hangs.
 */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "cleanup.h"
#include "errtext.h"
#include "instance-private.h"

#define QUIT_NS UINT64_C (2000000000)

/* What is in flight, and the flushes that make the intent file small, may take
 * so long when the process ends.
 */
#define SHUTDOWN_NS UINT64_C (1000000000)

/* A source may have a large cache.  After that it is taken to hang. */
#define FLUSH_NS UINT64_C (30000000000)

static bool
wait_until_locked (struct instance *in, const bool *what, uint64_t deadline_ns)
{
  struct clock *clock = &clock_monotonic;

  while (!*what && clock->wait_until (clock, &in->wake, &in->lock,
                                      deadline_ns) == 0)
    ;
  return *what;
}

static void
flush_main (void *vp)
{
  struct instance *in = vp;
  const int r = mirror_flush_disk (in->mirror, &in->source.base);

  if (r < 0)
    nbdkit_error ("mirror: flushing the %s at the end: %s",
                  mirror_pivoted (in->mirror) ? "clients' disk" : "source",
                  error_text (-r));
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  in->flushed = true;
  cond_broadcast (&in->wake);
}

/* Nobody changes anything any more. */
static void
flush_once (struct instance *in)
{
  const uint64_t now = clock_monotonic.now_ns (&clock_monotonic);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  if (in->facts.can_flush != 1 || in->facts.can_write != 1)
    return;
  if (!in->have_flusher)
    in->have_flusher = thread_start (&in->flusher, "mirror-flush",
                                     flush_main, in) == 0;
  if (in->have_flusher && !wait_until_locked (in, &in->flushed,
                                              now + FLUSH_NS))
    nbdkit_error ("mirror: the source has not been flushed within %u s",
                  (unsigned) (FLUSH_NS / 1000000000));
}

static void
watcher_main (void *vp)
{
  struct instance *in = vp;
  bool drained;

  while (nbdkit_nanosleep (86400, 0) == 0)
    ;

  atomic_store (&in->give_up, true);
  drained = mirror_shutdown (in->mirror, SHUTDOWN_NS);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    in->changing = !drained;
    in->closed = true;
    cond_broadcast (&in->wake);
  }
  flush_once (in);
}

int
instance_start_watcher (struct instance *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  int r;

  if (in->have_watcher)
    return 0;
  if (in->ending)
    return -ESHUTDOWN;
  r = thread_start (&in->watcher, "mirror-watch", watcher_main, in);
  in->have_watcher = r == 0;
  return r;
}

/* Until the cleanup has begun, but no longer than QUIT_NS; then until the
 * intent file is closed, but no longer than that again: its disk may hang.
 * true: the cleanup has begun.
 */
static bool
wait_for_cleanup (struct instance *in)
{
  struct clock *clock = &clock_monotonic;
  const uint64_t deadline_ns = clock->now_ns (clock) + QUIT_NS;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  wait_until_locked (in, &in->ending, deadline_ns);
  while (!in->ending && in->have_watcher && !in->closed &&
         clock->wait_until (clock, &in->wake, &in->lock,
                            deadline_ns + QUIT_NS) == 0)
    ;
  return in->ending;
}

/* Until the cleanup has ended; a source that hangs may not let it. */
static bool
wait_for_end (struct instance *in)
{
  const uint64_t now = clock_monotonic.now_ns (&clock_monotonic);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  return wait_until_locked (in, &in->ended, now + FLUSH_NS + QUIT_NS);
}

static void
quitter_main (void *vp)
{
  struct instance *in = vp;

  if (wait_for_cleanup (in)) {
    if (wait_for_end (in))
      return;
  }
  else
    flush_once (in);            /* and leave with the clients */
  if (in->keys->control)
    unlink (in->keys->control);
  _exit (EXIT_SUCCESS);
}

void
instance_quit (struct instance *in)
{
  nbdkit_shutdown ();
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  if (!in->have_quitter && !in->ending)
    in->have_quitter = thread_start (&in->quitter, "mirror-quit",
                                     quitter_main, in) == 0;
}

void
instance_wind_up (struct instance *in)
{
  if (in->have_watcher) {
    nbdkit_shutdown ();         /* wakes it; not yet set if the start failed */
    thread_join (&in->watcher);
  }
  /* What was still under way then has ended since, and is not in that flush. */
  if (in->changing && in->have_flusher) {
    thread_join (&in->flusher);
    in->have_flusher = in->flushed = false;
  }
  if (in->mirror)
    flush_once (in);
  if (in->have_flusher)
    thread_join (&in->flusher);
}

void
instance_join (struct instance *in)
{
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    in->ended = true;
    cond_broadcast (&in->wake);
  }
  if (in->have_quitter)
    thread_join (&in->quitter);
}
