/* SPDX-License-Identifier: BSD-3-Clause */
/* What `nbdmirror status` and `watch` show, as text.
 *
 * Pure: numbers in, text out; no terminal, no socket.  Lines have a label and
 * items; items that find no room go to a line of their own, what is too long
 * for any line is cut.  Nothing of what the server says can reach the terminal
 * as a control character.
 */

#ifndef MIRROR_SCREEN_H
#define MIRROR_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#include "look.h"

/* Below that many columns there is only one line. */
#define SCREEN_MIN_COLUMNS 40

#define SCREEN_HISTORY 60

struct screen_style {
  unsigned columns;             /* 0: lines may have any length */
  bool color;                   /* ANSI colours */
  bool utf8;                    /* else ASCII only */
};

/* Rates of the past, the oldest first. */
struct screen_history {
  uint64_t rates[SCREEN_HISTORY];       /* bytes per second */
  unsigned count;
};

/* Add one; the oldest goes if there is no room. */
extern void screen_remember (struct screen_history *h, uint64_t rate);

/* All lines, each with its newline; to be freed.  dirty: NULL without that
 * line.  NULL when out of memory.
 */
extern char *screen_text (const struct look *look,
                          const struct screen_history *dirty,
                          const struct screen_style *style);

/* The same in one line, without a newline. */
extern char *screen_line (const struct look *look,
                          const struct screen_style *style);

#endif /* MIRROR_SCREEN_H */
