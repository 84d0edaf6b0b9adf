/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the instance share:
 *
 *   instance.c          from .get_ready to .cleanup
 *   instance-target.c   targets: finding, connecting, starting a mirror to one
 *   instance-intent.c   the intent file, and what follows from it
 *   instance-end.c      shutting down, quit
 *
 * Functions return 0 or -errno, with one line in error (PARAMS_ERROR_MAX
 * bytes), unless it is said otherwise.
 */

#ifndef MIRROR_INSTANCE_PRIVATE_H
#define MIRROR_INSTANCE_PRIVATE_H

#include <stdatomic.h>

#include "eventlog.h"
#include "instance.h"
#include "intent-plan.h"
#include "io.h"
#include "sync.h"
#include "target.h"

struct instance {
  /* Constant after instance_start. */
  const struct filter_keys *keys;
  const struct place *place;    /* of the source */
  struct mirror *mirror;
  struct control *control;      /* or NULL */
  nbdkit_next *next;            /* the copier's context, or NULL */
  struct nbdkit_source source;
  struct facts facts;
  bool shared;
  uint64_t size;

  /* Before the threads: what the start is to do. */
  struct plan plan;
  struct params first;          /* the mirror that it starts */
  struct target *first_target;  /* connected, not yet started; or NULL */
  int first_err;                /* why not: -errno, and in words */
  char first_why[MIRROR_REASON_MAX];
  struct target *first_disk;    /* the same, for clients after a pivot */
  struct intent_io *io;         /* the intent file, until it is the engine's */
  struct intent_head *head;     /* what it says; NULL: there was none */
  int copy;

  _Atomic int clients;
  _Atomic bool give_up;         /* no connecting any more */

  struct eventlog eventlog;

  struct mutex lock;
  struct cond wake;             /* one of the following has changed */

  /* Protected by lock. */
  bool have_watcher, have_quitter, have_flusher;
  bool ending, ended;           /* instance_free has begun; is about to end */
  bool closed;                  /* the engine has been shut down */
  bool flushed;                 /* the source, for the last time */
  bool changing;                /* ... while it was still being changed */
  bool taking_file;             /* blockdev-mirror takes an intent file */
  struct thread watcher, quitter, flusher;
  char *target_uri;             /* of the latest job, without secrets */
  char *disk_uri;               /* of the clients' disk after a pivot, all */
  char *file;                   /* path of the intent file, or NULL */
};

/*-- instance-target.c --------------------------------------------------*/

/* Before the fork, or by the control socket: connect to p->target. */
extern int instance_connect (struct instance *in, const struct params *p,
                             struct target **target, char *error);

/* The same, for the disk that clients had been moved to. */
extern int instance_connect_disk (struct instance *in, const char *uri,
                                  struct target **target, char *error);

/* The reason in such an error line, without the URI, which is known to whoever
 * asks; MIRROR_REASON_MAX bytes.
 */
extern void instance_explain (const char *uri, const char *error, char *why);

/* A target that is not there at startup holds nobody up. */
extern bool instance_may_come_later (const struct params *p);

/* Start a job on a target that is connected; NULL: that is to be connected to
 * later.  Takes over target.
 */
extern int instance_start_job (struct instance *in, const struct params *p,
                               struct target *target, char *error);

/* Clients get that disk from the start.  Takes over target, which may be NULL.
 */
extern int instance_start_pivoted (struct instance *in, const char *uri,
                                   struct target *target, char *error);

/* Clients were given the target of the job: it is no target for the next. */
extern void instance_note_pivot (struct instance *in, const char *where);

/* instance.c: mirror_config.event */
extern void instance_event (void *opaque, const struct mirror_event *ev);

/* mirror_config.reopen */
extern int instance_reopen (void *opaque, const char *where,
                            const _Atomic uint64_t *timeout_ns,
                            const _Atomic bool *stop, struct target **target,
                            char *why);

/* blockdev-mirror */
extern int instance_control_start (void *opaque, const struct params *p,
                                   char *error);

/*-- instance-intent.c --------------------------------------------------*/

/* Before the fork: open the file, and plan what follows.  The same without a
 * file.
 */
extern int instance_plan (struct instance *in, char *error);

/* When it has been done: log what is to be said about it. */
extern void instance_tell_plan (struct instance *in);

/* After it, when the sizes are known and the engine is there: it gets the file,
 * which is made if there was none.
 */
extern int instance_use_file (struct instance *in, char *error);

/* blockdev-mirror with bitmap-file. */
extern int instance_take_file (struct instance *in, const struct params *p,
                               char *error);

/*-- instance-end.c -----------------------------------------------------*/

/* Before the first thread of ours that may have to be told of the end. */
extern int instance_start_watcher (struct instance *in);

extern void instance_quit (struct instance *in);

/* The engine is shut down, if it must be, and the source flushed; the control
 * socket's threads have ended.
 */
extern void instance_wind_up (struct instance *in);

/* Nothing is left that could hang; the thread that watches that ends. */
extern void instance_join (struct instance *in);

#endif /* MIRROR_INSTANCE_PRIVATE_H */
