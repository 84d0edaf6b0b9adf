/* SPDX-License-Identifier: BSD-3-Clause */
/* Random operations against an NBD export and what it should contain; see
 * nbdfsx.c.
 *
 *   nbdfsx.c           running a list of operations
 *   nbdfsx-server.c    connections, whole images, commands
 *   nbdfsx-ops.c       options; making the list; its words
 *   nbdfsx-expect.c    what the disk should contain
 *   nbdfsx-shrink.c    from a list that fails to a short one
 *
 * One thread.  Offsets and lengths are bytes.
 */

#ifndef NBDFSX_H
#define NBDFSX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op_kind {
  OP_READ, OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH, OP_CACHE, OP_STATUS,
  OP_KINDS
};

/* What a write writes. */
enum fill { FILL_PATTERN, FILL_ZEROES, FILL_HALF_ZEROES };

/* One operation.  Its number is its place in the list that the seed makes, and
 * stays the same in a shorter list, as what it writes depends on it.
 */
struct op {
  uint64_t offset;
  uint32_t number, count;
  uint8_t kind, fill;
  bool fua, no_hole, fast;
};

/* What the export is and offers. */
struct geometry {
  uint64_t size;
  uint64_t usable;              /* the whole blocks of it */
  uint32_t block;               /* the least request, a power of two */
  bool can[OP_KINDS], can_fua, can_fast_zero, multi_conn;
};

/* A command to run beside the operations from a certain one on. */
#define MAX_COMMANDS 8
struct command {
  uint32_t at;
  const char *text;
};

struct options {
  const char *uri, *target, *restart, *settle;
  uint32_t ops, max_size, align, edge;
  uint64_t seed;
  unsigned connections, depth, shrink_seconds;
  unsigned weights[OP_KINDS];
  struct command commands[MAX_COMMANDS];        /* by `at` */
  unsigned nr_commands;
  char *only;                   /* numbers, or NULL: all */
};

extern struct options opt;

/*-- nbdfsx-ops.c -------------------------------------------------------*/

#define OP_TEXT 128

extern const char *const op_names[OP_KINDS];

/* Exits with status 2 if they make no sense. */
extern void parse_options (int argc, char *argv[]);

/* The list of opt.seed for that export, without what opt.only leaves out; to
 * be freed.  The same for the same options and geometry.
 */
extern struct op *make_ops (const struct geometry *g, uint32_t *n);

/* "write 512 bytes at 4095, fua" in text (OP_TEXT bytes). */
extern void describe_op (const struct op *op, char *text);

/*-- nbdfsx-expect.c ----------------------------------------------------*/

/* What the disk should contain.  A byte may be *unknown*: trimmed, and not
 * written to since.
 */
struct expected;

#define EXPECT_TEXT 160

/* All zero at first.  Exits when out of memory. */
extern struct expected *expect_new (uint64_t size);
extern void expect_free (struct expected *e);

extern void expect_data (struct expected *e, const uint8_t *buf,
                         uint64_t count, uint64_t offset);

/* What a write writes: count bytes into buf. */
extern void op_data (const struct op *op, uint8_t *buf);

/* The operation has succeeded. */
extern void expect_op (struct expected *e, const struct op *op);

/* May this be read there?  Else *bad is the first wrong offset, and text
 * (EXPECT_TEXT bytes) says what is wrong.
 */
extern bool expect_check (const struct expected *e, const uint8_t *buf,
                          uint64_t count, uint64_t offset, uint64_t *bad,
                          char *text);

/* May the range be said to read as zero? */
extern bool expect_zeroes (const struct expected *e, uint64_t count,
                           uint64_t offset, uint64_t *bad);

/* Copy what is expected to buf, but for bytes that are unknown. */
extern void expect_copy (const struct expected *e, uint8_t *buf,
                         uint64_t count, uint64_t offset);

/*-- nbdfsx.c -----------------------------------------------------------*/

/* What was wrong first. */
struct failure {
  bool failed;
  uint32_t sent;                /* operations of the list that were sent */
  uint64_t bad;                 /* a wrong byte, or NO_BYTE */
  char text[512];
};
#define NO_BYTE UINT64_MAX

/* Run the list and compare.  Exits with status 2 when the server is gone. */
extern void run_ops (const struct op *ops, uint32_t n, struct failure *f);

/* Something is wrong, seen by op (NULL: at the end); the first counts. */
extern void found (const struct op *op, uint64_t bad, const char *what);

/* Exit with status 2. */
extern void trouble (const char *what, const char *why)
  __attribute__ ((noreturn));

/*-- nbdfsx-server.c ----------------------------------------------------*/

#define MAX_CONNECTIONS 16
#define ALLOCATION LIBNBD_CONTEXT_BASE_ALLOCATION

struct connection {
  struct nbd_handle *nbd;
  unsigned busy;                /* operations in flight */
};

extern struct connection conns[MAX_CONNECTIONS];
extern struct geometry geometry;

/* Learn the geometry; free what begin_run keeps. */
extern void server_init (void);
extern void server_free (void);

/* How many there are: one if the export is not multi-conn safe. */
extern unsigned nr_conns (void);

/* Connect; returns what the export contains, to be freed. */
extern struct expected *begin_run (void);
extern void close_all (void);

/* Bring the export back to what it was at the first begin_run. */
extern void reset_export (void);

/* At the end of a run: what is wrong becomes a failure, which is f.  Changes
 * what is expected.
 */
extern void compare_images (struct expected *e, const struct failure *f);

/* Returns when it has succeeded. */
extern void run_command (const char *command);

/* May the operation with that number be sent?  Starts commands. */
extern bool commands_allow (uint32_t number);

/* Does no command run? */
extern bool command_ended (void);

/*-- nbdfsx-shrink.c ----------------------------------------------------*/

/* ops[n] fails: print the shortest list that does, as far as can be found in
 * opt.shrink_seconds.
 */
extern void shrink (const struct op *ops, uint32_t n);

#endif /* NBDFSX_H */
