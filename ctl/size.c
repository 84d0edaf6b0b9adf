/* SPDX-License-Identifier: BSD-3-Clause */
/* See size.h. */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "size.h"

static const char units[] = "KMGTPE";

int
size_parse (const char *text, int64_t *size)
{
  unsigned long long n;
  unsigned shift = 0;
  const char *unit;
  char *end;

  if (text[0] < '0' || text[0] > '9')
    return -EINVAL;             /* strtoull would take a sign */
  errno = 0;
  n = strtoull (text, &end, 10);
  if (errno != 0)
    return -EINVAL;
  if (*end != '\0') {
    unit = strchr (units, *end >= 'a' && *end <= 'z' ? *end - 'a' + 'A'
                   : *end);
    if (unit == NULL || unit - units > 3 || end[1] != '\0')
      return -EINVAL;
    shift = (unsigned) (unit - units + 1) * 10;
  }
  if (n > (uint64_t) INT64_MAX >> shift)
    return -EINVAL;
  *size = (int64_t) (n << shift);
  return 0;
}

const char *
size_text (uint64_t size, char *text)
{
  double n = (double) size;
  int unit = -1;

  while (n >= 1024 && unit < 5) {
    n /= 1024;
    unit++;
  }
  if (unit < 0)
    snprintf (text, SIZE_TEXT_MAX, "%" PRIu64 " B", size);
  else
    snprintf (text, SIZE_TEXT_MAX, "%.*f %ciB",
              n == (double) (uint64_t) n ? 0 : 1, n, units[unit]);
  return text;
}
