/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file of the instance: opening it before the fork, where all that
 * does not need the source's size is judged; giving it to the engine after it;
 * and taking one that blockdev-mirror names.  What follows from what it says is
 * decided by intent-plan.c.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "errtext.h"
#include "instance-private.h"
#include "store.h"

/* What a failed change may have spoilt ends with its block, be it of the source
 * or of the target; a region ends with a block, too, so that all of it has been
 * recorded with the request (rules I2, I3).
 */
_Static_assert (INTENT_REGION_MIN >= TARGET_MAX_BLOCK,
                "a block must not reach into another region");

/* What a file says is given to the engine as it is. */
_Static_assert (INTENT_GRANULARITY_MIN == MIRROR_MIN_GRANULARITY &&
                INTENT_GRANULARITY_MAX == MIRROR_MAX_GRANULARITY,
                "the file's granularity must be one that the engine takes");

/* Of the path, in a line that says more. */
#define PATH_SHOWN 120

/* "PATH: why"; returns r. */
static int
say (char *error, const char *path, const char *why, int r)
{
  snprintf (error, PARAMS_ERROR_MAX, "%.*s%s: %.380s", PATH_SHOWN, path,
            strlen (path) > PATH_SHOWN ? "..." : "", why);
  return r;
}

/* What the source is, to be freed.  NULL after a line in error. */
static char *
source_identity (struct instance *in, const char *path, char *error)
{
  char *text = place_identity (in->place, in->keys->export);

  if (!text)
    say (error, path, error_text (ENOMEM), 0);
  else if (strlen (text) > INTENT_TEXT_MAX) {
    say (error, path, "what the source is called is too long to be recorded",
         0);
    free (text);
    text = NULL;
  }
  return text;
}

static void
on_lost (void *opaque)
{
  const struct mirror_event ev = { .kind = EVENT_BITMAP_LOST };

  instance_event (opaque, &ev);
}

/*-- before the fork ----------------------------------------------------*/

/* in->io and in->head; or neither, if there is no file but there can be. */
static int
open_file (struct instance *in, const char *path, char *error)
{
  int r;

  in->head = malloc (sizeof *in->head);
  if (!in->head)
    return say (error, path, error_text (ENOMEM), -ENOMEM);
  r = intent_store_open (path, INTENT_STORE_USE, &in->io, in->head, &in->copy,
                         error);
  if (r == 0)
    return 0;
  in->io = NULL;
  free (in->head);
  in->head = NULL;
  return r == -ENOENT ? intent_store_can_create (path, error) : r;
}

/* The mirror that the plan starts. */
static int
take_plan (struct instance *in)
{
  if (params_replace (&in->first.target, in->plan.target) < 0 ||
      params_replace (&in->file, in->keys->params.bitmap) < 0 ||
      params_replace (&in->disk_uri, in->plan.disk) < 0)
    return -ENOMEM;
  if (in->head)
    in->first.granularity = in->head->granularity;
  if (in->plan.action == PLAN_RESUME)
    in->first.sync = SYNC_INCREMENTAL;
  return 0;
}

int
instance_plan (struct instance *in, char *error)
{
  const struct params *p = &in->keys->params;
  CLEANUP_FREE char *source = NULL;
  struct plan_wanted wanted = {
    .target = p->target, .sync = p->sync,
    .after_pivot = in->keys->after_pivot,
    .granularity = filter_keys_given (in->keys, "mirror-granularity")
    ? p->granularity : 0,
  };
  int r;

  if (params_copy (&in->first, p) < 0)
    return say (error, "mirror", error_text (ENOMEM), -ENOMEM);
  if (!p->bitmap) {
    in->plan = (struct plan) {
      .action = p->target ? PLAN_START : PLAN_NO_JOB, .target = p->target,
    };
    return 0;
  }
  source = source_identity (in, p->bitmap, error);
  if (!source)
    return -EINVAL;
  wanted.source = source;
  r = open_file (in, p->bitmap, error);
  if (r < 0)
    return r;
  plan_make (&in->plan, in->head, &wanted);
  if (in->plan.action == PLAN_REFUSE)
    return say (error, p->bitmap, in->plan.line, -EINVAL);
  return take_plan (in) < 0
    ? say (error, p->bitmap, error_text (ENOMEM), -ENOMEM) : 0;
}

/*-- the engine's -------------------------------------------------------*/

/* A new file.  If clients have been moved already it says so. */
static int
create (struct instance *in, const char *path, uint64_t granularity,
        struct intent_io **io, struct intent_head *head, char *error)
{
  CLEANUP_FREE char *source = source_identity (in, path, error);
  CLEANUP_FREE char *disk = NULL;
  struct mirror_status st;

  if (!source)
    return -EINVAL;
  mirror_get_status (in->mirror, &st);
  if (st.pivoted) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    disk = in->disk_uri ? target_public_uri (in->disk_uri) : NULL;
  }
  if (st.pivoted && (!disk || strlen (disk) > INTENT_TEXT_MAX))
    return say (error, path, "the disk that clients have been moved to cannot "
                "be recorded", -EINVAL);
  memset (head, 0, sizeof *head);
  head->generation = head->epoch = 1;
  head->size = in->size;
  head->granularity = granularity;
  head->region = intent_region_size (in->size, granularity);
  head->changed = (int64_t) time (NULL);
  head->state = disk ? INTENT_PIVOTED : INTENT_IDLE;
  head->fenced = st.fenced;
  strcpy (head->source, source);
  if (disk) {
    strcpy (head->target, disk);
    strcpy (head->disk, disk);
  }
  return intent_store_create (path, head, io, error);
}

/* The engine gets it.  Takes over io. */
static int
hand_over (struct instance *in, const char *path, struct intent_io *io,
           const struct intent_head *head, int copy, bool unpivot, char *error)
{
  struct intent *intent;
  int r = intent_new (&intent, io, head, copy, &clock_monotonic, on_lost, in);

  if (r < 0) {
    io->ops->free (io);
    return say (error, path, error_text (-r), r);
  }
  if (unpivot)
    r = intent_unpivot (intent);
  if (r == 0)
    r = mirror_use_intent (in->mirror, intent);
  if (r < 0) {
    intent_free (intent);
    return say (error, path, r == -EBUSY ? "there is a job already"
                : error_text (-r), r);
  }
  return 0;
}

int
instance_use_file (struct instance *in, char *error)
{
  const char *path = in->keys->params.bitmap;
  char why[PARAMS_ERROR_MAX];
  struct intent_io *io;
  int r;

  if (!path)
    return 0;
  r = plan_check_sizes (&in->plan, in->head, in->size, in->first_target
                        ? in->first_target->size : 0, why);
  if (r < 0)
    return say (error, path, why, r);
  if (!in->io) {
    in->head = malloc (sizeof *in->head);
    if (!in->head)
      return say (error, path, error_text (ENOMEM), -ENOMEM);
    in->copy = 0;
    r = create (in, path, in->first.granularity, &in->io, in->head, error);
    if (r < 0) {
      in->io = NULL;
      return r;
    }
  }
  r = intent_store_check_owner (in->io, path, error);
  if (r < 0)
    return r;
  io = in->io;
  in->io = NULL;
  return hand_over (in, path, io, in->head, in->copy, in->plan.unpivot, error);
}

void
instance_tell_plan (struct instance *in)
{
  char line[PARAMS_ERROR_MAX];

  if (!in->plan.line[0])
    return;
  say (line, in->file, in->plan.line, 0);
  nbdkit_error ("mirror-bitmap=%s", line);
}

/*-- blockdev-mirror ----------------------------------------------------*/

/* One that is there already: the disk has been served without it, so what it
 * says of differences is worth nothing, but what else it says must not be
 * overlooked.
 */
static int
check_old (struct instance *in, const char *path,
           const struct intent_head *head, char *error)
{
  CLEANUP_FREE char *source = source_identity (in, path, error);
  const char *why = NULL;

  if (!source)
    return -EINVAL;
  if (strcmp (head->source, source) != 0 || head->size != in->size)
    why = "is of another source; give a name that does not exist, for a new "
      "one";
  else if (head->state == INTENT_RUNNING)
    why = "is of a mirror that has not ended, and clients have been served "
      "without it since; start nbdkit with mirror-bitmap, or delete it, and "
      "everything is copied";
  else if (head->disk[0])
    why = "says that clients had been moved to another disk; start nbdkit with "
      "mirror-bitmap, or delete it if that does not matter";
  else if (head->fenced)
    why = "says that writes are fenced; start nbdkit with mirror-bitmap, or "
      "delete it if that does not matter";
  else if (mirror_pivoted (in->mirror))
    why = "is of the time before clients were moved; give a name that does not "
      "exist, for a new one";
  return why ? say (error, path, why, -EINVAL) : 0;
}

static int
take_file (struct instance *in, const struct params *p, char *error)
{
  CLEANUP_FREE struct intent_head *head = malloc (sizeof *head);
  struct mirror_status st;
  struct intent_io *io;
  int copy = 0, r;

  if (!head)
    return say (error, p->bitmap, error_text (ENOMEM), -ENOMEM);
  r = intent_store_open (p->bitmap, INTENT_STORE_USE, &io, head, &copy, error);
  if (r == -ENOENT)
    r = create (in, p->bitmap, p->granularity, &io, head, error);
  else if (r == 0) {
    r = intent_store_check_owner (io, p->bitmap, error);
    if (r == 0)
      r = check_old (in, p->bitmap, head, error);
    if (r < 0)
      io->ops->free (io);
  }
  if (r < 0)
    return r;
  r = hand_over (in, p->bitmap, io, head, copy, false, error);
  if (r < 0)
    return r;
  /* A fence that came while the file was made is not in it. */
  mirror_get_status (in->mirror, &st);
  if (st.fenced && !st.intent.fenced)
    mirror_fence (in->mirror, true, true);
  return 0;
}

/* There is at most one, for as long as this process lives. */
int
instance_take_file (struct instance *in, const struct params *p, char *error)
{
  char *copy;
  int r = 0;

  if (!p->bitmap)
    return 0;
  copy = strdup (p->bitmap);
  if (!copy)
    return say (error, p->bitmap, error_text (ENOMEM), -ENOMEM);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    if (in->taking_file)
      r = -EBUSY;
    else if (!in->file)
      in->taking_file = true;
    else if (strcmp (in->file, copy) == 0)
      r = 1;
    else
      r = -EINVAL;
  }
  if (r != 0) {
    free (copy);
    return r > 0 ? 0 : say (error, p->bitmap, r == -EBUSY
                            ? "another mirror is being started"
                            : "there is an intent file already, and it stays "
                            "that until nbdkit ends; leave bitmap-file out", r);
  }
  r = take_file (in, p, error);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  in->taking_file = false;
  if (r == 0)
    in->file = copy;
  else
    free (copy);
  return r;
}
