/* SPDX-License-Identifier: BSD-3-Clause */
/* Targets of the instance: where they are, connecting to them, starting a
 * mirror to one.  See instance-private.h.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
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
where_is (const struct params *p, const char *uri)
{
  char *where;

  return asprintf (&where, "%u %s", p->connections, uri) < 0 ? NULL : where;
}

static void
remember_target (struct instance *in, const struct params *p)
{
  char *public = target_public_uri (p->target);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  free (in->target_uri);
  in->target_uri = public;
}

static const char *
uri_of (const char *where, unsigned *connections)
{
  char *end;

  *connections = (unsigned) strtoul (where, &end, 10);
  return end + 1;
}

void
instance_note_pivot (struct instance *in, const char *where)
{
  unsigned connections;
  char *uri = strdup (uri_of (where, &connections));
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  free (in->disk_uri);
  in->disk_uri = uri;
}

void
instance_explain (const char *uri, const char *error, char *why)
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
  char error[TARGET_ERROR_MAX] = "";
  unsigned connections;
  const char *uri = uri_of (where, &connections);
  bool connected;
  int r;

  r = target_connect_unless (stop, uri, connections, timeout_ns, target,
                             error);
  connected = r == 0;
  if (r == 0)
    r = target_check (*target, in->size, MIRROR_MAX_GRANULARITY, error);
  if (error[0])
    instance_explain (uri, error, why);
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
  CLEANUP_FREE char *where = where_is (p, p->target);
  CLEANUP_FREE char *identity = target_public_uri (p->target);
  const bool resumed = p->sync == SYNC_INCREMENTAL;
  struct job_params jp = {
    .where = where,
    .identity = identity,
    .target_size = resumed ? in->head->target_size : 0,
    .in_order = resumed && in->head->clean,
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
    .absent_err = in->first_err,
    .absent_why = in->first_why[0] ? in->first_why : NULL,
  };
  int r = target ? target_check (target, in->size, p->granularity, error) : 0;

  if (r == 0) {
    r = where && identity ? instance_start_watcher (in) : -ENOMEM;
    if (r == 0 && strlen (identity) > INTENT_TEXT_MAX)
      r = -ENAMETOOLONG;
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

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    now = in->disk_uri ? strdup (in->disk_uri) : NULL;
  }
  if (!now && (!in->mirror || !mirror_pivoted (in->mirror)))
    return place_is_target (in->place, uri, error);
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

/* Only what nbdkit has found at its start is incremental: as long as there is
 * no mirror, what clients write is not recorded.
 */
static int
refuse_incremental (struct instance *in, char *error)
{
  struct mirror_status st;

  mirror_get_status (in->mirror, &st);
  if (!st.have_intent)
    return refuse (error, "sync=incremental: there is no intent file that says "
                   "what differs; allowed are full and none");
  return refuse (error, "sync=incremental: the intent file says '%s': what was "
                 "written since is not recorded; allowed are full and none",
                 intent_state_names[st.intent.state]);
}

int
instance_control_start (void *opaque, const struct params *p, char *error)
{
  struct instance *in = opaque;
  struct target *target;
  int r;

  if (p->sync == SYNC_INCREMENTAL)
    return refuse_incremental (in, error);
  r = instance_connect (in, p, &target, error);
  if (r < 0)
    return r;
  r = instance_take_file (in, p, error);
  if (r < 0) {
    target->ops->free (target);
    return r;
  }
  return instance_start_job (in, p, target, error);
}

/*-- the clients' disk, from the start ----------------------------------*/

/* What its size was; 0: the file does not say, since there has been another
 * target since.
 */
static uint64_t
disk_size (const struct intent_head *head)
{
  return strcmp (head->disk, head->target) == 0 ? head->target_size : 0;
}

int
instance_connect_disk (struct instance *in, const char *uri,
                       struct target **target, char *error)
{
  const struct params *p = &in->keys->params;
  const _Atomic uint64_t timeout_ns = UINT64_C (1000000000) * p->timeout_s;
  int r;

  r = target_connect_unless (NULL, uri, p->connections, &timeout_ns, target,
                             error);
  if (r < 0)
    return r;
  r = target_check (*target, in->head->size, MIRROR_MAX_GRANULARITY, error);
  if (r == 0 && disk_size (in->head) != 0 &&
      disk_size (in->head) != (*target)->size)
    r = refuse (error, "it has %" PRIu64 " bytes, the disk that clients had "
                "been moved to %" PRIu64 "; serve that one; if this is it, and "
                "has grown, serve it by itself (the source lacks what was "
                "written since)", (*target)->size, disk_size (in->head));
  if (r < 0) {
    (*target)->ops->free (*target);
    *target = NULL;
  }
  return r;
}

int
instance_start_pivoted (struct instance *in, const char *uri,
                        struct target *target, char *error)
{
  const struct params *p = &in->keys->params;
  CLEANUP_FREE char *where = where_is (p, uri);
  CLEANUP_FREE char *public = target_public_uri (uri);
  int r = where && public ? instance_start_watcher (in) : -ENOMEM;

  if (r == 0 && target)
    r = target_start (target);
  if (r == 0)
    r = mirror_start_pivoted (in->mirror, where, disk_size (in->head), target,
                              UINT64_C (1000000000) * p->timeout_s,
                              UINT64_C (1000000000) * p->suspect_s);
  if (r < 0) {
    snprintf (error, PARAMS_ERROR_MAX, "%.200s: cannot be served: %s",
              public ? public : "the disk", error_text (-r));
    if (target)
      target->ops->free (target);
  }
  return r;
}

bool
instance_may_come_later (const struct params *p)
{
  return p->on_target_error == ON_ERROR_IGNORE ||
    p->on_target_error == ON_ERROR_STOP;
}
