/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the target leg share. */

#ifndef TARGET_HELP_H
#define TARGET_HELP_H

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "sync.h"
#include "target.h"

#define KiB (UINT32_C (1) << 10)
#define MiB (UINT32_C (1) << 20)

static inline double
now_s (void)
{
  return (double) clock_monotonic.now_ns (&clock_monotonic) / 1e9;
}

/* Wait for a condition; fail after so many seconds. */
#define EVENTUALLY(cond, seconds)                                       \
  do {                                                                  \
    double deadline_ = now_s () + (seconds);                            \
                                                                        \
    while (!(cond)) {                                                   \
      ck_assert_msg (now_s () < deadline_, "never: %s", #cond);         \
      nanosleep (&(struct timespec) { .tv_nsec = 2000000 }, NULL);      \
    }                                                                   \
  } while (0)

/* How often `lost` was called, and with what. */
struct losses {
  atomic_int count, err;
};

static inline void
count_loss (void *vp, struct target *t, int err)
{
  struct losses *l = vp;

  (void) t;

  l->err = err;
  l->count++;
}

static inline struct target *
connect_started (const char *uri, unsigned connections, struct losses *l)
{
  char error[TARGET_ERROR_MAX] = "";
  struct target *t = NULL;
  int r = target_connect (uri, connections, 20000, &t, error);

  ck_assert_msg (r == 0, "%s", error);
  l->count = l->err = 0;
  t->lost_opaque = l;
  t->lost = count_loss;
  ck_assert_int_eq (target_start (t), 0);
  return t;
}

static inline struct target_req
request (enum target_op op, enum target_lane lane, unsigned flags, void *buf,
         uint32_t count, uint64_t offset)
{
  return (struct target_req) {
    .op = op, .lane = lane, .flags = flags,
    .buf = buf, .count = count, .offset = offset,
  };
}

static inline int
run (struct target *t, struct target_req req)
{
  t->ops->submit (t, &req);
  return t->ops->wait (t, &req);
}

#endif /* TARGET_HELP_H */
