/* SPDX-License-Identifier: BSD-3-Clause */
/* See uring-help.h. */

#include <config.h>

#undef NDEBUG

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "uring-help.h"

static char path[] = "check_uring.XXXXXX";

void
uring_file (struct shared *s, struct disk *d, uint64_t size)
{
  int fd;

  strcpy (path + sizeof path - 7, "XXXXXX");
  fd = mkstemp (path);
  ck_assert_int_ge (fd, 0);
  ck_assert_int_eq (ftruncate (fd, (off_t) size), 0);
  close (fd);
  *s = (struct shared) { .path = path, .queue_depth = 3 };
  blocklock_init (&s->blocks);
  syncs_init (&s->syncs);
  bounce_pool_init (&s->bounces);
  ring_pool_init (&s->rings, ring_probe () == 0, s->queue_depth);
  uring_open (s, d);
}

void
uring_open (struct shared *s, struct disk *d)
{
  char why[DISK_WHY_MAX] = "";

  ck_assert_msg (disk_open (d, s, false, why) == 0, "%s", why);
}

void
uring_end (struct shared *s, struct disk *d)
{
  disk_close (d);
  ring_pool_destroy (&s->rings);
  bounce_pool_destroy (&s->bounces);
  syncs_destroy (&s->syncs);
  blocklock_destroy (&s->blocks);
  unlink (path);
}
