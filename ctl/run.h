/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror run: what its parts share.
 *
 *   run.c          options, and what is made before anything is started
 *   run-start.c    the command lines of the two servers, and the job
 *   run-mirror.c   what the proxy tells of the mirror
 *   supervise.c    signals, processes and the course of it all
 *   progress.c     what is shown
 *   disk.c guard.c known.c listen.c notify.c rundir.c servers.c   know nothing
 *                  of it
 */

#ifndef MIRROR_RUN_H
#define MIRROR_RUN_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "ctl.h"
#include "disk.h"
#include "guard.h"
#include "listen.h"
#include "progress.h"
#include "rundir.h"
#include "servers.h"

/* A server that may have to be started again. */
struct process {
  pid_t pid;                    /* 0: it does not run */
  int64_t started_ms;           /* the last try */
  int64_t again_ms;             /* start it then; 0: do not */
  int64_t kill_ms;              /* it has got SIGTERM: end of patience, or 0 */
  int delay_ms;                 /* before the last time it was */
  int failures;                 /* starts of the proxy since it has answered */
};

enum phase {
  STARTING,                     /* the proxy does not answer yet */
  SERVING,                      /* or it has ended, and a command goes on */
  ENDING,
};

struct run {
  /* As it was called. */
  const struct call *call;
  const char *bitmap;
  bool complete, force;
  char **command;               /* NULL: none */

  /* What it needs. */
  struct disk source, target;
  struct rundir dir;
  char *control;                /* absolute path */
  struct listener clients, target_listener;
  const char *plugin;           /* for local disks; NULL: not known yet */
  const char *client_plugin;    /* for a source that is a server; the same */
  const char *target_uri;       /* NULL: a local target, not ready yet */
  char *own_uri;                /* what it points to, if that is to be freed */
  sigset_t sigmask;             /* as it was; our children get it */

  /* Its course: supervise.c. */
  enum phase phase;
  struct process proxy, target_server;
  struct guard guard;
  pid_t command_pid;
  struct client *client;        /* NULL: not connected */
  struct progress progress;
  bool announced;               /* clients have been told where it is */
  bool completing;              /* a pivot is under way */
  bool lost;                    /* the intent file, which has been told */
  bool control_left;            /* by a proxy that has been killed */
  int64_t look_ms;              /* ask the proxy how it is then */
  int64_t complete_ms;          /* not before that */
  int sigfd;
  int signals;                  /* how many of those that end us have come */
  int64_t second_ms;            /* until then more are the same as the first */
  int status;
};

/*-- run-start.c: 0, or -1 after a line on stderr -----------------------*/

/* Can the target be made ready before the proxy tells the source's size? */
extern bool run_target_first (const struct run *run);

/* Make a local target ready and serve it; sets target_uri. */
extern int run_start_target (struct run *run, uint64_t size);

/* Start the target's server, the proxy. */
extern int run_spawn_target (struct run *run);
extern int run_spawn_proxy (struct run *run);

/* The proxy runs without a job: make the target ready, and start one. */
extern int run_start_job (struct run *run);

/*-- run-mirror.c: connected; then maybe not any more -------------------*/

/* Ask how it is, show that, and complete if that is wanted. */
extern void run_look (struct run *run);

/* Events have come. */
extern void run_take_events (struct run *run);

/*-- supervise.c --------------------------------------------------------*/

/* Start all, and stay until all has ended.  The exit status. */
extern int run_supervise (struct run *run);

#endif /* MIRROR_RUN_H */
