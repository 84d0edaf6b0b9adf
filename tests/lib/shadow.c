/* SPDX-License-Identifier: BSD-3-Clause */
/* See shadow.h.  Sectors that were never written have no list at all; the
 * first request to one adds an entry for the initial content, which has the
 * stamp 0 and is the oldest.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shadow.h"

#define IN_FLIGHT UINT64_MAX

/* Two odd constants and the inverse of the first modulo 2^64. */
#define MIX_STAMP UINT64_C (0x9e3779b97f4a7c15)
#define UNMIX_STAMP UINT64_C (0xf1de83e19937733d)
#define MIX_WORD UINT64_C (0xc2b2ae3d27d4eb4f)

struct entry {
  struct entry *next;
  uint64_t sent;                /* the stamp */
  uint64_t ended;               /* IN_FLIGHT until then */
  uint16_t start, end;          /* bytes of the sector */
  uint8_t kind;                 /* enum shadow_kind */
  bool sure;                    /* it has succeeded */
  bool lost;                    /* its connection was */
};

struct shadow {
  const uint8_t *base;
  uint64_t size;
  uint64_t clock;
  uint64_t over;                /* what was sent before and lost, then ended */
  struct entry **sectors;
  struct entry *spare;
};

struct shadow *
shadow_new (const uint8_t *base, uint64_t size)
{
  struct shadow *sh = calloc (1, sizeof *sh);

  if (sh == NULL)
    return NULL;
  sh->base = base;
  sh->size = size;
  sh->sectors = calloc (size / SECTOR + 1, sizeof *sh->sectors);
  if (sh->sectors == NULL) {
    free (sh);
    return NULL;
  }
  return sh;
}

static void
free_list (struct entry *e)
{
  struct entry *next;

  for (; e; e = next) {
    next = e->next;
    free (e);
  }
}

void
shadow_free (struct shadow *sh)
{
  uint64_t i;

  if (sh == NULL)
    return;
  for (i = 0; i <= sh->size / SECTOR; ++i)
    free_list (sh->sectors[i]);
  free_list (sh->spare);
  free (sh->sectors);
  free (sh);
}

uint64_t
shadow_tick (struct shadow *sh)
{
  return ++sh->clock;
}

static uint64_t
word_of (uint64_t stamp, uint64_t number)
{
  return (stamp ^ (number * MIX_WORD)) * MIX_STAMP;
}

/* Bytes are taken from the low end, whatever the machine's byte order. */
static uint8_t
byte_of (uint64_t stamp, uint64_t offset)
{
  return word_of (stamp, offset / 8) >> (offset % 8 * 8);
}

void
shadow_pattern (uint64_t stamp, uint8_t *buf, size_t count, uint64_t offset)
{
  size_t i = 0;

  while (i < count) {
    uint64_t word;
    unsigned j;

    if ((offset + i) % 8 != 0 || count - i < 8) {
      buf[i] = byte_of (stamp, offset + i);
      i++;
      continue;
    }
    word = word_of (stamp, (offset + i) / 8);
    for (j = 0; j < 8; ++j)
      buf[i + j] = word >> (j * 8);
    i += 8;
  }
}

/* Whose word is this?  0 if no request so far can have written it. */
static uint64_t
stamp_of (struct shadow *sh, const uint8_t *buf, uint64_t number)
{
  uint64_t word = 0, stamp;
  unsigned j;

  for (j = 0; j < 8; ++j)
    word |= (uint64_t) buf[j] << (j * 8);
  stamp = (word * UNMIX_STAMP) ^ (number * MIX_WORD);
  return stamp <= sh->clock ? stamp : 0;
}

static uint8_t
entry_byte (struct shadow *sh, const struct entry *e, uint64_t offset)
{
  if (e->sent == 0)
    return sh->base[offset];
  return e->kind == SHADOW_ZERO ? 0 : byte_of (e->sent, offset);
}

static struct entry *
new_entry (struct shadow *sh)
{
  struct entry *e = sh->spare;

  if (e) {
    sh->spare = e->next;
    return e;
  }
  e = malloc (sizeof *e);
  if (e == NULL) {
    perror ("shadow: malloc");
    exit (2);
  }
  return e;
}

static void
drop_entry (struct shadow *sh, struct entry **link)
{
  struct entry *e = *link;

  *link = e->next;
  e->next = sh->spare;
  sh->spare = e;
}

/* When it had ended, or IN_FLIGHT. */
static uint64_t
end_of (const struct shadow *sh, const struct entry *e)
{
  return e->lost && e->sent < sh->over ? sh->over : e->ended;
}

/* Has `later` surely overwritten `e`, where it covers it, for a read with
 * that stamp?
 */
static bool
overwrites (const struct shadow *sh, const struct entry *later,
            const struct entry *e, uint64_t read)
{
  return later->sure && later->ended < read && end_of (sh, e) < later->sent;
}

/* Forget what no read, in flight or to come, may find any more. */
static void
prune (struct shadow *sh, struct entry **list, uint64_t oldest_read)
{
  struct entry **link = list, *e, *later;

  while ((e = *link) != NULL) {
    for (later = *list; later; later = later->next)
      if (overwrites (sh, later, e, oldest_read) &&
          later->start <= e->start && later->end >= e->end)
        break;
    if (later)
      drop_entry (sh, link);
    else
      link = &e->next;
  }
}

unsigned
shadow_depth (struct shadow *sh, uint64_t count, uint64_t offset)
{
  uint64_t s;
  unsigned n, max = 0;
  struct entry *e;

  for (s = offset / SECTOR; s <= (offset + count - 1) / SECTOR; ++s) {
    for (n = 0, e = sh->sectors[s]; e; e = e->next)
      n++;
    if (n > max)
      max = n;
  }
  return max;
}

/* The part of [offset, offset+count) in sector s, as bytes of the sector. */
static void
clip (uint64_t s, uint64_t count, uint64_t offset, unsigned *start,
      unsigned *end)
{
  uint64_t base = s * SECTOR;

  *start = offset > base ? offset - base : 0;
  *end = offset + count < base + SECTOR ? offset + count - base : SECTOR;
}

uint64_t
shadow_begin (struct shadow *sh, enum shadow_kind kind, uint64_t count,
              uint64_t offset, uint64_t oldest_read)
{
  uint64_t stamp = shadow_tick (sh), s;
  unsigned start, end;
  struct entry *e;

  for (s = offset / SECTOR; s <= (offset + count - 1) / SECTOR; ++s) {
    if (sh->sectors[s] == NULL) {
      e = new_entry (sh);
      *e = (struct entry) { .end = SECTOR, .sure = true };
      sh->sectors[s] = e;
    }
    else
      prune (sh, &sh->sectors[s], oldest_read);
    clip (s, count, offset, &start, &end);
    e = new_entry (sh);
    *e = (struct entry) {
      .next = sh->sectors[s], .sent = stamp, .ended = IN_FLIGHT,
      .start = start, .end = end, .kind = kind,
    };
    sh->sectors[s] = e;
  }
  return stamp;
}

void
shadow_end (struct shadow *sh, uint64_t stamp, uint64_t count,
            uint64_t offset, enum shadow_outcome outcome)
{
  uint64_t now = shadow_tick (sh), s;
  struct entry **link;

  for (s = offset / SECTOR; s <= (offset + count - 1) / SECTOR; ++s) {
    link = &sh->sectors[s];
    while ((*link)->sent != stamp)
      link = &(*link)->next;
    if (outcome == SHADOW_NOTHING)
      drop_entry (sh, link);
    else if (outcome == SHADOW_LOST)    /* in flight, until shadow_over */
      (*link)->lost = true;
    else {
      (*link)->ended = now;
      (*link)->sure = outcome == SHADOW_DONE;
    }
  }
}

void
shadow_over (struct shadow *sh)
{
  sh->over = shadow_tick (sh);
}

/* Is e's value of a byte one that a read with that stamp may find? */
static bool
current (const struct shadow *sh, const struct entry *list,
         const struct entry *e, unsigned byte, uint64_t read)
{
  const struct entry *later;

  if (byte < e->start || byte >= e->end)
    return false;
  for (later = list; later; later = later->next)
    if (byte >= later->start && byte < later->end &&
        overwrites (sh, later, e, read))
      return false;
  return true;
}

static bool
allowed (struct shadow *sh, const struct entry *list, unsigned byte,
         uint64_t offset, uint8_t value, uint64_t read)
{
  const struct entry *e;

  for (e = list; e; e = e->next)
    if ((e->kind == SHADOW_UNDEFINED || entry_byte (sh, e, offset) == value)
        && current (sh, list, e, byte, read))
      return true;
  return false;
}

static void
explain (struct shadow *sh, const struct entry *list, uint64_t read,
         const uint8_t *buf, size_t count, uint64_t offset, uint64_t bad,
         char *text)
{
  uint64_t word = bad / 8 * 8;
  const struct entry *e;
  size_t n;

  n = snprintf (text, SHADOW_TEXT, "found 0x%02x", buf[bad - offset]);
  if (word >= offset && word + 8 <= offset + count)
    n += snprintf (text + n, SHADOW_TEXT - n, " (of request %" PRIu64 ")",
                   stamp_of (sh, buf + (word - offset), word / 8));
  n += snprintf (text + n, SHADOW_TEXT - n, " in read %" PRIu64 ", allowed:",
                 read);
  for (e = list; e && n < SHADOW_TEXT - 64; e = e->next)
    if (current (sh, list, e, bad % SECTOR, read))
      n += snprintf (text + n, SHADOW_TEXT - n, " 0x%02x of %s %" PRIu64,
                     entry_byte (sh, e, bad),
                     e->sent == 0 ? "the beginning," :
                     e->kind == SHADOW_ZERO ? "zero request" : "request",
                     e->sent);
}

/* Does a piece of a sector have the value of one entry that covers it and is
 * current?  All of [start, end) is covered by the same entries.
 */
static bool
is_one (struct shadow *sh, const struct entry *list, const uint8_t *buf,
        unsigned start, unsigned end, uint64_t offset, uint64_t read)
{
  uint8_t want[SECTOR] = { 0 };
  const struct entry *e;

  for (e = list; e; e = e->next) {
    if (start < e->start || end > e->end)
      continue;
    if (e->sent == 0)
      memcpy (want, sh->base + offset, end - start);
    else if (e->kind == SHADOW_DATA)
      shadow_pattern (e->sent, want, end - start, offset);
    else
      memset (want, 0, end - start);
    if ((e->kind == SHADOW_UNDEFINED ||
         memcmp (buf, want, end - start) == 0)
        && current (sh, list, e, start, read))
      return true;
  }
  return false;
}

/* Where, from start on, does the set of covering entries change? */
static unsigned
next_border (const struct entry *list, unsigned start, unsigned end)
{
  for (; list; list = list->next) {
    if (list->start > start && list->start < end)
      end = list->start;
    if (list->end > start && list->end < end)
      end = list->end;
  }
  return end;
}

/* Check bytes [start, end) of one sector; returns the first that is wrong,
 * or end.  Piece by piece, and byte by byte only where requests are mixed.
 */
static unsigned
check_sector (struct shadow *sh, const struct entry *list,
              const uint8_t *buf, unsigned start, unsigned end,
              uint64_t base, uint64_t read)
{
  static const struct entry initial = { .end = SECTOR, .sure = true };
  unsigned i, from = start, border;

  if (list == NULL)
    list = &initial;
  for (; from < end; from = border) {
    border = next_border (list, from, end);
    if (is_one (sh, list, buf + (from - start), from, border, base + from,
                read))
      continue;
    for (i = from; i < border; ++i)
      if (!allowed (sh, list, i, base + i, buf[i - start], read))
        return i;
  }
  return end;
}

bool
shadow_check (struct shadow *sh, uint64_t stamp, const uint8_t *buf,
              size_t count, uint64_t offset, uint64_t *bad, char *text)
{
  uint64_t s, base;
  unsigned start, end, wrong;

  for (s = offset / SECTOR; s <= (offset + count - 1) / SECTOR; ++s) {
    base = s * SECTOR;
    clip (s, count, offset, &start, &end);
    wrong = check_sector (sh, sh->sectors[s], buf + (base + start - offset),
                          start, end, base, stamp);
    if (wrong < end) {
      *bad = base + wrong;
      explain (sh, sh->sectors[s], stamp, buf, count, offset, *bad, text);
      return false;
    }
  }
  return true;
}

void
shadow_expected (struct shadow *sh, uint8_t *buf, size_t count,
                 uint64_t offset)
{
  uint64_t pos;
  const struct entry *list, *e, *found;

  for (pos = offset; pos < offset + count; ++pos) {
    list = sh->sectors[pos / SECTOR];
    if (list == NULL) {
      buf[pos - offset] = sh->base[pos];
      continue;
    }
    for (found = NULL, e = list; e; e = e->next) {
      if (!current (sh, list, e, pos % SECTOR, UINT64_MAX))
        continue;
      if (found || e->kind == SHADOW_UNDEFINED)
        break;
      found = e;
    }
    if (found && e == NULL)
      buf[pos - offset] = entry_byte (sh, found, pos);
  }
}
