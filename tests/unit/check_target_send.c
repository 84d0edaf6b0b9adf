/* SPDX-License-Identifier: BSD-3-Clause */
/* Who submits while another thread sends leaves its piece to that one, which
 * has done enough after some; and none is forgotten.  nbd_aio_pwrite is held up
 * here (--wrap), so that what happens meanwhile is the test's choice.  And who
 * waits until there is a piece for it has its turn.
 */

#include <config.h>

#undef NDEBUG

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <libnbd.h>

#include "cleanup.h"
#include "target-help.h"
#include "target-peer.h"
#include "target-private.h"

#define AT_ONCE 32              /* SEND_AT_ONCE of target-conn.c */
#define MANY (AT_ONCE + 20)     /* fewer than a connection has pieces */
#define SIZE 4096u

/* The first call is held until `go`; those behind it are refused by libnbd, if
 * so asked, since they go beyond the end.  From 1.18 on it calls the completion
 * then, before it returns -1.
 */
static atomic_bool hold, go, refuse, completing;
static atomic_int calls, by_first, by_main;
static pthread_t first, main_thread;

extern int64_t __real_nbd_aio_pwrite (struct nbd_handle *h, const void *buf,
                                      size_t count, uint64_t offset,
                                      nbd_completion_callback done,
                                      uint32_t flags);
extern int64_t __wrap_nbd_aio_pwrite (struct nbd_handle *h, const void *buf,
                                      size_t count, uint64_t offset,
                                      nbd_completion_callback done,
                                      uint32_t flags);

int64_t
__wrap_nbd_aio_pwrite (struct nbd_handle *h, const void *buf, size_t count,
                       uint64_t offset, nbd_completion_callback done,
                       uint32_t flags)
{
  atomic_fetch_add (&calls, 1);
  if (atomic_exchange (&hold, false)) {
    first = pthread_self ();
    while (!atomic_load (&go))
      nanosleep (&(struct timespec) { .tv_nsec = 1000000 }, NULL);
  }
  else if (atomic_load (&refuse) && atomic_load (&completing)) {
    done.callback (done.user_data, &(int) { ENOSPC });
    return -1;
  }
  else if (atomic_load (&refuse))
    offset = UINT64_C (1) << 40;
  if (pthread_equal (pthread_self (), main_thread))
    atomic_fetch_add (&by_main, 1);
  else if (pthread_equal (pthread_self (), first))
    atomic_fetch_add (&by_first, 1);
  return __real_nbd_aio_pwrite (h, buf, count, offset, done, flags);
}

struct writer {
  struct target *t;
  unsigned char buf[SIZE];
  int result;
};

static void
write_one (void *vp)
{
  struct writer *w = vp;

  memset (w->buf, 0xff, SIZE);
  w->result = run (w->t, request (TARGET_WRITE, LANE_TEE, 0, w->buf, SIZE, 0));
}

/* A thread that waits for a request. */
struct waiting {
  struct target *t;
  struct target_req *req;
  _Atomic pid_t tid;
  int result;
};

static void
wait_for_one (void *vp)
{
  struct waiting *w = vp;

  atomic_store (&w->tid, (pid_t) syscall (SYS_gettid));
  w->result = w->t->ops->wait (w->t, w->req);
}

/* Is it blocked in a system call? */
static bool
asleep (struct waiting *w)
{
  char path[64], state = '?';
  FILE *f;

  snprintf (path, sizeof path, "/proc/self/task/%d/stat",
            (int) atomic_load (&w->tid));
  f = atomic_load (&w->tid) ? fopen (path, "r") : NULL;
  if (f == NULL)
    return false;
  if (fscanf (f, "%*d (%*[^)]) %c", &state) != 1)
    state = '?';
  fclose (f);
  return state == 'S';
}

/* While a thread is held up in its call, submit n writes from here. */
static void
submit_behind (struct target *t, struct writer *w, struct thread *thread,
               struct target_req *reqs, unsigned char (*bufs)[SIZE],
               unsigned n)
{
  unsigned i;

  main_thread = pthread_self ();
  atomic_store (&calls, 0);
  atomic_store (&by_first, 0);
  atomic_store (&by_main, 0);
  atomic_store (&go, false);
  atomic_store (&hold, true);
  w->t = t;
  ck_assert_int_eq (thread_start (thread, "write", write_one, w), 0);
  EVENTUALLY (atomic_load (&calls) == 1, 20);
  for (i = 0; i < n; i++) {
    memset (bufs[i], (int) i + 1, SIZE);
    reqs[i] = request (TARGET_WRITE, LANE_TEE, 0, bufs[i], SIZE,
                       (i + 1) * SIZE);
    t->ops->submit (t, &reqs[i]);
  }
  ck_assert_int_eq (atomic_load (&calls), 1);
}

static unsigned char bufs[MANY][SIZE], disk[(MANY + 1) * SIZE];
static struct target_req reqs[MANY];

/* Few: the one that sends does it all.  Many: the watcher does the rest.  It
 * is never the one who has submitted.
 */
START_TEST (sent_by_another)
{
  const unsigned n = _i ? MANY : AT_ONCE - 1;
  struct peer p = { .size = sizeof disk, .disk = disk };
  struct thread thread;
  struct writer w;
  struct losses l;
  struct target *t;
  unsigned i;

  memset (disk, 0, sizeof disk);
  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  submit_behind (t, &w, &thread, reqs, bufs, n);
  atomic_store (&go, true);
  EVENTUALLY (atomic_load (&calls) == (int) n + 1, 20);
  for (i = 0; i < n; i++)
    ck_assert_int_eq (t->ops->wait (t, &reqs[i]), 0);
  thread_join (&thread);
  ck_assert_int_eq (w.result, 0);
  ck_assert_int_eq (atomic_load (&by_first), AT_ONCE);
  ck_assert_int_eq (atomic_load (&by_main), 0);
  for (i = 0; i < n; i++)
    ck_assert_mem_eq (&disk[(i + 1) * SIZE], bufs[i], SIZE);
  ck_assert_int_eq (l.count, 0);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* The connection ends while many wait to be sent, and with it the watcher. */
START_TEST (lost_before_sent)
{
  struct peer p = { .size = sizeof disk };
  struct thread thread;
  struct writer w;
  struct losses l;
  struct target *t;
  unsigned i;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  submit_behind (t, &w, &thread, reqs, bufs, MANY);
  peer_stop (&p);
  EVENTUALLY (l.count == 1, 20);
  atomic_store (&go, true);
  for (i = 0; i < MANY; i++)
    ck_assert_int_eq (t->ops->wait (t, &reqs[i]), -ENOTCONN);
  thread_join (&thread);
  ck_assert_int_eq (w.result, -ENOTCONN);
  t->ops->free (t);
  ck_assert_int_eq (l.count, 1);
}
END_TEST

/* What a thread waits for ends by an error that another one gets from libnbd,
 * without a word from the server: it may be asleep as the one who receives, and
 * so may one who waits behind it.
 */
START_TEST (refused_to_another)
{
  struct peer p = { .size = sizeof disk, .misdeed = READ_ONLY_NO_REPLY };
  struct thread thread, waiter[2];
  struct waiting waiting[2];
  struct writer w;
  struct losses l;
  struct target *t;
  int i;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  atomic_store (&refuse, true);
  atomic_store (&completing, _i);
  submit_behind (t, &w, &thread, reqs, bufs, 2);
  for (i = 0; i < 2; i++) {
    waiting[i] = (struct waiting) { .t = t, .req = &reqs[i] };
    ck_assert_int_eq (thread_start (&waiter[i], "wait", wait_for_one,
                                    &waiting[i]), 0);
    EVENTUALLY (asleep (&waiting[i]), 20);
  }
  atomic_store (&go, true);
  for (i = 0; i < 2; i++) {
    thread_join (&waiter[i]);
    ck_assert_int_eq (waiting[i].result, -ENOSPC);
  }
  atomic_store (&refuse, false);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
  thread_join (&thread);
  ck_assert_int_eq (w.result, -ENOTCONN);
  t->ops->free (t);
}
END_TEST

/*-- more pieces than there are -----------------------------------------*/

struct reader {
  struct target *t;
  void *buf;
  uint32_t count;
  uint64_t offset;
  struct thread thread;
  int result;
};

static void
read_some (void *vp)
{
  struct reader *r = vp;

  r->result = run (r->t, request (TARGET_READ, LANE_TEE, 0, r->buf, r->count,
                                  r->offset));
}

/* How many threads wait for a free piece of the only connection? */
static unsigned
slot_waiters (struct target *t)
{
  struct conn *c = &((struct target_session *) t)->conns[0];
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&c->lock);

  return c->slot_waiters;
}

/* Who waits for a piece gets it in its turn, also behind a request that wants
 * many of them, and whose thread is the one that receives.
 */
START_TEST (pieces_in_turn)
{
  enum { PIECES = 4 * CONN_PIECES, READERS = 3 };
  struct peer p = { .size = (PIECES + READERS) * SIZE, .block_min = 512,
                    .block_max = SIZE, .misdeed = STOP_READING };
  struct reader r[READERS];
  struct losses l;
  struct target *t;
  unsigned i;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  for (i = 0; i < READERS; i++) {
    r[i] = (struct reader) { .t = t, .count = i ? SIZE : PIECES * SIZE,
                             .offset = i ? (PIECES + i) * SIZE : 0 };
    r[i].buf = malloc (r[i].count);
    ck_assert_int_eq (thread_start (&r[i].thread, "read", read_some, &r[i]),
                      0);
    EVENTUALLY (slot_waiters (t) == i + 1, 20);
  }
  p.go = true;
  for (i = 0; i < READERS; i++) {
    thread_join (&r[i].thread);
    ck_assert_int_eq (r[i].result, 0);
    free (r[i].buf);
    if (i)
      ck_assert_uint_eq (p.seen[CONN_PIECES + i].offset, r[i].offset);
  }
  ck_assert_uint_eq (p.nr_seen, PIECES + READERS - 1);
  t->ops->free (t);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
}
END_TEST

/* Two pieces become free, by the end of the request of the one who receives,
 * and then nothing comes any more.  Both who wait for one get it, although the
 * second may be receiving by the time the first has left the other to it.
 */
START_TEST (last_free_pieces)
{
  static unsigned char buf[CONN_PIECES * SIZE];
  struct peer p = { .size = 2 * CONN_PIECES * SIZE, .block_min = 512,
                    .block_max = SIZE, .misdeed = REPLY_FEW, .when = 2 };
  struct target_req two = request (TARGET_READ, LANE_TEE, 0, buf, 2 * SIZE,
                                   0);
  struct target_req rest = request (TARGET_READ, LANE_TEE, 0, &buf[2 * SIZE],
                                    sizeof buf - 2 * SIZE, 2 * SIZE);
  struct waiting waiting = { .req = &two };
  struct reader r[2];
  struct thread thread;
  struct losses l;
  struct target *t;
  unsigned i;

  peer_start (&p);
  t = waiting.t = connect_started (p.uri, 1, &l);
  t->ops->submit (t, &two);
  t->ops->submit (t, &rest);
  ck_assert_int_eq (thread_start (&thread, "wait", wait_for_one, &waiting),
                    0);
  EVENTUALLY (asleep (&waiting), 20);
  for (i = 0; i < 2; i++) {
    r[i] = (struct reader) { .t = t, .count = SIZE, .buf = bufs[i] };
    ck_assert_int_eq (thread_start (&r[i].thread, "read", read_some, &r[i]),
                      0);
    EVENTUALLY (slot_waiters (t) == i + 1, 20);
  }
  p.go = true;
  EVENTUALLY (p.nr_seen == CONN_PIECES + 2, 20);
  thread_join (&thread);
  ck_assert_int_eq (waiting.result, 0);
  t->ops->shutdown (t);
  ck_assert_int_eq (t->ops->wait (t, &rest), -ENOTCONN);
  for (i = 0; i < 2; i++) {
    thread_join (&r[i].thread);
    ck_assert_int_eq (r[i].result, -ENOTCONN);
  }
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* The connection ends while some wait for a piece. */
START_TEST (lost_without_piece)
{
  enum { READERS = 4 };
  struct peer p = { .size = 2 * CONN_PIECES * SIZE, .block_min = 512,
                    .block_max = SIZE, .misdeed = READ_ONLY_NO_REPLY };
  struct reader r[READERS];
  struct losses l;
  struct target *t;
  unsigned i;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  for (i = 0; i < READERS; i++) {
    r[i] = (struct reader) { .t = t, .count = 2 * CONN_PIECES * SIZE };
    r[i].buf = malloc (r[i].count);
    ck_assert_int_eq (thread_start (&r[i].thread, "read", read_some, &r[i]),
                      0);
    EVENTUALLY (slot_waiters (t) == i + 1, 20);
  }
  if (_i)
    t->ops->shutdown (t);
  else
    peer_stop (&p);
  for (i = 0; i < READERS; i++) {
    thread_join (&r[i].thread);
    ck_assert_int_eq (r[i].result, -ENOTCONN);
    free (r[i].buf);
  }
  t->ops->free (t);
  ck_assert_int_eq (l.count, !_i);
  if (_i)
    peer_stop (&p);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("target_send");
  TCase *tc = tcase_create ("sending");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);
  tcase_set_timeout (tc, 120);
  tcase_add_loop_test (tc, sent_by_another, 0, 2);
  tcase_add_test (tc, lost_before_sent);
  tcase_add_loop_test (tc, refused_to_another, 0, 2);
  tcase_add_test (tc, pieces_in_turn);
  tcase_add_loop_test (tc, last_free_pieces, 0, 20);
  tcase_add_loop_test (tc, lost_without_piece, 0, 2);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
