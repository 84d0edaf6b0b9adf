/* SPDX-License-Identifier: BSD-3-Clause */
/* Connecting to a target: how long it may take, also when the name service
 * does not answer, and what TCP is told.
 *
 * libnbd finds our getaddrinfo and connect before the C library's.
 */

#include <config.h>

#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "target-help.h"
#include "target-peer.h"
#include "target-private.h"

/* A host whose address nobody tells before `answer` is set. */
#define SLOW_HOST "slow.test"

static struct mutex lock;
static struct cond answered;
static bool answer;             /* under lock */
static atomic_uint begun, ended;        /* looking that host up */
static _Atomic pthread_t looked_up_by;   /* any host; the last */

int
getaddrinfo (const char *node, const char *service,
             const struct addrinfo *hints, struct addrinfo **res)
{
  typedef int fn (const char *, const char *, const struct addrinfo *,
                  struct addrinfo **);
  fn *real = (fn *) dlsym (RTLD_NEXT, "getaddrinfo");
  bool slow = node && strcmp (node, SLOW_HOST) == 0;
  int r;

  looked_up_by = pthread_self ();
  if (slow) {
    atomic_fetch_add (&begun, 1);
    mutex_lock (&lock);
    while (!answer)
      cond_wait (&answered, &lock);
    mutex_unlock (&lock);
  }
  r = real (slow ? "127.0.0.1" : node, service, hints, res);
  if (slow)
    atomic_fetch_add (&ended, 1);
  return r;
}

/* Connections are hung up on before anybody looks at them. */
static atomic_bool hung_up;

int
connect (int fd, const struct sockaddr *addr, socklen_t len)
{
  typedef int fn (int, const struct sockaddr *, socklen_t);
  fn *real = (fn *) dlsym (RTLD_NEXT, "connect");
  struct pollfd p = { .fd = fd, .events = POLLIN };
  int r = real (fd, addr, len);

  if (r == 0 && hung_up)
    EVENTUALLY (poll (&p, 1, 1000) == 1 && (p.revents & POLLHUP), 20);
  return r;
}

static void
tell (bool yes)
{
  mutex_lock (&lock);
  answer = yes;
  cond_broadcast (&answered);
  mutex_unlock (&lock);
}

static void
setup (void)
{
  mutex_init (&lock);
  cond_init (&answered);
  tell (false);
  begun = ended = 0;
}

static void
teardown (void)
{
  tell (true);
  EVENTUALLY (begun == ended, 20);
}

/* The URI of p with another host. */
static const char *
at_slow_host (const struct peer *p)
{
  static char uri[256];

  snprintf (uri, sizeof uri, "nbd://%s%s", SLOW_HOST,
            strchr (p->uri + strlen ("nbd://"), ':'));
  return uri;
}

/*-- TCP ----------------------------------------------------------------*/

static int
option (int fd, int level, int name)
{
  int value = -1;
  socklen_t len = sizeof value;

  ck_assert_int_eq (getsockopt (fd, level, name, &value, &len), 0);
  return value;
}

static void
watched (const struct target *target, unsigned timeout_ms, int idle,
         int interval)
{
  const struct target_session *s = (const struct target_session *) target;
  unsigned i;
  int fd;

  ck_assert_uint_eq (s->nr_conns, 3);
  for (i = 0; i < s->nr_conns; ++i) {
    fd = s->conns[i].fd;
    ck_assert_int_eq (option (fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    ck_assert_int_eq (option (fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
                      (int) timeout_ms);
    ck_assert_int_eq (option (fd, IPPROTO_TCP, TCP_KEEPIDLE), idle);
    ck_assert_int_eq (option (fd, IPPROTO_TCP, TCP_KEEPINTVL), interval);
    ck_assert_int_eq (option (fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
  }
}

/* Every connection is watched, also after a change. */
START_TEST (tcp_options)
{
  static const struct {
    unsigned timeout_ms;
    int idle, interval;
  } t[] = { { 1000, 1, 1 },     /* too short to connect in, maybe */
            { 10000, 5, 1 }, { 60000, 30, 10 }, { 3600000, 1800, 600 } };
  const unsigned n = sizeof t / sizeof t[0];
  struct peer p = { .size = MiB, .multi_conn = true, .tcp = true };
  char error[TARGET_ERROR_MAX] = "";
  struct target *target;
  unsigned i, next;

  peer_start (&p);
  for (i = 1; i < n; ++i) {
    next = (i + 1) % n;
    ck_assert_msg (target_connect (p.uri, 3, t[i].timeout_ms, &target,
                                   error) == 0, "%s", error);
    watched (target, t[i].timeout_ms, t[i].idle, t[i].interval);
    target->ops->set_timeout (target, UINT64_C (1000000) *
                              t[next].timeout_ms);
    watched (target, t[next].timeout_ms, t[next].idle, t[next].interval);
    target->ops->free (target);
  }
  peer_stop (&p);
}
END_TEST

/*-- time ---------------------------------------------------------------*/

static atomic_bool stop;

struct call {
  struct thread thread;
  const char *uri;
  _Atomic uint64_t timeout_ns;
  int result;
  double seconds;
  char error[TARGET_ERROR_MAX];
};

static void
call_main (void *vp)
{
  struct call *c = vp;
  double start = now_s ();
  struct target *target = NULL;

  c->result = target_connect_unless (&stop, c->uri, 2, &c->timeout_ns,
                                     &target, c->error);
  c->seconds = now_s () - start;
  ck_assert_int_eq (c->result == 0, target != NULL);
  if (target)
    target->ops->free (target);
}

static void
set_timeout (struct call *c, unsigned ms)
{
  c->timeout_ns = UINT64_C (1000000) * ms;
}

static void
call_start (struct call *c, const char *uri, unsigned timeout_ms)
{
  memset (c, 0, sizeof *c);
  c->uri = uri;
  set_timeout (c, timeout_ms);
  stop = false;
  ck_assert_int_eq (thread_start (&c->thread, "call", call_main, c), 0);
}

static void
expect (struct call *c, int result, const char *words)
{
  thread_join (&c->thread);
  ck_assert_msg (c->result == result, "%d: %s", c->result, c->error);
  ck_assert_msg (strstr (c->error, words) != NULL, "%s", c->error);
}

START_TEST (name_in_time)
{
  struct peer p = { .size = MiB, .multi_conn = true, .tcp = true };
  struct call c;

  peer_start (&p);
  call_start (&c, at_slow_host (&p), 60000);
  EVENTUALLY (begun == 1, 20);
  tell (true);
  expect (&c, 0, "");
  ck_assert (!pthread_equal (looked_up_by, c.thread.pthread));
  peer_stop (&p);
}
END_TEST

/* Whoever waits is told so in time; when the name comes after all nothing
 * comes of it.
 */
START_TEST (name_too_late)
{
  struct peer p = { .size = MiB, .multi_conn = true, .tcp = true };
  struct call c;

  peer_start (&p);
  call_start (&c, at_slow_host (&p), 300);
  expect (&c, -ETIMEDOUT, "slow.test");
  ck_assert_ptr_nonnull (strstr (c.error, "name service has not answered "
                                 "within 300 ms"));
  ck_assert_double_ge (c.seconds, 0.3);
  ck_assert_double_lt (c.seconds, 5);
  ck_assert_uint_eq (ended, 0);
  tell (true);
  EVENTUALLY (ended == 1, 20);
  call_start (&c, at_slow_host (&p), 20000);
  expect (&c, 0, "");
  peer_stop (&p);
}
END_TEST

START_TEST (stopped)
{
  struct peer p = { .size = MiB, .tcp = true, .misdeed = HANDSHAKE_SILENT };
  struct call c;
  int i;

  peer_start (&p);
  for (i = 0; i < 2; ++i) {
    call_start (&c, i == 0 ? at_slow_host (&p) : p.uri, 60000);
    if (i == 0)
      EVENTUALLY (begun == 1, 20);
    stop = true;
    expect (&c, -ECANCELED, "not wanted any more");
    ck_assert_double_lt (c.seconds, 30);
  }
  peer_stop (&p);
}
END_TEST

/* Its own words arrive. */
START_TEST (no_answer)
{
  struct peer p = { .size = MiB, .tcp = true, .misdeed = HANDSHAKE_SILENT };
  struct call c;

  peer_start (&p);
  call_start (&c, p.uri, 200);
  expect (&c, -ETIMEDOUT, "no answer from the server within 200 ms");
  peer_stop (&p);
}
END_TEST

/* That is no server that is unfit: it may be on its way up, or down. */
START_TEST (hung_up_at_once)
{
  struct peer p = { .size = MiB, .misdeed = HANDSHAKE_HANG_UP };
  char error[TARGET_ERROR_MAX] = "";
  struct target *target;
  int r;

  peer_start (&p);
  hung_up = true;
  r = target_connect (p.uri, 1, 20000, &target, error);
  hung_up = false;
  ck_assert_msg (r < 0 && target_is_unreachable (r) && !target_is_unfit (r),
                 "%d: %s", r, error);
  peer_stop (&p);
}
END_TEST

/* Whoever waits has changed his mind, and the message says so. */
START_TEST (less_patience)
{
  struct peer p = { .size = MiB, .tcp = true, .misdeed = HANDSHAKE_SILENT };
  struct call c;
  int i;

  peer_start (&p);
  for (i = 0; i < 2; ++i) {
    call_start (&c, i == 0 ? at_slow_host (&p) : p.uri, 600000);
    if (i == 0)
      EVENTUALLY (begun == 1, 20);
    set_timeout (&c, 300);
    expect (&c, -ETIMEDOUT, "within 300 ms");
    ck_assert_double_lt (c.seconds, 30);
  }
  peer_stop (&p);
}
END_TEST

/* Tries that cannot end do not gather. */
START_TEST (too_many)
{
  struct peer p = { .size = MiB, .tcp = true };
  struct call c;
  int i, result = 0;

  peer_start (&p);
  for (i = 0; i < 100 && result != -EBUSY; ++i) {
    call_start (&c, at_slow_host (&p), 20);
    thread_join (&c.thread);
    result = c.result;
    ck_assert (result == -ETIMEDOUT || result == -EBUSY);
  }
  ck_assert_int_eq (result, -EBUSY);
  ck_assert_ptr_nonnull (strstr (c.error, "earlier tries"));
  ck_assert_uint_ge (begun, 2);
  ck_assert_uint_lt (begun, 20);
  tell (true);
  EVENTUALLY ((call_start (&c, p.uri, 20000), thread_join (&c.thread),
               c.result == 0), 20);
  peer_stop (&p);
}
END_TEST

/* Before a fork there must be no thread. */
START_TEST (in_this_thread)
{
  const _Atomic uint64_t timeout_ns = UINT64_C (20000000000);
  struct peer p = { .size = MiB, .tcp = true };
  char error[TARGET_ERROR_MAX] = "";
  struct target *target;

  peer_start (&p);
  ck_assert_int_eq (target_connect_unless (NULL, p.uri, 1, &timeout_ns,
                                           &target, error), 0);
  ck_assert (pthread_equal (looked_up_by, pthread_self ()));
  target->ops->free (target);
  peer_stop (&p);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("target_connect");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);    /* as in nbdkit */
  tcase_set_timeout (tc, 120);
  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, tcp_options);
  tcase_add_test (tc, name_in_time);
  tcase_add_test (tc, name_too_late);
  tcase_add_test (tc, stopped);
  tcase_add_test (tc, no_answer);
  tcase_add_test (tc, hung_up_at_once);
  tcase_add_test (tc, less_patience);
  tcase_add_test (tc, too_many);
  tcase_add_test (tc, in_this_thread);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
