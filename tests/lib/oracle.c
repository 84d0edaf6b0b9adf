/* SPDX-License-Identifier: BSD-3-Clause */
/* A client that knows what it should read.
 *
 *   oracle [OPTIONS] URI
 *
 * Sends random writes, zeroes, trims, reads and flushes to an NBD export
 * over several connections with many requests in flight, checks every read
 * against a shadow (shadow.h), and at the end reads the whole disk back.
 *
 * By default no two requests in flight touch the same byte, unless both are
 * reads, so every read has one right answer.  With --overlap requests meet on
 * purpose at a few hot spots, and a read may find any of the requests that
 * were in flight together.
 *
 * One thread for each connection: it alone uses its libnbd handle.  All
 * share the shadow and the list of requests in flight, under one mutex.
 *
 * Nothing is left in flight when the program ends, not even after SIGTERM
 * (it then stops early, and checks); nbdkit 1.32 aborts when a client hangs
 * up on requests in flight.
 *
 * With --reconnect a lost connection is opened again.  What was in flight on it
 * may have happened, or still happen at any time until it is over (oracle.h).
 *
 * Exit status: 0 all is well; 1 wrong data, or a request failed without
 * --allow-errors; 2 the program could not do its work (lost connection).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <libnbd.h>

#include "histogram.h"
#include "oracle.h"
#include "shadow.h"

#define MAX_DISK (UINT64_C (4) << 30)
#define READ_BACK (1u << 20)
#define MAX_REPORTS 10
#define CROWDED 12              /* entries in a sector: round requests out */
#define NO_READ UINT64_MAX

struct connection;

struct slot {
  struct connection *conn;
  bool busy;
  enum op op;
  uint64_t stamp, offset, count;
  bool fast;                    /* zero: may fail with ENOTSUP */
  struct timespec sent;
  uint8_t *buf;
};

struct connection {
  struct nbd_handle *nbd;
  unsigned number, busy;
  uint64_t random;
  struct slot *slots;
  pthread_t thread;
};

static struct connection *conns;
static uint64_t disk_size;
static bool can[OPS], can_fua, can_fast_zero;
static atomic_bool stop, lost;
static atomic_uint_fast64_t issued, completed;
static struct timespec begin_time;

/* Protects the shadow, all slots' place and stamp, and the counters. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shadow *shadow;
static uint64_t done[OPS], bytes[OPS], errors, mismatches, refused, cut;
static struct histogram latency[OPS];   /* in microseconds */

static void
fail (const char *what)
{
  fprintf (stderr, "oracle: %s: %s\n", what, nbd_get_error ());
  exit (2);
}

static void
on_signal (int sig)
{
  (void) sig;
  atomic_store (&stop, true);
}

/* xorshift64*: each connection has its own sequence. */
static uint64_t
random_below (struct connection *c, uint64_t n)
{
  c->random ^= c->random >> 12;
  c->random ^= c->random << 25;
  c->random ^= c->random >> 27;
  return (c->random * UINT64_C (0x2545f4914f6cdd1d) >> 16) % n;
}

static void __attribute__ ((format (printf, 1, 2)))
report_mismatch (const char *fs, ...)
{
  va_list ap;

  if (mismatches++ >= MAX_REPORTS)
    return;
  fprintf (stderr, "oracle: MISMATCH: ");
  va_start (ap, fs);
  vfprintf (stderr, fs, ap);
  va_end (ap);
  fputc ('\n', stderr);
}

/*-- choosing requests --------------------------------------------------*/

static enum op
random_op (struct connection *c)
{
  unsigned sum = 0, i, r;

  for (i = 0; i < OPS; ++i)
    sum += can[i] ? opt.weights[i] : 0;
  r = random_below (c, sum);
  for (i = 0; i < OPS - 1; ++i) {
    unsigned w = can[i] ? opt.weights[i] : 0;

    if (r < w)
      break;
    r -= w;
  }
  return i;
}

/* A size of any magnitude up to the largest, and a place.  Half of the
 * requests are aligned to 4096, the others to 512 or not at all.
 */
static void
random_range (struct connection *c, struct slot *s)
{
  static const unsigned aligns[] = { 4096, 4096, 512, 1 };
  uint64_t align = aligns[random_below (c, opt.no_unaligned ? 3 : 4)];
  uint64_t magnitude = 1, count, offset;

  while (magnitude < opt.max_size && random_below (c, 100) < 93)
    magnitude *= 2;
  if (magnitude > opt.max_size)
    magnitude = opt.max_size;
  count = (1 + random_below (c, magnitude) + align - 1) / align * align;
  if (opt.overlap && random_below (c, 8) != 0) {
    unsigned spot = 0;

    while (spot < 7 && random_below (c, 2) == 0)
      spot++;
    offset = opt.length / 8 * spot + random_below (c, 64 << 10);
  }
  else
    offset = random_below (c, opt.length);
  offset = offset / align * align;
  if (offset >= opt.length)
    offset = 0;
  if (count > opt.length - offset)
    count = opt.length - offset;
  s->offset = opt.from + offset;
  s->count = count;
}

static bool
conflicts (const struct slot *a)
{
  unsigned i, j;

  for (i = 0; i < opt.connections; ++i) {
    for (j = 0; j < opt.depth; ++j) {
      const struct slot *b = &conns[i].slots[j];

      if (b->busy && b != a && b->op != FLUSH &&
          !(a->op == READ && b->op == READ) &&
          a->offset < b->offset + b->count &&
          b->offset < a->offset + a->count)
        return true;
    }
  }
  return false;
}

static uint64_t
oldest_read (void)
{
  uint64_t min = NO_READ;
  unsigned i, j;

  for (i = 0; i < opt.connections; ++i)
    for (j = 0; j < opt.depth; ++j) {
      const struct slot *b = &conns[i].slots[j];

      if (b->busy && b->op == READ && b->stamp < min)
        min = b->stamp;
    }
  return min;
}

static void
round_out (struct slot *s)
{
  uint64_t end = (s->offset + s->count + SECTOR - 1) / SECTOR * SECTOR;

  if (end > disk_size)
    end = disk_size;
  s->offset = s->offset / SECTOR * SECTOR;
  s->count = end - s->offset;
}

/* Choose a request and enter it into the shadow.  Called with the lock.
 * Returns false if no free place was found.
 */
static bool
prepare (struct connection *c, struct slot *s)
{
  static const enum shadow_kind kinds[OPS] =
    { [WRITE] = SHADOW_DATA, [ZERO] = SHADOW_ZERO,
      [TRIM] = SHADOW_UNDEFINED };
  unsigned tries;

  s->op = random_op (c);
  s->count = s->offset = 0;
  if (s->op != FLUSH) {
    for (tries = 0; tries < 20; ++tries) {
      random_range (c, s);
      if (shadow_depth (shadow, s->count, s->offset) > CROWDED)
        round_out (s);
      if (opt.overlap || !conflicts (s))
        break;
    }
    if (tries == 20)
      return false;
  }
  if (s->op == READ || s->op == FLUSH)
    s->stamp = shadow_tick (shadow);
  else
    s->stamp = shadow_begin (shadow, kinds[s->op], s->count, s->offset,
                             oldest_read ());
  s->busy = true;
  return true;
}

/*-- sending and receiving ----------------------------------------------*/

static enum shadow_outcome
outcome_of (const struct slot *s, int error)
{
  if (error == 0)
    return SHADOW_DONE;
  if (error == ENOTCONN && opt.reconnect)
    return SHADOW_LOST;
  return s->fast && error == ENOTSUP ? SHADOW_NOTHING : SHADOW_UNKNOWN;
}

static int
complete (void *opaque, int *error)
{
  struct slot *s = opaque;
  int err = *error;
  uint64_t bad, usec = since (&s->sent) * 1e6;
  char text[SHADOW_TEXT];

  pthread_mutex_lock (&lock);
  if (s->op == READ) {
    if (err == 0 && !shadow_check (shadow, s->stamp, s->buf, s->count,
                                   s->offset, &bad, text))
      report_mismatch ("at %" PRIu64 ": %s", bad, text);
  }
  else if (s->op != FLUSH)
    shadow_end (shadow, s->stamp, s->count, s->offset, outcome_of (s, err));
  if (outcome_of (s, err) == SHADOW_NOTHING)
    refused++;
  else if (outcome_of (s, err) == SHADOW_LOST)
    cut++;
  else if (err != 0) {
    if (errors++ < MAX_REPORTS && !opt.allow_errors)
      fprintf (stderr, "oracle: %s of %" PRIu64 " bytes at %" PRIu64 ": %s\n",
               op_names[s->op], s->count, s->offset, strerror (err));
    if (err == ENOTCONN)
      atomic_store (&lost, true);
  }
  done[s->op]++;
  bytes[s->op] += s->count;
  histogram_add (&latency[s->op], usec);
  s->busy = false;
  pthread_mutex_unlock (&lock);
  s->conn->busy--;
  atomic_fetch_add (&completed, 1);
  return 1;
}

static int64_t
submit (struct connection *c, struct slot *s)
{
  nbd_completion_callback cb = { .callback = complete, .user_data = s };
  uint32_t fua = can_fua && !opt.no_fua && random_below (c, 16) == 0 ?
    LIBNBD_CMD_FLAG_FUA : 0;

  switch (s->op) {
  case WRITE:
    shadow_pattern (s->stamp, s->buf, s->count, s->offset);
    return nbd_aio_pwrite (c->nbd, s->buf, s->count, s->offset, cb, fua);
  case READ:
    memset (s->buf, 0xa5, s->count);
    return nbd_aio_pread (c->nbd, s->buf, s->count, s->offset, cb, 0);
  case ZERO:
    if (random_below (c, 2))
      fua |= LIBNBD_CMD_FLAG_NO_HOLE;
    if (s->fast)
      fua |= LIBNBD_CMD_FLAG_FAST_ZERO;
    return nbd_aio_zero (c->nbd, s->count, s->offset, cb, fua);
  case TRIM:
    return nbd_aio_trim (c->nbd, s->count, s->offset, cb, fua);
  default:
    return nbd_aio_flush (c->nbd, cb, 0);
  }
}

/* May another request be sent now? */
static bool
may_send (void)
{
  uint64_t n = atomic_load (&issued);

  if (atomic_load (&stop) || atomic_load (&lost))
    return false;
  if ((opt.ops && n >= opt.ops) ||
      (opt.seconds > 0 && since (&begin_time) >= opt.seconds)) {
    atomic_store (&stop, true);
    return false;
  }
  return opt.iops == 0 || n < since (&begin_time) * opt.iops;
}

static void
fill_slots (struct connection *c)
{
  unsigned i;
  bool ok;

  for (i = 0; i < opt.depth && may_send (); ++i) {
    struct slot *s = &c->slots[i];

    if (s->busy)
      continue;
    pthread_mutex_lock (&lock);
    ok = prepare (c, s);
    pthread_mutex_unlock (&lock);
    if (!ok)
      break;
    s->fast = s->op == ZERO && can_fast_zero && random_below (c, 4) == 0;
    atomic_fetch_add (&issued, 1);
    c->busy++;
    clock_gettime (CLOCK_MONOTONIC, &s->sent);
    if (submit (c, s) == -1) {
      if (!opt.reconnect)
        fail (op_names[s->op]);
      complete (s, &(int) { ENOTCONN });
      break;
    }
  }
}

/* The connection has ended.  Closing it ends all that is in flight. */
static void
connection_lost (struct connection *c)
{
  if (opt.reconnect) {
    nbd_close (c->nbd);
    c->nbd = connect_again (opt.uri, 60);
    if (c->nbd)
      return;
  }
  atomic_store (&lost, true);
}

static void *
run_connection (void *opaque)
{
  struct connection *c = opaque;
  const struct timespec ms = { .tv_nsec = 1000000 };

  for (;;) {
    fill_slots (c);
    if (c->busy > 0) {
      if (nbd_poll (c->nbd, opt.iops ? 1 : 20) == -1 && !opt.reconnect)
        atomic_store (&lost, true);
    }
    else if (atomic_load (&stop) || atomic_load (&lost))
      break;
    else                        /* the rate limit, or no free place */
      nanosleep (&ms, NULL);
    if ((c->busy > 0 || opt.reconnect) && (nbd_aio_is_dead (c->nbd) ||
                                           nbd_aio_is_closed (c->nbd))) {
      connection_lost (c);
      if (atomic_load (&lost))
        break;
    }
  }
  return NULL;
}

/*-- beginning and end --------------------------------------------------*/

static void
open_connection (struct connection *c)
{
  struct nbd_handle *nbd = nbd_create ();
  int64_t size;
  unsigned i;

  if (nbd == NULL || nbd_connect_uri (nbd, opt.uri) == -1)
    fail ("connect");
  size = nbd_get_size (nbd);
  if (size <= 0 || (uint64_t) size > MAX_DISK)
    fail ("size");
  disk_size = size;
  can[WRITE] = can[READ] = true;
  can[ZERO] = nbd_can_zero (nbd) == 1;
  can[TRIM] = nbd_can_trim (nbd) == 1;
  can[FLUSH] = nbd_can_flush (nbd) == 1;
  can_fua = nbd_can_fua (nbd) == 1;
  can_fast_zero = nbd_can_fast_zero (nbd) == 1;
  c->nbd = nbd;
  c->number = c - conns;
  c->random = (opt.seed * 2654435761 + c->number + 1) *
    UINT64_C (0x9e3779b97f4a7c15) | 1;
  c->slots = calloc (opt.depth, sizeof *c->slots);
  for (i = 0; c->slots && i < opt.depth; ++i) {
    c->slots[i].conn = c;
    c->slots[i].buf = malloc (opt.max_size + 2 * 4096);
    if (c->slots[i].buf == NULL)
      break;
  }
  if (c->slots == NULL || i < opt.depth)
    fail ("malloc");
}

/* The content at the beginning; pages that are zero stay untouched. */
static uint8_t *
read_base (uint8_t *buf)
{
  uint8_t *base = mmap (NULL, disk_size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  uint64_t pos, n;

  if (base == MAP_FAILED)
    fail ("mmap");
  for (pos = 0; pos < disk_size; pos += n) {
    n = disk_size - pos < READ_BACK ? disk_size - pos : READ_BACK;
    if (nbd_pread (conns[0].nbd, buf, n, pos, 0) == -1)
      fail ("first read");
    if (buf[0] != 0 || memcmp (buf, buf + 1, n - 1) != 0)
      memcpy (base + pos, buf, n);
  }
  return base;
}

static void
read_back (uint8_t *buf)
{
  struct nbd_handle *nbd = opt.final ? nbd_create () : conns[0].nbd;
  FILE *fp = NULL;
  uint64_t pos, n, bad, stamp;
  char text[SHADOW_TEXT];

  if (opt.image && (fp = fopen (opt.image, "w")) == NULL) {
    perror (opt.image);
    exit (2);
  }
  if (opt.final && (nbd == NULL || nbd_connect_uri (nbd, opt.final) == -1))
    fail (opt.final);
  for (pos = 0; pos < disk_size; pos += n) {
    n = disk_size - pos < READ_BACK ? disk_size - pos : READ_BACK;
    stamp = shadow_tick (shadow);
    if (nbd_pread (nbd, buf, n, pos, 0) == -1)
      fail ("last read");
    if (!shadow_check (shadow, stamp, buf, n, pos, &bad, text))
      report_mismatch ("at the end, at %" PRIu64 ": %s", bad, text);
    if (fp) {
      shadow_expected (shadow, buf, n, pos);
      if (fwrite (buf, 1, n, fp) != n)
        break;
    }
  }
  if (opt.final)
    nbd_close (nbd);
  if (fp && (fclose (fp) == EOF || pos < disk_size)) {
    fprintf (stderr, "oracle: %s: cannot write\n", opt.image);
    exit (2);
  }
}

static void
summary (void)
{
  unsigned i;

  printf ("oracle:");
  for (i = 0; i < OPS; ++i)
    printf (" %s=%" PRIu64, op_names[i], done[i]);
  for (i = 0; i < OPS; ++i)
    printf (" longest-%s-us=%" PRIu64, op_names[i], latency[i].max);
  printf (" written-bytes=%" PRIu64 " read-bytes=%" PRIu64
          " seconds=%.2f errors=%" PRIu64 " refused=%" PRIu64
          " cut=%" PRIu64 " mismatches=%" PRIu64 " p50-us=%" PRIu64
          " p99-us=%" PRIu64 " max-us=%" PRIu64 "\n",
          bytes[WRITE], bytes[READ], since (&begin_time), errors, refused,
          cut, mismatches, histogram_percentile (&latency[WRITE], 50),
          histogram_percentile (&latency[WRITE], 99), latency[WRITE].max);
}

static void
run (void)
{
  const struct timespec tick = { .tv_nsec = 20000000 };
  unsigned i;

  clock_gettime (CLOCK_MONOTONIC, &begin_time);
  for (i = 0; i < opt.connections; ++i) {
    errno = pthread_create (&conns[i].thread, NULL, run_connection,
                            &conns[i]);
    if (errno != 0) {
      perror ("oracle: pthread_create");
      exit (2);
    }
  }
  while (!atomic_load (&stop) && !atomic_load (&lost)) {
    write_progress (atomic_load (&completed));
    if (over_asked ()) {
      pthread_mutex_lock (&lock);
      shadow_over (shadow);
      pthread_mutex_unlock (&lock);
      over_answer ();
    }
    nanosleep (&tick, NULL);
    may_send ();
  }
  for (i = 0; i < opt.connections; ++i)
    pthread_join (conns[i].thread, NULL);
  write_progress (atomic_load (&completed));
}

int
main (int argc, char *argv[])
{
  struct sigaction sa = { .sa_handler = on_signal };
  uint8_t *base, *buf = malloc (READ_BACK);
  unsigned i;

  parse_options (argc, argv);
  sigaction (SIGTERM, &sa, NULL);
  sigaction (SIGINT, &sa, NULL);
  conns = calloc (opt.connections, sizeof *conns);
  if (conns == NULL || buf == NULL)
    fail ("malloc");
  for (i = 0; i < opt.connections; ++i)
    open_connection (&conns[i]);
  if (opt.from >= disk_size) {
    fprintf (stderr, "oracle: --from is past the end of the disk\n");
    return 2;
  }
  if (opt.length == 0 || opt.length > disk_size - opt.from)
    opt.length = disk_size - opt.from;
  base = read_base (buf);
  shadow = shadow_new (base, disk_size);
  if (shadow == NULL)
    fail ("malloc");

  run ();
  if (!atomic_load (&lost))
    read_back (buf);
  summary ();
  for (i = 0; i < opt.connections; ++i) {
    if (!atomic_load (&lost))
      nbd_shutdown (conns[i].nbd, 0);
    nbd_close (conns[i].nbd);
  }
  if (mismatches > 0 || (errors > 0 && !opt.allow_errors &&
                         !atomic_load (&lost)))
    return 1;
  return atomic_load (&lost) ? 2 : 0;
}
