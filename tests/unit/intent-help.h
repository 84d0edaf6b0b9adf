/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of the intent record share: one record, on a fake file, of a
 * mirror that is running and has nothing in W yet.
 */

#ifndef MIRROR_INTENT_HELP_H
#define MIRROR_INTENT_HELP_H

#include "intent-fake.h"

#define MIB (UINT64_C (1) << 20)
#define GRAN UINT64_C (65536)
#define REGIONS UINT64_C (4000)         /* two pages */
#define SIZE ((REGIONS - 1) * MIB + 4096)       /* the last one is short */
#define FOREVER UINT64_MAX

extern struct fake_clock clock_;
extern struct clock *the_clock;         /* clock_, or the real one */
extern struct fake *file;
extern struct intent *in;
extern unsigned told_lost;

/* The function for intent_new; its opaque is &told_lost. */
extern void lost (void *opaque);

/* A new file of a disk without a mirror, on the_clock; and the end of it. */
extern void open_it (uint64_t size);
extern void close_it (void);

/* Fixtures: a mirror is running, W is empty; threads: the real clock. */
extern void setup (void);
extern void setup_threads (void);
extern void teardown (void);

/* For intent_retire: nothing differs. */
extern bool nothing (void *opaque, uint64_t from, struct range *run);

/* All that is not active leaves W. */
extern void retire_all (void);

/* The bytes of regions first, first + 1, ... */
extern struct range regions (uint64_t first, uint64_t n);

/* intent_begin without a deadline; ck_asserts that it is good. */
extern void begin (struct range r);

extern struct intent_status status (void);

/* Is it in W, if the power fails now? */
extern bool recorded (uint64_t region);

#endif /* MIRROR_INTENT_HELP_H */
