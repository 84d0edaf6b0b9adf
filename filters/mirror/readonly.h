/* SPDX-License-Identifier: BSD-3-Clause */
/* Was nbdkit started with -r? */

#ifndef MIRROR_READONLY_H
#define MIRROR_READONLY_H

#include <stdbool.h>
#include <stdio.h>

/* Do these words, the first of which is the program's name, ask nbdkit for a
 * read-only export?  Each ends with a NUL byte.  false when out of memory.
 */
extern bool readonly_asked (FILE *words);

/* The same of the process that we are in; false if that cannot be found out. */
extern bool readonly_is_server (void);

#endif /* MIRROR_READONLY_H */
