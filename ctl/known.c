/* SPDX-License-Identifier: BSD-3-Clause */
/* See known.h. */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "cleanup.h"
#include "errtext.h"
#include "known.h"

void
known_look (struct known *known, const char *bitmap)
{
  CLEANUP_FREE struct intent_head *head = NULL;
  struct intent_io *io;
  int copy, r;

  *known = (struct known) { .state = INTENT_IDLE };
  if (bitmap == NULL)
    return;
  head = malloc (sizeof *head);
  if (head == NULL) {
    known->state = -ENOMEM;
    snprintf (known->error, sizeof known->error, "%s", error_text (ENOMEM));
    return;
  }
  r = intent_store_open (bitmap, INTENT_STORE_LOOK, &io, head, &copy,
                         known->error);
  if (r < 0) {
    known->state = r == -ENOENT ? INTENT_IDLE : r;
    return;
  }
  io->ops->free (io);
  known->state = (int) head->state;
  known->moved = head->disk[0] != '\0';
}
