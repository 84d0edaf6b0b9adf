/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent record when its file fails: lost, gone and broken. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"
#include "intent-help.h"

/* The record cannot be written, but that everything may differ can. */
START_TEST (lost_goes_on)
{
  begin (regions (1, 1));
  fake_fail (file, _i, 1);
  begin (regions (2, 2));
  ck_assert_uint_eq (told_lost, 1);
  ck_assert (status ().lost && !status ().gone && !status ().running);
  ck_assert_uint_eq (status ().bytes, SIZE);
  ck_assert (recorded (77));
  begin (regions (100, 2));
  ck_assert_uint_eq (told_lost, 1);
  retire_all ();
  ck_assert (recorded (77));
  intent_end (in, regions (1, 3));
  intent_end (in, regions (100, 2));
}
END_TEST

/* Both headers say so: when one rots the other does not bring back what W was
 * before.
 */
START_TEST (lost_in_both_headers)
{
  int copy;

  begin (regions (1, 1));
  fake_fail (file, _i, 1);
  begin (regions (2, 2));
  ck_assert_uint_eq (told_lost, 1);
  for (copy = 0; copy < 2; ++copy) {
    fake_rot (file, copy * INTENT_HEADER_SIZE);
    ck_assert (recorded (77));
    fake_rot (file, copy * INTENT_HEADER_SIZE);
  }
}
END_TEST

/* Not that either; but the file can be removed. */
START_TEST (gone_goes_on)
{
  unsigned ops;

  fake_fail (file, 0, 1000);
  begin (regions (2, 2));
  ck_assert_uint_eq (told_lost, 1);
  ck_assert (status ().lost && status ().gone && file->gone);
  ops = file->ops;
  begin (regions (5, 1));
  ck_assert_int_eq (intent_everything (in), 0);
  ck_assert_int_eq (intent_fence (in, true), 0);
  ck_assert (status ().fenced);
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  ck_assert_int_eq (intent_start (in, "U", SIZE, GRAN), 0);
  ck_assert (status ().lost && status ().state == INTENT_RUNNING);
  begin (regions (6, 1));
  ck_assert_uint_eq (file->ops, ops);
  ck_assert_uint_eq (told_lost, 1);
}
END_TEST

/* Nothing can be done: who needs what is not recorded fails in time, and is
 * active nowhere; who does not, does not notice.
 */
START_TEST (broken_fails_in_time)
{
  const uint64_t deadline = clock_.now_ns + 5000000000;

  begin (regions (3, 1));
  fake_fail (file, 0, 1000000);
  file->keep = true;
  ck_assert_int_eq (intent_begin (in, regions (2, 4), deadline), -EIO);
  ck_assert_uint_eq (clock_.now_ns, deadline);
  ck_assert_uint_lt (clock_.waits, 60);         /* not in a tight loop */
  ck_assert_int_eq (intent_begin (in, regions (5, 1), deadline), -EIO);
  ck_assert_int_eq (intent_ask (in, regions (5, 1), deadline), -EIO);
  ck_assert_int_eq (intent_begin (in, regions (3, 1), deadline), 0);
  intent_end (in, regions (3, 1));
  ck_assert_uint_eq (told_lost, 0);
  ck_assert (!status ().lost);
  intent_end (in, regions (3, 1));
  intent_check (in);            /* that nobody is active */
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), -EIO);
  ck_assert_int_eq (intent_ask (in, regions (5, 1), deadline), -EIO);

  file->fail_count = 0;
  ck_assert_int_eq (intent_begin (in, regions (2, 4), FOREVER), 0);
  ck_assert_uint_eq (told_lost, 1);
  ck_assert (recorded (77));
  intent_end (in, regions (2, 4));
}
END_TEST

/* What was let in while it was broken is not active any more. */
START_TEST (failed_begin_is_not_active)
{
  begin (regions (2, 1));
  intent_end (in, regions (2, 1));
  fake_fail (file, 0, 1000000);
  file->keep = true;
  ck_assert_int_eq (intent_begin (in, regions (2, 2), clock_.now_ns + 1),
                    -EIO);
  file->fail_count = 0;
  ck_assert_int_eq (intent_start (in, "T", SIZE, GRAN), 0);
  intent_watch (in);
  ck_assert_uint_eq (intent_idle (in), REGIONS);
}
END_TEST

/* A page that cannot be read means everything, also in the file. */
START_TEST (unreadable_page)
{
  static struct intent_head head;
  struct fake *f = file;
  int copy;

  begin (regions (1, 1));
  intent_end (in, regions (1, 1));
  intent_free (in);
  fake_head (f, &head, &copy);
  f->freed = false;
  f->fail_pread = true;
  ck_assert_int_eq (intent_new (&in, &f->io, &head, copy, the_clock, lost,
                                &told_lost), 0);
  f->fail_pread = false;
  ck_assert_uint_eq (status ().bytes, SIZE);
  ck_assert (recorded (77));
}
END_TEST

/* What it says is not known then, so it is not to be trusted. */
START_TEST (retiring_fails)
{
  begin (regions (1, 2));
  intent_end (in, regions (1, 2));
  intent_watch (in);
  fake_fail (file, _i % 2, _i < 2 ? 1 : 1000000);
  file->keep = _i >= 4;
  ck_assert_int_eq (intent_retire (in, nothing, NULL), -EIO);
  ck_assert_uint_eq (told_lost, _i < 4);
  ck_assert_uint_eq (status ().gone, _i == 2 || _i == 3);
  intent_check (in);
  if (_i < 4)
    begin (regions (1, 2));
  else {
    ck_assert_int_eq (intent_begin (in, regions (1, 2), clock_.now_ns + 1),
                      -EIO);
    file->fail_count = 0;
    begin (regions (1, 2));
  }
  ck_assert_uint_eq (told_lost, 1);
  ck_assert (recorded (1) && recorded (2));
  intent_end (in, regions (1, 2));
}
END_TEST

/*-- headers ------------------------------------------------------------*/

/* Who it is told that goes on is told by the file that late requests may
 * arrive (I9), also if the file cannot say that by itself.
 */
START_TEST (lost_is_not_closed_in_order)
{
  static struct intent_head head;
  struct fake *f = file;
  int copy;

  ck_assert_int_eq (intent_close (in, true), 0);
  ck_assert (status ().clean);
  intent_free (in);
  fake_head (f, &head, &copy);
  f->freed = false;
  ck_assert_int_eq (intent_new (&in, &f->io, &head, copy, the_clock, lost,
                                &told_lost), 0);
  ck_assert (status ().clean);
  fake_fail (f, _i, 1);
  ck_assert_int_eq (intent_resume (in), 0);
  ck_assert_uint_eq (told_lost, _i < 2);
  fake_head (f, &head, &copy);
  ck_assert (!head.clean);
  ck_assert_int_eq (head.state, INTENT_RUNNING);
}
END_TEST

/* Closing that cannot be written leaves a file that was not closed. */
START_TEST (close_fails)
{
  static struct intent_head head;
  int copy;

  fake_fail (file, _i, 1);
  ck_assert_int_eq (intent_close (in, true), 0);
  fake_head (file, &head, &copy);
  ck_assert (!head.clean);
}
END_TEST

/* A mirror that has ended, or whose target was let go, is not to be resumed: it
 * would write to what is another's by then.
 */
START_TEST (finish_fails)
{
  static struct intent_head head;
  int copy;

  fake_fail (file, _i, 1);
  ck_assert_int_eq (intent_finish (in, INTENT_DETACHED), 0);
  ck_assert_uint_eq (told_lost, 1);
  fake_head (file, &head, &copy);
  ck_assert_int_eq (head.state, INTENT_DETACHED);
  ck_assert_int_eq (status ().state, INTENT_DETACHED);
}
END_TEST

static void
old_mirror_is_over (void *opaque, const struct image *im)
{
  unsigned *n = opaque;

  ck_assert_int_ge (im->copy, 0);
  ck_assert (im->head.state == INTENT_CANCELLED ||
             strcmp (im->head.target, "U") == 0);
  (*n)++;
}

/* Only one copy says that the mirror was cancelled, since the other could not
 * be written.  It is not the one that the next attempts, torn, are written to.
 */
START_TEST (newest_header_stays)
{
  unsigned n = 0;

  fake_fail (file, 2, 1);
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  fake_each_image (file, old_mirror_is_over, &n);
  file->damage = DAMAGE_ALL;
  file->keep = true;
  fake_fail (file, 0, 2);
  ck_assert_int_eq (intent_start (in, "U", SIZE, GRAN), -EIO);
  fake_each_image (file, old_mirror_is_over, &n);
  ck_assert_uint_ge (n, 4);
}
END_TEST

/* A mirror runs though its start could not be written: it is named rightly. */
START_TEST (start_fails)
{
  static struct intent_head head;
  int copy;

  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  fake_fail (file, _i, 1);
  ck_assert_int_eq (intent_start (in, "U", SIZE, GRAN), 0);
  ck_assert_uint_eq (told_lost, 1);
  fake_head (file, &head, &copy);
  ck_assert_str_eq (head.target, "U");
  ck_assert (recorded (77));
  begin (regions (77, 1));
  intent_end (in, regions (77, 1));
  intent_get_head (in, &head);
  ck_assert_str_eq (head.target, "U");

  /* The next one has a file again. */
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  ck_assert_int_eq (intent_start (in, "V", SIZE, GRAN), 0);
  ck_assert (status ().running);
  retire_all ();
  ck_assert (!recorded (77));
}
END_TEST

/* A greater granularity that could not be written is not the one that counts
 * when the next mirror has a smaller one.
 */
START_TEST (start_with_greater_regions_fails)
{
  static struct intent_head head;

  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  fake_fail (file, 0, 1000);
  file->keep = true;
  ck_assert_int_eq (intent_start (in, "U", SIZE, 4 * MIB), -EIO);
  file->fail_count = 0;
  ck_assert_int_eq (intent_start (in, "U", SIZE, GRAN), 0);
  retire_all ();
  intent_get_head (in, &head);
  ck_assert_uint_eq (status ().bytes, 0);
  begin (regions (5, 1));
  ck_assert_uint_eq (status ().bytes, head.region);
  ck_assert (fake_covers (file, regions (5, 1)));
  intent_end (in, regions (5, 1));
}
END_TEST

/* Clients are moved back, or fenced: 0 only if the file says so. */
START_TEST (orders_fail)
{
  static struct intent_head head;
  const _Atomic bool stop = false;
  int copy, r;

  ck_assert_int_eq (intent_commit (in, &stop), 0);
  fake_fail (file, _i, 1);
  r = intent_unpivot (in);
  fake_head (file, &head, &copy);
  ck_assert_int_eq (r, _i < 2 ? -EIO : 0);
  ck_assert_int_eq (head.state, _i < 2 ? INTENT_PIVOTED : INTENT_CANCELLED);
  ck_assert_int_eq (head.disk[0] == 0, r == 0);

  fake_fail (file, _i, 1);
  r = intent_fence (in, true);
  fake_head (file, &head, &copy);
  ck_assert_int_eq (r, _i < 2 ? -EIO : 0);
  ck_assert_int_eq (head.fenced, r == 0);
  ck_assert_int_eq (status ().fenced, r == 0);
}
END_TEST

/* Nothing is recorded where no restart would find it: the file's name is gone,
 * or another file's.  What is told then is not an order that has been carried
 * out.  If there is no file a switch without one is possible afterwards.
 */
START_TEST (file_is_elsewhere)
{
  const int err = _i ? -ESTALE : -ENOENT;
  static struct intent_head head;
  const _Atomic bool stop = false;
  unsigned ops = file->ops;
  int copy;

  file->elsewhere = err;
  ck_assert_int_eq (intent_fence (in, true), err);
  ck_assert (!status ().fenced);
  file->elsewhere = err;
  if (_i)
    ck_assert_int_eq (intent_commit (in, &stop), err);
  ck_assert_uint_eq (file->ops, ops);
  fake_head (file, &head, &copy);
  ck_assert_int_eq (head.state, INTENT_RUNNING);
  ck_assert_uint_eq (told_lost, !_i);
  ck_assert (status ().gone == !_i && status ().lost == !_i);
  begin (regions (5, 1));
  intent_end (in, regions (5, 1));
  if (!_i)
    ck_assert_int_eq (intent_commit (in, &stop), 0);
}
END_TEST

/*-- the commit record --------------------------------------------------*/

static _Atomic bool stop;

/* What happens at the third wait. */
enum relief {
  RELIEF_ALL,                   /* everything works again */
  RELIEF_ABORT,                 /* ... but the record fails once more */
  RELIEF_DESTROY,               /* the file can be removed, not written */
  RELIEF_STOP,                  /* nobody wants to wait any longer */
  RELIEFS
};

static void
commit_waits (void *opaque)
{
  const enum relief relief = *(int *) opaque;

  ck_assert_uint_eq (told_lost, 0);
  /* Nobody may go on meanwhile. */
  clock_.waiting = NULL;
  ck_assert_int_eq (intent_begin (in, regions (9, 1), clock_.now_ns), -EIO);
  clock_.waiting = commit_waits;
  if (clock_.waits < 3)
    return;
  if (relief == RELIEF_STOP)
    atomic_store (&stop, true);
  else if (relief == RELIEF_DESTROY)
    file->keep = false;
  else
    fake_fail (file, 0, relief == RELIEF_ABORT);
}

static void
is_pivoted (void *opaque, const struct image *im)
{
  const bool *pivoted = opaque;

  ck_assert (im->gone ? !*pivoted : im->copy >= 0);
  if (im->gone)
    return;
  ck_assert_int_eq (im->head.state, *pivoted ? INTENT_PIVOTED : INTENT_RUNNING);
  ck_assert_str_eq (im->head.disk, *pivoted ? "T" : "");
}

/* Whether the record is durable is not known: it blocks until it is, or until
 * it is certain that it will not be believed (H10).
 */
START_TEST (commit_unknown)
{
  int relief = _i / 2, r;
  bool pivoted = relief == RELIEF_ALL;

  begin (regions (1, 1));
  fake_fail (file, _i % 2, 1000000);
  file->damage = DAMAGE_ALL;
  file->keep = true;
  clock_.waiting = commit_waits;
  clock_.opaque = &relief;
  atomic_store (&stop, false);
  r = intent_commit (in, &stop);
  clock_.waiting = NULL;
  ck_assert_uint_ge (clock_.waits, 3);
  ck_assert_int_eq (r, relief == RELIEF_ALL ? 0
                    : relief == RELIEF_STOP ? -EINPROGRESS : -EIO);
  ck_assert_uint_eq (told_lost, relief == RELIEF_ABORT ||
                     relief == RELIEF_DESTROY);
  if (relief != RELIEF_STOP)
    fake_each_image (file, is_pivoted, &pivoted);
  intent_end (in, regions (1, 1));
}
END_TEST

/* The record fails, and what says so is durable at once. */
START_TEST (commit_aborted)
{
  bool pivoted = false;

  atomic_store (&stop, true);   /* nobody looks at it */
  begin (regions (1, 1));
  fake_fail (file, _i, 1);
  file->damage = DAMAGE_ALL;
  ck_assert_int_eq (intent_commit (in, &stop), -EIO);
  ck_assert_uint_eq (told_lost, 1);
  ck_assert_int_eq (status ().state, INTENT_RUNNING);
  fake_each_image (file, is_pivoted, &pivoted);
  ck_assert (recorded (77));

  /* Another attempt, when the file works again. */
  pivoted = true;
  ck_assert_int_eq (intent_commit (in, &stop), 0);
  fake_each_image (file, is_pivoted, &pivoted);
  intent_end (in, regions (1, 1));
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("intent errors");
  TCase *tc = tcase_create ("intent errors");
  SRunner *sr;
  int failed;

  tcase_add_checked_fixture (tc, setup, teardown);
  tcase_set_timeout (tc, 120);
  tcase_add_loop_test (tc, lost_goes_on, 0, 2);
  tcase_add_loop_test (tc, lost_in_both_headers, 0, 2);
  tcase_add_test (tc, gone_goes_on);
  tcase_add_test (tc, broken_fails_in_time);
  tcase_add_test (tc, failed_begin_is_not_active);
  tcase_add_test (tc, unreadable_page);
  tcase_add_loop_test (tc, retiring_fails, 0, 6);
  tcase_add_loop_test (tc, lost_is_not_closed_in_order, 0, 4);
  tcase_add_loop_test (tc, close_fails, 0, 2);
  tcase_add_loop_test (tc, finish_fails, 0, 2);
  tcase_add_test (tc, newest_header_stays);
  tcase_add_loop_test (tc, start_fails, 0, 2);
  tcase_add_test (tc, start_with_greater_regions_fails);
  tcase_add_loop_test (tc, orders_fail, 0, 4);
  tcase_add_loop_test (tc, file_is_elsewhere, 0, 2);
  tcase_add_loop_test (tc, commit_unknown, 0, 2 * RELIEFS);
  tcase_add_loop_test (tc, commit_aborted, 0, 2);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
