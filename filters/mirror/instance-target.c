/* SPDX-License-Identifier: BSD-3-Clause */
/* Targets of the instance: where they are, connecting to them, starting a mirror
 * to one.  See instance-private.h.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "instance-private.h"

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

void
instance_note_pivot (struct instance *in)
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
int
instance_reopen (void *opaque, const char *where,
                 const _Atomic uint64_t *timeout_ns,
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

int
instance_start_job (struct instance *in, const struct params *p,
                    struct target *target, char *error)
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
    r = where ? instance_start_watcher (in) : -ENOMEM;
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

int
instance_connect (struct instance *in, const struct params *p,
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

int
instance_control_start (void *opaque, const struct params *p, char *error)
{
  struct instance *in = opaque;
  struct target *target;
  int r = instance_connect (in, p, &target, error);

  return r < 0 ? r : instance_start_job (in, p, target, error);
}

bool
instance_may_come_later (const struct params *p)
{
  return p->on_target_error == ON_ERROR_IGNORE ||
    p->on_target_error == ON_ERROR_STOP;
}
