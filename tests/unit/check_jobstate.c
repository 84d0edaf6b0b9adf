/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of jobstate.c against the life of a job as QEMU documents it
 * (docs of JobStatus and JobVerb in its QAPI schema), written down once more
 * as text.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobstate.h"

/* "from to", all of them. */
static const char *const moves[] = {
  "undefined created", "created running", "created aborting", "created null",
  "running paused", "running ready", "running waiting", "running aborting",
  "paused running", "ready standby", "ready waiting", "ready aborting",
  "standby ready", "waiting pending", "waiting aborting",
  "pending concluded", "pending aborting", "aborting aborting",
  "aborting concluded", "concluded null",
};

/* "verb state", all of them. */
static const char *const accepted[] = {
  "cancel created", "cancel running", "cancel paused", "cancel ready",
  "cancel standby", "cancel waiting", "cancel pending",
  "pause created", "pause running", "pause paused", "pause ready",
  "pause standby",
  "resume created", "resume running", "resume paused", "resume ready",
  "resume standby",
  "set-speed created", "set-speed running", "set-speed paused",
  "set-speed ready", "set-speed standby",
  "complete ready", "complete standby",
  "finalize pending", "dismiss concluded",
  "change running", "change paused", "change ready", "change standby",
};

static bool
listed (const char *const *list, size_t n, const char *a, const char *b)
{
  char pair[64];
  size_t i;

  snprintf (pair, sizeof pair, "%s %s", a, b);
  for (i = 0; i < n; ++i)
    if (strcmp (list[i], pair) == 0)
      return true;
  return false;
}

START_TEST (every_transition)
{
  int from, to;

  for (from = 0; from < JOB_STATUS_COUNT; ++from)
    for (to = 0; to < JOB_STATUS_COUNT; ++to)
      ck_assert_msg (job_may_move (from, to) ==
                     listed (moves, sizeof moves / sizeof moves[0],
                             job_status_name (from), job_status_name (to)),
                     "%s -> %s", job_status_name (from),
                     job_status_name (to));
}
END_TEST

START_TEST (every_verb_in_every_state)
{
  int verb, s;

  for (verb = 0; verb < JOB_VERB_COUNT; ++verb)
    for (s = 0; s < JOB_STATUS_COUNT; ++s)
      ck_assert_msg (job_accepts (s, verb) ==
                     listed (accepted, sizeof accepted / sizeof accepted[0],
                             job_verb_name (verb), job_status_name (s)),
                     "%s in %s", job_verb_name (verb), job_status_name (s));
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("jobstate");
  TCase *tc = tcase_create ("tables");
  SRunner *sr;
  int failed;

  tcase_add_test (tc, every_transition);
  tcase_add_test (tc, every_verb_in_every_state);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
