/* SPDX-License-Identifier: BSD-3-Clause */
/* What the disk should contain: its bytes, and for each whether it is known.
 *
 * Both maps are private anonymous memory that is only touched where something
 * else than zero was expected, so a large disk costs what is written to it.
 *
 * Data says who wrote it: each 8-byte word of the disk that a write covers is
 * a mix of the operation's number and the word's.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "nbdfsx.h"

struct expected {
  uint64_t size;
  uint8_t *content;
  uint8_t *unknown;             /* for each byte 0 or 1 */
};

static uint8_t *
map (uint64_t size)
{
  void *p = mmap (NULL, size + 1, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

  if (p == MAP_FAILED) {
    perror ("nbdfsx: mmap");
    exit (2);
  }
  return p;
}

struct expected *
expect_new (uint64_t size)
{
  struct expected *e = malloc (sizeof *e);

  if (e == NULL) {
    perror ("nbdfsx: malloc");
    exit (2);
  }
  e->size = size;
  e->content = map (size);
  e->unknown = map (size);
  return e;
}

void
expect_free (struct expected *e)
{
  munmap (e->content, e->size + 1);
  munmap (e->unknown, e->size + 1);
  free (e);
}

static bool
all_zero (const uint8_t *buf, uint64_t count)
{
  return count == 0 ||
    (buf[0] == 0 && memcmp (buf, buf + 1, count - 1) == 0);
}

/* Pages that are zero anyway stay untouched. */
static void
make_zero (uint8_t *map_at, uint64_t count)
{
  uint64_t n;

  for (; count > 0; map_at += n, count -= n) {
    n = count < 4096 ? count : 4096;
    if (!all_zero (map_at, n))
      memset (map_at, 0, n);
  }
}

void
expect_data (struct expected *e, const uint8_t *buf, uint64_t count,
             uint64_t offset)
{
  make_zero (e->unknown + offset, count);
  if (all_zero (buf, count))
    make_zero (e->content + offset, count);
  else
    memcpy (e->content + offset, buf, count);
}

static uint64_t
word_of (uint32_t number, uint64_t word)
{
  uint64_t x = (word + 1) * UINT64_C (0x9e3779b97f4a7c15) ^
    ((uint64_t) number + 1) * UINT64_C (0xd6e8feb86659fd93);

  x ^= x >> 32;
  x *= UINT64_C (0xd6e8feb86659fd93);
  return x ^ x >> 29;
}

void
op_data (const struct op *op, uint8_t *buf)
{
  uint32_t i = 0;

  if (op->fill == FILL_ZEROES)
    i = op->count;
  else if (op->fill == FILL_HALF_ZEROES)
    i = op->count / 2;
  memset (buf, 0, i);
  while (i < op->count) {
    uint64_t at = op->offset + i, word = word_of (op->number, at / 8);
    uint32_t n = 8 - at % 8;

    word >>= at % 8 * 8;
    if (n > op->count - i)
      n = op->count - i;
    memcpy (buf + i, &word, n);
    i += n;
  }
}

void
expect_op (struct expected *e, const struct op *op)
{
  switch (op->kind) {
  case OP_WRITE:
    op_data (op, e->content + op->offset);
    make_zero (e->unknown + op->offset, op->count);
    break;
  case OP_ZERO:
    make_zero (e->content + op->offset, op->count);
    make_zero (e->unknown + op->offset, op->count);
    break;
  case OP_TRIM:
    memset (e->unknown + op->offset, 1, op->count);
    break;
  }
}

bool
expect_check (const struct expected *e, const uint8_t *buf, uint64_t count,
              uint64_t offset, uint64_t *bad, char *text)
{
  uint64_t i, n = 0, last = 0;

  if (memcmp (buf, e->content + offset, count) == 0)
    return true;
  for (i = 0; i < count; ++i) {
    if (buf[i] == e->content[offset+i] || e->unknown[offset+i])
      continue;
    if (n++ == 0) {
      *bad = offset + i;
      snprintf (text, EXPECT_TEXT, "at %" PRIu64 ": 0x%02x instead of 0x%02x",
                offset + i, buf[i], e->content[offset+i]);
    }
    last = offset + i;
  }
  if (n > 0)
    snprintf (text + strlen (text), EXPECT_TEXT - strlen (text),
              ", %" PRIu64 " wrong bytes up to %" PRIu64, n, last);
  return n == 0;
}

bool
expect_zeroes (const struct expected *e, uint64_t count, uint64_t offset,
               uint64_t *bad)
{
  uint64_t i;

  if (all_zero (e->content + offset, count))
    return true;
  for (i = offset; i < offset + count; ++i)
    if (e->content[i] != 0 && !e->unknown[i]) {
      *bad = i;
      return false;
    }
  return true;
}

void
expect_copy (const struct expected *e, uint8_t *buf, uint64_t count,
             uint64_t offset)
{
  uint64_t i;

  if (all_zero (e->unknown + offset, count)) {
    memcpy (buf, e->content + offset, count);
    return;
  }
  for (i = 0; i < count; ++i)
    if (!e->unknown[offset+i])
      buf[i] = e->content[offset+i];
}
