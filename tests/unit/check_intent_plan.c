/* SPDX-License-Identifier: BSD-3-Clause */
/* What follows from an intent file at the start: each row of the table. */

#include <config.h>

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "intent-plan.h"

#define S "file=/disk"
#define T "nbd://t/"
#define D "nbd://d/"

static struct intent_head head;
static struct plan_wanted wanted;
static struct plan plan;

static void
setup (void)
{
  head = (struct intent_head) {
    .generation = 1, .epoch = 1, .size = 1 << 20, .granularity = 65536,
    .region = 1 << 20, .target_size = 2 << 20, .state = INTENT_RUNNING,
    .source = S, .target = T,
  };
  wanted = (struct plan_wanted) {
    .file = "/file", .source = S, .target = T,
  };
}

static void
idle (void)
{
  head.state = INTENT_IDLE;
  head.target[0] = '\0';
  head.target_size = 0;
}

static void
pivoted (enum intent_state state, const char *target)
{
  head.state = state;
  strcpy (head.target, target);
  strcpy (head.disk, D);
}

/* The action, with these words in the line ("" = there is no line). */
static void
becomes (enum plan_action action, const char *line)
{
  plan_make (&plan, &head, &wanted);
  ck_assert_msg (plan.action == action, "%d: %s", plan.action, plan.line);
  ck_assert_msg (line[0] ? strstr (plan.line, line) != NULL
                 : plan.line[0] == '\0', "%s", plan.line);
  ck_assert (!plan.create);
  ck_assert ((plan.target != NULL) ==
             (action == PLAN_START || action == PLAN_RESUME));
  if (action == PLAN_REFUSE) {
    ck_assert_ptr_null (plan.disk);
    ck_assert (!plan.unpivot);
  }
}

START_TEST (no_file)
{
  plan_make (&plan, NULL, &wanted);
  ck_assert_int_eq (plan.action, PLAN_START);
  ck_assert (plan.create && !plan.fenced && !plan.unpivot);
  ck_assert_str_eq (plan.target, T);
  ck_assert_ptr_null (plan.disk);
  ck_assert_str_eq (plan.line, "");
  wanted.sync = SYNC_NONE;
  plan_make (&plan, NULL, &wanted);
  ck_assert_int_eq (plan.action, PLAN_START);
  wanted.sync = SYNC_INCREMENTAL;
  plan_make (&plan, NULL, &wanted);
  ck_assert_int_eq (plan.action, PLAN_REFUSE);
  ck_assert (!plan.create);
  ck_assert_ptr_nonnull (strstr (plan.line, "incremental"));
  wanted.target = NULL;
  plan_make (&plan, NULL, &wanted);
  ck_assert_int_eq (plan.action, PLAN_NO_JOB);
  ck_assert (plan.create);
  ck_assert_int_eq (plan_check_sizes (&plan, NULL, 5, 0, NULL), 0);
}
END_TEST

START_TEST (never_a_mirror)
{
  idle ();
  becomes (PLAN_START, "");
  ck_assert_str_eq (plan.target, T);
  wanted.sync = SYNC_NONE;
  becomes (PLAN_START, "");
  wanted.sync = SYNC_INCREMENTAL;
  becomes (PLAN_REFUSE, "says 'idle'");
  wanted.target = NULL;
  becomes (PLAN_NO_JOB, "");
}
END_TEST

START_TEST (running)
{
  const enum sync_mode modes[] = { SYNC_FULL, SYNC_NONE, SYNC_INCREMENTAL };
  unsigned i;

  for (i = 0; i < 3; ++i) {
    wanted.sync = modes[i];
    becomes (PLAN_RESUME, "the mirror to 'nbd://t/' goes on");
    ck_assert_str_eq (plan.target, T);
    ck_assert_ptr_null (plan.disk);
  }
  /* With the secrets that the file does not have. */
  wanted.target = "nbd://user@T:10809";
  becomes (PLAN_RESUME, "goes on");
  ck_assert_ptr_eq (plan.target, wanted.target);
  wanted.target = NULL;
  becomes (PLAN_RESUME, "goes on");
  ck_assert_str_eq (plan.target, T);
  head.target[0] = '\0';
  becomes (PLAN_REFUSE, "makes no sense");
}
END_TEST

START_TEST (ended)
{
  const enum intent_state states[] = { INTENT_CANCELLED, INTENT_DETACHED,
                                       INTENT_FAILED, INTENT_PIVOTED };
  unsigned i;

  /* The last one, without a disk, is what remains when a pivot was taken back.
   */
  for (i = 0; i < 4; ++i) {
    head.state = states[i];
    wanted.target = T;
    wanted.sync = SYNC_FULL;
    becomes (PLAN_NO_JOB, "has ended (");
    ck_assert_ptr_nonnull (strstr (plan.line, intent_state_names[states[i]]));
    wanted.sync = SYNC_NONE;
    becomes (PLAN_NO_JOB, "none is started");
    wanted.sync = SYNC_INCREMENTAL;
    becomes (PLAN_REFUSE, "is not recorded");
    wanted.target = NULL;
    becomes (PLAN_NO_JOB, "");
  }
}
END_TEST

START_TEST (of_others)
{
  enum intent_state state;

  for (state = INTENT_IDLE; state < INTENT_STATES; ++state) {
    setup ();
    head.state = state;
    wanted.source = "file=/disk2";
    becomes (PLAN_REFUSE, "is of another source: 'file=/disk', this one is "
             "'file=/disk2'");
    wanted.source = S;
    wanted.granularity = 65536;
    plan_make (&plan, &head, &wanted);
    ck_assert_int_ne (plan.action, PLAN_REFUSE);
    wanted.granularity = 4096;
    becomes (PLAN_REFUSE, "is of another granularity: 65536, "
             "mirror-granularity=4096 is wanted");
    wanted.granularity = 0;
    wanted.target = "nbd://t2/";
    becomes (PLAN_REFUSE, "is of another target: 'nbd://t/', "
             "mirror-target=nbd://t2/ is wanted");
    ck_assert_ptr_nonnull (strstr (plan.line, "delete the file"));
  }
}
END_TEST

START_TEST (moved)
{
  pivoted (INTENT_PIVOTED, D);
  wanted.target = D;
  becomes (PLAN_NO_JOB, "clients had been moved to 'nbd://d/', and get that");
  ck_assert_str_eq (plan.disk, D);
  ck_assert (!plan.unpivot);
  wanted.target = NULL;
  becomes (PLAN_NO_JOB, "get that disk");
  ck_assert_str_eq (plan.disk, D);
  /* The source may be gone: what size it has does not matter. */
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 77, 0, NULL), 0);
  wanted.target = T;
  becomes (PLAN_REFUSE, "another target");

  wanted.target = D;
  wanted.after_pivot = AFTER_PIVOT_REFUSE;
  becomes (PLAN_REFUSE, "clients had been moved to 'nbd://d/'");
  wanted.after_pivot = AFTER_PIVOT_SOURCE;
  becomes (PLAN_NO_JOB, "they get the source again");
  ck_assert (plan.unpivot);
  ck_assert_ptr_null (plan.disk);
}
END_TEST

/* A further mirror, from the disk that clients were moved to. */
START_TEST (moved_and_running)
{
  const char *const targets[] = { NULL, T, D };
  unsigned i;

  for (i = 0; i < 3; ++i) {
    setup ();
    pivoted (INTENT_RUNNING, T);
    wanted.target = targets[i];
    becomes (PLAN_RESUME, "the mirror from there to 'nbd://t/' goes on");
    ck_assert_str_eq (plan.disk, D);
    ck_assert_str_eq (plan.target, T);
    wanted.after_pivot = AFTER_PIVOT_REFUSE;
    becomes (PLAN_REFUSE, "had been moved");
    wanted.after_pivot = AFTER_PIVOT_SOURCE;
    becomes (PLAN_NO_JOB, "no mirror is started");
    ck_assert (plan.unpivot);
    head.state = INTENT_CANCELLED;
    wanted.after_pivot = AFTER_PIVOT_TARGET;
    becomes (PLAN_NO_JOB, "no mirror is started");
    ck_assert_str_eq (plan.disk, D);
  }
  wanted.target = T;
  wanted.sync = SYNC_INCREMENTAL;
  becomes (PLAN_REFUSE, "is not recorded");
}
END_TEST

START_TEST (fenced)
{
  enum intent_state state;

  for (state = INTENT_IDLE; state < INTENT_STATES; ++state) {
    setup ();
    head.state = state;
    plan_make (&plan, &head, &wanted);
    ck_assert (!plan.fenced);
    head.fenced = true;
    plan_make (&plan, &head, &wanted);
    ck_assert (plan.fenced);
  }
}
END_TEST

START_TEST (sizes)
{
  char error[PARAMS_ERROR_MAX];

  becomes (PLAN_RESUME, "goes on");
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 1 << 20, 2 << 20, error),
                    0);
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 1 << 20, 0, error), 0);
  ck_assert_int_eq (plan_check_sizes (&plan, &head, (1 << 20) + 1, 0, error),
                    -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "has 1048576 bytes, this one 1048577"
                                 ));
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 1 << 20, 1 << 20, error),
                    -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "has 2097152 bytes, this one 1048576"
                                 ));
  /* It has never been there. */
  head.target_size = 0;
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 1 << 20, 1 << 20, error),
                    0);
  /* A new mirror may have a target of any size that is enough. */
  idle ();
  becomes (PLAN_START, "");
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 1 << 20, 1 << 20, error),
                    0);
  ck_assert_int_eq (plan_check_sizes (&plan, &head, 0, 0, error), -EINVAL);
}
END_TEST

/* It is one line, whatever the texts are. */
START_TEST (long_texts)
{
  CLEANUP_FREE char *source = malloc (INTENT_TEXT_MAX + 1);

  memset (source, '\n', INTENT_TEXT_MAX);
  source[INTENT_TEXT_MAX] = '\0';
  wanted.source = source;
  memset (head.source, 'x', INTENT_TEXT_MAX);
  becomes (PLAN_REFUSE, "is of another source");
  ck_assert_ptr_null (strchr (plan.line, '\n'));
  ck_assert_uint_lt (strlen (plan.line), PARAMS_ERROR_MAX - 1);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("intent plan");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, NULL);
  tcase_add_test (tc, no_file);
  tcase_add_test (tc, never_a_mirror);
  tcase_add_test (tc, running);
  tcase_add_test (tc, ended);
  tcase_add_test (tc, of_others);
  tcase_add_test (tc, moved);
  tcase_add_test (tc, moved_and_running);
  tcase_add_test (tc, fenced);
  tcase_add_test (tc, sizes);
  tcase_add_test (tc, long_texts);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
