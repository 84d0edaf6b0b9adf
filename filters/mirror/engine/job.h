/* SPDX-License-Identifier: BSD-3-Clause */
/* One mirror job: the object, and the thread that leads it from start to end.
 *
 * Private to mirror.c, job.c, job-tell.c and status.c.  Nothing here is global; a request
 * finds its job through the gate.
 *
 * Locks, in the order in which they may be taken (the whole engine):
 *
 *   -  range lock (not a mutex)    bytes of both disks
 *   0  mirror.regime_lock          publishing regimes; `teeing`, `ended`
 *   1  mirror.lock                 the job pointer and the job's state
 *   2  copiers.lock  flusher.lock  choosing work; U and the flush in flight
 *   3  dirty.lock  rangelocks.lock  gate.lock       leaves
 *
 * No mutex is held across I/O, across a callback out of the engine, or across
 * a wait for anything but its own condition.
 */

#ifndef MIRROR_JOB_H
#define MIRROR_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "copier.h"
#include "gate.h"
#include "jobstate.h"
#include "legs.h"
#include "mirror.h"
#include "pair.h"
#include "sync.h"

struct job {
  /* Constant after job_new. */
  struct mirror *m;
  char id[JOB_ID_MAX + 1];
  struct source *source;
  struct pair pair;             /* its target: NULL at the end, under lock */
  struct copiers *copiers;
  uint64_t buf_size;
  enum sync_mode sync;

  _Atomic bool stop;            /* end the scan */
  _Atomic bool session_over;

  /* Changed under mirror.regime_lock. */
  _Atomic bool teeing;          /* read without a lock */
  bool published, ended;
  struct thread grace;          /* joined by the job's thread */
  bool have_grace;

  /* Protected by mirror.lock. */
  struct cond wake;             /* for the job's thread: look again */
  struct cond drained_cond;
  bool drained;                 /* nothing uses the target any more */
  enum job_status status;
  enum copy_mode copy_mode;
  bool first_pass;              /* it is done: COPY_AUTO tees */
  uint64_t first_pass_rounds;   /* of the copiers; 0: the scan goes on */
  uint64_t speed;
  bool go, cancel, ready, scanned;
  bool online;                  /* there is a session */
  bool lost;                    /* ... and it has just ended */
  int lost_err;

  /* After a failed tee: track until tee_due_ns.  Zero: tee. */
  uint64_t tee_due_ns, tee_failed_ns, tee_delay_ns;

  struct mirror_error last_error;
  struct {
    int err;
    uint64_t when_ns;
  } reported[2];                /* for each side, the last error event */

  /* The job's thread only. */
  bool synced_told;
  uint64_t settle_due_ns, settle_delay_ns;
};

struct mirror {
  /* Constant. */
  struct mirror_config config;
  struct gate *gate;

  struct mutex regime_lock;

  struct mutex lock;
  struct cond idle;             /* the job has ended */

  /* Protected by lock. */
  struct job *job;
  bool starting;                /* somebody is about to set job */
  struct thread thread;
  bool have_thread;             /* to be joined */
  struct mirror_status last;    /* last_job only */
};

/* Allocate everything, start the copiers (not running yet).  Does not take
 * over target.  Returns NULL and *err.
 */
extern struct job *job_new (struct mirror *m, const struct job_params *params,
                            struct source *source, struct target *target,
                            int *err);
extern void job_free (struct job *job);

/* Body of the job's thread; frees the job. */
extern void job_main (void *job);

/* Publish the regime that the job's mode and target call for; the caller
 * holds regime_lock.
 */
extern void job_publish_locked (struct job *job);

/* Is the mode one of teeing now?  Under mirror.lock. */
extern bool job_mode_tees_locked (const struct job *job);

/* Requests that enter from now on have no job; the caller holds
 * regime_lock.
 */
extern void job_unpublish_locked (struct job *job);

/* The target's `lost` callback; opaque is the job. */
extern void job_lost (void *opaque, int err);

/* After job_unpublish_locked: what is in flight may end by itself for a short
 * time, then the target is shut down.  Returns at once; the caller holds
 * regime_lock.
 */
extern void job_shutdown_locked (struct job *job);

/*-- job-tell.c ---------------------------------------------------------*/

extern uint64_t job_now_ns (const struct job *job);

/* The next delay of a back-off; 0: none yet. */
extern uint64_t job_double_delay (uint64_t delay_ns);

/* The pair's and the copiers' callbacks; opaque is the job. */
extern void job_on_work (void *opaque);
extern void job_on_idle (void *opaque);
extern void job_on_failed (void *opaque, enum pair_side side, bool tee,
                           const char *op, struct range r, int err);

/* Send an event with len, offset and speed.  No locks held. */
extern void job_progress_event (struct job *job, enum mirror_event_kind kind);

/* Change the state and tell it.  No locks held. */
extern void job_set_status (struct job *job, enum job_status status);

/* Send an event; fills in the id.  No locks held. */
extern void job_event (struct job *job, struct mirror_event *ev);

/* len, offset and what is left, exact now.  Any locks. */
extern void job_progress (struct job *job, uint64_t *len, uint64_t *offset,
                          uint64_t *dirty, uint64_t *claimed);

#endif /* MIRROR_JOB_H */
