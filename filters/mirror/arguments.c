/* SPDX-License-Identifier: BSD-3-Clause */
/* Arguments of blockdev-mirror, some of which mirror-set has, too.  The table
 * (verbs.h) has checked them one by one.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control-impl.h"

#define FAIL(error, ...) qmp_fail (error, QMP_GENERIC_ERROR, __VA_ARGS__)

int
argument_speed (const struct qmp_request *req, uint64_t *speed,
                struct qmp_error *error)
{
  const int64_t n = qmp_arg_int (req, "speed", *speed);

  if (n < 0) {
    FAIL (error, "Parameter 'speed' expects a non-negative value");
    return -EINVAL;
  }
  *speed = n;
  return 0;
}

/* Arguments that are accepted with one value only. */
static int
check_fixed (const struct qmp_request *req, struct qmp_error *error)
{
  const char *device = qmp_arg_string (req, "device");

  if (device && strcmp (device, "source") != 0) {
    FAIL (error, "Cannot find device='%.128s' nor node-name='%.128s'", device,
          device);
    return -EINVAL;
  }
  if (!qmp_arg_bool (req, "auto-finalize", true)) {
    FAIL (error, "Value 'false' of parameter 'auto-finalize' is not"
          " supported");
    return -EINVAL;
  }
  return 0;
}

int
argument_sizes (const struct qmp_request *req, struct params *p,
                struct qmp_error *error)
{
  char why[PARAMS_ERROR_MAX];
  int64_t n;

  if (qmp_has_arg (req, "granularity")) {
    n = qmp_arg_int (req, "granularity", 0);
    if (n < MIRROR_MIN_GRANULARITY || n > MIRROR_MAX_GRANULARITY) {
      FAIL (error, "Parameter 'granularity' expects a value in range [512B,"
            " 64MB]");
      return -EINVAL;
    }
    if ((n & (n - 1)) != 0) {
      FAIL (error, "Parameter 'granularity' expects a power of 2");
      return -EINVAL;
    }
    p->granularity = n;
  }
  if (qmp_has_arg (req, "buf-size")) {
    n = qmp_arg_int (req, "buf-size", 0);
    if (n < 0) {
      FAIL (error, "Invalid parameter 'buf-size'");
      return -EINVAL;
    }
    if (params_set_buf_size (p, "buf-size", n, why) < 0)
      goto fail;
  }
  if (qmp_has_arg (req, "connections") &&
      params_set_connections (p, "connections",
                              qmp_arg_int (req, "connections", 0), why) < 0)
    goto fail;
  if (qmp_has_arg (req, "max-pause") &&
      params_set_max_pause (p, "max-pause",
                            qmp_arg_int (req, "max-pause", 0), why) < 0)
    goto fail;
  if (qmp_has_arg (req, "target-timeout") &&
      params_set_timeout (p, "target-timeout",
                          qmp_arg_int (req, "target-timeout", 0), why) < 0)
    goto fail;
  if (params_check (p, why) < 0)
    goto fail;
  return 0;

 fail:
  FAIL (error, "%s", why);
  return -EINVAL;
}

void
argument_policies (const struct qmp_request *req, struct params *p)
{
  const char *source = qmp_arg_string (req, "on-source-error");
  const char *target = qmp_arg_string (req, "on-target-error");
  char why[PARAMS_ERROR_MAX];

  if (source)
    params_set_on_error (p, "on-source-error", false, source, why);
  if (target)
    params_set_on_error (p, "on-target-error", true, target, why);
}

static int
set_words (const struct qmp_request *req, struct params *p,
           struct qmp_error *error)
{
  const char *id = qmp_arg_string (req, "job-id");
  const char *sync = qmp_arg_string (req, "sync");
  const char *mode = qmp_arg_string (req, "copy-mode");
  const char *bitmap = qmp_arg_string (req, "bitmap-file");
  char why[PARAMS_ERROR_MAX];

  if (bitmap && params_set_bitmap (p, "bitmap-file", bitmap, why) < 0) {
    FAIL (error, "%s", why);
    return -EINVAL;
  }
  p->target_is_zero = qmp_arg_bool (req, "target-is-zero",
                                    p->target_is_zero);
  p->keep = !qmp_arg_bool (req, "auto-dismiss", true);
  argument_policies (req, p);
  if (strcmp (sync, "top") == 0 || strcmp (sync, "bitmap") == 0 ||
      (strcmp (sync, "incremental") == 0 && !p->bitmap)) {
    FAIL (error, "Sync mode '%s' not supported", sync);
    return -EINVAL;
  }
  if (params_set_sync (p, "sync", sync, why) < 0 ||
      params_set_target (p, "target", qmp_arg_string (req, "target"),
                         why) < 0 ||
      (mode && params_set_copy_mode (p, "copy-mode", mode, why) < 0)) {
    FAIL (error, "%s", why);
    return -EINVAL;
  }
  if (id && params_set_job_id (p, id, why) < 0) {
    FAIL (error, "%s", why);
    return -EINVAL;
  }
  return 0;
}

int
argument_no_job (struct control *c, struct qmp_error *error)
{
  struct mirror_status st;

  mirror_get_status (c->mirror, &st);
  if (!st.have_job)
    return 0;
  FAIL (error, "There is a job already: '%s' in state '%s'", st.id,
        job_status_name (st.status));
  return -EBUSY;
}

int
command_mirror_params (struct control *c, const struct qmp_request *req,
                       struct params *p, struct qmp_error *error)
{
  int r;

  r = params_copy (p, c->ops->defaults (c->opaque));
  if (r < 0) {
    FAIL (error, "Out of memory");
    return r;
  }
  if (check_fixed (req, error) < 0 ||
      argument_speed (req, &p->speed, error) < 0 ||
      argument_sizes (req, p, error) < 0 ||
      set_words (req, p, error) < 0 ||
      argument_no_job (c, error) < 0) {
    params_clear (p);
    return -EINVAL;
  }
  return 0;
}
