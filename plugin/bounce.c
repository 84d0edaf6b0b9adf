/* SPDX-License-Identifier: BSD-3-Clause */
/* See bounce.h. */

#include <config.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bounce.h"
#include "cleanup.h"

void
bounce_pool_init (struct bounce_pool *p)
{
  mutex_init (&p->lock);
  p->count = 0;
}

void
bounce_pool_destroy (struct bounce_pool *p)
{
  while (p->count > 0)
    free (p->buffer[--p->count]);
  mutex_destroy (&p->lock);
}

void *
bounce_get (struct bounce_pool *p)
{
  void *b;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    if (p->count > 0)
      return p->buffer[--p->count];
  }
  b = aligned_alloc (BOUNCE_ALIGN, BOUNCE_SIZE);
  /* What was in the heap is nobody's business, not even on a disk. */
  return b ? memset (b, 0, BOUNCE_SIZE) : NULL;
}

void
bounce_put (struct bounce_pool *p, void *buffer)
{
  if (buffer == NULL)
    return;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&p->lock);

    if (p->count < BOUNCE_KEEP) {
      p->buffer[p->count++] = buffer;
      return;
    }
  }
  free (buffer);
}

/* In .bss: all its pages are the one page of zeroes that the kernel has. */
void *
bounce_zeroes (void)
{
  static char zeroes[BOUNCE_SIZE]
    __attribute__ ((__aligned__ (BOUNCE_ALIGN)));

  return zeroes;
}
