/* SPDX-License-Identifier: BSD-3-Clause */
/* The thread of online verify; see verify.h.  What it does with one piece, and
 * why there are no false alarms, is in compare.c.
 *
 * It goes over the disk from the beginning to the end, again and again, until
 * all has been compared.  After some rounds in a row in which nothing could be
 * compared (all that is left is dirty, each time) it ends, and what is left
 * was not compared.
 *
 * `busy`: between asking for leave and the end of the piece.  Who first makes
 * leave say VERIFY_WAIT and then waits until it is not busy knows that nothing
 * is compared.
 *
 * Lock: number 2 in the order of job.h.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "compare.h"
#include "pace.h"
#include "verify.h"

/* How long to wait when leave is not given, and between two rounds. */
#define LEAVE_NS UINT64_C (100000000)
#define ROUND_NS UINT64_C (200000000)

/* Rounds in a row in which nothing could be compared. */
#define FRUITLESS_ROUNDS 10

struct verifier {
  /* Constant. */
  struct verify_env env;
  struct dirty *touched;        /* see pair.h: lives as long as the pair */

  struct mutex lock;
  struct cond wake;             /* for the thread: stop or ending */
  struct cond quiet;            /* not busy, or not starting, any more */

  /* Protected by lock. */
  bool starting, ending;
  bool stop;
  bool busy;
  bool have_thread;             /* to be joined */
  struct thread thread;
  struct mirror_verify_status st;

  /* The thread's. */
  struct pace pace;
  struct comparer comparer;
};

static uint64_t
now_ns (struct verifier *v)
{
  return v->env.p->clock->now_ns (v->env.p->clock);
}

/*-- waiting ------------------------------------------------------------*/

/* Returns false if it is to end. */
static bool
rest (struct verifier *v, uint64_t ns)
{
  struct clock *clock = v->env.p->clock;
  uint64_t deadline = now_ns (v) + ns;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  while (ns > 0 && !v->stop && !v->ending &&
         clock->wait_until (clock, &v->wake, &v->lock, deadline) == 0)
    ;
  return !v->stop && !v->ending;
}

static bool
is_ending (struct verifier *v)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  return v->ending;
}

static void
set_busy (struct verifier *v, bool busy)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  v->busy = busy;
  if (!busy)
    cond_broadcast (&v->quiet);
}

static void
set_error (struct verifier *v, const char *error)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  snprintf (v->st.error, sizeof v->st.error, "%s", error);
}

/* Block until a piece may be compared: then it is busy.  Returns false, with
 * the error set, if it is to end.
 */
static bool
get_leave (struct verifier *v)
{
  enum verify_leave leave;
  const char *why = "stopped";
  uint64_t ns = 0;

  while (rest (v, ns)) {
    set_busy (v, true);
    leave = v->env.leave (v->env.opaque, &why);
    ns = leave == VERIFY_GO ? pace_delay_ns (&v->pace, now_ns (v)) : LEAVE_NS;
    if (ns == 0)
      return true;
    set_busy (v, false);
    if (leave == VERIFY_END)
      break;
  }
  if (is_ending (v))            /* it knows better why */
    v->env.leave (v->env.opaque, &why);
  set_error (v, why);
  return false;
}

/*-- the thread ---------------------------------------------------------*/

static bool
goes_on (void *opaque)
{
  struct verifier *v = opaque;
  const char *why;

  return v->env.leave (v->env.opaque, &why) != VERIFY_END;
}

static void
show (struct verifier *v)
{
  const struct comparer *c = &v->comparer;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  v->st.bytes = c->bytes;
  v->st.differences = c->differences;
  memcpy (v->st.first, c->first, sizeof c->first);
}

/* A leg has failed. */
static void
fail (struct verifier *v, int err)
{
  struct pair *p = v->env.p;
  const char *why = v->comparer.error;

  if (err == -ENOTCONN) {
    p->failed (p->opaque, SIDE_TARGET, false, "read", (struct range) { 0, 0 },
               err);
    why = "the target was lost";
    v->env.leave (v->env.opaque, &why);
  }
  set_error (v, why);
}

static void
verify_disk (struct verifier *v)
{
  struct comparer *c = &v->comparer;
  uint64_t read, before = 0;
  unsigned fruitless = 0;
  int r;

  while (get_leave (v)) {
    read = c->read;
    r = compare_piece (c);
    pace_take (&v->pace, c->read - read, now_ns (v));
    show (v);
    if (r < 0)
      fail (v, r);
    set_busy (v, false);
    if (r < 0)
      return;
    if (r == 0)
      continue;

    fruitless = c->bytes > before ? 0 : fruitless + 1;
    before = c->bytes;
    if (compare_rewind (c) == 0 || fruitless == FRUITLESS_ROUNDS)
      return;
    rest (v, ROUND_NS);
  }
}

static void
verifier_main (void *vp)
{
  struct verifier *v = vp;
  struct mirror_verify_status st;

  verify_disk (v);
  comparer_clear (&v->comparer);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

    v->st.running = false;
  }
  verifier_status (v, &st);
  v->env.completed (v->env.opaque, &st);
}

/*-- life ---------------------------------------------------------------*/

struct verifier *
verifier_new (const struct verify_env *env)
{
  struct verifier *v = calloc (1, sizeof *v);

  if (!v)
    return NULL;
  v->env = *env;
  mutex_init (&v->lock);
  cond_init (&v->wake);
  cond_init (&v->quiet);
  v->touched = dirty_new (env->p->size, env->p->granularity, NULL);
  if (!v->touched) {
    verifier_free (v);
    return NULL;
  }
  return v;
}

/* The thread of the last one is joined, if there was one. */
static int
begin_start (struct verifier *v)
{
  bool have;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

    if (v->ending)
      return -ECANCELED;
    if (v->starting || v->st.running)
      return -EALREADY;
    v->starting = true;
    have = v->have_thread;
    v->have_thread = false;
  }
  if (have)
    thread_join (&v->thread);
  return 0;
}

int
verifier_start (struct verifier *v, bool repair, uint64_t speed,
                uint64_t unit)
{
  int r = begin_start (v);

  if (r < 0)
    return r;
  v->comparer = (struct comparer) {
    .p = v->env.p, .source = v->env.source, .gate = v->env.gate,
    .touched = v->touched, .repair = repair,
    .goes_on = goes_on, .opaque = v, .unit = unit,
  };
  pace_init (&v->pace, speed, now_ns (v));
  r = comparer_init (&v->comparer);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);
  v->starting = false;
  cond_broadcast (&v->quiet);
  if (r == 0 && v->ending)
    r = -ECANCELED;
  if (r == 0)
    r = thread_start (&v->thread, "mirror-verify", verifier_main, v);
  if (r < 0) {
    comparer_clear (&v->comparer);
    return r;
  }
  v->have_thread = true;
  v->stop = false;
  v->st = (struct mirror_verify_status) {
    .set = true, .running = true, .repair = repair, .speed = speed,
  };
  return 0;
}

int
verifier_stop (struct verifier *v)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  if (!v->st.running)
    return -ENOENT;
  v->stop = true;
  cond_signal (&v->wake);
  return 0;
}

void
verifier_quiesce (struct verifier *v)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  while (v->busy)
    cond_wait (&v->quiet, &v->lock);
}

void
verifier_end (struct verifier *v)
{
  bool have;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

    v->ending = true;
    cond_signal (&v->wake);
    while (v->starting)
      cond_wait (&v->quiet, &v->lock);
    have = v->have_thread;
    v->have_thread = false;
  }
  if (have)
    thread_join (&v->thread);
}

void
verifier_free (struct verifier *v)
{
  if (!v)
    return;
  dirty_free (v->touched);
  cond_destroy (&v->quiet);
  cond_destroy (&v->wake);
  mutex_destroy (&v->lock);
  free (v);
}

void
verifier_status (struct verifier *v, struct mirror_verify_status *st)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&v->lock);

  *st = v->st;
  st->left = v->env.p->size - st->bytes;
}
