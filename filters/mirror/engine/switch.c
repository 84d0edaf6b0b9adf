/* SPDX-License-Identifier: BSD-3-Clause */
/* See switch.h.
 *
 * No leg can be trusted to answer in time, so the flushes with the gate held
 * are made by a thread of their own.  When it does not end in time the gate
 * is opened and the thread is left to itself; its result is not looked at,
 * and there is no other attempt before it has ended.
 */

#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cleanup.h"
#include "errtext.h"
#include "failpoint.h"
#include "switch.h"

/* What may still differ when clients are held: the copiers carry it then.
 * Under clients that trim without pause it never becomes nothing before.
 */
#define LITTLE (UINT64_C (1) << 20)

/* Nobody writes while the gate is held and drained, so that it does not matter
 * whether what is written is teed; it is not while the target is given time
 * after errors (job-regime.c).
 */
static bool
nothing_is_left (struct job *job)
{
  return reasons_none (&job->pair.reasons, false);
}

static bool
may_begin (struct job *job)
{
  const uint64_t granularity = job->pair.granularity;
  struct progress pr;

  if (nothing_is_left (job))
    return true;
  pr = job_progress (job);
  return pr.dirty + pr.claimed <= (LITTLE > granularity ? LITTLE : granularity)
    && pr.suspect == 0 && pr.unscanned == 0;
}

int
job_flush_source (struct job *job)
{
  struct source *source = job->source;
  int r;

  if (!source->can_flush)
    return 0;
  r = source_flusher_flush (job->pair.source_flusher, source);
  if (r < 0)                    /* a failure is told once */
    atomic_store (&job->m->flush_owed, true);
  return r;
}

static void
flush_main (void *vp)
{
  struct job *job = vp;
  struct pair *p = &job->pair;
  struct flush_wait w;
  struct wait wait;
  int source, target = 0;

  if (p->target->can_flush) {
    waits_begin (p->waits, &wait, WAIT_FLUSH, pair_now_ns (p));
    flusher_begin (p->flusher, &w);
    waits_change (p->waits, &wait, WAIT_SOURCE, pair_now_ns (p));
  }
  source = job_flush_source (job);
  if (p->target->can_flush) {
    waits_change (p->waits, &wait, WAIT_FLUSH, pair_now_ns (p));
    target = flusher_wait (p->flusher, &w);
    waits_end (p->waits, &wait);
  }
  /* What it was about is dirty now.  If the switch has given up meanwhile
   * nobody else says so; and the job stays as it is.
   */
  if (target < 0)
    p->work (p->opaque);

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  job->flush.source = source;
  job->flush.target = target;
  job->flush.done = true;
  cond_signal (&job->wake);
}

/* Wait for a condition of the job until the deadline.  0, -ETIMEDOUT,
 * -ENOTCONN (the session is lost) or -ECANCELED.
 */
static int
wait_locked (struct job *job, uint64_t deadline_ns)
{
  struct clock *clock = job->pair.clock;
  int r;

  if (job->cancel)
    return -ECANCELED;
  if (job->lost || !job->online)
    return -ENOTCONN;
  r = clock->wait_until (clock, &job->wake, &job->m->lock, deadline_ns);
  return r < 0 ? -ETIMEDOUT : 0;
}

/* Nobody is inside: the copiers finish. */
static int
wait_none (struct job *job, uint64_t deadline_ns)
{
  int r = 0;

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  while (r == 0 && !nothing_is_left (job))
    r = wait_locked (job, deadline_ns);
  return r;
}

static int
flush_both (struct job *job, uint64_t deadline_ns, const char **why)
{
  int r;

  job->flush.done = false;
  r = thread_start (&job->flush.thread, "mirror-flush", flush_main, job);
  if (r < 0) {
    *why = "no thread for the flushes";
    return r;
  }
  job->flush.running = true;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);

    while (r == 0 && !job->flush.done)
      r = wait_locked (job, deadline_ns);
    if (job->flush.done && r != -ECANCELED)
      r = 0;
  }
  if (r < 0) {
    *why = r == -ENOTCONN ? "the target was lost"
      : "the flushes took longer than max-pause";
    return r;
  }
  thread_join (&job->flush.thread);
  job->flush.running = false;
  if (job->flush.source < 0) {
    *why = "flushing the source failed";
    return job->flush.source;
  }
  if (job->flush.target < 0) {
    *why = "flushing the target failed";
    return job->flush.target;
  }
  return 0;
}

static void
release (struct job *job)
{
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->regime_lock);

  job_release_locked (job);
}

/* The gate is held. */
static int
halt (struct job *job, uint64_t deadline_ns, const char **why)
{
  int r = gate_drain (job->m->gate, job->pair.clock, deadline_ns);

  *why = "requests in flight have not ended within max-pause";
  if (r < 0)
    return r;
  r = wait_none (job, deadline_ns);
  if (r < 0) {
    *why = r == -ENOTCONN ? "the target was lost"
      : "what was dirty was not copied within max-pause";
    return r;
  }
  r = flush_both (job, deadline_ns, why);
  if (r < 0)
    return r;
  /* A failed flush of anybody's has made something dirty since. */
  *why = "the target was lost";
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
  if (job->cancel)
    return -ECANCELED;
  return nothing_is_left (job) && job->online && !job->lost
    ? 0 : -ENOTCONN;
}

/* Flush both legs, hold, drain, flush again.  Returns 0 with the gate held, or
 * -errno and *why, with the gate open.  *began_ns: when clients were first
 * held, or 0.  -ECANCELED: the job has been cancelled, which opens the gate.
 */
static int
all_halt (struct job *job, uint64_t *began_ns, const char **why)
{
  struct pair *p = &job->pair;
  int r;

  if (job->flush.running) {
    bool done;

    mutex_lock (&job->m->lock);
    done = job->flush.done;
    mutex_unlock (&job->m->lock);
    *why = "a flush of an earlier attempt has not ended yet";
    if (!done)
      return -EBUSY;
    switch_free (job);
  }

  /* The flushes with the gate held should have little to do. */
  r = job_flush_source (job);
  *why = "flushing the source failed";
  if (r == 0 && p->target->can_flush) {
    r = pair_flush (p, WAIT_FLUSH);
    *why = "flushing the target failed";
  }
  if (r < 0)
    return r;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->regime_lock);

    if (job->ended)
      return -ECANCELED;
    *began_ns = job_now_ns (job);
    job->held = true;
    gate_hold (job->m->gate);
    copiers_hurry (job->copiers, true);
  }
  r = halt (job, *began_ns + atomic_load (&job->max_pause_ns), why);
  if (r < 0)
    release (job);
  return r;
}

/*-- what follows -------------------------------------------------------*/

/* What has become of the clients' disk; not twice the same reason in a row. */
static void
tell_pivoted (struct mirror *m, const char *state, const char *reason,
              bool unfit)
{
  struct mirror_event ev = { .kind = EVENT_TARGET_STATE, .unfit = unfit,
                             .target_state = state, .error = reason };

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (unfit && strcmp (m->disk_reason, reason) == 0)
      return;
    snprintf (m->disk_reason, sizeof m->disk_reason, "%s",
              reason ? reason : "");
  }
  if (m->config.event)
    m->config.event (m->config.event_opaque, &ev);
}

static void
on_pivoted_changed (void *opaque, int err, bool forgot)
{
  struct mirror *m = opaque;

  if (forgot)
    job_mark_all (m);
  tell_pivoted (m, err ? "offline" : "pivoted",
                err ? error_text (-err) : NULL, false);
}

/* Is it the disk that clients had, as far as it says?  Else the reason is in
 * why.
 */
static bool
is_the_disk (const struct pivoted_facts *was, const struct target *t,
             char *why)
{
  if (was->size != 0 && t->size != was->size)
    snprintf (why, MIRROR_REASON_MAX, "its size is %" PRIu64 " bytes, not %"
              PRIu64 " any more", t->size, was->size);
  else if (t->block > was->block)
    snprintf (why, MIRROR_REASON_MAX, "its minimum block size is %" PRIu32
              ", not %" PRIu32 " any more", t->block, was->block);
  else
    return true;
  return false;
}

static int
reopen (void *opaque, const char *where, const struct pivoted_facts *was,
        const _Atomic uint64_t *timeout_ns, const _Atomic bool *stop,
        struct target **target)
{
  struct mirror *m = opaque;
  char why[MIRROR_REASON_MAX] = "";
  int r;

  if (!m->config.reopen)
    return -ENOTCONN;
  r = m->config.reopen (m->config.event_opaque, where, timeout_ns, stop,
                        target, why);
  if (r == 0 && !is_the_disk (was, *target, why)) {
    (*target)->ops->free (*target);
    *target = NULL;
    r = -EMEDIUMTYPE;
  }
  if (r == 0)
    mirror_watch (m, *target);
  else if (r == -EMEDIUMTYPE)
    tell_pivoted (m, "offline", why[0] ? why : error_text (-r), true);
  return r;
}

struct pivoted *
switch_new_disk (struct mirror *m, const struct pivoted_config *config,
                 struct target *target, int *err)
{
  struct pivoted_config c = *config;

  c.clock = m->config.clock;
  c.size = m->config.size;
  c.can_flush = m->config.told_flush;
  c.reopen = reopen;
  c.reopen_opaque = m;
  c.changed = on_pivoted_changed;
  c.opaque = m;
  return pivoted_new (&c, target, err);
}

/* Write the commit record.  Who cancels meanwhile comes too late, unless it
 * fails.  *durable: a restart will give clients the target.
 */
static int
commit (struct job *job, bool *durable, const char **why)
{
  struct mirror *m = job->m;
  struct intent_status st;
  int r;

  *durable = false;
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    *why = "the target was lost";
    if (job->cancel || job->lost || !job->online)
      return job->cancel ? -ECANCELED : -ENOTCONN;
    if (!m->intent)
      return 0;
    job->committing = true;
  }
  r = FAILPOINT ("pivot-commit");
  if (r == 0)
    r = intent_commit (m->intent, &m->ending);
  FAILPOINT ("pivot-committed");
  intent_get_status (m->intent, &st);
  *durable = r == 0 && !st.gone;
  *why = r == -ESTALE || r == -ENOENT
    ? "the intent file has been removed or replaced"
    : "the commit record could not be written to the intent file";

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);
  job->committing = false;
  if (r == -EINPROGRESS)        /* nobody may change either disk */
    atomic_fetch_or (&m->refuse, REFUSE_SHUT);
  return r;
}

/* The clients get the target.  Nobody is inside and the copiers have nothing
 * to do.  0, or -errno and *why.  Once the record is durable there is no way
 * back: if the target is lost by then the clients wait for it.
 */
static int
give_target (struct job *job, bool *durable, const char **why)
{
  struct mirror *m = job->m;
  struct target *target = job->pair.target;
  struct pivoted *p;
  const struct pivoted_config disk = {
    .where = job->where, .disk_size = target->size,
    .timeout_ns = atomic_load (&job->timeout_ns),
    .suspect_ns = job->pair.suspect_ns,
  };
  int r = 0;

  r = FAILPOINT ("pivot-before");
  *why = "told to by a failpoint";
  if (r < 0)
    return r;
  p = switch_new_disk (m, &disk, target, &r);
  *why = "out of memory or threads";
  if (!p)
    return r;
  r = commit (job, durable, why);
  if (r < 0) {
    pivoted_disown (p);
    return r;
  }

  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (!*durable && (job->cancel || job->lost || !job->online))
      r = job->cancel ? -ECANCELED : -ENOTCONN;
    else {
      job->old_source = m->pivoted;
      if (job->old_source)
        pivoted_give_up (job->old_source);
      m->pivoted = p;
      if (job->lost)
        pivoted_lost (p, target, job->lost_err);
      job->pair.target = NULL;
      job->old_target_state = "pivoted";
      job->completed = true;
    }
  }
  if (r < 0) {
    *why = "the target was lost";
    pivoted_disown (p);
    return r;
  }
  copiers_run (job->copiers, false);
  job_unpublish_locked (job);
  FAILPOINT ("pivot-after");
  return 0;
}

/* The target is a copy of this moment. */
static int
let_go (struct job *job, const char **why)
{
  struct mirror *m = job->m;
  int r;

  *why = "that could not be written to the intent file";
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    if (job->cancel)
      return -ECANCELED;
    job->committing = m->intent != NULL;
  }
  r = job_record_end (job, INTENT_DETACHED);
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->regime_lock);
  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    job->committing = false;
    if (r < 0)
      return r;
    if (job->cancel && !m->intent)
      return -ECANCELED;
    job->completed = true;
  }
  copiers_run (job->copiers, false);
  job_unpublish_locked (job);
  return 0;
}

static void
barrier_stands (struct job *job, uint64_t began_ns)
{
  struct mirror *m = job->m;
  ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

  m->hold.result = 0;
  m->hold.since_ns = began_ns;
  m->hold.drain_ns = job_now_ns (job) - began_ns;
  m->hold.until_ns = job_now_ns (job) + m->hold.timeout_ns;
  cond_broadcast (&m->hold_changed);
}

static void
failed (struct job *job, enum halt_kind kind, int err, const char *why,
        uint64_t began_ns)
{
  struct mirror *m = job->m;
  struct mirror_event ev = {
    .kind = EVENT_SWITCH_FAILED,
    .operation = kind == HALT_PIVOT ? "pivot" : "detach",
    .error = why,
    .pause_ns = began_ns == 0 ? 0 : job_now_ns (job) - began_ns,
  };

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&m->lock);

    job->wanted = HALT_NONE;
    job_run_copiers_locked (job);
    if (kind == HALT_HOLD) {
      m->hold.result = err;
      m->hold.why = why;
      cond_broadcast (&m->hold_changed);
    }
  }
  job_publish (job);            /* the mode may be background */
  if (kind != HALT_HOLD)
    job_event (job, &ev);
}

bool
switch_try (struct job *job, enum halt_kind kind)
{
  struct mirror_event ev = { .kind = EVENT_PIVOTED, .where = job->where };
  uint64_t began_ns = 0;
  const char *why = NULL;
  bool gone;
  int r = 0;

  {
    ACQUIRE_LOCK_FOR_CURRENT_SCOPE (&job->m->lock);
    gone = job->lost || !job->online || job->stopped;
    if (job->stopped)
      why = "the job has stopped because of an error";
  }
  if (gone) {
    failed (job, kind, -ENOTCONN, why ? why : "the target is offline", 0);
    return true;
  }
  job_publish (job);            /* from now on it tees */
  verifier_quiesce (job->verifier);     /* `wanted` keeps it so */
  if (!may_begin (job))
    return true;

  r = all_halt (job, &began_ns, &why);
  if (r == 0 && kind == HALT_HOLD) {
    barrier_stands (job, began_ns);
    return true;
  }
  if (r == 0) {
    r = kind == HALT_PIVOT ? give_target (job, &ev.durable, &why)
      : let_go (job, &why);
    if (r < 0)
      release (job);
  }
  if (r == -ECANCELED)
    return true;                /* the next round sees it */
  if (r < 0) {
    failed (job, kind, r, why, began_ns);
    return true;
  }
  if (kind == HALT_PIVOT) {
    ev.pause_ns = job_now_ns (job) - began_ns;
    job_event (job, &ev);
  }
  return false;
}

void
switch_free (struct job *job)
{
  if (job->flush.running)
    thread_join (&job->flush.thread);
  job->flush.running = false;
}
