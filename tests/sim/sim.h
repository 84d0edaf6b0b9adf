/* SPDX-License-Identifier: BSD-3-Clause */
/* One simulated run: a disk, a mirror, clients, somebody who gives orders, and
 * the rules that are checked after every step.
 *
 * A run is a function of its profile and its seed.  The profile of a random
 * run is drawn from the seed as well.
 */

#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "fakes.h"
#include "mirror.h"

struct profile {
  unsigned clients, ops;        /* ops of each client */
  unsigned granules;
  uint64_t granularity;
  uint32_t block;               /* of the target, at most a granule */
  unsigned hot_granules;        /* most requests go there */
  /* Parts of what clients do. */
  unsigned writes, zeroes, trims, flushes, reads;
  unsigned fua_percent, aligned_percent;
  unsigned data_percent;        /* of the granules at the start, both legs */
  bool equal;                   /* the legs are equal at the start */

  unsigned orders;              /* of the driver */
  unsigned restart_percent, mode_percent, speed_percent, lose_percent;
  unsigned settle_percent;      /* orders that wait for ready first */
  unsigned power_cut;           /* of ordered losses */
  /* Of the jobs: what they are told.  The rest of the modes is background. */
  unsigned auto_percent, write_blocking_percent;
  unsigned none_percent, detect_percent, is_zero_percent, defer_percent;
  unsigned max_pause_ms;        /* 0: any */
  unsigned keep_percent;
  unsigned policy_percent;      /* other than ignore, each side */
  bool no_flush;                /* clients are not told that they may */
  unsigned pause_percent, pivot_percent, detach_percent, hold_percent,
    fence_percent;              /* of orders */
  unsigned reopen_percent;      /* attempts that fail */
  unsigned replace_percent;     /* of targets that come back: another disk */
  bool restart_at_once;         /* a lost job is replaced at once */
  bool needs_flush;             /* only targets that can */
  bool one_copier;
  bool meddler;                 /* a second giver of orders */
  unsigned early_percent;       /* start before the clients do anything */
  unsigned verify_percent;      /* of orders, and of runs at their end */

  /* An intent file.  What may end a life: a kill, or an order. */
  bool intent;
  unsigned region_shift;        /* a region is so many granules */
  unsigned kills, shutdown_percent;
  unsigned cut_source, cut_target, cut_intent;  /* percent of kills */
  struct intent_faults intent_faults;
  bool file_fails_late;         /* ... not before a region has retired */

  struct faults faults;
};

#define SECTOR 512u

#define MAX_KILLS 8

struct sim_client {
  struct sim *sim;
  unsigned number;
  struct thread thread;
};

struct sim {
  struct profile p;
  struct world w;
  struct mirror *m;
  uint64_t size, granularity;

  /* life.c */
  struct sim_client clients[MAX_CLIENTS];
  struct thread meddler;
  unsigned orders_left, kills_left, ops_left[MAX_CLIENTS];
  struct mirror *dead[MAX_KILLS];       /* not lost for a leak checker */
  bool leaving;                 /* the process is being ended */
  bool over, ended;             /* a life; all of them */
  struct {                      /* the next one; MAX: never */
    uint64_t steps, calls, more;
    bool at_commit;
  } kill;

  struct {                      /* checks-intent.c */
    struct fake_intent file;
    struct intent_head head;    /* what this life began with */
    struct intent_view views[NR_AFTER];
    uint64_t changes;           /* of the file, when last seen */
    bool out[MAX_DISK / SECTOR], any_out;       /* not in W of every crash */
    bool had_head;
    bool committing;            /* a commit record may be there */
  } intent;

  unsigned job;                 /* number of the latest job, 0: none yet */
  bool cancelling;              /* it has been told to end */
  bool barrier_unflushed;       /* it stands, and the target cannot flush */
  bool barrier_lost;            /* and that one has been lost since */
  unsigned cancels;             /* calls of mirror_cancel in progress */
  bool meddler_may_go;
  uint64_t max_pause_ns;        /* of a job that is starting; 0: may not hold */
  uint64_t held_since;          /* that job is known to hold clients; 0: no */
  bool watched;                 /* m is alive */
  bool disk_hung;               /* who used it did not run for long, at least */
  bool any_block;               /* what block the clients' disk has was not
                                 * known when m began: the largest, then */

  /* Since the latest job began. */
  unsigned pivot_asked, detach_asked;   /* how often, and not refused */
  unsigned switches;            /* that have been asked for */
  unsigned failed_switches;
  uint64_t timeout_ns;          /* of the target */
  bool replaced;                /* another disk, and nobody has said so */
  bool hung;                    /* its session was given up */
  bool completed;               /* it has been: nothing is tracked any more */
  bool fence_asked;             /* ever: clients may be refused */
  unsigned unfenced;            /* how often it has been taken back */

  struct {                      /* verify.c */
    unsigned calls;             /* of mirror_verify_start in progress */
    unsigned began, ended;
    unsigned cuts;              /* world.disk_cuts when it began */
    unsigned rotten;            /* granules of the target */
    uint8_t planted[MAX_DISK];  /* the bytes */
  } verify;

  /* The target as it was when it was detached. */
  bool have_detached;
  uint8_t detached[MAX_DISK];

  /* The clients' disk. */
  const void *disk;             /* mirror_peek_disk when last seen */
  unsigned cuts;                /* world.disk_cuts when last seen */
  bool source_lost_data;        /* and the engine has not heard of it */
  uint64_t lost_touch;          /* of what was lost, the first; or MAX */
  uint64_t lost_flushes;        /* world.disk_flushes then */
  uint64_t lost_call;           /* the calls so far then */

  /* Calls of clients, counted at entry and at exit. */
  uint64_t calls;
  uint64_t last_touch[MAX_DISK];        /* of each byte */
  uint64_t flushed_call;        /* entry of the latest good client flush */
  uint64_t fua_call[MAX_DISK];  /* end of the latest good FUA request */
  uint64_t stamp;

  /* checks.c */
  uint64_t looks, blind;
  unsigned status_job, event_job;
  uint64_t last_offset, last_waits;
  bool was_ready, was_synced;
  bool session_over;            /* the engine has said so: U is no excuse */
  enum job_status last_status;
  unsigned ready_events, cancelled_events, error_events;
};

/* life.c: the first coroutine; arg is the struct sim. */
extern void sim_drive (void *sim);

/* workload.c */
extern void sim_start_clients (struct sim *sim);
extern void sim_join_clients (struct sim *sim);
extern void sim_order (struct sim *sim);
extern void sim_finish (struct sim *sim);

/* start.c.  Returns whether there is a job now; clients: some may be at work,
 * so there need not be.
 */
extern bool sim_start_job (struct sim *sim, bool clients);

/* The job that the file says is running goes on. */
extern void sim_resume_job (struct sim *sim, const struct intent_head *head);

/* That mode will be the job's: what it may do with the clients' data. */
extern void sim_mode_is_asked (struct sim *sim, enum copy_mode mode);
extern enum copy_mode sim_random_mode (struct sim *sim);

/* orders.c */
extern int sim_reopen (void *sim, const char *where,
                       const _Atomic uint64_t *timeout_ns,
                       const _Atomic bool *stop, struct target **target,
                       char *why);
extern void sim_complete (struct sim *sim);
extern void sim_release (struct sim *sim);
extern void sim_fence (struct sim *sim, bool enable);
extern void sim_dismiss (struct sim *sim);
extern void sim_order_switch (struct sim *sim);
extern void sim_go_on (struct sim *sim);        /* nothing is held or paused */

/* verify.c: by verify_percent, start or stop a verification; plant differences
 * when all is copied and nobody writes, find them, repair them; an event.
 */
extern void sim_order_verify (struct sim *sim);
extern void sim_verify_at_rest (struct sim *sim);
extern void checks_verify (struct sim *sim, const struct mirror_event *ev);

/* checks.c: after every step; the event callback. */
extern void checks_step (void *sim);
extern void checks_event (void *sim, const struct mirror_event *ev);

/* checks-calls.c */
extern void checks_call_begins (struct sim *sim, struct client_op *op);
extern void checks_call_ends (struct sim *sim, struct client_op *op,
                              int result);
/* checks-switch.c, all but the last between two steps or in one: has the
 * clients' disk lost its cache, has the engine switched, does the barrier keep
 * everything out; a call has ended.
 */
extern void checks_cut (struct sim *sim);
extern void checks_switch (void *sim);
extern void checks_barrier (struct sim *sim, const struct mirror_status *st);
extern void checks_told (struct sim *sim, const struct client_op *op,
                         int result);
extern void checks_flush (struct sim *sim, const struct client_op *op,
                          int result);

/* checks-intent.c: after every step; look at the file again, if it has changed;
 * the disk that clients would be given; the end of a job is told.
 */
extern void checks_intent (struct sim *sim);
extern void checks_view (struct sim *sim);
extern void checks_retired (struct sim *sim, const struct mirror_status *st);
extern struct image *checks_disk_of (struct sim *sim,
                                     const struct intent_head *head);
extern void checks_recorded (struct sim *sim, enum intent_state state);

/* A read has ended well. */
extern void checks_read (struct sim *sim, const struct client_op *op);

/* A target that was detached is as it was then. */
extern void checks_detached (struct sim *sim);

/* Is a client's write in flight? */
extern bool writes_in_flight (const struct sim *sim);

extern void checks_equal (struct sim *sim, bool stable_too);

#endif /* SIM_SIM_H */
