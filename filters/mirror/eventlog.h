/* SPDX-License-Identifier: BSD-3-Clause */
/* Which events are worth a line in the log, and that line.
 *
 * Only what an administrator looks for after the fact: the target was lost,
 * came back or is another one, a side failed a request, a pivot or detach was
 * given up, the fence came or went, clients were moved, the intent file was
 * given up.  Whatever goes wrong how often, each kind of line is written at
 * most once in EVENTLOG_NS; the next one says how many there would have been.
 * But why a target is refused is told each time, since it is told once for each
 * reason.
 *
 * Thread-safe; one mutex, a leaf; does not log itself.
 */

#ifndef MIRROR_EVENTLOG_H
#define MIRROR_EVENTLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "mirror.h"
#include "sync.h"

#define EVENTLOG_NS UINT64_C (10000000000)
#define EVENTLOG_LINE_MAX 400

enum eventlog_kind {
  EVENTLOG_LOST,
  EVENTLOG_BACK,
  EVENTLOG_UNFIT,
  EVENTLOG_DISK_LOST,
  EVENTLOG_DISK_BACK,
  EVENTLOG_DISK_UNFIT,
  EVENTLOG_SOURCE_FAILED,
  EVENTLOG_TARGET_FAILED,
  EVENTLOG_REFUSED,
  EVENTLOG_FENCED,
  EVENTLOG_UNFENCED,
  EVENTLOG_PIVOTED,
  EVENTLOG_BITMAP_LOST,
  EVENTLOG_KINDS
};

struct eventlog {
  struct mutex lock;
  bool lost;                    /* the last that was heard of the target */
  bool disk_lost;               /* ... of the clients' disk after a pivot */
  struct {
    uint64_t when_ns;           /* of the last line; 0: never */
    unsigned more;              /* not written since */
  } kinds[EVENTLOG_KINDS];
};

extern void eventlog_init (struct eventlog *l);
extern void eventlog_destroy (struct eventlog *l);

/* Returns false if nothing is to be written; else line has it, without an end
 * of line (EVENTLOG_LINE_MAX bytes).
 */
extern bool eventlog_line (struct eventlog *l, const struct mirror_event *ev,
                           uint64_t now_ns, char *line);

#endif /* MIRROR_EVENTLOG_H */
