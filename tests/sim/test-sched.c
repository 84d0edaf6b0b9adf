/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulator's scheduler: what sync.h promises holds under every seed,
 * runs repeat exactly, and every misuse is noticed.
 *
 * A run that must fail is done in a child process, since sched_fail ends it.
 */

#include <config.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sched.h"

#define SEEDS 300
#define THREADS 4
#define ROUNDS 10

static int failures;

static void
expect (bool ok, const char *what)
{
  if (!ok) {
    fprintf (stderr, "test-sched: %s\n", what);
    failures++;
  }
}

/*-- mutual exclusion ---------------------------------------------------*/

static struct mutex lock;
static struct cond changed;
static unsigned inside, total, most_waiting;
static bool broken;

static void
enters (void *arg)
{
  unsigned i;

  (void) arg;
  for (i = 0; i < ROUNDS; i++) {
    mutex_lock (&lock);
    if (inside++ != 0)
      broken = true;
    sync_point ();
    inside--;
    total++;
    mutex_unlock (&lock);
  }
}

static void
exclusion (void *arg)
{
  struct thread t[THREADS];
  unsigned i;

  (void) arg;
  mutex_init (&lock);
  for (i = 0; i < THREADS; i++)
    if (thread_start (&t[i], "enters", enters, NULL) != 0)
      abort ();
  for (i = 0; i < THREADS; i++)
    thread_join (&t[i]);
  mutex_destroy (&lock);
}

/* The same without the mutex must go wrong under some seed, or the scheduler
 * never switches.
 */
static void
enters_unlocked (void *arg)
{
  (void) arg;
  if (inside++ != 0)
    broken = true;
  sync_point ();
  inside--;
}

static void
no_exclusion (void *arg)
{
  struct thread t[2];
  unsigned i;

  (void) arg;
  for (i = 0; i < 2; i++)
    if (thread_start (&t[i], "unlocked", enters_unlocked, NULL) != 0)
      abort ();
  for (i = 0; i < 2; i++)
    thread_join (&t[i]);
}

/*-- conditions and time ------------------------------------------------*/

static unsigned queue;

static void
consumer (void *arg)
{
  (void) arg;
  mutex_lock (&lock);
  most_waiting++;
  while (queue == 0)
    cond_wait (&changed, &lock);
  queue--;
  mutex_unlock (&lock);
}

static void
conditions (void *arg)
{
  const bool broadcast = *(bool *) arg;
  struct thread t[THREADS];
  unsigned i;

  mutex_init (&lock);
  cond_init (&changed);
  for (i = 0; i < THREADS; i++)
    if (thread_start (&t[i], "consumer", consumer, NULL) != 0)
      abort ();
  for (i = 0; i < THREADS; i++) {
    mutex_lock (&lock);
    queue++;
    if (broadcast)
      cond_broadcast (&changed);
    else
      cond_signal (&changed);
    mutex_unlock (&lock);
  }
  for (i = 0; i < THREADS; i++)
    thread_join (&t[i]);
  if (queue != 0)
    broken = true;
  cond_destroy (&changed);
  mutex_destroy (&lock);
}

static void
timeouts (void *arg)
{
  const uint64_t start = sched_clock.now_ns (&sched_clock);
  const uint64_t second = UINT64_C (1000000000);
  int r;

  (void) arg;
  mutex_init (&lock);
  cond_init (&changed);
  mutex_lock (&lock);
  do
    r = sched_clock.wait_until (&sched_clock, &changed, &lock,
                                start + 5 * second);
  while (r == 0);
  mutex_unlock (&lock);
  if (r != -ETIMEDOUT || sched_now () < start + 5 * second ||
      sched_now () > start + 6 * second)
    broken = true;
  sched_sleep (second);
  if (sched_now () < start + 6 * second)
    broken = true;
  mutex_lock (&lock);
  if (sched_clock.wait_until (&sched_clock, &changed, &lock, start)
      != -ETIMEDOUT)
    broken = true;
  mutex_unlock (&lock);
  cond_destroy (&changed);
  mutex_destroy (&lock);
}

/*-- a process that is killed -------------------------------------------*/

static unsigned lives, ends;

static void
never_ends (void *arg)
{
  char *mine = malloc (100);

  (void) arg;
  if (!mine)
    abort ();
  memset (mine, 1, 100);
  mutex_lock (&lock);
  while (mine[sched_rand (100)] == 1)
    cond_wait (&changed, &lock);
  free (mine);
}

static bool
enough (void *arg)
{
  return sched_steps () >= *(uint64_t *) arg;
}

/* Each life leaves threads in the middle of anything, a mutex that one of them
 * holds and memory; the next begins anew.
 */
static void
killed (void *arg)
{
  struct thread t[THREADS];
  uint64_t until;
  unsigned i;

  (void) arg;
  sched_be_first ();
  for (lives = 0; lives < 5; lives++) {
    mutex_init (&lock);
    cond_init (&changed);
    inside = 0;
    for (i = 0; i < THREADS; i++)
      if (thread_start (&t[i], "life", i == 0 ? never_ends : enters,
                        NULL) != 0)
        abort ();
    until = sched_steps () + sched_rand (60);
    sched_wait (enough, &until, "the end of a life");
    /* Here at once, when it was time. */
    if (sched_steps () > until + 1)
      broken = true;
    for (i = 1; i < THREADS; i++)
      ends += sched_ended (i + 1);
    sched_kill_others ();
  }
}

/*-- failures -----------------------------------------------------------*/

static void
waits_for_ever (void *arg)
{
  (void) arg;
  mutex_init (&lock);
  cond_init (&changed);
  mutex_lock (&lock);
  for (;;)
    cond_wait (&changed, &lock);
}

static void
spins_for_ever (void *arg)
{
  (void) arg;
  for (;;)
    sync_point ();
}

static void
unlocks_what_is_free (void *arg)
{
  (void) arg;
  mutex_init (&lock);
  mutex_unlock (&lock);
}

static void
locks_twice (void *arg)
{
  (void) arg;
  mutex_init (&lock);
  mutex_lock (&lock);
  mutex_lock (&lock);
}

static void
locks_what_is_gone (void *arg)
{
  (void) arg;
  mutex_init (&lock);
  mutex_destroy (&lock);
  mutex_lock (&lock);
}

static void
takes_lock (void *arg)
{
  (void) arg;
  mutex_lock (&lock);
}

static void
destroys_what_is_held (void *arg)
{
  struct thread t;

  (void) arg;
  mutex_init (&lock);
  if (thread_start (&t, "takes", takes_lock, NULL) != 0)
    abort ();
  thread_join (&t);
  mutex_destroy (&lock);
}

/* Must the run fail with this rule? */
static void
expect_failure (void (*fn) (void *), const char *rule)
{
  char report[16384], needle[64];
  size_t n = 0;
  ssize_t r;
  int fds[2], status;
  pid_t pid;

  if (pipe (fds) == -1 || (pid = fork ()) == -1)
    abort ();
  if (pid == 0) {
    dup2 (fds[1], STDERR_FILENO);
    close (fds[0]);
    sched_run (7, 1000, NULL, fn, NULL);
    _exit (0);
  }
  close (fds[1]);
  while (n < sizeof report - 1 &&
         (r = read (fds[0], report + n, sizeof report - 1 - n)) > 0)
    n += r;
  report[n] = '\0';
  close (fds[0]);
  if (waitpid (pid, &status, 0) != pid)
    abort ();
  snprintf (needle, sizeof needle, "FAILED: %s: ", rule);
  if (!WIFEXITED (status) || WEXITSTATUS (status) != 1 ||
      strstr (report, needle) == NULL || strstr (report, "seed 7") == NULL) {
    fprintf (stderr, "test-sched: should have failed with %s: %s\n", rule,
             report);
    failures++;
  }
}

/*-- the observer -------------------------------------------------------*/

static unsigned seen, not_seen, checks;

static void
look (void *arg)
{
  (void) arg;
  mutex_lock (&lock);
  if (inside != 0)
    broken = true;
  mutex_unlock (&lock);
}

static void
observe (void *arg)
{
  (void) arg;
  checks++;
  if (lock.sim == NULL)
    return;
  if (sched_try (look, NULL))
    seen++;
  else
    not_seen++;
}

int
main (void)
{
  static const struct sched_hooks hooks = { .check = observe };
  uint64_t seed, h[SEEDS], different = 0;
  bool both[] = { false, true };
  unsigned i;

  for (seed = 0; seed < SEEDS; seed++) {
    total = inside = 0;
    sched_run (seed, 100000, &hooks, exclusion, NULL);
    expect (!broken, "two threads hold one mutex");
    expect (total == THREADS * ROUNDS, "a thread did not run to its end");
    h[seed] = sched_hash ();
    different += seed > 0 && h[seed] != h[seed - 1];
    for (i = 0; i < 2; i++) {
      sched_run (seed, 100000, NULL, conditions, &both[i]);
      expect (!broken, "a wakeup was lost");
    }
    sched_run (seed, 100000, NULL, timeouts, NULL);
    expect (!broken, "a deadline came too early or too late");
    sched_run (seed, 100000, &hooks, killed, NULL);
    expect (!broken, "who is first of all was not");
    lock.sim = NULL;
  }
  expect (ends > 0 && ends < SEEDS * 5 * (THREADS - 1) / 2,
          "lives end too early or too late");
  expect (seen > 0 && not_seen > 0, "the observer saw only one side");
  expect (different > SEEDS * 9 / 10, "seeds do not make a difference");
  for (seed = SEEDS; seed-- > 0;) {
    inside = 0;
    sched_run (seed, 100000, &hooks, exclusion, NULL);
    expect (sched_hash () == h[seed], "a run did not repeat");
  }

  for (seed = 0; seed < SEEDS && !broken; seed++) {
    inside = 0;
    sched_run (seed, 100000, NULL, no_exclusion, NULL);
  }
  expect (broken, "no seed switches inside an unlocked section");

  expect_failure (waits_for_ever, "deadlock");
  expect_failure (spins_for_ever, "livelock");
  expect_failure (unlocks_what_is_free, "sync");
  expect_failure (locks_twice, "sync");
  expect_failure (locks_what_is_gone, "sync");
  expect_failure (destroys_what_is_held, "sync");
  return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
