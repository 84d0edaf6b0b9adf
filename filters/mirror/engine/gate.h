/* SPDX-License-Identifier: BSD-3-Clause */
/* The gate: what a client request does is decided once, here (rule I4).
 *
 * A *regime* is what requests do at the moment: nothing special (no job),
 * track, or tee; with it goes the job.  A request enters: it counts itself
 * into the regime that it saw and looks again; if another one has been
 * published meanwhile it counts itself out and repeats.  So when
 * gate_wait_... returns, requests of older regimes have really ended, and
 * waiting ends under load, because each regime has a counter of its own.
 *
 * Regimes live in a fixed ring of slots that is never freed, so a request
 * may touch the counter of a slot that is just being reused: that only
 * delays a waiter.  A slot is reused only when its counter is 0.
 *
 * gate_enter and gate_leave are lock-free unless somebody waits or the gate is
 * held: then who enters waits, before counting itself in for good, until
 * another regime is published.  Who was held goes on in order of arrival.
 */

#ifndef MIRROR_GATE_H
#define MIRROR_GATE_H

#include <stdbool.h>
#include <stdint.h>

#include "sync.h"

struct gate;
struct job;
struct source;

enum regime_kind {
  REGIME_NONE,                  /* no job: source only */
  REGIME_TRACK,                 /* source, then mark */
  REGIME_TEE,                   /* source and target in parallel */
  REGIME_HELD,                  /* nobody gets in; never returned */
};

/* What a request sampled.  Read-only between gate_enter and gate_leave. */
struct regime {
  enum regime_kind kind;
  struct job *job;              /* NULL for REGIME_NONE */
  struct source *source;        /* instead of the client's own, or NULL */
};

/* Counters that every request touches are in so many stripes, each in cache
 * lines of its own; a thread always uses the same one.
 */
#define GATE_STRIPES 8u
extern unsigned gate_stripe (void);

extern struct gate *gate_new (void);            /* REGIME_NONE; NULL: ENOMEM */
extern void gate_free (struct gate *g);         /* nobody inside */

/* Blocks only while the gate is held.  Every gate_enter is followed by a
 * gate_leave.
 */
extern const struct regime *gate_enter (struct gate *g);
extern void gate_leave (struct gate *g, const struct regime *r);

/* Make { kind, job, source } the regime of requests that enter from now on.
 * Callers serialise.  Blocks only if every slot of the ring still has requests
 * in flight.
 */
extern void gate_publish (struct gate *g, enum regime_kind kind,
                          struct job *job, struct source *source);

/* Block until every request that did not sample `job` has ended (rule I6), or
 * the job has: the current regime must be of that job until it is REGIME_NONE.
 */
extern void gate_wait_others (struct gate *g, const struct job *job);

/* Block until every request that entered before the call has ended, or until
 * the deadline: 0 or -ETIMEDOUT.
 */
extern int gate_flush (struct gate *g, struct clock *clock,
                       uint64_t deadline_ns);

/* Hold everybody who enters from now on; gate_publish ends it. */
extern void gate_hold (struct gate *g);

/* While the gate is held: block until nobody is inside.  deadline_ns as in
 * clock.  0 or -ETIMEDOUT; the gate stays held.  -ECANCELED: somebody has
 * opened it already.
 */
extern int gate_drain (struct gate *g, struct clock *clock,
                       uint64_t deadline_ns);

/* How many requests are being held. */
extern unsigned gate_held (struct gate *g);

/* Block until every request that sampled `job` has ended.  The current regime
 * must not be of that job.
 */
extern void gate_wait_job (struct gate *g, const struct job *job);

/* Block until every request that was to tee for `job` has ended.  The current
 * regime must not be such a one, and none may be published meanwhile.
 */
extern void gate_wait_tees (struct gate *g, const struct job *job);

#endif /* MIRROR_GATE_H */
