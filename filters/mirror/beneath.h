/* SPDX-License-Identifier: BSD-3-Clause */
/* What the filter stands on, as far as it can be known. */

#ifndef MIRROR_BENEATH_H
#define MIRROR_BENEATH_H

#include <stdbool.h>

struct beneath {
  /* What one handle of the plugin has written another reads at once.  Plugins
   * that promise multi-conn promise it only after a flush.
   */
  bool coherent;

  /* A filter that remembers extents across writes of other handles. */
  bool cacheextents;

  /* A filter that asks again for a flush that has failed.  The second may
   * succeed though what was written is lost: Linux tells of an error once.
   */
  bool retry_request;
};

extern struct beneath what_is_beneath (void);

#endif /* MIRROR_BENEATH_H */
