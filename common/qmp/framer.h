/* SPDX-License-Identifier: BSD-3-Clause */
/* Cuts a stream of bytes into JSON values, as QMP wants them.
 *
 * QMP has no message boundaries: a value ends with its last bracket, with or
 * without a newline after it, and arrives in pieces of any size.  The framer
 * looks at brackets, quotes and forbidden bytes only; whether the text is
 * JSON is for the parser to say.
 *
 * As QEMU does, it accepts strings in single quotes: they come out in double
 * quotes, so that any JSON parser takes them.
 *
 * Input that can never become a value is reported once, and then thrown away
 * up to a place where a value may begin again (see framer.c).
 *
 * Not thread-safe.  Does no I/O.
 */

#ifndef MIRROR_FRAMER_H
#define MIRROR_FRAMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAMER_MAX_BYTES 65536u /* of one value, as sent */
#define FRAMER_MAX_DEPTH 64u    /* brackets open at once */
#define FRAMER_ERROR_MAX 128

enum framer_result {
  FRAMER_MORE,                  /* all bytes are used up */
  FRAMER_VALUE,                 /* text is one value, NUL-terminated */
  FRAMER_ERROR,                 /* error says what; go on feeding */
  FRAMER_FATAL,                 /* error says what; close the connection */
};

struct framer {
  /* Valid until the next call. */
  char *text;
  size_t length;
  char error[FRAMER_ERROR_MAX]; /* ASCII */

  /* Private. */
  int state;
  size_t allocated;
  size_t raw;                   /* bytes of this value, as sent */
  unsigned depth;               /* brackets open */
  uint64_t brackets;            /* one bit for each of them: 1 is [ */
  char quote;                   /* in a string: how it began; else 0 */
  bool escaped;                 /* the byte before was a backslash */
};

extern void framer_init (struct framer *f);
extern void framer_clear (struct framer *f);

/* Take bytes up to the end of the next value or error.  *used: how many were
 * taken (all of them with FRAMER_MORE).  After FRAMER_FATAL: framer_clear.
 */
extern enum framer_result framer_feed (struct framer *f, const char *bytes,
                                       size_t count, size_t *used);

/* All that the sender has sent so far has been fed.  Ends the throwing away
 * of malformed input.
 */
extern void framer_pause (struct framer *f);

/* Is it in the middle of a bare word or number, whose end cannot be seen
 * before another byte comes?  No such value is a valid request, so there is
 * no harm in not waiting for ever: framer_end_word reports it.
 */
extern bool framer_in_word (const struct framer *f);
extern enum framer_result framer_end_word (struct framer *f);

/* The parser did not like the last value: throw away what follows it. */
extern void framer_reject (struct framer *f);

#endif /* MIRROR_FRAMER_H */
