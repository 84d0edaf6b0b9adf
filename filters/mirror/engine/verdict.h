/* SPDX-License-Identifier: BSD-3-Clause */
/* Will it end?  The verdict on a job, and the time that is left.
 *
 * The first line that is true says it:
 *
 *   none         there is no job with a target
 *   offline      the target is not connected
 *   synced       both sides are equal, and stay so (rule I8)
 *   paused       copying has been stopped
 *   scanning     what differs is still being found out
 *   stuck        something is left, all of it has failed at least three times
 *                in a row, and nothing has become equal meanwhile
 *   diverging    clients make at least as much dirty as becomes equal, and
 *                what is left would take longer than the window of the rates
 *   tracking     ready, in a mode or with a target with which it is never
 *                synced for long: what clients write is copied soon after
 *   converging   all else: it gets less
 *
 * Where nobody writes, nothing diverges, however slow copying is.  That what
 * is left must be worth more than a window keeps a mirror that follows its
 * clients closely, with always a little left, from being called diverging.
 *
 * Pure.
 */

#ifndef MIRROR_VERDICT_H
#define MIRROR_VERDICT_H

#include <stdbool.h>
#include <stdint.h>

#include "rates.h"

enum verdict {
  VERDICT_NONE,
  VERDICT_OFFLINE,
  VERDICT_SYNCED,
  VERDICT_PAUSED,
  VERDICT_SCANNING,
  VERDICT_STUCK,
  VERDICT_DIVERGING,
  VERDICT_TRACKING,
  VERDICT_CONVERGING,
  VERDICT_COUNT
};

struct verdict_facts {
  bool target;                  /* there is a job with one */
  bool online, synced, paused, scanning, ready;
  bool follows;                 /* mode background, or no flush of the target */
  bool failing;                 /* all that is left has failed three times */
  uint64_t left;                /* bytes: len - offset */
  struct rates_result rates;
};

extern enum verdict verdict_of (const struct verdict_facts *facts);

/* As in query-mirror. */
extern const char *verdict_name (enum verdict v);

/* Seconds until nothing is left if all goes on like this; 0: nothing is; -1:
 * nobody can tell, or never.
 */
extern int64_t verdict_eta (const struct verdict_facts *facts);

#endif /* MIRROR_VERDICT_H */
