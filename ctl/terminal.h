/* SPDX-License-Identifier: BSD-3-Clause */
/* The terminal: what it can do, and taking it over for a while.
 *
 * One thread.
 */

#ifndef MIRROR_TERMINAL_H
#define MIRROR_TERMINAL_H

#include <poll.h>
#include <stdbool.h>

#include "screen.h"

/* How to write to standard output: no colour with NO_COLOR or TERM=dumb, UTF-8
 * as the locale says; no limit of columns where it is no terminal.
 */
extern void terminal_style (struct screen_style *style);

/* Can a screen be drawn there? */
extern bool terminal_can_draw (void);

/* Rows of the terminal; 24 if it does not say. */
extern unsigned terminal_rows (void);

/* Take over: another screen, no cursor, keys at once and without an echo.  It
 * is given back by terminal_leave, and by every signal that ends or stops the
 * process.
 */
extern void terminal_enter (void);
extern void terminal_leave (void);

/* Replace what is there by text, cut to the rows there are. */
extern void terminal_draw (const char *text);

/* What to poll for: keys, changes of the size, going on after a stop. */
#define TERMINAL_FDS 2
extern void terminal_fds (struct pollfd *fds);

/* Take what has come in: keys and changes.  Returns true if q or the end of
 * the input was among it.
 */
extern bool terminal_quit_pressed (void);

#endif /* MIRROR_TERMINAL_H */
