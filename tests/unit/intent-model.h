/* SPDX-License-Identifier: BSD-3-Clause */
/* What a restart may find in an intent file, for check_intent_crash.c. */

#ifndef MIRROR_INTENT_MODEL_H
#define MIRROR_INTENT_MODEL_H

#include "intent-help.h"

#define N 11u                   /* regions */
#define ALLOWED 8u

/* What a restart acts upon. */
struct core {
  enum intent_state state;
  bool fenced, clean;
  uint64_t target_size;
  char target, disk;            /* their first letters */
};

extern struct model {
  struct core allowed[ALLOWED]; /* any of these */
  unsigned count;
  bool need[N];                 /* regions that must be in W */
} model;

extern struct core core_of (const struct intent_head *h);
extern bool same (struct core a, struct core b);
extern bool allowed (struct core c);

/* One more is allowed from here on. */
extern void allow (struct core c);

/* All regions must be in W. */
extern void need_all (void);

/* For fake_each_image: ck_asserts that the image is as it may be.  opaque: the
 * core when the file was opened, or NULL: the first that is allowed.
 */
extern void check_image (void *opaque, const struct image *im);

#endif /* MIRROR_INTENT_MODEL_H */
