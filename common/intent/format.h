/* SPDX-License-Identifier: BSD-3-Clause */
/* The intent file's format: bytes, and nothing but bytes.
 *
 * The file says which parts of a mirror may differ after any crash (W of the
 * rules).  Documented byte by byte in nbdkit-mirror-intent(5), which this
 * follows:
 *
 *        0  header, copy 0      INTENT_HEADER_SIZE bytes
 *    16384  header, copy 1
 *    32768  pages of INTENT_PAGE_SIZE bytes, one bit for each region
 *
 * All numbers are little-endian.  A copy of the header counts if its CRC is
 * right; of two that do, the one with the greater generation.  A page counts if
 * its CRC, its number and its epoch are right.  *A page that does not count
 * means that every region of it is set*: so a header with a new epoch sets
 * everything at once, whatever is in the pages, and a torn or rotten page errs
 * on the safe side.
 *
 * No I/O, no locks; functions are pure.
 */

#ifndef MIRROR_INTENT_FORMAT_H
#define MIRROR_INTENT_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTENT_VERSION 1u
#define INTENT_HEADER_SIZE 16384u
#define INTENT_PAGES_OFFSET (2u * INTENT_HEADER_SIZE)
#define INTENT_PAGE_SIZE 512u   /* what a disk writes at once, at the least */
#ifndef INTENT_PAGE_BITS        /* the simulator's disks are small */
#define INTENT_PAGE_BITS ((INTENT_PAGE_SIZE - 16u) * 8u)
#endif

/* Longest of the three texts, without the final 0. */
#define INTENT_TEXT_MAX 5000u

/* The granularity of any mirror. */
#define INTENT_GRANULARITY_MIN 512u
#define INTENT_GRANULARITY_MAX (UINT64_C (64) << 20)

/* A region is at least so large, and there are at most so many: what a write
 * to a cold place costs, against what is copied again after a crash.  (md's
 * write-intent bitmap has 64 MiB, DRBD's activity log 4 MiB.)
 */
#ifndef INTENT_REGION_MIN
#define INTENT_REGION_MIN (UINT64_C (1) << 20)
#endif
#define INTENT_REGIONS_MAX (UINT64_C (1) << 22)

/* How it is with the mirror.  Only while it is INTENT_RUNNING the pages count;
 * else everything is set, because clients' writes are not recorded.
 */
enum intent_state {
  INTENT_IDLE,                  /* there has been no mirror */
  INTENT_RUNNING,               /* or paused, or interrupted */
  INTENT_CANCELLED,
  INTENT_DETACHED,
  INTENT_FAILED,
  INTENT_PIVOTED,
  INTENT_STATES
};

extern const char *const intent_state_names[INTENT_STATES];

struct intent_head {
  uint64_t generation;          /* of the header; the greater one counts */
  uint64_t epoch;               /* of the pages that count; both 1 ... 2^63-1 */
  uint64_t size;                /* of the source, bytes: 0 ... 2^63-1 */
  uint64_t granularity;         /* of the mirror, or of the latest: a power of
                                 * two */
  uint64_t region;              /* bytes: a power of two */
  uint64_t target_size;         /* bytes; 0: no mirror yet */
  int64_t changed;              /* when it was written, seconds since 1970 */
  enum intent_state state;
  bool fenced;
  bool clean;                   /* it was closed in order: nothing that was on
                                 * its way to a leg may arrive late */
  /* Who they are; texts in UTF-8 or any other bytes but 0.  disk: what clients
   * have been moved to; "" = nothing, they have the source.
   */
  char source[INTENT_TEXT_MAX + 1];
  char target[INTENT_TEXT_MAX + 1];
  char disk[INTENT_TEXT_MAX + 1];
};

/* The size of a region: a power of two, a multiple of the granularity. */
extern uint64_t intent_region_size (uint64_t size, uint64_t granularity);

/* How many there are, and pages of them, and the size of the file. */
extern uint64_t intent_regions (const struct intent_head *h);
extern uint64_t intent_pages (const struct intent_head *h);
extern uint64_t intent_file_size (const struct intent_head *h);

/* buf: INTENT_HEADER_SIZE bytes. */
extern void intent_encode_head (const struct intent_head *h, void *buf);

/* 0; -EINVAL: not an intent file (no magic); -EBADMSG: damaged, or it makes no
 * sense; -ENOTSUP: of a newer version, whose number is in h->generation.
 */
extern int intent_decode_head (struct intent_head *h, const void *buf);

/* The one of two copies that counts, by what decoding them has returned: 0 or
 * 1, or -errno.  A newer version in either of them is never overlooked.
 */
extern int intent_choose_head (const struct intent_head h[2],
                               const int result[2]);

/* buf: INTENT_PAGE_SIZE bytes, of which bits may be set and looked at from
 * when it was begun until it is sealed.
 */
extern void intent_begin_page (void *buf);
extern void intent_set_bit (void *buf, unsigned bit);
extern bool intent_get_bit (const void *buf, unsigned bit);
extern void intent_seal_page (void *buf, uint64_t epoch, uint64_t page);

/* Does the page count? */
extern bool intent_page_counts (const void *buf, uint64_t epoch,
                                uint64_t page);

/* Of a page that does not count: is it as it was written once, for an earlier
 * epoch, or not at all yet (zeroes)?  Else it is torn, rotten or another's.
 */
extern bool intent_page_is_old (const void *buf, uint64_t page);

/* CRC-32C (Castagnoli), as iSCSI has it: RFC 3720, B.4. */
extern uint32_t intent_crc32c (const void *buf, size_t len);

#endif /* MIRROR_INTENT_FORMAT_H */
