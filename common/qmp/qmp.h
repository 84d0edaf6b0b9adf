/* SPDX-License-Identifier: BSD-3-Clause */
/* QMP without a connection: from the text of a request to checked arguments,
 * and from results to lines.
 *
 * Error classes and texts are QEMU's wherever QEMU has the error, since
 * client programs compare them.
 *
 * Pure: no locks, no I/O.  A struct is used by one thread at a time.
 */

#ifndef MIRROR_QMP_H
#define MIRROR_QMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

#include <jansson.h>

#include "verbs.h"

#define QMP_VERSION_MAJOR 10
#define QMP_VERSION_MINOR 1
#define QMP_VERSION_MICRO 0

#define QMP_MAX_LINE (60u << 10)        /* bytes, CR LF included */
#define QMP_MAX_ID (16u << 10)          /* bytes of an id, written out */
#define QMP_DESC_MAX 1024               /* bytes of an error text, and NUL */

/* What each VERB of the table is called in C. */
enum qmp_verb {
#define VERB(id, name, doc) QMP_##id,
#define ARG(name, type, need, values, doc)
  QMP_VERBS (VERB, ARG)
#undef VERB
#undef ARG
  QMP_VERB_COUNT
};

enum qmp_class {
  QMP_GENERIC_ERROR,
  QMP_COMMAND_NOT_FOUND,
  QMP_DEVICE_NOT_ACTIVE,
};

struct qmp_error {
  enum qmp_class class;
  char desc[QMP_DESC_MAX];
};

/* The text becomes one line: control characters in it become ?. */
extern void qmp_fail (struct qmp_error *error, enum qmp_class class,
                      const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 3, 4)));

/*-- requests -----------------------------------------------------------*/

struct qmp_request {
  json_t *root;                 /* owned: the whole object */
  json_t *id;                   /* borrowed from root, NULL if none */
  json_t *args;                 /* the same; NULL if none */
  const char *name;             /* the same */
  enum qmp_verb verb;           /* after qmp_check */
};

/* text: one value, as the framer gives it.
 *
 * Returns 0; -EBADMSG: not JSON or not an object, root is NULL; -EINVAL: an
 * object, but not a request, id is what could be found.  Always initialises
 * *req; qmp_request_clear frees it.
 */
extern int qmp_parse (const char *text, struct qmp_request *req,
                      struct qmp_error *error);
extern void qmp_request_clear (struct qmp_request *req);

/* May this command be given now, and are its arguments right, each by
 * itself?  Sets req->verb.  Returns 0 or -EINVAL.
 */
extern int qmp_check (struct qmp_request *req, bool negotiated,
                      struct qmp_error *error);

/* Arguments, after qmp_check; what the client left out is NULL, or the
 * default.
 */
extern const char *qmp_arg_string (const struct qmp_request *req,
                                   const char *name);
extern int64_t qmp_arg_int (const struct qmp_request *req, const char *name,
                            int64_t otherwise);
extern bool qmp_arg_bool (const struct qmp_request *req, const char *name,
                          bool otherwise);
extern bool qmp_has_arg (const struct qmp_request *req, const char *name);

/*-- answers ------------------------------------------------------------*/

/* These return one line of ASCII with CR LF and NUL, at most QMP_MAX_LINE
 * bytes, which the caller frees; NULL when out of memory.  If a line would be
 * longer, it is an error line that says so.  result and data are taken over
 * and may be NULL, which means out of memory; id is borrowed, NULL if none.
 */
extern char *qmp_greeting_line (const char *package);
extern char *qmp_return_line (json_t *result, json_t *id);
extern char *qmp_error_line (const struct qmp_error *error, json_t *id);
/* An event that is too long is left out: NULL. */
extern char *qmp_event_line (const char *name, json_t *data,
                             const struct timeval *when);

/* The results of the commands that need nothing but the table; NULL when out
 * of memory.
 */
extern json_t *qmp_version (const char *package);
extern json_t *qmp_commands (void);

/* A string that may hold anything: what is not UTF-8 becomes ?. */
extern json_t *qmp_string (const char *text);

#endif /* MIRROR_QMP_H */
