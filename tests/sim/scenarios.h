/* SPDX-License-Identifier: BSD-3-Clause */
/* Profiles of runs: random ones, and those named after the holes that earlier
 * wordings of the rules had (docs/correctness.md), each with the situation
 * that it must produce.
 */

#ifndef SIM_SCENARIOS_H
#define SIM_SCENARIOS_H

#include <stdint.h>

#include "sim.h"

struct scenario {
  const char *name;
  const char *what;
  enum witness witness;
  void (*change) (struct profile *p);   /* on top of a random profile */
};

extern const struct scenario scenarios[];       /* the last has no name */

/* What most of them begin with: small, write-blocking from the start, no faults
 * but the ones that are set afterwards.
 */
extern void scenario_calm (struct profile *p);
extern void scenario_pivot_back (struct profile *p);

/* scenarios.c */
extern void scenario_bad_flush (struct profile *p);
extern void scenario_block (struct profile *p);
extern void scenario_block_64k (struct profile *p);
extern void scenario_block_fails (struct profile *p);
extern void scenario_by_itself (struct profile *p);
extern void scenario_defer (struct profile *p);
extern void scenario_detach (struct profile *p);
extern void scenario_detect (struct profile *p);
extern void scenario_fence (struct profile *p);
extern void scenario_h11 (struct profile *p);
extern void scenario_h13 (struct profile *p);
extern void scenario_h1a (struct profile *p);
extern void scenario_h1d (struct profile *p);
extern void scenario_h2b (struct profile *p);
extern void scenario_h3 (struct profile *p);
extern void scenario_h5 (struct profile *p);
extern void scenario_h6 (struct profile *p);
extern void scenario_hold (struct profile *p);
extern void scenario_is_zero (struct profile *p);
extern void scenario_left (struct profile *p);
extern void scenario_modes (struct profile *p);
extern void scenario_none (struct profile *p);
extern void scenario_none_late (struct profile *p);
extern void scenario_pause_and_go (struct profile *p);
extern void scenario_pivot (struct profile *p);
extern void scenario_pivot_fails (struct profile *p);
extern void scenario_pivot_lost (struct profile *p);
extern void scenario_pivot_twice (struct profile *p);
extern void scenario_pivot_partly (struct profile *p);
extern void scenario_skip (struct profile *p);
extern void scenario_verify (struct profile *p);
extern void scenario_verify_ends (struct profile *p);
extern void scenario_verify_fails (struct profile *p);
extern void scenario_verify_repair (struct profile *p);
extern void scenario_wake (struct profile *p);
extern void scenario_zeroes_late (struct profile *p);

/* scenarios-faults.c */
extern void scenario_h7 (struct profile *p);
extern void scenario_h18 (struct profile *p);
extern void scenario_h18_failed (struct profile *p);
extern void scenario_pivot_block (struct profile *p);
extern void scenario_pivot_flushes (struct profile *p);
extern void scenario_pivot_ghosts (struct profile *p);
extern void scenario_pivot_hangs (struct profile *p);
extern void scenario_pivot_cut (struct profile *p);
extern void scenario_ghosts (struct profile *p);
extern void scenario_back (struct profile *p);
extern void scenario_another (struct profile *p);
extern void scenario_hung (struct profile *p);
extern void scenario_policy (struct profile *p);

/* scenarios-intent.c */
extern void scenario_h8a (struct profile *p);
extern void scenario_h8b (struct profile *p);
extern void scenario_h8c (struct profile *p);
extern void scenario_h8d (struct profile *p);
extern void scenario_h9 (struct profile *p);
extern void scenario_h10 (struct profile *p);
extern void scenario_h19 (struct profile *p);
extern void scenario_kill (struct profile *p);
extern void scenario_kill_late (struct profile *p);
extern void scenario_cut (struct profile *p);
extern void scenario_taken_back (struct profile *p);
extern void scenario_kill_pivot (struct profile *p);
extern void scenario_restart (struct profile *p);
extern void scenario_kill_ends (struct profile *p);
extern void scenario_file_lost (struct profile *p);
extern void scenario_file_broken (struct profile *p);

extern const struct scenario *scenario_find (const char *name);

/* scenario may be NULL. */
extern void profile_draw (struct profile *p, uint64_t seed,
                          const struct scenario *scenario);

/* While a profile is drawn: a number below n. */
extern uint64_t draw (uint64_t n);

/* Of the source, bytes; need not be a multiple of the granularity. */
extern uint64_t profile_size (const struct profile *p, uint64_t seed);

#endif /* SIM_SCENARIOS_H */
