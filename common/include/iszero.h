/* SPDX-License-Identifier: BSD-3-Clause */
/* Does memory hold nothing but zeroes? */

#ifndef MIRROR_ISZERO_H
#define MIRROR_ISZERO_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Data that is not zero mostly shows it at once: look at the beginning first.
 * If that is zero and everything equals what comes 16 bytes before it, all of
 * it is zero, and memcmp is as fast as the machine can compare.
 */
static inline bool
is_zero (const void *buf, size_t len)
{
  const unsigned char *p = buf;
  size_t i;

  for (i = 0; i < 16; ++i) {
    if (i == len)
      return true;
    if (p[i] != 0)
      return false;
  }
  return memcmp (p, p + 16, len - 16) == 0;
}

#endif /* MIRROR_ISZERO_H */
