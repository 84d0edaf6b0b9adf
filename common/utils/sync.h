/* SPDX-License-Identifier: BSD-3-Clause */
/* Mutexes, conditions, threads and time, as the engine sees them.
 *
 * The engine is written as plain blocking code.  These functions have two
 * implementations, chosen when linking:
 *
 *   sync-posix.c        pthreads and CLOCK_MONOTONIC; the filter
 *   tests/sim/sched.c   coroutines on one thread under a seeded scheduler;
 *                       every function below may switch to another coroutine
 *
 * so that the simulator drives the very object files that the filter loads.
 *
 * None of these functions fails; misuse (unlock by another thread, destroy
 * while held) aborts.
 */

#ifndef MIRROR_SYNC_H
#define MIRROR_SYNC_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Opaque to users.  `sim` belongs to the simulator. */
struct mutex {
  pthread_mutex_t pthread;
  void *sim;
};

struct cond {
  pthread_cond_t pthread;
  uint64_t sim;
};

struct thread {
  pthread_t pthread;
  void *sim;
};

extern void mutex_init (struct mutex *m);
extern void mutex_destroy (struct mutex *m);
extern void mutex_lock (struct mutex *m);
extern void mutex_unlock (struct mutex *m);

/* cond_wait may return spuriously: always loop on the condition. */
extern void cond_init (struct cond *c);
extern void cond_destroy (struct cond *c);
extern void cond_wait (struct cond *c, struct mutex *m);
extern void cond_signal (struct cond *c);
extern void cond_broadcast (struct cond *c);

/* Start a thread with all signals blocked.  name: at most 15 bytes.
 * Returns 0 or -errno (EAGAIN); then *t must not be joined.
 */
extern int thread_start (struct thread *t, const char *name,
                         void (*fn) (void *), void *arg);
extern void thread_join (struct thread *t);

/* A place where the order of two threads' atomic operations matters: the
 * simulator may switch here.  Nothing in production.
 */
extern void sync_point (void);

/* Where time comes from.  Times are nanoseconds of a clock that never jumps;
 * the zero point means nothing.
 */
struct clock {
  uint64_t (*now_ns) (struct clock *);
  /* cond_wait, but returns -ETIMEDOUT once the clock has reached deadline_ns;
   * else 0, maybe spuriously.
   */
  int (*wait_until) (struct clock *, struct cond *, struct mutex *,
                     uint64_t deadline_ns);
};

/* The real clock (sync-posix.c only). */
extern struct clock clock_monotonic;

#endif /* MIRROR_SYNC_H */
