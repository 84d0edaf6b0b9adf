/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp.c and its table: requests against the errors that QEMU gives, and
 * lines.
 */

#include <config.h>

#undef NDEBUG

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qmp.h"

#define GENERIC QMP_GENERIC_ERROR
#define NOT_FOUND QMP_COMMAND_NOT_FOUND

#define MIRROR(args) \
  "{\"execute\": \"blockdev-mirror\", \"arguments\": {" args "}}"
#define GOOD "\"target\": \"nbd://h\", \"sync\": \"full\", "
#define EXPECTING "Expecting capabilities negotiation with 'qmp_capabilities'"

/* desc NULL: accepted.  A desc that ends with * is a beginning. */
static const struct {
  bool negotiated;
  const char *text;
  enum qmp_class class;
  const char *desc;
} cases[] = {
  /* Not JSON, or not a request. */
  { true, "garbage", GENERIC,
    "JSON parse error, invalid keyword 'garbage'" },
  { true, "[]", GENERIC, "QMP input must be a JSON object" },
  { true, "17", GENERIC, "QMP input must be a JSON object" },
  { true, "true", GENERIC, "QMP input must be a JSON object" },
  { true, "\"x\"", GENERIC, "QMP input must be a JSON object" },
  { true, "17x", GENERIC, "JSON parse error, *" },
  { true, "{\"a\" 1}", GENERIC, "JSON parse error, *" },
  { true, "{\"id\": 1, \"id\": 2}", GENERIC, "JSON parse error, *" },
  { true, "{\"a\": \"\xc0\x80\"}", GENERIC, "JSON parse error, *" },
  { true, "{\"a\": \"\\u0000\"}", GENERIC, "JSON parse error, *" },
  { true, "{}", GENERIC, "QMP input lacks member 'execute'" },
  { true, "{\"foo\": 1}", GENERIC, "QMP input member 'foo' is unexpected" },
  { true, "{\"execute\": 5}", GENERIC,
    "QMP input member 'execute' must be a string" },
  { true, "{\"execute\":\"query-version\",\"arguments\":[]}", GENERIC,
    "QMP input member 'arguments' must be an object" },
  { true, "{\"execute\":\"query-version\",\"extra\":1}", GENERIC,
    "QMP input member 'extra' is unexpected" },
  { true, "{\"exec-oob\":\"query-version\"}", GENERIC,
    "QMP input member 'exec-oob' is unexpected" },

  /* Negotiation. */
  { false, "{\"execute\":\"query-version\"}", NOT_FOUND, EXPECTING },
  { false, "{\"execute\":\"nosuch\"}", NOT_FOUND, EXPECTING },
  { false, "{\"execute\":\"job-pause\"}", NOT_FOUND, EXPECTING },
  { false, "{\"execute\":\"qmp_capabilities\"}", 0, NULL },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{}}", 0, NULL },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":"
    "[]}}", 0, NULL },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":"
    "[\"nosuch\"]}}", GENERIC,
    "Parameter 'null' does not accept value 'nosuch'" },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":"
    "[\"oob\"]}}", GENERIC, "Capability oob not available" },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":"
    "[3]}}", GENERIC, "Invalid parameter type for *" },
  { false, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":1}}",
    GENERIC, "Invalid parameter type for 'enable', expected: array" },
  { true, "{\"execute\":\"qmp_capabilities\"}", NOT_FOUND, "Capabilities"
    " negotiation is already complete, command ignored" },

  /* Commands. */
  { true, "{\"execute\":\"query-version\",\"arguments\":{}}", 0, NULL },
  { true, "{\"execute\":\"nosuch-command\"}", NOT_FOUND,
    "The command nosuch-command has not been found" },
  { true, "{\"execute\":\"\"}", NOT_FOUND,
    "The command  has not been found" },
  { true, "{\"execute\":\"device\"}", NOT_FOUND,        /* an argument */
    "The command device has not been found" },
  { true, "{\"execute\":\"mirror-verify\"}", GENERIC,
    "Parameter 'action' is missing" },
  { true, "{\"execute\":\"block-job-complete\"}", GENERIC,
    "Parameter 'device' is missing" },
  { true, "{\"execute\":\"block-job-dismiss\",\"arguments\":{\"device\":"
    "\"m\"}}", GENERIC, "Parameter 'id' is missing" },
  { true, "{\"execute\":\"job-resume\",\"arguments\":{\"id\":\"m\"}}", 0,
    NULL },
  { true, "{\"execute\":\"block-job-change\",\"arguments\":{\"id\":\"m\","
    "\"copy-mode\":\"background\"}}", GENERIC, "Parameter 'type' is missing" },
  { true, "{\"execute\":\"block-job-change\",\"arguments\":{\"id\":\"m\","
    "\"type\":\"mirror\"}}", GENERIC, "Parameter 'copy-mode' is missing" },
  { true, "{\"execute\":\"block-job-change\",\"arguments\":{\"id\":\"m\","
    "\"type\":\"backup\",\"copy-mode\":\"auto\"}}", GENERIC,
    "Parameter 'type' does not accept value 'backup'" },
  { true, "{\"execute\":\"mirror-set\"}", 0, NULL },
  { true, "{\"execute\":\"mirror-set\",\"arguments\":{\"max-pause\":5}}", 0,
    NULL },
  { true, "{\"execute\":\"mirror-set\",\"arguments\":"
    "{\"target-timeout\":5,\"on-source-error\":\"stop\"}}", 0, NULL },
  { true, "{\"execute\":\"mirror-set\",\"arguments\":"
    "{\"on-target-error\":\"never\"}}", GENERIC,
    "Parameter 'on-target-error' does not accept value 'never'" },
  { true, "{\"execute\":\"mirror-hold\",\"arguments\":{\"timeout\":\"5\"}}",
    GENERIC, "Invalid parameter type for 'timeout', expected: integer" },
  { true, "{\"execute\":\"mirror-release\"}", 0, NULL },
  { true, "{\"execute\":\"mirror-fence\",\"arguments\":{\"enable\":0}}",
    GENERIC, "Invalid parameter type for 'enable', expected: boolean" },
  { true, "{\"execute\":\"query-version\",\"arguments\":{\"nope\":1}}",
    GENERIC, "Parameter 'nope' is unexpected" },

  /* Arguments: the next command's are not this one's. */
  { true, MIRROR (""), GENERIC, "Parameter 'target' is missing" },
  { true, MIRROR ("\"target\":\"x\""), GENERIC,
    "Parameter 'sync' is missing" },
  { true, MIRROR ("\"job-id\":5"), GENERIC,
    "Invalid parameter type for 'job-id', expected: string" },
  { true, MIRROR (GOOD "\"device\":\"source\""), 0, NULL },
  { true, MIRROR (GOOD "\"nope\":1"), GENERIC,
    "Parameter 'nope' is unexpected" },
  { true, MIRROR (GOOD "\"force\":true"), GENERIC,
    "Parameter 'force' is unexpected" },
  { true, MIRROR ("\"target\":\"x\",\"sync\":\"bogus\""), GENERIC,
    "Parameter 'sync' does not accept value 'bogus'" },
  { true, MIRROR ("\"target\":\"x\",\"sync\":\"\""), GENERIC,
    "Parameter 'sync' does not accept value ''" },
  { true, MIRROR ("\"target\":\"x\",\"sync\":\"ful\""), GENERIC,
    "Parameter 'sync' does not accept value 'ful'" },
  { true, MIRROR ("\"target\":\"x\",\"sync\":\"full|none\""), GENERIC,
    "Parameter 'sync' does not accept value 'full|none'" },
  { true, MIRROR (GOOD "\"copy-mode\":\"write-blocking\""), 0, NULL },
  { true, MIRROR (GOOD "\"copy-mode\":\"auto\""), 0, NULL },
  { true, MIRROR (GOOD "\"copy-mode\":\"!auto\""), GENERIC,
    "Parameter 'copy-mode' does not accept value '!auto'" },
  { true, MIRROR (GOOD "\"on-target-error\":\"ignore\""), 0, NULL },
  { true, MIRROR (GOOD "\"on-target-error\":\"stop\""), 0, NULL },
  { true, MIRROR (GOOD "\"on-source-error\":\"report\""), 0, NULL },
  { true, MIRROR (GOOD "\"on-source-error\":\"enospc\""), 0, NULL },
  { true, MIRROR (GOOD "\"on-source-error\":\"auto\""), GENERIC,
    "Parameter 'on-source-error' does not accept value 'auto'" },
  { true, MIRROR (GOOD "\"on-target-error\":\"bogus\""), GENERIC,
    "Parameter 'on-target-error' does not accept value 'bogus'" },
  { true, MIRROR (GOOD "\"speed\":\"4M\""), GENERIC,
    "Invalid parameter type for 'speed', expected: integer" },
  { true, MIRROR (GOOD "\"speed\":1.5"), GENERIC,
    "Invalid parameter type for 'speed', expected: integer" },
  { true, MIRROR (GOOD "\"speed\":99999999999999999999"), GENERIC,
    "Invalid parameter type for 'speed', expected: integer" },
  { true, MIRROR (GOOD "\"speed\":null"), GENERIC,
    "Invalid parameter type for 'speed', expected: integer" },
  { true, MIRROR (GOOD "\"auto-dismiss\":1"), GENERIC,
    "Invalid parameter type for 'auto-dismiss', expected: boolean" },
  { true, MIRROR (GOOD "\"target-is-zero\":true"), 0, NULL },
  { true, MIRROR (GOOD "\"max-pause\":5"), 0, NULL },
  { true, MIRROR (GOOD "\"target-timeout\":5"), 0, NULL },
  { true, MIRROR (GOOD "\"suspect-time\":5"), GENERIC,
    "Parameter 'suspect-time' is unexpected" },
  { true, MIRROR (GOOD "\"tls-psk\":\"x\""), GENERIC,
    "Parameter 'tls-psk' is not available in this version" },
  { true, MIRROR (GOOD "\"replaces\":\"x\""), GENERIC,
    "Parameter 'replaces' is not supported" },
  { true, MIRROR (GOOD "\"filter-node-name\":\"x\""), GENERIC,
    "Parameter 'filter-node-name' is not supported" },
};

START_TEST (requests)
{
  struct qmp_request req;
  struct qmp_error error = { .desc = "" };
  const char *desc = cases[_i].desc;
  size_t n;
  int r = qmp_parse (cases[_i].text, &req, &error);

  if (r == 0)
    r = qmp_check (&req, cases[_i].negotiated, &error);
  if (desc == NULL)
    ck_assert_msg (r == 0, "%s: %s", cases[_i].text, error.desc);
  else {
    ck_assert_int_lt (r, 0);
    n = strlen (desc);
    if (desc[n - 1] == '*') {
      ck_assert_uint_gt (strlen (error.desc), n - 1);
      error.desc[n - 1] = '*';
      error.desc[n] = '\0';
    }
    ck_assert_str_eq (error.desc, desc);
    ck_assert (error.class == cases[_i].class);
  }
  qmp_request_clear (&req);
}
END_TEST

START_TEST (arguments)
{
  struct qmp_request req;
  struct qmp_error error;

  ck_assert_int_eq (qmp_parse (MIRROR (GOOD "\"speed\": 9223372036854775807,"
                                       "\"auto-dismiss\": false"), &req,
                               &error), 0);
  ck_assert_int_eq (qmp_check (&req, true, &error), 0);
  ck_assert (req.verb == QMP_blockdev_mirror);
  ck_assert_str_eq (qmp_arg_string (&req, "target"), "nbd://h");
  ck_assert_ptr_null (qmp_arg_string (&req, "job-id"));
  ck_assert_int_eq (qmp_arg_int (&req, "speed", -1), INT64_MAX);
  ck_assert_int_eq (qmp_arg_int (&req, "granularity", -1), -1);
  ck_assert (!qmp_arg_bool (&req, "auto-dismiss", true));
  ck_assert (qmp_arg_bool (&req, "auto-finalize", true));
  ck_assert (qmp_has_arg (&req, "speed"));
  ck_assert (!qmp_has_arg (&req, "device"));
  qmp_request_clear (&req);

  /* No arguments at all. */
  ck_assert_int_eq (qmp_parse ("{\"execute\": \"query-jobs\"}", &req,
                               &error), 0);
  ck_assert_int_eq (qmp_check (&req, true, &error), 0);
  ck_assert (!qmp_has_arg (&req, "x"));
  ck_assert_ptr_null (qmp_arg_string (&req, "x"));
  qmp_request_clear (&req);
}
END_TEST

/* With an error, too, the id is there if it can be. */
START_TEST (ids)
{
  static const struct { const char *text; int r; bool id; } t[] = {
    { "{\"id\": 1, \"execute\": \"x\"}", 0, true },
    { "{\"execute\": \"x\", \"id\": null}", 0, true },
    { "{\"execute\": \"x\"}", 0, false },
    { "{\"id\": 1, \"foo\": 2}", -1, true },
    { "{\"foo\": 2, \"id\": 1}", -1, true },
    { "{\"foo\": 99999999999999999999, \"id\": 1}", -1, true },
    { "[{\"id\": 1}]", -1, false },
    { "{\"id\": 1", -1, false },
  };
  struct qmp_request req;
  struct qmp_error error;
  char *text;
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; i++) {
    ck_assert_int_eq (qmp_parse (t[i].text, &req, &error) < 0, t[i].r < 0);
    ck_assert_int_eq (req.id != NULL, t[i].id);
    qmp_request_clear (&req);
  }

  /* One that would not fit into a line is refused before anything is done. */
  ck_assert_int_ge (asprintf (&text, "{\"execute\": \"quit\", \"id\":"
                              " \"%0*d\"}", (int) QMP_MAX_ID, 0), 0);
  ck_assert_int_lt (qmp_parse (text, &req, &error), 0);
  ck_assert_ptr_null (req.id);
  qmp_request_clear (&req);
  free (text);
  ck_assert_int_ge (asprintf (&text, "{\"execute\": \"quit\", \"id\":"
                              " \"%0*d\"}", (int) QMP_MAX_ID - 2, 0), 0);
  ck_assert_int_eq (qmp_parse (text, &req, &error), 0);
  qmp_request_clear (&req);
  free (text);
}
END_TEST

/* Every entry of the table, by what the table says of it. */
enum { OPTIONAL, REQUIRED, NOT_YET, NEVER };
enum { STRING, STRINGS, INTEGER, BOOLEAN, UINT32 = INTEGER };

static const struct {
  char kind;
  const char *name;
  int type, need;
  const char *values, *doc;
} table[] = {
#define VERB(id, name, doc) { 'V', name, 0, 0, "", doc },
#define ARG(name, type, need, values, doc) \
  { 'A', name, type, need, values, doc },
  QMP_VERBS (VERB, ARG)
#undef VERB
#undef ARG
};

START_TEST (whole_table)
{
  static const char *const samples[] = { "\"x\"", "[]", "7", "true" };
  struct qmp_request req;
  struct qmp_error error;
  const char *verb = NULL;
  char *text;
  size_t i, j;

  for (i = 0; i < sizeof table / sizeof table[0]; i++) {
    if (table[i].kind != 'A') {
      verb = table[i].name;
      for (j = 0; j < i; j++)
        ck_assert (table[j].kind == 'A' || strcmp (table[j].name, verb) != 0);
      continue;
    }
    ck_assert_msg ((table[i].doc[0] != '\0') == (table[i].need < NOT_YET),
                   "%s %s", verb, table[i].name);
    /* The wrong type is refused by name, whatever else is missing. */
    for (j = 0; j < 4; j++) {
      ck_assert_int_ge (asprintf (&text, "{\"execute\": \"%s\", "
                                  "\"arguments\": {\"%s\": %s}}", verb,
                                  table[i].name, samples[j]), 0);
      ck_assert_int_eq (qmp_parse (text, &req, &error), 0);
      if ((int) j != table[i].type) {
        ck_assert_int_lt (qmp_check (&req, strcmp (verb, "qmp_capabilities"),
                                     &error), 0);
        ck_assert_msg (strstr (error.desc, table[i].name) != NULL ||
                       strstr (error.desc, "is missing") != NULL,
                       "%s: %s", text, error.desc);
      }
      qmp_request_clear (&req);
      free (text);
    }
  }
}
END_TEST

START_TEST (commands)
{
  json_t *list = qmp_commands ();
  size_t i, n = 0;

  for (i = 0; i < sizeof table / sizeof table[0]; i++)
    if (table[i].kind == 'V') {
      ck_assert_str_eq (json_string_value
                        (json_object_get (json_array_get (list, n), "name")),
                        table[i].name);
      n++;
    }
  ck_assert_uint_eq (json_array_size (list), n);
  ck_assert_uint_eq (n, QMP_VERB_COUNT);
  json_decref (list);
}
END_TEST

static void
check_line (char *line, const char *expected)
{
  ck_assert_ptr_nonnull (line);
  ck_assert_str_eq (line, expected);
  free (line);
}

START_TEST (lines)
{
  struct qmp_error error = { QMP_DEVICE_NOT_ACTIVE, "caf\xc3\xa9\n\"" };
  json_t *id = json_pack ("{s:[i,n]}", "a", 1);
  const struct timeval when = { 12, 345678 };
  char *line, *p;

  check_line (qmp_greeting_line ("us"),
              "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 1,"
              " \"major\": 10}, \"package\": \"us\"}, \"capabilities\": []}}"
              "\r\n");
  check_line (qmp_return_line (json_object (), NULL),
              "{\"return\": {}}\r\n");
  check_line (qmp_return_line (json_array (), id),
              "{\"return\": [], \"id\": {\"a\": [1, null]}}\r\n");
  check_line (qmp_error_line (&error, NULL),
              "{\"error\": {\"class\": \"DeviceNotActive\", \"desc\":"
              " \"caf\\u00E9\\n\\\"\"}}\r\n");
  strcpy (error.desc, "bad \xff");
  check_line (qmp_error_line (&error, id),
              "{\"id\": {\"a\": [1, null]}, \"error\": {\"class\":"
              " \"DeviceNotActive\", \"desc\": \"bad ?\"}}\r\n");
  check_line (qmp_event_line ("E", json_object (), &when),
              "{\"timestamp\": {\"seconds\": 12, \"microseconds\": 345678},"
              " \"event\": \"E\", \"data\": {}}\r\n");

  /* What is too long is replaced by an error, and events are left out. */
  ck_assert_int_ge (asprintf (&p, "%0*d", (int) QMP_MAX_LINE, 0), 0);
  line = qmp_return_line (json_string (p), id);
  ck_assert_ptr_nonnull (strstr (line, "The answer is longer than"));
  ck_assert_ptr_nonnull (strstr (line, "[1, null]"));
  free (line);
  ck_assert_ptr_null (qmp_event_line ("E", json_pack ("{s:s}", "x", p),
                                      &when));
  /* {"return": "..."} CR LF */
  p[QMP_MAX_LINE - strlen ("{\"return\": \"\"}\r\n")] = '\0';
  line = qmp_return_line (json_string (p), NULL);
  ck_assert_uint_eq (strlen (line), QMP_MAX_LINE);
  ck_assert_ptr_null (strstr (line, "error"));
  free (line);
  free (p);

  /* Out of memory while the result was made. */
  ck_assert_ptr_null (qmp_return_line (NULL, NULL));
  ck_assert_ptr_null (qmp_event_line ("E", NULL, &when));
  json_decref (id);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("verbs");
  TCase *tc = tcase_create ("verbs");
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 300);
  tcase_add_loop_test (tc, requests, 0, sizeof cases / sizeof cases[0]);
  tcase_add_test (tc, arguments);
  tcase_add_test (tc, ids);
  tcase_add_test (tc, whole_table);
  tcase_add_test (tc, commands);
  tcase_add_test (tc, lines);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
