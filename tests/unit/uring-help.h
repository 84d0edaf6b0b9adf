/* SPDX-License-Identifier: BSD-3-Clause */
/* A file for tests of the plugin's I/O, and what is shared of it. */

#ifndef MIRROR_TEST_URING_HELP_H
#define MIRROR_TEST_URING_HELP_H

#include "disk.h"

/* Make a file of that size in the current directory, and open it. */
extern void uring_file (struct shared *s, struct disk *d, uint64_t size);

/* Open it once more. */
extern void uring_open (struct shared *s, struct disk *d);

/* Close it, and remove it. */
extern void uring_end (struct shared *s, struct disk *d);

#endif /* MIRROR_TEST_URING_HELP_H */
