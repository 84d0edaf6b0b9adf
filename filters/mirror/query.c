/* SPDX-License-Identifier: BSD-3-Clause */
/* What the query commands answer, and the others that answer something.
 *
 * The fields are in tables, one line each: FIELD (name, value), and
 * FIELD_IF (condition, name, value) for what may be missing.
 * scripts/check-docs reads these lines and compares them with the manual page:
 * the comment above a table says what it is there.
 */

#include <config.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "control-impl.h"
#include "errtext.h"

/* In a table: st is the status, c the control.  A value that cannot be made
 * (NULL) makes the whole answer fail.
 */
#define FIELD(name, value)                      \
  failed |= json_object_set_new (object, name, value) < 0;
#define FIELD_IF(condition, name, value)        \
  if (condition)                                \
    FIELD (name, value)

#define NUMBER(n) json_integer ((json_int_t) (n))
#define TRUTH(b) json_boolean (b)
#define TEXT(s) qmp_string (s)

static json_t *
finish (json_t *object, bool failed)
{
  if (!failed)
    return object;
  json_decref (object);
  return NULL;
}

static const char *
copy_mode_name (enum copy_mode mode)
{
  switch (mode) {
  case COPY_BACKGROUND: return "background";
  case COPY_WRITE_BLOCKING: return "write-blocking";
  case COPY_AUTO: return "auto";
  }
  return "?";
}

static const char *
sync_mode_name (enum sync_mode sync)
{
  switch (sync) {
  case SYNC_FULL: return "full";
  case SYNC_NONE: return "none";
  case SYNC_INCREMENTAL: return "incremental";
  }
  return "?";
}

const char *
on_error_name (enum on_error on_error)
{
  switch (on_error) {
  case ON_ERROR_IGNORE: return "ignore";
  case ON_ERROR_REPORT: return "report";
  case ON_ERROR_ENOSPC: return "enospc";
  case ON_ERROR_STOP: return "stop";
  }
  return "?";
}

static const char *
io_status_name (enum io_status status)
{
  switch (status) {
  case IO_OK: return "ok";
  case IO_FAILED: return "failed";
  case IO_NOSPACE: return "nospace";
  }
  return "?";
}

static json_t *
list_of (json_t *object)
{
  json_t *list = json_array ();

  if (json_array_append_new (list, object) == 0)
    return list;
  json_decref (list);
  return NULL;
}

/*-- query-jobs, query-block-jobs ---------------------------------------*/

/* query-jobs */
#define QUERY_JOBS                                              \
  FIELD ("id", TEXT (st->id))                                   \
  FIELD ("type", TEXT ("mirror"))                               \
  FIELD ("status", TEXT (job_status_name (st->status)))         \
  FIELD ("current-progress", NUMBER (st->offset))               \
  FIELD ("total-progress", NUMBER (st->len))                    \
  FIELD_IF (st->error[0], "error", TEXT (st->error))

/* query-block-jobs */
#define QUERY_BLOCK_JOBS                                        \
  FIELD ("type", TEXT ("mirror"))                               \
  FIELD ("device", TEXT (st->id))                               \
  FIELD ("len", NUMBER (st->len))                               \
  FIELD ("offset", NUMBER (st->offset))                         \
  FIELD ("busy", TRUTH (st->busy))                              \
  FIELD ("paused", TRUTH (is_paused (st)))                      \
  FIELD ("speed", NUMBER (st->speed))                           \
  FIELD ("io-status", TEXT (io_status_name (st->io_status)))    \
  FIELD ("ready", TRUTH (is_ready (st)))                        \
  FIELD ("status", TEXT (job_status_name (st->status)))         \
  FIELD ("auto-finalize", TRUTH (true))                         \
  FIELD ("auto-dismiss", TRUTH (st->auto_dismiss))              \
  FIELD ("actively-synced", TRUTH (st->synced))                 \
  FIELD_IF (st->error[0], "error", TEXT (st->error))

static bool
is_paused (const struct mirror_status *st)
{
  return st->status == JOB_PAUSED || st->status == JOB_STANDBY;
}

/* Not any more when it is ending. */
static bool
is_ready (const struct mirror_status *st)
{
  return st->status == JOB_READY || st->status == JOB_STANDBY;
}

json_t *
query_jobs (struct control *c)
{
  struct mirror_status status, *st = &status;
  json_t *object;
  bool failed = false;

  mirror_get_status (c->mirror, st);
  if (!st->have_job)
    return json_array ();
  object = json_object ();
  QUERY_JOBS
  return list_of (finish (object, failed));
}

json_t *
query_block_jobs (struct control *c)
{
  struct mirror_status status, *st = &status;
  json_t *object;
  bool failed = false;

  mirror_get_status (c->mirror, st);
  if (!st->have_job)
    return json_array ();
  object = json_object ();
  QUERY_BLOCK_JOBS
  return list_of (finish (object, failed));
}

/*-- query-mirror -------------------------------------------------------*/

/* query-mirror, job */
#define MIRROR_JOB                                                      \
  FIELD ("id", TEXT (st->id))                                           \
  FIELD ("status", TEXT (job_status_name (st->status)))                 \
  FIELD ("ready", TRUTH (is_ready (st)))                                \
  FIELD ("actively-synced", TRUTH (st->synced))                         \
  FIELD ("copy-mode", TEXT (copy_mode_name (st->copy_mode)))            \
  FIELD ("teeing", TRUTH (st->teeing))                                  \
  FIELD ("sync", TEXT (sync_mode_name (st->sync)))                      \
  FIELD ("speed", NUMBER (st->speed))                                   \
  FIELD ("granularity", NUMBER (st->granularity))                       \
  FIELD ("buf-size", NUMBER (st->buf_size))                             \
  FIELD ("on-source-error", TEXT (on_error_name (st->on_source_error))) \
  FIELD ("on-target-error", TEXT (on_error_name (st->on_target_error))) \
  FIELD ("io-status", TEXT (io_status_name (st->io_status)))            \
  FIELD ("auto-dismiss", TRUTH (st->auto_dismiss))                      \
  FIELD ("len", NUMBER (st->len))                                       \
  FIELD ("offset", NUMBER (st->offset))                                 \
  FIELD ("error", st->error[0] ? TEXT (st->error) : json_null ())

/* query-mirror, last-job */
#define MIRROR_LAST_JOB                                                 \
  FIELD ("id", TEXT (st->last_job.id))                                  \
  FIELD ("status", TEXT (job_status_name (JOB_NULL)))                   \
  FIELD ("end", TEXT (how_it_ended (st)))                               \
  FIELD ("error", last_job_error (st))                                  \
  FIELD ("len", NUMBER (st->last_job.len))                              \
  FIELD ("offset", NUMBER (st->last_job.offset))                        \
  FIELD ("time", NUMBER (st->last_job.when))

/* query-mirror, source */
#define MIRROR_SOURCE                                                   \
  FIELD ("size", NUMBER (c->ops->source_size (c->opaque)))              \
  FIELD ("flush", TRUTH (flags & SOURCE_FLUSH))                         \
  FIELD ("fua", TRUTH (flags & SOURCE_FUA))                             \
  FIELD ("trim", TRUTH (flags & SOURCE_TRIM))                           \
  FIELD ("zero", TRUTH (flags & SOURCE_ZERO))                           \
  FIELD ("fast-zero", TRUTH (flags & SOURCE_FAST_ZERO))                 \
  FIELD ("extents", TRUTH (flags & SOURCE_EXTENTS))                     \
  FIELD ("multi-conn", TRUTH (flags & SOURCE_MULTI_CONN))

/* query-mirror, target */
#define MIRROR_TARGET                                                   \
  FIELD ("state", TEXT (target_state (st)))                             \
  FIELD ("uri", target_uri (c, st))                                     \
  FIELD ("reason", st->target_reason[0] ? TEXT (st->target_reason)      \
         : json_null ())                                                \
  FIELD ("reconnects", NUMBER (st->reconnects))                         \
  FIELD_IF (knows_target (st), "size", NUMBER (st->target_size))        \
  FIELD_IF (knows_target (st), "minimum-block-size",                    \
            NUMBER (st->target_block))                                  \
  FIELD_IF (knows_preferred (st), "preferred-block-size",               \
            NUMBER (st->target_preferred))                              \
  FIELD_IF (knows_maximum (st), "maximum-block-size",                   \
            NUMBER (st->target_max))                                    \
  FIELD_IF (knows_target (st), "connections", NUMBER (st->connections)) \
  FIELD_IF (knows_target (st), "flush", TRUTH (st->target_flush))       \
  FIELD_IF (knows_target (st), "fua", TRUTH (st->target_fua))           \
  FIELD_IF (knows_target (st), "trim", TRUTH (st->target_trim))         \
  FIELD_IF (knows_target (st), "zero", TRUTH (st->target_zero))         \
  FIELD_IF (knows_target (st), "fast-zero",                             \
            TRUTH (st->target_fast_zero))                               \
  FIELD_IF (knows_target (st), "extents", TRUTH (st->target_extents))   \
  FIELD_IF (knows_target (st), "multi-conn",                            \
            TRUTH (st->target_multi_conn))

/* query-mirror, disk */
#define MIRROR_DISK                                                     \
  FIELD ("uri", disk_uri (c))                                           \
  FIELD ("state", TEXT (st->pivoted_online ? "online" : "offline"))     \
  FIELD ("reason", st->disk_reason[0] ? TEXT (st->disk_reason)          \
         : json_null ())                                                \
  FIELD ("reconnects", NUMBER (st->disk_reconnects))

/* query-mirror, bitmap */
#define MIRROR_BITMAP                                                   \
  FIELD ("file", bitmap_file (c))                                       \
  FIELD ("state", TEXT (bitmap_state (st)))                             \
  FIELD ("dirty-bytes", NUMBER (st->intent.bytes))

/* query-mirror, last-error */
#define MIRROR_LAST_ERROR                                               \
  FIELD ("side", TEXT (e->target ? "target" : "source"))                \
  FIELD ("op", TEXT (e->op))                                            \
  FIELD ("offset", NUMBER (e->range.start))                             \
  FIELD ("length", NUMBER (e->range.end - e->range.start))              \
  FIELD ("errno", NUMBER (e->err))                                      \
  FIELD ("text", TEXT (error_text (e->err)))                              \
  FIELD ("time", NUMBER (e->when))

/* query-mirror, a histogram */
#define HISTOGRAM                                                       \
  FIELD ("buckets-us", limits)                                          \
  FIELD ("counts", counts)                                              \
  FIELD ("sum-us", NUMBER (h->sum_ns / 1000))

/* query-mirror, latency */
#define MIRROR_LATENCY                                                  \
  FIELD ("read", histogram (&report->latency[LATENCY_READ]))            \
  FIELD ("write", histogram (&report->latency[LATENCY_WRITE]))          \
  FIELD ("tee", histogram (&report->latency[LATENCY_TEE]))              \
  FIELD ("copy", histogram (&report->latency[LATENCY_COPY]))

/* query-mirror, verify */
#define MIRROR_VERIFY                                                   \
  FIELD ("running", TRUTH (v->running))                                 \
  FIELD ("repair", TRUTH (v->repair))                                   \
  FIELD ("speed", NUMBER (v->speed))                                    \
  FIELD ("bytes", NUMBER (v->bytes))                                    \
  FIELD ("left-bytes", NUMBER (v->left))                                \
  FIELD ("differences", NUMBER (v->differences))                        \
  FIELD ("first-differences", first_differences (v))                    \
  FIELD ("error", v->error[0] ? TEXT (v->error) : json_null ())

/* query-mirror */
#define QUERY_MIRROR                                                    \
  FIELD ("job", st->have_job ? mirror_job (st) : json_null ())          \
  FIELD ("last-job", st->last_job.set ? last_job (st) : json_null ())   \
  FIELD ("source", mirror_source (c))                                   \
  FIELD ("target", mirror_target (c, st))                               \
  FIELD ("disk", st->pivoted ? mirror_disk (c, st) : json_null ())      \
  FIELD ("clients", NUMBER (c->ops->clients (c->opaque)))               \
  FIELD ("held", TRUTH (st->held))                                      \
  FIELD ("fenced", TRUTH (st->fenced))                                  \
  FIELD ("pivoted", TRUTH (st->pivoted))                                \
  FIELD ("dirty-bytes", NUMBER (st->dirty_bytes))                       \
  FIELD ("inflight-bytes", NUMBER (st->inflight_bytes))                 \
  FIELD ("unscanned-bytes", NUMBER (st->unscanned_bytes))               \
  FIELD ("suspect-bytes", NUMBER (st->suspect_bytes))                   \
  FIELD ("copied-bytes", NUMBER (st->counters.copied_bytes))            \
  FIELD ("zeroed-bytes", NUMBER (st->counters.zeroed_bytes))            \
  FIELD ("teed-bytes", NUMBER (st->counters.teed_bytes))                \
  FIELD ("tracked-bytes", NUMBER (st->counters.tracked_bytes))          \
  FIELD ("skipped-bytes", NUMBER (st->counters.skipped_bytes))          \
  FIELD ("target-waits", NUMBER (st->counters.target_waits))            \
  FIELD ("target-errors", NUMBER (st->counters.target_errors))          \
  FIELD ("source-errors", NUMBER (st->counters.source_errors))          \
  FIELD ("target-flushes", NUMBER (st->counters.target_flushes))        \
  FIELD ("dirty-bytes-per-second", NUMBER (report->rates.dirtied))      \
  FIELD ("copy-bytes-per-second", NUMBER (report->rates.copied))        \
  FIELD ("eta-seconds", seconds_or_null (report->eta))                  \
  FIELD ("convergence", TEXT (verdict_name (report->verdict)))          \
  FIELD ("latency", mirror_latency (report))                            \
  FIELD ("last-error", last_error (&st->last_error))                    \
  FIELD ("bitmap", bitmap (c, st))                                      \
  FIELD ("verify", verify (&st->verify))

static json_t *
mirror_job (const struct mirror_status *st)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_JOB
  return finish (object, failed);
}

static const char *
how_it_ended (const struct mirror_status *st)
{
  if (st->last_job.cancelled)
    return "cancelled";
  return st->last_job.error[0] ? "failed" : "completed";
}

static json_t *
last_job_error (const struct mirror_status *st)
{
  return st->last_job.error[0] ? TEXT (st->last_job.error) : json_null ();
}

static json_t *
last_job (const struct mirror_status *st)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_LAST_JOB
  return finish (object, failed);
}

static json_t *
mirror_source (struct control *c)
{
  const unsigned flags = c->ops->source_flags (c->opaque);
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_SOURCE
  return finish (object, failed);
}

/* A job that ends, and one that has given its target to the clients, have
 * none.
 */
static bool
has_target (const struct mirror_status *st)
{
  return st->have_job && st->status <= JOB_STANDBY;
}

/* The first connection has been made; or the clients' disk is there. */
static bool
knows_target (const struct mirror_status *st)
{
  return (has_target (st) || st->pivoted) && st->connections > 0;
}

static bool
knows_preferred (const struct mirror_status *st)
{
  return knows_target (st) && st->target_preferred > 0;
}

static bool
knows_maximum (const struct mirror_status *st)
{
  return knows_target (st) && st->target_max > 0;
}

static const char *
target_state (const struct mirror_status *st)
{
  if (has_target (st)) {
    if (st->target_online)
      return "online";
    return st->target_connecting ? "connecting" : "offline";
  }
  if (st->pivoted)
    return st->pivoted_online ? "pivoted" : "offline";
  return "none";
}

/* Of what the state is told of.  Who believes it may delete another disk: a
 * mirror from the clients' disk to a third one that has ended must not hide
 * where their disk is.
 */
static json_t *
target_uri (struct control *c, const struct mirror_status *st)
{
  CLEANUP_FREE char *uri = !has_target (st) && st->pivoted
    ? c->ops->disk_uri (c->opaque) : c->ops->target_uri (c->opaque);

  if (uri == NULL)
    return NULL;
  return uri[0] ? TEXT (uri) : json_null ();
}

static json_t *
disk_uri (struct control *c)
{
  CLEANUP_FREE char *uri = c->ops->disk_uri (c->opaque);

  return uri ? TEXT (uri) : NULL;
}

static json_t *
mirror_disk (struct control *c, const struct mirror_status *st)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_DISK
  return finish (object, failed);
}

static json_t *
mirror_target (struct control *c, const struct mirror_status *st)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_TARGET
  return finish (object, failed);
}

static json_t *
bitmap_file (struct control *c)
{
  CLEANUP_FREE char *file = c->ops->bitmap_file (c->opaque);

  return file ? TEXT (file) : NULL;
}

static const char *
bitmap_state (const struct mirror_status *st)
{
  return st->intent.lost ? "lost" : intent_state_names[st->intent.state];
}

static json_t *
bitmap (struct control *c, const struct mirror_status *st)
{
  json_t *object;
  bool failed = false;

  if (!st->have_intent)
    return json_null ();
  object = json_object ();
  MIRROR_BITMAP
  return finish (object, failed);
}

static json_t *
seconds_or_null (int64_t seconds)
{
  return seconds < 0 ? json_null () : NUMBER (seconds);
}

static json_t *
histogram (const struct latency_counts *h)
{
  json_t *limits = json_array (), *counts = json_array ();
  json_t *object = json_object ();
  bool failed = false;
  unsigned i;

  for (i = 0; i < LATENCY_BUCKETS; ++i) {
    failed |= json_array_append_new (limits, NUMBER (UINT64_C (1) << i)) < 0;
    failed |= json_array_append_new (counts, NUMBER (h->counts[i])) < 0;
  }
  HISTOGRAM
  return finish (object, failed);
}

static json_t *
mirror_latency (const struct mirror_report *report)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_LATENCY
  return finish (object, failed);
}

static json_t *
last_error (const struct mirror_error *e)
{
  json_t *object;
  bool failed = false;

  if (!e->set)
    return json_null ();
  object = json_object ();
  MIRROR_LAST_ERROR
  return finish (object, failed);
}

json_t *
first_differences (const struct mirror_verify_status *v)
{
  json_t *list = json_array ();
  uint64_t i;

  for (i = 0; i < v->differences && i < VERIFY_FIRST; i++)
    if (json_array_append_new (list, NUMBER (v->first[i])) < 0) {
      json_decref (list);
      return NULL;
    }
  return list;
}

static json_t *
verify (const struct mirror_verify_status *v)
{
  json_t *object;
  bool failed = false;

  if (!v->set)
    return json_null ();
  object = json_object ();
  MIRROR_VERIFY
  return finish (object, failed);
}

json_t *
query_mirror (struct control *c)
{
  struct mirror_report all, *report = &all;
  const struct mirror_status *st = &all.st;
  json_t *object = json_object ();
  bool failed = false;

  mirror_get_report (c->mirror, report);
  QUERY_MIRROR
  return finish (object, failed);
}

/*-- mirror-hold, mirror-release ----------------------------------------*/

/* mirror-hold, barrier */
#define MIRROR_HOLD                                                     \
  FIELD ("drain-us", NUMBER (drain_ns / 1000))                          \
  FIELD ("expires-us", NUMBER (expires_ns / 1000))

/* mirror-release */
#define MIRROR_RELEASE                                                  \
  FIELD ("held-us", NUMBER (held_ns / 1000))

json_t *
answer_hold (uint64_t drain_ns, uint64_t expires_ns)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_HOLD
  return finish (object, failed);
}

json_t *
answer_release (uint64_t held_ns)
{
  json_t *object = json_object ();
  bool failed = false;

  MIRROR_RELEASE
  return finish (object, failed);
}
