/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of the instance share:
 *
 *   instance.c          from .get_ready to .cleanup
 *   instance-target.c   targets: finding, connecting, starting a mirror to one
 *   instance-end.c      shutting down, quit
 *
 * Functions return 0 or -errno, with one line in error (PARAMS_ERROR_MAX bytes),
 * unless it is said otherwise.
 */

#ifndef MIRROR_INSTANCE_PRIVATE_H
#define MIRROR_INSTANCE_PRIVATE_H

#include <stdatomic.h>

#include "eventlog.h"
#include "instance.h"
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

  struct target *first_target;  /* connected, not yet started; or NULL */
  bool start_mirror;            /* ... to the one of the command line */

  _Atomic int clients;
  _Atomic bool give_up;         /* no connecting any more */

  struct eventlog eventlog;

  struct mutex lock;
  struct cond wake;             /* ending or closed has changed */

  /* Protected by lock. */
  bool have_watcher, have_quitter, ending;
  bool closed;                  /* the engine has been shut down */
  struct thread watcher, quitter;
  char *target_uri;             /* of the job, without secrets */
  char *job_uri;                /* with them */
  char *disk_uri;               /* of the clients' disk after a pivot */
};

/*-- instance-target.c --------------------------------------------------*/

/* Before the fork, or by the control socket: connect to p->target. */
extern int instance_connect (struct instance *in, const struct params *p,
                             struct target **target, char *error);

/* A target that is not there at startup holds nobody up. */
extern bool instance_may_come_later (const struct params *p);

/* Start a job on a target that is connected; NULL: that is to be connected to
 * later.  Takes over target.
 */
extern int instance_start_job (struct instance *in, const struct params *p,
                               struct target *target, char *error);

/* Clients were given the target of the job: it is no target for the next. */
extern void instance_note_pivot (struct instance *in);

/* mirror_config.reopen */
extern int instance_reopen (void *opaque, const char *where,
                            const _Atomic uint64_t *timeout_ns,
                            const _Atomic bool *stop, struct target **target,
                            char *why);

/* blockdev-mirror */
extern int instance_control_start (void *opaque, const struct params *p,
                                   char *error);

/*-- instance-end.c -----------------------------------------------------*/

/* Before the first thread of ours that may have to be told of the end. */
extern int instance_start_watcher (struct instance *in);

extern void instance_quit (struct instance *in);

/* The threads of the above end; the control socket's have. */
extern void instance_join (struct instance *in);

#endif /* MIRROR_INSTANCE_PRIVATE_H */
