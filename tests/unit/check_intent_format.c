/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file's bytes: what is written is read again, and what is not whole
 * never counts.
 */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"
#include "store.h"

#define MiB (UINT64_C (1) << 20)
#define TiB (UINT64_C (1) << 40)
#define SECTOR 512u

static struct intent_head
a_head (uint64_t size, uint64_t granularity)
{
  struct intent_head h = {
    .generation = 7, .epoch = 3, .size = size, .granularity = granularity,
    .region = intent_region_size (size, granularity), .target_size = size,
    .changed = 1700000000, .state = INTENT_RUNNING, .fenced = true,
    .source = "file=/disk", .target = "nbd://h/",
    .disk = "nbd://h/d",
  };

  return h;
}

static void
same_head (const struct intent_head *a, const struct intent_head *b)
{
  ck_assert_uint_eq (a->generation, b->generation);
  ck_assert_uint_eq (a->epoch, b->epoch);
  ck_assert_uint_eq (a->size, b->size);
  ck_assert_uint_eq (a->granularity, b->granularity);
  ck_assert_uint_eq (a->region, b->region);
  ck_assert_uint_eq (a->target_size, b->target_size);
  ck_assert_int_eq (a->changed, b->changed);
  ck_assert_int_eq (a->state, b->state);
  ck_assert_int_eq (a->fenced, b->fenced);
  ck_assert_int_eq (a->clean, b->clean);
  ck_assert_str_eq (a->source, b->source);
  ck_assert_str_eq (a->target, b->target);
  ck_assert_str_eq (a->disk, b->disk);
}

/* Sets the CRC again after a change by hand. */
static void
seal_head (char *buf)
{
  uint32_t crc;

  memset (buf + 12, 0, 4);
  crc = intent_crc32c (buf, INTENT_HEADER_SIZE);
  buf[12] = (char) crc;
  buf[13] = (char) (crc >> 8);
  buf[14] = (char) (crc >> 16);
  buf[15] = (char) (crc >> 24);
}

/*-- CRC ----------------------------------------------------------------*/

/* The examples of RFC 3720, B.4, as little-endian numbers. */
START_TEST (checksum)
{
  unsigned char buf[32];
  unsigned i;

  memset (buf, 0, sizeof buf);
  ck_assert_uint_eq (intent_crc32c (buf, 32), 0x8a9136aa);
  memset (buf, 0xff, sizeof buf);
  ck_assert_uint_eq (intent_crc32c (buf, 32), 0x62a8ab43);
  for (i = 0; i < 32; ++i)
    buf[i] = (unsigned char) i;
  ck_assert_uint_eq (intent_crc32c (buf, 32), 0x46dd794e);
  ck_assert_uint_eq (intent_crc32c ("123456789", 9), 0xe3069283);
  ck_assert_uint_eq (intent_crc32c (buf, 0), 0);
}
END_TEST

/*-- geometry -----------------------------------------------------------*/

START_TEST (geometry)
{
  static const struct {
    uint64_t size, granularity, region, regions;
  } cases[] = {
    { 0, 65536, MiB, 0 },
    { 1, 65536, MiB, 1 },
    { MiB - 1, 512, MiB, 1 },
    { MiB, 512, MiB, 1 },
    { MiB + 1, 512, MiB, 2 },
    { 10 * MiB, 64 * MiB, 64 * MiB, 1 },
    { 4 * TiB - 1, 65536, MiB, INTENT_REGIONS_MAX },
    { 4 * TiB, 65536, 2 * MiB, INTENT_REGIONS_MAX / 2 },
    { 64 * TiB, 65536, 32 * MiB, INTENT_REGIONS_MAX / 2 },
    { INT64_MAX, 65536, 4 * TiB / 2, INTENT_REGIONS_MAX },
    { INT64_MAX, 64 * MiB, 4 * TiB / 2, INTENT_REGIONS_MAX },
  };
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct intent_head h = a_head (cases[i].size, cases[i].granularity);
    const uint64_t pages = (cases[i].regions + INTENT_PAGE_BITS - 1) /
      INTENT_PAGE_BITS;

    ck_assert_uint_eq (h.region, cases[i].region);
    ck_assert_uint_eq (intent_regions (&h), cases[i].regions);
    ck_assert_uint_eq (intent_pages (&h), pages);
    ck_assert_uint_eq (intent_file_size (&h),
                       INTENT_PAGES_OFFSET + pages * INTENT_PAGE_SIZE);
    /* All of the disk is in a region, and none is empty. */
    if (cases[i].size > 0)
      ck_assert_uint_eq ((cases[i].size - 1) / h.region,
                         cases[i].regions - 1);
  }
  /* The largest file. */
  ck_assert_uint_le (INTENT_PAGES_OFFSET + INTENT_PAGE_SIZE *
                     (INTENT_REGIONS_MAX / INTENT_PAGE_BITS + 1), MiB);
}
END_TEST

/*-- headers ------------------------------------------------------------*/

static uint64_t
number (const char *p, unsigned size)
{
  uint64_t v = 0;

  while (size-- > 0)
    v = v << 8 | (unsigned char) p[size];
  return v;
}

/* Where nbdkit-mirror-intent(5) says it is: never to be changed. */
START_TEST (layout)
{
  char buf[INTENT_HEADER_SIZE], page[INTENT_PAGE_SIZE];
  struct intent_head h = a_head (64 * TiB, 65536);
  uint64_t crc;

  h.target_size = 65 * TiB;
  h.state = INTENT_PIVOTED;
  h.changed = -2;
  intent_encode_head (&h, buf);
  ck_assert_int_eq (memcmp (buf, "NBDmirW\n", 8), 0);
  ck_assert_uint_eq (number (buf + 8, 4), 1);
  ck_assert_uint_eq (number (buf + 16, 8), 7);
  ck_assert_uint_eq (number (buf + 24, 8), 3);
  ck_assert_uint_eq (number (buf + 32, 8), 64 * TiB);
  ck_assert_uint_eq (number (buf + 40, 8), 65536);
  ck_assert_uint_eq (number (buf + 48, 8), 32 * MiB);
  ck_assert_uint_eq (number (buf + 56, 8), 65 * TiB);
  ck_assert_uint_eq (number (buf + 64, 8), UINT64_MAX - 1);
  ck_assert_uint_eq (number (buf + 72, 4), 5);
  ck_assert_uint_eq (number (buf + 76, 4), 1);
  ck_assert_uint_eq (number (buf + 80, 2), 10);
  ck_assert_uint_eq (number (buf + 82, 2), 8);
  ck_assert_uint_eq (number (buf + 84, 2), 9);
  ck_assert_uint_eq (number (buf + 86, 2), 0);
  ck_assert_int_eq (memcmp (buf + 88, "file=/disknbd://h/nbd://h/d\0", 28),
                    0);
  crc = number (buf + 12, 4);
  memset (buf + 12, 0, 4);
  ck_assert_uint_eq (intent_crc32c (buf, 16384), crc);
  h.fenced = false;
  h.clean = true;
  intent_encode_head (&h, buf);
  ck_assert_uint_eq (number (buf + 76, 4), 2);

  intent_begin_page (page);
  intent_set_bit (page, 3967);
  intent_set_bit (page, 9);
  intent_seal_page (page, 77, 5);
  ck_assert_uint_eq (number (page, 4), intent_crc32c (page + 4, 508));
  ck_assert_uint_eq (number (page + 4, 4), 5);
  ck_assert_uint_eq (number (page + 8, 8), 77);
  ck_assert_uint_eq (number (page + 16, 8), 2 << 8);
  ck_assert_uint_eq (number (page + 504, 8), UINT64_C (1) << 63);
}
END_TEST

START_TEST (round_trip)
{
  static const uint64_t sizes[] = { 0, 1, MiB - 1, MiB, MiB + 1, 64 * TiB,
                                    INT64_MAX };
  char buf[INTENT_HEADER_SIZE];
  struct intent_head h, back;
  unsigned i, state;

  for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i)
    for (state = 0; state < INTENT_STATES * 4; ++state) {
      h = a_head (sizes[i], 512u << i);
      h.state = (enum intent_state) (state / 4);
      h.fenced = state & 1;
      h.clean = state & 2;
      h.generation = INT64_MAX - state;
      h.epoch = INT64_MAX;
      h.changed = i % 2 ? -1 : INT64_MAX;
      intent_encode_head (&h, buf);
      ck_assert_int_eq (intent_decode_head (&back, buf), 0);
      same_head (&h, &back);
    }
}
END_TEST

START_TEST (texts)
{
  static const size_t lengths[] = { 0, 1, INTENT_TEXT_MAX - 1,
                                    INTENT_TEXT_MAX };
  char buf[INTENT_HEADER_SIZE];
  struct intent_head h = a_head (MiB, 512), back;
  size_t i, j, k;

  for (i = 0; i < 4; ++i)
    for (j = 0; j < 4; ++j)
      for (k = 0; k < 4; ++k) {
        memset (h.source, 'a', sizeof h.source);
        memset (h.target, '\377', sizeof h.target);
        memset (h.disk, '\n', sizeof h.disk);
        h.source[lengths[i]] = h.target[lengths[j]] = h.disk[lengths[k]] = 0;
        intent_encode_head (&h, buf);
        ck_assert_int_eq (intent_decode_head (&back, buf), 0);
        same_head (&h, &back);
      }
}
END_TEST

/* The next bit to flip: every one of the first 512 bytes, where something is;
 * of the rest, which is zeroes, some of each byte's.
 */
static uint32_t
next_bit (uint32_t i)
{
  return i / 8 % INTENT_HEADER_SIZE < SECTOR ? i + 1 : i + 61;
}

START_TEST (every_bit_of_a_header)
{
  char buf[INTENT_HEADER_SIZE];
  struct intent_head h = a_head (MiB, 512), back;
  unsigned i;
  int r;

  intent_encode_head (&h, buf);
  for (i = 0; i < 8 * INTENT_HEADER_SIZE; i = next_bit (i)) {
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
    r = intent_decode_head (&back, buf);
    ck_assert_int_eq (r, i / 8 < 8 ? -EINVAL : -EBADMSG);
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
  }
  ck_assert_int_eq (intent_decode_head (&back, buf), 0);
}
END_TEST

/* The CRC is right, and yet it cannot be. */
START_TEST (nonsense)
{
  static const struct { unsigned at; char value; } cases[] = {
    { 23, '\200' },             /* generation, epoch, size from 2^63 on */
    { 31, '\200' },
    { 39, '\200' },
    { 63, '\200' },             /* target's size */
    { 40, 1 },                  /* granularity: no power of two */
    { 48, 1 },                  /* region */
    { 72, INTENT_STATES },
    { 73, 1 },
    { 76, 4 },                  /* flags */
    { 79, '\200' },
    { 81, 0x20 }, { 83, 0x20 }, { 85, 0x20 },   /* lengths */
    { 88, 0 },                  /* a 0 in a text */
  };
  static const struct { uint64_t size, granularity, region; } sizes[] = {
    { 64 * TiB, 512, MiB },     /* more regions than there may be */
    { MiB, 2 * MiB, MiB },      /* smaller than a granule */
    { MiB, 128 * MiB, 128 * MiB },      /* too large a granule */
  };
  char buf[INTENT_HEADER_SIZE];
  struct intent_head h = a_head (MiB, 512), back;
  size_t i;

  for (i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    intent_encode_head (&h, buf);
    buf[cases[i].at] = cases[i].value;
    seal_head (buf);
    ck_assert_msg (intent_decode_head (&back, buf) == -EBADMSG, "%zu", i);
  }
  for (i = 16; i < 56; i += 8) {
    if (i == 32)
      continue;                 /* a disk may have the size 0 */
    intent_encode_head (&h, buf);
    memset (buf + i, 0, 8);
    seal_head (buf);
    ck_assert_msg (intent_decode_head (&back, buf) == -EBADMSG, "%zu", i);
  }
  for (i = 0; i < sizeof sizes / sizeof sizes[0]; ++i) {
    h = a_head (sizes[i].size, sizes[i].granularity);
    h.region = sizes[i].region;
    intent_encode_head (&h, buf);
    ck_assert_msg (intent_decode_head (&back, buf) == -EBADMSG, "%zu", i);
  }
}
END_TEST

START_TEST (versions)
{
  char buf[INTENT_HEADER_SIZE];
  struct intent_head h = a_head (MiB, 512), back;

  intent_encode_head (&h, buf);
  buf[8] = INTENT_VERSION + 1;
  seal_head (buf);
  ck_assert_int_eq (intent_decode_head (&back, buf), -ENOTSUP);
  ck_assert_uint_eq (back.generation, INTENT_VERSION + 1);
  /* Whatever the rest means there. */
  memset (buf + 16, 0xff, INTENT_HEADER_SIZE - 16);
  seal_head (buf);
  ck_assert_int_eq (intent_decode_head (&back, buf), -ENOTSUP);
  buf[8] = 0;
  seal_head (buf);
  ck_assert_int_eq (intent_decode_head (&back, buf), -EBADMSG);
}
END_TEST

START_TEST (which_copy_counts)
{
  static const int results[] = { 0, -EINVAL, -EBADMSG, -ENOTSUP };
  /* [A][B], when both have the same generation. */
  static const int expected[4][4] = {
    { 0, 0, 0, -ENOTSUP },
    { 1, -EINVAL, -EBADMSG, -ENOTSUP },
    { 1, -EBADMSG, -EBADMSG, -ENOTSUP },
    { -ENOTSUP, -ENOTSUP, -ENOTSUP, -ENOTSUP },
  };
  struct intent_head *h = calloc (2, sizeof *h);
  unsigned i, j;

  for (i = 0; i < 4; ++i)
    for (j = 0; j < 4; ++j)
      ck_assert_int_eq (intent_choose_head (h, (int[]) { results[i],
                                                         results[j] }),
                        expected[i][j]);
  h[0].generation = 1;
  h[1].generation = 2;
  ck_assert_int_eq (intent_choose_head (h, (int[]) { 0, 0 }), 1);
  ck_assert_int_eq (intent_choose_head (h, (int[]) { 0, -EBADMSG }), 0);
  h[0].generation = UINT64_MAX;
  ck_assert_int_eq (intent_choose_head (h, (int[]) { 0, 0 }), 0);
  ck_assert_int_eq (intent_choose_head (h, (int[]) { -EBADMSG, 0 }), 1);
  free (h);
}
END_TEST

/* Generation g, so that all of its 32 sectors are other ones: long texts. */
static struct intent_head
long_head (uint64_t g)
{
  struct intent_head h = a_head (64 * MiB, 65536);

  h.generation = g;
  memset (h.source, 'a' + (int) (g % 26), INTENT_TEXT_MAX);
  memset (h.target, 'a' + (int) (g * 3 % 26), INTENT_TEXT_MAX);
  memset (h.disk, 'a' + (int) (g * 7 % 26), INTENT_TEXT_MAX);
  h.source[INTENT_TEXT_MAX] = h.target[INTENT_TEXT_MAX] =
    h.disk[INTENT_TEXT_MAX] = '\0';
  return h;
}

/* A write of one copy that was torn: some sectors are new, the others old.
 * Short texts: only the first sector has anything, so it is all or nothing.
 * Long ones: 30 sectors; each one alone, all but one, a prefix, a suffix, and
 * many others.
 */
static void
torn (int copy, const struct intent_head *before,
      const struct intent_head *newer, const struct intent_head *other,
      uint32_t sectors)
{
  CLEANUP_FREE char *buf = calloc (1, INTENT_PAGES_OFFSET);
  CLEANUP_FREE char *next = calloc (1, INTENT_HEADER_SIZE);
  CLEANUP_FREE struct intent_head *got = calloc (1, sizeof *got);
  char *mine = buf + copy * INTENT_HEADER_SIZE;
  char error[INTENT_ERROR_MAX];
  bool all = true, none = true;
  unsigned i;
  int which, r;

  intent_encode_head (before, mine);
  intent_encode_head (other, buf + !copy * INTENT_HEADER_SIZE);
  intent_encode_head (newer, next);
  for (i = 0; i < INTENT_HEADER_SIZE / SECTOR; ++i) {
    bool differs = memcmp (mine + i * SECTOR, next + i * SECTOR, SECTOR) != 0;

    if (sectors >> i & 1) {
      memcpy (mine + i * SECTOR, next + i * SECTOR, SECTOR);
      none = none && !differs;
    }
    else
      all = all && !differs;
  }
  r = intent_load (buf, MiB, got, &which, error);
  ck_assert_int_eq (r, 0);
  same_head (got, all ? newer : other);
  ck_assert_int_eq (which, all ? copy : !copy);
  ck_assert (!(all && none));
}

START_TEST (torn_headers)
{
  struct intent_head *h = calloc (3, sizeof *h);
  const uint32_t whole = UINT32_MAX;
  uint32_t pick = 1;
  unsigned i, j;
  int copy;

  for (copy = 0; copy < 2; ++copy) {
    /* Every subset of the sectors that a short header has, and of others. */
    for (i = 0; i < 3; ++i) {
      h[i] = a_head (64 * MiB, 65536);
      h[i].generation = 7 + i;
    }
    for (i = 0; i < 256; ++i)
      torn (copy, &h[0], &h[2], &h[1], i);

    for (i = 0; i < 3; ++i)
      h[i] = long_head (7 + i);
    torn (copy, &h[0], &h[2], &h[1], 0);
    torn (copy, &h[0], &h[2], &h[1], whole);
    for (i = 0; i < 32; ++i) {
      torn (copy, &h[0], &h[2], &h[1], UINT32_C (1) << i);
      torn (copy, &h[0], &h[2], &h[1], whole & ~(UINT32_C (1) << i));
      torn (copy, &h[0], &h[2], &h[1], whole << i);
      torn (copy, &h[0], &h[2], &h[1], whole >> i);
    }
    for (j = 0; j < 2000; ++j) {
      pick = pick * 1664525 + 1013904223;
      torn (copy, &h[0], &h[2], &h[1], pick ^ pick >> 13);
    }
  }
  free (h);
}
END_TEST

/*-- pages --------------------------------------------------------------*/

START_TEST (pages)
{
  char buf[INTENT_PAGE_SIZE];
  unsigned i;

  intent_begin_page (buf);
  for (i = 0; i < INTENT_PAGE_BITS; ++i)
    ck_assert (!intent_get_bit (buf, i));
  for (i = 0; i < INTENT_PAGE_BITS; i += 3)
    intent_set_bit (buf, i);
  intent_seal_page (buf, 9, 5);
  for (i = 0; i < INTENT_PAGE_BITS; ++i)
    ck_assert (intent_get_bit (buf, i) == (i % 3 == 0));
  ck_assert (intent_page_counts (buf, 9, 5));
  ck_assert (!intent_page_counts (buf, 8, 5));
  ck_assert (!intent_page_counts (buf, 10, 5));
  ck_assert (!intent_page_counts (buf, 9, 4));
  for (i = 0; i < 8 * INTENT_PAGE_SIZE; ++i) {
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
    ck_assert (!intent_page_counts (buf, 9, 5));
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
  }
  ck_assert (intent_page_counts (buf, 9, 5));
  ck_assert (intent_page_is_old (buf, 5));
  ck_assert (!intent_page_is_old (buf, 4));
  buf[100]++;
  ck_assert (!intent_page_is_old (buf, 5));
  memset (buf, 0, sizeof buf);
  ck_assert (!intent_page_counts (buf, 0, 0));
  ck_assert (intent_page_is_old (buf, 7));
  memset (buf, 0xff, sizeof buf);
  ck_assert (!intent_page_counts (buf, UINT64_MAX, UINT32_MAX));
}
END_TEST

/* What is dirty by the file, a bit for each region; -errno: refused. */
static int
dirty_of (const char *buf, uint64_t size, uint64_t *dirty)
{
  CLEANUP_FREE struct intent_head *h = calloc (1, sizeof *h);
  char error[INTENT_ERROR_MAX];
  const char *page = buf + INTENT_PAGES_OFFSET;
  int copy, r = intent_load (buf, size, h, &copy, error);
  uint64_t i;

  if (r < 0)
    return r;
  ck_assert_uint_le (intent_regions (h), 64);
  *dirty = 0;
  for (i = 0; i < intent_regions (h); ++i)
    if (h->state != INTENT_RUNNING || !intent_page_counts (page, h->epoch, 0)
        || intent_get_bit (page, (unsigned) i))
      *dirty |= UINT64_C (1) << i;
  return 0;
}

/* One bit of a file of one page: refused, or at least what it said before.  The
 * other copy is an older one of the same epoch.
 */
START_TEST (every_bit_of_a_file)
{
  const uint64_t size = INTENT_PAGES_OFFSET + INTENT_PAGE_SIZE;
  CLEANUP_FREE char *buf = calloc (1, size);
  struct intent_head h = a_head (40 * MiB, 65536);
  uint64_t before, dirty;
  uint32_t i;

  intent_encode_head (&h, buf);
  h.generation++;
  intent_encode_head (&h, buf + INTENT_HEADER_SIZE);
  for (i = 0; i < 40; i += 7)
    intent_set_bit (buf + INTENT_PAGES_OFFSET, i);
  intent_seal_page (buf + INTENT_PAGES_OFFSET, h.epoch, 0);
  ck_assert_int_eq (dirty_of (buf, size, &before), 0);
  ck_assert_uint_eq (before & 0xff, 0x81);

  for (i = 0; i < 8 * size; i = next_bit (i)) {
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
    ck_assert_int_eq (dirty_of (buf, size, &dirty), 0);
    ck_assert_uint_eq (before & ~dirty, 0);
    buf[i / 8] = (char) (buf[i / 8] ^ 1 << i % 8);
  }
}
END_TEST

/*-- loading ------------------------------------------------------------*/

START_TEST (loading)
{
  CLEANUP_FREE char *buf = calloc (1, INTENT_PAGES_OFFSET);
  struct intent_head h = a_head (40 * MiB, 65536), got;
  const uint64_t size = intent_file_size (&h);
  char error[INTENT_ERROR_MAX];
  int copy = -1;

  ck_assert_int_eq (intent_load (buf, 0, &got, &copy, error), -EINVAL);
  ck_assert_ptr_nonnull (strstr (error, "is no intent file"));
  intent_encode_head (&h, buf + INTENT_HEADER_SIZE);
  ck_assert_int_eq (intent_load (buf, size, &got, &copy, error), 0);
  ck_assert_int_eq (copy, 1);
  ck_assert_int_eq (intent_load (buf, UINT64_MAX, &got, &copy, error), 0);
  ck_assert_int_eq (intent_load (buf, size - 1, &got, &copy, error),
                    -ENODATA);
  ck_assert_ptr_nonnull (strstr (error, "is cut off: it has 33279 bytes and "
                                 "needs 33280"));
  buf[INTENT_HEADER_SIZE + 100]++;
  ck_assert_int_eq (intent_load (buf, size, &got, &copy, error), -EBADMSG);
  ck_assert_ptr_nonnull (strstr (error, "is damaged"));
  ck_assert_ptr_nonnull (strstr (error, "a full copy"));
  buf[INTENT_HEADER_SIZE + 8] = 2;
  seal_head (buf + INTENT_HEADER_SIZE);
  ck_assert_int_eq (intent_load (buf, size, &got, &copy, error), -ENOTSUP);
  ck_assert_ptr_nonnull (strstr (error, "version 2, this program knows 1"));
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("intent format");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, checksum);
  tcase_add_test (tc, geometry);
  tcase_add_test (tc, layout);
  tcase_add_test (tc, round_trip);
  tcase_add_test (tc, texts);
  tcase_add_test (tc, every_bit_of_a_header);
  tcase_add_test (tc, nonsense);
  tcase_add_test (tc, versions);
  tcase_add_test (tc, which_copy_counts);
  tcase_add_test (tc, torn_headers);
  tcase_add_test (tc, pages);
  tcase_add_test (tc, every_bit_of_a_file);
  tcase_add_test (tc, loading);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
