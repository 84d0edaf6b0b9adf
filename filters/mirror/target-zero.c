/* SPDX-License-Identifier: BSD-3-Clause */
/* Zero requests to the target, by the best method that the server takes.
 *
 *   ZERO_WHOLE     one command, up to 64 MiB.  The protocol limits the size of
 *                  payloads only, and a zero request has none.
 *   ZERO_IN_PARTS  commands of at most 32 MiB, or of the server's maximum
 *                  where that is less: there are servers that apply their
 *                  maximum, or some limit of their own, to zeroes, too.
 *   ZERO_AS_DATA   zeroes are written.
 *
 * A server can only be asked by trying.  One that refuses the whole, in a way
 * that is not about the state of its disk, gets parts from then on; one that
 * says that it cannot zero gets data from then on; and one that refuses a
 * part gets data for that part, since another range may be accepted (a
 * misaligned one, or one past the end of a backing file, say).
 *
 * The parts and data of a request go out in windows, the next when all of the
 * last has been answered.  So a large request neither queues as many bytes
 * nor is all of it sent to a server whose disk is full.  The first window is
 * sent by submit, the others by wait.
 *
 * A fast zero that the server does not support, by that word, has changed
 * nothing, and is not tried in another way.  What else it does not like may
 * have been done in part (EINVAL is what servers say for errors that the
 * protocol does not have), so then it is a slow one.  If that is not supported
 * in any way, data included, it has failed: -ENOTSUP would promise that nothing
 * has changed.
 *
 * PRIV_ZERO has the method and the window that is under way.
 */

#include <config.h>

#include <errno.h>

#include "target-private.h"

#define WINDOW (UINT32_C (32) << 20)

/* Send window number `window` of req by that method. */
static void
issue (struct target_session *s, struct conn *c, struct target_req *req,
       enum zero_method method, uint32_t window)
{
  struct share share = { window * WINDOW, WINDOW, TARGET_ZEROES };
  uint32_t flags = target_fua_flag (s, req);
  enum wire_op op = WIRE_WRITE;

  if (method != ZERO_AS_DATA) {
    op = WIRE_ZERO;
    if (!(req->flags & LEG_MAY_TRIM))
      flags |= LIBNBD_CMD_FLAG_NO_HOLE;
    if (req->flags & LEG_FAST_ZERO)
      flags |= LIBNBD_CMD_FLAG_FAST_ZERO;
    share.max = method == ZERO_WHOLE ? req->count : WINDOW;
  }
  if (method != ZERO_WHOLE)
    share.max = min_u32 (share.max, s->max_payload);
  share.count = req->count - share.from;
  if (method != ZERO_WHOLE)
    share.count = min_u32 (share.count, WINDOW);
  req_set_number (req, PRIV_ZERO, (uintptr_t) window << 2 | method);
  target_issue (c, req, op, NULL, share, flags);
}

void
target_zero_submit (struct target_session *s, struct conn *c,
                    struct target_req *req)
{
  enum zero_method method = s->target.can_zero
    ? atomic_load (&s->zero_method) : ZERO_AS_DATA;

  if (req->flags & LEG_FAST_ZERO)
    method = ZERO_WHOLE;
  issue (s, c, req, method, 0);
}

/* Other requests begin with this method, or a worse one. */
static void
remember (struct target_session *s, enum zero_method method)
{
  unsigned old = atomic_load (&s->zero_method);

  while (old < method
         && !atomic_compare_exchange_weak (&s->zero_method, &old, method))
    ;
}

static bool
unsupported (int result)
{
  return result == -ENOTSUP || result == -EOPNOTSUPP;
}

/* Is that the answer of a server that does not like the request? */
static bool
refused (int result)
{
  return result == -EINVAL || result == -EOVERFLOW || unsupported (result);
}

/* After `method` has been refused: what else? */
static enum zero_method
worse_method (struct target_session *s, const struct target_req *req,
              enum zero_method method)
{
  if (method == ZERO_WHOLE && req->count > min_u32 (WINDOW, s->max_payload)) {
    remember (s, ZERO_IN_PARTS);
    return ZERO_IN_PARTS;
  }
  if (unsupported (req->result))
    remember (s, ZERO_AS_DATA);
  return ZERO_AS_DATA;
}

int
target_zero_wait (struct target_session *s, struct target_req *req)
{
  enum zero_method method;
  uint32_t window;

  for (;;) {
    conn_wait (req);
    /* Also of a request that was never sent and has no method. */
    if (req->result < 0 && !refused (req->result))
      return req->result;
    if (req->result < 0 && (req->flags & LEG_FAST_ZERO)) {
      if (unsupported (req->result))
        return -ENOTSUP;
      req->flags &= ~(unsigned) LEG_FAST_ZERO;
    }
    method = req_number (req, PRIV_ZERO) & 3;
    window = (uint32_t) (req_number (req, PRIV_ZERO) >> 2);
    if (req->result == 0) {
      window++;
      if (method == ZERO_WHOLE || window * WINDOW >= req->count)
        return 0;
    }
    else if (method == ZERO_AS_DATA)
      return unsupported (req->result) ? -EIO : req->result;
    else
      method = worse_method (s, req, method);
    issue (s, req_conn (req), req, method, window);
  }
}
