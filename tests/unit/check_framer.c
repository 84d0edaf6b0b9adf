/* SPDX-License-Identifier: BSD-3-Clause */
/* framer.c: what comes out must not depend on how the input is cut up. */

#include <config.h>

#undef NDEBUG

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "framer.h"

/* What the framer has said, one line each: "V text", "E text", "F text". */
struct log {
  char *text;
  size_t length, size;
};

static void __attribute__ ((__format__ (__printf__, 2, 3)))
say (struct log *log, const char *fmt, ...)
{
  va_list args;
  char *line;
  int n;

  va_start (args, fmt);
  n = vasprintf (&line, fmt, args);
  va_end (args);
  ck_assert_int_ge (n, 0);
  if (log->length + n + 1 > log->size) {
    log->size = (log->length + n + 1) * 2;
    log->text = realloc (log->text, log->size);
    ck_assert_ptr_nonnull (log->text);
  }
  memcpy (log->text + log->length, line, n + 1);
  log->length += n;
  free (line);
}

/* Returns false after a fatal error. */
static bool
feed (struct framer *f, const char *bytes, size_t count, struct log *log)
{
  enum framer_result r;
  size_t used;

  do {
    r = framer_feed (f, bytes, count, &used);
    ck_assert_uint_le (used, count);
    switch (r) {
    case FRAMER_MORE:
      ck_assert_uint_eq (used, count);
      break;
    case FRAMER_VALUE:
      ck_assert_uint_eq (strlen (f->text), f->length);
      ck_assert_uint_le (f->length, 2 * FRAMER_MAX_BYTES);
      say (log, "V %s\n", f->text);
      break;
    case FRAMER_ERROR:
      say (log, "E %s\n", f->error);
      break;
    case FRAMER_FATAL:
      say (log, "F %s\n", f->error);
      return false;
    }
    bytes += used;
    count -= used;
  } while (r != FRAMER_MORE);
  return true;
}

/* The log of the input cut into pieces of that many bytes, but the first one,
 * which has `first`.  To be freed.
 */
static char *
run (const char *input, size_t count, size_t first, size_t piece)
{
  struct framer f;
  struct log log = { NULL, 0, 0 };
  size_t n;

  framer_init (&f);
  say (&log, "%s", "");
  for (n = first; count > 0; n = piece) {
    if (n > count)
      n = count;
    if (!feed (&f, input, n, &log))
      break;
    input += n;
    count -= n;
  }
  framer_clear (&f);
  return log.text;
}

static const struct {
  const char *input;
  size_t count;                 /* 0: strlen */
  const char *log;
} cases[] = {
  { "", 0, "" },
  { " \t\r\n", 0, "" },
  { "{", 0, "" },
  { "{}", 0, "V {}\n" },
  { " {}\r\n{} ", 0, "V {}\nV {}\n" },
  { "{}{\"a\": [{}, [1]]}{}", 0, "V {}\nV {\"a\": [{}, [1]]}\nV {}\n" },
  /* Brackets in strings. */
  { "{\"}\": \"]{\\\"}\"}{}", 0, "V {\"}\": \"]{\\\"}\"}\nV {}\n" },
  { "{\"a\": \"\\\\\"}{}", 0, "V {\"a\": \"\\\\\"}\nV {}\n" },
  /* Single quotes. */
  { "{'a': 'b\"c'}", 0, "V {\"a\": \"b\\\"c\"}\n" },
  { "{'a': 'b\\'c\\\\'}", 0, "V {\"a\": \"b'c\\\\\"}\n" },
  { "{'a': \"b'c\\'\"}", 0, "V {\"a\": \"b'c'\"}\n" },
  { "{'a': '\\\"'}", 0, "V {\"a\": \"\\\"\"}\n" },
  /* Not an object: one value, and the rest of the line is skipped. */
  { "garbage\n", 0, "V garbage\n" },
  { "garbage more garbage\n{}", 0, "V garbage\nV {}\n" },
  { "garbage{}", 0, "V garbage\nV {}\n" },
  { "17 {}", 0, "V 17\nV {}\n" },
  { "-1.5e+3\n", 0, "V -1.5e+3\n" },
  { "garbage", 0, "" },
  { "[]", 0, "V []\n" },
  { "[{}]{}", 0, "V [{}]\nV {}\n" },
  { "[]]]\n{}", 0, "V []\nV {}\n" },
  { "\"a}\"{}", 0, "V \"a}\"\nV {}\n" },
  { "'a\"'{}", 0, "V \"a\\\"\"\nV {}\n" },
  /* Brackets that do not match: the whole line is lost. */
  { "}{}\n{}", 0, "E JSON parse error, stray '}'\nV {}\n" },
  { "{]}{}{'a':1}\n{}", 0, "E JSON parse error, stray ']'\nV {}\n" },
  { "{[}", 0, "E JSON parse error, stray '}'\n" },
  { ",,,\n{}", 0, "E JSON parse error, stray ','\nV {}\n" },
  { "\\\n", 0, "E JSON parse error, stray '\\'\n" },
  /* Forbidden bytes: up to the next {. */
  { "\0\0\0{}", 5, "E JSON parse error, stray '\\x00'\nV {}\n" },
  { "\xff{}", 0, "E JSON parse error, stray '\\xff'\nV {}\n" },
  { "{\"a\xff\xff\"b{}", 0, "E JSON parse error, stray '\\xff'\nV {}\n" },
  { "{\"a\nb\"}\n{}", 0, "E JSON parse error, stray '\\x0a'\nV {}\n" },
  { "{\"a\0\"}\n{}", 9, "E JSON parse error, stray '\\x00'\nV {}\n" },
  { "{\x7f}\n{}", 0, "E JSON parse error, stray '\\x7f'\nV {}\n" },
  { "{\xc3\xa9}\n{}", 0, "E JSON parse error, stray '\\xc3'\nV {}\n" },
  /* Bad UTF-8 in strings and nonsense between brackets are the parser's. */
  { "{\"\xc3\xa9\xc0\"}", 0, "V {\"\xc3\xa9\xc0\"}\n" },
  { "{a b, , : 1}", 0, "V {a b, , : 1}\n" },
};

static size_t
case_count (int i)
{
  return cases[i].count ? cases[i].count : strlen (cases[i].input);
}

START_TEST (known_input)
{
  const size_t count = case_count (_i);
  size_t first, piece;
  char *log;

  for (first = 0; first <= count; first++)
    for (piece = 1; piece <= count + 1; piece++) {
      log = run (cases[_i].input, count, first, piece);
      ck_assert_str_eq (log, cases[_i].log);
      free (log);
    }
}
END_TEST

/* A word at the end is reported when it is asked for. */
START_TEST (words)
{
  struct framer f;
  size_t used;

  framer_init (&f);
  ck_assert (framer_end_word (&f) == FRAMER_MORE);
  ck_assert (framer_feed (&f, " garb", 5, &used) == FRAMER_MORE);
  ck_assert (framer_in_word (&f));
  framer_pause (&f);
  ck_assert (framer_in_word (&f));
  ck_assert (framer_feed (&f, "age", 3, &used) == FRAMER_MORE);
  ck_assert (framer_end_word (&f) == FRAMER_VALUE);
  ck_assert_str_eq (f.text, "garbage");
  ck_assert (!framer_in_word (&f));
  /* The rest of it is no new word, before a pause. */
  ck_assert (framer_feed (&f, "more", 4, &used) == FRAMER_MORE);
  ck_assert (!framer_in_word (&f));
  framer_pause (&f);
  ck_assert (framer_feed (&f, "more", 4, &used) == FRAMER_MORE);
  ck_assert (framer_in_word (&f));
  framer_clear (&f);
}
END_TEST

/* A pause ends the throwing away, but not a value. */
START_TEST (pauses)
{
  struct framer f;
  struct log log = { NULL, 0, 0 };

  framer_init (&f);
  feed (&f, "{]{", 3, &log);
  framer_pause (&f);
  feed (&f, "{\"a\"", 4, &log);
  framer_pause (&f);
  feed (&f, ": 1}{}", 6, &log);
  framer_reject (&f);
  feed (&f, "]]", 2, &log);
  framer_pause (&f);
  feed (&f, "]", 1, &log);
  ck_assert_str_eq (log.text, "E JSON parse error, stray ']'\n"
                    "V {\"a\": 1}\nV {}\n"
                    "E JSON parse error, stray ']'\n");
  free (log.text);
  framer_clear (&f);
}
END_TEST

static const char too_long[] = "F QMP input is longer than 65536 bytes\n";

START_TEST (longest)
{
  static const char *const forms[][3] = {
    { "{\"", "a", "\"}" }, { "{", " ", "}" }, { "{'", "\"", "'}" },
    { "", "a", "\n" }, { "\"", "a", "\"" }, { "[", "1", "]" },
  };
  const char *const *form = forms[_i];
  const size_t head = strlen (form[0]), tail = strlen (form[2]);
  /* The byte that ends a word is not part of it. */
  const size_t most = FRAMER_MAX_BYTES + (head == 0);
  char *input = malloc (most + 2), *log;

  ck_assert_ptr_nonnull (input);
  memset (input, form[1][0], most + 2);
  memcpy (input, form[0], head);
  memcpy (input + most - tail, form[2], tail);
  log = run (input, most, most, 1);
  ck_assert_int_eq (log[0], 'V');
  free (log);

  memset (input, form[1][0], most + 2);
  memcpy (input, form[0], head);
  memcpy (input + most + 1 - tail, form[2], tail);
  log = run (input, most + 1, 4096, 4096);
  ck_assert_str_eq (log, too_long);
  free (log);
  free (input);
}
END_TEST

START_TEST (deepest)
{
  const char open = _i ? '[' : '{', close = _i ? ']' : '}';
  char input[2 * FRAMER_MAX_DEPTH + 2], *log;

  memset (input, open, FRAMER_MAX_DEPTH);
  memset (input + FRAMER_MAX_DEPTH, close, FRAMER_MAX_DEPTH);
  log = run (input, 2 * FRAMER_MAX_DEPTH, 1, 1);
  ck_assert_int_eq (log[0], 'V');
  free (log);

  memset (input, open, FRAMER_MAX_DEPTH + 1);
  log = run (input, FRAMER_MAX_DEPTH + 1, 1, 1);
  ck_assert_str_eq (log, "F JSON nesting depth limit exceeded\n");
  free (log);
}
END_TEST

/* All 64 levels have the right kind of bracket. */
START_TEST (mixed_brackets)
{
  char input[2 * FRAMER_MAX_DEPTH + 1] = { 0 }, *log;
  unsigned i;

  srand48 (_i);
  for (i = 0; i < FRAMER_MAX_DEPTH; i++) {
    const bool array = lrand48 () & 1;

    input[i] = array ? '[' : '{';
    input[2 * FRAMER_MAX_DEPTH - 1 - i] = array ? ']' : '}';
  }
  log = run (input, 2 * FRAMER_MAX_DEPTH, 1, 1);
  ck_assert_int_eq (log[0], 'V');
  free (log);

  i = FRAMER_MAX_DEPTH + lrand48 () % FRAMER_MAX_DEPTH;
  input[i] = input[i] == ']' ? '}' : ']';
  log = run (input, 2 * FRAMER_MAX_DEPTH, 1, 1);
  ck_assert_int_eq (log[0], 'E');
  free (log);
}
END_TEST

/* Random bytes, mostly those that matter: nothing is read or written out of
 * place (sanitizers), and pieces of any size give the same.
 */
START_TEST (random_bytes)
{
  static const char likely[] = "{}[]{}[]\"\"''\\\\,: \n\t\r01aetx-+.\x01\x7f"
    "\x80\xc3\xa9\xfe\xff";
  char input[300], *a, *b;
  size_t count, i;

  srand48 (_i);
  count = lrand48 () % sizeof input;
  for (i = 0; i < count; i++)
    input[i] = lrand48 () % 20 == 0 ? (char) (lrand48 () & 0xff)
      : likely[lrand48 () % sizeof likely];
  a = run (input, count, count, 1);
  b = run (input, count, 1 + lrand48 () % 50, 1 + lrand48 () % 7);
  ck_assert_str_eq (a, b);
  free (a);
  free (b);
}
END_TEST

static json_t *
random_json (unsigned depth)
{
  static const char *const strings[] = {
    "", "a", "}{", "][", "\"", "\\", "\\\"", "'", "\n\t\x01", "\u00e9\u20ac",
  };
  json_t *v;
  long n;

  switch (lrand48 () % (depth > 0 ? 7 : 5)) {
  case 0: return json_integer (lrand48 () - (1L << 30));
  case 1: return json_real (drand48 ());
  case 2: return json_boolean (lrand48 () & 1);
  case 3: return json_null ();
  case 4: return json_string (strings[lrand48 () % 10]);
  case 5:
    v = json_array ();
    for (n = lrand48 () % 4; n > 0; n--)
      json_array_append_new (v, random_json (depth - 1));
    return v;
  default:
    v = json_object ();
    for (n = lrand48 () % 4; n > 0; n--)
      json_object_set_new (v, strings[lrand48 () % 10],
                           random_json (depth - 1));
    return v;
  }
}

static json_t *
random_object (void)
{
  json_t *o = json_object ();

  json_object_set_new (o, "execute", random_json (4));
  json_object_set_new (o, "id", random_json (4));
  return o;
}

/* The same in single quotes. */
static void
requote (char *text)
{
  char *p;

  for (p = text; *p; p++)
    if (*p == '\\')
      p++;
    else if (*p == '"')
      *p = '\'';
    else if (*p == '\'')
      *p = 'x';                 /* it would need a backslash */
}

/* A stream of objects comes out as it went in, against another parser. */
START_TEST (random_objects)
{
  static const char *const spaces[] = { "", " ", "\n", "\r\n", "\t\n " };
  struct framer f;
  json_t *objects[10], *o;
  char *stream = strdup (""), *next, *text;
  size_t used, at = 0;
  unsigned i;

  srand48 (_i);
  for (i = 0; i < 10; i++) {
    objects[i] = random_object ();
    text = json_dumps (objects[i], 0);
    if (lrand48 () & 1) {
      json_decref (objects[i]);
      for (next = text; (next = strchr (next, '\'')) != NULL; )
        *next = 'x';
      objects[i] = json_loads (text, 0, NULL);
      requote (text);
    }
    ck_assert_int_ge (asprintf (&next, "%s%s%s", stream, text,
                                spaces[lrand48 () % 5]), 0);
    free (text);
    free (stream);
    stream = next;
  }

  framer_init (&f);
  for (i = 0; i < 10; i++) {
    ck_assert (framer_feed (&f, stream + at, strlen (stream + at), &used)
               == FRAMER_VALUE);
    at += used;
    o = json_loads (f.text, 0, NULL);
    ck_assert (json_equal (o, objects[i]));
    json_decref (o);
    json_decref (objects[i]);
  }
  ck_assert (framer_feed (&f, stream + at, strlen (stream + at), &used)
             == FRAMER_MORE);
  framer_clear (&f);
  free (stream);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("framer");
  TCase *tc = tcase_create ("framer");
  const char *n = getenv ("STRESS");
  const int rounds = n ? 100000 : 2000;
  SRunner *runner;
  int failed;

  tcase_set_timeout (tc, 300);
  tcase_add_loop_test (tc, known_input, 0, sizeof cases / sizeof cases[0]);
  tcase_add_test (tc, words);
  tcase_add_test (tc, pauses);
  tcase_add_loop_test (tc, longest, 0, 6);
  tcase_add_loop_test (tc, deepest, 0, 2);
  tcase_add_loop_test (tc, mixed_brackets, 0, 20);
  tcase_add_loop_test (tc, random_bytes, 0, rounds);
  tcase_add_loop_test (tc, random_objects, 0, rounds / 4);
  suite_add_tcase (suite, tc);

  runner = srunner_create (suite);
  srunner_run_all (runner, CK_NORMAL);
  failed = srunner_ntests_failed (runner);
  srunner_free (runner);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
