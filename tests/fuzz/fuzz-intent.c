/* SPDX-License-Identifier: BSD-3-Clause */
/* Fuzzing what reads an intent file.
 *
 * Almost any change of a file is noticed by a CRC, and then not much of the
 * code is reached.  So the input is a recipe for a file: bytes that say how to
 * make it, then what its parts begin with (the rest of a part is zeroes):
 *
 *   0     flags: 1, 2 = set the CRC of header copy 0, 1; 4 = and of the pages,
 *         with their numbers; 8 = the other bytes are the file itself
 *   1 2   length of what is in copy 0
 *   3 4   the same of copy 1; what remains is in the pages
 *
 * Whatever it is, it is refused, or what it says can be used: sizes agree, it
 * comes out the same when it is written again, and nothing is read or allocated
 * that the file does not have.  The engine takes it then, finds no less
 * recorded than the pages say, and uses it; and after that it can be loaded,
 * and says what was recorded last.
 */

#include <config.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "intent.h"
#include "store.h"

#define CHECK(condition)                                                \
  do {                                                                  \
    if (!(condition)) {                                                 \
      fprintf (stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__,       \
               #condition);                                             \
      abort ();                                                         \
    }                                                                   \
  } while (0)

/* Of regions whose bits are looked at. */
#define REGIONS_MAX 100000u

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static size_t
get_length (const uint8_t *p, size_t most)
{
  const size_t n = p[0] | (size_t) p[1] << 8;

  return n < most ? n : most;
}

static void
seal_head (char *buf)
{
  uint32_t crc;

  memset (buf + 12, 0, 4);
  crc = intent_crc32c (buf, INTENT_HEADER_SIZE);
  memcpy (buf + 12, &crc, 4);
}

/* The file that a recipe makes; *size is its length.  To be freed; it has at
 * least the headers' bytes, as intent_load wants it.
 */
static char *
make_file (const uint8_t *data, size_t count, size_t *size)
{
  const size_t room = INTENT_PAGES_OFFSET + count + INTENT_PAGE_SIZE;
  char *buf = calloc (1, room);
  const uint8_t *p = data + 5;
  size_t left = count - 5, n, i;
  unsigned copy;
  uint64_t epoch;

  CHECK (buf != NULL);
  if (data[0] & 8) {
    memcpy (buf, data + 1, count - 1);
    *size = count - 1;
    return buf;
  }
  for (copy = 0; copy < 2; ++copy) {
    n = get_length (data + 1 + 2 * copy, left);
    if (n > INTENT_HEADER_SIZE)
      n = INTENT_HEADER_SIZE;
    memcpy (buf + copy * INTENT_HEADER_SIZE, p, n);
    if (data[0] >> copy & 1)
      seal_head (buf + copy * INTENT_HEADER_SIZE);
    p += n;
    left -= n;
  }
  memcpy (buf + INTENT_PAGES_OFFSET, p, left);
  /* Of whole pages, and of the epoch that one of the headers has. */
  memcpy (&epoch, buf + (data[0] >> 4 & 1) * INTENT_HEADER_SIZE + 24, 8);
  for (i = 0; data[0] & 4 && i < left; i += INTENT_PAGE_SIZE)
    intent_seal_page (buf + INTENT_PAGES_OFFSET + i, epoch,
                      i / INTENT_PAGE_SIZE);
  *size = INTENT_PAGES_OFFSET + (left + INTENT_PAGE_SIZE - 1) /
    INTENT_PAGE_SIZE * INTENT_PAGE_SIZE;
  return buf;
}

static void
check_head (const struct intent_head *h, uint64_t size)
{
  struct intent_head *again = calloc (1, sizeof *again);
  char *buf = malloc (INTENT_HEADER_SIZE);

  CHECK (again && buf);
  CHECK (h->size <= INT64_MAX && h->target_size <= INT64_MAX);
  CHECK (h->state < INTENT_STATES && h->generation > 0 && h->epoch > 0);
  CHECK (intent_file_size (h) <= size && intent_file_size (h) <= 1 << 20);
  CHECK (intent_regions (h) <= INTENT_REGIONS_MAX);
  CHECK (h->size == 0 ? intent_regions (h) == 0
         : (h->size - 1) / h->region + 1 == intent_regions (h));
  CHECK (memchr (h->source, 0, sizeof h->source) &&
         memchr (h->target, 0, sizeof h->target) &&
         memchr (h->disk, 0, sizeof h->disk));

  intent_encode_head (h, buf);
  CHECK (intent_decode_head (again, buf) == 0);
  CHECK (again->generation == h->generation && again->size == h->size &&
         again->region == h->region && again->state == h->state &&
         again->clean == h->clean && again->fenced == h->fenced &&
         strcmp (again->source, h->source) == 0 &&
         strcmp (again->target, h->target) == 0 &&
         strcmp (again->disk, h->disk) == 0);
  free (again);
  free (buf);
}

/* As many bits as there are, and in a page that is rotten every one.  Returns
 * how many of those that are looked at are set.
 */
static uint64_t
check_pages (const struct intent_head *h, const char *pages)
{
  uint64_t i, set = 0, n = intent_regions (h);
  char page[INTENT_PAGE_SIZE];
  bool counts = false;

  for (i = 0; i < n && i < REGIONS_MAX; ++i) {
    if (i % INTENT_PAGE_BITS == 0) {
      memcpy (page, pages + i / INTENT_PAGE_BITS * INTENT_PAGE_SIZE,
              sizeof page);
      counts = intent_page_counts (page, h->epoch, i / INTENT_PAGE_BITS);
      CHECK (!counts || intent_page_is_old (page, i / INTENT_PAGE_BITS));
    }
    set += !counts || intent_get_bit (page, (unsigned) (i % INTENT_PAGE_BITS));
  }
  CHECK (set <= n);
  return set;
}

/*-- the engine ---------------------------------------------------------*/

struct memory {
  struct intent_io io;          /* first */
  char *buf;
  size_t size;
};

static int
memory_pread (struct intent_io *io, void *buf, size_t count, uint64_t offset)
{
  struct memory *m = (struct memory *) io;

  CHECK (offset <= m->size && count <= m->size - offset);
  memcpy (buf, m->buf + offset, count);
  return 0;
}

static int
memory_pwrite (struct intent_io *io, const void *buf, size_t count,
               uint64_t offset)
{
  struct memory *m = (struct memory *) io;

  /* The file never grows. */
  CHECK (offset <= m->size && count <= m->size - offset);
  memcpy (m->buf + offset, buf, count);
  return 0;
}

static int
memory_nothing (struct intent_io *io)
{
  (void) io;
  return 0;
}

static void
memory_free (struct intent_io *io)
{
  (void) io;
}

static const struct intent_io_ops memory_ops = {
  .pread = memory_pread, .pwrite = memory_pwrite, .sync = memory_nothing,
  .destroy = memory_nothing, .free = memory_free,
};

struct sum {
  uint64_t bytes, end, size;
};

static void
add_run (void *opaque, struct range r)
{
  struct sum *sum = opaque;

  CHECK (r.start >= sum->end && r.start < r.end && r.end <= sum->size);
  sum->bytes += range_len (r);
  sum->end = r.end;
}

static struct sum
recorded (struct intent *in, uint64_t size)
{
  struct sum sum = { .size = size };

  intent_each (in, add_run, &sum);
  return sum;
}

static bool
nothing_differs (void *opaque, uint64_t from, struct range *run)
{
  (void) opaque;
  (void) from;
  (void) run;
  return false;
}

static void
use_it (char *buf, size_t size, const struct intent_head *h, int copy,
        uint64_t set)
{
  struct memory m = { .io.ops = &memory_ops, .buf = buf, .size = size };
  const struct range last = { h->size > 0 ? h->size - 1 : 0, h->size };
  const uint64_t regions = intent_regions (h);
  struct intent_head *now = malloc (sizeof *now);
  char error[INTENT_ERROR_MAX];
  struct intent *in;
  struct sum sum;

  CHECK (now && intent_new (&in, &m.io, h, copy, &clock_monotonic, NULL,
                            NULL) == 0);
  intent_check (in);
  sum = recorded (in, h->size);
  if (h->state != INTENT_RUNNING)
    CHECK (sum.bytes == h->size);
  else if (regions <= REGIONS_MAX)
    CHECK ((sum.bytes + h->region - 1) / h->region == set);
  if (h->state == INTENT_RUNNING) {
    CHECK (intent_resume (in) == 0);
    if (h->size > 0) {
      CHECK (intent_begin (in, last, UINT64_MAX) == 0);
      intent_watch (in);
      CHECK (recorded (in, h->size).end == h->size);
      intent_end (in, last);
    }
    intent_watch (in);
    CHECK (intent_retire (in, nothing_differs, NULL) == 0);
    CHECK (recorded (in, h->size).bytes == 0);
    CHECK (intent_close (in, true) == 0);
  }
  else
    CHECK (intent_start (in, "nbd://h/", h->size, h->granularity) == 0);
  intent_check (in);
  intent_free (in);

  CHECK (intent_load (buf, size, now, &copy, error) == 0);
  CHECK (now->state == INTENT_RUNNING && now->size == h->size &&
         now->clean == (h->state == INTENT_RUNNING));
  set = check_pages (now, buf + INTENT_PAGES_OFFSET);
  CHECK (now->clean ? set == 0
         : set == (regions < REGIONS_MAX ? regions : REGIONS_MAX));
  free (now);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t count)
{
  char error[INTENT_ERROR_MAX] = "";
  struct intent_head *head;
  size_t size;
  char *buf;
  int copy = -1, r;

  if (count < 5)
    return 0;
  buf = make_file (data, count, &size);
  head = malloc (sizeof *head);
  CHECK (head != NULL);
  r = intent_load (buf, size, head, &copy, error);
  if (r < 0) {
    CHECK (r == -EINVAL || r == -EBADMSG || r == -ENOTSUP || r == -ENODATA);
    CHECK (error[0] != '\0');
  }
  else {
    CHECK (r == 0 && (copy == 0 || copy == 1));
    uint64_t set = check_pages (head, buf + INTENT_PAGES_OFFSET);

    check_head (head, size);
    /* Nobody counts so far that there is no next one. */
    if (head->generation < INT64_MAX - 100 && head->epoch < INT64_MAX - 100)
      use_it (buf, size, head, copy, set);
  }
  free (head);
  free (buf);
  return 0;
}
