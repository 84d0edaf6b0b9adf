/* SPDX-License-Identifier: BSD-3-Clause */
/* pace.c under a clock that the test moves. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdlib.h>

#include "pace.h"

#define S UINT64_C (1000000000)
#define MiB (UINT64_C (1) << 20)
#define MAX_RATE ((uint64_t) INT64_MAX)

/* Times start far from 0: the zero point means nothing. */
static const uint64_t t0 = UINT64_C (123456789012345678);

/* Wait until a piece may go, asking as told.  Returns the time. */
static uint64_t
wait_for_turn (struct pace *p, uint64_t now)
{
  uint64_t delay;

  while ((delay = pace_delay_ns (p, now)) > 0) {
    ck_assert_uint_le (delay, S);
    now += delay;
  }
  return now;
}

/* Send n pieces of that many bytes as early as allowed; the time when the
 * next one might go.
 */
static uint64_t
send_pieces (struct pace *p, uint64_t now, unsigned n, uint64_t bytes)
{
  while (n-- > 0) {
    now = wait_for_turn (p, now);
    pace_take (p, bytes, now);
  }
  return wait_for_turn (p, now);
}

/* Bytes that go at once from now on, in pieces of one byte. */
static uint64_t
burst (struct pace p, uint64_t now)
{
  uint64_t n = 0;

  for (; pace_delay_ns (&p, now) == 0; n++)
    pace_take (&p, 1, now);
  return n;
}

START_TEST (no_limit)
{
  struct pace p;
  uint64_t now = t0;
  unsigned i;

  pace_init (&p, 0, now);
  for (i = 0; i < 1000; i++) {
    ck_assert_uint_eq (pace_delay_ns (&p, now), 0);
    pace_take (&p, MAX_RATE, now);
  }
}
END_TEST

/* In the long run the rate is what was asked for, to the byte: rates and
 * pieces that do not divide, asked at odd times.
 */
static const struct {
  uint64_t rate, bytes;
  unsigned pieces;
} runs[] = {
  { 1, 1, 1000 }, { 1, 100, 30 }, { 3, 7, 3000 }, { 65537, 4096, 5000 },
  { 10 * MiB, MiB, 5000 }, { 10 * MiB + 7, MiB - 1, 5000 },
  { 999999937, 65536, 50000 }, { UINT64_C (1) << 40, 64 * MiB, 50000 },
  { UINT64_C (1) << 62, UINT64_C (1) << 58, 500 },
  { MAX_RATE, MAX_RATE, 20 },
};

START_TEST (exact_rate)
{
  uint64_t rate = runs[_i].rate, bytes = runs[_i].bytes, now;
  unsigned __int128 sent, earned;
  struct pace p;

  pace_init (&p, rate, t0);
  pace_set_rate (&p, rate, t0);         /* an empty bucket */
  now = send_pieces (&p, t0, runs[_i].pieces, bytes);

  /* The next piece may go when all before it and one byte are paid; the
   * clock counts nanoseconds, so that is early by none and late by less
   * than one.
   */
  sent = (unsigned __int128) bytes * runs[_i].pieces + 1;
  earned = (unsigned __int128) rate * (now - t0);
  ck_assert (earned >= sent * S);
  ck_assert (earned - sent * S < rate);
}
END_TEST

/* Asking often loses nothing: 3 bytes a second earn 0 whole bytes in each of
 * these steps.
 */
START_TEST (fractions_are_kept)
{
  struct pace p;
  uint64_t now = t0;

  pace_set_rate (&p, 3, now);
  pace_take (&p, 2, now);
  while (pace_delay_ns (&p, now) > 0)
    now += 7;
  ck_assert_uint_ge (now, t0 + S);
  ck_assert_uint_lt (now, t0 + S + 7);
}
END_TEST

/* A debt is paid before the next piece, whatever its size. */
START_TEST (debt)
{
  struct pace p;
  uint64_t now = t0;

  pace_set_rate (&p, MiB, now);
  now = wait_for_turn (&p, now);
  pace_take (&p, 60 * MiB, now);
  ck_assert_uint_eq (pace_delay_ns (&p, now), S);       /* at most */
  ck_assert_uint_gt (pace_delay_ns (&p, now + 59 * S), 0);
  ck_assert_uint_le (pace_delay_ns (&p, now + 59 * S), S);
  ck_assert_uint_eq (pace_delay_ns (&p, now + 60 * S), 0);
}
END_TEST

/* A debt that no 64-bit number holds stops at the smallest one. */
START_TEST (debt_does_not_wrap)
{
  struct pace p;

  pace_set_rate (&p, 1, t0);
  pace_take (&p, UINT64_MAX, t0);
  pace_take (&p, UINT64_MAX, t0);
  ck_assert_uint_eq (pace_delay_ns (&p, t0), S);
  ck_assert_uint_eq (pace_delay_ns (&p, UINT64_MAX), S);
  pace_set_rate (&p, MAX_RATE, t0);
  pace_take (&p, UINT64_MAX, t0);
  ck_assert_uint_eq (pace_delay_ns (&p, t0 + 2 * S), 0);
}
END_TEST

/* After a long idle time no more goes at once than the bucket holds: 100 ms
 * of the rate, at least 64 KiB; and a new bucket is full.
 */
START_TEST (long_idle)
{
  static const struct {
    uint64_t rate, depth;
  } t[] = {
    { 1, 65536 }, { 655360, 65536 }, { 655369, 65536 }, { 655370, 65537 },
    { 20000000, 2000000 },
  };
  struct pace p;
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; i++) {
    pace_init (&p, t[i].rate, t0);
    ck_assert_uint_eq (burst (p, t0), t[i].depth);
    ck_assert_uint_eq (burst (p, t0 + 1000 * S), t[i].depth);
    ck_assert_uint_eq (burst (p, UINT64_MAX), t[i].depth);
  }

  /* A full bucket holds no fraction of a byte on top. */
  pace_init (&p, 3, t0);
  pace_take (&p, 65536, t0 + 1);
  ck_assert_uint_eq (pace_delay_ns (&p, t0 + 1), S / 3 + 1);

  /* The largest product of rate and time, also from the deepest debt. */
  pace_init (&p, MAX_RATE, 0);
  pace_take (&p, UINT64_MAX, 0);
  pace_take (&p, UINT64_MAX, 0);
  ck_assert_uint_eq (pace_delay_ns (&p, UINT64_MAX), 0);
  pace_take (&p, MAX_RATE / 10 - 1, UINT64_MAX);
  ck_assert_uint_eq (pace_delay_ns (&p, UINT64_MAX), 0);
  pace_take (&p, 1, UINT64_MAX);
  ck_assert_uint_gt (pace_delay_ns (&p, UINT64_MAX), 0);
}
END_TEST

/* What was saved or owed is dropped by a new rate, which holds at once. */
START_TEST (rate_change)
{
  struct pace p;
  uint64_t now = t0;

  pace_init (&p, MiB, now);
  pace_take (&p, 1000 * MiB, now);              /* a debt of 1000 s */
  ck_assert_uint_eq (pace_delay_ns (&p, now), S);
  now += 10 * S;
  pace_set_rate (&p, 2 * MiB, now);
  ck_assert_uint_eq (send_pieces (&p, now, 10, 2 * MiB),
                     now + 10 * S + S / (2 * MiB) + 1);

  pace_init (&p, 100 * MiB, now);               /* full */
  pace_set_rate (&p, 100 * MiB, now);
  ck_assert_uint_gt (pace_delay_ns (&p, now), 0);

  pace_set_rate (&p, 0, now);
  pace_take (&p, MAX_RATE, now);
  ck_assert_uint_eq (pace_delay_ns (&p, now), 0);
  pace_set_rate (&p, 1, now);
  ck_assert_uint_eq (pace_delay_ns (&p, now), S);
  ck_assert_uint_eq (pace_delay_ns (&p, now + S), 0);
}
END_TEST

/* A clock that steps back a little neither earns nor costs. */
START_TEST (out_of_order)
{
  struct pace p;

  pace_set_rate (&p, 1000, t0);
  ck_assert_uint_eq (pace_delay_ns (&p, t0), S / 1000);
  ck_assert_uint_eq (pace_delay_ns (&p, t0 - S), S / 1000);
  pace_take (&p, 999, t0 - 1);
  ck_assert_uint_eq (pace_delay_ns (&p, t0 + S - 1), 1);
  ck_assert_uint_eq (pace_delay_ns (&p, t0 + S), 0);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("pace");
  TCase *tc = tcase_create ("pace");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 300);
  tcase_add_test (tc, no_limit);
  tcase_add_loop_test (tc, exact_rate, 0, sizeof runs / sizeof runs[0]);
  tcase_add_test (tc, fractions_are_kept);
  tcase_add_test (tc, debt);
  tcase_add_test (tc, debt_does_not_wrap);
  tcase_add_test (tc, long_idle);
  tcase_add_test (tc, rate_change);
  tcase_add_test (tc, out_of_order);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
