/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the control socket share:
 *
 *   control.c    start, stop, the loop of the server's thread
 *   session.c    one client: input, output
 *   commands.c   what the commands do
 *   query.c      what the query commands answer, and those with numbers
 *   events.c     what the events say
 *   socket.c     the socket file
 *
 * Threads: the server's thread makes, runs and frees the clients.  Other
 * threads touch a client only through session_queue, under control's lock.
 * While a command of a client waits (blockdev-mirror, mirror-hold), its thread
 * owns that client's request, and nothing more is read from the client.
 *
 * Lock: control's lock is a leaf: under it nothing is called that waits or
 * locks, except for non-blocking sends.
 */

#ifndef MIRROR_CONTROL_IMPL_H
#define MIRROR_CONTROL_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "control.h"
#include "framer.h"
#include "mirror.h"
#include "params.h"
#include "qmp.h"
#include "socket.h"
#include "sync.h"

#define CONTROL_MAX_CLIENTS 64
#define CONTROL_MAX_LINES 1000  /* unsent, of one client */

struct control {
  const struct control_ops *ops;        /* constant from here ... */
  void *opaque;
  char package[128];
  struct control_socket socket;
  int wake;                             /* eventfd */
  struct mirror *mirror;                /* ... to here, once started */
  struct thread thread;
  bool started;

  struct mutex lock;                    /* protects the rest */
  bool stopping;
  bool quitting;                        /* no more events */
  struct session *sessions[CONTROL_MAX_CLIENTS]; /* changed by the thread */
  unsigned count;

  /* Events that came while the server's thread ran a command: they go out
   * after its answer.
   */
  bool holding;
  char **held;
  size_t held_count;
};

/* Make the server's thread look around.  Any thread. */
extern void control_wake (struct control *c);

/* While a command runs: keep events back; then let them go. */
extern void control_hold_events (struct control *c);
extern void control_release_events (struct control *c);

/* After quit no event is sent: whether one that the end of the job causes came
 * before the end of the connection would be chance.
 */
extern void control_end_events (struct control *c);

/*-- session.c ----------------------------------------------------------*/

/* All but session_queue: the server's thread. */
struct session;

/* Takes over fd, also on failure.  NULL when out of memory. */
extern struct session *session_new (struct control *c, int fd);
/* Waits for a command that waits. */
extern void session_free (struct session *s);

/* What to poll for: *fd may be -1.  Returns the longest time to wait, in
 * milliseconds, or -1.
 */
extern int session_poll (struct session *s, int *fd, short *events);

/* Do what can be done without waiting.  Returns false if the session is over
 * and wants to be freed.
 */
extern bool session_run (struct session *s, short revents);

/* Queue a line, which is taken over; NULL, out of memory, ends the session.
 * With control's lock held.
 */
extern void session_queue (struct session *s, char *line);
/* Is it to get events?  With control's lock held. */
extern bool session_wants_events (const struct session *s);

/*-- commands.c ---------------------------------------------------------*/

/* Every command but qmp_capabilities and those that wait.  Returns the result,
 * or NULL and *error.
 */
extern json_t *command_run (struct control *c, const struct qmp_request *req,
                            struct qmp_error *error);

/* Do the events of this one come before its answer, as QEMU's do?  Where the
 * job itself does the work they come after it.
 */
extern bool command_events_first (struct control *c,
                                  const struct qmp_request *req);

/* Is it one that may wait: for the target, or for requests in flight? */
extern bool command_waits (enum qmp_verb verb);

/* Such a one: blocks, on a thread of its own.  p: of blockdev-mirror, which
 * has been checked.
 */
extern json_t *command_wait (struct control *c,
                             const struct qmp_request *req,
                             const struct params *p, struct qmp_error *error);

/*-- arguments.c --------------------------------------------------------*/

/* Those that are there change p.  0, or -EINVAL with *error. */
extern int argument_speed (const struct qmp_request *req, uint64_t *speed,
                           struct qmp_error *error);
extern int argument_sizes (const struct qmp_request *req, struct params *p,
                           struct qmp_error *error);
/* The table has checked the words. */
extern void argument_policies (const struct qmp_request *req,
                               struct params *p);

/* 0, or -EBUSY with *error: there is a job already. */
extern int argument_no_job (struct control *c, struct qmp_error *error);

/* The parameters of the job that blockdev-mirror wants.  Returns 0, or
 * -EINVAL with *error and *p cleared.
 */
extern int command_mirror_params (struct control *c,
                                  const struct qmp_request *req,
                                  struct params *p, struct qmp_error *error);

/*-- query.c ------------------------------------------------------------*/

/* Results; NULL when out of memory. */
extern json_t *query_block_jobs (struct control *c);
extern json_t *query_jobs (struct control *c);
extern json_t *query_mirror (struct control *c);
extern json_t *answer_hold (uint64_t drain_ns, uint64_t expires_ns);
extern json_t *answer_release (uint64_t held_ns);

/* QEMU's word for it. */
extern const char *on_error_name (enum on_error on_error);

/* Also for events. */
extern json_t *first_differences (const struct mirror_verify_status *v);

/*-- events.c -----------------------------------------------------------*/

/* The line to send, or NULL when out of memory. */
extern char *event_line (const struct mirror_event *ev);

#endif /* MIRROR_CONTROL_IMPL_H */
