/* SPDX-License-Identifier: BSD-3-Clause */
/* The life of a job as two tables: legal transitions, and the verbs that are
 * accepted in each state.  QEMU's states and rules (job.c there), since QMP
 * clients know them.
 *
 *   created -> running <-> paused
 *                 |
 *               ready <-> standby     the two sides have been equal
 *                 |
 *              waiting -> pending     completing
 *                 |
 *   (any) ---> aborting               failed or cancelled
 *                 |
 *             concluded -> null       result can be read; gone
 *
 * Pure: no locks, no memory, no I/O.
 */

#ifndef MIRROR_JOBSTATE_H
#define MIRROR_JOBSTATE_H

#include <stdbool.h>

enum job_status {
  JOB_UNDEFINED,
  JOB_CREATED,
  JOB_RUNNING,
  JOB_PAUSED,
  JOB_READY,
  JOB_STANDBY,
  JOB_WAITING,
  JOB_PENDING,
  JOB_ABORTING,
  JOB_CONCLUDED,
  JOB_NULL,
  JOB_STATUS_COUNT
};

enum job_verb {
  JOB_VERB_CANCEL,
  JOB_VERB_PAUSE,
  JOB_VERB_RESUME,
  JOB_VERB_SET_SPEED,
  JOB_VERB_COMPLETE,
  JOB_VERB_FINALIZE,
  JOB_VERB_DISMISS,
  JOB_VERB_CHANGE,
  JOB_VERB_COUNT
};

/* The names that QMP uses. */
extern const char *job_status_name (enum job_status s);
extern const char *job_verb_name (enum job_verb v);

extern bool job_may_move (enum job_status from, enum job_status to);
extern bool job_accepts (enum job_status s, enum job_verb v);

#endif /* MIRROR_JOBSTATE_H */
