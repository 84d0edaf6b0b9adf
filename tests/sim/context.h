/* SPDX-License-Identifier: BSD-3-Clause */
/* Contexts of coroutines: a stack each, and switching between them and the
 * main context.  The sanitizers are told.
 *
 * One thread; plain structs without locks.
 */

#ifndef SIM_CONTEXT_H
#define SIM_CONTEXT_H

#include <stdbool.h>
#include <ucontext.h>

struct context {
  ucontext_t uc;
  char *stack;                  /* kept for the next one */
  void (*fn) (void *);
  void *arg;
  bool ended;                   /* fn has returned, or it was abandoned */
  void *fake_stack, *fiber;     /* sanitizers */
};

/* Make *c ready to run fn (arg).  A struct that is used again must have been
 * zero at first, or have ended.  Returns 0 or -errno.
 */
extern int context_init (struct context *c, void (*fn) (void *), void *arg);

/* From the main context: run c until it switches back or ends. */
extern void context_enter (struct context *c);

/* From c, which is running: back to the main context. */
extern void context_leave (struct context *c);

/* c, which is not running, will never go on.  Its stack stays, so that what
 * hangs on it does not pass for lost.  *c may be used again.
 */
extern void context_abandon (struct context *c);

#endif /* SIM_CONTEXT_H */
