/* SPDX-License-Identifier: BSD-3-Clause */
/* See format.h.
 *
 * Header:
 *
 *    0  8  magic
 *    8  4  version
 *   12  4  CRC of all of the copy, with this field 0
 *   16  8  generation
 *   24  8  epoch
 *   32  8  size of the source
 *   40  8  granularity
 *   48  8  region
 *   56  8  size of the target
 *   64  8  time
 *   72  4  state
 *   76  4  flags
 *   80  2  length of source, 82 2 target, 84 2 disk, 86 2 zero
 *   88     the three texts, one after the other; zeroes
 *
 * Page:
 *
 *    0  4  CRC of the rest
 *    4  4  number, low half
 *    8  8  epoch
 *   16     bits: region N of the page is bit N % 8 of byte N / 8
 */

#include <config.h>

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "format.h"
#include "iszero.h"
#include "range.h"

#define MAGIC "NBDmirW\n"
#define TEXTS_OFFSET 88u

#define FLAG_FENCED 1u
#define FLAG_CLEAN 2u

_Static_assert (TEXTS_OFFSET + 3 * INTENT_TEXT_MAX <= INTENT_HEADER_SIZE,
                "the texts do not fit");

const char *const intent_state_names[INTENT_STATES] = {
  [INTENT_IDLE] = "idle",
  [INTENT_RUNNING] = "running",
  [INTENT_CANCELLED] = "cancelled",
  [INTENT_DETACHED] = "detached",
  [INTENT_FAILED] = "failed",
  [INTENT_PIVOTED] = "pivoted",
};

/*-- numbers ------------------------------------------------------------*/

static void
put16 (char *p, uint16_t v)
{
  v = htole16 (v);
  memcpy (p, &v, sizeof v);
}

static void
put32 (char *p, uint32_t v)
{
  v = htole32 (v);
  memcpy (p, &v, sizeof v);
}

static void
put64 (char *p, uint64_t v)
{
  v = htole64 (v);
  memcpy (p, &v, sizeof v);
}

static uint16_t
get16 (const char *p)
{
  uint16_t v;

  memcpy (&v, p, sizeof v);
  return le16toh (v);
}

static uint32_t
get32 (const char *p)
{
  uint32_t v;

  memcpy (&v, p, sizeof v);
  return le32toh (v);
}

static uint64_t
get64 (const char *p)
{
  uint64_t v;

  memcpy (&v, p, sizeof v);
  return le64toh (v);
}

/* With the reflected polynomial, eight bytes at a time: table t says what a
 * byte becomes when t more have come ("slicing-by-8", Kounavis and Berry,
 * 2005).  The tables are made by the polynomial itself.  A header has 16 KiB,
 * and the simulator looks at a lot of them.
 */
static uint32_t tables[8][256];

static void
make_tables (void)
{
  unsigned i, bit, t;
  uint32_t v;

  for (i = 0; i < 256; ++i) {
    v = i;
    for (bit = 0; bit < 8; ++bit)
      v = v & 1 ? (v >> 1) ^ UINT32_C (0x82f63b78) : v >> 1;
    tables[0][i] = v;
  }
  for (t = 1; t < 8; ++t)
    for (i = 0; i < 256; ++i)
      tables[t][i] = (tables[t - 1][i] >> 8) ^
        tables[0][tables[t - 1][i] & 0xff];
}

/* Of four bytes, the first in the low bits, with `more` that follow them: at
 * most four.
 */
static uint32_t
after (uint32_t v, unsigned more)
{
  return tables[more + 3][v & 0xff] ^ tables[more + 2][(v >> 8) & 0xff] ^
    tables[more + 1][(v >> 16) & 0xff] ^ tables[more][v >> 24];
}

uint32_t
intent_crc32c (const void *buf, size_t len)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  const unsigned char *p = buf;
  uint32_t crc = UINT32_MAX;

  pthread_once (&once, make_tables);
  for (; len >= 8; p += 8, len -= 8)
    crc = after (crc ^ get32 ((const char *) p), 4) ^
      after (get32 ((const char *) p + 4), 0);
  for (; len > 0; --len)
    crc = (crc >> 8) ^ tables[0][(crc ^ *p++) & 0xff];
  return ~crc;
}

/*-- geometry -----------------------------------------------------------*/

uint64_t
intent_region_size (uint64_t size, uint64_t granularity)
{
  uint64_t region = INTENT_REGION_MIN;

  if (region < granularity)
    region = granularity;
  while (size / region >= INTENT_REGIONS_MAX)
    region *= 2;
  return region;
}

uint64_t
intent_regions (const struct intent_head *h)
{
  return h->size / h->region + (h->size % h->region != 0);
}

uint64_t
intent_pages (const struct intent_head *h)
{
  return (intent_regions (h) + INTENT_PAGE_BITS - 1) / INTENT_PAGE_BITS;
}

uint64_t
intent_file_size (const struct intent_head *h)
{
  return INTENT_PAGES_OFFSET + intent_pages (h) * INTENT_PAGE_SIZE;
}

/*-- header -------------------------------------------------------------*/

static char *
put_text (char *p, const char *text, char *length)
{
  const size_t n = strnlen (text, INTENT_TEXT_MAX);

  put16 (length, (uint16_t) n);
  memcpy (p, text, n);
  return p + n;
}

void
intent_encode_head (const struct intent_head *h, void *buf)
{
  char *b = buf, *p;

  memset (b, 0, INTENT_HEADER_SIZE);
  memcpy (b, MAGIC, 8);
  put32 (b + 8, INTENT_VERSION);
  put64 (b + 16, h->generation);
  put64 (b + 24, h->epoch);
  put64 (b + 32, h->size);
  put64 (b + 40, h->granularity);
  put64 (b + 48, h->region);
  put64 (b + 56, h->target_size);
  put64 (b + 64, (uint64_t) h->changed);
  put32 (b + 72, h->state);
  put32 (b + 76, (h->fenced ? FLAG_FENCED : 0) | (h->clean ? FLAG_CLEAN : 0));
  p = put_text (b + TEXTS_OFFSET, h->source, b + 80);
  p = put_text (p, h->target, b + 82);
  put_text (p, h->disk, b + 84);
  put32 (b + 12, intent_crc32c (b, INTENT_HEADER_SIZE));
}

/* false: it does not fit, or has a 0 in it. */
static bool
get_text (char *text, const char **p, size_t n)
{
  if (n > INTENT_TEXT_MAX || memchr (*p, 0, n))
    return false;
  memcpy (text, *p, n);
  text[n] = 0;
  *p += n;
  return true;
}

static bool
makes_sense (const struct intent_head *h)
{
  return h->size <= INT64_MAX && h->target_size <= INT64_MAX &&
    is_power_of_2 (h->granularity) &&
    h->granularity >= INTENT_GRANULARITY_MIN &&
    h->granularity <= INTENT_GRANULARITY_MAX &&
    is_power_of_2 (h->region) && h->region >= INTENT_REGION_MIN &&
    h->region >= h->granularity &&
    h->size / h->region < INTENT_REGIONS_MAX &&
    /* There are always more to come. */
    h->generation > 0 && h->generation <= INT64_MAX &&
    h->epoch > 0 && h->epoch <= INT64_MAX;
}

int
intent_decode_head (struct intent_head *h, const void *buf)
{
  char b[INTENT_HEADER_SIZE];
  const char *p = b + TEXTS_OFFSET;
  uint32_t crc, state, flags;

  memset (h, 0, sizeof *h);
  memcpy (b, buf, sizeof b);
  if (memcmp (b, MAGIC, 8) != 0)
    return -EINVAL;
  crc = get32 (b + 12);
  put32 (b + 12, 0);
  if (crc != intent_crc32c (b, sizeof b))
    return -EBADMSG;
  if (get32 (b + 8) != INTENT_VERSION) {
    h->generation = get32 (b + 8);
    return h->generation > INTENT_VERSION ? -ENOTSUP : -EBADMSG;
  }
  h->generation = get64 (b + 16);
  h->epoch = get64 (b + 24);
  h->size = get64 (b + 32);
  h->granularity = get64 (b + 40);
  h->region = get64 (b + 48);
  h->target_size = get64 (b + 56);
  h->changed = (int64_t) get64 (b + 64);
  state = get32 (b + 72);
  flags = get32 (b + 76);
  h->state = (enum intent_state) state;
  h->fenced = flags & FLAG_FENCED;
  h->clean = flags & FLAG_CLEAN;
  if (!get_text (h->source, &p, get16 (b + 80)) ||
      !get_text (h->target, &p, get16 (b + 82)) ||
      !get_text (h->disk, &p, get16 (b + 84)) ||
      state >= INTENT_STATES || flags > (FLAG_FENCED | FLAG_CLEAN) ||
      !makes_sense (h))
    return -EBADMSG;
  return 0;
}

int
intent_choose_head (const struct intent_head h[2], const int result[2])
{
  if (result[0] == -ENOTSUP || result[1] == -ENOTSUP)
    return -ENOTSUP;
  if (result[0] == 0 && result[1] == 0)
    return h[1].generation > h[0].generation;
  if (result[0] == 0 || result[1] == 0)
    return result[0] != 0;
  return result[0] == -EBADMSG || result[1] == -EBADMSG ? -EBADMSG : -EINVAL;
}

/*-- pages --------------------------------------------------------------*/

void
intent_begin_page (void *buf)
{
  memset (buf, 0, INTENT_PAGE_SIZE);
}

void
intent_set_bit (void *buf, unsigned bit)
{
  unsigned char *p = (unsigned char *) buf + 16 + bit / 8;

  *p = (unsigned char) (*p | 1u << bit % 8);
}

bool
intent_get_bit (const void *buf, unsigned bit)
{
  const unsigned char *p = (const unsigned char *) buf + 16 + bit / 8;

  return *p >> bit % 8 & 1;
}

void
intent_seal_page (void *buf, uint64_t epoch, uint64_t page)
{
  char *b = buf;

  put32 (b + 4, (uint32_t) page);
  put64 (b + 8, epoch);
  put32 (b, intent_crc32c (b + 4, INTENT_PAGE_SIZE - 4));
}

bool
intent_page_counts (const void *buf, uint64_t epoch, uint64_t page)
{
  const char *b = buf;

  return get32 (b) == intent_crc32c (b + 4, INTENT_PAGE_SIZE - 4) &&
    get32 (b + 4) == (uint32_t) page && get64 (b + 8) == epoch;
}

bool
intent_page_is_old (const void *buf, uint64_t page)
{
  const char *b = buf;

  return is_zero (b, INTENT_PAGE_SIZE) ||
    intent_page_counts (b, get64 (b + 8), page);
}
