/* SPDX-License-Identifier: BSD-3-Clause */
/* What a mirror is started with: the filter's keys and the arguments of
 * blockdev-mirror end up in the same struct, checked by the same functions.
 *
 * Not thread-safe; each caller its own struct.
 */

#ifndef MIRROR_PARAMS_H
#define MIRROR_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mirror.h"

#define PARAMS_ERROR_MAX 512
#define PARAMS_MAX_PAUSE_MS 60000
#define PARAMS_MAX_TIMEOUT_S 3600
#define PARAMS_MAX_SUSPECT_S 3600

struct params {
  char *target;                 /* NBD URI, owned; NULL = none */
  char *job_id;                 /* owned; NULL = "mirror" */
  enum copy_mode copy_mode;
  enum sync_mode sync;
  uint64_t granularity, speed, buf_size;
  bool unmap, detect_zeroes, target_is_zero, defer_flush;
  unsigned connections;
  unsigned max_pause_ms;        /* 1 ... PARAMS_MAX_PAUSE_MS */
  unsigned timeout_s;           /* 1 ... PARAMS_MAX_TIMEOUT_S */
  unsigned suspect_s;           /* 0 ... PARAMS_MAX_SUSPECT_S */
  enum on_error on_source_error, on_target_error;
  bool keep;                    /* a job that has ended, until dismissed */
  char *bitmap;                 /* absolute path of the intent file, owned;
                                 * NULL = none */
};

extern void params_init (struct params *p);     /* the defaults */
extern int params_copy (struct params *to, const struct params *from);
extern void params_clear (struct params *p);

/* Each returns 0 or -EINVAL with one line in error that names what is wrong
 * and what is allowed.  `what` is how the user calls it ("mirror-speed",
 * "speed").
 */
extern int params_set_copy_mode (struct params *p, const char *what,
                                 const char *value, char *error);
extern int params_set_sync (struct params *p, const char *what,
                            const char *value, char *error);
extern int params_set_granularity (struct params *p, const char *what,
                                   uint64_t value, char *error);
extern int params_set_buf_size (struct params *p, const char *what,
                                uint64_t value, char *error);
extern int params_set_connections (struct params *p, const char *what,
                                   int64_t value, char *error);
extern int params_set_max_pause (struct params *p, const char *what,
                                 int64_t ms, char *error);
extern int params_set_timeout (struct params *p, const char *what, int64_t s,
                               char *error);
extern int params_set_suspect_time (struct params *p, const char *what,
                                    int64_t s, char *error);
/* Of errors of the target, or else of the source. */
extern int params_set_on_error (struct params *p, const char *what,
                                bool target, const char *value, char *error);
/* An NBD URI of a kind that works; relative socket paths become absolute. */
extern int params_set_target (struct params *p, const char *what,
                              const char *value, char *error);
extern int params_set_job_id (struct params *p, const char *value,
                              char *error);

/* An absolute path. */
extern int params_set_bitmap (struct params *p, const char *what,
                              const char *value, char *error);

/* What must hold between several of them. */
extern int params_check (const struct params *p, char *error);

/* The line for the user; returns -EINVAL. */
extern int refuse (char *error, const char *fs, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));

/* *to becomes a copy of value, or NULL, and is freed.  0 or -ENOMEM. */
extern int params_replace (char **to, const char *value);

/*-- the filter's keys --------------------------------------------------*/

#define FILTER_KEYS 26
#define CONTROL_PATH_MAX 107    /* sun_path with its final 0 */

/* What clients get from a start whose intent file says that they had been moved
 * to a target.
 */
enum after_pivot { AFTER_PIVOT_TARGET, AFTER_PIVOT_REFUSE,
                   AFTER_PIVOT_SOURCE };

struct filter_keys {
  struct params params;
  char *control;                /* absolute path, owned; NULL = none */
  char *export;                 /* name, owned; NULL = the default export */
  enum after_pivot after_pivot;
  bool given[FILTER_KEYS];
};

extern void filter_keys_init (struct filter_keys *k);
extern void filter_keys_clear (struct filter_keys *k);

/* key=value of the command line.  Returns 0; 1: not a key of ours; -EINVAL
 * with one line in error; -ENOMEM.  Paths are made absolute against the
 * current directory.
 */
extern int filter_keys_set (struct filter_keys *k, const char *key,
                            const char *value, char *error);

/* Was it on the command line, or is it the default? */
extern bool filter_keys_given (const struct filter_keys *k, const char *key);

#endif /* MIRROR_PARAMS_H */
