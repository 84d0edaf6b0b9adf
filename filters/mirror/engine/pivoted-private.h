/* SPDX-License-Identifier: BSD-3-Clause */
/* The parts of pivoted.h among themselves:
 *
 *   pivoted.c          the disk: requests, its life
 *   pivoted-session.c  the session, its users, its end, the next one
 *
 * Locks: rangelock, then lock.
 */

#ifndef MIRROR_PIVOTED_PRIVATE_H
#define MIRROR_PIVOTED_PRIVATE_H

#include <stdatomic.h>

#include "pivoted.h"
#include "rangelock.h"

/* A request on the session; on the stack of who waits for it. */
struct user {
  enum target_op op;
  struct target *target;
  uint64_t due_ns;              /* by then it must have ended */
  struct user *prev, *next;
};

/* A block of the disk that a request without a reply may still write back as it
 * was: nobody else has it for a while.
 */
struct haunted {
  struct rangelock lk;
  uint64_t until_ns;
  struct haunted *next;
};

struct pivoted {
  struct source source;         /* first */
  struct pivoted_config config;
  struct rangelocks *locks;
  char *where;                  /* or NULL */
  _Atomic uint64_t timeout_ns;  /* config's, for reopen */
  struct pivoted_facts facts;   /* the thread's */
  struct thread thread;
  _Atomic bool stop;            /* quit or give_up: do not open it any more */

  struct mutex lock;
  struct cond wake;             /* for the thread */
  struct cond online;           /* for requests */
  struct cond flushed_one;      /* for those that flush */

  /* Protected by lock. */
  struct target *target;        /* NULL: no session */
  bool lost;                    /* it has ended; not freed yet */
  int lost_err;
  const struct target *lost_early;      /* before it was used; not to be
                                         * followed */
  struct user *users;           /* on it */
  uint64_t asleep_ns;           /* until when the thread is; 0: it is awake */
  uint64_t grace_ns;            /* until then who is overdue may end; 0: nobody
                                 * has been */
  bool flushing;                /* one at a time: two could split one error */
  struct haunted *haunted;      /* the first one, which is the next to end */
  uint64_t session;             /* how many have been lost */
  uint64_t reconnects;          /* how many have been made after that */

  /* Acknowledgements of this session, and how many of them a good flush has
   * covered.  The first stands for those of the sessions before that none has,
   * and of the process before.
   */
  uint64_t acked, flushed;

  /* How often something acknowledged may have been lost, and up to which of
   * them a client's flush, or FUA, has failed for it.
   */
  uint64_t forgotten, told, told_fua;

  /* What only a mirror of this disk must know of, since clients have been told,
   * or never were told anything: what can be read now may be gone after the
   * next loss, whatever flushes say.  A flush has failed, or FUA, which may
   * have dropped data; a change was refused, but is there in part.
   */
  bool limbo;
  bool limbo_next;              /* ... or has been cut off by a loss, which is
                                 * not the one that matters */
  uint64_t noted;               /* up to which forgotten `changed` has told */
  bool quit, give_up;
};

/* A session to use, in user->target; false after the time-out.  times: so many
 * time-outs the request may take.
 */
extern bool pivoted_begin_use (struct pivoted *p, struct user *user,
                               enum target_op op, uint64_t deadline_ns,
                               unsigned times);

/* durable: nothing remains to be flushed of a change if it is acknowledged. */
extern void pivoted_end_use (struct pivoted *p, struct user *user, int result,
                             bool durable);

extern void pivoted_hurry_locked (struct pivoted *p);

/* Keep what is locked until the suspect time is over.  Takes over h. */
extern void pivoted_haunt (struct pivoted *p, struct haunted *h);

/* Let go of what has been locked for long enough, or of all. */
extern void pivoted_exorcise_locked (struct pivoted *p, bool all);

/* The thread, until p->quit. */
extern void pivoted_main (void *p);

#endif /* MIRROR_PIVOTED_PRIVATE_H */
