/* SPDX-License-Identifier: BSD-3-Clause */
/* The option -r on nbdkit's command line. */

#include <config.h>

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "readonly.h"

/* Words are separated, and ended, by spaces. */
static bool
asked (const char *words)
{
  char text[256];
  size_t i, n = strlen (words);
  FILE *f;
  bool r;

  ck_assert_uint_lt (n, sizeof text);
  for (i = 0; i < n; ++i)
    text[i] = words[i] == ' ' ? '\0' : words[i];
  f = fmemopen (text, n, "r");
  ck_assert_ptr_nonnull (f);
  r = readonly_asked (f);
  fclose (f);
  return r;
}

START_TEST (command_lines)
{
  static const struct {
    const char *words;
    bool asked;
  } cases[] = {
    { "nbdkit -r file x ", true },
    { "nbdkit -fr file x ", true },
    { "nbdkit -rf file x ", true },
    { "nbdkit file x -r ", true },
    { "nbdkit -f -p 0 -r file ", true },
    { "nbdkit -p0 -r file ", true },
    { "nbdkit -fp 0 -r file ", true },
    { "nbdkit --filter=mirror --readonly file ", true },
    { "nbdkit --read-only file ", true },
    { "nbdkit --re file ", true },
    { "nbdkit --run true -r file ", true },
    { "nbdkit file x ", false },
    { "nbdkit ", false },
    { "-r file ", false },
    { "nbdkit --filter=mirror file=-r mirror-target=-r ", false },
    { "nbdkit file -- -r ", false },
    { "nbdkit -Pr file ", false },
    { "nbdkit -P -r file ", false },
    { "nbdkit -fU -r file ", false },
    { "nbdkit -e -r file ", false },
    { "nbdkit -f  - file ", false },
    { "nbdkit --run r --r file ", false },
    { "nbdkit --readonly-file=x --reader file ", false },
  };
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i)
    ck_assert_msg (asked (cases[i].words) == cases[i].asked, "%s",
                   cases[i].words);
}
END_TEST

/* The test itself has been started without. */
START_TEST (this_process)
{
  ck_assert (!readonly_is_server ());
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("readonly");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_add_test (tc, command_lines);
  tcase_add_test (tc, this_process);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
