/* SPDX-License-Identifier: BSD-3-Clause */
/* See beneath.h.
 *
 * No call of nbdkit tells a filter what is below it.  But nbdkit loads the
 * plugin first and then the filters, those next to the plugin first, each as
 * a shared object named nbdkit-NAME-plugin.so or nbdkit-NAME-filter.so, and
 * the dynamic linker lists objects in the order of loading.  So what comes
 * before this filter in that list is below it.
 *
 * Under other names nothing is found, which is the safe answer for the
 * plugin.
 */

#include <config.h>

#ifndef _GNU_SOURCE
#define _GNU_SOURCE             /* dl_iterate_phdr */
#endif

#include <link.h>
#include <stddef.h>
#include <string.h>

#include "beneath.h"

static int
look (struct dl_phdr_info *info, size_t size, void *opaque)
{
  static const char *const coherent[] = { "nbdkit-file-plugin.so",
                                          "nbdkit-memory-plugin.so",
                                          "nbdkit-uring-plugin.so" };
  struct beneath *b = opaque;
  const char *name = strrchr (info->dlpi_name, '/');
  size_t i;

  (void) size;
  name = name ? name + 1 : info->dlpi_name;
  for (i = 0; i < sizeof coherent / sizeof coherent[0]; ++i)
    if (strcmp (name, coherent[i]) == 0)
      b->coherent = true;
  if (strcmp (name, "nbdkit-cacheextents-filter.so") == 0)
    b->cacheextents = true;
  if (strcmp (name, "nbdkit-retry-request-filter.so") == 0)
    b->retry_request = true;
  return strcmp (name, "nbdkit-mirror-filter.so") == 0;
}

struct beneath
what_is_beneath (void)
{
  struct beneath b = { false, false, false };

  dl_iterate_phdr (look, &b);
  return b;
}
