/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of verbs.h becomes one array in which the arguments of a command
 * follow it.  It is short, so that a linear search does.
 *
 * Order of checks (QEMU's, but for the first): the length of the id, which is
 * repeated in every answer, the object's members, then whether the command may
 * be given now, then each argument in the order of the table (missing, type,
 * value), at last whether there are others.
 *
 * Texts that repeat what the client sent cut it, so that every line keeps
 * below its limit.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "qmp.h"

enum kind { KIND_VERB, KIND_ARG };
enum type { NO_TYPE, STRING, STRINGS, INTEGER, UINT32, BOOLEAN };
enum need { OPTIONAL, REQUIRED, NOT_YET, NEVER };

struct entry {
  enum kind kind;
  int id;                       /* of a verb */
  enum type type;               /* the rest: of an argument */
  enum need need;
  const char *name;
  const char *values;
};

static const struct entry table[] = {
#define VERB(id_, name_, doc)                           \
  { .kind = KIND_VERB, .id = QMP_##id_, .name = name_ },
#define ARG(name_, type_, need_, values_, doc)                  \
  { .kind = KIND_ARG, .name = name_, .type = type_, .need = need_,      \
    .values = values_ },
  QMP_VERBS (VERB, ARG)
#undef VERB
#undef ARG
};

#define TABLE_LENGTH (sizeof table / sizeof table[0])
#define SHOWN 128               /* bytes of the client's text in our texts */

void
qmp_fail (struct qmp_error *error, enum qmp_class class, const char *fmt, ...)
{
  va_list args;
  char *p;

  error->class = class;
  va_start (args, fmt);
  vsnprintf (error->desc, sizeof error->desc, fmt, args);
  va_end (args);
  /* One line, whatever of the client's is repeated in it. */
  for (p = error->desc; *p; p++)
    if ((unsigned char) *p < ' ' || *p == 127)
      *p = '?';
}

#define FAIL(error, ...) qmp_fail (error, QMP_GENERIC_ERROR, __VA_ARGS__)

/*-- requests -----------------------------------------------------------*/

/* A bare word in the place of a request. */
static bool
is_bad_word (const char *text)
{
  char c = text[0];

  return ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_') &&
    strcmp (text, "true") != 0 && strcmp (text, "false") != 0 &&
    strcmp (text, "null") != 0;
}

/* The same, with "e0" after each integer of more than 64 bits, which makes it
 * a real number.  NULL when out of memory.
 */
static char *
widen (const char *text)
{
  char *out = malloc (2 * strlen (text) + 1), *p = out;
  bool quoted = false;
  size_t n;

  if (out == NULL)
    return NULL;
  while (*text) {
    n = quoted ? 0 : strspn (text, "+-.0123456789Ee");
    if (n == 0) {
      quoted ^= *text == '"';
      if (*text == '\\' && text[1])
        *p++ = *text++;
      *p++ = *text++;
      continue;
    }
    memcpy (p, text, n);
    p += n;
    errno = 0;
    strtoll (text, NULL, 10);
    if (errno == ERANGE && strcspn (text, ".Ee") >= n)
      p = stpcpy (p, "e0");
    text += n;
  }
  *p = '\0';
  return out;
}

static json_t *
load (const char *text, json_error_t *err)
{
  const size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES;
  json_t *root = json_loads (text, flags, err);
  CLEANUP_FREE char *wide = NULL;

  /* An integer of more than 64 bits is a number nevertheless: as a real one
   * it is refused by name, with the client's id.
   */
  if (root == NULL && json_error_code (err) == json_error_numeric_overflow) {
    wide = widen (text);
    if (wide)
      root = json_loads (wide, flags, err);
  }
  return root;
}

static int
parse_members (struct qmp_request *req, struct qmp_error *error)
{
  const char *key;
  json_t *value;

  json_object_foreach (req->root, key, value) {
    if (strcmp (key, "execute") == 0) {
      if (!json_is_string (value)) {
        FAIL (error, "QMP input member 'execute' must be a string");
        return -EINVAL;
      }
      req->name = json_string_value (value);
    }
    else if (strcmp (key, "arguments") == 0) {
      if (!json_is_object (value)) {
        FAIL (error, "QMP input member 'arguments' must be an object");
        return -EINVAL;
      }
      req->args = value;
    }
    else if (strcmp (key, "id") != 0) {
      FAIL (error, "QMP input member '%.*s' is unexpected", SHOWN, key);
      return -EINVAL;
    }
  }
  if (req->name == NULL) {
    FAIL (error, "QMP input lacks member 'execute'");
    return -EINVAL;
  }
  return 0;
}

/* Whatever the answer is, the id must fit into its line. */
static int
take_id (struct qmp_request *req, struct qmp_error *error)
{
  json_t *id = json_object_get (req->root, "id");
  CLEANUP_FREE char *text = NULL;

  if (id == NULL)
    return 0;
  text = json_dumps (id, JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
  if (text == NULL || strlen (text) > QMP_MAX_ID) {
    FAIL (error, "QMP input member 'id' is longer than %u bytes", QMP_MAX_ID);
    return -EINVAL;
  }
  req->id = id;
  return 0;
}

int
qmp_parse (const char *text, struct qmp_request *req, struct qmp_error *error)
{
  json_error_t err;

  memset (req, 0, sizeof *req);
  if (is_bad_word (text)) {
    FAIL (error, "JSON parse error, invalid keyword '%.*s'", SHOWN, text);
    return -EBADMSG;
  }
  req->root = load (text, &err);
  if (req->root == NULL) {
    FAIL (error, "JSON parse error, %s", err.text);
    return -EBADMSG;
  }
  if (!json_is_object (req->root)) {
    FAIL (error, "QMP input must be a JSON object");
    qmp_request_clear (req);
    return -EBADMSG;
  }
  if (take_id (req, error) < 0)
    return -EINVAL;
  return parse_members (req, error);
}

void
qmp_request_clear (struct qmp_request *req)
{
  json_decref (req->root);
  memset (req, 0, sizeof *req);
}

static const struct entry *
find_verb (const char *name)
{
  size_t i;

  for (i = 0; i < TABLE_LENGTH; i++)
    if (table[i].kind != KIND_ARG && strcmp (table[i].name, name) == 0)
      return &table[i];
  return NULL;
}

enum word { WORD_BAD, WORD_GOOD, WORD_NOT_YET };

/* Look a word up in "one|two|!three". */
static enum word
find_word (const char *values, const char *word)
{
  const size_t n = strlen (word);
  enum word found;
  size_t len;

  while (*values) {
    found = WORD_GOOD;
    if (*values == '!') {
      found = WORD_NOT_YET;
      values++;
    }
    len = strcspn (values, "|");
    if (len == n && memcmp (values, word, n) == 0)
      return found;
    values += len;
    values += *values == '|';
  }
  return WORD_BAD;
}

/* The same array is refused by name whether or not anything is offered. */
static int
check_strings (json_t *array, struct qmp_error *error)
{
  const char *word;
  size_t i;

  for (i = 0; i < json_array_size (array); i++) {
    word = json_string_value (json_array_get (array, i));
    if (word == NULL)
      FAIL (error, "Invalid parameter type for 'null', expected: string");
    else if (strcmp (word, "oob") == 0)
      FAIL (error, "Capability oob not available");
    else                        /* 'null' is QEMU's word for it */
      FAIL (error, "Parameter 'null' does not accept value '%.*s'", SHOWN,
            word);
    return -EINVAL;
  }
  return 0;
}

static bool
has_type (const json_t *value, enum type type)
{
  switch (type) {
  case STRING: return json_is_string (value);
  case STRINGS: return json_is_array (value);
  case INTEGER: return json_is_integer (value);
  case BOOLEAN: return json_is_boolean (value);
  default: return false;
  }
}

/* QEMU's texts for it are others than those for its signed numbers. */
static int
check_uint32 (const char *name, const json_t *value, struct qmp_error *error)
{
  const json_int_t n = json_integer_value (value);

  if (json_is_integer (value) && n >= 0 && n <= UINT32_MAX)
    return 0;
  FAIL (error, "Parameter '%s' expects %s", name,
        json_is_integer (value) ? "uint32_t" : "uint64");
  return -EINVAL;
}

static int
check_arg (const struct entry *arg, json_t *value, struct qmp_error *error)
{
  static const char *const type_names[] = {
    [STRING] = "string", [STRINGS] = "array", [INTEGER] = "integer",
    [BOOLEAN] = "boolean",
  };
  enum word found;

  if (arg->need == NOT_YET || arg->need == NEVER) {
    FAIL (error, "Parameter '%s' is not %s", arg->name,
          arg->need == NEVER ? "supported" : "available in this version");
    return -EINVAL;
  }
  if (arg->type == UINT32)
    return check_uint32 (arg->name, value, error);
  if (!has_type (value, arg->type)) {
    FAIL (error, "Invalid parameter type for '%s', expected: %s", arg->name,
          type_names[arg->type]);
    return -EINVAL;
  }
  if (arg->type == STRINGS)
    return check_strings (value, error);
  if (arg->values[0] == '\0')
    return 0;

  found = find_word (arg->values, json_string_value (value));
  if (found == WORD_GOOD)
    return 0;
  if (found == WORD_NOT_YET)
    FAIL (error, "Value '%s' of parameter '%s' is not available in this"
          " version", json_string_value (value), arg->name);
  else
    FAIL (error, "Parameter '%s' does not accept value '%.*s'", arg->name,
          SHOWN, json_string_value (value));
  return -EINVAL;
}

static int
check_args (const struct entry *verb, json_t *args, struct qmp_error *error)
{
  const struct entry *arg, *end = verb + 1;
  const char *key;
  json_t *value;

  while (end < table + TABLE_LENGTH && end->kind == KIND_ARG)
    end++;

  for (arg = verb + 1; arg < end; arg++) {
    value = json_object_get (args, arg->name);
    if (value) {
      if (check_arg (arg, value, error) < 0)
        return -EINVAL;
    }
    else if (arg->need == REQUIRED) {
      FAIL (error, "Parameter '%s' is missing", arg->name);
      return -EINVAL;
    }
  }

  json_object_foreach (args, key, value) {
    for (arg = verb + 1; arg < end; arg++)
      if (strcmp (arg->name, key) == 0)
        break;
    if (arg == end) {
      FAIL (error, "Parameter '%.*s' is unexpected", SHOWN, key);
      return -EINVAL;
    }
  }
  return 0;
}

int
qmp_check (struct qmp_request *req, bool negotiated, struct qmp_error *error)
{
  const struct entry *verb = find_verb (req->name);
  const bool negotiates = verb && verb->kind == KIND_VERB &&
    verb->id == QMP_qmp_capabilities;

  if (!negotiated && !negotiates) {
    qmp_fail (error, QMP_COMMAND_NOT_FOUND,
              "Expecting capabilities negotiation with 'qmp_capabilities'");
    return -EINVAL;
  }
  if (negotiated && negotiates) {
    qmp_fail (error, QMP_COMMAND_NOT_FOUND, "Capabilities negotiation is"
              " already complete, command ignored");
    return -EINVAL;
  }
  if (verb == NULL) {
    qmp_fail (error, QMP_COMMAND_NOT_FOUND,
              "The command %.*s has not been found", SHOWN, req->name);
    return -EINVAL;
  }
  req->verb = verb->id;
  return check_args (verb, req->args, error);
}

const char *
qmp_arg_string (const struct qmp_request *req, const char *name)
{
  return json_string_value (json_object_get (req->args, name));
}

int64_t
qmp_arg_int (const struct qmp_request *req, const char *name,
             int64_t otherwise)
{
  json_t *value = json_object_get (req->args, name);

  return value ? json_integer_value (value) : otherwise;
}

bool
qmp_arg_bool (const struct qmp_request *req, const char *name, bool otherwise)
{
  json_t *value = json_object_get (req->args, name);

  return value ? json_is_true (value) : otherwise;
}

bool
qmp_has_arg (const struct qmp_request *req, const char *name)
{
  return json_object_get (req->args, name) != NULL;
}

/*-- answers ------------------------------------------------------------*/

json_t *
qmp_string (const char *text)
{
  json_t *s = json_string (text);
  char *copy, *p;

  if (s)
    return s;
  copy = strdup (text);
  if (copy == NULL)
    return NULL;
  for (p = copy; *p; p++)
    if (*p & 0x80)
      *p = '?';
  s = json_string (copy);
  free (copy);
  return s;
}

/* Take over value, which may be NULL.  0 or -ENOMEM. */
static int
add (json_t *object, const char *name, json_t *value)
{
  return json_object_set_new (object, name, value) == 0 ? 0 : -ENOMEM;
}

/* Takes over object.  *too_long: NULL is returned since the line is. */
static char *
line (json_t *object, bool *too_long)
{
  CLEANUP_FREE char *text = json_dumps (object, JSON_ENSURE_ASCII);
  char *r;

  *too_long = text && strlen (text) + 2 > QMP_MAX_LINE;
  json_decref (object);
  if (text == NULL || *too_long || asprintf (&r, "%s\r\n", text) < 0)
    return NULL;
  return r;
}

char *
qmp_greeting_line (const char *package)
{
  json_t *object = json_pack ("{s:{s:o,s:[]}}", "QMP", "version",
                              qmp_version (package), "capabilities");
  bool too_long;

  return line (object, &too_long);
}

char *
qmp_error_line (const struct qmp_error *error, json_t *id)
{
  static const char *const names[] = {
    [QMP_GENERIC_ERROR] = "GenericError",
    [QMP_COMMAND_NOT_FOUND] = "CommandNotFound",
    [QMP_DEVICE_NOT_ACTIVE] = "DeviceNotActive",
  };
  json_t *object = json_object ();
  bool too_long;

  if (id && json_object_set (object, "id", id) < 0)
    goto out_of_memory;
  if (add (object, "error",
           json_pack ("{s:s,s:o}", "class", names[error->class],
                      "desc", qmp_string (error->desc))) < 0)
    goto out_of_memory;
  return line (object, &too_long);

 out_of_memory:
  json_decref (object);
  return NULL;
}

char *
qmp_return_line (json_t *result, json_t *id)
{
  struct qmp_error error;
  json_t *object = json_object ();
  bool too_long = false;
  char *r = NULL;

  if (add (object, "return", result) == 0 &&
      (id == NULL || json_object_set (object, "id", id) == 0))
    r = line (object, &too_long);
  else
    json_decref (object);
  if (too_long) {
    FAIL (&error, "The answer is longer than %u bytes", QMP_MAX_LINE);
    r = qmp_error_line (&error, id);
  }
  return r;
}

char *
qmp_event_line (const char *name, json_t *data, const struct timeval *when)
{
  json_t *object;
  bool too_long;

  object = json_pack ("{s:{s:I,s:I},s:s,s:o}", "timestamp",
                      "seconds", (json_int_t) when->tv_sec,
                      "microseconds", (json_int_t) when->tv_usec,
                      "event", name, "data", data);
  return line (object, &too_long);
}

json_t *
qmp_version (const char *package)
{
  return json_pack ("{s:{s:i,s:i,s:i},s:s}", "qemu",
                    "micro", QMP_VERSION_MICRO, "minor", QMP_VERSION_MINOR,
                    "major", QMP_VERSION_MAJOR, "package", package);
}

json_t *
qmp_commands (void)
{
  json_t *list = json_array ();
  size_t i;

  for (i = 0; i < TABLE_LENGTH; i++)
    if (table[i].kind == KIND_VERB &&
        json_array_append_new (list, json_pack ("{s:s}", "name",
                                                table[i].name)) < 0) {
      json_decref (list);
      return NULL;
    }
  return list;
}
