/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine's face: what the filter and the control socket call.
 *
 * All functions are thread-safe.  Errors are -errno; where a person will read
 * the reason there is also a text.
 *
 * Data calls come from the threads that serve clients and block as long as
 * the legs take.  A client sees the source's result, never the target's
 * (rule I7).  They take any size up to 2^32-1 and split.
 */

#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "intent.h"
#include "jobstate.h"
#include "latency.h"
#include "legs.h"
#include "sync.h"
#include "verdict.h"

struct mirror;

/* COPY_AUTO: background until the first full pass is done, from then on
 * write-blocking.
 */
enum copy_mode { COPY_BACKGROUND, COPY_WRITE_BLOCKING, COPY_AUTO };

/* What to copy at first: all that is allocated; or nothing, since the target
 * is taken to be identical already; or what the intent file says, of a mirror
 * that it says is running.
 */
enum sync_mode { SYNC_FULL, SYNC_NONE, SYNC_INCREMENTAL };

/* What an error of a side means to the job.  QEMU's words: ignore: it is tried
 * again, for ever; report: the job fails; stop: it pauses, and nothing is teed
 * until it is resumed; enospc: stop if the disk is full, else report.
 */
enum on_error { ON_ERROR_IGNORE, ON_ERROR_REPORT, ON_ERROR_ENOSPC,
                ON_ERROR_STOP };

enum io_status { IO_OK, IO_FAILED, IO_NOSPACE };

#define MIRROR_MIN_GRANULARITY 512u
#define MIRROR_MAX_GRANULARITY (64u << 20)
#define MIRROR_MAX_BUF_SIZE (UINT64_C (1) << 30)
#define MIRROR_MAX_CONNECTIONS 16u

/* What an event carries; see nbdkit-mirror-qmp(7).  The strings live for the
 * call only.
 */
enum mirror_event_kind {
  EVENT_JOB_STATUS_CHANGE,      /* id, status */
  EVENT_JOB_READY,              /* id, len, offset, speed */
  EVENT_JOB_CANCELLED,          /* the same */
  EVENT_JOB_COMPLETED,          /* the same, error or NULL */
  EVENT_JOB_ERROR,              /* id, write, err, range */
  EVENT_TARGET_STATE,           /* target_state, error (the reason) or NULL */
  EVENT_SYNCED,                 /* synced */
  EVENT_PIVOTED,                /* pause_ns, where, durable */
  EVENT_SWITCH_FAILED,          /* operation, error, pause_ns */
  EVENT_RELEASED,               /* error (the reason), held_ns */
  EVENT_FENCED,                 /* synced (enabled) */
  EVENT_VERIFY_COMPLETED,       /* id, verify, error or NULL */
  EVENT_BITMAP_LOST,            /* nothing; not sent by the engine itself */
};

#define VERIFY_FIRST 8u          /* differences whose place is kept */

/* What a verification has found; see verify.h. */
struct mirror_verify_status {
  bool set;                     /* there has been one in this job */
  bool running, repair;
  uint64_t speed;               /* bytes per second, 0 = no limit */
  uint64_t bytes;               /* that have been compared */
  uint64_t left;                /* bytes that have not */
  uint64_t differences;         /* granules that differ */
  uint64_t first[VERIFY_FIRST]; /* offsets of those found first */
  char error[128];              /* why it ended early; "" = it did not */
};

struct mirror_event {
  enum mirror_event_kind kind;
  const char *id;
  enum job_status status;
  uint64_t len, offset, speed;
  const char *error;
  bool write;                   /* false: reading the source failed */
  bool lost;                    /* JOB_ERROR: the connection was lost, which
                                 * TARGET_STATE tells, too */
  int err;                      /* errno, positive */
  enum on_error action;         /* of JOB_ERROR; never ON_ERROR_ENOSPC */
  struct range range;
  const char *target_state;
  bool unfit;                   /* TARGET_STATE: a server is there, but not
                                 * with the target */
  bool no_flush;                /* ... it is there for the first time in this
                                 * job, and cannot flush */
  bool synced;
  const char *operation;        /* "pivot", "detach" */
  uint64_t pause_ns, held_ns;
  const char *where;            /* the clients' disk, as for config.reopen */
  bool durable;                 /* a restart will give them that disk, too */
  const struct mirror_verify_status *verify;
};

/* Called from engine threads without locks held; must not block for long and
 * must not call the engine, except for mirror_get_status.
 */
typedef void mirror_event_fn (void *opaque, const struct mirror_event *ev);

#define MIRROR_REASON_MAX 512u

struct mirror_config {
  uint64_t size;                /* of the source, bytes; constant */
  struct clock *clock;
  bool told_flush;              /* clients were told that they may flush */

  /* Connect once more to the target of a job, also after clients were moved to
   * it; where is the job's.  Blocks, for at most *timeout_ns, which may change
   * meanwhile, but returns soon with -ECANCELED when *stop becomes true.
   * 0 and *target, or -errno, maybe with the reason in why, one line of at most
   * MIRROR_REASON_MAX bytes; -EMEDIUMTYPE: a server is there, but what it has
   * cannot be the target.  NULL: impossible.
   */
  int (*reopen) (void *opaque, const char *where,
                 const _Atomic uint64_t *timeout_ns,
                 const _Atomic bool *stop, struct target **target,
                 char *why);
  uint64_t backoff_min_ns;      /* 0: half a second */
  uint64_t tidy_ns;             /* see job-tidy.c; 0: five seconds */

  mirror_event_fn *event;       /* may be NULL */
  void *event_opaque;
};

/* Starts no thread.  NULL when out of memory. */
extern struct mirror *mirror_new (const struct mirror_config *config);

/* End the job if there is one, as mirror_interrupt does, wait for its end,
 * free.  No data call may be in progress.
 */
extern void mirror_free (struct mirror *m);

/* Keep the write-intent record in that file from now on, and do what it says of
 * the fence.  Takes it over, once in a mirror's life, and not while there is a
 * job: else -EBUSY.
 */
extern int mirror_use_intent (struct mirror *m, struct intent *intent);

/* Before the first request and job: clients have been moved to this disk.
 * where: for config.reopen.  size: of the export, bytes; 0: any.  target NULL:
 * there is no session yet.  timeout_ns: how long requests wait when there is
 * none, and for replies.  suspect_ns: how long one without a reply may still be
 * carried out.  Takes over target when it succeeds.  0 or -errno.
 */
extern int mirror_start_pivoted (struct mirror *m, const char *where,
                                 uint64_t size, struct target *target,
                                 uint64_t timeout_ns, uint64_t suspect_ns);

/*-- data ---------------------------------------------------------------*/

/* source is the caller's own handle on the source.  flags: LEG_FUA for all,
 * LEG_MAY_TRIM and LEG_FAST_ZERO for zero.
 */
extern int mirror_pwrite (struct mirror *m, struct source *source,
                          const void *buf, uint32_t count, uint64_t offset,
                          unsigned flags);
extern int mirror_zero (struct mirror *m, struct source *source,
                        uint32_t count, uint64_t offset, unsigned flags);
extern int mirror_trim (struct mirror *m, struct source *source,
                        uint32_t count, uint64_t offset, unsigned flags);
extern int mirror_flush (struct mirror *m, struct source *source);

/* At the end, when nobody changes anything any more: the disk that clients have,
 * whatever holds requests up.
 */
extern int mirror_flush_disk (struct mirror *m, struct source *source);
extern int mirror_pread (struct mirror *m, struct source *source, void *buf,
                         uint32_t count, uint64_t offset);

/* As extents of a source; where it cannot tell it is data.  As long as clients
 * have their own source only own is called, since it knows more of it.
 */
extern int mirror_extents (struct mirror *m, int (*own) (void *opaque),
                           struct range r, extent_fn *fn, void *opaque);

/* Call own as long as clients have their own source, else do nothing. */
extern int mirror_cache (struct mirror *m, int (*own) (void *opaque),
                         void *opaque);

/* Do clients have the target instead of their source? */
extern bool mirror_pivoted (struct mirror *m);

/*-- the job ------------------------------------------------------------*/

struct job_params {
  const char *where;            /* of the target, for config.reopen; or NULL */
  const char *identity;         /* of the target, for the intent file; at most
                                 * INTENT_TEXT_MAX bytes */
  uint64_t target_size;         /* what its size must be; 0: any */
  bool in_order;                /* SYNC_INCREMENTAL: the file was closed so */
  const char *id;               /* job-id, default "mirror" */
  enum copy_mode copy_mode;
  enum sync_mode sync;
  bool unmap;                   /* zeroes may become holes on the target */
  bool detect_zeroes;           /* send data that is all zero as zeroes */
  bool target_is_zero;          /* it reads as zero wherever the source does */
  bool defer_flush;             /* client flush and FUA stay with the source */
  uint64_t granularity;         /* bytes, power of two, >= target block */
  uint64_t speed;               /* bytes per second, 0 = no limit */
  uint64_t buf_size;            /* bytes in flight, at least a granule */
  uint64_t max_pause_ns;        /* longest that clients are held at once */
  uint64_t timeout_ns;          /* longest that they wait for the target */
  uint64_t suspect_time_ns;     /* see suspects.h */
  enum on_error on_source_error, on_target_error;
  unsigned copiers;             /* threads; 0 = default */
  bool keep;                    /* when concluded, until dismissed */

  /* target NULL: why there is none, -errno and a line or NULL. */
  int absent_err;
  const char *absent_why;
};

/* Start a mirror to target, reading through source (a handle that
 * several threads may use, alive until the job has ended).  target NULL: it is
 * connected to by config.reopen, again and again; but if errors of the target
 * are to stop the job, that has been one, and it begins stopped.  Takes over
 * target when it succeeds.  Returns 0, or -EBUSY (there is a job: *status tells
 * its state), -ENOMEM, -EAGAIN (no thread); with SYNC_NONE, which must hold the
 * clients until their older requests have ended, also -ETIMEDOUT after
 * max_pause_ns.
 *
 * When it returns, requests that enter are tracked; the rest of the start
 * (rule I6: wait for older requests, then scan) goes on in the job's thread.
 */
extern int mirror_start (struct mirror *m, const struct job_params *params,
                         struct source *source, struct target *target);

/* Is there a job, and may it do this?  Returns 0; -ENOENT: no job of that
 * id (id NULL: any); -EPERM: not in state *status.
 */
extern int mirror_check_verb (struct mirror *m, const char *id,
                              enum job_verb verb, enum job_status *status);

/* Forced cancel: returns at once; EVENT_JOB_CANCELLED follows.  Results as
 * mirror_check_verb.
 */
extern int mirror_cancel (struct mirror *m, const char *id,
                          enum job_status *status);

extern int mirror_set_speed (struct mirror *m, const char *id,
                             uint64_t bytes_per_s, enum job_status *status);

/* Change the mode, both ways, at any moment; returns at once. */
extern int mirror_set_mode (struct mirror *m, const char *id,
                            enum copy_mode mode, enum job_status *status);

/* Stop and go on with copying; teeing goes on all the while. */
extern int mirror_pause (struct mirror *m, const char *id, bool pause,
                         enum job_status *status);

/* Give the clients the target (rule I12), or only let go of the target, which
 * then is a copy of this moment.  Both return at once; what follows is told by
 * events.  Results as mirror_check_verb, and -EBUSY with the reason in *why.
 */
extern int mirror_complete (struct mirror *m, const char *id,
                            enum job_status *status, const char **why);
extern int mirror_detach (struct mirror *m, const char *id,
                          enum job_status *status, const char **why);

/* A job that is concluded goes. */
extern int mirror_dismiss (struct mirror *m, const char *id,
                           enum job_status *status);

extern int mirror_set_buf_size (struct mirror *m, const char *id,
                                uint64_t bytes, enum job_status *status);
extern int mirror_set_max_pause (struct mirror *m, const char *id,
                                 uint64_t ns, enum job_status *status);
extern int mirror_set_timeout (struct mirror *m, const char *id, uint64_t ns,
                               enum job_status *status);

/* From the next error on. */
extern int mirror_set_on_error (struct mirror *m, const char *id, bool target,
                                enum on_error what, enum job_status *status);

/*-- barrier and fence --------------------------------------------------*/

/* Hold every client request when both sides are equal and flushed.  Blocks
 * until the barrier stands; it falls by itself after timeout_ns.  Returns 0,
 * *drain_ns (how long clients had been held by then) and *expires_ns (from
 * now); or -errno with the reason in *why.
 */
extern int mirror_hold (struct mirror *m, uint64_t timeout_ns,
                        uint64_t *drain_ns, uint64_t *expires_ns,
                        const char **why);

/* 0 and *held_ns; -ENOENT: nothing is held; -ETIMEDOUT: it has expired. */
extern int mirror_release (struct mirror *m, uint64_t *held_ns);

/* From its return on clients' writes, zeroes and trims fail with -EPERM, and
 * none is under way.  Without force only while held: else -EPERM.
 * -ETIMEDOUT: the fence stands, but older requests are still under way.
 * -EIO: it could not be written to the intent file; it stands, or still does.
 */
extern int mirror_fence (struct mirror *m, bool enable, bool force);

/* Compare both sides of the job; see verify.h.  Both return at once;
 * EVENT_VERIFY_COMPLETED follows.  0, or -errno with the reason in *why.
 */
extern int mirror_verify_start (struct mirror *m, bool repair,
                                uint64_t speed, const char **why);
extern int mirror_verify_stop (struct mirror *m, const char **why);

/* The process ends: no change is begun any more (-ESHUTDOWN), nobody waits for
 * a lost disk, and what is in flight ends soon.  The intent file is closed, to
 * be resumed.  Blocks for at most so long, a second or two more, and for as long
 * as the file's disk takes.  false: changes from before are still under way.
 */
extern bool mirror_shutdown (struct mirror *m, uint64_t ns);

/* End the job as a kill would: for the intent file it is still running.
 * Returns at once.
 */
extern void mirror_interrupt (struct mirror *m);

/* Block until there is no job (it was cancelled, say).  deadline_ns as in
 * clock.  0 or -ETIMEDOUT.
 */
extern int mirror_wait_idle (struct mirror *m, uint64_t deadline_ns);

/*-- what is going on ---------------------------------------------------*/

/* Since the job began; never fall.  Without a job those of the last one stay
 * until the next begins.
 */
struct mirror_counters {
  uint64_t copied_bytes;        /* read from the source, written to target */
  uint64_t zeroed_bytes;        /* background zero requests to the target */
  uint64_t teed_bytes;          /* client writes and zeroes sent to both */
  uint64_t tracked_bytes;       /* client bytes left to be copied */
  uint64_t skipped_bytes;       /* needed nothing: both sides read as zero */
  uint64_t target_waits;        /* client requests that waited for target */
  uint64_t target_errors, source_errors;
  uint64_t target_flushes;
};

struct mirror_error {
  bool set;
  bool target;                  /* else the source */
  const char *op;               /* "read", "write", "zero", "flush", ... */
  struct range range;
  int err;                      /* errno, positive */
  int64_t when;                 /* seconds since the epoch */
};

#define JOB_ID_MAX 255

/* The job that ended last. */
struct mirror_last_job {
  bool set;                     /* there has been one */
  char id[JOB_ID_MAX + 1];
  char error[128];              /* why it has failed; "" = it has not */
  bool cancelled;
  uint64_t len, offset;
  int64_t when;                 /* end, seconds since the epoch */
};

struct mirror_status {
  bool pivoted, held, fenced;
  bool pivoted_online;
  uint64_t reconnects;          /* to the job's target, else to the one that
                                 * clients were moved to, else to the last
                                 * job's */
  bool have_job;
  char id[JOB_ID_MAX + 1];
  enum job_status status;
  bool ready, synced, teeing, busy;
  bool auto_dismiss;
  char error[128];              /* of a concluded job; "" = none */
  bool scanning;                /* the first pass over the extents goes on */
  enum copy_mode copy_mode;
  enum sync_mode sync;
  enum on_error on_source_error, on_target_error;
  enum io_status io_status;     /* why it has stopped; IO_OK: nothing has */
  uint64_t speed, granularity, buf_size;
  uint64_t len, offset;         /* len - offset = the sum of these four */
  uint64_t dirty_bytes, inflight_bytes, suspect_bytes, unscanned_bytes;
  bool target_online, target_connecting;
  char target_reason[MIRROR_REASON_MAX];        /* of its state, also of the
                                 * clients' disk after a pivot; "" = none */

  /* Of the clients' disk after a pivot, also while there is another target. */
  char disk_reason[MIRROR_REASON_MAX];
  uint64_t disk_reconnects;

  /* Of the target or, without one, of the clients' disk after a pivot. */
  unsigned connections;         /* 0: nothing is known of it (yet) */
  uint64_t target_size;
  uint32_t target_block;        /* the least it takes, bytes */
  uint32_t target_preferred, target_max;        /* ... and 0: not known */
  bool target_flush, target_fua, target_trim, target_zero, target_fast_zero,
    target_extents, target_multi_conn;
  struct mirror_counters counters;
  struct mirror_error last_error;       /* as the counters */
  struct mirror_verify_status verify;
  bool have_intent;
  struct intent_status intent;

  struct mirror_last_job last_job;
};

extern void mirror_get_status (struct mirror *m, struct mirror_status *st);

/* The same at one moment, and what follows from how it has changed. */
struct mirror_report {
  struct mirror_status st;
  struct rates_result rates;
  enum verdict verdict;
  int64_t eta;                  /* seconds, or -1: see verdict.h */
  struct latency_counts latency[LATENCY_KINDS]; /* as the counters */
};

extern void mirror_get_report (struct mirror *m, struct mirror_report *report);

/* For the simulator: asserts what must hold between any two steps, and tells
 * where the two sides may differ.  Under no lock.
 */
struct dirty;
struct rangelocks;
extern struct dirty *mirror_peek_dirty (struct mirror *m);      /* or NULL */
extern struct dirty *mirror_peek_unflushed (struct mirror *m, int which);
extern struct rangelocks *mirror_peek_locks (struct mirror *m);
extern bool mirror_peek_scanned (struct mirror *m);
extern bool mirror_peek_suspect (struct mirror *m, struct range r);
extern const void *mirror_peek_disk (struct mirror *m); /* NULL: the source */
extern bool mirror_peek_completed (struct mirror *m);   /* the job is */
extern bool mirror_peek_failed (struct mirror *m);      /* ... by an error */
extern bool mirror_peek_stopped (struct mirror *m);     /* until resumed */

#endif /* MIRROR_MIRROR_H */
