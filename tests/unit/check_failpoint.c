/* SPDX-License-Identifier: BSD-3-Clause */
/* failpoint.c, built with failpoints whatever the rest is built with. */

#include <config.h>

#undef NDEBUG
#ifndef MIRROR_FAILPOINTS
#define MIRROR_FAILPOINTS 1
#endif

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failpoint.h"

START_TEST (nothing_is_set)
{
  ck_assert_int_eq (failpoint_set (NULL), 0);
  ck_assert_int_eq (FAILPOINT ("here"), 0);
  ck_assert_int_eq (failpoint_set (""), 0);
  ck_assert_int_eq (FAILPOINT ("here"), 0);
}
END_TEST

START_TEST (once_at_its_count)
{
  ck_assert_int_eq (failpoint_set ("here:3=EIO,there=ENOSPC"), 0);
  ck_assert_int_eq (FAILPOINT ("her"), 0);
  ck_assert_int_eq (FAILPOINT ("here2"), 0);
  ck_assert_int_eq (FAILPOINT ("here"), 0);
  ck_assert_int_eq (FAILPOINT ("there"), -ENOSPC);
  ck_assert_int_eq (FAILPOINT ("here"), 0);
  ck_assert_int_eq (FAILPOINT ("here"), -EIO);
  ck_assert_int_eq (FAILPOINT ("here"), 0);
  ck_assert_int_eq (FAILPOINT ("there"), 0);
}
END_TEST

START_TEST (same_name_twice)
{
  ck_assert_int_eq (failpoint_set ("x:1=EIO,x:3=EBUSY"), 0);
  ck_assert_int_eq (FAILPOINT ("x"), -EIO);
  ck_assert_int_eq (FAILPOINT ("x"), 0);
  /* The first time ended at x:1, before x:3 could count it. */
  ck_assert_int_eq (FAILPOINT ("x"), 0);
  ck_assert_int_eq (FAILPOINT ("x"), -EBUSY);
}
END_TEST

START_TEST (bad_text)
{
  static const char *const bad[] = {
    "x", "=EIO", "x=", "x=eio", "x=EIOX", "x:=EIO", "x:0=EIO", "x:-1=EIO",
    "x:1y=EIO", "x:+=EIO", "x:1++=EIO", "x:1+y=EIO", "x: 1=EIO",
    "x:99999999999999999999=EIO", "x:4294967296=EIO",
    ",x=EIO", "x=EIO,,y=EIO", "x=EIO,y", ":1=EIO",
    "0123456789012345678901234567890123456789012345678901234567890123=EIO",
  };
  unsigned i;

  for (i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    ck_assert_msg (failpoint_set (bad[i]) == -EINVAL, "%s", bad[i]);
    ck_assert_int_eq (FAILPOINT ("x"), 0);
  }
  ck_assert_int_eq (failpoint_set ("a=EIO,b=EIO,c=EIO,d=EIO,e=EIO,f=EIO,"
                                   "g=EIO,h=EIO"), 0);
  ck_assert_int_eq (failpoint_set ("a=EIO,b=EIO,c=EIO,d=EIO,e=EIO,f=EIO,"
                                   "g=EIO,h=EIO,i=EIO"), -E2BIG);
}
END_TEST

START_TEST (from_then_on)
{
  ck_assert_int_eq (failpoint_set ("x:2+=EIO,y:1+=EBUSY"), 0);
  ck_assert_int_eq (FAILPOINT ("x"), 0);
  ck_assert_int_eq (FAILPOINT ("x"), -EIO);
  ck_assert_int_eq (FAILPOINT ("y"), -EBUSY);
  ck_assert_int_eq (FAILPOINT ("x"), -EIO);
  ck_assert_int_eq (FAILPOINT ("x"), -EIO);
  ck_assert_int_eq (FAILPOINT ("y"), -EBUSY);
}
END_TEST

static atomic_uint failures;

static void *
reach (void *vp)
{
  unsigned i;

  (void) vp;
  for (i = 0; i < 10000; ++i)
    if (FAILPOINT ("x") < 0)
      atomic_fetch_add (&failures, 1);
  return NULL;
}

START_TEST (once_in_all_threads)
{
  pthread_t threads[4];
  unsigned i;

  ck_assert_int_eq (failpoint_set ("x:20000=EIO"), 0);
  for (i = 0; i < 4; ++i)
    ck_assert_int_eq (pthread_create (&threads[i], NULL, reach, NULL), 0);
  for (i = 0; i < 4; ++i)
    pthread_join (threads[i], NULL);
  ck_assert_uint_eq (atomic_load (&failures), 1);
}
END_TEST

START_TEST (abort_and_pause)
{
  int status;
  pid_t pid = fork ();

  ck_assert_int_ge (pid, 0);
  if (pid == 0) {
    failpoint_set ("x:2=pause,y=abort");
    FAILPOINT ("x");
    FAILPOINT ("x");
    FAILPOINT ("y");
    _exit (0);
  }
  ck_assert_int_eq (waitpid (pid, &status, WUNTRACED), pid);
  ck_assert (WIFSTOPPED (status));
  ck_assert_int_eq (kill (pid, SIGCONT), 0);
  ck_assert_int_eq (waitpid (pid, &status, 0), pid);
  ck_assert (WIFSIGNALED (status) && WTERMSIG (status) == SIGABRT);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("failpoint");
  TCase *tc = tcase_create ("core");
  SRunner *sr;
  int failed;

  tcase_add_test (tc, nothing_is_set);
  tcase_add_test (tc, once_at_its_count);
  tcase_add_test (tc, same_name_twice);
  tcase_add_test (tc, from_then_on);
  tcase_add_test (tc, bad_text);
  tcase_add_test (tc, once_in_all_threads);
  tcase_add_test (tc, abort_and_pause);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
