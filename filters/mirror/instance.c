/* SPDX-License-Identifier: BSD-3-Clause */
/* See instance.h.
 *
 * nbdkit forks between .get_ready and .after_fork.  What a user should be
 * told before the command returns (a bad socket, an unfit target) is done
 * before; the connection to the target survives the fork, threads would not.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "beneath.h"
#include "cleanup.h"
#include "errtext.h"
#include "eventlog.h"
#include "instance-private.h"
#include "readonly.h"

/* For tests.  -D mirror.backoff_ms=N: the first delay before a lost target is
 * connected to again.  -D mirror.tidy_ms=N: how often regions of the intent
 * file may retire.
 */
NBDKIT_DLL_PUBLIC int mirror_debug_backoff_ms;
NBDKIT_DLL_PUBLIC int mirror_debug_tidy_ms;

/* 0: as the engine likes it. */
static uint64_t
debug_ns (int ms)
{
  return ms > 0 ? UINT64_C (1000000) * (unsigned) ms : 0;
}

/*-- operations of the control socket -----------------------------------*/

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

static char *
control_disk_uri (void *opaque)
{
  struct instance *in = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  return in->disk_uri ? target_public_uri (in->disk_uri) : strdup ("");
}

static char *
control_bitmap_file (void *opaque)
{
  struct instance *in = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  return strdup (in->file ? in->file : "");
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
control_quit (void *opaque)
{
  instance_quit (opaque);
}

static const struct control_ops control_ops = {
  .start = instance_control_start,
  .defaults = control_defaults,
  .target_uri = control_target_uri,
  .disk_uri = control_disk_uri,
  .bitmap_file = control_bitmap_file,
  .clients = control_clients,
  .source_size = control_source_size,
  .source_flags = control_source_flags,
  .quit = control_quit,
};

void
instance_event (void *opaque, const struct mirror_event *ev)
{
  struct instance *in = opaque;
  char line[EVENTLOG_LINE_MAX];

  if (ev->kind == EVENT_PIVOTED)
    instance_note_pivot (in, ev->where);
  if (eventlog_line (&in->eventlog, ev,
                     clock_monotonic.now_ns (&clock_monotonic), line))
    nbdkit_error ("%s", line);  /* nbdkit knows no other line that is seen */
  if (ev->no_flush)
    nbdkit_error ("mirror: the target cannot flush: nothing there is durable"
                  " before it makes it so by itself, the mirror is never"
                  " synced, and clients that were told that they can flush"
                  " cannot be moved to it");
  if (in->control)
    control_event (in->control, ev);
}

/*-- life ---------------------------------------------------------------*/

/* Connect to what the plan needs.  *what: how an error line begins. */
static int
connect_first (struct instance *in, const char **what, char *error)
{
  const struct params *p = &in->first;
  int r = 0;

  if (in->plan.disk) {
    *what = "mirror-bitmap: the disk that clients had been moved to: ";
    r = instance_connect_disk (in, in->plan.disk, &in->first_disk, error);
    if (target_is_unreachable (r) && instance_may_come_later (p)) {
      nbdkit_error ("%s%s; it is tried again", *what, error);
      r = 0;
    }
  }
  if (r == 0 && in->plan.target) {
    *what = "mirror-target=";
    r = instance_connect (in, p, &in->first_target, error);
    if (target_is_unreachable (r) && instance_may_come_later (p)) {
      in->first_err = r;
      instance_explain (p->target, error, in->first_why);
      nbdkit_error ("%s%s; %s", *what, error,
                    p->on_target_error == ON_ERROR_STOP
                    ? "the job is paused until it is resumed"
                    : "it is tried again");
      r = 0;
    }
  }
  return r;
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
  if (r == 0 && keys->control) {
    in->control = control_new (keys->control, &control_ops, in, error);
    what = "mirror-control=";
    if (!in->control)
      r = -1;
  }
  if (r == 0) {
    what = "mirror-bitmap=";
    r = instance_plan (in, error);
  }
  if (r == 0)
    r = connect_first (in, &what, error);
  if (r < 0) {
    nbdkit_error ("%s%s", what, error);
    instance_free (in);
    return NULL;
  }
  return in;
}

/* After a pivot the source is not needed: it may be gone.
 *
 * Clients that have a context of their own write through that; but one that is
 * shared, and what they are told they can do, must be as theirs.
 */
static int
open_source (struct instance *in, nbdkit_backend *backend)
{
  if (in->plan.disk) {
    in->size = in->head->size;
    facts_of_disk (&in->facts, in->size, in->first_disk);
    return 0;
  }
  in->next = nbdkit_next_context_open (backend, readonly_is_server (),
                                       in->keys->export ? in->keys->export
                                       : "", true);
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

static int
carry_out_plan (struct instance *in)
{
  struct target *disk = in->first_disk, *target = in->first_target;
  char error[PARAMS_ERROR_MAX];
  const char *what = "mirror-bitmap=";
  int r = instance_use_file (in, error);

  if (r == 0 && in->plan.disk) {
    in->first_disk = NULL;
    r = instance_start_pivoted (in, in->plan.disk, disk, error);
  }
  if (r == 0 && in->plan.target) {
    what = "mirror-target=";
    in->first_target = NULL;
    r = instance_start_job (in, &in->first, target, error);
  }
  if (r < 0)
    nbdkit_error ("%s%s", what, error);
  else
    instance_tell_plan (in);
  return r < 0 ? -1 : 0;
}

int
instance_start (struct instance *in, nbdkit_backend *backend)
{
  struct mirror_config config = {
    .clock = &clock_monotonic, .event = instance_event, .event_opaque = in,
    .reopen = instance_reopen,
    .backoff_min_ns = debug_ns (mirror_debug_backoff_ms),
    .tidy_ns = debug_ns (mirror_debug_tidy_ms),
  };
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
  if (carry_out_plan (in) == -1)
    return -1;

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
  instance_wind_up (in);
  mirror_free (in->mirror);
  if (in->first_target)
    in->first_target->ops->free (in->first_target);
  if (in->first_disk)
    in->first_disk->ops->free (in->first_disk);
  if (in->io)
    in->io->ops->free (in->io);
  free (in->head);
  control_free (in->control);
  if (in->next) {
    in->next->finalize (in->next);
    nbdkit_next_context_close (in->next);
  }
  instance_join (in);
  free (in->target_uri);
  free (in->disk_uri);
  free (in->file);
  params_clear (&in->first);
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
