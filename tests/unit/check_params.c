/* SPDX-License-Identifier: BSD-3-Clause */
/* The filter's keys: defaults, limits, and the line for what is wrong. */

#include <config.h>

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "params.h"

static struct filter_keys keys;
static char error[PARAMS_ERROR_MAX];

static void
setup (void)
{
  filter_keys_init (&keys);
  error[0] = '\0';
}

static void
teardown (void)
{
  filter_keys_clear (&keys);
}

/* With keys of its own, as each may be given once. */
static const struct params *
good (const char *key, const char *value)
{
  int r;

  filter_keys_clear (&keys);
  filter_keys_init (&keys);
  r = filter_keys_set (&keys, key, value, error);
  ck_assert_msg (r == 0, "%s=%s: %d %s", key, value, r, error);
  return &keys.params;
}

static void
bad (const char *key, const char *value, const char *allowed)
{
  struct filter_keys k;
  char start[600];

  filter_keys_init (&k);
  snprintf (start, sizeof start, "%s=%s: ", key, value);
  ck_assert_int_eq (filter_keys_set (&k, key, value, error), -EINVAL);
  ck_assert_msg (strncmp (error, start, strlen (start)) == 0, "%s", error);
  ck_assert_msg (strcmp (error + strlen (start), allowed) == 0, "%s", error);
  /* Nothing has changed. */
  ck_assert_int_eq (memcmp (&k.params, &keys.params, sizeof k.params), 0);
  filter_keys_clear (&k);
}

START_TEST (defaults)
{
  const struct params *p = &keys.params;

  ck_assert_ptr_null (p->target);
  ck_assert_ptr_null (p->job_id);
  ck_assert_int_eq (p->copy_mode, COPY_BACKGROUND);
  ck_assert_int_eq (p->sync, SYNC_FULL);
  ck_assert_uint_eq (p->granularity, 65536);
  ck_assert_uint_eq (p->speed, 0);
  ck_assert_uint_eq (p->buf_size, 16 << 20);
  ck_assert_uint_eq (p->connections, 4);
  ck_assert_uint_eq (p->max_pause_ms, 2000);
  ck_assert_uint_eq (p->timeout_s, 10);
  ck_assert_uint_eq (p->suspect_s, 30);
  ck_assert_int_eq (p->on_source_error, ON_ERROR_IGNORE);
  ck_assert_int_eq (p->on_target_error, ON_ERROR_IGNORE);
  ck_assert (p->unmap && !p->detect_zeroes && !p->target_is_zero);
  ck_assert (!p->defer_flush && !p->keep);
}
END_TEST

START_TEST (intent_file)
{
  char cwd[4096], path[5000], *value;

  bad ("mirror-sync", "top", "allowed are full, none and incremental");
  bad ("mirror-after-pivot", "disk", "allowed are target, refuse and source");
  bad ("mirror-after-pivot", "Target",
       "allowed are target, refuse and source");
  ck_assert_ptr_null (keys.params.bitmap);
  ck_assert_int_eq (keys.after_pivot, AFTER_PIVOT_TARGET);
  ck_assert_str_eq (good ("mirror-bitmap", "/a/b")->bitmap, "/a/b");
  ck_assert_ptr_nonnull (getcwd (cwd, sizeof cwd));
  snprintf (path, sizeof path, "%s/b", cwd);
  ck_assert_str_eq (good ("mirror-bitmap", "b")->bitmap, path);
  value = malloc (5000);
  memset (value, '/', 4999);
  value[4999] = '\0';
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-bitmap", "x", error),
                    -EINVAL);
  filter_keys_clear (&keys);
  filter_keys_init (&keys);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-bitmap", value, error),
                    -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "at most 4095 bytes"));
  free (value);

  good ("mirror-after-pivot", "refuse");
  ck_assert_int_eq (keys.after_pivot, AFTER_PIVOT_REFUSE);
  good ("mirror-after-pivot", "source");
  ck_assert_int_eq (keys.after_pivot, AFTER_PIVOT_SOURCE);
  good ("mirror-after-pivot", "target");
  ck_assert_int_eq (keys.after_pivot, AFTER_PIVOT_TARGET);

  ck_assert_int_eq (good ("mirror-sync", "incremental")->sync,
                    SYNC_INCREMENTAL);
  ck_assert_int_eq (params_check (&keys.params, error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "sync=incremental: "));
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-bitmap", "/x", error), 0);
  ck_assert_int_eq (params_check (&keys.params, error), 0);

  ck_assert (filter_keys_given (&keys, "mirror-bitmap"));
  ck_assert (!filter_keys_given (&keys, "mirror-granularity"));
  ck_assert (!filter_keys_given (&keys, "file"));
}
END_TEST

START_TEST (times)
{
  static const char *const wrong[] = {
    "-1", "3601", "x", "1.5", "10s", "1K", " 5", "+5", "99999999999999999999",
  };
  const char *timeout = "must be seconds from 1 to 3600";
  const char *suspect = "must be seconds from 0 to 3600";
  size_t i;

  for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
    bad ("mirror-target-timeout", wrong[i], timeout);
    bad ("mirror-suspect-time", wrong[i], suspect);
  }
  bad ("mirror-target-timeout", "0", timeout);
  bad ("mirror-max-pause", "0", "must be milliseconds from 1 to 60000");
  bad ("mirror-max-pause", "x", "must be milliseconds from 1 to 60000");
  ck_assert_uint_eq (good ("mirror-target-timeout", "1")->timeout_s, 1);
  ck_assert_uint_eq (good ("mirror-target-timeout", "3600")->timeout_s, 3600);
  ck_assert_uint_eq (good ("mirror-suspect-time", "0")->suspect_s, 0);
  ck_assert_uint_eq (good ("mirror-suspect-time", "3600")->suspect_s, 3600);
  /* One does not change another. */
  ck_assert_uint_eq (good ("mirror-max-pause", "7")->max_pause_ms, 7);
  ck_assert_uint_eq (keys.params.timeout_s, 10);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-target-timeout", "5",
                                     error), 0);
  ck_assert_uint_eq (keys.params.suspect_s, 30);
  ck_assert_uint_eq (keys.params.max_pause_ms, 7);
}
END_TEST

START_TEST (policies)
{
  static const struct {
    const char *word;
    enum on_error value;
  } t[] = {
    { "report", ON_ERROR_REPORT }, { "ignore", ON_ERROR_IGNORE },
    { "enospc", ON_ERROR_ENOSPC }, { "stop", ON_ERROR_STOP },
  };
  static const char *const wrong[] = { "auto", "Report", "stop ", "0",
                                       "ignore,stop" };
  const char *allowed = "allowed are report, ignore, enospc and stop";
  size_t i;

  for (i = 0; i < sizeof wrong / sizeof wrong[0]; ++i) {
    bad ("mirror-on-source-error", wrong[i], allowed);
    bad ("mirror-on-target-error", wrong[i], allowed);
  }
  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    good ("mirror-on-source-error", t[i].word);
    ck_assert_int_eq (keys.params.on_source_error, t[i].value);
    ck_assert_int_eq (keys.params.on_target_error, ON_ERROR_IGNORE);
    good ("mirror-on-target-error", t[i].word);
    ck_assert_int_eq (keys.params.on_target_error, t[i].value);
    ck_assert_int_eq (keys.params.on_source_error, ON_ERROR_IGNORE);
  }
}
END_TEST

/* All of it goes to a job that is started through the control socket. */
START_TEST (copies)
{
  struct params p;

  ck_assert_int_eq (filter_keys_set (&keys, "mirror-target-timeout", "77",
                                     error), 0);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-suspect-time", "88",
                                     error), 0);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-on-source-error", "stop",
                                     error), 0);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-on-target-error",
                                     "enospc", error), 0);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-target", "nbd://h/",
                                     error), 0);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-bitmap", "/a", error), 0);
  ck_assert_int_eq (params_copy (&p, &keys.params), 0);
  ck_assert_str_eq (p.bitmap, "/a");
  ck_assert_ptr_ne (p.bitmap, keys.params.bitmap);
  ck_assert_str_eq (p.target, "nbd://h/");
  ck_assert_ptr_ne (p.target, keys.params.target);
  ck_assert_uint_eq (p.timeout_s, 77);
  ck_assert_uint_eq (p.suspect_s, 88);
  ck_assert_int_eq (p.on_source_error, ON_ERROR_STOP);
  ck_assert_int_eq (p.on_target_error, ON_ERROR_ENOSPC);
  params_clear (&p);
}
END_TEST

START_TEST (twice_and_unknown)
{
  good ("mirror-suspect-time", "1");
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-suspect-time", "1",
                                     error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "given twice"));
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-target-time", "1",
                                     error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "nearest is mirror-target-timeout"));
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-on-target-error", "",
                                     error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "is empty"));
  /* But of an export it is a name. */
  good ("mirror-export", "");
  ck_assert_ptr_null (keys.export);
  ck_assert_int_eq (filter_keys_set (&keys, "mirror-export", "e", error),
                    -EINVAL);
  ck_assert_int_eq (filter_keys_set (&keys, "file", "x", error), 1);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("params");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_add_test (tc, defaults);
  tcase_add_test (tc, intent_file);
  tcase_add_test (tc, times);
  tcase_add_test (tc, policies);
  tcase_add_test (tc, copies);
  tcase_add_test (tc, twice_and_unknown);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
