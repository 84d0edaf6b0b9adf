/* SPDX-License-Identifier: BSD-3-Clause */
/* Deterministic scheduler: common/utils/sync.h on coroutines.
 *
 * Everything that the engine starts as a thread becomes a coroutine; all of
 * them share one real thread.  Before every step the scheduler picks, by a
 * seeded generator, one of
 *
 *   a coroutine that can go on        (up to its next switch point)
 *   one step of fake I/O              (if the hooks say that some is pending)
 *   a jump of the clock to the next deadline
 *
 * so that a run is a function of its seed alone, and can be repeated.  Switch
 * points are all functions of sync.h and the ones below that say so.
 *
 * What is wrong in a run - a broken rule, nobody can go on, too many steps,
 * a mutex misused - ends the process by sched_fail.
 */

#ifndef SIM_SCHED_H
#define SIM_SCHED_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sync.h"

struct sched_hooks {
  /* Number of fake I/O steps that could be done now; do one of them. */
  size_t (*io_pending) (void *opaque);
  void (*io_step) (void *opaque);

  /* When more I/O steps will be possible; UINT64_MAX: only others know. */
  uint64_t (*io_deadline) (void *opaque);

  /* After every step, outside of all coroutines.  See sched_try. */
  void (*check) (void *opaque);

  void *opaque;
};

/* Run fn (arg) as the first coroutine and return when every coroutine has
 * ended.  hooks and each of its functions may be NULL.  The process can do
 * any number of runs, one after the other.
 */
extern void sched_run (uint64_t seed, uint64_t max_steps,
                       const struct sched_hooks *hooks,
                       void (*fn) (void *), void *arg);

/* Of the run so far, or of the last one. */
extern uint64_t sched_hash (void);              /* of the whole trace */
extern uint64_t sched_steps (void);

/*-- for coroutines -----------------------------------------------------*/

/* A switch point. */
extern void sched_yield_here (void);

/* Block until ready (arg).  ready must not switch.  why: for the report. */
extern void sched_wait (bool (*ready) (void *), void *arg, const char *why);

/* Block for that long by the fake clock. */
extern void sched_sleep (uint64_t ns);

/* The number of the running coroutine, 0 = the first; -1 outside. */
extern int sched_self (void);

/* A new coroutine.  Returns its number or -EAGAIN.  name: see sync.h. */
extern int sched_spawn (const char *name, void (*fn) (void *), void *arg);
extern bool sched_ended (int who);

/* Sleep until sched_wake_on (channel) or the deadline (UINT64_MAX: none), and
 * then until then_ready (then_arg).  Returns false if it was the deadline.
 * May wake up spuriously.
 */
extern bool sched_sleep_on (const void *channel, uint64_t deadline,
                            bool (*then_ready) (void *), void *then_arg);
extern void sched_wake_on (const void *channel, bool all);
extern bool sched_anybody_on (const void *channel);

/* Does anybody wait, or sleep and then wait, for arg? */
extern bool sched_anybody_wants (const void *arg);

/* From now on the running coroutine goes on as soon as it can, before all
 * others and before I/O.
 */
extern void sched_be_first (void);

/* All other coroutines end where they are, like the threads of a process that
 * is killed; their numbers are given anew.  What they have allocated stays,
 * and counts as used.  Only for the first coroutine.
 */
extern void sched_kill_others (void);

/*-- for everybody ------------------------------------------------------*/

/* Fake time; advances a little with each step and jumps. */
extern struct clock sched_clock;
extern uint64_t sched_now (void);

/* The run's generator: a number below n (n > 0); true in percent of 100. */
extern uint64_t sched_rand (uint64_t n);
extern bool sched_percent (unsigned percent);

/* One line of the trace; the format may use up to four %llu / %llx, and
 * nothing else.  Kept for the report of a failure, and part of the hash.
 */
extern void sched_trace (const char *format, uint64_t a, uint64_t b,
                         uint64_t c, uint64_t d);

/* Print the trace while it grows (on stdout). */
extern void sched_set_trace (bool on);

/* Report and end the process with status 1.  rule: "I1", "deadlock", ... */
extern void sched_fail (const char *rule, const char *format, ...)
  __attribute__ ((__noreturn__, __format__ (__printf__, 2, 3)));

/* How to run this seed again, printed by the report. */
extern void sched_set_replay (const char *command);

/* Print the report of a run that is ending by a signal or a sanitizer. */
extern void sched_report (const char *rule, const char *what);

/*-- for hooks ----------------------------------------------------------*/

/* Can no coroutine go on before time passes or I/O is done? */
extern bool sched_stalled (void);

/* Run fn (arg) as an observer between two steps: locks cost nothing and
 * nothing switches.  Returns false, having given up half way, if fn wanted a
 * mutex that some coroutine holds.  So fn must not own anything.
 */
extern bool sched_try (void (*fn) (void *), void *arg);
extern bool sched_observing (void);
extern void sched_observer_gives_up (void) __attribute__ ((__noreturn__));

#endif /* SIM_SCHED_H */
