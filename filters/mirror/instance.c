/* SPDX-License-Identifier: BSD-3-Clause */
/* See instance.h.
 *
 * nbdkit forks between .get_ready and .after_fork.  What a user should be
 * told before the command returns (a bad socket, an unfit target) is done
 * before; the connection to the target survives the fork, threads would not.
 *
 * Ending.  SIGTERM and nbdkit_shutdown only set a flag in nbdkit; it then
 * waits without limit for all connections to end.  A request that waits for a
 * target that hangs would hold that up for ever.  The one way for a filter to
 * learn of the flag is that nbdkit_nanosleep fails; so while there is a job
 * one thread sleeps, and when it is woken the job is cancelled, which
 * releases every request (it costs the line "aborting sleep" in the log).
 * `quit` moreover ends the process after two seconds even if clients are
 * still connected, which no call of this nbdkit can disconnect.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"
#include "cleanup.h"
#include "errtext.h"
#include "eventlog.h"
#include "instance.h"
#include "target.h"

#define QUIT_NS UINT64_C (2000000000)

/* What is in flight, and the flushes that make the intent file small, may take
 * so long when the process ends.
 */
#define SHUTDOWN_NS UINT64_C (1000000000)

/* -D mirror.backoff_ms=N: the first delay before a lost target is connected to
 * again.  For tests.
 */
NBDKIT_DLL_PUBLIC int mirror_debug_backoff_ms;

static uint64_t
debug_backoff_ns (void)
{
  return mirror_debug_backoff_ms > 0
    ? UINT64_C (1000000) * (unsigned) mirror_debug_backoff_ms : 0;
}

struct instance {
  /* Constant after instance_start. */
  const struct filter_keys *keys;
  const struct place *place;    /* of the source */
  struct mirror *mirror;
  struct control *control;      /* or NULL */
  nbdkit_next *next;            /* the copier's context */
  struct nbdkit_source source;
  struct facts facts;
  bool shared;
  uint64_t size;

  struct target *first_target;  /* connected, not yet started; or NULL */
  bool start_mirror;            /* ... to the one of the command line */
  _Atomic int clients;
  _Atomic bool give_up;         /* no connecting any more */

  struct eventlog eventlog;

  struct mutex lock;
  struct cond wake;             /* cleanup has begun */

  /* Protected by lock. */
  bool have_watcher, have_quitter, ending;
  struct thread watcher, quitter;
  char *target_uri;             /* of the job, without secrets */
  char *job_uri;                /* with them */
  char *disk_uri;               /* of the clients' disk after a pivot */
};

/*-- starting a mirror --------------------------------------------------*/

static void
watcher_main (void *vp)
{
  struct instance *in = vp;

  while (nbdkit_nanosleep (86400, 0) == 0)
    ;
  atomic_store (&in->give_up, true);
  mirror_shutdown (in->mirror, SHUTDOWN_NS);
}

/* Before the first job. */
static int
start_watcher (struct instance *in)
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

/* What there is to know of a target in order to find it again: connections,
 * URI.
 */
static char *
where_is (const struct params *p)
{
  char *where;

  return asprintf (&where, "%u %s", p->connections, p->target) < 0
    ? NULL : where;
}

static void
remember_target (struct instance *in, const struct params *p)
{
  char *public = target_public_uri (p->target), *whole = strdup (p->target);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  free (in->target_uri);
  in->target_uri = public;
  free (in->job_uri);
  in->job_uri = whole;
}

/* Clients were given the target of the job: it is no target for the next. */
static void
remember_pivot (struct instance *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  free (in->disk_uri);
  in->disk_uri = in->job_uri;
  in->job_uri = NULL;
}

/* The reason in that line: of which URI is known to whoever asks. */
static void
explain (const char *uri, const char *error, char *why)
{
  CLEANUP_FREE char *public = target_public_uri (uri);

  snprintf (why, MIRROR_REASON_MAX, "%s",
            public ? target_error_reason (error, public) : error);
}

/* Once more to the target of a job, or the clients' disk after a pivot. */
static int
reopen (void *opaque, const char *where, const _Atomic uint64_t *timeout_ns,
        const _Atomic bool *stop, struct target **target, char *why)
{
  struct instance *in = opaque;
  char error[TARGET_ERROR_MAX] = "", *uri;
  unsigned connections = (unsigned) strtoul (where, &uri, 10);
  bool connected;
  int r;

  r = target_connect_unless (stop, uri + 1, connections, timeout_ns, target,
                             error);
  connected = r == 0;
  if (r == 0)
    r = target_check (*target, in->size, MIRROR_MAX_GRANULARITY, error);
  if (error[0])
    explain (uri + 1, error, why);
  if (r < 0 && (connected || target_is_unfit (r)))
    r = -EMEDIUMTYPE;
  if (r == 0)
    r = target_start (*target);
  if (r < 0 && connected)
    (*target)->ops->free (*target);
  return r;
}

/* Start a job on a target that is connected; NULL: that is to be connected to
 * later.  Takes over target.
 */
static int
start_on (struct instance *in, const struct params *p, struct target *target,
          char *error)
{
  CLEANUP_FREE char *where = where_is (p);
  struct job_params jp = {
    .where = where,
    .id = p->job_id ? p->job_id : "mirror",
    .copy_mode = p->copy_mode,
    .sync = p->sync,
    .unmap = p->unmap,
    .detect_zeroes = p->detect_zeroes,
    .target_is_zero = p->target_is_zero,
    .defer_flush = p->defer_flush,
    .max_pause_ns = UINT64_C (1000000) * p->max_pause_ms,
    .timeout_ns = UINT64_C (1000000000) * p->timeout_s,
    .suspect_time_ns = UINT64_C (1000000000) * p->suspect_s,
    .on_source_error = p->on_source_error,
    .on_target_error = p->on_target_error,
    .keep = p->keep,
    .granularity = p->granularity,
    .speed = p->speed,
    .buf_size = p->buf_size,
  };
  int r = target ? target_check (target, in->size, p->granularity, error) : 0;

  if (r == 0) {
    r = where ? start_watcher (in) : -ENOMEM;
    if (r == 0 && target)
      r = target_start (target);
    if (r == 0)
      r = mirror_start (in->mirror, &jp, &in->source.base, target);
    if (r == 0)
      remember_target (in, p);
    if (r == -ETIMEDOUT)
      snprintf (error, PARAMS_ERROR_MAX, "cannot start the mirror: requests "
                "in flight have not ended within %u ms", p->max_pause_ms);
    else if (r < 0)
      snprintf (error, PARAMS_ERROR_MAX, "cannot start the mirror: %s",
                r == -EBUSY ? "there is already one" : error_text (-r));
  }
  if (r < 0 && target)
    target->ops->free (target);
  return r;
}

static bool
is_current_source (struct instance *in, const char *uri, char *error)
{
  struct place place = { .dir = NULL };
  CLEANUP_FREE char *now = NULL;
  bool r;

  if (!in->mirror || !mirror_pivoted (in->mirror))
    return place_is_target (in->place, uri, error);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    now = in->disk_uri ? strdup (in->disk_uri) : NULL;
  }
  if (!now || place_note (&place, "uri", now) < 0)
    r = false;
  else
    r = place_is_target (&place, uri, error);
  place_clear (&place);
  return r;
}

static int
connect_to (struct instance *in, const struct params *p,
            struct target **target, char *error)
{
  const _Atomic uint64_t timeout_ns = UINT64_C (1000000000) * p->timeout_s;
  int r = params_check (p, error);

  if (r == 0 && is_current_source (in, p->target, error))
    r = -EINVAL;
  if (r == 0)
    /* Before the fork there must be no thread. */
    r = target_connect_unless (in->mirror ? &in->give_up : NULL, p->target,
                               p->connections, &timeout_ns, target, error);
  if (r == 0) {
    /* What needs no source can be said before the fork. */
    r = target_check (*target, 0, p->granularity, error);
    if (r < 0) {
      (*target)->ops->free (*target);
      *target = NULL;
    }
  }
  return r;
}

static int
control_start_op (void *opaque, const struct params *p, char *error)
{
  struct instance *in = opaque;
  struct target *target;
  int r = connect_to (in, p, &target, error);

  return r < 0 ? r : start_on (in, p, target, error);
}

/*-- other operations of the control socket -----------------------------*/

static const struct params *
control_defaults (void *opaque)
{
  struct instance *in = opaque;

  return &in->keys->params;
}

static char *
control_target_uri (void *opaque)
{
  struct instance *in = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  return strdup (in->target_uri ? in->target_uri : "");
}

static unsigned
control_clients (void *opaque)
{
  struct instance *in = opaque;

  return (unsigned) atomic_load (&in->clients);
}

static uint64_t
control_source_size (void *opaque)
{
  struct instance *in = opaque;

  return in->size;
}

static unsigned
control_source_flags (void *opaque)
{
  const struct facts *f = &((struct instance *) opaque)->facts;

  return (f->can_flush == 1 ? SOURCE_FLUSH : 0) |
    (f->can_fua == NBDKIT_FUA_NATIVE ? SOURCE_FUA : 0) |
    (f->can_trim == 1 ? SOURCE_TRIM : 0) |
    (f->can_zero > NBDKIT_ZERO_NONE ? SOURCE_ZERO : 0) |
    (f->can_fast_zero == 1 ? SOURCE_FAST_ZERO : 0) |
    (f->can_extents == 1 ? SOURCE_EXTENTS : 0) |
    (f->can_multi_conn == 1 ? SOURCE_MULTI_CONN : 0);
}

static void
quitter_main (void *vp)
{
  struct instance *in = vp;
  uint64_t deadline = clock_monotonic.now_ns (&clock_monotonic) + QUIT_NS;
  bool ending;

  mutex_lock (&in->lock);
  while (!in->ending &&
         clock_monotonic.wait_until (&clock_monotonic, &in->wake, &in->lock,
                                     deadline) == 0)
    ;
  ending = in->ending;
  mutex_unlock (&in->lock);
  if (ending)
    return;

  /* Clients are still connected.  What they have been told is in the source;
   * make it durable, then leave with them.
   */
  if (in->facts.can_flush == 1 &&
      mirror_flush (in->mirror, &in->source.base) < 0)
    nbdkit_error ("mirror: quit: flushing the source failed");
  if (in->keys->control)
    unlink (in->keys->control);
  _exit (EXIT_SUCCESS);
}

static void
control_quit (void *opaque)
{
  struct instance *in = opaque;

  nbdkit_shutdown ();
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  if (!in->have_quitter && !in->ending)
    in->have_quitter = thread_start (&in->quitter, "mirror-quit",
                                     quitter_main, in) == 0;
}

static const struct control_ops control_ops = {
  .start = control_start_op,
  .defaults = control_defaults,
  .target_uri = control_target_uri,
  .clients = control_clients,
  .source_size = control_source_size,
  .source_flags = control_source_flags,
  .quit = control_quit,
};

static void
on_event (void *opaque, const struct mirror_event *ev)
{
  struct instance *in = opaque;
  char line[EVENTLOG_LINE_MAX];

  if (ev->kind == EVENT_PIVOTED)
    remember_pivot (in);
  if (eventlog_line (&in->eventlog, ev,
                     clock_monotonic.now_ns (&clock_monotonic), line))
    nbdkit_error ("%s", line);  /* nbdkit knows no other line that is seen */
  if (in->control)
    control_event (in->control, ev);
}

/*-- life ---------------------------------------------------------------*/

/* A target that is not there at startup holds nobody up. */
static bool
may_come_later (const struct params *p)
{
  return p->on_target_error == ON_ERROR_IGNORE ||
    p->on_target_error == ON_ERROR_STOP;
}

struct instance *
instance_new (const struct filter_keys *keys, const struct place *place)
{
  struct instance *in = calloc (1, sizeof *in);
  const char *what = "mirror-"; /* the errors begin with the value */
  char error[PARAMS_ERROR_MAX];
  int r;

  if (!in) {
    nbdkit_error ("calloc: %m");
    return NULL;
  }
  in->keys = keys;
  in->place = place;
  mutex_init (&in->lock);
  cond_init (&in->wake);
  eventlog_init (&in->eventlog);

  r = params_check (&keys->params, error);
  if (r == 0 && keys->params.bitmap)
    r = refuse (error, "bitmap: not available in this version");
  if (r == 0 && keys->control) {
    in->control = control_new (keys->control, &control_ops, in, error);
    what = "mirror-control=";
    if (!in->control)
      r = -1;
  }
  if (r == 0 && keys->params.target) {
    what = "mirror-target=";
    r = connect_to (in, &keys->params, &in->first_target, error);
    in->start_mirror = true;
    if (target_is_unreachable (r) && may_come_later (&keys->params)) {
      nbdkit_error ("mirror-target=%s; it is tried again", error);
      r = 0;
    }
  }
  if (r < 0) {
    nbdkit_error ("%s%s", what, error);
    instance_free (in);
    return NULL;
  }
  return in;
}

static int
open_source (struct instance *in, nbdkit_backend *backend)
{
  in->next = nbdkit_next_context_open (backend, 0, in->keys->export
                                       ? in->keys->export : "", true);
  if (!in->next)
    return -1;
  if (in->next->prepare (in->next) == -1 ||
      source_init (&in->source, in->next) == -1)
    return -1;
  if (facts_ask (&in->facts, in->next) == -1)
    return -1;
  in->size = (uint64_t) in->facts.size;
  in->shared = in->facts.can_multi_conn == 0 || !what_is_beneath ().coherent;
  return 0;
}

int
instance_start (struct instance *in, nbdkit_backend *backend)
{
  struct mirror_config config = {
    .clock = &clock_monotonic, .event = on_event, .event_opaque = in,
    .reopen = reopen, .backoff_min_ns = debug_backoff_ns (),
  };
  struct target *target = in->first_target;
  char error[PARAMS_ERROR_MAX];
  int r;

  if (open_source (in, backend) == -1)
    return -1;
  config.size = in->size;
  config.told_flush = in->facts.can_flush == 1;
  in->mirror = mirror_new (&config);
  if (!in->mirror) {
    nbdkit_error ("mirror_new: out of memory");
    return -1;
  }
  if (in->start_mirror) {
    in->first_target = NULL;
    if (start_on (in, &in->keys->params, target, error) < 0) {
      nbdkit_error ("mirror-target=%s", error);
      return -1;
    }
  }

  /* Last, so that the first who asks sees the job. */
  if (in->control) {
    r = control_start (in->control, in->mirror);
    if (r < 0) {
      nbdkit_error ("cannot start the control thread: %s", error_text (-r));
      return -1;
    }
  }
  return 0;
}

void
instance_free (struct instance *in)
{
  if (!in)
    return;

  atomic_store (&in->give_up, true);
  mutex_lock (&in->lock);
  in->ending = true;
  cond_broadcast (&in->wake);
  mutex_unlock (&in->lock);

  /* The threads that use the mirror and the source end before these do. */
  if (in->control)
    control_stop (in->control);
  if (in->have_quitter)
    thread_join (&in->quitter);
  if (in->have_watcher) {
    nbdkit_shutdown ();         /* wakes it; not yet set if the start failed */
    thread_join (&in->watcher);
  }
  mirror_free (in->mirror);
  if (in->first_target)
    in->first_target->ops->free (in->first_target);
  control_free (in->control);
  if (in->next) {
    in->next->finalize (in->next);
    nbdkit_next_context_close (in->next);
  }
  free (in->target_uri);
  free (in->job_uri);
  free (in->disk_uri);
  facts_clear (&in->facts);
  eventlog_destroy (&in->eventlog);
  cond_destroy (&in->wake);
  mutex_destroy (&in->lock);
  free (in);
}

struct mirror *
instance_mirror (struct instance *in)
{
  return in->mirror;
}

uint64_t
instance_size (struct instance *in)
{
  return in->size;
}

const struct facts *
instance_facts (struct instance *in)
{
  return &in->facts;
}

struct nbdkit_source *
instance_shared_source (struct instance *in)
{
  return in->shared || mirror_pivoted (in->mirror) ? &in->source : NULL;
}

void
instance_client (struct instance *in, int change)
{
  atomic_fetch_add (&in->clients, change);
}
