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
  READ_ONLY_NO_REPLY,           /* read all requests, never reply */
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
  bool multi_conn;
  uint32_t zero_error;          /* wire errno in reply to zero requests */
  uint32_t status_error;        /* ... to block status */
  const struct peer_extent *extents;
  unsigned nr_extents;

  /* what it has seen */
  atomic_uint zeroes, writes;
  atomic_ullong written;        /* bytes of payload read */
  atomic_bool go;               /* set by the test: STOP_READING ends */

  /* set by peer_start */
  char uri[128];
  void *priv;
};

extern void peer_start (struct peer *p);
extern void peer_stop (struct peer *p);

#endif /* TARGET_PEER_H */
