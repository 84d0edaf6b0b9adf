/* SPDX-License-Identifier: BSD-3-Clause */
/* What status and watch show: whole screens in known situations, and for every
 * width that nothing is too long and nothing but text comes out.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "screen.h"

#define MiB (UINT64_C (1) << 20)

/*-- situations ---------------------------------------------------------*/

static struct look
none (void)
{
  return (struct look) {
    .id = "?", .status = "?", .copy_mode = "?", .job_error = "",
    .io_status = "?",
    .last_id = "?", .last_end = "?", .last_error = "", .verdict = "none",
    .eta = -1, .source_size = 512 * MiB, .clients = 2,
    .target_state = "none", .target_uri = "?", .target_reason = "",
    .bitmap_file = "?", .bitmap_state = "?",
    .error_side = "?", .error_op = "?", .error_text = "?",
  };
}

static struct look
copying (void)
{
  struct look l = none ();

  l.have_job = true;
  l.id = "mirror";
  l.status = "running";
  l.copy_mode = "background";
  l.verdict = "converging";
  l.len = 400 * MiB;
  l.offset = 100 * MiB;
  l.copy_rate = 50 * MiB;
  l.dirty_rate = 1536;
  l.eta = 3723;
  l.latency[LOOK_READ] = (struct look_percentiles) { 10, 128, 2048 };
  l.latency[LOOK_COPY] = (struct look_percentiles) { 9, 4096, 134217728 };
  l.copied = 100 * MiB;
  l.tracked = 3000;
  l.target_state = "online";
  l.target_uri = "nbd://otherhost/";
  l.connections = 4;
  return l;
}

static struct look
synced (void)
{
  struct look l = copying ();

  l.status = "ready";
  l.copy_mode = "write-blocking";
  l.verdict = "synced";
  l.ready = l.teeing = l.synced = true;
  l.offset = l.len;
  l.eta = 0;
  l.copy_rate = l.dirty_rate = 0;
  return l;
}

static struct look
offline (void)
{
  struct look l = copying ();

  l.verdict = "offline";
  l.target_state = "offline";
  l.target_reason = "the export is read-only";
  l.eta = -1;
  l.copy_rate = 0;
  l.have_error = true;
  l.error_side = "target";
  l.error_op = "write";
  l.error_offset = 65536;
  l.error_length = 4096;
  l.error_text = "Input/output error";
  l.error_time = 1767225600;
  return l;
}

static struct look
stopped (void)
{
  struct look l = copying ();

  l.status = l.verdict = "paused";
  l.io_status = "nospace";
  l.copy_rate = 0;
  l.eta = -1;
  l.suspect = 2 * MiB;
  l.reconnects = 3;
  return l;
}

static struct look
failed (void)
{
  struct look l = none ();

  l.have_last_job = true;
  l.last_id = "mirror";
  l.last_end = "failed";
  l.last_error = "No space left on device";
  l.held = l.fenced = true;
  return l;
}

static struct look
verifying (void)
{
  struct look l = synced ();

  l.have_verify = l.verify_running = l.verify_repair = true;
  l.verify_bytes = 200 * MiB;
  l.verify_left = 312 * MiB;
  l.verify_differences = 2;
  l.verify_error = "";
  return l;
}

static struct look
verified (void)
{
  struct look l = verifying ();

  l.verify_running = false;
  l.verify_left = 0;
  l.verify_differences = 0;
  l.verify_error = "stopped";
  return l;
}

static void
expect (struct look l, const struct screen_history *h,
        struct screen_style style, const char *text)
{
  char *got = screen_text (&l, h, &style);

  ck_assert_ptr_nonnull (got);
  ck_assert_str_eq (got, text);
  free (got);
}

static const struct screen_style plain = { .columns = 0 };

/*-- whole screens ------------------------------------------------------*/

START_TEST (whole_screens)
{
  expect (none (), NULL, plain,
          "job       none\n"
          "verdict   none\n"
          "source    512 MiB, clients: 2\n"
          "target    none\n");
  expect (copying (), NULL, plain,
          "job       mirror: running, background\n"
          "verdict   converging\n"
          "progress  [##########------------------------------] 25.0%\n"
          "left      300 MiB of 400 MiB, 1h 2m to go\n"
          "rates     copy 50 MiB/s, dirty 1.5 KiB/s\n"
          "p50/p99   read 128us/2.0ms, copy 4.1ms/134.2s\n"
          "bytes     copied 100 MiB, zeroed 0 B, teed 0 B, tracked 2.9 KiB,"
          " skipped 0 B\n"
          "source    512 MiB, clients: 2\n"
          "target    nbd://otherhost/, online, connections: 4\n");
  expect (offline (), NULL, plain,
          "job       mirror: running, background\n"
          "verdict   offline\n"
          "error     target write at 65536+4096: Input/output error,"
          " 2026-01-01 00:00:00\n"
          "progress  [##########------------------------------] 25.0%\n"
          "left      300 MiB of 400 MiB\n"
          "rates     copy 0 B/s, dirty 1.5 KiB/s\n"
          "p50/p99   read 128us/2.0ms, copy 4.1ms/134.2s\n"
          "bytes     copied 100 MiB, zeroed 0 B, teed 0 B, tracked 2.9 KiB,"
          " skipped 0 B\n"
          "source    512 MiB, clients: 2\n"
          "target    nbd://otherhost/, offline, connections: 4,"
          " the export is read-only\n");
  expect (stopped (), NULL, plain,
          "job       mirror: paused, background, stopped by a full disk\n"
          "verdict   paused\n"
          "progress  [##########------------------------------] 25.0%\n"
          "left      300 MiB of 400 MiB, suspect: 2 MiB\n"
          "rates     copy 0 B/s, dirty 1.5 KiB/s\n"
          "p50/p99   read 128us/2.0ms, copy 4.1ms/134.2s\n"
          "bytes     copied 100 MiB, zeroed 0 B, teed 0 B, tracked 2.9 KiB,"
          " skipped 0 B\n"
          "source    512 MiB, clients: 2\n"
          "target    nbd://otherhost/, online, connections: 4,"
          " reconnected: 3\n");
  expect (failed (), NULL, plain,
          "job       none; the last, mirror, failed: No space left on"
          " device\n"
          "verdict   none\n"
          "source    512 MiB, clients: 2\n"
          "target    none\n"
          "clients   held, fenced\n");
}
END_TEST

/* A row of a whole screen. */
static void
expect_row (struct look l, const char *row)
{
  char *got = screen_text (&l, NULL, &plain);

  ck_assert_ptr_nonnull (got);
  ck_assert_msg (strstr (got, row) != NULL, "%s", got);
  free (got);
}

START_TEST (verify_row)
{
  struct look l = verified ();

  expect_row (verifying (), "\nverify    running and repairing, compared"
              " 200 MiB, left 312 MiB, 2 granules differ\n");
  expect_row (l, "\nverify    ended: stopped, compared 200 MiB,"
              " 0 granules differ\n");
  l.verify_error = "";
  expect_row (l, "\nverify    done, compared 200 MiB,"
              " 0 granules differ\n");
}
END_TEST

/* Forty columns, with the curve. */
START_TEST (bitmap_row)
{
  struct look l = synced ();

  l.have_bitmap = true;
  l.bitmap_file = "/var/lib/disk.intent";
  l.bitmap_state = "running";
  l.bitmap_dirty = 3 * MiB;
  expect_row (l, "\nbitmap    running, dirty: 3 MiB, /var/lib/disk.intent\n");
  l.bitmap_state = "lost";
  expect_row (l, "\nbitmap    lost, dirty");
}
END_TEST

START_TEST (narrow_screen)
{
  const struct screen_history h = { { 0, 1, 50, 100 }, 4 };
  const struct screen_style ascii = { .columns = 40 };
  const struct screen_style utf8 = { .columns = 40, .utf8 = true };

  expect (copying (), &h, ascii,
          "job       mirror: running, background\n"
          "verdict   converging\n"
          "progress  [#####---------------] 25.0%\n"
          "left      300 MiB of 400 MiB,\n"
          "          1h 2m to go\n"
          "rates     copy 50 MiB/s,\n"
          "          dirty 1.5 KiB/s\n"
          "dirty     _.=#\n"
          "p50/p99   read 128us/2.0ms,\n"
          "          copy 4.1ms/134.2s\n"
          "bytes     copied 100 MiB, zeroed 0 B,\n"
          "          teed 0 B, tracked 2.9 KiB,\n"
          "          skipped 0 B\n"
          "source    512 MiB, clients: 2\n"
          "target    nbd://otherhost/, online,\n"
          "          connections: 4\n");
  expect (synced (), &h, utf8,
          "job       mirror: ready, write-blocking,\n"
          "          teeing, synced\n"
          "verdict   synced\n"
          "progress  [████████████████████] 100.0%\n"
          "left      0 B of 400 MiB\n"
          "rates     copy 0 B/s, dirty 0 B/s\n"
          "dirty     ▁▂▅█\n"
          "p50/p99   read 128us/2.0ms,\n"
          "          copy 4.1ms/134.2s\n"
          "bytes     copied 100 MiB, zeroed 0 B,\n"
          "          teed 0 B, tracked 2.9 KiB,\n"
          "          skipped 0 B\n"
          "source    512 MiB, clients: 2\n"
          "target    nbd://otherhost/, online,\n"
          "          connections: 4\n");
}
END_TEST

START_TEST (one_line)
{
  const struct screen_style wide = { .columns = 0 }, tight = { .columns = 39 };
  struct look l = copying ();
  char *line = screen_line (&l, &wide);

  ck_assert_str_eq (line, "running 25.0% converging, 300 MiB left,"
                    " copy 50 MiB/s, 1h 2m");
  free (line);
  expect (l, NULL, tight, "running 25.0% converging, 300 MiB left~\n");
  l = failed ();
  line = screen_line (&l, &wide);
  ck_assert_str_eq (line, "none, the last was failed");
  free (line);
  l = none ();
  line = screen_line (&l, &wide);
  ck_assert_str_eq (line, "none");
  free (line);
}
END_TEST

/* It says 100 only when nothing is left. */
START_TEST (percent)
{
  struct look l = copying ();
  char *line;

  l.len = UINT64_C (1) << 60;
  l.offset = l.len - 1;
  line = screen_line (&l, &plain);
  ck_assert_ptr_nonnull (strstr (line, " 99.9% "));
  free (line);
  l.offset = l.len = 0;         /* nothing to do at all */
  line = screen_line (&l, &plain);
  ck_assert_ptr_nonnull (strstr (line, " 100.0% "));
  free (line);
}
END_TEST

START_TEST (history_forgets_the_oldest)
{
  struct screen_history h = { .count = 0 };
  unsigned i;

  for (i = 0; i < SCREEN_HISTORY + 5; i++)
    screen_remember (&h, i);
  ck_assert_uint_eq (h.count, SCREEN_HISTORY);
  ck_assert_uint_eq (h.rates[0], 5);
  ck_assert_uint_eq (h.rates[SCREEN_HISTORY - 1], SCREEN_HISTORY + 4);
}
END_TEST

/*-- every width --------------------------------------------------------*/

/* Columns of a line without its colours; what else is no text fails. */
static unsigned
columns (const char *s, size_t n, const struct screen_style *style)
{
  unsigned count = 0;
  size_t i = 0, end;

  while (i < n) {
    const unsigned char c = (unsigned char) s[i];

    if (c == '\033') {
      ck_assert_msg (style->color, "a colour");
      ck_assert_int_eq (s[i + 1], '[');
      end = i + 2 + strspn (s + i + 2, "0123456789");
      ck_assert_int_eq (s[end], 'm');
      i = end + 1;
      continue;
    }
    ck_assert_msg (c >= 0x20 && c != 0x7f, "byte %02x", c);
    ck_assert_msg (c < 0x80 || style->utf8, "byte %02x", c);
    ck_assert_msg (c != 0xc2 || (unsigned char) s[i + 1] >= 0xa0,
                   "U+%04x", (unsigned char) s[i + 1]);
    count += (c & 0xc0) != 0x80;
    i++;
  }
  return count;
}

static void
check_widths (const struct look *l, const struct screen_history *h)
{
  /* All would take a quarter of an hour. */
  const unsigned step = getenv ("MIRROR_VALGRIND") ? 16 : 1;
  struct screen_style style;
  unsigned kind, lines;
  const char *p;
  char *text;
  size_t n;

  for (kind = 0; kind < 4; kind++)
    for (style.columns = 1; style.columns < 130; style.columns += step) {
      style.color = kind & 1;
      style.utf8 = kind & 2;
      text = screen_text (l, h, &style);
      ck_assert_ptr_nonnull (text);
      for (p = text, lines = 0; *p; p += n + 1, lines++) {
        n = strcspn (p, "\n");
        ck_assert_int_eq (p[n], '\n');
        ck_assert_uint_le (columns (p, n, &style), style.columns);
      }
      if (style.columns < SCREEN_MIN_COLUMNS)
        ck_assert_uint_eq (lines, 1);
      else
        ck_assert_uint_gt (lines, 3);
      free (text);
    }
}

START_TEST (every_width)
{
  struct screen_history h = { .count = 0 };
  struct look looks[] = { none (), copying (), synced (), offline (),
                          failed () };
  unsigned i;

  for (i = 0; i < SCREEN_HISTORY; i++)
    screen_remember (&h, i % 7 == 0 ? 0 : UINT64_MAX / (i + 1));
  for (i = 0; i < sizeof looks / sizeof looks[0]; i++) {
    check_widths (&looks[i], &h);
    check_widths (&looks[i], NULL);
  }
}
END_TEST

/* Names come from others: they are shown, not obeyed. */
START_TEST (hostile_texts)
{
  static const char *const texts[] = {
    "\033]0;title\007", "a\rb\nc", "\033[2J", "\xc2\x9b" "31m", "\x9b",
    "\xff\xfe", "\xe2\x82", "\xf0\x9f\x92\xbe disk", "\177", "",
  };
  struct screen_history h = { .count = 0 };
  char longest[5000];
  struct look l = offline ();
  unsigned i;

  for (i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    l.id = l.target_uri = l.error_text = l.job_error = l.verdict =
      l.target_reason = l.bitmap_file = l.bitmap_state = texts[i];
    l.have_bitmap = true;
    check_widths (&l, &h);
  }
  memset (longest, 'x', sizeof longest);
  longest[sizeof longest - 1] = '\0';
  l.id = l.target_uri = l.error_text = l.target_reason = longest;
  l.len = l.offset = l.copy_rate = l.dirty_rate = UINT64_MAX;
  l.eta = INT64_MAX;
  check_widths (&l, &h);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("screen");
  TCase *tc = tcase_create ("screen");
  SRunner *runner = srunner_create (suite);
  int fails;

  setenv ("TZ", "UTC", 1);
  tcase_set_timeout (tc, 60);
  tcase_add_test (tc, whole_screens);
  tcase_add_test (tc, verify_row);
  tcase_add_test (tc, bitmap_row);
  tcase_add_test (tc, narrow_screen);
  tcase_add_test (tc, one_line);
  tcase_add_test (tc, percent);
  tcase_add_test (tc, history_forgets_the_oldest);
  tcase_add_test (tc, every_width);
  tcase_add_test (tc, hostile_texts);
  suite_add_tcase (suite, tc);
  srunner_run_all (runner, CK_NORMAL);
  fails = srunner_ntests_failed (runner);
  srunner_free (runner);
  return fails == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
