/* SPDX-License-Identifier: BSD-3-Clause */
/* What the commands do.  Their arguments have been checked one by one by the
 * table (verbs.h); here is what needs the job, or more than one argument.
 */

#include <config.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control-impl.h"
#include "errtext.h"

#define FAIL(error, ...) qmp_fail (error, QMP_GENERIC_ERROR, __VA_ARGS__)

/* Commands are known by two names for a job: as a block job's, "device", an
 * unknown one has an error class of its own.
 */
static json_t *
job_result (int r, const char *id, bool block_job, enum job_verb verb,
            enum job_status status, struct qmp_error *error)
{
  switch (r) {
  case 0:
    return json_object ();
  case -ENOENT:
    if (block_job)
      qmp_fail (error, QMP_DEVICE_NOT_ACTIVE, "Block job '%.*s' not found",
                JOB_ID_MAX, id);
    else
      FAIL (error, "Job not found");
    break;
  case -EPERM:
    FAIL (error, "Job '%s' in state '%s' cannot accept command verb '%s'",
          id, job_status_name (status), job_verb_name (verb));
    break;
  default:
    FAIL (error, "%s", error_text (-r));
  }
  return NULL;
}

static json_t *
cancel (struct control *c, const char *id, bool block_job,
        struct qmp_error *error)
{
  enum job_status status = JOB_UNDEFINED;
  int r = mirror_cancel (c->mirror, id, &status);

  return job_result (r, id, block_job, JOB_VERB_CANCEL, status, error);
}

/* Without force, a job that is ready would have to be completed without a
 * pivot.
 */
static json_t *
block_job_cancel (struct control *c, const struct qmp_request *req,
                  struct qmp_error *error)
{
  const char *id = qmp_arg_string (req, "device");
  struct mirror_status st;

  mirror_get_status (c->mirror, &st);
  if (!qmp_arg_bool (req, "force", false) && st.have_job &&
      strcmp (st.id, id) == 0 && st.ready) {
    FAIL (error, "Job '%s' is ready: cancelling it without 'force' (detach)"
          " is not available in this version; 'force': true is", id);
    return NULL;
  }
  return cancel (c, id, true, error);
}

static json_t *
job_cancel (struct control *c, const struct qmp_request *req,
            struct qmp_error *error)
{
  return cancel (c, qmp_arg_string (req, "id"), false, error);
}

/* Returns 0 or -EINVAL. */
static int
get_speed (const struct qmp_request *req, uint64_t *speed,
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

static json_t *
block_job_set_speed (struct control *c, const struct qmp_request *req,
                     struct qmp_error *error)
{
  const char *id = qmp_arg_string (req, "device");
  enum job_status status = JOB_UNDEFINED;
  uint64_t speed = 0;
  int r;

  /* QEMU looks for the job first. */
  r = mirror_check_verb (c->mirror, id, JOB_VERB_SET_SPEED, &status);
  if (r == 0) {
    if (get_speed (req, &speed, error) < 0)
      return NULL;
    r = mirror_set_speed (c->mirror, id, speed, &status);
  }
  return job_result (r, id, true, JOB_VERB_SET_SPEED, status, error);
}

json_t *
command_run (struct control *c, const struct qmp_request *req,
             struct qmp_error *error)
{
  json_t *result = NULL;

  error->desc[0] = '\0';
  switch (req->verb) {
  case QMP_query_version: result = qmp_version (c->package); break;
  case QMP_query_commands: result = qmp_commands (); break;
  case QMP_quit: result = json_object (); break;
  case QMP_block_job_cancel: result = block_job_cancel (c, req, error); break;
  case QMP_block_job_set_speed:
    result = block_job_set_speed (c, req, error);
    break;
  case QMP_job_cancel: result = job_cancel (c, req, error); break;
  case QMP_query_block_jobs: result = query_block_jobs (c); break;
  case QMP_query_jobs: result = query_jobs (c); break;
  case QMP_query_mirror: result = query_mirror (c); break;
  case QMP_qmp_capabilities:    /* the session's */
  case QMP_blockdev_mirror:
  case QMP_VERB_COUNT:
    break;
  }
  if (result == NULL && error->desc[0] == '\0')
    FAIL (error, "Out of memory");
  return result;
}

/*-- blockdev-mirror ----------------------------------------------------*/

/* Arguments that are accepted with one value only. */
static int
check_fixed (const struct qmp_request *req, struct qmp_error *error)
{
  static const char *const only_true[] = { "auto-finalize", "auto-dismiss" };
  const char *device = qmp_arg_string (req, "device");
  size_t i;

  if (device && strcmp (device, "source") != 0) {
    FAIL (error, "Cannot find device='%.128s' nor node-name='%.128s'", device,
          device);
    return -EINVAL;
  }
  for (i = 0; i < sizeof only_true / sizeof only_true[0]; i++)
    if (!qmp_arg_bool (req, only_true[i], true)) {
      FAIL (error, "Value 'false' of parameter '%s' is not available in this"
            " version", only_true[i]);
      return -EINVAL;
    }
  return 0;
}

static int
set_sizes (const struct qmp_request *req, struct params *p,
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
  if (params_check (p, why) < 0)
    goto fail;
  return 0;

 fail:
  FAIL (error, "%s", why);
  return -EINVAL;
}

static int
set_words (const struct qmp_request *req, struct params *p,
           struct qmp_error *error)
{
  const char *id = qmp_arg_string (req, "job-id");
  const char *sync = qmp_arg_string (req, "sync");
  const char *mode = qmp_arg_string (req, "copy-mode");
  char why[PARAMS_ERROR_MAX];

  p->target_is_zero = qmp_arg_bool (req, "target-is-zero",
                                    p->target_is_zero);
  if (strcmp (sync, "full") != 0 && strcmp (sync, "none") != 0) {
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

static int
check_no_job (struct control *c, struct qmp_error *error)
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
      get_speed (req, &p->speed, error) < 0 ||
      set_sizes (req, p, error) < 0 ||
      set_words (req, p, error) < 0 ||
      check_no_job (c, error) < 0) {
    params_clear (p);
    return -EINVAL;
  }
  return 0;
}

json_t *
command_mirror (struct control *c, const struct params *p,
                struct qmp_error *error)
{
  char why[PARAMS_ERROR_MAX] = "";
  int r = c->ops->start (c->opaque, p, why);

  if (r == 0)
    return json_object ();
  /* Somebody else may have been faster. */
  if (r != -EBUSY || check_no_job (c, error) == 0)
    FAIL (error, "%s", why[0] ? why : error_text (-r));
  return NULL;
}
