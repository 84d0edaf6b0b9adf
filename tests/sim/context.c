/* SPDX-License-Identifier: BSD-3-Clause */
/* See context.h. */

#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "context.h"

#if defined __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#elif defined __clang__
#if __has_feature (address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined __SANITIZE_THREAD__
#define WITH_TSAN 1
#elif defined __clang__
#if __has_feature (thread_sanitizer)
#define WITH_TSAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define STACK_SIZE (256u << 10)
#define GUARD_SIZE 4096u        /* at the low end of a stack */

static ucontext_t main_context;
static struct context *running;
#ifdef WITH_ASAN
static void *main_fake_stack;
static const void *main_stack;
static size_t main_stack_size;
#endif
#ifdef WITH_TSAN
static void *main_fiber;
#endif

static void
first_step (void)
{
  struct context *c = running;

#ifdef WITH_ASAN
  __sanitizer_finish_switch_fiber (NULL, &main_stack, &main_stack_size);
#endif
  c->fn (c->arg);
  c->ended = true;
  context_leave (c);
  abort ();
}

static char *
new_stack (void)
{
  char *stack = mmap (NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (stack == MAP_FAILED)
    return NULL;
  mprotect (stack, GUARD_SIZE, PROT_NONE);
  return stack;
}

int
context_init (struct context *c, void (*fn) (void *), void *arg)
{
  if (!c->stack)
    c->stack = new_stack ();
  if (!c->stack)
    return -ENOMEM;
#ifdef WITH_ASAN
  /* Whoever ended on it did not return from all of its functions. */
  ASAN_UNPOISON_MEMORY_REGION (c->stack + GUARD_SIZE,
                               STACK_SIZE - GUARD_SIZE);
#endif
  c->fn = fn;
  c->arg = arg;
  c->ended = false;
  c->fake_stack = NULL;
  getcontext (&c->uc);
  c->uc.uc_stack.ss_sp = c->stack;
  c->uc.uc_stack.ss_size = STACK_SIZE;
  makecontext (&c->uc, first_step, 0);
#ifdef WITH_TSAN
  c->fiber = __tsan_create_fiber (0);
#endif
  return 0;
}

void
context_enter (struct context *c)
{
  running = c;
#ifdef WITH_ASAN
  __sanitizer_start_switch_fiber (&main_fake_stack, c->stack, STACK_SIZE);
#endif
#ifdef WITH_TSAN
  main_fiber = __tsan_get_current_fiber ();
  __tsan_switch_to_fiber (c->fiber, 0);
#endif
  swapcontext (&main_context, &c->uc);
#ifdef WITH_ASAN
  __sanitizer_finish_switch_fiber (main_fake_stack, NULL, NULL);
#endif
#ifdef WITH_TSAN
  if (c->ended)
    __tsan_destroy_fiber (c->fiber);
#endif
}

void
context_leave (struct context *c)
{
#ifdef WITH_ASAN
  __sanitizer_start_switch_fiber (c->ended ? NULL : &c->fake_stack,
                                  main_stack, main_stack_size);
#endif
#ifdef WITH_TSAN
  __tsan_switch_to_fiber (main_fiber, 0);
#endif
  swapcontext (&c->uc, &main_context);
#ifdef WITH_ASAN
  __sanitizer_finish_switch_fiber (c->fake_stack, NULL, NULL);
#endif
}

void
context_abandon (struct context *c)
{
  if (c->ended)
    return;
  /* What a register points to hangs on it, too. */
  memcpy (c->stack + GUARD_SIZE, &c->uc, sizeof c->uc);
#ifdef WITH_ASAN
  __lsan_register_root_region (c->stack + GUARD_SIZE, STACK_SIZE - GUARD_SIZE);
#endif
#ifdef WITH_TSAN
  __tsan_destroy_fiber (c->fiber);
#endif
  c->stack = NULL;
  c->ended = true;
}
