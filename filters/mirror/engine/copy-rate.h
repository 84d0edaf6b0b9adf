/* SPDX-License-Identifier: BSD-3-Clause */
/* When the next piece may be copied: the limit that the user has set, or if
 * there is none what clients do not feel (yield.h).
 *
 * Not thread-safe; the caller's lock.
 */

#ifndef MIRROR_COPY_RATE_H
#define MIRROR_COPY_RATE_H

#include <stdbool.h>
#include <stdint.h>

#include "pace.h"
#include "pair.h"
#include "yield.h"

struct copy_rate {
  uint64_t speed;               /* bytes per second; 0: the user sets none */
  struct pace pace;
  struct yield yield;
  bool hurry;                   /* see copiers_hurry */
  uint64_t taken;               /* bytes, all in all */
};

extern void copy_rate_init (struct copy_rate *r, uint64_t speed,
                            uint64_t now_ns);

/* Takes effect at once. */
extern void copy_rate_set (struct copy_rate *r, uint64_t speed,
                           uint64_t now_ns);

/* See copiers_hurry. */
extern void copy_rate_hurry (struct copy_rate *r, bool hurry,
                             uint64_t now_ns);

/* May a piece be copied now?  0: yes; else after how long to ask again.
 * caught_up, busy: see yield_look.
 */
extern uint64_t copy_rate_delay_ns (struct copy_rate *r, struct pair *p,
                                    bool caught_up, bool busy,
                                    uint64_t now_ns);

/* Is it clients that limit it? */
static inline bool
copy_rate_is_gentle (const struct copy_rate *r)
{
  return r->speed == 0 && !r->hurry && r->yield.rate != 0;
}

/* A piece of that many bytes has been let through. */
extern void copy_rate_take (struct copy_rate *r, uint64_t bytes,
                            uint64_t now_ns);

/* Nothing is being copied any more. */
extern void copy_rate_quiet (struct copy_rate *r, struct pair *p,
                             uint64_t now_ns);

#endif /* MIRROR_COPY_RATE_H */
