/* SPDX-License-Identifier: BSD-3-Clause */
/* What intent.c (regions) and intent-head.c (headers, errors) share.
 *
 * There is one *writer* at a time: whoever has set `writing` may write to the
 * file, without holding the lock, and change what of the words only a writer
 * may.  Who needs something written, and finds that nobody writes, is it.
 */

#ifndef MIRROR_INTENT_PRIVATE_H
#define MIRROR_INTENT_PRIVATE_H

#include <stdatomic.h>

#include "intent.h"

/* The word of a region: how many are active in it, and flags.  Changed by
 * atomic operations: the count and IDLE by anybody, WANTED under the lock, the
 * others by the writer.
 */
#define WORD_COUNT 0x00ffffffu
#define WORD_CLEAN 0x80000000u  /* not recorded */
#define WORD_RETIRING 0x40000000u       /* is being taken out of the file */
#define WORD_WANTED 0x20000000u /* somebody waits for it to be recorded */
#define WORD_WRITING 0x10000000u        /* is being recorded */
#define WORD_IDLE 0x08000000u   /* nobody was active since intent_watch */

/* Pages written at once. */
#define INTENT_RUN 64u

struct intent {
  /* Constant. */
  struct intent_io *io;
  struct clock *clock;
  void (*on_lost) (void *opaque);
  void *opaque;

  /* Constant while a mirror runs. */
  unsigned shift;               /* a region is 1 << shift bytes */
  uint64_t regions, pages;
  _Atomic uint32_t *words;      /* [regions] */

  _Atomic uint64_t recorded;    /* words without WORD_CLEAN */

  struct mutex lock;
  struct cond changed;          /* anything of the below, or of the words */

  /* Protected by lock. */
  struct intent_head head;      /* as it is in the file */
  int copy;                     /* the newest copy, or -1 */
  bool writing;
  bool lost, gone, broken;
  bool tell_lost;               /* on_lost is still to be called */
  uint64_t retry_ns;            /* broken: nobody tries before */
  unsigned char *wanted;        /* [pages]: there is a WANTED word */
  uint64_t syncs, waits;

  /* The writer's. */
  struct intent_head next;      /* the header to be written */
  uint64_t generation;          /* the greatest that has been used */
  unsigned char *batch;         /* [pages]: being written */
  char *buf;                    /* INTENT_RUN pages, or a header */
};

/*-- intent.c -----------------------------------------------------------*/

/* All pages of the batch, durably.  The writer's; without the lock. */
extern int intent_write_batch (struct intent *in);

/*-- intent-head.c ------------------------------------------------------*/

/* Be the writer: waits until nobody is.  The lock is held; given up meanwhile.
 */
extern void intent_begin_writing_locked (struct intent *in);

/* ... no more.  Takes no lock before, gives it back; calls on_lost if due. */
extern void intent_end_writing (struct intent *in);

/* Nothing can be recorded any more.  Says so in the file: everything may
 * differ; or removes it.  If neither can be done it is broken, and whoever
 * needs something tries that again.  The writer's; without the lock.
 */
extern void intent_lose (struct intent *in);

/* What a restart must find is of no use in a file that it will not find: 0, or
 * -errno.  If there is none any more it is as good as given up.  The writer's.
 */
extern int intent_check_file (struct intent *in);

/* The words' flags are gone: all of them are recorded. */
extern void intent_all_recorded (struct intent *in);

#endif /* MIRROR_INTENT_PRIVATE_H */
