/* SPDX-License-Identifier: BSD-3-Clause */
/* sync.h on pthreads. */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "errtext.h"
#include "sync.h"

/* A failing lock operation is a bug of ours: going on could lose data. */
static void
must (int r, const char *what)
{
  if (r != 0) {
    fprintf (stderr, "mirror: %s: %s\n", what, error_text (r));
    abort ();
  }
}

void
mutex_init (struct mutex *m)
{
  must (pthread_mutex_init (&m->pthread, NULL), "pthread_mutex_init");
}

void
mutex_destroy (struct mutex *m)
{
  must (pthread_mutex_destroy (&m->pthread), "pthread_mutex_destroy");
}

void
mutex_lock (struct mutex *m)
{
  must (pthread_mutex_lock (&m->pthread), "pthread_mutex_lock");
}

void
mutex_unlock (struct mutex *m)
{
  must (pthread_mutex_unlock (&m->pthread), "pthread_mutex_unlock");
}

void
cond_init (struct cond *c)
{
  pthread_condattr_t attr;

  must (pthread_condattr_init (&attr), "pthread_condattr_init");
  must (pthread_condattr_setclock (&attr, CLOCK_MONOTONIC),
        "pthread_condattr_setclock");
  must (pthread_cond_init (&c->pthread, &attr), "pthread_cond_init");
  pthread_condattr_destroy (&attr);
}

void
cond_destroy (struct cond *c)
{
  must (pthread_cond_destroy (&c->pthread), "pthread_cond_destroy");
}

void
cond_wait (struct cond *c, struct mutex *m)
{
  must (pthread_cond_wait (&c->pthread, &m->pthread), "pthread_cond_wait");
}

void
cond_signal (struct cond *c)
{
  must (pthread_cond_signal (&c->pthread), "pthread_cond_signal");
}

void
cond_broadcast (struct cond *c)
{
  must (pthread_cond_broadcast (&c->pthread), "pthread_cond_broadcast");
}

struct start {
  void (*fn) (void *);
  void *arg;
};

static void *
thread_main (void *vp)
{
  struct start s = *(struct start *) vp;

  free (vp);
  s.fn (s.arg);
  return NULL;
}

int
thread_start (struct thread *t, const char *name,
              void (*fn) (void *), void *arg)
{
  struct start *s = malloc (sizeof *s);
  sigset_t all, old;
  int r;

  if (s == NULL)
    return -ENOMEM;
  s->fn = fn;
  s->arg = arg;

  /* Signals are nbdkit's main thread's business.  A handler that ran here
   * would interrupt poll and nanosleep, which SA_RESTART does not cover.
   */
  sigfillset (&all);
  pthread_sigmask (SIG_SETMASK, &all, &old);
  r = pthread_create (&t->pthread, NULL, thread_main, s);
  pthread_sigmask (SIG_SETMASK, &old, NULL);
  if (r != 0) {
    free (s);
    return -r;
  }
  pthread_setname_np (t->pthread, name);
  return 0;
}

void
thread_join (struct thread *t)
{
  must (pthread_join (t->pthread, NULL), "pthread_join");
}

void
sync_point (void)
{
}

static uint64_t
monotonic_now_ns (struct clock *clock __attribute__ ((__unused__)))
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

static int
monotonic_wait_until (struct clock *clock __attribute__ ((__unused__)),
                      struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
  struct timespec ts = { .tv_sec = (time_t) (deadline_ns / 1000000000),
                         .tv_nsec = (long) (deadline_ns % 1000000000) };
  int r = pthread_cond_timedwait (&c->pthread, &m->pthread, &ts);

  if (r != ETIMEDOUT)
    must (r, "pthread_cond_timedwait");
  return -r;
}

struct clock clock_monotonic = {
  .now_ns = monotonic_now_ns,
  .wait_until = monotonic_wait_until,
};
