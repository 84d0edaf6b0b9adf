/* SPDX-License-Identifier: BSD-3-Clause */
/* Preloaded: fork fails while the file $NOFORK exists. */

#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

extern pid_t __fork (void);

pid_t
fork (void)
{
  const char *file = getenv ("NOFORK");

  if (file && access (file, F_OK) == 0) {
    errno = EAGAIN;
    return -1;
  }
  return __fork ();
}
