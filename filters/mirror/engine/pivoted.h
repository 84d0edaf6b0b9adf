/* SPDX-License-Identifier: BSD-3-Clause */
/* The clients' disk after a pivot: the target of the mirror that has ended,
 * as a source (rule I12).
 *
 * From the pivot on it is a plain disk: nothing is tracked any more, and what
 * it does is what clients get.  What it lacks of what clients were told is
 * emulated: FUA by a flush, zeroes by data (the target leg does that), fast
 * zero by refusing, trim by a zero that may leave a hole or by nothing, blocks
 * by the target leg's read-modify-write under a range lock here.
 *
 * If its session is lost it is opened again, for ever.  Meanwhile requests
 * wait for it, at most `timeout_ns`, and fail with -EIO after that.  A write
 * that was under way fails at once: nobody knows what has become of it, and to
 * send it again while the old one may still arrive would be worse; where it
 * would also undo what others write to the same block, these wait for as long as
 * that may be.  A read is sent again, and so is a flush.  If anything was not
 * flushed when the session was lost, the next flush or FUA fails, since it cannot
 * promise what it should.
 *
 * A session counts as lost, too, when a request has had no reply for
 * `timeout_ns`; a flush may take ten times as long, since the server may have
 * a lot to write.
 *
 * Thread-safe.
 */

#ifndef MIRROR_PIVOTED_H
#define MIRROR_PIVOTED_H

#include <stdbool.h>
#include <stdint.h>

#include "legs.h"
#include "sync.h"

struct pivoted;

/* What the disk was like; another one that answers in its place is refused. */
struct pivoted_facts {
  uint64_t size;                /* of the export, bytes; 0: not known */
  uint32_t block;               /* the least it takes, at most */
};

struct pivoted_config {
  struct clock *clock;
  uint64_t size;                /* of the disk, at most the target's; bytes */
  uint64_t timeout_ns;          /* how long a request waits for a session,
                                 * and then for its reply */
  uint64_t suspect_ns;          /* how long a request without a reply may still
                                 * be carried out */
  bool restarted;               /* another process has used it before */
  bool can_flush;               /* what is taken for granted without one */
  uint64_t disk_size;           /* ... and the export's size; 0: any */

  /* Connect to the same export again, which is as *was; started, ready for
   * requests.  Returns 0 and *target, or -errno.  May block for *timeout_ns.
   * NULL: impossible.
   */
  int (*reopen) (void *opaque, const char *where,
                 const struct pivoted_facts *was,
                 const _Atomic uint64_t *timeout_ns,
                 const _Atomic bool *stop, struct target **target);
  void *reopen_opaque;
  const char *where;            /* for reopen; copied; may be NULL */

  /* The session was lost (err: -errno) or is back (0).  forgot: something that
   * was acknowledged may be gone.  No locks held.
   */
  void (*changed) (void *opaque, int err, bool forgot);
  void *opaque;
};

/* target NULL: it is connected to by reopen.  Takes over target, whose `lost`
 * is to call pivoted_lost from now on.  Returns NULL and *err = -ENOMEM or
 * -EAGAIN; then target is the caller's.
 */
extern struct pivoted *pivoted_new (const struct pivoted_config *config,
                                    struct target *target, int *err);

/* No request may be in progress.  Accepts NULL. */
extern void pivoted_free (struct pivoted *p);

/* Free it but for the target, which is the caller's again.  Nobody has used
 * it.
 */
extern void pivoted_disown (struct pivoted *p);

extern struct source *pivoted_source (struct pivoted *p);

/* If t is its target: the session has ended.  Blocks for no I/O. */
extern void pivoted_lost (struct pivoted *p, struct target *t, int err);

/* Is there a session?  What its target is like, but for the last two members,
 * is then in *facts.
 */
extern bool pivoted_online (struct pivoted *p, struct target *facts);

/* How often its connection has been made again. */
extern uint64_t pivoted_reconnects (struct pivoted *p);

/* Requests that wait, and new ones while there is no session, fail at once
 * from now on, and a lost session is not opened again: the end of the process
 * must not wait for them, and what clients have been moved on from is not
 * needed.  Those that wait for a reply may do so for one more time-out, flushes,
 * too.
 */
extern void pivoted_give_up (struct pivoted *p);

#endif /* MIRROR_PIVOTED_H */
