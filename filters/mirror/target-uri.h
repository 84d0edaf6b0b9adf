/* SPDX-License-Identifier: BSD-3-Clause */
/* What an NBD URI says, without connecting.  For any string, also one that is
 * no URI.
 */

#ifndef MIRROR_TARGET_URI_H
#define MIRROR_TARGET_URI_H

#include <stdbool.h>

/* scheme://user@host:port/path?query#fragment; pointers into the string. */
struct uri_parts {
  const char *authority;        /* after "scheme://" */
  const char *host;             /* authority without "user@" */
  const char *path;             /* at "/", or at its end */
  const char *query;            /* at "?", or at its end */
  const char *fragment;         /* at "#", or at its end */
};

extern struct uri_parts uri_split (const char *uri);

/* Step through the parameters of the query.  Begin with *end = parts->query;
 * true: there is one more, from *param to *end.
 */
extern bool uri_next_param (const struct uri_parts *parts,
                            const char **param, const char **end);

/* Does that parameter, percent-decoded and in lower case, begin with the
 * (lower-case) prefix?
 */
extern bool uri_param_begins (const char *param, const char *end,
                              const char *prefix);

/* The text from s to end, percent-decoded.  To be freed; NULL when out of
 * memory.
 */
extern char *uri_decode (const char *s, const char *end);

/* Put the line "URI: reason" into error (TARGET_ERROR_MAX bytes), in printable
 * ASCII: servers may have worded the reason.  uri: what may be shown of it.
 */
extern void target_error (char *error, const char *uri, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 3, 4)));

#endif /* MIRROR_TARGET_URI_H */
