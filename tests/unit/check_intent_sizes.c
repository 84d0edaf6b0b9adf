/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent record of disks of any size, and with regions of any. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "intent-help.h"

struct seen {
  unsigned runs;
  struct range last;
  uint64_t bytes;
};

static void
see (void *opaque, struct range r)
{
  struct seen *s = opaque;

  ck_assert (!range_empty (r));
  ck_assert (s->runs == 0 || s->last.end < r.start);
  s->runs++;
  s->last = r;
  s->bytes += range_len (r);
}

static struct seen
each (void)
{
  struct seen s = { 0 };

  intent_each (in, see, &s);
  return s;
}

/* Close it, and read it again. */
static void
open_again (void)
{
  static struct intent_head head;
  struct fake *f = file;
  int copy;

  intent_check (in);
  intent_free (in);
  fake_head (f, &head, &copy);
  f->freed = false;
  ck_assert_int_eq (intent_new (&in, &f->io, &head, copy, the_clock, lost,
                                &told_lost), 0);
}

/* All of it, begun and left at its ends, and read again. */
static void
live (uint64_t size)
{
  const struct range first = { 0, 1 }, end = { size - 1, size };
  static struct intent_head head;

  open_it (size);
  ck_assert_int_eq (intent_start (in, "T", size, GRAN), 0);
  ck_assert_uint_eq (status ().bytes, size);
  ck_assert_uint_eq (each ().bytes, size);
  ck_assert_uint_eq (each ().runs, size > 0);
  retire_all ();
  ck_assert_uint_eq (status ().bytes, 0);
  ck_assert_uint_eq (each ().runs, 0);
  intent_get_head (in, &head);
  if (size > 0) {
    begin (end);
    ck_assert (fake_covers (file, end));
    ck_assert_uint_eq (each ().runs, 1);
    ck_assert_uint_eq (each ().last.end, size);
    ck_assert_uint_eq (each ().last.start, (size - 1) / head.region *
                       head.region);
    begin (first);
    intent_end (in, first);
    open_again ();
    ck_assert_uint_eq (each ().runs, size > 2 * head.region ? 2 : 1);
    ck_assert_uint_eq (each ().last.end, size);
    retire_all ();
  }
  ck_assert_uint_eq (each ().runs, 0);
  ck_assert_int_eq (intent_everything (in), 0);
  ck_assert_uint_eq (each ().bytes, size);
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  ck_assert_uint_eq (status ().bytes, size);
  ck_assert_uint_eq (told_lost, 0);
  close_it ();
}

START_TEST (sizes)
{
  const uint64_t some[] = {
    0, 1, 511, MIB - 1, MIB, MIB + 1, 2 * MIB, 7 * MIB + 512,
    INTENT_PAGE_BITS * MIB - 1, INTENT_PAGE_BITS * MIB,
    INTENT_PAGE_BITS * MIB + 1, 64 * INTENT_PAGE_BITS * MIB + 1,
    UINT64_C (64) << 40, (UINT64_C (64) << 40) + 1, INT64_MAX,
  };
  unsigned i;

  the_clock = &clock_.clock;
  for (i = 0; i < sizeof some / sizeof some[0]; ++i)
    live (some[i]);
}
END_TEST

/* The region grows with the granularity, and does not shrink again. */
START_TEST (greater_granularity)
{
  static struct intent_head head;
  const struct range r = { 5 * MIB, 5 * MIB + 1 };
  const uint64_t size = 9 * MIB + 4096;

  the_clock = &clock_.clock;
  open_it (size);
  ck_assert_int_eq (intent_start (in, "T", size, GRAN), 0);
  ck_assert_int_eq (intent_finish (in, INTENT_CANCELLED), 0);
  ck_assert_int_eq (intent_start (in, "U", size, 4 * MIB), 0);
  intent_get_head (in, &head);
  ck_assert_uint_eq (head.region, 4 * MIB);
  ck_assert_uint_eq (head.granularity, 4 * MIB);
  retire_all ();
  begin (r);
  ck_assert_uint_eq (status ().bytes, 4 * MIB);
  ck_assert_uint_eq (each ().last.start, 4 * MIB);
  ck_assert (fake_covers (file, (struct range) { 4 * MIB, 8 * MIB }));
  ck_assert (!fake_covers (file, (struct range) { 8 * MIB, size }));
  intent_end (in, r);
  open_again ();
  ck_assert_uint_eq (each ().last.start, 4 * MIB);
  ck_assert_uint_eq (each ().last.end, 8 * MIB);

  ck_assert_int_eq (intent_start (in, "V", size, GRAN), 0);
  intent_get_head (in, &head);
  ck_assert_uint_eq (head.region, 4 * MIB);
  ck_assert_uint_eq (head.granularity, GRAN);
  ck_assert_uint_eq (status ().bytes, size);
  close_it ();
}
END_TEST

/* A file that has been laid out but has no header yet. */
START_TEST (no_header_yet)
{
  static struct intent_head head;

  fake_init_head (&head, 3 * MIB, GRAN);
  file = fake_new (intent_file_size (&head));
  ck_assert_int_eq (intent_new (&in, &file->io, &head, -1, &clock_.clock, lost,
                                &told_lost), 0);
  ck_assert_int_eq (intent_start (in, "T", 3 * MIB, GRAN), 0);
  retire_all ();
  open_again ();
  ck_assert_uint_eq (each ().runs, 0);
  ck_assert (status ().running);
  close_it ();
}
END_TEST

int
main (void)
{
  Suite *s = suite_create ("intent sizes");
  TCase *tc = tcase_create ("intent sizes");
  SRunner *sr;
  int failed;

  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, sizes);
  tcase_add_test (tc, greater_granularity);
  tcase_add_test (tc, no_header_yet);
  suite_add_tcase (s, tc);
  sr = srunner_create (s);
  srunner_run_all (sr, CK_NORMAL);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
