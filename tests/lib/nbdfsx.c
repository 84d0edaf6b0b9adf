/* SPDX-License-Identifier: BSD-3-Clause */
/* Random operations on an NBD export against what it should contain; where
 * it fails, the shortest list of operations that does.
 *
 *   nbdfsx [OPTIONS] URI [TARGET-URI]
 *
 * It differs from the oracle in what it is for.  The oracle is a load: it
 * never stops, and says afterwards that something was wrong.  Here the list
 * of operations is made first, from a seed, so that a part of it can be run
 * again; all kinds of requests are used and what each promises is checked:
 *
 *   read     the expected bytes
 *   zero     reads as zero, with a hole or without; a fast zero that is
 *            refused with ENOTSUP has changed nothing
 *   trim     the bytes are unknown until they are written to again
 *   status   what is said to read as zero does
 *   all      success; flags (FUA) and cache requests change nothing else
 *
 * Operations are sent in the order of the list, as many at once as --depth
 * allows on each connection.  One that meets another in flight, unless both
 * only look, waits for it, so that the list says what the result must be.
 *
 * At the end the export is read back.  A second URI is the mirror's target: it
 * must contain the same, also where bytes are unknown.
 *
 * A command that was given with --at starts when its operation is reached
 * and runs beside the operations that follow; half of those up to the next
 * command, or the end, wait for its end, so that there are some before,
 * during and after.
 *
 * Exit status: 0 all is well; 1 wrong data, or a request failed; 2 the work
 * could not be done (lost connection, a command failed).
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <libnbd.h>

#include "nbdfsx.h"

#define SILENCE_MS 120000       /* a server that does not answer */
#define HISTORY 12              /* operations to print */
#define STATE_ZERO 2            /* NBD_STATE_ZERO of the protocol */

struct slot {
  struct connection *conn;
  const struct op *op;          /* NULL: free */
  uint8_t *buf;
};

static struct slot *slots;
static unsigned nr_slots;

/* Of this run. */
static struct expected *expected;
static struct failure *failure;
static const struct op *list;
static uint32_t length, sent;
static unsigned in_flight;

static uint64_t done[OP_KINDS], refused;

void
trouble (const char *what, const char *why)
{
  printf ("nbdfsx: seed %" PRIu64 ", after %" PRIu32 " operations: %s: %s\n",
          opt.seed, sent, what, why);
  exit (2);
}

void
found (const struct op *op, uint64_t bad, const char *what)
{
  char text[OP_TEXT];

  if (failure->failed)
    return;
  failure->failed = true;
  failure->bad = bad;
  if (op == NULL) {
    snprintf (failure->text, sizeof failure->text, "at the end: %s", what);
    return;
  }
  describe_op (op, text);
  snprintf (failure->text, sizeof failure->text, "operation %" PRIu32
            " (%s): %s", op->number, text, what);
}

/*-- operations ---------------------------------------------------------*/

static bool
only_looks (const struct op *op)
{
  return op->kind == OP_READ || op->kind == OP_STATUS ||
    op->kind == OP_CACHE;
}

static bool
must_wait (const struct op *op)
{
  unsigned i;

  for (i = 0; i < nr_slots; ++i) {
    const struct op *o = slots[i].op;

    if (o && o->offset < op->offset + op->count &&
        op->offset < o->offset + o->count &&
        !(only_looks (o) && only_looks (op)))
      return true;
  }
  return false;
}

/* Connections take turns, by number. */
static struct slot *
free_slot (const struct op *op)
{
  unsigned first = op->number % nr_conns () * opt.depth, i;

  for (i = first; i < first + opt.depth; ++i)
    if (slots[i].op == NULL)
      return &slots[i];
  return NULL;
}

static int
status_cb (void *opaque, const char *context, uint64_t offset,
           uint32_t *entries, size_t nr, int *error)
{
  struct slot *s = opaque;
  uint64_t end = s->op->offset + s->op->count, bad;
  size_t i;

  (void) error;
  if (strcmp (context, ALLOCATION) != 0)
    return 0;
  if (nr < 2 || offset != s->op->offset)
    found (s->op, NO_BYTE, "an answer that says nothing");
  for (i = 0; i + 1 < nr && offset < end; i += 2) {
    uint64_t n = entries[i] < end - offset ? entries[i] : end - offset;

    if (n == 0)
      found (s->op, NO_BYTE, "an empty extent");
    if ((entries[i+1] & STATE_ZERO) &&
        !expect_zeroes (expected, n, offset, &bad)) {
      char text[EXPECT_TEXT];

      snprintf (text, sizeof text, "%" PRIu64 " is said to read as zero",
                bad);
      found (s->op, bad, text);
    }
    offset += n;
  }
  return 0;
}

static int
complete (void *opaque, int *error)
{
  struct slot *s = opaque;
  const struct op *op = s->op;
  char text[EXPECT_TEXT];
  uint64_t bad;

  if (*error == 0) {
    if (op->kind == OP_READ &&
        !expect_check (expected, s->buf, op->count, op->offset, &bad, text))
      found (op, bad, text);
    expect_op (expected, op);
  }
  else if (*error == ENOTSUP && op->fast)
    refused++;
  else
    found (op, NO_BYTE, strerror (*error));
  done[op->kind]++;
  s->op = NULL;
  s->conn->busy--;
  in_flight--;
  return 1;
}

static void
send_op (struct slot *s)
{
  const struct op *op = s->op;
  nbd_completion_callback cb = { .callback = complete, .user_data = s };
  nbd_extent_callback extent = { .callback = status_cb, .user_data = s };
  struct nbd_handle *nbd = s->conn->nbd;
  uint32_t flags = op->fua ? LIBNBD_CMD_FLAG_FUA : 0;
  int64_t r = -1;

  if (op->no_hole)
    flags |= LIBNBD_CMD_FLAG_NO_HOLE;
  if (op->fast)
    flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
  switch ((enum op_kind) op->kind) {
  case OP_READ:
    memset (s->buf, 0xa5, op->count);
    r = nbd_aio_pread (nbd, s->buf, op->count, op->offset, cb, 0);
    break;
  case OP_WRITE:
    op_data (op, s->buf);
    r = nbd_aio_pwrite (nbd, s->buf, op->count, op->offset, cb, flags);
    break;
  case OP_ZERO:
    r = nbd_aio_zero (nbd, op->count, op->offset, cb, flags);
    break;
  case OP_TRIM:
    r = nbd_aio_trim (nbd, op->count, op->offset, cb, flags);
    break;
  case OP_FLUSH:
    r = nbd_aio_flush (nbd, cb, 0);
    break;
  case OP_CACHE:
    r = nbd_aio_cache (nbd, op->count, op->offset, cb, 0);
    break;
  case OP_STATUS:
    r = nbd_aio_block_status (nbd, op->count, op->offset, extent, cb, 0);
    break;
  case OP_KINDS:
    break;
  }
  if (r == -1)
    trouble (op_names[op->kind], nbd_get_error ());
}

static void
send_some (void)
{
  struct slot *s;

  while (sent < length && !failure->failed) {
    const struct op *op = &list[sent];

    if (!commands_allow (op->number) || must_wait (op))
      return;
    s = free_slot (op);
    if (s == NULL)
      return;
    s->op = op;
    s->conn->busy++;
    in_flight++;
    sent++;
    send_op (s);
  }
}

/* Wait for something to come. */
static void
receive_some (void)
{
  struct pollfd fds[MAX_CONNECTIONS];
  struct nbd_handle *polled[MAX_CONNECTIONS];
  unsigned i, n = 0, dir;
  int r;

  for (i = 0; i < nr_conns (); ++i) {
    if (conns[i].busy == 0)
      continue;
    dir = nbd_aio_get_direction (conns[i].nbd);
    fds[n].fd = nbd_aio_get_fd (conns[i].nbd);
    fds[n].events = (dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
      (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0);
    polled[n++] = conns[i].nbd;
  }
  /* With nothing in flight it waits for a command. */
  r = poll (fds, n, n > 0 ? SILENCE_MS : 5);
  if (r == -1 && errno != EINTR)
    trouble ("poll", strerror (errno));
  if (r == 0 && n > 0)
    trouble ("waiting", "the server does not answer");
  for (i = 0; r > 0 && i < n; ++i) {
    if (fds[i].revents & ~POLLOUT)
      r = nbd_aio_notify_read (polled[i]) == -1 ? -1 : r;
    else if (fds[i].revents)
      r = nbd_aio_notify_write (polled[i]) == -1 ? -1 : r;
    if (r == -1 || nbd_aio_is_dead (polled[i]) == 1 ||
        nbd_aio_is_closed (polled[i]) == 1)
      trouble ("lost connection", nbd_get_error () ? nbd_get_error () : "");
  }
}

static void
make_slots (void)
{
  uint32_t one = opt.align > geometry.block ? opt.align : geometry.block;
  unsigned i;

  nr_slots = nr_conns () * opt.depth;
  slots = calloc (nr_slots, sizeof *slots);
  for (i = 0; slots && i < nr_slots; ++i) {
    slots[i].conn = &conns[i / opt.depth];
    slots[i].buf = malloc (opt.max_size + one);
    if (slots[i].buf == NULL)
      break;
  }
  if (slots == NULL || i < nr_slots)
    trouble ("malloc", strerror (errno));
}

static void
free_slots (void)
{
  unsigned i;

  for (i = 0; i < nr_slots; ++i)
    free (slots[i].buf);
  free (slots);
}

void
run_ops (const struct op *ops, uint32_t n, struct failure *f)
{
  memset (f, 0, sizeof *f);
  failure = f;
  list = ops;
  length = n;
  sent = 0;
  expected = begin_run ();
  make_slots ();

  do {
    send_some ();
    if (in_flight > 0 || !command_ended ())
      receive_some ();
  } while (in_flight > 0 || !command_ended () || (sent < n && !f->failed));
  f->sent = sent;

  if (!f->failed) {
    if (opt.settle)
      run_command (opt.settle);
    compare_images (expected, f);
  }
  expect_free (expected);
  free_slots ();
  close_all ();
}

/*-----------------------------------------------------------------------*/

/* The last operations on a byte, oldest first. */
static void
print_history (const struct op *ops, const struct failure *f)
{
  uint32_t i = f->sent, last[HISTORY];
  char text[OP_TEXT];
  unsigned n = 0;

  if (f->bad == NO_BYTE)
    return;
  while (i-- > 0 && n < HISTORY)
    if (ops[i].count > 0 && !only_looks (&ops[i]) &&
        f->bad >= ops[i].offset && f->bad - ops[i].offset < ops[i].count)
      last[n++] = i;
  printf ("nbdfsx: the last changes of %" PRIu64 ":\n", f->bad);
  while (n-- > 0) {
    describe_op (&ops[last[n]], text);
    printf ("nbdfsx: %6" PRIu32 ": %s\n", ops[last[n]].number, text);
  }
}

static void
summary (const struct timespec *begin, const struct failure *f)
{
  struct timespec now;
  unsigned i;

  clock_gettime (CLOCK_MONOTONIC, &now);
  printf ("nbdfsx: seed=%" PRIu64 " operations=%" PRIu32, opt.seed, f->sent);
  for (i = 0; i < OP_KINDS; ++i)
    printf (" %s=%" PRIu64, op_names[i], done[i]);
  printf (" refused=%" PRIu64 " seconds=%.2f: %s\n", refused,
          (double) (now.tv_sec - begin->tv_sec) +
          (double) (now.tv_nsec - begin->tv_nsec) / 1e9,
          f->failed ? "FAILED" : "ok");
}

int
main (int argc, char *argv[])
{
  struct timespec begin;
  struct failure f;
  struct op *ops;
  uint32_t n;

  setvbuf (stdout, NULL, _IOLBF, 0);
  parse_options (argc, argv);
  clock_gettime (CLOCK_MONOTONIC, &begin);
  server_init ();
  ops = make_ops (&geometry, &n);

  run_ops (ops, n, &f);
  summary (&begin, &f);
  if (f.failed) {
    printf ("nbdfsx: MISMATCH: seed %" PRIu64 ", %s\n", opt.seed, f.text);
    print_history (ops, &f);
    /* Commands have changed the server for good, unless it is made anew. */
    if (opt.shrink_seconds > 0 && (opt.restart || opt.nr_commands == 0))
      shrink (ops, f.sent);
  }
  server_free ();
  free (ops);
  return f.failed ? 1 : 0;
}
