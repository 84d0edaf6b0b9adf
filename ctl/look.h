/* SPDX-License-Identifier: BSD-3-Clause */
/* What query-mirror answers, as a struct: for all that shows it. */

#ifndef MIRROR_LOOK_H
#define MIRROR_LOOK_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

enum look_latency {
  LOOK_READ, LOOK_WRITE, LOOK_TEE, LOOK_COPY, LOOK_LATENCIES
};

/* Half, and 99 of 100, took at most so long (the limit of a bucket). */
struct look_percentiles {
  uint64_t count;               /* 0: there are none */
  uint64_t p50_us, p99_us;
};

/* The strings are never NULL and belong to the answer. */
struct look {
  bool have_job;
  const char *id, *status, *copy_mode;
  bool ready, teeing, synced;
  bool resumed;                 /* it goes on with what the intent file said */
  const char *io_status;
  const char *job_error;        /* "" if none */
  uint64_t len, offset, suspect;        /* bytes */

  bool have_last_job;
  const char *last_id, *last_end, *last_error;

  const char *verdict;
  uint64_t copy_rate, dirty_rate;       /* bytes per second */
  int64_t eta;                  /* seconds; -1: unknown */
  struct look_percentiles latency[LOOK_LATENCIES];
  uint64_t copied, zeroed, teed, tracked, skipped;      /* bytes */

  uint64_t source_size, clients;
  const char *target_state, *target_uri;
  const char *target_reason;    /* of its state, "" = none */
  uint64_t connections;         /* 0: unknown */
  uint64_t reconnects;
  const char *disk_uri, *disk_state;    /* clients have; "" = the source */
  const char *disk_reason;
  bool pivoted, held, fenced;

  bool have_bitmap;
  const char *bitmap_file, *bitmap_state;
  uint64_t bitmap_dirty;        /* bytes */

  bool have_verify;
  bool verify_running, verify_repair;
  uint64_t verify_bytes, verify_left, verify_differences;
  const char *verify_error;     /* "" if none */

  bool have_error;
  const char *error_side, *error_op, *error_text;
  uint64_t error_offset, error_length;
  int64_t error_time;           /* seconds since 1970 */
};

/* Whatever mirror is, look is filled: what is missing is 0 or "?". */
extern void look_fill (struct look *look, json_t *mirror);

/* The names of the histograms in query-mirror, as the enum has them. */
extern const char *const look_latency_names[LOOK_LATENCIES];

/* Small helpers for who reads the answer itself. */
extern const char *look_word (json_t *object, const char *name);
extern uint64_t look_number (json_t *object, const char *name);
extern bool look_truth (json_t *object, const char *name);
extern bool look_is_there (json_t *value);      /* and not null */

#endif /* MIRROR_LOOK_H */
