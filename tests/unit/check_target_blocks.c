/* SPDX-License-Identifier: BSD-3-Clause */
/* The target leg against a server with a minimum block, which it notes down
 * command by command; and zeroes.
 */

#include <config.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "target-help.h"
#include "target-peer.h"

#define GiB (UINT32_C (1) << 30)

/* Allocations of the target leg fail if that is set. */
static __thread bool no_memory; /* for what this thread calls */

extern void *__real_malloc (size_t size);
extern void *__wrap_malloc (size_t size);
extern void *__real_calloc (size_t n, size_t size);
extern void *__wrap_calloc (size_t n, size_t size);

void *
__wrap_malloc (size_t size)
{
  return no_memory ? NULL : __real_malloc (size);
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return no_memory ? NULL : __real_calloc (n, size);
}

static void
fill (unsigned char *p, size_t n, unsigned *seed)
{
  size_t i;

  for (i = 0; i < n; ++i)
    p[i] = (unsigned char) (rand_r (seed) >> 7);
}

/* How many of that command have come? */
static unsigned
seen (const struct peer *p, enum peer_command command)
{
  unsigned i, n = 0;

  for (i = 0; i < p->nr_seen; ++i)
    n += p->seen[i].command == command;
  return n;
}

/*-- any alignment ------------------------------------------------------*/

/* Everything that came was a multiple of the block and no larger than
 * allowed, and what wrote had the flags.
 */
static void
check_seen (struct peer *p, unsigned flags)
{
  const struct peer_seen *s;
  unsigned i;

  ck_assert_uint_lt (p->nr_seen, PEER_SEEN_MAX);
  for (i = 0; i < p->nr_seen; ++i) {
    s = &p->seen[i];
    ck_assert_uint_eq (s->offset % p->block_min, 0);
    if (s->offset + s->count != p->size)
      ck_assert_uint_eq (s->count % p->block_min, 0);
    if (p->block_max > 0
        && (s->command == PEER_READ || s->command == PEER_WRITE))
      ck_assert_uint_le (s->count, p->block_max);
    if (s->command == PEER_WRITE || s->command == PEER_ZERO)
      ck_assert_uint_eq (s->flags & PEER_FUA, flags);
  }
  p->nr_seen = 0;
}

/* Requests of all kinds at random, against a shadow of the disk. */
static void
random_requests (uint32_t block, uint64_t size, unsigned n)
{
  struct peer p = { .size = size, .block_min = block,
                    .block_max = 4 * block > 4096 ? 4 * block : 4096,
                    .disk = malloc (size) };
  unsigned char *shadow = malloc (size), *buf = malloc (size);
  unsigned seed = block, flags, before;
  struct losses l;
  struct target *t;
  uint64_t offset;
  uint32_t count;
  bool aligned;

  fill (p.disk, size, &seed);
  memcpy (shadow, p.disk, size);
  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_uint_eq (t->block, block);
  while (n-- > 0) {
    offset = (uint64_t) rand_r (&seed) % size;
    count = 1 + (uint32_t) rand_r (&seed) % (n % 2 ? 9 * block : block / 2);
    if (n % 5 == 0)
      offset -= offset % block;
    if (n % 7 == 0 || count > size - offset)
      count = (uint32_t) (size - offset < 9 * block
                          ? size - offset : 9 * block);
    flags = (unsigned) rand_r (&seed) % 2 ? LEG_FUA : 0;
    aligned = offset % block == 0
      && (count % block == 0 || offset + count == size);
    before = p.nr_seen;
    switch (rand_r (&seed) % 3) {
    case 0:
      memset (buf, 0x55, size);
      ck_assert_int_eq (run (t, request (TARGET_READ, LANE_COPY, 0,
                                         buf + offset, count, offset)), 0);
      ck_assert_int_eq (memcmp (buf + offset, shadow + offset, count), 0);
      ck_assert (offset == 0 || buf[offset - 1] == 0x55);
      ck_assert (offset + count == size || buf[offset + count] == 0x55);
      break;
    case 1:
      fill (buf, count, &seed);
      memcpy (shadow + offset, buf, count);
      ck_assert_int_eq (run (t, request (TARGET_WRITE, LANE_TEE, flags, buf,
                                         count, offset)), 0);
      ck_assert_int_eq (memcmp (shadow + offset, buf, count), 0);
      break;
    default:
      memset (shadow + offset, 0, count);
      ck_assert_int_eq (run (t, request (TARGET_ZERO, LANE_TEE, flags, NULL,
                                         count, offset)), 0);
    }
    ck_assert_int_eq (memcmp (p.disk, shadow, size), 0);
    if (aligned && count <= p.block_max)
      ck_assert_uint_eq (p.nr_seen - before, 1);
    check_seen (&p, flags ? PEER_FUA : 0);
  }
  t->ops->free (t);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
  free (p.disk);
  free (shadow);
  free (buf);
}

START_TEST (neighbours)
{
  random_requests (512, 64 * KiB, 1000);
  random_requests (512, 64 * KiB + 100, 1000);
  random_requests (4096, 128 * KiB, 500);
  random_requests (4096, 128 * KiB - 1, 500);
  random_requests (65536, MiB, 100);
  random_requests (65536, 1000, 20);
}
END_TEST

/* With a block of 1 everything is one command, and all at once. */
START_TEST (no_block)
{
  static char buf[10000];
  struct peer p = { .size = MiB, .block_min = _i };
  enum target_op op;
  struct losses l;
  struct target *t;
  int r;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_uint_eq (t->block, 1);
  for (op = TARGET_READ; op <= TARGET_ZERO; ++op) {
    no_memory = true;
    r = run (t, request (op, LANE_TEE, 0, buf, 999, 77));
    no_memory = false;
    ck_assert_int_eq (r, 0);
  }
  ck_assert_uint_eq (p.nr_seen, 3);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/*-- one request over blocks 1 to 4, the first and the last in part -----*/

#define BLOCK 4096
#define OFFSET (BLOCK + 100)
#define COUNT (3 * BLOCK)
#define HEAD BLOCK
#define MIDDLE (3 * BLOCK)
#define TAIL (4 * BLOCK)

/* Its reads and its middle go out at once: the caller does its other leg
 * before it waits.
 */
START_TEST (submitted_at_once)
{
  static unsigned char disk[MiB], buf[COUNT];
  struct peer p = { .size = MiB, .block_min = BLOCK, .disk = disk };
  struct target_req req = request (_i ? TARGET_ZERO : TARGET_WRITE, LANE_TEE,
                                   0, buf, COUNT, OFFSET);
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  t->ops->submit (t, &req);
  EVENTUALLY (p.nr_seen == 3, 10);
  ck_assert_uint_eq (seen (&p, PEER_READ), 2);
  ck_assert_int_eq (t->ops->wait (t, &req), 0);
  ck_assert_uint_eq (p.nr_seen, 5);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* What goes wrong with each part of it. */
START_TEST (failures)
{
  static const struct {
    struct peer_fault fault;
    int result;
    unsigned writes;            /* commands that came */
  } t[] = {
    { { PEER_READ, HEAD, 5 }, -EIO, 1 },
    { { PEER_READ, TAIL, 5 }, -EIO, 1 },
    { { PEER_WRITE, MIDDLE, 28 }, -ENOSPC, 1 },
    { { PEER_WRITE, HEAD, 28 }, -ENOSPC, 3 },
    { { PEER_WRITE, TAIL, 5 }, -EIO, 3 },
    { { PEER_READ, HEAD, 0 }, -ENOTCONN, 0 },
    { { PEER_WRITE, MIDDLE, 0 }, -ENOTCONN, 0 },
    { { PEER_WRITE, HEAD, 0 }, -ENOTCONN, 0 },
    { { PEER_WRITE, TAIL, 0 }, -ENOTCONN, 0 },
  };
  static unsigned char disk[MiB], buf[COUNT];
  struct peer p = { .size = MiB, .block_min = BLOCK, .disk = disk,
                    .faults = &t[_i].fault, .nr_faults = 1 };
  const bool lost = t[_i].result == -ENOTCONN;
  struct losses l;
  struct target *target;

  memset (disk, 'd', sizeof disk);
  memset (buf, 'b', sizeof buf);
  peer_start (&p);
  target = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (run (target, request (TARGET_WRITE, LANE_TEE, 0, buf,
                                          COUNT, OFFSET)), t[_i].result);
  if (lost) {
    EVENTUALLY (l.count == 1, 10);
    ck_assert_int_eq (run (target, request (TARGET_WRITE, LANE_TEE, 0, buf,
                                            COUNT, OFFSET)), -ENOTCONN);
  }
  else {
    ck_assert_uint_eq (seen (&p, PEER_WRITE), t[_i].writes);
    ck_assert_int_eq (l.count, 0);
    /* The failure of one says nothing about the next. */
    ck_assert_int_eq (run (target, request (TARGET_WRITE, LANE_TEE, 0, buf,
                                            COUNT, 8 * BLOCK + 1)), 0);
    ck_assert_int_eq (disk[8 * BLOCK], 'd');
    ck_assert_int_eq (disk[8 * BLOCK + 1], 'b');
    ck_assert_int_eq (disk[11 * BLOCK], 'b');
    ck_assert_int_eq (disk[11 * BLOCK + 1], 'd');
  }
  target->ops->free (target);
  ck_assert_int_eq (l.count, lost);
  peer_stop (&p);
}
END_TEST

/* One that the server takes in pieces only: whichever of them fails, it has
 * failed, however well the later ones end.
 */
START_TEST (split)
{
  enum { MAX = 65536, PIECES = 4 };
  const bool write = _i >= PIECES;
  const struct peer_fault fault = {
    write ? PEER_WRITE : PEER_READ, (unsigned) _i % PIECES * MAX, 28
  };
  static unsigned char disk[MiB], buf[PIECES * MAX];
  struct peer p = { .size = MiB, .block_min = BLOCK, .block_max = MAX,
                    .disk = disk, .faults = &fault, .nr_faults = 1 };
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (run (t, request (write ? TARGET_WRITE : TARGET_READ,
                                     LANE_TEE, 0, buf, sizeof buf, 0)),
                    -ENOSPC);
  ck_assert_uint_eq (seen (&p, fault.command), PIECES);
  ck_assert_int_eq (l.count, 0);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* The data of a read comes in other ways, or does not: then it has failed, and
 * nothing is written back.
 */
START_TEST (chunks)
{
  static const struct {
    enum peer_chunks chunks;
    int result;
    int head;                   /* what is in the first half of a block */
  } t[] = {
    { CHUNKS_ONE, 0, 'd' },
    { CHUNKS_SIMPLE, 0, 'd' },
    { CHUNKS_SWAPPED, 0, 0 },
    { CHUNKS_NONE, -EIO, 0 },
    { CHUNKS_HALF, -EIO, 0 },
    { CHUNKS_TWICE, -EIO, 0 },
  };
  static unsigned char disk[MiB], buf[BLOCK];
  struct peer p = { .size = MiB, .block_min = BLOCK, .disk = disk,
                    .chunks = t[_i].chunks };
  const bool good = t[_i].result == 0;
  struct losses l;
  struct target *target;
  size_t i;

  memset (disk, 'd', sizeof disk);
  peer_start (&p);
  target = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (run (target, request (TARGET_READ, LANE_COPY, 0, buf,
                                          BLOCK, 0)), t[_i].result);
  for (i = 0; good && i < BLOCK; ++i)
    ck_assert_int_eq (buf[i], i < BLOCK / 2 ? t[_i].head : 'd');
  ck_assert_int_eq (run (target, request (TARGET_READ, LANE_COPY, 0, buf,
                                          BLOCK / 2, BLOCK / 4)),
                    t[_i].result);
  for (i = 0; good && i < BLOCK / 2; ++i)
    ck_assert_int_eq (buf[i], i < BLOCK / 4 ? t[_i].head : 'd');

  memset (buf, 'b', sizeof buf);
  ck_assert_int_eq (run (target, request (TARGET_WRITE, LANE_TEE, 0, buf,
                                          BLOCK / 4, BLOCK)), t[_i].result);
  ck_assert_uint_eq (seen (&p, PEER_WRITE), good);
  for (i = 0; i < sizeof disk; ++i)
    if (good && i >= BLOCK && i < BLOCK + BLOCK / 2)
      ck_assert_int_eq (disk[i], i < BLOCK + BLOCK / 4 ? 'b' : t[_i].head);
    else
      ck_assert_int_eq (disk[i], 'd');
  target->ops->free (target);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
}
END_TEST

START_TEST (out_of_memory)
{
  static unsigned char disk[MiB], buf[COUNT];
  struct peer p = { .size = MiB, .block_min = BLOCK, .disk = disk };
  struct losses l;
  struct target *t;
  enum target_op op;
  int i, r;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  for (i = 0; i < 2; ++i)
    for (op = TARGET_READ; op <= TARGET_ZERO; ++op) {
      no_memory = i == 0;
      r = run (t, request (op, LANE_TEE, 0, buf, COUNT, OFFSET));
      no_memory = false;
      ck_assert_int_eq (r, i == 0 ? -ENOMEM : 0);
    }
  t->ops->free (t);
  ck_assert_int_eq (l.count, 0);
  peer_stop (&p);
}
END_TEST

/* The zeroing commands are refused: data, and the blocks at the ends still
 * are right.
 */
START_TEST (unaligned_zero_refused)
{
  static unsigned char disk[MiB];
  struct peer p = { .size = MiB, .block_min = BLOCK, .disk = disk,
                    .zero_error = _i };
  struct losses l;
  struct target *t;
  size_t i;

  memset (disk, 'd', sizeof disk);
  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (run (t, request (TARGET_ZERO, LANE_TEE, 0, NULL, COUNT,
                                     OFFSET)), 0);
  for (i = 0; i < sizeof disk; ++i)
    ck_assert_int_eq (disk[i],
                      i < OFFSET || i >= OFFSET + COUNT ? 'd' : 0);
  check_seen (&p, 0);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/*-- block status -------------------------------------------------------*/

static int
note_extent (void *vp, struct range r, enum extent_kind kind)
{
  char *text = vp;
  size_t n = strlen (text);

  snprintf (text + n, 200 - n, "%s%u+%u ", kind == EXTENT_ZERO ? "z" : "d",
            (unsigned) r.start, (unsigned) range_len (r));
  return 0;
}

START_TEST (extents)
{
  static const struct {
    uint64_t start, end;
    struct peer_extent e[3];
    unsigned n;
    const char *expected;
  } t[] = {
    { 5000, 9000, { { 4096, 2 }, { 4096, 0 } }, 2, "z5000+3192 d8192+808 " },
    { 5000, 6000, { { 4096, 2 } }, 1, "z5000+1000 " },
    { 5000, 9000, { { 400, 2 } }, 1, "d5000+4000 " },
    { 5000, 9000, { { 400, 2 }, { 1000, 0 }, { 2000, 2 } }, 3,
      "d5000+496 z5496+2000 " },
    { 4096, 8192, { { 9999, 2 } }, 1, "z4096+4096 " },
    { MiB - 700, MiB - 1, { { 4096, 2 } }, 1, "z1047876+699 " },
  };
  struct losses l;
  struct target *target;
  char text[200];
  size_t i;

  for (i = 0; i < sizeof t / sizeof t[0]; ++i) {
    struct peer p = { .size = MiB, .block_min = BLOCK, .extents = t[i].e,
                      .nr_extents = t[i].n };

    peer_start (&p);
    target = connect_started (p.uri, 1, &l);
    text[0] = '\0';
    ck_assert_int_eq (target->ops->extents (target, (struct range) {
          t[i].start, t[i].end }, note_extent, text), 0);
    ck_assert_str_eq (text, t[i].expected);
    ck_assert_uint_eq (seen (&p, PEER_STATUS), 1);
    check_seen (&p, 0);
    target->ops->free (target);
    peer_stop (&p);
  }
}
END_TEST

/*-- zeroes -------------------------------------------------------------*/

START_TEST (large_zero)
{
  static const struct {
    uint32_t error, limit, block_max;
    unsigned first, second;     /* zero commands for each request */
    uint64_t written;
  } t[] = {
    { 0, 0, 0, 1, 1, 0 },
    { 0, 0, MiB, 1, 1, 0 },
    { 22, 32 * MiB, 0, 1 + 2, 2, 0 },
    { 75, 63 * MiB, 0, 1 + 2, 2, 0 },
    { 95, 32 * MiB, 0, 1 + 2, 2, 0 },
    { 22, 8 * MiB, 8 * MiB, 1 + 8, 8, 0 },
    { 95, 0, 0, 2, 0, 2 * (uint64_t) TARGET_MAX_ZERO },
  };
  struct peer p = { .size = 4 * (uint64_t) GiB, .block_min = 512,
                    .zero_error = t[_i].error, .zero_max = t[_i].limit,
                    .block_max = t[_i].block_max };
  struct rusage before, after;
  struct losses l;
  struct target *target;
  int i;

  peer_start (&p);
  target = connect_started (p.uri, 1, &l);
  getrusage (RUSAGE_SELF, &before);
  for (i = 0; i < 2; ++i) {
    ck_assert_int_eq (run (target, request (TARGET_ZERO, LANE_COPY,
                                            LEG_MAY_TRIM, NULL,
                                            TARGET_MAX_ZERO, GiB)), 0);
    ck_assert_uint_eq (p.zeroes, t[_i].first + (i ? t[_i].second : 0));
  }
  getrusage (RUSAGE_SELF, &after);
  ck_assert_uint_eq (p.written, t[_i].written);
  ck_assert_int_lt (after.ru_maxrss - before.ru_maxrss, 32 << 10);
  target->ops->free (target);
  peer_stop (&p);
}
END_TEST

/* A full disk is not sent all of it as data. */
START_TEST (large_zero_fails)
{
  static const struct peer_fault fault = { PEER_WRITE, 1, 28 };
  struct peer p = { .size = 4 * (uint64_t) GiB, .zero_error = 95,
                    .faults = &fault, .nr_faults = 1 };
  struct losses l;
  struct target *t;

  peer_start (&p);
  t = connect_started (p.uri, 1, &l);
  ck_assert_int_eq (run (t, request (TARGET_ZERO, LANE_COPY, 0, NULL,
                                     TARGET_MAX_ZERO, 0)), -ENOSPC);
  ck_assert_uint_le (p.written, 32 * MiB);
  t->ops->free (t);
  peer_stop (&p);
}
END_TEST

/* Nothing has changed, says -ENOTSUP to a fast zero.  That holds for the first
 * answer only.
 */
START_TEST (zero_not_supported)
{
  static const struct {
    unsigned flags;
    uint32_t zero_error, write_error;
    int result;
    unsigned writes;
  } t[] = {
    { LEG_FAST_ZERO, 95, 0, -ENOTSUP, 0 },
    { LEG_FAST_ZERO, 22, 0, 0, 4 },
    { LEG_FAST_ZERO, 22, 95, -EIO, 4 },
    { LEG_FAST_ZERO, 22, 22, -EINVAL, 4 },
    { 0, 95, 95, -EIO, 4 },
  };
  const struct peer_fault fault = { PEER_WRITE, MiB, t[_i].write_error };
  struct peer p = { .size = 8 * MiB, .zero_error = t[_i].zero_error,
                    .fast_zero = true, .faults = &fault,
                    .nr_faults = t[_i].write_error != 0 };
  struct losses l;
  struct target *target;

  peer_start (&p);
  target = connect_started (p.uri, 1, &l);
  ck_assert (target->can_fast_zero);
  ck_assert_int_eq (run (target, request (TARGET_ZERO, LANE_TEE, t[_i].flags,
                                          NULL, MiB, 4096)), t[_i].result);
  ck_assert_uint_eq (p.writes, t[_i].writes);
  ck_assert_int_eq (l.count, 0);
  target->ops->free (target);
  peer_stop (&p);
}
END_TEST

int
main (void)
{
  Suite *suite = suite_create ("target_blocks");
  TCase *tc = tcase_create ("all");
  SRunner *sr;
  int failed;

  signal (SIGPIPE, SIG_IGN);    /* as in nbdkit */
  tcase_set_timeout (tc, 120);
  tcase_add_test (tc, neighbours);
  tcase_add_loop_test (tc, no_block, 0, 2);
  tcase_add_loop_test (tc, submitted_at_once, 0, 2);
  tcase_add_loop_test (tc, failures, 0, 9);
  tcase_add_loop_test (tc, split, 0, 8);
  tcase_add_loop_test (tc, chunks, 0, 6);
  tcase_add_test (tc, out_of_memory);
  tcase_add_loop_test (tc, unaligned_zero_refused, 22, 23);
  tcase_add_loop_test (tc, unaligned_zero_refused, 95, 96);
  tcase_add_test (tc, extents);
  tcase_add_loop_test (tc, large_zero, 0, 7);
  tcase_add_test (tc, large_zero_fails);
  tcase_add_loop_test (tc, zero_not_supported, 0, 5);
  suite_add_tcase (suite, tc);
  sr = srunner_create (suite);
  srunner_run_all (sr, CK_ENV);
  failed = srunner_ntests_failed (sr);
  srunner_free (sr);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
