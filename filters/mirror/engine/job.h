/* SPDX-License-Identifier: BSD-3-Clause */
/* One mirror job: the object, and the thread that leads it from start to end.
 *
 * Private to mirror.c, verbs.c, status.c, switch.c and the files job*.c.
 * Nothing here is global; a request finds its job through the gate.
 *
 * Locks, in the order in which they may be taken (the whole engine):
 *
 *   -  range lock (not a mutex)    bytes of both disks
 *   0  mirror.regime_lock          publishing regimes; `teeing`, `ended`,
 *                                  `held`
 *   -  mirror.event_lock           a change of the status and its event are
 *                                  one step, so that events are in order
 *   1  mirror.lock                 the job pointer and the job's state
 *   2  copiers.lock                choosing work
 *      verifier.lock               what a verification has found
 *      pivoted.lock                the session after a pivot
 *      suspects.lock
 *   3  flusher.lock                U and the flush in flight
 *      source_flusher.lock         V and the flush in flight
 *   4  dirty.lock  rangelocks.lock  gate.lock  rates.lock  intent.lock
 *      late.lock                   leaves
 *
 * No mutex is held across I/O, across a callback out of the engine (but for
 * event_lock), or across a wait for anything but its own condition.
 */

#ifndef MIRROR_JOB_H
#define MIRROR_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "copier.h"
#include "gate.h"
#include "jobstate.h"
#include "late.h"
#include "legs.h"
#include "mirror.h"
#include "pair.h"
#include "pivoted.h"
#include "sync.h"
#include "verify.h"

/* Linux has 133; greater ones share the last place. */
#define JOB_ERRNOS 134

/* See switch.h. */
enum halt_kind { HALT_NONE, HALT_PIVOT, HALT_DETACH, HALT_HOLD };

struct job {
  /* Constant after job_new. */
  struct mirror *m;
  char id[JOB_ID_MAX + 1];
  struct source *source;
  struct pair pair;             /* its target: NULL at the end, under lock */
  struct copiers *copiers;
  struct verifier *verifier;
  uint64_t buf_size;
  enum sync_mode sync;

  uint64_t target_size;         /* what it must be; 0: any */
  bool resumed;                 /* D is what the intent file has said */

  _Atomic bool stop;            /* end the scan, and connecting */
  _Atomic bool session_over;

  bool keep;                    /* when concluded, until dismissed */
  char *where;                  /* for a pivot; or NULL */

  _Atomic uint64_t max_pause_ns, timeout_ns;
  _Atomic unsigned on_error[2]; /* enum on_error, by enum pair_side */

  /* Changed under mirror.regime_lock. */
  bool held;                    /* the gate is, for this job */
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
  bool alone;                   /* requests from before the job have ended */
  bool first_pass;              /* it is done: COPY_AUTO tees */
  uint64_t first_pass_rounds;   /* of the copiers; 0: the scan goes on */
  uint64_t speed;
  bool go, cancel, ready, scanned, paused, dismissed, completed;
  bool interrupted;             /* it ends, but not for the intent file */
  bool committing;              /* a pivot or detach is being recorded */
  bool closing, closed;         /* mirror_shutdown asks; has been done */
  bool online;                  /* there is a session */
  bool lost;                    /* ... and it has just ended */
  int lost_err;
  bool stop_wanted;             /* an error wants the job to pause */
  bool stopped;                 /* it has: nothing is teed until resumed */
  enum io_status io_status;
  int fail_err;                 /* an error wants it to fail: -errno */

  /* After a failed tee: track until tee_due_ns.  Zero: tee. */
  uint64_t tee_due_ns, tee_failed_ns, tee_delay_ns;

  struct mirror_error last_error;

  /* When the last error event of each side and errno was; 0: never. */
  uint64_t reported_ns[2][JOB_ERRNOS];

  struct pivoted *old_source;   /* to be freed at the end: the job's thread */
  const char *old_target_state; /* what has become of the target */

  /* What somebody wants of everything at a halt. */
  enum halt_kind wanted;
  unsigned pins;                /* callers that use the job without a lock */
  struct cond unpinned;

  struct {                      /* job-session.c */
    struct thread thread;
    bool have_thread, quit;
    struct cond wake;           /* for that thread */
    bool wanted;                /* there is none; due_ns: the next try */
    bool connecting;
    struct target *fresh;       /* connected; nobody uses it yet */
    bool checking;              /* it is used, but not teed to yet */
    bool had_one;
    struct target facts;        /* what the latest was like */
    char reason[MIRROR_REASON_MAX];     /* of its state; "" = none */
    bool loss_told;             /* an event has told the error by which it
                                 * was lost, or of it */
    unsigned reconnects;
    uint64_t due_ns, delay_ns;
    uint64_t lost_ns[3];        /* the latest losses, the last is the latest */
    bool flapping;
  } session;

  struct {                      /* switch.c; `running`: the job's thread */
    struct thread thread;
    bool running, done;
    int source, target;
  } flush;

  /* The job's thread only. */
  int64_t ended_at;             /* seconds since the epoch */
  uint64_t tidy_due_ns;
  bool synced_told;
  uint64_t settle_due_ns, settle_delay_ns;
};

/* Why changes of the disk are refused, or not simply passed on. */
enum refuse {
  REFUSE_FENCED = 1,            /* -EPERM */
  REFUSE_SHUT = 2,              /* the process ends: -ESHUTDOWN */
  REFUSE_RECORD = 4,            /* the intent file is broken: what it does not
                                 * have must wait (intent.h) */
};

struct mirror {
  /* Constant. */
  struct mirror_config config;
  struct gate *gate;

  struct intent *_Atomic intent;        /* or NULL; constant once there is a
                                 * job */
  _Atomic bool ending;          /* mirror_shutdown has begun */
  _Atomic unsigned refuse;      /* enum refuse */
  _Atomic uint64_t record_ns;   /* with REFUSE_RECORD: how long to wait */

  /* A flush of the source that no client has asked for has failed; the next
   * client that asks is told.
   */
  _Atomic bool flush_owed;

  _Atomic bool record_owed;     /* everything may differ, and the intent file
                                 * could not be told */

  struct late late;

  struct mutex regime_lock;
  struct mutex event_lock;

  struct mutex lock;
  struct cond idle;             /* the job has ended */
  struct cond hold_changed;

  /* Protected by lock. */
  struct job *job;
  bool starting;                /* somebody is about to set job */
  bool closing;                 /* no job is kept */
  struct pivoted *pivoted;      /* the clients' disk now; or NULL */
  struct {                      /* mirror_hold */
    bool asked;                 /* the result is still to come */
    int result;
    const char *why;
    uint64_t timeout_ns;
    uint64_t since_ns, until_ns;        /* 0: no barrier */
    uint64_t drain_ns;          /* how long it took from the first held */
    bool expired;               /* the last one; nobody has been told yet */
  } hold;
  bool fencing;                 /* a mirror_fence is under way: one at a time */
  struct thread thread;
  bool have_thread;             /* to be joined */
  bool left_late;               /* of the job before, or of the process before,
                                 * something may still arrive at a leg */
  char disk_reason[MIRROR_REASON_MAX];  /* of the state of pivoted */
  struct {                      /* of the job that ended last */
    struct mirror_counters counters;
    unsigned reconnects;
    struct mirror_error error;
    struct latency_counts latency[LATENCY_KINDS];
    struct mirror_last_job job;
  } last;
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

/* job-make.c: those above, and the next two. */

/* Requests from before the job have ended.  What they have left is suspect.
 * Before a job that is resumed there were none.
 */
extern void job_take_over_source (struct job *job);

/* Nothing says that what the target has now is more than its cache: until a
 * good flush all of it is in U (rule I1).
 */
extern void job_doubt_cache (struct job *job);

/*-- job-regime.c -------------------------------------------------------*/

/* Publish the regime that the job's mode and target call for; the caller
 * holds regime_lock.
 */
extern void job_publish_locked (struct job *job);

/* Is the mode one of teeing now?  Under mirror.lock. */
extern bool job_mode_tees_locked (const struct job *job);

/* Copiers run if nothing speaks against it.  Under mirror.lock. */
extern void job_run_copiers_locked (struct job *job);

/* The same; takes regime_lock. */
extern void job_publish (struct job *job);

/* Requests that enter from now on have no job; the caller holds
 * regime_lock.
 */
extern void job_unpublish_locked (struct job *job);

/* Open the gate that switch_halt holds; the caller holds regime_lock. */
extern void job_release_locked (struct job *job);

/* switch.c: flush the source for no client. */
extern int job_flush_source (struct job *job);

/* job-verify.c: sets job->verifier.  0 or -ENOMEM. */
extern int job_make_verifier (struct job *job);

/* verbs.c: as mirror_check_verb. */
extern int job_check_verb_locked (struct mirror *m, const char *id,
                                  enum job_verb verb,
                                  enum job_status *status);

/* verbs.c: a pin that was taken by raising job->pins is given back. */
extern void job_unpin (struct job *job);

/* verbs.c: the clients' disk may have lost anything: copy all of it again, if
 * there is a job.  Blocks while that is recorded; no locks held.
 */
extern void job_mark_all (struct mirror *m);

/* ... A change of r that entered without a job has failed; flush: a flush, or
 * one with FUA.  If there is a job by now the source may lose what it has been
 * given since, and that error is told but once.  A job that begins later is
 * told by late.h.  The same.
 */
extern void job_source_failed (struct mirror *m, struct range r, bool flush);

/* mirror.c: a session of the clients' disk; its end is noticed. */
extern void mirror_watch (struct mirror *m, struct target *target);

/* The session has ended; the caller holds mirror.lock. */
extern void job_lost_locked (struct job *job, int err);

/* After job_unpublish_locked: what is in flight may end by itself for a short
 * time, then the target is shut down.  Returns at once; the caller holds
 * regime_lock.
 */
extern void job_shutdown_locked (struct job *job);

/* job-error.c: what an error of that side means now: anything but
 * ON_ERROR_ENOSPC.
 */
extern enum on_error job_error_action (const struct job *job,
                                       enum pair_side side, int err);

/* The job is to fail or to stop, or to go on as it is; the caller holds
 * mirror.lock.  Returns true if it is to do now what it was not before.
 */
extern bool job_act_locked (struct job *job, enum on_error action, int err);

/* The first connection to the target has failed, before there was a job: as if
 * it had been lost.  why: in words, or NULL.  The caller is making the job.
 */
extern void job_begin_without_target (struct job *job, int err,
                                      const char *why);

/* ... it does; the job's thread.  job_fail ends it like a cancel. */
extern void job_fail (struct job *job);
extern void job_stop (struct job *job);

/* The job has been told to end: no requests of it, no copies, no target.  The
 * intent file says so before.  Any number of times.  No locks held.
 */
extern void job_abort (struct job *job);

/* The intent file says how the job ends; nothing need be recorded then. */
extern int job_record_end (struct job *job, enum intent_state state);

/*-- status.c -----------------------------------------------------------*/

/* The job has ended: keep what is told of it until the next.  Under
 * mirror.lock.
 */
extern void job_remember_locked (struct job *job);

/*-- job-tidy.c ---------------------------------------------------------*/

/* Once in a while, or at the end: flush both legs, so that U is small, and take
 * out of W what has become equal; the job's thread.
 */
extern void job_tidy (struct job *job);

/* The intent file is to say that everything may differ.  Blocks for its disk. */
extern void job_record_everything (struct mirror *m);
extern void job_close (struct job *job);

/*-- job-session.c ------------------------------------------------------*/

extern int job_session_start (struct job *job);

/* After job->stop has been set; blocks until the thread has ended. */
extern void job_session_stop (struct job *job);

/* The session is lost: end it.  Blocks until nothing of it is in flight; the
 * job's thread.
 */
extern void job_session_end (struct job *job);

/* Use the session that the thread has opened; the job's thread. */
extern void job_session_begin (struct job *job);

/* Tell a target, or NULL, how long the job waits; the caller holds
 * mirror.lock.
 */
extern void job_set_target_timeout (const struct job *job, struct target *t);

/*-- job-tell.c ---------------------------------------------------------*/

extern uint64_t job_now_ns (const struct job *job);

/* The next delay of a back-off; 0: none yet. */
extern uint64_t job_double_delay (const struct job *job, uint64_t delay_ns);

/* The pair's and the copiers' callbacks; opaque is the job. */
extern void job_on_work (void *opaque);
extern void job_on_idle (void *opaque);
extern void job_on_failed (void *opaque, enum pair_side side, bool tee,
                           const char *op, struct range r, int err);

/* Send an event with len, offset and speed.  No locks held. */
extern void job_progress_event (struct job *job, enum mirror_event_kind kind);

/* The session was lost, which is an error like any other: the job acts on it,
 * and tells it unless a request has.  The job's thread, when nothing of the
 * session is in flight any more; no locks held.
 */
extern void job_loss_failed (struct job *job);

/* The error that status tells.  Under mirror.lock. */
extern void job_set_error_locked (struct job *job, enum pair_side side,
                                  const char *op, struct range r, int err);

/* Tell whether the job begins with a target. */
extern void job_tell_target (struct job *job);

/* Change the state and tell it.  No locks held. */
extern void job_set_status (struct job *job, enum job_status status);

/* From running to ready, with its events; not while it is paused. */
extern void job_become_ready (struct job *job);

/* Go between running and paused, or ready and standby, as job->paused says. */
extern void job_show_pause (struct job *job);

/* Tell that the barrier of mirror_hold has fallen. */
extern void job_tell_released (struct mirror *m, const char *reason,
                               uint64_t held_ns);

/* Why the job's target is in the state that it is in; NULL: none.  Under
 * mirror.lock.
 */
extern void job_set_reason_locked (struct job *job, const char *reason);

/* Send an event; fills in the id.  No locks held. */
extern void job_event (struct job *job, struct mirror_event *ev);

/* How far the job is, in bytes; len - offset is the sum of what follows. */
struct progress {
  uint64_t len, offset;
  uint64_t dirty, claimed, suspect, unscanned;
};

/* Exact now.  Any locks of level 1 or less. */
extern struct progress job_progress (struct job *job);

#endif /* MIRROR_JOB_H */
