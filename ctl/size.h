/* SPDX-License-Identifier: BSD-3-Clause */
/* Sizes as people write and read them. */

#ifndef MIRROR_SIZE_H
#define MIRROR_SIZE_H

#include <stdint.h>

/* Digits, maybe with K, M, G or T (powers of 1024): 0 ... 2^63-1.  Returns 0
 * or -EINVAL.
 */
extern int size_parse (const char *text, int64_t *size);

/* As "1.5 GiB", in SIZE_TEXT_MAX bytes. */
#define SIZE_TEXT_MAX 32
extern const char *size_text (uint64_t size, char *text);

#endif /* MIRROR_SIZE_H */
