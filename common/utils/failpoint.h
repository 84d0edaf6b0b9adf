/* SPDX-License-Identifier: BSD-3-Clause */
/* Places where a test build can be made to fail, stop or die.
 *
 *   r = FAILPOINT ("pivot-before");
 *
 * is 0, and costs nothing, unless configured with --enable-failpoints.  Then
 * the environment variable MIRROR_FAILPOINT says what happens where:
 *
 *   MIRROR_FAILPOINT=NAME[:COUNT[+]]=ACTION[,...]
 *
 * once, the COUNT-th time (default: the first) that NAME is reached; with "+"
 * each time from then on.  ACTION is
 *
 *   abort      the process aborts
 *   pause      it stops, until somebody sends SIGCONT (or SIGKILL)
 *   EIO, ...   the result is -EIO; any of the names in failpoint.c
 *
 * A variable that cannot be understood aborts at the start: a test must not
 * pass because nothing happened.  Thread-safe.  Any locks may be held, but then
 * a pause is one of the locks, too.
 */

#ifndef MIRROR_FAILPOINT_H
#define MIRROR_FAILPOINT_H

#ifdef MIRROR_FAILPOINTS

/* 0 or -errno. */
extern int failpoint_reached (const char *name);
#define FAILPOINT(name) failpoint_reached (name)

/* As if that were the variable, and nothing had been reached yet; NULL: no
 * variable.  0, or -EINVAL and nothing is set, or -E2BIG: too many.  Not while
 * another thread may reach one.
 */
extern int failpoint_set (const char *text);

#else

/* A function, since a statement that is but a 0 would be warned of. */
static inline int
failpoint_reached (const char *name)
{
  (void) name;
  return 0;
}
#define FAILPOINT(name) failpoint_reached (name)

#endif

#endif /* MIRROR_FAILPOINT_H */
