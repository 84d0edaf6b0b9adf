/* SPDX-License-Identifier: BSD-3-Clause */
/* A server that misbehaves on purpose, in threads of the test. */

#ifndef TARGET_PEER_H
#define TARGET_PEER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* When to do what a server must not do. */
enum misdeed {
  BEHAVE,
  /* in the handshake */
  HANDSHAKE_SILENT,             /* say nothing */
  HANDSHAKE_GARBAGE,
  HANDSHAKE_HANG_UP,            /* at once */
  HANDSHAKE_CLOSE,              /* after the first greeting */
  HANDSHAKE_SECOND_SILENT,      /* all but the first connection */
  /* in place of the reply to request number `when` of a connection */
  REPLY_CLOSE,
  REPLY_GARBAGE,
  REPLY_WRONG_COOKIE,
  REPLY_HALF,                   /* half a header, then close */
  /* at once after the handshake */
  CLOSE_IDLE,
  STOP_READING,
  REPLY_FEW,                    /* the same; then to the first `when` only */
  READ_ONLY_NO_REPLY,           /* read all requests, never reply */
};

/* Wire numbers of the commands. */
enum peer_command {
  PEER_READ = 0, PEER_WRITE = 1, PEER_DISCONNECT = 2, PEER_FLUSH = 3,
  PEER_ZERO = 6, PEER_STATUS = 7,
};

/* How the data of a read comes. */
enum peer_chunks {
  CHUNKS_ONE,
  CHUNKS_SWAPPED,               /* the second half; the first, as a hole */
  CHUNKS_NONE,                  /* nothing, and that is all */
  CHUNKS_HALF,                  /* the first half, and that is all */
  CHUNKS_TWICE,                 /* all of it, and again */
  CHUNKS_SIMPLE,                /* there are none: a simple reply */
};

#define PEER_FUA 1
#define PEER_NO_HOLE 2

/* One command as it came. */
struct peer_seen {
  enum peer_command command;
  unsigned flags;
  uint32_t count;
  uint64_t offset;
};
#define PEER_SEEN_MAX 1024

/* A command that covers this byte is not done, but answered by an error. */
struct peer_fault {
  enum peer_command command;
  uint64_t at;
  uint32_t error;               /* wire errno; 0: close the connection */
};

/* What to say to a block status. */
struct peer_extent {
  uint32_t length, flags;
};

struct peer {
  /* set before peer_start */
  enum misdeed misdeed;
  unsigned when;
  uint64_t size;
  uint64_t second_size;         /* of all but the first connection, or 0 */
  uint32_t block_min, block_max;        /* told if any is not 0 */
  bool multi_conn, fast_zero;
  bool tcp;                     /* else a Unix socket */
  uint32_t zero_error;          /* wire errno in reply to zero requests */
  uint32_t zero_max;            /* that only for larger ones */
  uint32_t status_error;        /* ... to block status */
  enum peer_chunks chunks;
  unsigned char *disk;          /* size bytes; NULL: reads give zeroes */
  const struct peer_fault *faults;
  unsigned nr_faults;
  const struct peer_extent *extents;
  unsigned nr_extents;

  /* what it has seen */
  atomic_uint zeroes, writes;
  atomic_uint nr_seen;          /* may be more than are in `seen` */
  struct peer_seen seen[PEER_SEEN_MAX];
  atomic_ullong written;        /* bytes of payload read */
  atomic_bool go;               /* set by the test: STOP_READING ends */

  /* set by peer_start */
  char uri[128];
  void *priv;
};

extern void peer_start (struct peer *p);
extern void peer_stop (struct peer *p);

#endif /* TARGET_PEER_H */
