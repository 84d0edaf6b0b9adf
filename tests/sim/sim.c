/* SPDX-License-Identifier: BSD-3-Clause */
/* The simulator's command line:
 *
 *   sim --seed N [--trace]        one run
 *   sim --seeds A..B              many; ends at the first that fails
 *       --keep-going              ... or counts them
 *       --twice                   each one twice: the trace must be the same
 *   sim --scenario NAME ...       not a random profile but this one; over all
 *                                 seeds the situation that it is named after
 *                                 must have occurred
 *   sim --lie ...                 the target lies: some run must fail
 *   sim --steps N                 after so many a run is called a livelock
 *   sim --list                    the scenarios
 *
 * Exit status: 0 all good, 1 a rule is broken, 2 usage, 3 the situation never
 * occurred; an assertion or a sanitizer keeps its own.
 */

#include <config.h>

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "scenarios.h"
#include "sched.h"
#include "sim.h"

#define MAX_STEPS UINT64_C (3000000)
#define MAX_SECONDS 60          /* of processor time for one run */

/* Shared with the processes that do the runs. */
static struct totals {
  uint64_t runs, steps, looks, blind, seen[NR_WITNESSES];
  uint64_t hash;                /* of the last run */
} *totals;

static struct sim sim;
static const struct scenario *scenario;
static uint64_t max_steps = MAX_STEPS;
static bool twice, keep_going, lie;

/*-- one run ------------------------------------------------------------*/

static size_t
io_pending (void *vp)
{
  return world_io_pending (&((struct sim *) vp)->w);
}

static void
io_step (void *vp)
{
  world_io_step (&((struct sim *) vp)->w);
}

static uint64_t
io_deadline (void *vp)
{
  return world_io_deadline (&((struct sim *) vp)->w);
}

/* Once in a process: sim is all zero, and so is everything else. */
static void
run_seed (uint64_t seed)
{
  static const struct sched_hooks hooks = {
    .io_pending = io_pending, .io_step = io_step,
    .io_deadline = io_deadline, .check = checks_step, .opaque = &sim,
  };
  const struct itimerval limit = { .it_value.tv_sec = MAX_SECONDS };
  uint64_t target_size;
  char again[128];
  unsigned i;

  snprintf (again, sizeof again, "sim%s%s%s --seed %" PRIu64 " --trace",
            lie ? " --lie" : "", scenario ? " --scenario " : "",
            scenario ? scenario->name : "", seed);
  sched_set_replay (again);
  profile_draw (&sim.p, seed, scenario);
  sim.granularity = sim.p.granularity;
  sim.size = profile_size (&sim.p, seed);
  target_size = round_up_p2 (sim.size, sim.p.block);
  if (seed % 3 == 0)
    target_size += sim.p.block > 512 ? sim.p.block : 512;
  world_init (&sim.w, sim.size, target_size, sim.p.block);
  sim.w.faults = sim.p.faults;
  if (lie)
    sim.w.faults.lie = 5;

  setitimer (ITIMER_VIRTUAL, &limit, NULL);
  sched_run (seed, max_steps, &hooks, sim_drive, &sim);

  totals->runs++;
  totals->steps += sched_steps ();
  totals->looks += sim.looks;
  totals->blind += sim.blind;
  for (i = 0; i < NR_WITNESSES; i++)
    totals->seen[i] += sim.w.seen[i];
  totals->hash = sched_hash ();
}

/* In a child process, so that every run begins with the same heap: the order
 * of locks may depend on the order of addresses.  Returns whether it was good.
 */
static bool
run_apart (uint64_t seed)
{
  int status;
  pid_t pid;

  fflush (NULL);
  pid = fork ();
  if (pid == -1) {
    perror ("fork");
    exit (EXIT_FAILURE);
  }
  if (pid == 0) {
    run_seed (seed);
    exit (0);
  }
  if (waitpid (pid, &status, 0) != pid) {
    perror ("waitpid");
    exit (EXIT_FAILURE);
  }
  if (status == 0)
    return true;
  if (!keep_going)
    exit (WIFEXITED (status) ? WEXITSTATUS (status)
          : 128 + WTERMSIG (status));
  return false;
}

static bool
run (uint64_t seed)
{
  uint64_t hash;

  if (!run_apart (seed))
    return false;
  if (!twice)
    return true;
  hash = totals->hash;
  if (!run_apart (seed))
    return false;
  if (totals->hash != hash) {
    fprintf (stderr, "FAILED: sim: the second run of seed %" PRIu64
             " was another one\n", seed);
    if (!keep_going)
      exit (1);
    return false;
  }
  return true;
}

/*-- signals ------------------------------------------------------------*/

static void
on_signal (int sig)
{
  static volatile sig_atomic_t again;

  signal (sig, SIG_DFL);
  if (!again) {
    again = 1;
    sched_report (sig == SIGABRT ? "assert" : sig == SIGVTALRM ? "stuck"
                  : "crash",
                  sig == SIGABRT ? "the program has aborted"
                  : sig == SIGVTALRM ? "a coroutine does not give way"
                  : "the program has crashed");
  }
  raise (sig);
}

static void
catch_signals (void)
{
  static char stack[64 << 10];
  const stack_t alternative = { .ss_sp = stack, .ss_size = sizeof stack };
  struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

  sigaltstack (&alternative, NULL);
  sigaction (SIGABRT, &sa, NULL);
  sigaction (SIGVTALRM, &sa, NULL);
#ifndef __SANITIZE_ADDRESS__
  sigaction (SIGSEGV, &sa, NULL);
  sigaction (SIGBUS, &sa, NULL);
#endif
}

/*-- options ------------------------------------------------------------*/

static void
list (void)
{
  const struct scenario *s;

  for (s = scenarios; s->name; s++)
    printf ("%-12s %s\n", s->name, s->what);
}

static void __attribute__ ((__noreturn__))
usage (void)
{
  fprintf (stderr, "usage: sim --seed N | --seeds A..B [--scenario NAME] "
           "[--steps N] [--trace] [--twice] [--keep-going] [--lie]\n"
           "       sim --list\n");
  exit (2);
}

static uint64_t
number (const char *s, char **end)
{
  if (*s < '0' || *s > '9')
    usage ();
  return strtoull (s, end, 0);
}

static void
parse_seeds (const char *arg, uint64_t *first, uint64_t *last)
{
  char *end;

  *first = *last = number (arg, &end);
  if (strncmp (end, "..", 2) == 0)
    *last = number (end + 2, &end);
  if (*end != '\0' || *last < *first)
    usage ();
}

static void
parse (int argc, char *argv[], uint64_t *first, uint64_t *last)
{
  static const struct option options[] = {
    { "seed", required_argument, NULL, 's' },
    { "seeds", required_argument, NULL, 's' },
    { "steps", required_argument, NULL, 'n' },
    { "scenario", required_argument, NULL, 'c' },
    { "trace", no_argument, NULL, 't' },
    { "twice", no_argument, NULL, '2' },
    { "keep-going", no_argument, NULL, 'k' },
    { "lie", no_argument, NULL, 'L' },
    { "list", no_argument, NULL, 'l' },
    { NULL, 0, NULL, 0 },
  };
  bool have_seeds = false;
  char *end;
  int c;

  while ((c = getopt_long (argc, argv, "", options, NULL)) != -1)
    switch (c) {
    case 's':
      parse_seeds (optarg, first, last);
      have_seeds = true;
      break;
    case 'n':
      max_steps = number (optarg, &end);
      break;
    case 'c':
      scenario = scenario_find (optarg);
      if (!scenario)
        usage ();
      break;
    case 't':
      sched_set_trace (true);
      break;
    case '2':
      twice = true;
      break;
    case 'k':
      keep_going = true;
      break;
    case 'L':
      lie = true;
      break;
    case 'l':
      list ();
      exit (0);
    default:
      usage ();
    }
  if (optind < argc || !have_seeds)
    usage ();
}

static void
nothing (void *arg)
{
  (void) arg;
}

int
main (int argc, char *argv[])
{
  static char out[BUFSIZ];
  uint64_t first = 0, last = 0, seed, bad = 0;

  /* Neither this nor the trace takes anything from the heap. */
  setvbuf (stdout, out, _IOFBF, sizeof out);
  parse (argc, argv, &first, &last);
  totals = mmap (NULL, sizeof *totals, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (totals == MAP_FAILED) {
    perror ("mmap");
    return EXIT_FAILURE;
  }
  catch_signals ();
  /* AddressSanitizer warns of the first switch: once is enough. */
  sched_run (0, 1000, NULL, nothing, NULL);
  if (first == last && !twice && !keep_going)
    run_seed (first);           /* for debuggers */
  else
    for (seed = first; seed <= last; seed++)
      bad += !run (seed);
  if (bad > 0) {
    printf ("%" PRIu64 " of %" PRIu64 " seeds failed\n", bad,
            last - first + 1);
    return EXIT_FAILURE;
  }

  printf ("%s: seeds %" PRIu64 "..%" PRIu64 " good: %" PRIu64 " runs, %"
          PRIu64 " steps, %" PRIu64 "%% of them unseen, last trace %016"
          PRIx64 "\n", scenario ? scenario->name : "random", first, last,
          totals->runs, totals->steps,
          totals->looks ? totals->blind * 100 / totals->looks : 0,
          totals->hash);
  if (scenario && totals->seen[scenario->witness] == 0) {
    printf ("%s: the situation (%s) never occurred\n", scenario->name,
            scenario->what);
    return 3;
  }
  return 0;
}
