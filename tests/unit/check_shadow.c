/* SPDX-License-Identifier: BSD-3-Clause */
/* What the oracle's shadow accepts of requests that were cut off, and of those
 * around them.
 */

#include <config.h>

#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/shadow.h"

#define SIZE 4096
#define COUNT 700               /* more than a sector */
#define AT 100

static struct shadow *sh;
static uint8_t base[SIZE];

static void
setup (void)
{
  sh = shadow_new (base, SIZE);
  ck_assert_ptr_nonnull (sh);
}

static void
teardown (void)
{
  shadow_free (sh);
}

static uint64_t
begin (void)
{
  return shadow_begin (sh, SHADOW_DATA, COUNT, AT, UINT64_MAX);
}

static void
end (uint64_t stamp, enum shadow_outcome outcome)
{
  shadow_end (sh, stamp, COUNT, AT, outcome);
}

/* May that write's data be read now?  0: what was there at the beginning. */
static bool
accepted (uint64_t stamp)
{
  uint8_t buf[COUNT] = { 0 };
  char text[SHADOW_TEXT];
  uint64_t bad;

  if (stamp != 0)
    shadow_pattern (stamp, buf, COUNT, AT);
  return shadow_check (sh, shadow_tick (sh), buf, COUNT, AT, &bad, text);
}

START_TEST (acknowledged)
{
  uint64_t a = begin ();

  ck_assert (accepted (0) && accepted (a));
  end (a, SHADOW_DONE);
  ck_assert (!accepted (0) && accepted (a));
}
END_TEST

/* It may come at any time, also after what has been acknowledged. */
START_TEST (cut_off)
{
  uint64_t a = begin (), b;

  end (a, SHADOW_LOST);
  ck_assert (accepted (0) && accepted (a));
  b = begin ();
  end (b, SHADOW_DONE);
  ck_assert (!accepted (0) && accepted (a) && accepted (b));
}
END_TEST

/* It may have happened, but not after what comes now. */
START_TEST (over)
{
  uint64_t a = begin (), b;

  end (a, SHADOW_LOST);
  shadow_over (sh);
  ck_assert (accepted (0) && accepted (a));
  b = begin ();
  ck_assert (accepted (0) && accepted (a) && accepted (b));
  end (b, SHADOW_DONE);
  ck_assert (!accepted (0) && !accepted (a) && accepted (b));
}
END_TEST

/* The client hears later of the end of its connection. */
START_TEST (over_before_it_is_seen)
{
  uint64_t a = begin (), b;

  shadow_over (sh);
  end (a, SHADOW_LOST);
  b = begin ();
  end (b, SHADOW_DONE);
  ck_assert (!accepted (a) && accepted (b));
}
END_TEST

/* What is cut off after that is not over, nor does it overwrite anything. */
START_TEST (cut_off_afterwards)
{
  uint64_t a = begin (), b, c;

  end (a, SHADOW_LOST);
  shadow_over (sh);
  b = begin ();
  end (b, SHADOW_LOST);
  ck_assert (accepted (0) && accepted (a) && accepted (b));
  c = begin ();
  end (c, SHADOW_DONE);
  ck_assert (!accepted (0) && !accepted (a) && accepted (b) && accepted (c));
}
END_TEST

/* An acknowledgement from before it proves nothing. */
START_TEST (acknowledged_before)
{
  uint64_t a = begin (), b = begin ();

  end (b, SHADOW_DONE);
  end (a, SHADOW_LOST);
  shadow_over (sh);
  ck_assert (accepted (a) && accepted (b));
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("shadow");
  TCase *tc = tcase_create ("shadow");
  SRunner *runner;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, acknowledged);
  tcase_add_test (tc, cut_off);
  tcase_add_test (tc, over);
  tcase_add_test (tc, over_before_it_is_seen);
  tcase_add_test (tc, cut_off_afterwards);
  tcase_add_test (tc, acknowledged_before);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
