/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror: the command line of the mirror.  See nbdmirror(1).
 *
 * Parsing and --help are driven by the table of subcommands.h.
 */

#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "ctl.h"
#include "errtext.h"

enum kind { KIND_SUB, KIND_OPTION };

struct entry {
  enum kind kind;
  const char *name;
  const char *value;            /* of an option; of a SUB: its operands */
  const char *help;
  int least, most;              /* operands */
  int (*run) (const struct call *call);
};

static const struct entry table[] = {
#define SUB(id, name_, operands, least_, most_, help_)                  \
  { KIND_SUB, name_, operands, help_, least_, most_, run_##id },
#define OPT(name_, value_, help_)                       \
  { KIND_OPTION, name_, value_, help_, 0, 0, NULL },
  SUBCOMMANDS (SUB, OPT)
#undef SUB
#undef OPT
};

#define TABLE_END (table + sizeof table / sizeof table[0])

void
complain (const char *fmt, ...)
{
  CLEANUP_FREE char *line = NULL;
  va_list args;

  va_start (args, fmt);
  if (vasprintf (&line, fmt, args) < 0)
    line = NULL;
  va_end (args);
  /* Written at once: servers of "run" write to the same stderr. */
  fprintf (stderr, "nbdmirror: %s\n", line ? line : fmt);
}

const char *
call_option (const struct call *call, const char *name)
{
  unsigned i;

  for (i = 0; i < call->options_count; i++)
    if (strcmp (call->options[i].name, name) == 0)
      return call->options[i].value;
  return NULL;
}

static int
status_of (int r)
{
  if (r == -EREMOTEIO)
    return STATUS_FAILED;
  return STATUS_NO_PROXY;
}

struct client *
call_connect (const struct call *call, int timeout_ms, int *status)
{
  char error[CLIENT_ERROR_MAX];
  CLEANUP_FREE char *path = client_find (call->socket, error);
  struct client *c = NULL;
  int r = -ENOENT;

  if (path)
    r = client_open (path, timeout_ms, &c, error);
  if (r == 0)
    return c;
  complain ("%s", error);
  *status = status_of (r);
  return NULL;
}

json_t *
call_command (struct client *c, const char *name, json_t *args,
              int timeout_ms, int *status)
{
  json_t *result;
  int r = client_command (c, name, args, timeout_ms, &result);

  *status = STATUS_OK;
  if (r == 0)
    return result;
  complain ("%s: %s", name, client_error (c));
  *status = status_of (r);
  return NULL;
}

char *
call_job (struct client *c, int *status)
{
  json_t *jobs = call_command (c, "query-jobs", NULL, ANSWER_MS, status);
  const char *id;
  char *r = NULL;

  if (jobs == NULL)
    return NULL;
  id = json_string_value (json_object_get (json_array_get (jobs, 0), "id"));
  if (id)
    r = strdup (id);
  if (r == NULL) {
    complain (id ? "out of memory" : "there is no job");
    *status = STATUS_FAILED;
  }
  json_decref (jobs);
  return r;
}

int
call_written (const char *who)
{
  if (!ferror (stdout) && fflush (stdout) == 0)
    return STATUS_OK;
  complain ("%s: cannot write: %s", who, error_text (errno));
  return STATUS_FAILED;
}

/*-- help ---------------------------------------------------------------*/

static void
print_options (const struct entry *sub)
{
  const struct entry *e;

  for (e = sub + 1; e < TABLE_END && e->kind == KIND_OPTION; e++)
    printf ("      %s%s%-*s %s\n", e->name, e->value[0] ? " " : "",
            (int) (20 - strlen (e->name)), e->value, e->help);
}

static void
print_sub (const struct entry *sub)
{
  printf ("  %s %-*s %s\n", sub->name, (int) (22 - strlen (sub->name)),
          sub->value, sub->help);
  print_options (sub);
}

static int
print_help (void)
{
  const struct entry *e;

  printf ("Usage: nbdmirror [-S SOCK] COMMAND ...\n"
          "Control an nbdkit server that runs the mirror filter.\n\n");
  for (e = table; e < TABLE_END; e++)
    if (e->kind == KIND_SUB)
      print_sub (e);
  printf ("\n  -S SOCK    the control socket (mirror-control=SOCK of the"
          " server); default: $NBDMIRROR_SOCK,\n"
          "             else the only live one in the default directory\n"
          "  --help     this text\n"
          "  --version  the version\n\n"
          "Sizes may end with K, M, G or T.  See nbdmirror(1).\n");
  return STATUS_OK;
}

static int
print_sub_help (const struct entry *sub)
{
  printf ("Usage: nbdmirror [-S SOCK] %s%s%s%s\n%s\n", sub->name,
          sub[1].kind == KIND_OPTION && sub + 1 < TABLE_END
          ? " [OPTIONS]" : "",
          sub->value[0] ? " " : "", sub->value, sub->help);
  print_options (sub);
  return STATUS_OK;
}

/*-- parsing ------------------------------------------------------------*/

static const struct entry *
find_sub (const char *name)
{
  const struct entry *e;

  for (e = table; e < TABLE_END; e++)
    if (e->kind != KIND_OPTION && strcmp (e->name, name) == 0)
      return e;
  return NULL;
}

/* The option of sub that arg is, NULL: none.  *value becomes what stands in
 * the same word, NULL if nothing does.
 */
static const struct entry *
find_option (const struct entry *sub, const char *arg, const char **value)
{
  const bool is_short = arg[1] != '-';
  const size_t n = is_short ? 2 : strcspn (arg, "=");
  const struct entry *e;

  *value = arg[n] == '\0' ? NULL : arg + n + !is_short;
  for (e = sub + 1; e < TABLE_END && e->kind == KIND_OPTION; e++)
    if (strlen (e->name) == n && memcmp (e->name, arg, n) == 0)
      return e;
  return NULL;
}

/* Take argv[*i] as an option of sub, with its value in the same or the next
 * word.  Returns 0 or -EINVAL after a line on stderr.
 */
static int
take_option (struct call *call, const struct entry *sub, char **argv, int *i)
{
  const char *arg = argv[*i], *value;
  const struct entry *e = find_option (sub, arg, &value);

  if (e == NULL) {
    complain ("%s: unknown option '%s'; see nbdmirror %s --help", sub->name,
              arg, sub->name);
    return -EINVAL;
  }
  if (e->name[1] == '-' && call_option (call, e->name)) {
    complain ("%s: %s is given twice", sub->name, e->name);
    return -EINVAL;
  }
  if (call->options_count == MAX_OPTIONS) {
    complain ("%s: at most %d options are allowed", sub->name, MAX_OPTIONS);
    return -EINVAL;
  }
  if (e->value[0] == '\0' && value) {
    complain ("%s: %s takes no value", sub->name, e->name);
    return -EINVAL;
  }
  if (value)
    ;
  else if (e->value[0] == '\0')
    value = "";
  else
    value = argv[++*i];
  if (value == NULL) {
    complain ("%s: %s needs a value: %s", sub->name, e->name, e->value);
    return -EINVAL;
  }
  call->options[call->options_count].name = e->name;
  call->options[call->options_count++].value = value;
  return 0;
}

/* -S SOCK or -SSOCK; returns false if argv[*i] is something else. */
static bool
take_socket (struct call *call, char **argv, int *i)
{
  if (strncmp (argv[*i], "-S", 2) != 0)
    return false;
  call->socket = argv[*i][2] ? argv[*i] + 2 : argv[++*i];
  return true;
}

static int
run (struct call *call, const struct entry *sub, char **argv)
{
  bool options = true;
  int i;

  call->before = -1;
  call->operands = argv;        /* filled from the front while reading */
  for (i = 0; argv[i]; i++) {
    if (options && strcmp (argv[i], "--") == 0) {
      options = false;
      call->before = call->count;
    }
    else if (options && strcmp (argv[i], "--help") == 0)
      return print_sub_help (sub);
    else if (options && take_socket (call, argv, &i)) {
      if (call->socket == NULL) {
        complain ("-S needs a value: SOCK");
        return STATUS_FAILED;
      }
    }
    else if (options && argv[i][0] == '-' && argv[i][1] != '\0') {
      if (take_option (call, sub, argv, &i) < 0)
        return STATUS_FAILED;
    }
    else
      call->operands[call->count++] = argv[i];
  }
  if (call->count < sub->least || call->count > sub->most) {
    complain ("%s takes %s%s", sub->name,
              sub->most == 0 ? "no operands"
              : sub->most == 1 ? "one operand: " : "", sub->value);
    return STATUS_FAILED;
  }
  call->operands[call->count] = NULL;
  return sub->run (call);
}

int
main (int argc, char **argv)
{
  struct call call = { .socket = NULL };
  const struct entry *sub;
  int i;

  for (i = 1; i < argc && argv[i][0] == '-'; i++) {
    if (strcmp (argv[i], "--help") == 0)
      return print_help ();
    if (strcmp (argv[i], "--version") == 0) {
      printf ("nbdmirror %s\n", PACKAGE_VERSION);
      return STATUS_OK;
    }
    if (!take_socket (&call, argv, &i)) {
      complain ("unknown option '%s'; see nbdmirror --help", argv[i]);
      return STATUS_FAILED;
    }
    if (call.socket == NULL) {
      complain ("-S needs a value: SOCK");
      return STATUS_FAILED;
    }
  }
  if (i >= argc) {
    complain ("no command given; see nbdmirror --help");
    return STATUS_FAILED;
  }

  sub = find_sub (argv[i]);
  if (sub == NULL) {
    complain ("unknown command '%s'; see nbdmirror --help", argv[i]);
    return STATUS_FAILED;
  }
  return run (&call, sub, argv + i + 1);
}
