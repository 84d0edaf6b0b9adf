/* SPDX-License-Identifier: BSD-3-Clause */
/* One client request, under each regime (rule I4).
 *
 * Thread-safe; the functions block for as long as the legs take.  Requests
 * are at most LEG_MAX_REQUEST long if they carry data, else TARGET_MAX_ZERO.
 * All return the source's result, 0 or -errno (rule I7).  The caller is inside
 * the gate.
 */

#ifndef MIRROR_TEE_H
#define MIRROR_TEE_H

#include <stdint.h>

#include "legs.h"
#include "pair.h"

enum request_op { REQUEST_WRITE, REQUEST_ZERO, REQUEST_TRIM };

struct request {
  enum request_op op;
  unsigned flags;               /* enum leg_flags */
  uint32_t count;               /* > 0 */
  uint64_t offset;
  const void *buf;              /* REQUEST_WRITE */
};

extern struct range request_range (const struct request *req);

/* What it may have changed of the source, of `size` bytes, if it has failed. */
extern struct range request_spoils (const struct request *req,
                                    const struct source *source,
                                    uint64_t size);

/* A fast zero that would not be fast has changed nothing. */
extern bool request_was_refused (const struct request *req, int result);

/* No job: the source only. */
extern int request_plain (struct source *source, const struct request *req);

/* Track: the source, then mark, whatever the result.  Takes no range lock and
 * never waits for the target.
 */
extern int request_track (struct pair *p, struct source *source,
                          const struct request *req);

/* Tee: both legs in parallel under the range lock; or the source only, where
 * the copier will carry it.
 */
extern int request_tee (struct pair *p, struct source *source,
                        const struct request *req);

/* Flush under tee: both legs in parallel. */
extern int request_tee_flush (struct pair *p, struct source *source);

/* Flush under track: the source only. */
extern int request_track_flush (struct pair *p, struct source *source);

#endif /* MIRROR_TEE_H */
