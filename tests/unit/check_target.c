/* SPDX-License-Identifier: BSD-3-Clause */
/* The target leg against real nbdkit servers. */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "target-help.h"
#include "target-server.h"

/* Which connections of the log filter's log did an operation?  A bit set;
 * *count: how many times.
 */
static uint64_t
log_connections (const struct server *sv, const char *op, const char *with,
                 unsigned *count)
{
  FILE *fp = fopen (sv->log, "r");
  char line[1000], word[64];
  uint64_t set = 0;
  const char *p;

  ck_assert_ptr_nonnull (fp);
  *count = 0;
  snprintf (word, sizeof word, " %s ", op);
  while (fgets (line, sizeof line, fp)) {
    p = strstr (line, "connection=");
    if (p == NULL || !strstr (line, word) || !strstr (line, with))
      continue;
    set |= UINT64_C (1) << strtoul (p + 11, NULL, 10);
    (*count)++;
  }
  fclose (fp);
  return set;
}

/*-- data ---------------------------------------------------------------*/

/* Contents that depend on place and time. */
static void
fill (void *buf, uint32_t count, uint64_t offset, unsigned salt)
{
  unsigned char *p = buf;
  uint32_t i;

  for (i = 0; i < count; ++i)
    p[i] = (unsigned char) (((offset + i) * 31 + salt)
                            ^ ((offset + i) >> 9));
}

struct writer {
  struct target *target;
  unsigned number;
  struct thread thread;
};

#define DEPTH 4
#define WRITERS 8
#define AREA (4 * MiB)

/* Write a share of the disk by requests of all sizes, several in flight, and
 * read it back over the other lane.
 */
static void
writer_main (void *vp)
{
  const struct writer *w = vp;
  const struct target_ops *ops = w->target->ops;
  const enum target_lane lane = w->number % 2 ? LANE_TEE : LANE_COPY;
  const uint64_t base = (uint64_t) w->number * AREA;
  char *buf = malloc (AREA), *back = malloc (AREA);
  struct target_req req[DEPTH];
  uint32_t pos = 0, n;
  unsigned i = 0, k, seed = w->number;

  fill (buf, AREA, base, w->number);
  for (; pos < AREA; pos += n, ++i) {
    n = 1u << (rand_r (&seed) % 19);
    n -= (unsigned) rand_r (&seed) % n;
    n = n < AREA - pos ? n : AREA - pos;
    if (i >= DEPTH)
      ck_assert_int_eq (ops->wait (w->target, &req[i % DEPTH]), 0);
    req[i % DEPTH] = request (TARGET_WRITE, lane, 0, buf + pos, n,
                              base + pos);
    ops->submit (w->target, &req[i % DEPTH]);
  }
  for (k = i < DEPTH ? 0 : i - DEPTH; k < i; ++k)
    ck_assert_int_eq (ops->wait (w->target, &req[k % DEPTH]), 0);
  ck_assert_int_eq (run (w->target, request (TARGET_FLUSH, LANE_TEE, 0,
                                             NULL, 0, 0)), 0);
  ck_assert_int_eq (run (w->target,
                         request (TARGET_READ, lane == LANE_TEE
                                  ? LANE_COPY : LANE_TEE, 0, back, AREA,
                                  base)), 0);
  ck_assert_int_eq (memcmp (buf, back, AREA), 0);
  free (buf);
  free (back);
}

static void
write_and_verify (struct target *t)
{
  struct writer w[WRITERS];
  unsigned i;

  for (i = 0; i < WRITERS; ++i) {
    w[i].target = t;
    w[i].number = i;
    ck_assert_int_eq (thread_start (&w[i].thread, "writer", writer_main,
                                    &w[i]), 0);
  }
  for (i = 0; i < WRITERS; ++i)
    thread_join (&w[i].thread);
}

START_TEST (parallel)
{
  unsigned connections = _i == 0 ? 1 : (unsigned) _i * 2;
  struct server sv;
  struct losses l;
  struct target *t;
  char *big = malloc (LEG_MAX_REQUEST), *back = malloc (LEG_MAX_REQUEST);

  server_start (&sv, "memory", "64M", NULL);
  t = connect_started (sv.uri, connections, &l);
  ck_assert_uint_eq (t->connections, connections);
  ck_assert_uint_eq (t->size, 64 * MiB);
  ck_assert (t->can_flush && t->can_fua && t->can_zero && t->can_extents
             && t->can_multi_conn);
  write_and_verify (t);

  fill (big, LEG_MAX_REQUEST, 5, 77);
  ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE, LEG_FUA, big,
                                     LEG_MAX_REQUEST, 5)), 0);
  ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0, back,
                                     LEG_MAX_REQUEST, 5)), 0);
  ck_assert_int_eq (memcmp (big, back, LEG_MAX_REQUEST), 0);

  t->ops->free (t);
  ck_assert_int_eq (l.count, 0);
  server_stop (&sv);
  free (big);
  free (back);
}
END_TEST

/* A server that refuses larger payloads than it said. */
START_TEST (splitting)
{
  struct server sv;
  struct losses l;
  struct target *t;

  server_start (&sv, "--filter=blocksize-policy", "memory", "64M",
                "blocksize-preferred=4096", "blocksize-maximum=32768",
                "blocksize-error-policy=error", NULL);
  t = connect_started (sv.uri, 4, &l);
  write_and_verify (t);
  t->ops->free (t);
  server_stop (&sv);
}
END_TEST

/* Many more requests than may be on the wire, none waited for. */
START_TEST (many_in_flight)
{
  enum { N = 1000 };
  static char buf[N * 512], back[N * 512];
  static struct target_req req[N];
  struct server sv;
  struct losses l;
  struct target *t;
  unsigned i;

  server_start (&sv, "memory", "1M", NULL);
  t = connect_started (sv.uri, 1, &l);
  fill (buf, sizeof buf, 0, 3);
  for (i = 0; i < N; ++i) {
    req[i] = request (TARGET_WRITE, i % 2, 0, buf + 512 * i, 512, 512 * i);
    t->ops->submit (t, &req[i]);
  }
  for (i = N; i-- > 0; )
    ck_assert_int_eq (t->ops->wait (t, &req[i]), 0);
  ck_assert_int_eq (run (t, request (TARGET_READ, LANE_TEE, 0, back,
                                     sizeof back, 0)), 0);
  ck_assert_int_eq (memcmp (buf, back, sizeof buf), 0);
  t->ops->free (t);
  server_stop (&sv);
}
END_TEST

/* Requests of one connection are all on the wire at once. */
START_TEST (overlap)
{
  enum { N = 12 };
  static char buf[N][512];
  struct target_req req[N];
  struct server sv;
  struct losses l;
  struct target *t;
  double start;
  unsigned i;

  server_start (&sv, "--filter=delay", "memory", "1M", "wdelay=500ms", NULL);
  t = connect_started (sv.uri, 1, &l);
  start = now_s ();
  for (i = 0; i < N; ++i) {
    req[i] = request (TARGET_WRITE, LANE_TEE, 0, buf[i], 512, 512 * i);
    t->ops->submit (t, &req[i]);
  }
  ck_assert_double_lt (now_s () - start, 0.4);
  for (i = 0; i < N; ++i)
    ck_assert_int_eq (t->ops->wait (t, &req[i]), 0);
  ck_assert_double_gt (now_s () - start, 0.49);
  ck_assert_double_lt (now_s () - start, 3);
  t->ops->free (t);
  server_stop (&sv);
}
END_TEST

/*-- flags, lanes, zeroes, errors ---------------------------------------*/

START_TEST (flags_and_lanes)
{
  static char buf[8 * KiB];
  struct server sv;
  struct losses l;
  struct target *t;
  uint64_t tee, copy, flush;
  unsigned i, n;

  server_start (&sv, "--filter=log", "memory", "1M", "@LOG", NULL);
  t = connect_started (sv.uri, 4, &l);
  for (i = 0; i < 8; ++i) {
    ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE,
                                       i == 0 ? LEG_FUA : 0, buf,
                                       sizeof buf, 0)), 0);
    ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0, buf,
                                       sizeof buf, 0)), 0);
    ck_assert_int_eq (run (t, request (TARGET_ZERO, LANE_COPY,
                                       i % 4 == 0 ? LEG_MAY_TRIM : 0, NULL,
                                       4096, 0)), 0);
    ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_COPY, 0, NULL, 0,
                                       0)), 0);
  }
  t->ops->free (t);
  server_kill (&sv);

  tee = log_connections (&sv, "Write", "offset=", &n);
  ck_assert_uint_eq (n, 8);
  log_connections (&sv, "Write", "fua=1", &n);
  ck_assert_uint_eq (n, 1);
  copy = log_connections (&sv, "Read", "offset=", &n);
  ck_assert_uint_eq (n, 8);
  ck_assert_uint_eq (tee & copy, 0);
  copy |= log_connections (&sv, "Zero", "offset=", &n);
  ck_assert_uint_eq (n, 8);
  ck_assert_uint_eq (tee & copy, 0);
  log_connections (&sv, "Zero", "trim=1", &n);
  ck_assert_uint_eq (n, 2);
  flush = log_connections (&sv, "Flush", "", &n);
  ck_assert_uint_eq (n, 8);
  ck_assert_uint_eq (flush & copy, 0);
  server_stop (&sv);
}
END_TEST

/* Zeroes where the server has no zero request, or refuses it. */
START_TEST (zero_as_data)
{
  const uint32_t size = 4 * MiB + 513;
  char *buf = malloc (size);
  struct server sv;
  struct losses l;
  struct target *t;
  uint32_t i;

  if (_i == 0)
    server_start (&sv, "--filter=nozero", "memory", "8M", NULL);
  else
    server_start (&sv, "--filter=error", "memory", "8M", "error-zero=EINVAL",
                  "error-zero-rate=100%", NULL);
  t = connect_started (sv.uri, 2, &l);
  ck_assert_int_eq (t->can_zero, _i == 1);
  memset (buf, 'x', size);
  ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE, 0, buf, size,
                                     99)), 0);
  ck_assert_int_eq (run (t, request (TARGET_ZERO, LANE_COPY, LEG_MAY_TRIM,
                                     NULL, size - 2, 100)), 0);
  ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0, buf, size,
                                     99)), 0);
  ck_assert_int_eq (buf[0], 'x');
  ck_assert_int_eq (buf[size - 1], 'x');
  for (i = 1; i < size - 1 && buf[i] == 0; ++i)
    ;
  ck_assert_uint_eq (i, size - 1);
  t->ops->free (t);
  server_stop (&sv);
  free (buf);
}
END_TEST

START_TEST (server_errors)
{
  static char buf[512];
  struct server sv;
  struct losses l;
  struct target *t;

  server_start (&sv, "--filter=error", "memory", "1M",
                "error-pwrite=ENOSPC", "error-pwrite-rate=100%",
                "error-pread=EIO", "error-pread-rate=100%", NULL);
  t = connect_started (sv.uri, 2, &l);
  ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE, 0, buf, 512,
                                     0)), -ENOSPC);
  ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0, buf, 512,
                                     0)), -EIO);
  ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0,
                                     0)), 0);
  /* Past the end of the target: libnbd refuses to send it. */
  ck_assert_int_eq (run (t, request (TARGET_READ, LANE_TEE, 0, buf, 512,
                                     1 * MiB)), -EINVAL);
  ck_assert_int_eq (l.count, 0);
  t->ops->free (t);
  server_stop (&sv);
}
END_TEST

/*-- extents ------------------------------------------------------------*/

struct sums {
  uint64_t at, data, zero;
};

static int
add_extent (void *vp, struct range r, enum extent_kind kind)
{
  struct sums *s = vp;

  ck_assert_uint_eq (r.start, s->at);
  ck_assert_uint_lt (r.start, r.end);
  s->at = r.end;
  *(kind == EXTENT_ZERO ? &s->zero : &s->data) += range_len (r);
  return 0;
}

static int
stop_scan (void *vp __attribute__ ((__unused__)),
           struct range r __attribute__ ((__unused__)),
           enum extent_kind kind __attribute__ ((__unused__)))
{
  return -ECANCELED;
}

START_TEST (extents)
{
  const uint64_t size = UINT64_C (16) << 30;
  static char buf[64 * KiB];
  struct sums s = { 0 };
  struct server sv;
  struct losses l;
  struct target *t;

  if (_i == 0)
    server_start (&sv, "memory", "16G", NULL);
  else
    server_start (&sv, "--no-sr", "memory", "16G", NULL);
  t = connect_started (sv.uri, 4, &l);
  ck_assert_int_eq (t->can_extents, _i == 0);
  memset (buf, 1, sizeof buf);
  ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE, 0, buf,
                                     sizeof buf, size / 2)), 0);
  while (s.at < size)
    ck_assert_int_eq (t->ops->extents (t, (struct range) { s.at, size },
                                       add_extent, &s), 0);
  ck_assert_uint_eq (s.at, size);
  if (_i == 0)
    ck_assert_uint_eq (s.data, sizeof buf);
  else
    ck_assert_uint_eq (s.zero, 0);
  ck_assert_int_eq (t->ops->extents (t, (struct range) { 0, size },
                                     stop_scan, NULL), -ECANCELED);
  t->ops->free (t);
  server_stop (&sv);
}
END_TEST

/*-- the end ------------------------------------------------------------*/

struct client {
  struct target *target;
  struct thread thread;
  unsigned number;
  atomic_uint *good;            /* requests that succeeded */
  atomic_bool *stop;
};

/* Keep requests in flight until the session has ended. */
static void
client_main (void *vp)
{
  static char zero[256 * KiB];
  struct client *cl = vp;
  char *in = malloc (sizeof zero);
  unsigned seed = cl->number;
  int r = 0;

  while (r == 0 && !*cl->stop) {
    uint32_t n = 1u << (9 + rand_r (&seed) % 10);
    uint64_t offset = (uint64_t) cl->number * MiB;

    switch (rand_r (&seed) % 4) {
    case 0:
      r = run (cl->target, request (TARGET_READ, cl->number % 2, 0, in, n,
                                    offset));
      break;
    case 1:
      r = run (cl->target, request (TARGET_ZERO, cl->number % 2, 0, NULL, n,
                                    offset));
      break;
    case 2:
      r = run (cl->target, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0, 0));
      break;
    default:
      r = run (cl->target, request (TARGET_WRITE, cl->number % 2, 0, zero, n,
                                    offset));
    }
    if (r == 0)
      (*cl->good)++;
  }
  ck_assert_msg (r == -ENOTCONN || *cl->stop, "%d", r);
  free (in);
}

#define CLIENTS 10

enum ending { KILL, STOP_AND_SHUTDOWN, SHUTDOWN, FREE };

/* Under load, end the session in one of the ways. */
static void
end_under_load (enum ending ending, unsigned connections, unsigned load)
{
  struct client cl[CLIENTS];
  atomic_uint good = 0;
  atomic_bool stop = false;
  struct server sv;
  struct losses l;
  struct target *t;
  double start;
  unsigned i;

  server_start (&sv, "memory", "64M", NULL);
  t = connect_started (sv.uri, connections, &l);
  for (i = 0; i < CLIENTS; ++i) {
    cl[i].target = t;
    cl[i].number = i;
    cl[i].good = &good;
    cl[i].stop = &stop;
    ck_assert_int_eq (thread_start (&cl[i].thread, "client", client_main,
                                    &cl[i]), 0);
  }
  EVENTUALLY (good > load, 20);
  if (ending == KILL)
    server_kill (&sv);
  if (ending == STOP_AND_SHUTDOWN) {
    kill (sv.pid, SIGSTOP);
    /* All clients hang: nothing ends any more. */
    do
      i = good;
    while (nanosleep (&(struct timespec) { .tv_nsec = 100000000 }, NULL) == 0
           && good != i);
  }
  start = now_s ();
  if (ending == SHUTDOWN || ending == STOP_AND_SHUTDOWN)
    t->ops->shutdown (t);
  if (ending == FREE)
    stop = true;
  for (i = 0; i < CLIENTS; ++i)
    thread_join (&cl[i].thread);
  ck_assert_double_lt (now_s () - start, ending == FREE ? 30 : 1);
  if (ending == KILL) {
    EVENTUALLY (l.count == 1, 10);
    ck_assert_int_lt (l.err, 0);
  }
  t->ops->free (t);
  ck_assert_int_eq (l.count, ending == KILL);
  server_stop (&sv);
}

START_TEST (end)
{
  static const enum ending endings[] = {
    KILL, STOP_AND_SHUTDOWN, SHUTDOWN, FREE,
  };
  unsigned i;

  for (i = 0; i < 3; ++i) {
    end_under_load (endings[_i], 4, 200 + 37 * i);
    end_under_load (endings[_i], 1, 200 + 37 * i);
  }
}
END_TEST

START_TEST (idle_death)
{
  struct server sv;
  struct losses l;
  struct target *t;

  server_start (&sv, "memory", "1M", NULL);
  t = connect_started (sv.uri, 4, &l);
  ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0,
                                     0)), 0);
  server_kill (&sv);
  EVENTUALLY (l.count == 1, 10);
  ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0,
                                     0)), -ENOTCONN);
  t->ops->free (t);
  ck_assert_int_eq (l.count, 1);
  server_stop (&sv);
}
END_TEST

START_TEST (never_started)
{
  char error[TARGET_ERROR_MAX];
  struct server sv;
  struct target *t;

  server_start (&sv, "memory", "1M", NULL);
  ck_assert_int_eq (target_connect (sv.uri, 4, 20000, &t, error), 0);
  t->ops->free (t);
  server_stop (&sv);

  server_start (&sv, "-r", "memory", "1M", NULL);
  ck_assert_int_lt (target_connect (sv.uri, 4, 20000, &t, error), 0);
  ck_assert_ptr_nonnull (strstr (error, "read-only"));
  server_stop (&sv);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("target");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);    /* as in nbdkit */
  tcase_set_timeout (tc, 240);
  tcase_add_loop_test (tc, parallel, 0, 3);
  tcase_add_test (tc, splitting);
  tcase_add_test (tc, many_in_flight);
  tcase_add_test (tc, overlap);
  tcase_add_test (tc, flags_and_lanes);
  tcase_add_loop_test (tc, zero_as_data, 0, 2);
  tcase_add_test (tc, server_errors);
  tcase_add_loop_test (tc, extents, 0, 2);
  tcase_add_loop_test (tc, end, 0, 4);
  tcase_add_test (tc, idle_death);
  tcase_add_test (tc, never_started);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
