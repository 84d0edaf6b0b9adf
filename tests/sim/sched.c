/* SPDX-License-Identifier: BSD-3-Clause */
/* The deterministic scheduler (see sched.h).
 *
 * A coroutine that is not running waits for a predicate: always true
 * (it only made room), "the mutex is free", "that coroutine has ended", or
 * one of the fake legs' own; or it sleeps on a condition, and then somebody
 * else or a deadline gives it a predicate again ("the mutex is free").  So
 * the scheduler knows who can go on by asking, nothing is queued, and who
 * gets a mutex is as random as everything else.
 *
 * A run has a style, drawn from its seed, because different bugs need
 * different schedules: how long a coroutine keeps going once it has been
 * chosen, whether some are starved for a while (priorities that change now
 * and then), how eager the I/O and the clock are, and whether conditions wake
 * up spuriously.
 *
 * Contexts are switched by context.c.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context.h"
#include "sched.h"

#define MAX_COROUTINES 512
#define NO_DEADLINE UINT64_MAX
#define STEP_NS 1000            /* time that passes with each step */
/* Deadlines that may come while there is other work; later ones mean hours. */
#define EAGER_NS UINT64_C (200000000)
#define RING 512                /* lines of trace that a report shows */

struct coroutine {
  char name[16];
  bool (*ready) (void *);       /* NULL: asleep on cond */
  void *ready_arg;
  const char *why;
  const void *asleep_on;        /* a condition, or NULL */
  bool (*then_ready) (void *);  /* once woken */
  void *then_arg;
  uint64_t deadline;
  bool timed_out;
  unsigned priority;
  struct context context;       /* last: keeps its stack for the next run */
};

struct line {
  const char *format;
  int who;
  uint64_t step, now, v[4];
};

/* How this run is scheduled. */
struct style {
  unsigned stay_percent;        /* go on with the same coroutine */
  bool priorities;
  unsigned reshuffle;           /* one step in so many */
  unsigned io_percent, jump_percent, spurious_permille;
};

static struct coroutine co[MAX_COROUTINES];
static unsigned nr_co;
static int current = -1;
static int last;                /* who ran last */
static int first_of_all;        /* see sched_be_first; -1: nobody */
static uint64_t random_state, run_seed;
static uint64_t now, steps, max_steps, hash;
static struct style style;
static struct sched_hooks hooks;
static struct line ring[RING];
static uint64_t lines;
static bool print_trace;
static char replay[256];

static char sleepers;           /* what sched_sleep sleeps on */

static bool observing;
static jmp_buf observer_gives_up;

/*-- random numbers: splitmix64 -----------------------------------------*/

static uint64_t
mix (uint64_t z)
{
  z = (z ^ (z >> 30)) * UINT64_C (0xbf58476d1ce4e5b9);
  z = (z ^ (z >> 27)) * UINT64_C (0x94d049bb133111eb);
  return z ^ (z >> 31);
}

uint64_t
sched_rand (uint64_t n)
{
  assert (n > 0);
  random_state += UINT64_C (0x9e3779b97f4a7c15);
  return mix (random_state) % n;
}

bool
sched_percent (unsigned percent)
{
  return sched_rand (100) < percent;
}

/*-- trace and failure --------------------------------------------------*/

static const char *
name_of (int who)
{
  return who < 0 ? "-" : co[who].name;
}

static void
print_line (FILE *fp, const struct line *l)
{
  fprintf (fp, "%8llu %12.6f %-15s ", (unsigned long long) l->step,
           (double) l->now / 1e9, name_of (l->who));
  /* The formats are constants of this directory. */
  fprintf (fp, l->format ? l->format : "?", (unsigned long long) l->v[0],
           (unsigned long long) l->v[1], (unsigned long long) l->v[2],
           (unsigned long long) l->v[3]);
  fputc ('\n', fp);
}

static void
add_to_hash (uint64_t v)
{
  hash = mix (hash + v + UINT64_C (0x9e3779b97f4a7c15));
}

void
sched_trace (const char *format, uint64_t a, uint64_t b, uint64_t c,
             uint64_t d)
{
  struct line *l = &ring[lines++ % RING];
  const char *p;

  *l = (struct line) { format, current, steps, now, { a, b, c, d } };
  for (p = format; *p; p++)
    add_to_hash ((unsigned char) *p);
  add_to_hash (a);
  add_to_hash (b);
  add_to_hash (c);
  add_to_hash (d);
  if (print_trace)
    print_line (stdout, l);
}

void
sched_set_trace (bool on)
{
  print_trace = on;
}

void
sched_set_replay (const char *command)
{
  snprintf (replay, sizeof replay, "%s", command);
}

static const char *
what_it_waits_for (const struct coroutine *c)
{
  if (c->context.ended)
    return "ended";
  if (c->ready == NULL)
    return c->deadline == NO_DEADLINE ? "a condition"
      : "a condition, with a deadline";
  return c->ready (c->ready_arg) ? "nothing" : c->why;
}

void
sched_report (const char *rule, const char *what)
{
  uint64_t i;
  unsigned j;

  fflush (stdout);
  for (i = lines > RING ? lines - RING : 0; i < lines; i++)
    print_line (stderr, &ring[i % RING]);
  for (j = 0; j < nr_co; j++)
    if (!co[j].context.ended)
      fprintf (stderr, "coroutine %u %s%s waits for: %s\n", j, co[j].name,
               (int) j == current ? " (running)" : "",
               what_it_waits_for (&co[j]));
  fprintf (stderr, "\nFAILED: %s: %s\n", rule, what);
  fprintf (stderr, "seed %llu, step %llu, time %.6f, trace hash %016llx\n",
           (unsigned long long) run_seed, (unsigned long long) steps,
           (double) now / 1e9, (unsigned long long) hash);
  if (replay[0])
    fprintf (stderr, "again: %s\n", replay);
  fflush (stderr);
}

void
sched_fail (const char *rule, const char *format, ...)
{
  char text[512];
  va_list args;

  va_start (args, format);
  vsnprintf (text, sizeof text, format, args);
  va_end (args);
  sched_report (rule, text);
  _exit (1);
}

/*-- switching ----------------------------------------------------------*/

static bool
always (void *arg)
{
  (void) arg;
  return true;
}

int
sched_spawn (const char *name, void (*fn) (void *), void *arg)
{
  struct coroutine *c;

  if (nr_co == MAX_COROUTINES)
    return -EAGAIN;
  c = &co[nr_co];
  if (context_init (&c->context, fn, arg) < 0)
    return -EAGAIN;
  memset (c, 0, offsetof (struct coroutine, context));
  snprintf (c->name, sizeof c->name, "%s", name);
  c->ready = always;
  c->why = "nothing";
  c->deadline = NO_DEADLINE;
  c->priority = sched_rand (1000);
  return nr_co++;
}

void
sched_wait (bool (*ready) (void *), void *arg, const char *why)
{
  struct coroutine *c = &co[current];

  assert (current >= 0);
  do {
    c->ready = ready;
    c->ready_arg = arg;
    c->why = why;
    context_leave (&c->context);
  } while (!ready (arg));
}

/* A sleeper on a condition is to go on, as soon as it gets its mutex. */
static void
wake (struct coroutine *c, bool timed_out)
{
  c->timed_out = timed_out;
  c->asleep_on = NULL;
  c->deadline = NO_DEADLINE;
  c->ready = c->then_ready;
  c->why = "the mutex of a condition";
  c->ready_arg = c->then_arg;
}

bool
sched_sleep_on (const void *channel, uint64_t deadline,
                bool (*then_ready) (void *), void *then_arg)
{
  struct coroutine *c = &co[current];

  assert (current >= 0 && !observing);
  c->asleep_on = channel;
  c->deadline = deadline;
  c->then_ready = then_ready;
  c->then_arg = then_arg;
  c->ready = NULL;
  if (deadline <= now)
    wake (c, true);
  do
    context_leave (&c->context);
  while (!then_ready (then_arg));
  return !c->timed_out;
}

void
sched_wake_on (const void *channel, bool all)
{
  unsigned i, n = 0, chosen = 0;

  for (i = 0; i < nr_co; i++) {
    if (co[i].context.ended || co[i].asleep_on != channel)
      continue;
    if (all)
      wake (&co[i], false);
    else if (sched_rand (++n) == 0)
      chosen = i;
  }
  if (n > 0)
    wake (&co[chosen], false);
}

bool
sched_anybody_on (const void *channel)
{
  unsigned i;

  for (i = 0; i < nr_co; i++)
    if (!co[i].context.ended && co[i].asleep_on == channel)
      return true;
  return false;
}

bool
sched_anybody_wants (const void *arg)
{
  unsigned i;

  for (i = 0; i < nr_co; i++)
    if (!co[i].context.ended && (int) i != current &&
        (co[i].ready ? co[i].ready_arg : co[i].then_arg) == arg)
      return true;
  return false;
}

void
sched_be_first (void)
{
  first_of_all = current;
}

void
sched_kill_others (void)
{
  assert (current == 0);
  sched_trace ("all others are killed", 0, 0, 0, 0);
  while (nr_co > 1)
    context_abandon (&co[--nr_co].context);
  last = 0;
}

void
sched_sleep (uint64_t ns)
{
  const uint64_t until = now + ns;

  while (now < until)
    sched_sleep_on (&sleepers, until, always, NULL);
}

bool
sched_ended (int who)
{
  return co[who].context.ended;
}

bool
sched_observing (void)
{
  return observing;
}

void
sched_observer_gives_up (void)
{
  longjmp (observer_gives_up, 1);
}

void
sched_yield_here (void)
{
  if (!observing && current >= 0)
    sched_wait (always, NULL, "nothing");
}

int
sched_self (void)
{
  return current;
}

/*-- the scheduler ------------------------------------------------------*/

static bool
can_go_on (const struct coroutine *c)
{
  return !c->context.ended && c->ready && c->ready (c->ready_arg);
}

bool
sched_stalled (void)
{
  unsigned i;

  for (i = 0; i < nr_co; i++)
    if (can_go_on (&co[i]))
      return false;
  return true;
}

static uint64_t
next_deadline (void)
{
  uint64_t d = hooks.io_deadline ? hooks.io_deadline (hooks.opaque)
    : NO_DEADLINE;
  unsigned i;

  for (i = 0; i < nr_co; i++)
    if (!co[i].context.ended && co[i].deadline < d)
      d = co[i].deadline;
  return d;
}

static void
advance_to (uint64_t t)
{
  unsigned i;

  if (t > now)
    now = t;
  for (i = 0; i < nr_co; i++)
    if (!co[i].context.ended && co[i].deadline <= now)
      wake (&co[i], true);
}

static void
jump (uint64_t deadline)
{
  /* Sometimes late, as real timers are. */
  if (sched_percent (30))
    deadline += sched_rand (2000000);
  advance_to (deadline);
  sched_trace ("time jumps to %llu ns", now, 0, 0, 0);
}

static void
wake_one_spuriously (void)
{
  unsigned i, n = 0, pick = 0;

  for (i = 0; i < nr_co; i++)
    if (!co[i].context.ended && co[i].asleep_on && sched_rand (++n) == 0)
      pick = i;
  if (n > 0)
    wake (&co[pick], false);
}

/* One of the n coroutines in list. */
static int
pick (const int *list, unsigned n)
{
  unsigned i;
  int best = list[0];

  if (sched_percent (style.stay_percent))
    for (i = 0; i < n; i++)
      if (list[i] == last)
        return last;
  if (!style.priorities)
    return list[sched_rand (n)];
  if (sched_rand (style.reshuffle) == 0)
    co[list[sched_rand (n)]].priority = sched_rand (1000);
  for (i = 1; i < n; i++)
    if (co[list[i]].priority > co[best].priority)
      best = list[i];
  /* Nobody is starved for ever: who runs loses rank in the end. */
  if (sched_rand (style.reshuffle) == 0)
    co[best].priority = 0;
  return best;
}

static void
go_on_with (int who)
{
  last = who;
  add_to_hash (last);
  current = last;
  context_enter (&co[last].context);
  current = -1;
}

/* Returns false when all coroutines have ended. */
static bool
step (void)
{
  int list[MAX_COROUTINES];
  unsigned i, n = 0, alive = 0;
  size_t io = hooks.io_pending ? hooks.io_pending (hooks.opaque) : 0;
  uint64_t deadline = next_deadline ();

  for (i = 0; i < nr_co; i++) {
    alive += !co[i].context.ended;
    if (can_go_on (&co[i]))
      list[n++] = i;
  }
  if (alive == 0)
    return false;
  if (++steps > max_steps)
    sched_fail ("livelock", "still going on after %llu steps",
                (unsigned long long) max_steps);
  advance_to (now + STEP_NS);

  if (n == 0 && io == 0 && deadline == NO_DEADLINE)
    sched_fail ("deadlock", "no coroutine can go on");
  if (first_of_all >= 0 && can_go_on (&co[first_of_all]))
    go_on_with (first_of_all);
  else if ((n == 0 && io == 0) ||
           (deadline - now < EAGER_NS && sched_percent (style.jump_percent)))
    jump (deadline);
  else if (io > 0 && (n == 0 || sched_percent (style.io_percent)))
    hooks.io_step (hooks.opaque);
  else {
    if (sched_rand (1000) < style.spurious_permille)
      wake_one_spuriously ();
    go_on_with (pick (list, n));
  }
  if (hooks.check)
    hooks.check (hooks.opaque);
  return true;
}

static void
draw_style (void)
{
  static const unsigned stay[] = { 0, 0, 50, 90, 98 };
  static const unsigned io[] = { 5, 20, 20, 50, 90 };
  static const unsigned jumps[] = { 0, 0, 1, 5 };
  static const unsigned shuffle[] = { 16, 64, 256 };

  style.stay_percent = stay[sched_rand (5)];
  style.priorities = sched_percent (40);
  style.reshuffle = shuffle[sched_rand (3)];
  style.io_percent = io[sched_rand (5)];
  style.jump_percent = jumps[sched_rand (4)];
  style.spurious_permille = sched_percent (25) ? 2 : 0;
}

void
sched_run (uint64_t seed, uint64_t limit, const struct sched_hooks *h,
           void (*fn) (void *), void *arg)
{
  static const struct sched_hooks no_hooks;

  run_seed = seed;
  random_state = mix (seed);
  steps = lines = hash = 0;
  last = 0;
  first_of_all = -1;
  now = UINT64_C (1000000000) + sched_rand (1000000000);
  max_steps = limit;
  hooks = h ? *h : no_hooks;
  nr_co = 0;
  draw_style ();
  if (sched_spawn ("main", fn, arg) != 0)
    abort ();
  while (step ())
    ;
}

uint64_t
sched_hash (void)
{
  return hash;
}

uint64_t
sched_steps (void)
{
  return steps;
}

uint64_t
sched_now (void)
{
  return now;
}

bool
sched_try (void (*fn) (void *), void *arg)
{
  volatile bool done = false;

  assert (current == -1 && !observing);
  observing = true;
  if (setjmp (observer_gives_up) == 0) {
    fn (arg);
    done = true;
  }
  observing = false;
  return done;
}
