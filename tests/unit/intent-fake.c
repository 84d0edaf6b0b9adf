/* SPDX-License-Identifier: BSD-3-Clause */
/* See intent-fake.h. */

#include <config.h>

/* Assertions are on in the code tested; keep the test's own likewise. */
#undef NDEBUG

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "intent-fake.h"

/* Of a sector. */
enum {
  CERTAIN,                      /* cache and medium are equal */
  PENDING,                      /* written; a sync makes it certain */
  DROPPED,                      /* a sync has failed: nobody knows */
};

/*-- the file -----------------------------------------------------------*/

static struct fake *
fake_of (struct intent_io *io)
{
  return (struct fake *) io;
}

static int
fake_pread (struct intent_io *io, void *buf, size_t count, uint64_t offset)
{
  struct fake *f = fake_of (io);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  ck_assert (offset <= f->size && count <= f->size - offset);
  if (f->fail_pread)
    return -EIO;
  memcpy (buf, f->cache + offset, count);
  return 0;
}

static bool
fails_locked (struct fake *f)
{
  const unsigned n = f->ops++;

  return n >= f->fail_at && n - f->fail_at < f->fail_count;
}

static void
write_locked (struct fake *f, const char *buf, size_t count, uint64_t offset)
{
  uint64_t i;

  for (i = offset; i < offset + count; i += FAKE_SECTOR) {
    memcpy (f->older + i, f->sector[i / FAKE_SECTOR] == CERTAIN
            ? f->medium + i : f->cache + i, FAKE_SECTOR);
    memcpy (f->cache + i, buf + (i - offset), FAKE_SECTOR);
    f->sector[i / FAKE_SECTOR] = PENDING;
  }
}

static void
after (struct fake *f)
{
  if (f->after)
    f->after (f->opaque);
}

static int
fake_pwrite (struct intent_io *io, const void *buf, size_t count,
             uint64_t offset)
{
  struct fake *f = fake_of (io);
  size_t n = count;
  bool fails;

  ck_assert (count > 0 && count % FAKE_SECTOR == 0 &&
             offset % FAKE_SECTOR == 0);
  ck_assert (offset <= f->size && count <= f->size - offset);
  mutex_lock (&f->lock);
  fails = fails_locked (f);
  if (fails && f->damage == DAMAGE_NONE)
    n = 0;
  else if (fails && f->damage == DAMAGE_HALF)
    n = count / FAKE_SECTOR / 2 * FAKE_SECTOR;
  write_locked (f, buf, n, offset);
  mutex_unlock (&f->lock);
  after (f);
  return fails ? -EIO : 0;
}

static int
fake_sync (struct intent_io *io)
{
  struct fake *f = fake_of (io);
  bool fails;
  size_t i;

  mutex_lock (&f->lock);
  f->blocked++;
  cond_broadcast (&f->changed);
  while (f->block)
    cond_wait (&f->changed, &f->lock);
  f->blocked--;
  fails = fails_locked (f);
  for (i = 0; i < f->size / FAKE_SECTOR; ++i) {
    if (f->sector[i] != PENDING)
      continue;
    f->sector[i] = fails ? DROPPED : CERTAIN;
    if (!fails)
      memcpy (f->medium + i * FAKE_SECTOR, f->cache + i * FAKE_SECTOR,
              FAKE_SECTOR);
  }
  if (!fails)
    f->syncs++;
  mutex_unlock (&f->lock);
  after (f);
  return fails ? -EIO : 0;
}

static int
fake_check (struct intent_io *io)
{
  return fake_of (io)->elsewhere;
}

static int
fake_destroy (struct intent_io *io)
{
  struct fake *f = fake_of (io);
  bool keep;

  mutex_lock (&f->lock);
  f->ops++;
  keep = f->keep;
  if (!keep)
    f->gone = true;
  mutex_unlock (&f->lock);
  after (f);
  return keep ? -EIO : 0;
}

static void
fake_close (struct intent_io *io)
{
  struct fake *f = fake_of (io);

  ck_assert (!f->freed);
  f->freed = true;
}

static const struct intent_io_ops ops = {
  .pread = fake_pread,
  .pwrite = fake_pwrite,
  .sync = fake_sync,
  .check = fake_check,
  .destroy = fake_destroy,
  .free = fake_close,
};

/*-- life ---------------------------------------------------------------*/

void
fake_init_head (struct intent_head *head, uint64_t size, uint64_t granularity)
{
  memset (head, 0, sizeof *head);
  head->generation = head->epoch = 1;
  head->size = size;
  head->granularity = granularity;
  head->region = intent_region_size (size, granularity);
  /* So that what follows is in another sector. */
  memset (head->source, 's', 2 * FAKE_SECTOR);
}

struct fake *
fake_new (uint64_t size)
{
  struct fake *f = calloc (1, sizeof *f);

  ck_assert (size % FAKE_SECTOR == 0);
  ck_assert_ptr_nonnull (f);
  f->io.ops = &ops;
  f->size = (size_t) size;
  f->cache = calloc (1, f->size);
  f->medium = calloc (1, f->size);
  f->older = calloc (1, f->size);
  f->sector = calloc (1, f->size / FAKE_SECTOR);
  ck_assert (f->cache && f->medium && f->older && f->sector);
  mutex_init (&f->lock);
  cond_init (&f->changed);
  return f;
}

struct fake *
fake_new_laid_out (const struct intent_head *head)
{
  struct fake *f = fake_new (intent_file_size (head));

  intent_encode_head (head, f->cache);
  memcpy (f->medium, f->cache, INTENT_HEADER_SIZE);
  return f;
}

struct fake *
fake_copy (struct fake *f)
{
  struct fake *g = fake_new (f->size);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  memcpy (g->cache, f->cache, f->size);
  memcpy (g->medium, f->medium, f->size);
  memcpy (g->older, f->older, f->size);
  memcpy (g->sector, f->sector, f->size / FAKE_SECTOR);
  return g;
}

void
fake_free (struct fake *f)
{
  if (!f)
    return;
  cond_destroy (&f->changed);
  mutex_destroy (&f->lock);
  free (f->cache);
  free (f->medium);
  free (f->older);
  free (f->sector);
  free (f);
}

void
fake_fail (struct fake *f, unsigned n, unsigned count)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->fail_at = f->ops + n;
  f->fail_count = count;
}

void
fake_rot (struct fake *f, uint64_t offset)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->cache[offset] ^= 0x55;
  f->medium[offset] ^= 0x55;
  f->older[offset] ^= 0x55;
}

void
fake_block (struct fake *f, bool block)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  f->block = block;
  cond_broadcast (&f->changed);
}

void
fake_wait_blocked (struct fake *f)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);

  while (f->blocked == 0)
    cond_wait (&f->changed, &f->lock);
}

/*-- images -------------------------------------------------------------*/

/* Most images have the headers of one before: what these say is kept, each
 * thread for itself.
 */
#define KEPT 8

static int
decode (struct intent_head *head, const char *buf)
{
  static __thread struct {
    bool used;
    char buf[INTENT_HEADER_SIZE];
    struct intent_head head;
    int result;
  } kept[KEPT], *k;
  static __thread unsigned turn;
  unsigned i;

  for (i = 0; i < KEPT; ++i) {
    k = &kept[(turn + KEPT - i) % KEPT];
    if (k->used && memcmp (k->buf, buf, sizeof k->buf) == 0)
      break;
  }
  if (i == KEPT) {
    k = &kept[++turn % KEPT];
    memcpy (k->buf, buf, sizeof k->buf);
    k->result = intent_decode_head (&k->head, buf);
    k->used = true;
  }
  *head = k->head;
  return k->result;
}

void
image_read (struct image *im, const char *bytes, size_t size)
{
  static __thread struct intent_head h[2];
  int result[2], i;

  for (i = 0; i < 2; ++i)
    result[i] = decode (&h[i], bytes + i * INTENT_HEADER_SIZE);
  im->bytes = bytes;
  im->size = size;
  im->gone = false;
  im->copy = intent_choose_head (h, result);
  if (im->copy >= 0)
    im->head = h[im->copy];
}

bool
image_has (const struct image *im, uint64_t region)
{
  const uint64_t page = region / INTENT_PAGE_BITS;
  const char *p = im->bytes + INTENT_PAGES_OFFSET + page * INTENT_PAGE_SIZE;

  if (im->gone || im->copy < 0 || im->head.state != INTENT_RUNNING)
    return true;
  ck_assert (INTENT_PAGES_OFFSET + (page + 1) * INTENT_PAGE_SIZE <= im->size);
  return !intent_page_counts (p, im->head.epoch, page) ||
    intent_get_bit (p, (unsigned) (region % INTENT_PAGE_BITS));
}

bool
image_covers (const struct image *im, struct range r)
{
  uint64_t i;

  if (im->gone || im->copy < 0)
    return true;
  for (i = r.start / im->head.region; i * im->head.region < r.end; ++i)
    if (!image_has (im, i))
      return false;
  return true;
}

static void
take (char *bytes, const char *from, size_t sector)
{
  memcpy (bytes + sector * FAKE_SECTOR, from + sector * FAKE_SECTOR,
          FAKE_SECTOR);
}

static void
show (struct fake *f, const char *bytes,
      void (*fn) (void *opaque, const struct image *im), void *opaque)
{
  static __thread struct image im;

  image_read (&im, bytes, f->size);
  im.gone = f->gone;
  fn (opaque, &im);
}

void
fake_each_image (struct fake *f,
                 void (*fn) (void *opaque, const struct image *im),
                 void *opaque)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  CLEANUP_FREE char *bytes = malloc (f->size);
  size_t i;
  int layer;

  ck_assert_ptr_nonnull (bytes);
  show (f, f->cache, fn, opaque);
  show (f, f->medium, fn, opaque);
  for (layer = 0; layer < 2; ++layer) {
    const char *from = layer == 0 ? f->older : f->cache;

    memcpy (bytes, f->medium, f->size);
    for (i = 0; i < f->size / FAKE_SECTOR; ++i)
      if (f->sector[i] != CERTAIN)
        take (bytes, from, i);
    show (f, bytes, fn, opaque);
    for (i = 0; i < f->size / FAKE_SECTOR; ++i) {
      if (f->sector[i] == CERTAIN ||
          memcmp (f->medium + i * FAKE_SECTOR, from + i * FAKE_SECTOR,
                  FAKE_SECTOR) == 0)
        continue;
      memcpy (bytes, f->medium, f->size);
      take (bytes, from, i);
      show (f, bytes, fn, opaque);
    }
  }
}

bool
fake_covers (struct fake *f, struct range r)
{
  static __thread struct image im;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&f->lock);
  CLEANUP_FREE char *bytes = malloc (f->size);
  const char *const layers[] = { f->medium, f->older, f->cache };
  size_t i, layer;

  if (f->gone)
    return true;
  ck_assert_ptr_nonnull (bytes);
  for (layer = 0; layer < 3; ++layer) {
    memcpy (bytes, f->medium, f->size);
    for (i = 0; i < f->size / FAKE_SECTOR; ++i)
      if (f->sector[i] != CERTAIN)
        take (bytes, layers[layer], i);
    image_read (&im, bytes, f->size);
    if (!image_covers (&im, r))
      return false;
  }
  return true;
}

void
fake_head (struct fake *f, struct intent_head *head, int *copy)
{
  static __thread struct image im;

  image_read (&im, f->cache, f->size);
  ck_assert_int_ge (im.copy, 0);
  *head = im.head;
  *copy = im.copy;
}

/*-- time ---------------------------------------------------------------*/

static uint64_t
fake_now (struct clock *clock)
{
  return ((struct fake_clock *) clock)->now_ns;
}

static int
fake_wait (struct clock *clock, struct cond *c, struct mutex *m,
           uint64_t deadline_ns)
{
  struct fake_clock *fc = (struct fake_clock *) clock;

  (void) c;
  if (fc->now_ns < deadline_ns)
    fc->now_ns = deadline_ns;
  fc->waits++;
  if (fc->waiting) {
    mutex_unlock (m);
    fc->waiting (fc->opaque);
    mutex_lock (m);
  }
  return -ETIMEDOUT;
}

void
fake_clock_init (struct fake_clock *c)
{
  *c = (struct fake_clock) {
    .clock = { .now_ns = fake_now, .wait_until = fake_wait },
    .now_ns = UINT64_C (1000000000),
  };
}
