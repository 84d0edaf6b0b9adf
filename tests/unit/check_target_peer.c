/* SPDX-License-Identifier: BSD-3-Clause */
/* The target leg against servers that misbehave, and its error lines. */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "target-help.h"
#include "target-peer.h"

static void
expect_refusal (const char *uri, unsigned connections, unsigned timeout_ms,
                const char *words)
{
  char error[TARGET_ERROR_MAX] = "";
  struct target *t = NULL;
  int r = target_connect (uri, connections, timeout_ms, &t, error);

  ck_assert_int_lt (r, 0);
  ck_assert_ptr_null (t);
  ck_assert_msg (strstr (error, words) != NULL, "%s: not in: %s", words,
                 error);
  ck_assert_ptr_null (strchr (error, '\n'));
}

/*-- URIs ---------------------------------------------------------------*/

START_TEST (public_uri)
{
  static const struct {
    const char *uri, *public;
  } t[] = {
    { "nbd://host/export", "nbd://host/export" },
    { "nbd://me@host:10809/e", "nbd://host:10809/e" },
    { "nbd://me:pa@ss@host", "nbd://host" },
    { "nbds://u@host/e@mail?tls-psk-file=/etc/k", "nbds://host/e@mail" },
    { "nbd+unix:///?socket=/s", "nbd+unix:///?socket=/s" },
    { "nbd+unix:///e?tls-certificates=/c&socket=/s",
      "nbd+unix:///e?socket=/s" },
    { "nbd+unix:///e?socket=/s;tls-psk-file=/k&x=y",
      "nbd+unix:///e?socket=/s" },
    { "nbd+unix:///?%74ls-psk-file=/k&SOCKET=/s",
      "nbd+unix:///?SOCKET=/s" },
    { "nbd://h?", "nbd://h" },
    { "nbd://h?&&socket=", "nbd://h?socket=" },
    { "nbd://h#frag@ment", "nbd://h" },
    { "user:pw@host", "host" },
    { "nbd://", "nbd://" },
    { "", "" },
    { "?socket=%", "?socket=%" },
  };
  size_t i;
  char *s;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    s = target_public_uri (t[i].uri);
    ck_assert_str_eq (s, t[i].public);
    free (s);
  }
}
END_TEST

START_TEST (refused_uris)
{
  char error[TARGET_ERROR_MAX], uri[2000];
  struct target *t = NULL;

  expect_refusal ("nbds://localhost", 1, 1000, "TLS");
  expect_refusal ("NBDS+unix:///?socket=/x", 1, 1000, "TLS");
  expect_refusal ("nbd+unix:///?socket=/x&tls-psk-file=/k", 1, 1000, "tls-");
  expect_refusal ("nbd+unix:///?socket=/x;%54ls-certificates=/k", 1, 1000,
                  "tls-");
  expect_refusal ("http://localhost/", 1, 1000, "not an NBD URI");
  expect_refusal ("", 1, 1000, "not an NBD URI");
  expect_refusal ("nbd:localhost:10809", 1, 1000, "not an NBD URI");
  expect_refusal ("nbd+unix:///", 1, 1000, "socket");
  expect_refusal ("nbd+unix:///?socket=/nonexistent/sock", 1, 1000,
                  "No such file or directory");

  /* No secret in the line, whatever goes wrong, and a reason always. */
  ck_assert_int_eq (target_connect ("nbd://me:hush@[::1]:1/?tls-x=psst", 1,
                                    1000, &t, error), -EINVAL);
  ck_assert_ptr_null (strstr (error, "hush"));
  ck_assert_ptr_null (strstr (error, "psst"));
  memset (uri, 'x', sizeof uri);
  memcpy (uri, "http://\n", 8);
  uri[sizeof uri - 1] = '\0';
  expect_refusal (uri, 1, 1000, "not an NBD URI");
}
END_TEST

/*-- the handshake ------------------------------------------------------*/

START_TEST (bad_handshakes)
{
  static const struct {
    enum misdeed misdeed;
    uint64_t size, second_size;
    const char *words;
  } t[] = {
    { HANDSHAKE_SILENT, MiB, 0, "no answer from the server within 300 ms" },
    { HANDSHAKE_SECOND_SILENT, MiB, 0, "no answer" },
    { HANDSHAKE_GARBAGE, MiB, 0, ": " },
    { HANDSHAKE_CLOSE, MiB, 0, ": " },
    { BEHAVE, UINT64_C (1) << 63, 0, "" },
    { BEHAVE, UINT64_MAX, 0, "" },
    { BEHAVE, MiB, 2 * MiB, "something else" },
  };
  struct peer p;
  double start;
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    memset (&p, 0, sizeof p);
    p.misdeed = t[i].misdeed;
    p.size = t[i].size;
    p.second_size = t[i].second_size;
    p.multi_conn = true;
    peer_start (&p);
    start = now_s ();
    expect_refusal (p.uri, 4, 300, t[i].words);
    ck_assert_double_lt (now_s () - start, 3);
    peer_stop (&p);
  }
}
END_TEST

START_TEST (too_small)
{
  struct peer p = { .size = MiB };
  char error[TARGET_ERROR_MAX] = "";
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 4, &l);
  ck_assert_uint_eq (t->connections, 1);        /* no multi-conn */
  ck_assert_int_eq (target_check (t, MiB, 512, error), 0);
  ck_assert_int_eq (target_check (t, MiB + 1, 512, error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "smaller"));
  ck_assert_ptr_nonnull (strstr (error, p.uri));
  t->ops->free (t);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
}
END_TEST

START_TEST (half_a_block_at_the_end)
{
  struct peer p = { .size = MiB - 512, .block_min = 4096,
                    .block_max = 65536 };
  char error[TARGET_ERROR_MAX] = "";
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (target_check (t, MiB - 4096, 4096, error), 0);
  ck_assert_int_eq (target_check (t, MiB - 4095, 4096, error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "ends in a block of 4096 bytes"));
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

START_TEST (block_sizes)
{
  struct peer p = { .size = MiB, .block_min = 4096, .block_max = 65536 };
  char error[TARGET_ERROR_MAX] = "";
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 4, &l);
  ck_assert_uint_eq (t->block, 4096);
  ck_assert_int_eq (target_check (t, MiB, 4096, error), 0);
  ck_assert_int_eq (target_check (t, MiB, 2048, error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "the granularity (2048) is smaller "
                                 "than the target's minimum block size "
                                 "(4096)"));
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* Minimum blocks that the protocol does not allow.  libnbd may take them for
 * none at all, or tell.
 */
START_TEST (bad_block_sizes)
{
  static const uint32_t bad[] = { 3, 4095, 131072 };
  char error[TARGET_ERROR_MAX] = "";
  struct target *t = NULL;
  size_t i;
  int r;

  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    struct peer p = { .size = MiB, .block_min = bad[i],
                      .block_max = bad[i] * 256 };

    peer_start (&p);
    r = target_connect (p.uri, 1, 9999, &t, error);
    if (r == 0) {
      ck_assert_uint_eq (t->block, 1);
      t->ops->free (t);
    }
    else
      ck_assert_ptr_nonnull (strstr (error, "minimum block size of"));
    peer_stop (&p);
  }
}
END_TEST

/*-- replies ------------------------------------------------------------*/

/* Whatever comes instead of a reply, the session is lost, once. */
START_TEST (bad_replies)
{
  static const enum misdeed misdeeds[] = {
    REPLY_CLOSE, REPLY_GARBAGE, REPLY_WRONG_COOKIE, REPLY_HALF,
  };
  static char buf[64 * KiB];
  struct target_req req[6];
  struct losses l;
  struct target *t;
  size_t i, k;
  int r;

  for (i = 0; i < sizeof misdeeds / sizeof misdeeds[0]; ++i) {
    struct peer p = { .misdeed = misdeeds[i], .when = 2, .size = MiB,
                      .multi_conn = true };

    peer_start (&p);
    t = connect_started (p.uri, 4, &l);
    for (k = 0; k < 6; ++k) {
      req[k] = request (k % 3 ? TARGET_WRITE : TARGET_FLUSH,
                        k < 4 ? LANE_COPY : LANE_TEE, 0, buf,
                        k % 3 ? sizeof buf : 0, 0);
      t->ops->submit (t, &req[k]);
    }
    for (k = 0; k < 6; ++k) {
      r = t->ops->wait (t, &req[k]);
      ck_assert (r == 0 || r == -ENOTCONN);
    }
    /* If that was not enough for the third reply of a connection. */
    for (k = 0; k < 20 && l.count == 0; ++k)
      run (t, request (TARGET_READ, LANE_COPY, 0, buf, 512, 0));
    EVENTUALLY (l.count == 1, 10);
    ck_assert_int_lt (l.err, 0);
    ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0,
                                       0)), -ENOTCONN);
    ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0, buf, 1,
                                       0)), -ENOTCONN);
    t->ops->free (t);
    ck_assert_int_eq (l.count, 1);
    peer_stop (&p);
  }
}
END_TEST

static void
write_until_lost (void *vp)
{
  static char buf[64 * KiB];

  while (run (vp, request (TARGET_WRITE, LANE_TEE, 0, buf, sizeof buf, 0)) == 0)
    ;
}

/* Who finds the end first, a thread that sends or one that receives, does not
 * matter: the other must not report that it has misused the connection.
 */
START_TEST (loss_between_senders)
{
  struct thread threads[4];
  struct losses l;
  struct target *t;
  unsigned i, round;

  for (round = 0; round < 200; ++round) {
    struct peer p = { .misdeed = REPLY_CLOSE, .when = 4, .size = MiB };

    peer_start (&p);
    t = connect_started (p.uri, 1, &l);
    for (i = 0; i < 4; ++i)
      ck_assert_int_eq (thread_start (&threads[i], "write", write_until_lost,
                                      t), 0);
    for (i = 0; i < 4; ++i)
      thread_join (&threads[i]);
    EVENTUALLY (l.count == 1, 10);
    ck_assert_int_ne (l.err, -EINVAL);
    ck_assert_int_lt (l.err, 0);
    t->ops->free (t);
    peer_stop (&p);
  }
}
END_TEST

START_TEST (idle_loss)
{
  struct peer p = { .misdeed = CLOSE_IDLE, .size = MiB, .multi_conn = true };
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 3, &l);
  EVENTUALLY (l.count == 1, 10);
  ck_assert_int_lt (l.err, 0);
  t->ops->free (t);
  ck_assert_int_eq (l.count, 1);
  peer_stop (&p);
}
END_TEST

/* A loss before anybody could be told is told by the first request. */
START_TEST (late_lost)
{
  struct peer p = { .misdeed = CLOSE_IDLE, .size = MiB };
  char error[TARGET_ERROR_MAX];
  struct losses l = { 0 };
  struct target *t;

  peer_start (&p);
  ck_assert_int_eq (target_connect (p.uri, 1, 9999, &t, error), 0);
  ck_assert_int_eq (target_start (t), 0);
  while (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0, 0)) == 0)
    ;
  t->lost_opaque = &l;
  t->lost = count_loss;
  ck_assert_int_eq (run (t, request (TARGET_FLUSH, LANE_TEE, 0, NULL, 0,
                                     0)), -ENOTCONN);
  ck_assert_int_eq (l.count, 1);
  t->ops->free (t);
  ck_assert_int_eq (l.count, 1);
  peer_stop (&p);
}
END_TEST

/*-- a peer that is slow, or does not answer ----------------------------*/

/* The payload goes out although nobody waits for the request. */
START_TEST (sends_unattended)
{
  const uint32_t size = 16 * MiB;
  struct peer p = { .misdeed = STOP_READING, .size = size };
  char *buf = calloc (1, size);
  struct target_req req = request (TARGET_WRITE, LANE_TEE, 0, buf, size, 0);
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  t->ops->submit (t, &req);
  p.go = true;
  EVENTUALLY (p.written == size, 20);
  ck_assert_int_eq (t->ops->wait (t, &req), 0);
  t->ops->free (t);
  peer_stop (&p);
  free (buf);
}
END_TEST

struct shutter {
  struct target *target;
  atomic_int *stage;
};

static void
shutter_main (void *vp)
{
  struct shutter *s = vp;

  EVENTUALLY (*s->stage == 1, 20);
  s->target->ops->shutdown (s->target);
  s->target->ops->shutdown (s->target);
}

/* Shutdown ends everything soon: sent, half sent and queued, and does not
 * count as a loss.
 */
static void
shutdown_ends_all (enum misdeed misdeed)
{
  enum { N = 12 };
  struct peer p = { .misdeed = misdeed, .size = 64 * MiB,
                    .multi_conn = true };
  char *buf = calloc (1, 8 * MiB);
  atomic_int stage = 0;
  struct target_req req[N];
  struct shutter sh = { .stage = &stage };
  struct thread th;
  struct losses l;
  double start;
  size_t i;

  peer_start (&p);
  sh.target = connect_started (p.uri, 2, &l);
  ck_assert_int_eq (thread_start (&th, "shutter", shutter_main, &sh), 0);
  for (i = 0; i < N; ++i) {
    req[i] = request (i % 2 ? TARGET_WRITE : TARGET_READ, i % 3 == 0, 0,
                      buf, i % 4 == 1 ? 8 * MiB : 4096, 0);
    sh.target->ops->submit (sh.target, &req[i]);
  }
  stage = 1;
  start = now_s ();
  for (i = 0; i < N; ++i)
    ck_assert_int_eq (sh.target->ops->wait (sh.target, &req[i]), -ENOTCONN);
  ck_assert_double_lt (now_s () - start, 5);
  thread_join (&th);
  sh.target->ops->free (sh.target);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
  free (buf);
}

START_TEST (shutdown_unread)
{
  shutdown_ends_all (STOP_READING);
}
END_TEST

START_TEST (shutdown_unanswered)
{
  shutdown_ends_all (READ_ONLY_NO_REPLY);
}
END_TEST

/*-- zero requests that are refused -------------------------------------*/

START_TEST (zero_refused)
{
  static const struct {
    uint32_t wire_error;
    unsigned zeroes;            /* requests sent of two */
    int result;
    unsigned writes;
  } t[] = {
    { 95, 1, 0, 8 },            /* ENOTSUP: not tried again */
    { 22, 2, 0, 8 },            /* EINVAL: maybe only this one */
    { 28, 2, -ENOSPC, 0 },
  };
  struct losses l;
  struct target *target;
  size_t i;
  int k;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    struct peer p = { .size = 8 * MiB, .zero_error = t[i].wire_error };

    peer_start (&p);
    target = connect_started (p.uri, 1, &l);
    for (k = 0; k < 2; ++k)
      ck_assert_int_eq (run (target, request (TARGET_ZERO, LANE_TEE, 0,
                                              NULL, MiB, 4096)),
                        t[i].result);
    ck_assert_uint_eq (p.zeroes, t[i].zeroes);
    ck_assert_uint_eq (p.writes, t[i].writes);
    ck_assert_uint_eq (p.written, t[i].writes ? 2 * MiB : 0);
    ck_assert_int_eq (l.count, 0);
    target->ops->free (target);
    peer_stop (&p);
  }
}
END_TEST

/*-- extents ------------------------------------------------------------*/

struct seen {
  uint64_t at;
  char text[400];
};

static int
note_extent (void *vp, struct range r, enum extent_kind kind)
{
  struct seen *s = vp;
  size_t n = strlen (s->text);

  ck_assert_uint_eq (r.start, s->at);
  ck_assert (!range_empty (r));
  s->at = r.end;
  snprintf (s->text + n, sizeof s->text - n, "%s%u ",
            kind == EXTENT_ZERO ? "z" : "d",
            (unsigned) (r.end - r.start));
  return 0;
}

START_TEST (extents)
{
  /* The range asked for is [1000, 5000). */
  static const struct {
    uint32_t error;
    struct peer_extent e[4];
    unsigned n;
    const char *expected;
  } t[] = {
    { 0, { { 500, 0 }, { 500, 3 }, { 9000, 0 } }, 3, "d500 z500 d3000 " },
    { 0, { { 100, 3 }, { 200, 2 }, { 50, 1 }, { 50, 0 } }, 4, "z300 d100 " },
    { 0, { { 100, 2 } }, 1, "z100 " },
    { 0, { { MiB - 1000, 2 } }, 1, "z4000 " },
    { 0, { { 4000, 1 } }, 1, "d4000 " },        /* a hole is not a zero */
    { 0, { { 100, 2 }, { 0, 2 }, { 50, 0 } }, 3, "z100 " },
    { 0, { { 0, 2 }, { 50, 2 } }, 2, "d4000 " },
    { 22, { { 0, 0 } }, 0, "d4000 " },
  };
  struct range r = { 1000, 5000 };
  struct losses l;
  struct target *target;
  struct seen s;
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    struct peer p = { .size = MiB, .status_error = t[i].error,
                      .extents = t[i].e, .nr_extents = t[i].n };

    peer_start (&p);
    target = connect_started (p.uri, 1, &l);
    ck_assert (target->can_extents);
    memset (&s, 0, sizeof s);
    s.at = r.start;
    ck_assert_int_eq (target->ops->extents (target, r, note_extent, &s), 0);
    ck_assert_msg (strcmp (s.text, t[i].expected) == 0, "%zu: %s", i,
                   s.text);
    target->ops->shutdown (target);
    ck_assert_int_eq (target->ops->extents (target, r, note_extent, &s),
                      -ENOTCONN);
    target->ops->free (target);
    peer_stop (&p);
  }
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("target_peer");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);    /* as in nbdkit */
  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, public_uri);
  tcase_add_test (tc, refused_uris);
  tcase_add_test (tc, bad_handshakes);
  tcase_add_test (tc, too_small);
  tcase_add_test (tc, half_a_block_at_the_end);
  tcase_add_test (tc, block_sizes);
  tcase_add_test (tc, bad_block_sizes);
  tcase_add_test (tc, bad_replies);
  tcase_add_test (tc, loss_between_senders);
  tcase_add_test (tc, idle_loss);
  tcase_add_test (tc, late_lost);
  tcase_add_test (tc, sends_unattended);
  tcase_add_test (tc, shutdown_unread);
  tcase_add_test (tc, shutdown_unanswered);
  tcase_add_test (tc, zero_refused);
  tcase_add_test (tc, extents);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
