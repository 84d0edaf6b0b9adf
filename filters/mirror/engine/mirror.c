/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine's face; see mirror.h.
 *
 * The path of a client write:
 *
 *   mirror_pwrite      here: split, enter the gate, which says what to do
 *   request_...        tee.c: plain, track or tee
 *   intent_begin       the intent file says that it may differ
 *   rangelock, dirty   tee only: order, and clear before the first byte
 *   target->submit     the one leg, asynchronous
 *   source->pwrite     the other, in this thread
 *   flusher_acked      U
 *   pair_mark          a leg failed: dirty again
 *
 * and of what is dirty: copier.c, led by job.c.  The rules I1-I12 that all of
 * it keeps are argued in docs/correctness.md.
 */

#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "job.h"
#include "switch.h"
#include "tee.h"

int
mirror_use_intent (struct mirror *m, struct intent *intent)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  struct intent_status st;

  if (m->intent || m->job || m->starting)
    return -EBUSY;
  intent_get_status (intent, &st);
  if (st.fenced)
    atomic_fetch_or (&m->refuse, REFUSE_FENCED);
  m->left_late = !st.clean;
  m->intent = intent;
  return 0;
}

int
mirror_start_pivoted (struct mirror *m, const char *where, uint64_t size,
                      struct target *target, uint64_t timeout_ns,
                      uint64_t suspect_ns)
{
  const struct pivoted_config config = {
    .where = where, .disk_size = size, .timeout_ns = timeout_ns,
    .suspect_ns = suspect_ns, .restarted = true,
  };
  struct pivoted *p;
  int r;

  p = switch_new_disk (m, &config, target, &r);
  if (!p)
    return r;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
    m->pivoted = p;
  }
  if (target)
    mirror_watch (m, target);
  gate_publish (m->gate, REGIME_NONE, NULL, pivoted_source (p));
  return 0;
}

struct mirror *
mirror_new (const struct mirror_config *config)
{
  struct mirror *m = calloc (1, sizeof *m);

  if (!m)
    return NULL;
  m->config = *config;
  m->gate = gate_new ();
  if (!m->gate) {
    free (m);
    return NULL;
  }
  late_init (&m->late);
  mutex_init (&m->regime_lock);
  mutex_init (&m->event_lock);
  mutex_init (&m->lock);
  cond_init (&m->idle);
  cond_init (&m->hold_changed);
  return m;
}

void
mirror_free (struct mirror *m)
{
  if (!m)
    return;
  mutex_lock (&m->lock);
  m->closing = true;
  if (m->job)
    cond_signal (&m->job->wake);
  mutex_unlock (&m->lock);
  mirror_interrupt (m);
  mirror_wait_idle (m, UINT64_MAX);
  if (m->have_thread)
    thread_join (&m->thread);
  pivoted_free (m->pivoted);
  intent_free (m->intent);
  cond_destroy (&m->hold_changed);
  cond_destroy (&m->idle);
  mutex_destroy (&m->lock);
  mutex_destroy (&m->event_lock);
  mutex_destroy (&m->regime_lock);
  late_destroy (&m->late);
  gate_free (m->gate);
  free (m);
}

/*-- data ---------------------------------------------------------------*/

/* Only while there is a job: without one a request is not to be slower than
 * without the filter.
 */
static void
note_latency (const struct regime *regime, enum request_op op, uint64_t since)
{
  struct latency *l = regime->job->pair.latency;
  const uint64_t ns = job_now_ns (regime->job) - since;

  latency_record (l, LATENCY_WRITE, ns);
  if (regime->kind == REGIME_TEE && op != REQUEST_TRIM)
    latency_record (l, LATENCY_TEE, ns);
}

/* Something speaks against it: 0 or -errno. */
static int
refuse_request (struct mirror *m, unsigned refuse,
                const struct regime *regime, const struct request *req)
{
  const struct range r = { req->offset, req->offset + req->count };
  struct clock *clock = m->config.clock;

  if (refuse & REFUSE_FENCED)
    return -EPERM;
  if (refuse & REFUSE_SHUT)
    return -ESHUTDOWN;
  if ((refuse & REFUSE_RECORD) && regime->kind == REGIME_NONE)
    return intent_ask (m->intent, r, clock->now_ns (clock) +
                       atomic_load (&m->record_ns));
  return 0;
}

static int
do_request (struct mirror *m, struct source *source,
            const struct request *req)
{
  const struct regime *regime = gate_enter (m->gate);
  const unsigned refuse = atomic_load (&m->refuse);
  uint64_t since = 0;
  int r = refuse ? refuse_request (m, refuse, regime, req) : 0;

  if (r < 0) {
    gate_leave (m->gate, regime);
    return r;
  }
  if (regime->source)
    source = regime->source;
  if (regime->job)
    since = job_now_ns (regime->job);
  switch (regime->kind) {
  case REGIME_NONE:
    r = request_plain (source, req);
    if (r < 0 && !request_was_refused (req, r))
      job_source_failed (m, request_spoils (req, source, m->config.size),
                         req->flags & LEG_FUA);
    break;
  case REGIME_TRACK:
    r = request_track (&regime->job->pair, source, req);
    break;
  case REGIME_TEE:
    r = request_tee (&regime->job->pair, source, req);
    break;
  case REGIME_HELD:
    break;
  }
  if (regime->job)
    note_latency (regime, req->op, since);
  gate_leave (m->gate, regime);
  return r;
}

/* In pieces of at most `max`, cut at multiples of it so that no granule is cut
 * in two.
 */
static int
do_pieces (struct mirror *m, struct source *source, struct request req,
           uint32_t max)
{
  uint64_t end = req.offset + req.count, cut;
  const char *buf = req.buf;
  int r;

  while (req.offset < end) {
    cut = round_down_p2 (req.offset, max) + max;
    req.count = (uint32_t) ((cut < end ? cut : end) - req.offset);
    req.buf = buf;
    r = do_request (m, source, &req);
    if (r < 0)
      return r;
    /* Too late to refuse: see source_pieces. */
    req.flags &= ~(unsigned) LEG_FAST_ZERO;
    req.offset += req.count;
    if (buf)
      buf += req.count;
  }
  return 0;
}

int
mirror_pwrite (struct mirror *m, struct source *source, const void *buf,
               uint32_t count, uint64_t offset, unsigned flags)
{
  return do_pieces (m, source, (struct request) {
      .op = REQUEST_WRITE, .flags = flags & LEG_FUA, .count = count,
      .offset = offset, .buf = buf }, LEG_MAX_REQUEST);
}

int
mirror_zero (struct mirror *m, struct source *source, uint32_t count,
             uint64_t offset, unsigned flags)
{
  return do_pieces (m, source, (struct request) {
      .op = REQUEST_ZERO, .flags = flags, .count = count,
      .offset = offset }, TARGET_MAX_ZERO);
}

int
mirror_trim (struct mirror *m, struct source *source, uint32_t count,
             uint64_t offset, unsigned flags)
{
  return do_pieces (m, source, (struct request) {
      .op = REQUEST_TRIM, .flags = flags & LEG_FUA, .count = count,
      .offset = offset }, TARGET_MAX_ZERO);
}

int
mirror_pread (struct mirror *m, struct source *source, void *buf,
              uint32_t count, uint64_t offset)
{
  const struct regime *regime = gate_enter (m->gate);
  uint64_t since = regime->job ? job_now_ns (regime->job) : 0;
  char *to = buf;
  uint32_t n;
  int r = 0;

  if (!regime->source)
    r = source->ops->pread (source, buf, count, offset);
  else
    for (; r == 0 && count > 0; count -= n, to += n, offset += n) {
      n = count < LEG_MAX_REQUEST ? count : LEG_MAX_REQUEST;
      r = regime->source->ops->pread (regime->source, to, n, offset);
    }
  if (regime->job)
    latency_record (regime->job->pair.latency, LATENCY_READ,
                    job_now_ns (regime->job) - since);
  gate_leave (m->gate, regime);
  return r;
}

int
mirror_extents (struct mirror *m, int (*own) (void *opaque), struct range r,
                extent_fn *fn, void *opaque)
{
  const struct regime *regime = gate_enter (m->gate);
  int ret = regime->source
    ? regime->source->ops->extents (regime->source, r, fn, opaque)
    : own (opaque);

  gate_leave (m->gate, regime);
  return ret;
}

int
mirror_cache (struct mirror *m, int (*own) (void *opaque), void *opaque)
{
  const struct regime *regime = gate_enter (m->gate);
  int r = regime->source ? 0 : own (opaque);

  gate_leave (m->gate, regime);
  return r;
}

int
mirror_flush (struct mirror *m, struct source *source)
{
  const struct regime *regime = gate_enter (m->gate);
  int r = -EINVAL;

  if (regime->source)
    source = regime->source;
  switch (regime->kind) {
  case REGIME_NONE:
    r = source->ops->flush (source);
    if (r < 0)
      job_source_failed (m, (struct range) { 0, 0 }, true);
    break;
  case REGIME_TRACK:
    r = request_track_flush (&regime->job->pair, source);
    break;
  case REGIME_TEE:
    r = request_tee_flush (&regime->job->pair, source);
    break;
  case REGIME_HELD:
    break;
  }
  if (r == 0 && atomic_exchange (&m->flush_owed, false))
    r = -EIO;
  gate_leave (m->gate, regime);
  return r;
}

/*-- the job ------------------------------------------------------------*/

/* The thread of the job before has said that it is done; it is leaving. */
static void
join_old_thread (struct mirror *m)
{
  struct thread old;
  bool have;

  mutex_lock (&m->lock);
  /* A job that is said to be gone is gone very soon. */
  while (m->job && m->job->status == JOB_NULL)
    cond_wait (&m->idle, &m->lock);
  have = m->have_thread && !m->job;
  old = m->thread;
  if (have)
    m->have_thread = false;
  mutex_unlock (&m->lock);
  if (have)
    thread_join (&old);
}

/* One start at a time: 0 or -EBUSY. */
static int
begin_start (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  if (m->closing)
    return -ESHUTDOWN;
  if (m->job || m->have_thread || m->starting)
    return -EBUSY;
  m->starting = true;
  return 0;
}

static struct source *
current_source (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  return m->pivoted ? pivoted_source (m->pivoted) : NULL;
}

/* Without a job. */
static void
open_gate (struct mirror *m)
{
  gate_publish (m->gate, REGIME_NONE, NULL, current_source (m));
}

/* Who takes the target to be identical must not miss a write: what is in
 * flight has ended, and nothing enters, before requests are tracked (rule
 * I6).  Returns with the gate held, or open and -ETIMEDOUT.
 */
static int
hold_and_drain (struct mirror *m, uint64_t max_pause_ns)
{
  struct clock *clock = m->config.clock;
  int r;

  gate_hold (m->gate);
  r = gate_drain (m->gate, clock, clock->now_ns (clock) + max_pause_ns);
  if (r < 0)
    open_gate (m);
  return r;
}

/* A session has ended: that of the job's target, or after a pivot that of the
 * clients' disk.
 */
static void
on_lost (void *opaque, struct target *t, int err)
{
  struct mirror *m = opaque;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  if (m->job && m->job->pair.target == t)
    job_lost_locked (m->job, err);
  else if (m->pivoted)
    pivoted_lost (m->pivoted, t, err);
}

void
mirror_watch (struct mirror *m, struct target *target)
{
  target->lost_opaque = m;
  target->lost = on_lost;
}

/* Make the job the mirror's; from here on requests see it. */
static int
install (struct mirror *m, struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  int r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    r = thread_start (&m->thread, "mirror-job", job_main, job);
    if (r < 0)
      return r;
    m->have_thread = true;
    m->job = job;

    /* A session that ended before this is noticed by the first request. */
    if (job->pair.target)
      mirror_watch (m, job->pair.target);
  }
  job_publish_locked (job);
  return 0;
}

static void
end_start (struct mirror *m)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  m->starting = false;
}

/* Before anything is known of the difference the file says: everything.  A file
 * that can be neither written nor removed is not to be used (-EIO).
 */
static int
record_start (struct mirror *m, const struct job_params *params,
              const struct target *target)
{
  int r;

  if (!m->intent)
    return 0;
  if (params->sync == SYNC_INCREMENTAL)
    return intent_resume (m->intent);
  r = intent_start (m->intent, params->identity ? params->identity : "",
                    target ? target->size : 0, params->granularity);
  if (r == 0)
    atomic_fetch_and (&m->refuse, ~(unsigned) REFUSE_RECORD);
  return r;
}

/* 0: the job is the mirror's, and there are its threads. */
static int
begin_job (struct mirror *m, const struct job_params *params, struct job *job)
{
  const bool drain = params->sync != SYNC_FULL;
  int r = job_session_start (job);

  if (r == 0 && drain)
    r = hold_and_drain (m, params->max_pause_ns);
  if (r == 0 && params->sync == SYNC_NONE)
    job_take_over_source (job);
  if (r == 0) {
    r = install (m, job);
    if (r < 0 && drain)
      open_gate (m);
  }
  if (r < 0) {
    atomic_store (&job->stop, true);
    job->session.fresh = NULL;  /* it has not been taken over */
    job_session_stop (job);
  }
  return r;
}

int
mirror_start (struct mirror *m, const struct job_params *params,
              struct source *source, struct target *target)
{
  enum intent_state before = INTENT_IDLE;
  struct job *job;
  int r;

  assert (is_power_of_2 (params->granularity) &&
          params->granularity >= MIRROR_MIN_GRANULARITY &&
          params->granularity <= MIRROR_MAX_GRANULARITY &&
          params->buf_size >= params->granularity);
  assert (!target || (params->granularity >= target->block &&
                      target->size >= m->config.size));

  join_old_thread (m);
  r = begin_start (m);
  if (r < 0)
    return r;
  /* From here on nobody can move the clients to another disk. */
  if (current_source (m))
    source = current_source (m);
  if (m->intent)
    before = intent_state (m->intent);
  if (before == INTENT_RUNNING)
    before = INTENT_FAILED;
  job = job_new (m, params, source, target, &r);
  if (job)
    r = record_start (m, params, target);
  if (job && r == 0) {
    r = begin_job (m, params, job);
    if (r < 0 && m->intent && params->sync != SYNC_INCREMENTAL)
      intent_finish (m->intent, before);
  }
  end_start (m);
  if (r < 0) {
    job_free (job);
    return r;
  }

  job_set_status (job, JOB_CREATED);
  job_set_status (job, JOB_RUNNING);
  job_tell_target (job);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  job->go = true;
  cond_signal (&job->session.wake);
  cond_signal (&job->wake);
  return 0;
}

int
mirror_wait_idle (struct mirror *m, uint64_t deadline_ns)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  int r;

  while (m->job) {
    if (deadline_ns == UINT64_MAX)
      cond_wait (&m->idle, &m->lock);
    else {
      r = m->config.clock->wait_until (m->config.clock, &m->idle, &m->lock,
                                       deadline_ns);
      if (r < 0 && m->job)
        return r;
    }
  }
  return 0;
}
