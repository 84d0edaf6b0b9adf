/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdmirror metrics: query-mirror as OpenMetrics 1.0 text.
 *
 * One table, one family a line.  What tells how a job is now is left out while
 * there is none.  Counters are left out only before the first job: one that
 * went back to 0, or away, as soon as its job has ended would hide what that
 * did last.
 */

#include <config.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"
#include "look.h"

#define PREFIX "nbdmirror_"

/* What it is a number of; the name of the family ends with it. */
#define BYTES "bytes"
#define SECONDS "seconds"

enum kind {
  COUNTER,
  GAUGE,
  TRUTH,                        /* a gauge, 0 or 1 */
};

static const struct family {
  enum kind kind;
  bool job;                     /* only with a job; a counter: or after it */
  const char *name, *unit;
  const char *from, *key;       /* object in query-mirror or NULL; member */
  const char *help;
} families[] = {
  { GAUGE, false, "clients", NULL, NULL, "clients",
    "NBD clients that are connected" },
  { TRUTH, false, "held", NULL, NULL, "held", "Clients are held" },
  { TRUTH, false, "fenced", NULL, NULL, "fenced",
    "Writes of clients are refused" },
  { TRUTH, false, "pivoted", NULL, NULL, "pivoted",
    "Clients have been moved to a target" },
  { GAUGE, false, "source_size_bytes", BYTES, "source", "size",
    "Size of the source" },
  { GAUGE, false, "bitmap_dirty_bytes", BYTES, "bitmap", "dirty-bytes",
    "What the intent file says may differ" },
  { TRUTH, true, "ready", NULL, "job", "ready", "The job is ready" },
  { TRUTH, true, "actively_synced", NULL, "job", "actively-synced",
    "Both sides are equal and stay so" },
  { TRUTH, true, "teeing", NULL, "job", "teeing",
    "Writes of clients go to both sides" },
  { GAUGE, true, "len_bytes", BYTES, "job", "len",
    "What the job has to do in all, as of now" },
  { COUNTER, true, "offset_bytes", BYTES, "job", "offset",
    "What of it has been done" },
  { GAUGE, true, "speed_limit_bytes_per_second", "bytes_per_second", "job",
    "speed", "Limit of background copying, 0 is none" },
  { GAUGE, true, "dirty_bytes", BYTES, NULL, "dirty-bytes",
    "What is known or suspected to differ" },
  { GAUGE, true, "inflight_bytes", BYTES, NULL, "inflight-bytes",
    "What is being made equal" },
  { GAUGE, true, "unscanned_bytes", BYTES, NULL, "unscanned-bytes",
    "What has not been looked at yet" },
  { GAUGE, true, "suspect_bytes", BYTES, NULL, "suspect-bytes",
    "What is dirty and may not be copied yet" },
  { GAUGE, true, "dirty_bytes_per_second", "bytes_per_second", NULL,
    "dirty-bytes-per-second", "What clients make dirty" },
  { GAUGE, true, "copy_bytes_per_second", "bytes_per_second", NULL,
    "copy-bytes-per-second", "What is copied in the background" },
  { GAUGE, true, "eta_seconds", SECONDS, NULL, "eta-seconds",
    "After that nothing is left; missing if unknown" },
  { COUNTER, true, "copied_bytes", BYTES, NULL, "copied-bytes",
    "Data copied in the background" },
  { COUNTER, true, "zeroed_bytes", BYTES, NULL, "zeroed-bytes",
    "Made zero on the target in the background" },
  { COUNTER, true, "teed_bytes", BYTES, NULL, "teed-bytes",
    "Writes of clients that went to both sides" },
  { COUNTER, true, "tracked_bytes", BYTES, NULL, "tracked-bytes",
    "Writes of clients that are left to be copied" },
  { COUNTER, true, "skipped_bytes", BYTES, NULL, "skipped-bytes",
    "Needed nothing, since both sides read as zero" },
  { COUNTER, true, "target_waits", NULL, NULL, "target-waits",
    "Requests of clients that waited for the target" },
  { COUNTER, true, "target_errors", NULL, NULL, "target-errors",
    "Requests to the target that failed" },
  { COUNTER, true, "reconnects", NULL, "target", "reconnects",
    "Times that a target that was lost has been connected again" },
  { COUNTER, true, "source_errors", NULL, NULL, "source-errors",
    "Requests to the source that failed" },
  { COUNTER, true, "target_flushes", NULL, NULL, "target-flushes",
    "Flushes of the target" },
  { TRUTH, true, "verify_running", NULL, "verify", "running",
    "Whether a verification is running" },
  { GAUGE, true, "verify_compared_bytes", BYTES, "verify", "bytes",
    "Compared by the last verification" },
  { GAUGE, true, "verify_left_bytes", BYTES, "verify", "left-bytes",
    "Not compared by the last verification" },
  { GAUGE, true, "verify_differences", NULL, "verify", "differences",
    "Granules that the last verification found to differ" },
};

static void
head (const char *name, const char *type, const char *unit, const char *help)
{
  printf ("# TYPE " PREFIX "%s %s\n", name, type);
  if (unit)
    printf ("# UNIT " PREFIX "%s %s\n", name, unit);
  printf ("# HELP " PREFIX "%s %s.\n", name, help);
}

/* Of a job that has ended query-mirror has the counters where they were, but
 * for those of the job itself.
 */
static json_t *
object_of (const struct family *f, json_t *mirror)
{
  json_t *object = f->from ? json_object_get (mirror, f->from) : mirror;

  if (f->kind == COUNTER && f->from && strcmp (f->from, "job") == 0 &&
      !look_is_there (object))
    object = json_object_get (mirror, "last-job");
  return object;
}

static void
print_family (const struct family *f, json_t *mirror)
{
  json_t *object = object_of (f, mirror);
  json_t *value = json_object_get (object, f->key);

  if (!look_is_there (value))
    return;
  head (f->name, f->kind == COUNTER ? "counter" : "gauge", f->unit, f->help);
  printf (PREFIX "%s%s %" PRIu64 "\n", f->name,
          f->kind == COUNTER ? "_total" : "",
          f->kind == TRUTH ? (uint64_t) look_truth (object, f->key)
          : look_number (object, f->key));
}

/*-- states -------------------------------------------------------------*/

/* All that there are, of which one is true. */
static void
print_states (const char *name, const char *const *words, const char *now,
              const char *help)
{
  head (name, "stateset", NULL, help);
  for (; *words; words++)
    printf (PREFIX "%s{" PREFIX "%s=\"%s\"} %d\n", name, name, *words,
            strcmp (*words, now) == 0);
}

static const char *const verdicts[] = {
  "none", "offline", "synced", "paused", "scanning", "stuck", "diverging",
  "tracking", "converging", NULL
};

static const char *const target_states[] = {
  "none", "connecting", "online", "offline", "pivoted", NULL
};

static const char *const bitmap_states[] = {
  "idle", "running", "cancelled", "detached", "failed", "pivoted", "lost", NULL
};

static const char *const job_states[] = {
  "undefined", "created", "running", "paused", "ready", "standby", "waiting",
  "pending", "aborting", "concluded", "null", NULL
};

static const char *const io_states[] = { "ok", "failed", "nospace", NULL };

/*-- histograms ---------------------------------------------------------*/

static void
print_histogram (const char *name, json_t *histogram)
{
  json_t *limits = json_object_get (histogram, "buckets-us");
  json_t *counts = json_object_get (histogram, "counts");
  const size_t n = json_array_size (counts);
  const char *const what = PREFIX "request_duration_seconds";
  uint64_t sum = look_number (histogram, "sum-us"), seen = 0;
  size_t i;

  for (i = 0; i < n; i++) {
    seen += (uint64_t) json_integer_value (json_array_get (counts, i));
    /* The last bucket has no limit. */
    if (i + 1 < n)
      printf ("%s_bucket{kind=\"%s\",le=\"%.9g\"} %" PRIu64 "\n", what, name,
              (double) json_integer_value (json_array_get (limits, i)) / 1e6,
              seen);
    else
      printf ("%s_bucket{kind=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", what, name,
              seen);
  }
  printf ("%s_count{kind=\"%s\"} %" PRIu64 "\n", what, name, seen);
  printf ("%s_sum{kind=\"%s\"} %" PRIu64 ".%06" PRIu64 "\n", what, name,
          sum / 1000000, sum % 1000000);
}

static void
print_histograms (json_t *latency)
{
  unsigned i;

  head ("request_duration_seconds", "histogram", SECONDS,
        "How long requests of clients and pieces of background copying take");
  for (i = 0; i < LOOK_LATENCIES; i++)
    print_histogram (look_latency_names[i],
                     json_object_get (latency, look_latency_names[i]));
}

/*-- all ----------------------------------------------------------------*/

static void
print_metrics (json_t *mirror)
{
  json_t *job = json_object_get (mirror, "job");
  json_t *bitmap = json_object_get (mirror, "bitmap");
  const bool have_job = look_is_there (job);
  const bool counted = have_job ||
    look_is_there (json_object_get (mirror, "last-job"));
  size_t i;

  for (i = 0; i < sizeof families / sizeof families[0]; i++)
    if (have_job || !families[i].job ||
        (counted && families[i].kind == COUNTER))
      print_family (&families[i], mirror);
  print_states ("convergence", verdicts, look_word (mirror, "convergence"),
                "How the mirror is doing");
  print_states ("target_state", target_states,
                look_word (json_object_get (mirror, "target"), "state"),
                "The connection to the target");
  if (look_is_there (bitmap))
    print_states ("bitmap_state", bitmap_states, look_word (bitmap, "state"),
                  "What the intent file says of the mirror");
  if (have_job) {
    print_states ("job_status", job_states, look_word (job, "status"),
                  "The state of the job");
    print_states ("io_status", io_states, look_word (job, "io-status"),
                  "The error that has stopped the job, if it is not ok");
  }
  if (counted)
    print_histograms (json_object_get (mirror, "latency"));
  printf ("# EOF\n");
}

int
run_metrics (const struct call *call)
{
  struct client *c;
  json_t *mirror;
  int status;

  c = call_connect (call, ANSWER_MS, &status);
  if (c == NULL)
    return status;
  mirror = call_command (c, "query-mirror", NULL, ANSWER_MS, &status);
  client_close (c);
  if (mirror == NULL)
    return status;
  print_metrics (mirror);
  json_decref (mirror);
  return call_written ("metrics");
}
