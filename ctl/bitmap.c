/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror bitmap: what an intent file says.
 *
 * It is only looked at, without a lock, so that it can be asked also while a
 * proxy goes on writing to it.  Then the header may change between the reading
 * of it and of the pages, and a page may be read while it is half written: it
 * is read again until the header was the same before and after, and a page that
 * is not whole is read once more.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cleanup.h"
#include "ctl.h"
#include "errtext.h"
#include "format.h"
#include "range.h"
#include "size.h"
#include "store.h"

#define TRIES 100               /* of a header that changes all the time */

struct file {
  const char *path;
  struct intent_io *io;
  struct intent_head head;
  char before[INTENT_PAGES_OFFSET], after[INTENT_PAGES_OFFSET];
  char *pages;
};

/*-- reading ------------------------------------------------------------*/

static char *
page_of (const struct file *f, uint64_t page)
{
  return f->pages + page * INTENT_PAGE_SIZE;
}

static bool
page_is_bad (const struct file *f, uint64_t page)
{
  return !intent_page_counts (page_of (f, page), f->head.epoch, page) &&
    !intent_page_is_old (page_of (f, page), page);
}

static int
read_pages (struct file *f)
{
  uint64_t i;
  int r = f->io->ops->pread (f->io, f->pages, (size_t) intent_pages (&f->head)
                             * INTENT_PAGE_SIZE, INTENT_PAGES_OFFSET);

  for (i = 0; r == 0 && i < intent_pages (&f->head); ++i)
    if (page_is_bad (f, i))
      r = f->io->ops->pread (f->io, page_of (f, i), INTENT_PAGE_SIZE,
                             INTENT_PAGES_OFFSET + i * INTENT_PAGE_SIZE);
  return r;
}

/* The headers that buf has are of the file that was opened: of one length. */
static int
read_once (struct file *f)
{
  char error[INTENT_ERROR_MAX];
  int copy, r;

  r = f->io->ops->pread (f->io, f->before, sizeof f->before, 0);
  if (r == 0)
    r = intent_load (f->before, UINT64_MAX, &f->head, &copy, error);
  if (r < 0)
    return r;
  free (f->pages);
  f->pages = malloc ((size_t) intent_file_size (&f->head));
  if (!f->pages)
    return -ENOMEM;
  r = read_pages (f);
  if (r == 0)
    r = f->io->ops->pread (f->io, f->after, sizeof f->after, 0);
  return r;
}

/* One state of it.  0, or -errno after a line on stderr. */
static int
read_file (struct file *f)
{
  char error[INTENT_ERROR_MAX];
  unsigned i;
  int copy, r = intent_store_open (f->path, INTENT_STORE_LOOK, &f->io,
                                   &f->head, &copy, error);

  if (r < 0) {
    f->io = NULL;
    complain ("bitmap: %s", error);
    return r;
  }
  for (i = 0; i < TRIES; ++i) {
    r = read_once (f);
    if (r < 0)
      break;
    if (memcmp (f->before, f->after, sizeof f->before) == 0)
      return 0;
  }
  complain ("bitmap: %s: %s", f->path, r < 0 ? error_text (-r)
            : "its header changes all the time");
  return r < 0 ? r : -EAGAIN;
}

/*-- what is dirty ------------------------------------------------------*/

static bool
is_dirty (const struct file *f, uint64_t region)
{
  const uint64_t page = region / INTENT_PAGE_BITS;

  return f->head.state != INTENT_RUNNING ||
    !intent_page_counts (page_of (f, page), f->head.epoch, page) ||
    intent_get_bit (page_of (f, page), (unsigned) (region % INTENT_PAGE_BITS));
}

/* The next run of dirty regions from *region on, as bytes; steps on.  false:
 * there is none.
 */
static bool
next_run (const struct file *f, uint64_t *region, struct range *r)
{
  const uint64_t n = intent_regions (&f->head);

  while (*region < n && !is_dirty (f, *region))
    ++*region;
  if (*region == n)
    return false;
  r->start = *region * f->head.region;
  while (*region < n && is_dirty (f, *region))
    ++*region;
  r->end = *region == n ? f->head.size : *region * f->head.region;
  return true;
}

static void
print_ranges (const struct file *f)
{
  uint64_t region = 0;
  struct range r;

  while (next_run (f, &region, &r))
    printf ("%" PRIu64 " %" PRIu64 "\n", r.start, range_len (r));
}

/*-- the header ---------------------------------------------------------*/

static void
print_size (const char *name, uint64_t size)
{
  char text[SIZE_TEXT_MAX];

  printf ("%-12s %" PRIu64 " (%s)\n", name, size, size_text (size, text));
}

/* On one line, and nothing that a terminal would obey. */
static void
print_text (const char *name, const char *text)
{
  printf ("%-12s ", name);
  for (; *text; ++text)
    putchar ((unsigned char) *text < ' ' || *text == 127 ? '?' : *text);
  putchar ('\n');
}

static void
print_head (const struct file *f)
{
  const struct intent_head *h = &f->head;
  const time_t changed = (time_t) h->changed;
  uint64_t region = 0, dirty = 0, bad = 0, i;
  char when[64] = "?";
  struct range r;
  struct tm tm;

  while (next_run (f, &region, &r))
    dirty += range_len (r);
  for (i = 0; i < intent_pages (h); ++i)
    bad += page_is_bad (f, i);
  if (gmtime_r (&changed, &tm))
    strftime (when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);

  printf ("%-12s %u\n", "version", INTENT_VERSION);
  printf ("%-12s %" PRIu64 "\n", "generation", h->generation);
  printf ("%-12s %s\n", "written", when);
  printf ("%-12s %s\n", "state", intent_state_names[h->state]);
  printf ("%-12s %s\n", "clean", h->clean ? "yes" : "no");
  printf ("%-12s %s\n", "fenced", h->fenced ? "yes" : "no");
  print_text ("source", h->source[0] ? h->source : "-");
  print_text ("target", h->target[0] ? h->target : "-");
  print_text ("disk", h->disk[0] ? h->disk : "-");
  print_size ("source-size", h->size);
  print_size ("target-size", h->target_size);
  print_size ("granularity", h->granularity);
  print_size ("region", h->region);
  print_size ("dirty", dirty);
  printf ("%-12s %" PRIu64 " of %" PRIu64 "\n", "bad-pages", bad,
          intent_pages (h));
}

int
run_bitmap (const struct call *call)
{
  struct file *f = calloc (1, sizeof *f);
  int r = -ENOMEM;

  if (!f)
    complain ("out of memory");
  else {
    f->path = call->operands[0];
    r = read_file (f);
    if (r == 0 && call_option (call, "--ranges"))
      print_ranges (f);
    else if (r == 0)
      print_head (f);
    if (r == 0 && call_written ("bitmap") != STATUS_OK)
      r = -EIO;
    if (f->io)
      f->io->ops->free (f->io);
    free (f->pages);
    free (f);
  }
  return r < 0 ? STATUS_FAILED : STATUS_OK;
}
