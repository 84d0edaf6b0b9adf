/* SPDX-License-Identifier: BSD-3-Clause */
/* The text of an errno.
 *
 * Thread-safe, unlike strerror, and free of the locale: these texts go to
 * logs and to programs.  The string is constant.
 */

#ifndef MIRROR_ERRTEXT_H
#define MIRROR_ERRTEXT_H

#include <string.h>

/* err: positive. */
static inline const char *
error_text (int err)
{
  const char *text = strerrordesc_np (err);

  return text ? text : "unknown error";
}

#endif /* MIRROR_ERRTEXT_H */
