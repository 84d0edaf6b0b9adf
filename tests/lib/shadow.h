/* SPDX-License-Identifier: BSD-3-Clause */
/* What a disk may contain, given the requests that were sent to it.
 *
 * The shadow keeps, for each 512-byte sector, a list of the requests that
 * may have left their bytes there: *entries* with a byte range, the moment
 * when the request was sent and the moment when its reply came.  Moments are
 * the values of one counter, so they are totally ordered, and the moment of
 * sending is the request's *stamp*.
 *
 * A byte that is read in the interval [sent, now] may have the value of any
 * entry that covers it, unless a later request has overwritten that entry
 * for sure: one that was sent after the entry's reply, covers the byte, has
 * succeeded, and whose reply came before the read was sent.  (NBD promises
 * nothing else: requests in flight at the same time may end up in either
 * order, byte by byte.)  If requests never overlap in flight exactly one
 * value is allowed.
 *
 * Written data says who wrote it: each 8-byte word of the disk that a write
 * covers is a reversible mix of the write's stamp and the word's number.
 *
 * Not thread-safe: the caller holds one lock around all of it, but for
 * shadow_pattern.
 */

#ifndef SHADOW_H
#define SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SECTOR 512

enum shadow_kind {
  SHADOW_DATA,                  /* shadow_pattern */
  SHADOW_ZERO,
  SHADOW_UNDEFINED,             /* trimmed: any content */
};

/* How a request ended. */
enum shadow_outcome {
  SHADOW_DONE,                  /* it succeeded */
  SHADOW_UNKNOWN,               /* it failed; what it did is unknown */
  SHADOW_NOTHING,               /* it failed and surely changed nothing */
  SHADOW_LOST,                  /* its connection was: it may happen later,
                                 * until shadow_over */
};

struct shadow;

/* base: the disk's content at the beginning, size bytes; stays the caller's,
 * must not change.  NULL when out of memory.
 */
extern struct shadow *shadow_new (const uint8_t *base, uint64_t size);
extern void shadow_free (struct shadow *sh);

/* The next moment. */
extern uint64_t shadow_tick (struct shadow *sh);

/* Fill buf with what the write with that stamp writes at offset.  Any
 * thread.
 */
extern void shadow_pattern (uint64_t stamp, uint8_t *buf, size_t count,
                            uint64_t offset);

/* Most entries in one sector of the range.  Writing whole sectors lets old
 * entries go, so the caller rounds requests when this becomes large.
 */
extern unsigned shadow_depth (struct shadow *sh, uint64_t count,
                              uint64_t offset);

/* A request is being sent; returns its stamp.  oldest_read: the stamp of the
 * oldest read in flight, or UINT64_MAX.  Exits when out of memory.
 */
extern uint64_t shadow_begin (struct shadow *sh, enum shadow_kind kind,
                              uint64_t count, uint64_t offset,
                              uint64_t oldest_read);

/* Its reply has come. */
extern void shadow_end (struct shadow *sh, uint64_t stamp, uint64_t count,
                        uint64_t offset, enum shadow_outcome outcome);

/* None of the requests that have been sent so far, and have been lost or will
 * be, can happen any more: who had them is dead, and nobody is in his place
 * yet.  What succeeds from now on overwrites them.
 */
extern void shadow_over (struct shadow *sh);

/* Is what a read with that stamp found at offset allowed?  If not, *bad is
 * the first bad offset and text (SHADOW_TEXT bytes) tells what is wrong.
 */
#define SHADOW_TEXT 256
extern bool shadow_check (struct shadow *sh, uint64_t stamp,
                          const uint8_t *buf, size_t count, uint64_t offset,
                          uint64_t *bad, char *text);

/* If every byte has one allowed value, put it in buf; elsewhere leave buf
 * alone.  For use when nothing is in flight.
 */
extern void shadow_expected (struct shadow *sh, uint8_t *buf, size_t count,
                             uint64_t offset);

#endif /* SHADOW_H */
