/* SPDX-License-Identifier: BSD-3-Clause */
/* Fake legs: a source and a target in memory, whose requests land in pieces,
 * in any order, and go wrong in every way that legs.h allows.
 *
 * The disk is small (a few granules) and its bytes are real.
 *
 * Source.  Synchronous: the calling coroutine does the pieces itself, with
 * switches between them.  A trim leaves each piece as it was, zero or
 * garbage.  A failed request has landed in part.  A failed flush of a client
 * may take back what has been acknowledged since the last good one (`drop`).
 *
 * Target.  The image outlives the sessions.  A request in flight is a list
 * of pieces; an I/O step of the scheduler lands one piece or sends one reply.
 * Where an end is no multiple of the target's block, that block is a piece of
 * its own, an *edge*: one step takes a copy of it, a later one writes it back
 * as a whole, so whoever writes to the same block in between is undone.  A
 * request that fails may leave anything in the rest of its edges.
 * What is written is in a volatile cache (`cached`); `stable` is what a power
 * cut leaves.  A byte gets from T to stable by
 *
 *   FUA                 at the reply
 *   a good flush        if its write had ended before the flush began
 *   eviction            at any time
 *
 * What this session has written over one connection is seen over another one
 * after a flush at the latest; extents may be asked over another one (`view`).
 *
 * A failed flush may drop cached bytes for good, as file systems do.  A
 * session ends by a loss (with or without a power cut of the target) or by
 * shutdown; until each request in flight has been told -ENOTCONN its pieces
 * may still land, and some even after: fake-ghosts.c.
 *
 * After a pivot the target's image is the clients' disk and its session
 * *serves* them (`serving`): a lost one is opened again, with the cache as it
 * is, or as a power cut has left it.  The image of the old source is the
 * target of the next job.
 *
 * The fakes also check what the engine does with them; what is wrong ends the
 * run with the number of the rule.
 */

#ifndef SIM_FAKES_H
#define SIM_FAKES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fake-intent.h"
#include "legs.h"
#include "range.h"
#include "sync.h"

#define MAX_DISK (256u << 10)
#define MAX_CLIENTS 4
#define MAX_CALLERS (MAX_CLIENTS + 1)     /* the driver flushes, too */
#define MAX_REQUESTS 64         /* in flight at the target */
#define MAX_PIECES 4            /* of a range; a request may have two edges */

/* How often things go wrong.  Percent, but for loss_permille: of I/O steps. */
struct faults {
  unsigned source_error, source_slow, refuse_fast_zero;
  unsigned target_error, target_slow, flush_error, flush_slow, stuck, evict;
  unsigned loss_permille, power_cut;            /* power_cut: of losses */
  unsigned ghost;               /* of pieces whose session was lost */

  /* A piece of a write that ends well does not land.  No engine can live with
   * that: it shows that the checks see.
   */
  unsigned drop;                /* of what a failed source flush was about */
  unsigned lie;
};

enum op_kind { OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH, OP_READ };

/* A client's call in progress, and what the source has seen of it. */
struct client_op {
  bool active;
  enum op_kind kind;
  struct range range;
  unsigned flags;
  uint8_t *buf;                 /* OP_WRITE, OP_READ */
  uint64_t number;              /* of all calls, from 1 */
  uint64_t began_ns;
  unsigned job;                 /* the job when it was called; 0: none */
  bool overlapped;              /* by another change at any time */
  bool cut;                     /* the clients' disk lost its power */

  uint64_t covered;             /* bytes that the source has done */
  uint64_t flushes;             /* of anybody, when it was called */
  unsigned calls;
  int result;                   /* of the source's last call */
  bool over;                    /* the source has failed it */
  bool teed;                    /* the target has been asked, too */
  bool tracked;                 /* changes the source now, and is not teed */
  bool rolled_back;             /* its flush has failed and lost data */
};

/* Situations that a scenario must have produced (sim.c). */
enum witness {
  SEEN_LOSS_DURING_TEE,         /* power cut, a tee in flight, U not empty */
  SEEN_LAST_COPY,               /* D empty, a copy in flight */
  SEEN_ACK_DURING_FLUSH,        /* acked during a flush that is good, U kept */
  SEEN_LATE_ACK,                /* replied before the loss, seen after it */
  SEEN_BAD_FLUSH_DURING_TEE,    /* a flush fails, a tee has been replied */
  SEEN_OLD_REQUEST,             /* a job starts, an older request in flight */
  SEEN_SYNCED_AGAIN,            /* synced after it was not, bytes flushed */
  SEEN_READY_UNDER_LOAD,        /* ready while client writes are in flight */
  SEEN_SYNCED,
  SEEN_SHARED_BLOCK,            /* a client's call has bytes of an edge */
  SEEN_GARBAGE,                 /* a request failed and spoilt its edges */
  SEEN_DISK_GARBAGE,            /* ... of the clients' disk after a pivot */
  SEEN_HELD,                    /* a client waits for a job to start */
  SEEN_START_LATE,              /* a job has not started: -ETIMEDOUT */
  SEEN_AUTO_TEE,                /* a tee by copy mode auto */
  SEEN_DETECTED,                /* a client's data is sent as a zero */
  SEEN_LEFT,                    /* a write of dirty granules is not teed */
  SEEN_SKIPPED,                 /* a zero was not sent: both sides have it */
  SEEN_PIVOT,                   /* while clients' calls are held */
  SEEN_PIVOT_FAILED,            /* ... and it was not for this time */
  SEEN_PIVOT_BACK,              /* the second one, to the old source */
  SEEN_DISK_LOST,               /* the clients' disk, with data unflushed */
  SEEN_DETACH,                  /* while clients' calls are held */
  SEEN_BARRIER,                 /* the same */
  SEEN_DISK_HANGS,              /* the clients' disk is given up */
  SEEN_FENCED,                  /* a client's call is refused */
  SEEN_PAUSED,                  /* with something dirty */
  SEEN_GHOST,                   /* a write of a lost session lands */
  SEEN_GHOST_AGAIN,             /* ... over what the next one has written */
  SEEN_BACK,                    /* a job has got its target again */
  SEEN_FAILED,                  /* a job, by an error */
  SEEN_STOPPED,                 /* the same; it does not tee */
  SEEN_HUNG,                    /* ... after it was given up for hanging */
  SEEN_REPLACED,                /* another disk came back, and was told so */
  SEEN_ROLLED_BACK,             /* the source, by a failed flush */
  SEEN_ROLLED_BACK_LATE,        /* ... after a while */
  SEEN_VERIFIED,                /* all of it, nothing found */
  SEEN_VERIFIED_UNDER_LOAD,     /* client writes are in flight at the end */
  SEEN_REPAIRED,                /* what was found */
  SEEN_RETIRED_DIRTY,           /* a region, while others are dirty */
  SEEN_RETIRED_COPYING,         /* ... or are being copied */
  SEEN_RETIRED_WAITING,         /* ... and a client has not reached a leg */
  SEEN_BEGIN_RETIRING,          /* that client is in a region that retires */
  SEEN_GROWN,                   /* W, and nobody has written */
  SEEN_COMMIT_FAILED,           /* a pivot, after its record was written */
  SEEN_RESTART_PIVOTED,         /* clients get the disk that they had */
  SEEN_KILLED,                  /* some differs, some regions have retired */
  SEEN_LATE_SOURCE,             /* what was killed changes the source */
  SEEN_CUT_SOURCE,              /* it lost data in a kill */
  SEEN_CUT_TARGET,
  SEEN_CUT_INTENT,              /* the same of the file */
  SEEN_CUT_ALL,                 /* everything lost its power */
  SEEN_KILLED_AT_COMMIT,        /* the record is only in the file's cache */
  SEEN_COMMITTED,               /* ... durable, clients were not moved yet */
  SEEN_RESUMED,                 /* a job, after a kill */
  SEEN_RESUMED_CLEAN,           /* ... after an end in order */
  SEEN_FENCE_KEPT,              /* by a restart */
  SEEN_FILE_LOST,
  SEEN_FILE_BROKEN,             /* a client is told so */
  NR_WITNESSES
};

struct fake_piece {
  struct range range;           /* edge: one block */
  bool edge;
  uint8_t *copy;                /* edge: the block as it was; NULL: not yet */
};

/* A bit less than the least that clients wait for their disk after a pivot. */
#define SERVED_TIMEOUT UINT64_C (900000000)

struct fake_request {
  struct target_req *req;       /* NULL: slot is free */
  struct client_op *op;         /* whose call it serves; or NULL */
  bool write;                   /* or zero */
  bool stuck;                   /* nothing happens until unstuck */
  uint64_t not_before;          /* nothing happens before that time */
  uint64_t since;               /* when it was submitted */
  struct range range;
  struct range blocks;          /* the same, rounded out to the block */
  struct fake_piece pieces[MAX_PIECES + 2];
  unsigned nr_pieces, landed;   /* landed: bits */
  unsigned quota;               /* pieces that land before the reply */
  int plan;                     /* the reply */
  bool replied_ok;
  uint64_t sum;                 /* of buf at the time of submit */
};

struct world;

struct fake_source {
  struct source source;
  struct world *w;
};

/* The bytes of a disk. */
struct image {
  uint32_t block;
  uint8_t now[MAX_DISK], stable[MAX_DISK];
  uint8_t cached[MAX_DISK];     /* now is not yet in stable */
  uint8_t acked[MAX_DISK];      /* ... and the write has ended */
};

struct fake_target {
  struct target target;
  struct world *w;
  struct image *image;
  unsigned number;              /* of all sessions so far */
  bool serving;                 /* the clients; not a job's target */
  struct fake_target *next;     /* all that are not yet freed */
  struct thread poller;
  bool down;                    /* shut down by the engine */
  bool lost, told, dead;        /* by the other side; dead: power cut */
  bool quit;
  struct fake_request requests[MAX_REQUESTS];
  unsigned flushes;             /* in flight */
  uint8_t flushing[MAX_DISK];   /* covered by the flush in flight */
  uint8_t snapshot[MAX_DISK];   /* T when it began */
  uint8_t ended[MAX_DISK];      /* no write was in flight there then */
  uint8_t view[MAX_DISK];       /* of a connection that sees nothing early */
  bool acked_meanwhile;
};

/* A change of the source in progress, of a client's call. */
struct source_call {
  bool active;
  struct range range, pieces[MAX_PIECES];
  unsigned nr_pieces, quota, landed;
  const uint8_t *buf;           /* NULL: value, or if that is -1 anything */
  int value;
};

/* See fake-ghosts.c. */
#define MAX_GHOSTS 256
struct ghost {
  struct image *image;
  bool take_back;               /* ... what was dropped, if it still is */
  bool of_dead;                 /* of a process that was killed */
  struct range range;
  struct range own;             /* what the request was about */
  uint8_t *data;
  uint8_t *before;              /* what was there when its session ended */
  unsigned session;             /* its number */
  uint64_t began, not_before, until;    /* when it may land */
};

/* Where the clients' data may go in this job. */
enum may_tee {
  TEE_NEVER,                    /* it has only been in background mode */
  TEE_AFTER_SCAN,               /* ... or in mode auto */
  TEE_ANY
};

struct world {
  uint64_t size, target_size;
  struct faults faults;         /* may change during a run */
  bool faults_ended;
  struct fake_source clients_source, copy_source;

  struct image images[2];
  struct image *disk, *copy;    /* the clients' and the other one */
  uint8_t *S;                   /* disk->now */
  uint8_t *T, *stable, *cached, *acked; /* copy's */

  /* The clients' disk after a pivot. */
  unsigned pivots;
  struct target features;       /* of each session */
  struct target latest;         /* features of a job's latest target */
  unsigned disk_losses, disk_cuts;
  uint8_t dropped[MAX_DISK];    /* by a failed flush */
  uint64_t dropped_ns[MAX_DISK];        /* when, if it is */
  bool drop_untold;             /* ... which was not a client's */

  /* What clients were told: the last that was written, if it is known. */
  uint8_t told[MAX_DISK], known[MAX_DISK];

  /* The source's cache, if it matters: when the oldest write that no flush
   * covers has ended, by `ends`; 0: there is none.
   */
  bool source_caches;
  uint32_t ends, since[MAX_DISK];
  struct source_call source_calls[MAX_CALLERS];

  struct fake_intent *intent;   /* NULL: there is none */
  const struct image *changed;  /* by a client, in this step */

  bool told_flush;              /* clients may flush */
  unsigned flushes_owed;        /* have failed, and no client had asked */
  unsigned changing, flushing;  /* calls of the fake source now */
  uint64_t flushes;             /* calls so far */
  uint64_t disk_flushes;        /* ... of a target that is the clients' disk */
  uint64_t good_flush, bad_flush;       /* the latest to begin of those
                                         * that have ended so */
  unsigned rolled_back;         /* calls that have, and have not returned */
  bool fenced;                  /* no client may change anything */

  struct fake_target *targets;
  unsigned nr_sessions;
  bool power_was_cut;           /* in this job's session */
  struct ghost ghosts[MAX_GHOSTS];
  unsigned nr_ghosts;
  uint64_t suspect_ns;          /* of this job */
  uint64_t disk_suspect_ns;     /* of the one that clients were moved by */

  /* What this job was told. */
  enum may_tee may_tee;
  bool unmap, detect_zeroes, defer_flush;
  bool teed;                    /* a client's data went to the target */

  /* Bytes of the target that have changed by themselves, until they are
   * written again.
   */
  uint8_t rotten[MAX_DISK];

  /* Somebody else keeps the target identical: what lands on the source lands
   * there, too.
   */
  bool following;

  struct client_op ops[MAX_CALLERS];
  int coroutine[MAX_CALLERS];   /* which coroutine each of them is */
  unsigned nr_clients;

  uint64_t seen[NR_WITNESSES];
};

/* Clear; then, in a run, open the source (its features are drawn). */
extern void world_init (struct world *w, uint64_t size, uint64_t target_size,
                        uint32_t block);
extern void world_open_source (struct world *w);

/* The call of the running coroutine, or NULL if it is not a client's. */
extern struct client_op *world_my_op (struct world *w);

/* Does any client's call touch the byte? */
extern bool world_client_touches (const struct world *w, uint64_t byte);

/* A new session; features are drawn by the scheduler's generator. */
extern struct fake_target *fake_target_new (struct world *w, bool serving);

/* The session of the job, or of the clients' disk; NULL: none. */
extern struct fake_target *world_session (struct world *w, bool serving);

/* The job's target is the clients' disk from now on. */
extern void world_pivot (struct world *w);

/* There is no file: clients have the source, whatever they had before. */
extern void world_serve_source (struct world *w);

/* Is any request in flight on either leg?  changes: other than reads. */
extern bool world_client_changes (struct world *w);
extern bool world_busy (struct world *w, bool changes);

/* The other side ends the session (any coroutine, or an I/O step). */
extern void fake_target_lose (struct fake_target *ft, bool power_cut);

/* Requests that hang go on from now on. */
extern void world_unstick (struct world *w);

/* The process with the engine is killed: what was in flight lands in part, or
 * late, and who was called is gone.  Power cuts go with it: bits.
 */
enum power_cut { CUT_SOURCE = 1, CUT_TARGET = 2, CUT_INTENT = 4 };
extern void world_crash (struct world *w, unsigned cuts);

/* For the scheduler. */
extern size_t world_io_pending (void *world);
extern void world_io_step (void *world);
extern uint64_t world_io_deadline (void *world);

/* From here on private to the fakes. */

/* Cut r into 1 ... MAX_PIECES pieces in random order. */
extern unsigned world_cut (struct range r, struct range *pieces);

/* Answer extents of image as of now, in short pieces, maybe not all of r. */
extern int world_extents (const uint8_t *image, struct range r,
                          extent_fn *fn, void *opaque);

/* Of a request to the target. */
extern struct range request_bytes (const struct target_req *req);
extern struct range request_blocks (const struct fake_target *ft,
                                    const struct target_req *req);

/* fake-checks.c: of a request that is submitted. */
extern void target_check_request (struct fake_target *ft,
                                  const struct target_req *req);

/* fake-source.c: a piece of a change of the source lands. */
extern void source_land (struct world *w, const struct source_call *c,
                         struct range piece);

/* ... which has ended.  The disk loses its power. */
extern void source_ended (struct world *w, struct range r, bool durable);
extern void source_cut_power (struct world *w);

/* fake-ghosts.c: the request has been told -ENOTCONN, or its process has been
 * killed; none of the image, or of any (NULL), is left; for the scheduler.
 */
extern void ghosts_rise (struct fake_target *ft,
                         const struct fake_request *fr);
extern void ghosts_rise_source (struct world *w, const struct source_call *c);

/* The source has dropped r, and still shows it; false: no time for that. */
extern bool ghosts_take_back (struct world *w, struct range r);
extern void ghosts_end (struct world *w, const struct image *im);

/* w->suspect_ns is that of another job now. */
extern void ghosts_begin_job (struct world *w);
extern size_t ghosts_pending (struct world *w);
extern uint64_t ghosts_deadline (const struct world *w);
extern void ghosts_step (struct world *w, size_t pick);

/* fake-image.c: the target's bytes, and what becomes of them. */

/* One step of a piece: lands it, or takes the copy of an edge.  Returns true
 * if it has landed.
 */
extern bool image_step (struct fake_target *ft, const struct fake_request *fr,
                        struct fake_piece *piece);

/* The request has failed: its edges hold anything, but for its own bytes. */
extern void image_spoil_edges (struct fake_target *ft,
                               const struct fake_request *fr);

/* The request has been replied to. */
extern void image_acked (struct fake_target *ft,
                         const struct fake_request *fr, bool durable);

extern void image_begin_flush (struct fake_target *ft);
/* clients: it was a client's. */
extern void image_end_flush (struct fake_target *ft, bool good, bool clients);

/* The cache writes back what it likes, when it likes. */
extern void image_evict (struct world *w);
extern void image_cut_power (struct world *w, struct image *image);

/* Another disk is there now, which has nothing of the old one. */
extern void image_replace (struct world *w, struct image *image);

/* What a failed flush has dropped is read from the medium again in the end;
 * a new session could not know of it.
 */
extern void image_forget_dropped (struct world *w, struct image *image);

#endif /* SIM_FAKES_H */
