/* SPDX-License-Identifier: BSD-3-Clause */
/* See look.h. */

#include <config.h>

#include <string.h>

#include "look.h"

const char *const look_latency_names[LOOK_LATENCIES] = {
  "read", "write", "tee", "copy",
};

const char *
look_word (json_t *object, const char *name)
{
  const char *s = json_string_value (json_object_get (object, name));

  return s ? s : "?";
}

uint64_t
look_number (json_t *object, const char *name)
{
  const json_int_t n = json_integer_value (json_object_get (object, name));

  return n > 0 ? (uint64_t) n : 0;
}

bool
look_truth (json_t *object, const char *name)
{
  return json_is_true (json_object_get (object, name));
}

bool
look_is_there (json_t *value)
{
  return value && !json_is_null (value);
}

static const char *
text_or_none (json_t *object, const char *name)
{
  return look_is_there (json_object_get (object, name))
    ? look_word (object, name) : "";
}

/* The limit of the bucket in which the part-th of all is. */
static uint64_t
percentile (json_t *histogram, uint64_t all, unsigned percent)
{
  json_t *limits = json_object_get (histogram, "buckets-us");
  json_t *counts = json_object_get (histogram, "counts");
  uint64_t seen = 0;
  size_t i, n = json_array_size (counts);

  for (i = 0; i < n; i++) {
    seen += (uint64_t) json_integer_value (json_array_get (counts, i));
    if (seen > 0 && seen >= all - all * (100 - percent) / 100)
      break;
  }
  return (uint64_t) json_integer_value (
    json_array_get (limits, i < n ? i : n - 1));
}

static void
fill_latency (struct look_percentiles *p, json_t *histogram)
{
  json_t *counts = json_object_get (histogram, "counts");
  size_t i;

  for (i = 0; i < json_array_size (counts); i++)
    p->count += (uint64_t) json_integer_value (json_array_get (counts, i));
  if (p->count == 0)
    return;
  p->p50_us = percentile (histogram, p->count, 50);
  p->p99_us = percentile (histogram, p->count, 99);
}

static void
fill_job (struct look *l, json_t *job, json_t *last)
{
  l->have_job = look_is_there (job);
  l->id = look_word (job, "id");
  l->status = look_word (job, "status");
  l->copy_mode = look_word (job, "copy-mode");
  l->ready = look_truth (job, "ready");
  l->teeing = look_truth (job, "teeing");
  l->synced = look_truth (job, "actively-synced");
  l->resumed = strcmp (look_word (job, "sync"), "incremental") == 0;
  l->io_status = look_word (job, "io-status");
  l->job_error = text_or_none (job, "error");
  l->len = look_number (job, "len");
  l->offset = look_number (job, "offset");

  l->have_last_job = look_is_there (last);
  l->last_id = look_word (last, "id");
  l->last_end = look_word (last, "end");
  l->last_error = text_or_none (last, "error");
}

static void
fill_error (struct look *l, json_t *e)
{
  l->have_error = look_is_there (e);
  l->error_side = look_word (e, "side");
  l->error_op = look_word (e, "op");
  l->error_text = look_word (e, "text");
  l->error_offset = look_number (e, "offset");
  l->error_length = look_number (e, "length");
  l->error_time = (int64_t) look_number (e, "time");
}

static void
fill_bitmap (struct look *l, json_t *b)
{
  l->have_bitmap = look_is_there (b);
  l->bitmap_file = look_word (b, "file");
  l->bitmap_state = look_word (b, "state");
  l->bitmap_dirty = look_number (b, "dirty-bytes");
}

static void
fill_verify (struct look *l, json_t *v)
{
  l->have_verify = look_is_there (v);
  l->verify_running = look_truth (v, "running");
  l->verify_repair = look_truth (v, "repair");
  l->verify_bytes = look_number (v, "bytes");
  l->verify_left = look_number (v, "left-bytes");
  l->verify_differences = look_number (v, "differences");
  l->verify_error = text_or_none (v, "error");
}

void
look_fill (struct look *l, json_t *mirror)
{
  json_t *target = json_object_get (mirror, "target");
  json_t *disk = json_object_get (mirror, "disk");
  json_t *latency = json_object_get (mirror, "latency");
  json_t *eta = json_object_get (mirror, "eta-seconds");
  unsigned i;

  memset (l, 0, sizeof *l);
  fill_job (l, json_object_get (mirror, "job"),
            json_object_get (mirror, "last-job"));
  l->suspect = look_number (mirror, "suspect-bytes");
  l->verdict = look_word (mirror, "convergence");
  l->copy_rate = look_number (mirror, "copy-bytes-per-second");
  l->dirty_rate = look_number (mirror, "dirty-bytes-per-second");
  l->eta = json_is_integer (eta) ? (int64_t) json_integer_value (eta) : -1;
  for (i = 0; i < LOOK_LATENCIES; i++)
    fill_latency (&l->latency[i],
                  json_object_get (latency, look_latency_names[i]));
  l->copied = look_number (mirror, "copied-bytes");
  l->zeroed = look_number (mirror, "zeroed-bytes");
  l->teed = look_number (mirror, "teed-bytes");
  l->tracked = look_number (mirror, "tracked-bytes");
  l->skipped = look_number (mirror, "skipped-bytes");
  l->source_size = look_number (json_object_get (mirror, "source"), "size");
  l->clients = look_number (mirror, "clients");
  l->target_state = look_word (target, "state");
  l->target_uri = look_word (target, "uri");
  l->target_reason = text_or_none (target, "reason");
  l->connections = look_number (target, "connections");
  l->reconnects = look_number (target, "reconnects");
  l->disk_uri = text_or_none (disk, "uri");
  l->disk_state = text_or_none (disk, "state");
  l->disk_reason = text_or_none (disk, "reason");
  l->pivoted = look_truth (mirror, "pivoted");
  l->held = look_truth (mirror, "held");
  l->fenced = look_truth (mirror, "fenced");
  fill_error (l, json_object_get (mirror, "last-error"));
  fill_bitmap (l, json_object_get (mirror, "bitmap"));
  fill_verify (l, json_object_get (mirror, "verify"));
}
