/* SPDX-License-Identifier: BSD-3-Clause */
/* Headers of the intent file, and what becomes of it after an error; see
 * intent.h.
 *
 * A header is written to the copy that is not the newest, made durable, and
 * then to the other one.  So there is always a good copy; a copy that is
 * damaged while nobody writes leaves one that says the same; and one that was
 * torn leaves the state before, which nobody has been told is over.  From the
 * first sync on the change has happened, and a second copy that cannot be
 * written does not take it back.
 *
 * Every attempt has a generation of its own, so what an attempt that failed has
 * left in the file is older than what is written next.
 *
 * An error of the file is not survived by trying again: after a failed sync
 * nobody knows what is durable.  So the file is given up: a header with a new
 * epoch says that everything may differ, or else the file is removed.  As long
 * as neither has succeeded the file is *broken*: it may say less than it must,
 * so nothing may begin in a region that is not recorded.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "failpoint.h"
#include "intent-private.h"

/* Between two attempts to get rid of a broken file. */
#define RETRY_NS UINT64_C (100000000)

/*-- the writer ---------------------------------------------------------*/

void
intent_begin_writing_locked (struct intent *in)
{
  while (in->writing)
    cond_wait (&in->changed, &in->lock);
  in->writing = true;
}

void
intent_end_writing (struct intent *in)
{
  bool tell;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

    tell = in->tell_lost;
    in->tell_lost = false;
    in->writing = false;
    cond_broadcast (&in->changed);
  }
  if (tell && in->on_lost)
    in->on_lost (in->opaque);
}

/* in->next is what is to be changed. */
static void
begin_head (struct intent *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  intent_begin_writing_locked (in);
  in->next = in->head;
}

/* The header in->next to one copy, durably. */
static int
write_copy (struct intent *in, int copy)
{
  int r;

  in->next.generation = ++in->generation;
  in->next.changed = (int64_t) time (NULL);
  intent_encode_head (&in->next, in->buf);
  r = FAILPOINT ("intent-head");
  if (r == 0)
    r = in->io->ops->pwrite (in->io, in->buf, INTENT_HEADER_SIZE,
                             (uint64_t) copy * INTENT_HEADER_SIZE);
  if (r == 0)
    r = FAILPOINT ("intent-head-sync");
  if (r == 0)
    r = in->io->ops->sync (in->io);
  if (r < 0)
    return r;
  FAILPOINT ("intent-head-synced");

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  in->copy = copy;
  if (in->next.state != INTENT_RUNNING || in->next.epoch != in->head.epoch)
    in->broken = false;         /* it says everything */
  in->head = in->next;
  in->syncs++;
  return 0;
}

/* Both copies, the older one first.  Once that one is durable it is done. */
static int
write_head (struct intent *in)
{
  int copy = in->copy == 0 ? 1 : 0, r;

  if (in->gone) {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
    in->head = in->next;
    return 0;
  }
  r = write_copy (in, copy);
  if (r == 0)
    write_copy (in, 1 - copy);
  return r;
}

void
intent_all_recorded (struct intent *in)
{
  uint64_t i;

  for (i = 0; i < in->regions; ++i)
    if (atomic_load (&in->words[i]) & ~WORD_COUNT)
      atomic_fetch_and (&in->words[i], WORD_COUNT);
  atomic_store (&in->recorded, in->regions);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  memset (in->wanted, 0, in->pages);
}

/* Nothing can be recorded any more: the header in->next, and everything may
 * differ; or no file.  But without one a restart would give clients the source,
 * so it must not be removed while they have another disk.
 *
 * The words last: a region is not to pass for recorded before it is.
 */
static void
give_up (struct intent *in)
{
  bool gone = false;
  int r;

  in->next.epoch++;
  in->next.clean = false;
  /* Not the newest copy: were it torn, the one before would count. */
  r = write_copy (in, in->copy == 0 ? 1 : 0);
  if (r == 0)
    write_copy (in, 1 - in->copy);      /* the other one says too little now */
  else if (in->head.disk[0] == '\0') {
    r = in->io->ops->destroy (in->io);
    gone = r == 0;
  }
  if (r == 0)
    intent_all_recorded (in);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
  in->broken = r < 0;
  in->retry_ns = in->clock->now_ns (in->clock) + RETRY_NS;
  if (r < 0)
    return;
  in->gone = gone;
  in->tell_lost |= !in->lost;
  in->lost = true;
}

void
intent_lose (struct intent *in)
{
  in->next = in->head;
  give_up (in);
}

/* End what begin_head began, with in->next.  If that cannot be written the
 * file is given up, which says more than was to be said: everything; but not
 * that a mirror runs which has ended, or may have let its target go.  0 or
 * -EIO: not even that.
 */
static int
end_head (struct intent *in)
{
  int r = write_head (in);

  if (r < 0) {
    give_up (in);
    r = in->broken ? -EIO : 0;
  }
  intent_end_writing (in);
  return r;
}

/* The same, and W is everything from here on. */
static int
end_everything (struct intent *in)
{
  int r = write_head (in);

  if (r == 0)
    intent_all_recorded (in);
  else {
    give_up (in);
    r = in->broken ? -EIO : 0;
  }
  intent_end_writing (in);
  return r;
}

/* The same for what must be in the file as it is.  If it is not broken, what
 * was there before still is.
 */
static int
end_order (struct intent *in)
{
  const int r = write_head (in);

  if (r < 0)
    intent_lose (in);
  intent_end_writing (in);
  return r;
}

/*-- life ---------------------------------------------------------------*/

/* Words and what goes with them.  All regions are recorded. */
static int
make_words (struct intent *in, const struct intent_head *head)
{
  const uint64_t regions = intent_regions (head), pages = intent_pages (head);
  _Atomic uint32_t *words = calloc (regions + 1, sizeof *words);
  unsigned char *wanted = calloc (pages + 1, 1), *batch = calloc (pages + 1, 1);

  if (!words || !wanted || !batch) {
    free (words);
    free (wanted);
    free (batch);
    return -ENOMEM;
  }
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock); /* for intent_ask */

    free (in->words);
    free (in->wanted);
    free (in->batch);
    in->words = words;
    in->wanted = wanted;
    in->batch = batch;
    in->regions = regions;
    in->pages = pages;
    in->shift = (unsigned) __builtin_ctzll (head->region);
    atomic_store (&in->recorded, regions);
  }
  return 0;
}

static void
load_page (struct intent *in, uint64_t page, const char *buf)
{
  const uint64_t first = page * INTENT_PAGE_BITS;
  uint64_t i, end = first + INTENT_PAGE_BITS, n = 0;

  if (!intent_page_counts (buf, in->head.epoch, page))
    return;
  if (end > in->regions)
    end = in->regions;
  for (i = first; i < end; ++i)
    if (!intent_get_bit (buf, (unsigned) (i - first))) {
      atomic_init (&in->words[i], WORD_CLEAN);
      n++;
    }
  atomic_fetch_sub (&in->recorded, n);
}

/* false: some cannot be read. */
static bool
load_pages (struct intent *in)
{
  uint64_t page, n, i;

  for (page = 0; page < in->pages; page += n) {
    n = in->pages - page < INTENT_RUN ? in->pages - page : INTENT_RUN;
    if (in->io->ops->pread (in->io, in->buf, n * INTENT_PAGE_SIZE,
                            INTENT_PAGES_OFFSET +
                            page * INTENT_PAGE_SIZE) < 0)
      return false;
    for (i = 0; i < n; ++i)
      load_page (in, page + i, in->buf + i * INTENT_PAGE_SIZE);
  }
  return true;
}

/* What has been read may be in a cache only, even after a good sync: the
 * process before may have been told of an error, and have been killed then.  It
 * is true, but not durable before it is written again.  Of pages that cannot be
 * read the file must say that everything may differ.
 */
static int
write_again (struct intent *in)
{
  int r = 0;

  begin_head (in);
  if (in->head.state == INTENT_RUNNING) {
    if (load_pages (in)) {
      memset (in->batch, 1, in->pages);
      r = intent_write_batch (in);
    }
    else {
      in->next.epoch++;
      intent_all_recorded (in);
    }
  }
  if (r == 0)
    r = write_head (in);
  if (r < 0) {
    intent_lose (in);
    r = in->broken ? -EIO : 0;
  }
  intent_end_writing (in);
  return r;
}

static void
free_memory (struct intent *in)
{
  cond_destroy (&in->changed);
  mutex_destroy (&in->lock);
  free (in->words);
  free (in->wanted);
  free (in->batch);
  free (in->buf);
  free (in);
}

int
intent_new (struct intent **ret, struct intent_io *io,
            const struct intent_head *head, int copy, struct clock *clock,
            void (*lost) (void *opaque), void *opaque)
{
  struct intent *in = calloc (1, sizeof *in);
  int r = -ENOMEM;

  if (!in)
    return r;
  mutex_init (&in->lock);
  cond_init (&in->changed);
  in->buf = malloc (INTENT_RUN * INTENT_PAGE_SIZE);
  if (in->buf)
    r = make_words (in, head);
  if (r < 0) {
    free_memory (in);
    return r;
  }
  in->io = io;
  in->clock = clock;
  in->on_lost = lost;
  in->opaque = opaque;
  in->head = *head;
  in->copy = copy;
  in->generation = head->generation;
  if (copy >= 0)
    r = write_again (in);
  if (r < 0) {
    free_memory (in);
    return r;
  }
  *ret = in;
  return 0;
}

void
intent_free (struct intent *in)
{
  if (!in)
    return;
  assert (!in->writing);
  in->io->ops->free (in->io);
  free_memory (in);
}

/*-- all of it ----------------------------------------------------------*/

static void
set_text (char *to, const char *text)
{
  assert (strlen (text) <= INTENT_TEXT_MAX);
  memset (to, 0, INTENT_TEXT_MAX + 1);
  strcpy (to, text);
}

/* A file that was given up may have recovered. */
static void
try_again (struct intent *in)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  in->lost = in->gone;
  in->broken = false;
}

int
intent_start (struct intent *in, const char *target, uint64_t target_size,
              uint64_t granularity)
{
  int r = 0;

  begin_head (in);
  /* Also if that cannot be written now: a later header will have it. */
  mutex_lock (&in->lock);
  in->head.target_size = target_size;
  set_text (in->head.target, target);
  mutex_unlock (&in->lock);
  in->next = in->head;
  in->next.state = INTENT_RUNNING;
  in->next.clean = false;
  in->next.epoch++;
  in->next.granularity = granularity;
  if (in->next.region < granularity)
    in->next.region = granularity;
  /* Words of another size may be left of a start that failed. */
  if (in->next.region != UINT64_C (1) << in->shift)
    r = make_words (in, &in->next);
  if (r < 0) {
    intent_end_writing (in);
    return r;
  }
  try_again (in);
  return end_everything (in);
}

int
intent_resume (struct intent *in)
{
  begin_head (in);
  if (!in->head.clean) {
    intent_end_writing (in);
    return 0;
  }
  in->next.clean = false;
  return end_head (in);
}

int
intent_everything (struct intent *in)
{
  begin_head (in);
  if (in->head.state != INTENT_RUNNING || in->lost) {
    intent_end_writing (in);
    return 0;
  }
  in->next.epoch++;
  return end_everything (in);
}

int
intent_finish (struct intent *in, enum intent_state state)
{
  int r;

  assert (state != INTENT_RUNNING);
  begin_head (in);
  /* An attempt before may have failed; it still is not in the file. */
  if (in->head.state != INTENT_RUNNING && !in->broken) {
    intent_end_writing (in);
    return 0;
  }
  in->next.state = state;
  r = write_head (in);
  if (r < 0) {
    /* It is over; what is written instead is to say so, too, or a restart
     * would go on with it.
     */
    mutex_lock (&in->lock);
    in->head.state = state;
    mutex_unlock (&in->lock);
    intent_lose (in);
    r = in->broken ? -EIO : 0;
  }
  intent_end_writing (in);
  return r;
}

void
intent_target_size (struct intent *in, uint64_t size)
{
  begin_head (in);
  in->next.target_size = size;
  if (in->head.target_size == size || in->lost || in->broken)
    intent_end_writing (in);
  else
    end_head (in);
}

int
intent_unpivot (struct intent *in)
{
  begin_head (in);
  /* Not idle: a later start must not overwrite the disk by itself. */
  in->next.state = INTENT_CANCELLED;
  set_text (in->next.disk, "");
  return end_order (in);
}

int
intent_fence (struct intent *in, bool fenced)
{
  int r;

  begin_head (in);
  r = intent_check_file (in);
  if (r < 0 && fenced) {
    intent_end_writing (in);
    return r;
  }
  in->next.fenced = fenced;
  return end_order (in);
}

int
intent_close (struct intent *in, bool in_order)
{
  begin_head (in);
  if (!in_order || in->head.state != INTENT_RUNNING || in->lost ||
      in->broken) {
    intent_end_writing (in);
    return 0;
  }
  in->next.clean = true;
  return end_head (in);
}

/* The record may or may not be in the file.  What says the opposite must be
 * durable, or else the record.
 */
static int
resolve_commit (struct intent *in, const struct intent_head *record, int err,
                const _Atomic bool *stop)
{
  for (;;) {
    intent_lose (in);           /* the header as before */
    if (!in->broken)
      return err;
    if (atomic_load (stop))
      return -EINPROGRESS;
    {
      ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);
      in->clock->wait_until (in->clock, &in->changed, &in->lock,
                             in->retry_ns);
    }
    in->next = *record;
    if (write_head (in) == 0)
      return 0;
  }
}

int
intent_commit (struct intent *in, const _Atomic bool *stop)
{
  struct intent_head *record = malloc (sizeof *record);
  int r;

  if (!record)
    return -ENOMEM;
  begin_head (in);
  r = intent_check_file (in);
  if (r < 0) {
    intent_end_writing (in);
    free (record);
    return r;
  }
  in->next.state = INTENT_PIVOTED;
  set_text (in->next.disk, in->next.target);
  *record = in->next;
  r = write_head (in);
  if (r < 0)
    r = resolve_commit (in, record, r, stop);
  intent_end_writing (in);
  free (record);
  return r;
}

void
intent_get_head (struct intent *in, struct intent_head *head)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&in->lock);

  *head = in->head;
}
