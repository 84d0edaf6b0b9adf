/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent record and crashes: the life of some mirrors, and after each write
 * and sync of it everything that a crash may leave of the file.  A restart must
 * believe the state before or the one after what is being done, and no less in
 * W than must be (rules I2 and I12).  The same with operations that fail.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "intent-model.h"
#include "intent-private.h"

#define DISK ((N - 1) * MIB + 4096)
#define BEGIN_NS UINT64_C (1000000000)

static unsigned first_checked;  /* op from which on images are looked at */
static bool restart_too;        /* and a process that reads them as they are */
static bool may_end;            /* a step may fail for good */
static bool ended;

/*-- restarts -----------------------------------------------------------*/

static struct fake *restarted;

static void
after_restart_op (void *opaque)
{
  fake_each_image (restarted, check_image, opaque);
}

static void
check_recorded (void *opaque, struct range r)
{
  (void) opaque;
  ck_assert (fake_covers (restarted, r));
}

static void
is_core (void *opaque, const struct image *im)
{
  const struct core *c = opaque;

  ck_assert (im->gone || same (core_of (&im->head), *c));
}

/* The process dies here, the next one reads what was written, and then the
 * power fails: what that one believes must be true by then.
 */
static void
restart (unsigned fail_at)
{
  static struct intent_head head;
  struct intent *again;
  struct core core;
  int copy, r;

  restarted = fake_copy (file);
  fake_head (restarted, &head, &copy);
  core = core_of (&head);
  restarted->after = after_restart_op;
  restarted->opaque = &core;
  fake_fail (restarted, fail_at, 2);
  restarted->keep = fail_at % 2;
  r = intent_new (&again, &restarted->io, &head, copy, &clock_.clock, NULL,
                  NULL);
  /* While clients have another disk it is kept. */
  ck_assert (r == 0 || (r == -EIO && (restarted->keep || head.disk[0])));
  if (r == 0) {
    restarted->after = NULL;
    intent_get_head (again, &head);
    core = core_of (&head);
    if (head.state == INTENT_RUNNING && !restarted->gone)
      intent_each (again, check_recorded, NULL);
    fake_each_image (restarted, is_core, &core);
    intent_free (again);
  }
  fake_free (restarted);
}

static void
after_op (void *opaque)
{
  unsigned i;

  (void) opaque;
  if (file->ops < first_checked)
    return;
  if (getenv ("MIRROR_VALGRIND") && file->ops % 32 != 0)
    return;                     /* all would take a quarter of an hour */
  fake_each_image (file, check_image, NULL);
  for (i = 0; restart_too && i < 5; ++i)
    restart (i == 4 ? 1000 : i);
}

/*-- steps --------------------------------------------------------------*/

/* Something is being done that leads to what `now` says. */
static struct core
step (void)
{
  static struct intent_head head;

  intent_get_head (in, &head);
  return core_of (&head);
}

/* It has ended with r.  Once it is clear what the file says no other thing is
 * allowed.  true: do it again.
 */
static bool
settle (struct core wanted, int r)
{
  const struct core now = step ();
  struct intent_status st = status ();

  if (!in->broken && !st.gone) {
    ck_assert (allowed (now));
    model.allowed[0] = now;
    model.count = 1;
    wanted.clean = now.clean;
    ck_assert (r != 0 || same (now, wanted));
  }
  ck_assert_uint_eq (told_lost > 0, st.lost);
  ck_assert_uint_le (told_lost, 1);
  intent_check (in);
  after_op (NULL);
  ended = r < 0 && may_end;
  return r < 0 && !may_end;
}

static void
do_start (char letter)
{
  char name[2 * FAKE_SECTOR] = "";
  struct core c;
  int r;

  if (ended)
    return;
  memset (name, letter, sizeof name - 1);
  told_lost = status ().gone;   /* the next mirror may lose it, too */
  do {
    c = step ();
    c.state = INTENT_RUNNING;
    c.clean = false;
    c.target = letter;
    c.target_size = DISK - 4096;
    allow (c);
    r = intent_start (in, name, DISK - 4096, GRAN);
  } while (settle (c, r));
}

static void
do_finish (enum intent_state state)
{
  struct core c;
  int r;

  if (ended)
    return;
  do {
    c = step ();
    c.state = state;
    c.target = 0;
    c.target_size = 0;
    allow (c);
    r = intent_finish (in, state);
    if (r == 0)
      need_all ();
  } while (settle (c, r));
}

static void
do_target_size (void)
{
  struct core c;

  if (ended)
    return;
  c = step ();
  c.target_size = DISK;
  allow (c);
  intent_target_size (in, DISK);
  c.target_size = step ().target_size;  /* it need not be */
  settle (c, 0);
}

static void
do_everything (void)
{
  const struct core c = step ();
  int r;

  if (ended)
    return;
  do {
    r = intent_everything (in);
    if (r == 0)
      need_all ();
  } while (settle (c, r));
}

static void
do_close (bool in_order)
{
  struct core c;
  int r;

  if (ended)
    return;
  do {
    c = step ();
    if (in_order) {
      c.clean = true;
      allow (c);
    }
    r = intent_close (in, in_order);
  } while (settle (c, r));
}

static void
do_resume (void)
{
  struct core c;
  int r;

  if (ended)
    return;
  do {
    c = step ();
    c.clean = false;
    allow (c);
    r = intent_resume (in);
  } while (settle (c, r));
}

/* After a success what follows must be in the file, else what was before. */
static void
check_order (struct core before, struct core after, int r)
{
  if (r == 0 || !in->broken)
    fake_each_image (file, is_core, r == 0 ? &after : &before);
}

static void
do_fence (bool fenced)
{
  struct core before, c;
  int r;

  if (ended)
    return;
  do {
    before = c = step ();
    c.fenced = fenced;
    allow (c);
    r = intent_fence (in, fenced);
    check_order (before, c, r);
  } while (settle (c, r));
}

static void
do_commit (void)
{
  const _Atomic bool stop = may_end;
  struct core before, c;
  int r;

  if (ended)
    return;
  do {
    before = c = step ();
    c.state = INTENT_PIVOTED;
    c.disk = before.target;
    c.target = 0;
    c.target_size = 0;
    allow (c);
    r = intent_commit (in, &stop);
    ck_assert (r != -EINPROGRESS || (stop && in->broken));
    ck_assert (r >= 0 || r == -EINPROGRESS || !in->broken);
    check_order (before, c, r);
    if (r == 0)
      need_all ();
  } while (settle (c, r));
}

static void
do_unpivot (void)
{
  struct core before, c;
  int r;

  if (ended)
    return;
  do {
    before = c = step ();
    c.state = INTENT_CANCELLED;
    c.disk = 0;
    allow (c);
    r = intent_unpivot (in);
    check_order (before, c, r);
  } while (settle (c, r));
}

static void
do_begin (unsigned first, unsigned n)
{
  const struct range r = { first * MIB + GRAN,
                           (first + n - 1) * MIB + 2 * 512 };
  unsigned i;
  int err;

  if (ended)
    return;
  do {
    err = intent_begin (in, r, clock_.now_ns + BEGIN_NS);
    for (i = first; err == 0 && i < first + n; ++i)
      model.need[i] = true;
  } while (settle (step (), err));
}

static void
do_end (unsigned first, unsigned n)
{
  if (!ended)
    intent_end (in, (struct range) { first * MIB + GRAN,
                                     (first + n - 1) * MIB + 2 * 512 });
}

static bool
next_needed (void *opaque, uint64_t from, struct range *run)
{
  const bool *stay = opaque;
  uint64_t i;

  for (i = from / MIB; i < N; ++i)
    if (stay[i]) {
      *run = (struct range) { i * MIB, i * MIB + GRAN };
      if (run->end > from)
        return true;
    }
  return false;
}

/* All but `stay` leaves W, from left to right: a string of N + and -. */
static void
do_retire (const char *keep)
{
  bool stay[N];
  unsigned i;

  if (ended)
    return;
  intent_watch (in);
  for (i = 0; i < N; ++i) {
    stay[i] = keep[i] == '+';
    model.need[i] = model.need[i] && keep[i] != '-';
  }
  intent_retire (in, next_needed, stay);
  settle (step (), 0);
}

/* The process ends, or dies, and the next one reads the file. */
static void
do_open (void)
{
  static struct intent_head head;
  struct fake *f = file;
  struct core c;
  int copy, r;

  if (ended || f->gone) {
    ended = true;
    return;
  }
  told_lost = 0;
  intent_free (in);
  in = NULL;
  do {
    fake_head (f, &head, &copy);
    c = core_of (&head);
    ck_assert (allowed (c));
    c.clean = false;            /* if it cannot be written again */
    allow (c);
    f->freed = false;
    r = intent_new (&in, &f->io, &head, copy, &clock_.clock, lost, &told_lost);
    ck_assert (r == 0 || r == -EIO);
  } while (r < 0 && !may_end);
  if (r < 0) {                  /* nothing is left to be closed */
    ended = true;
    return;
  }
  settle (step (), 0);
}

/* A: retired, grown, closed, resumed and cancelled. */
static void
life_of_a (void)
{
  do_start ('A');
  do_target_size ();
  do_begin (5, 1);
  do_retire ("--++-*-----");    /* *: somebody is active */
  do_begin (0, 3);
  do_end (0, 3);
  do_begin (9, 2);
  do_retire ("+----*---**");
  do_end (9, 2);
  do_everything ();
  do_retire ("-----*-----");
  do_end (5, 1);
  do_fence (true);
  do_begin (7, 2);
  do_end (7, 2);
  do_fence (false);
  do_close (true);
  do_open ();
  do_resume ();
  do_begin (4, 1);
  do_end (4, 1);
  do_close (false);
  do_open ();
  do_resume ();
  do_retire ("+++++++---+");
  do_finish (INTENT_CANCELLED);
}

/* B: completed; C: from B, failed; D: completed and taken back. */
static void
life (void)
{
  life_of_a ();
  do_start ('B');
  do_retire ("-----------");
  do_begin (1, 1);
  do_end (1, 1);
  do_commit ();
  do_open ();
  do_start ('C');
  do_retire ("-----------");
  do_finish (INTENT_FAILED);
  do_start ('D');
  do_retire ("-----------");
  do_commit ();
  do_unpivot ();
  do_open ();
}

static void
begin_life (void)
{
  the_clock = &clock_.clock;
  open_it (DISK);
  need_all ();
  ended = false;
  told_lost = 0;
  model.allowed[0] = step ();
  model.count = 1;
  first_checked = 0;
  file->after = after_op;
}

static void
end_life (void)
{
  if (in) {
    ck_assert (!in->writing);
    close_it ();
  }
  else
    fake_free (file);
}

START_TEST (crash_at_any_moment)
{
  restart_too = true;
  may_end = false;
  begin_life ();
  life ();
  ck_assert (!ended);
  ck_assert_uint_eq (told_lost, 0);
  end_life ();
}
END_TEST

/* How: with count operations that fail from the n-th on, for each n. */
static const struct how {
  unsigned count;
  bool keep;
} hows[] = {
  { 1, true }, { 2, true }, { 2, false }, { 3, true }, { 5, true },
  { 100000, true }, { 100000, false },
};
#define HOWS (sizeof hows / sizeof hows[0])

START_TEST (an_operation_fails)
{
  const struct how *how = &hows[(unsigned) _i % HOWS];
  unsigned n = 0, ops;
  bool failed;

  restart_too = false;
  may_end = how->count == 100000;
  do {
    begin_life ();
    file->damage = (unsigned) _i / HOWS;
    file->keep = how->keep;
    fake_fail (file, n, how->count);
    first_checked = file->ops + n;
    life ();
    ops = file->ops;
    failed = ops > file->fail_at;
    end_life ();
    n++;
  } while (failed);
  ck_assert_uint_gt (n, 50);
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("intent crash");
  TCase *tc = tcase_create ("intent crash");
  SRunner *sr;
  int failed;

  tcase_set_timeout (tc, 600);
  tcase_add_test (tc, crash_at_any_moment);
  tcase_add_loop_test (tc, an_operation_fails, 0, (int) (DAMAGES * HOWS));
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
