/* SPDX-License-Identifier: BSD-3-Clause */
/* See intent-help.h. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>

#include "intent-help.h"

struct fake_clock clock_;
struct clock *the_clock;
struct fake *file;
struct intent *in;
unsigned told_lost;

/* It is called without locks; maybe before intent_new has returned. */
void
lost (void *opaque)
{
  struct intent_status st;

  if (in) {
    intent_get_status (in, &st);
    ck_assert (st.lost);
  }
  ck_assert_ptr_eq (opaque, &told_lost);
  told_lost++;
}

void
open_it (uint64_t size)
{
  static struct intent_head head;

  fake_clock_init (&clock_);
  told_lost = 0;
  fake_init_head (&head, size, GRAN);
  file = fake_new_laid_out (&head);
  ck_assert_int_eq (intent_new (&in, &file->io, &head, 0, the_clock, lost,
                                &told_lost), 0);
}

void
close_it (void)
{
  intent_check (in);
  intent_free (in);
  in = NULL;
  ck_assert (file->freed);
  fake_free (file);
}

bool
nothing (void *opaque, uint64_t from, struct range *run)
{
  (void) opaque;
  (void) from;
  (void) run;
  return false;
}

/* All that is not active leaves W. */
void
retire_all (void)
{
  intent_watch (in);
  ck_assert_int_eq (intent_retire (in, nothing, NULL), 0);
}

/* A mirror is running, and W is empty. */
static void
setup_with (struct clock *clock)
{
  the_clock = clock;
  open_it (SIZE);
  ck_assert_int_eq (intent_start (in, "T", SIZE, GRAN), 0);
  retire_all ();
}

void
setup (void)
{
  setup_with (&clock_.clock);
}

void
setup_threads (void)
{
  setup_with (&clock_monotonic);
}

void
teardown (void)
{
  close_it ();
}

struct range
regions (uint64_t first, uint64_t n)
{
  return (struct range) { first * MIB, (first + n) * MIB };
}

void
begin (struct range r)
{
  ck_assert_int_eq (intent_begin (in, r, FOREVER), 0);
}

struct intent_status
status (void)
{
  struct intent_status st;

  intent_get_status (in, &st);
  return st;
}

/* Is it in W, if the power fails now? */
bool
recorded (uint64_t region)
{
  return fake_covers (file, (struct range) { region * MIB, region * MIB + 1 });
}
