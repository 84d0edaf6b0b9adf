/* SPDX-License-Identifier: BSD-3-Clause */
/* Which events become a line of the log, and how often. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "eventlog.h"

#define S UINT64_C (1000000000)

static struct eventlog l;
static char line[EVENTLOG_LINE_MAX];

static void
setup (void)
{
  eventlog_init (&l);
}

static void
teardown (void)
{
  eventlog_destroy (&l);
}

/* The line at that second, "" if there is none. */
static const char *
at (uint64_t s, struct mirror_event ev)
{
  return eventlog_line (&l, &ev, s * S, line) ? line : "";
}

static struct mirror_event
state (const char *what, const char *why)
{
  return (struct mirror_event) { .kind = EVENT_TARGET_STATE, .id = "mirror",
                                 .target_state = what, .error = why };
}

static struct mirror_event
disk_state (const char *what, const char *why)
{
  struct mirror_event ev = state (what, why);

  ev.id = NULL;
  return ev;
}

static struct mirror_event
failure (bool target, int err)
{
  return (struct mirror_event) { .kind = EVENT_JOB_ERROR, .write = target,
                                 .err = err, .range = { 65536, 131072 } };
}

/* The clients' disk after a pivot, while there is another target. */
START_TEST (two_disks)
{
  ck_assert_str_eq (at (1, disk_state ("offline", "gone")),
                    "mirror: the clients' disk offline: gone");
  ck_assert_str_eq (at (11, state ("online", NULL)), "");
  ck_assert_str_eq (at (21, state ("offline", NULL)),
                    "mirror: target offline");
  ck_assert_str_eq (at (31, disk_state ("pivoted", NULL)),
                    "mirror: the clients' disk is back");
  ck_assert_str_eq (at (41, state ("online", NULL)), "mirror: target is back");
}
END_TEST

START_TEST (lost_and_back)
{
  ck_assert_str_eq (at (1, state ("online", NULL)), "");
  ck_assert_str_eq (at (2, state ("offline", "gone")),
                    "mirror: target offline: gone");
  ck_assert_str_eq (at (3, state ("pivoted", NULL)),
                    "mirror: target is back");
  ck_assert_str_eq (at (4, state ("pivoted", NULL)), "");
  ck_assert_str_eq (at (20, state ("offline", NULL)),
                    "mirror: target offline");
  /* The end of a job is not the target's return, nor is a new one. */
  ck_assert_str_eq (at (21, state ("none", NULL)), "");
  ck_assert_str_eq (at (40, state ("online", NULL)), "");
}
END_TEST

/* One line for each, however many tries there are. */
START_TEST (lost_refused_and_back)
{
  struct mirror_event unfit = state ("offline", "it is read-only");

  unfit.unfit = true;
  ck_assert_str_eq (at (1, state ("offline", "gone")),
                    "mirror: target offline: gone");
  ck_assert_str_eq (at (20, state ("offline", "Connection refused")), "");
  ck_assert_str_eq (at (40, unfit),
                    "mirror: target refused: it is read-only");
  ck_assert_str_eq (at (60, state ("offline", "Connection refused")), "");
  ck_assert_str_eq (at (80, state ("online", "another disk")),
                    "mirror: target is back: another disk");
  ck_assert_str_eq (at (100, state ("online", NULL)), "");

  /* One that has never been there, and is not the right one. */
  ck_assert_str_eq (at (120, state ("connecting", "not there")), "");
  unfit.target_state = "connecting";
  ck_assert_str_eq (at (140, unfit),
                    "mirror: target refused: it is read-only");
  ck_assert_str_eq (at (160, state ("online", NULL)),
                    "mirror: target is back");

  /* One that has stopped the job, and has to be looked for again and again. */
  ck_assert_str_eq (at (180, state ("offline", "not there")),
                    "mirror: target offline: not there");
  ck_assert_str_eq (at (200, state ("connecting", "not there")), "");
  ck_assert_str_eq (at (220, state ("online", NULL)),
                    "mirror: target is back");
}
END_TEST

START_TEST (what_is_said)
{
  ck_assert_str_eq (at (1, failure (true, ENOSPC)),
                    "mirror: target failed at 65536+65536: "
                    "No space left on device");
  ck_assert_str_eq (at (1, failure (false, EIO)),
                    "mirror: source failed at 65536+65536: "
                    "Input/output error");
  ck_assert_str_eq (at (1, (struct mirror_event) {
        .kind = EVENT_JOB_ERROR, .write = true, .err = ENOTCONN,
        .lost = true }), "");
  ck_assert_str_eq (at (1, (struct mirror_event) {
        .kind = EVENT_SWITCH_FAILED, .operation = "pivot", .error = "late" }),
    "mirror: pivot given up, clients stay with the source: late");
  ck_assert_str_eq (at (1, (struct mirror_event) { .kind = EVENT_FENCED,
                                                   .synced = true }),
                    "mirror: fenced: writes of clients fail from now on");
  ck_assert_str_eq (at (1, (struct mirror_event) { .kind = EVENT_FENCED }),
                    "mirror: the fence is gone");
  ck_assert_str_eq (at (1, (struct mirror_event) {
        .kind = EVENT_PIVOTED, .pause_ns = 1234567, .durable = true }),
    "mirror: pivoted: clients have the target after 1234 us");
  ck_assert_str_eq (at (20, (struct mirror_event) {
        .kind = EVENT_PIVOTED, .pause_ns = 1234567 }),
    "mirror: pivoted: clients have the target after 1234 us; there is no "
    "intent file: a restart will serve the source");
  ck_assert_str_eq (at (1, (struct mirror_event) {
        .kind = EVENT_BITMAP_LOST }),
    "mirror: the intent file cannot be written, and is given up: the next "
    "start will copy everything");
  ck_assert_str_eq (at (1, (struct mirror_event) { .kind = EVENT_SYNCED }),
                    "");
}
END_TEST

START_TEST (repeats_are_counted)
{
  unsigned i;

  ck_assert_str_ne (at (100, failure (true, EIO)), "");
  for (i = 0; i < 7; ++i)
    ck_assert_str_eq (at (101 + i, failure (true, i % 2 ? EIO : ENOSPC)), "");
  ck_assert_str_ne (at (105, failure (false, EIO)), "");
  ck_assert_str_eq (at (109, failure (true, EIO)), "");
  ck_assert_str_eq (at (110, failure (true, EIO)),
                    "mirror: target failed at 65536+65536: Input/output error"
                    " (and 8 more like it before)");
  ck_assert_str_eq (at (120, failure (true, EIO)),
                    "mirror: target failed at 65536+65536: "
                    "Input/output error");
}
END_TEST

/* Whatever the reason says, it is one line that ends. */
START_TEST (long_texts_are_cut)
{
  char text[3 * EVENTLOG_LINE_MAX];

  memset (text, 'x', sizeof text);
  text[sizeof text - 1] = '\0';
  ck_assert_uint_lt (strlen (at (1, (struct mirror_event) {
        .kind = EVENT_SWITCH_FAILED, .operation = "pivot", .error = text })),
    EVENTLOG_LINE_MAX);
  at (2, (struct mirror_event) { .kind = EVENT_SWITCH_FAILED,
                                 .operation = "pivot", .error = text });
  at (30, (struct mirror_event) { .kind = EVENT_SWITCH_FAILED,
                                  .operation = "pivot", .error = text });
  ck_assert_ptr_nonnull (strstr (line, "(and 1 more like it before)"));
  ck_assert_uint_lt (strlen (at (40, state ("offline", text))),
                     EVENTLOG_LINE_MAX);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("eventlog");
  TCase *tc = tcase_create ("eventlog");
  SRunner *runner = srunner_create (suite);
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, lost_and_back);
  tcase_add_test (tc, two_disks);
  tcase_add_test (tc, lost_refused_and_back);
  tcase_add_test (tc, what_is_said);
  tcase_add_test (tc, repeats_are_counted);
  tcase_add_test (tc, long_texts_are_cut);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
