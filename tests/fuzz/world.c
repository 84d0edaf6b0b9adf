/* SPDX-License-Identifier: BSD-3-Clause */
/* See world.h.
 *
 * A target answers at once.  Its URI says what is wrong with it: one with
 * "refuse" cannot be connected to, "fail" fails all writes, "lose" loses its
 * connection at the first request, and "slow" takes a moment for each.  After
 * a pivot there is no way to connect again.
 *
 * Both disks are alike, so that nothing has to be compared here.
 */

#include <config.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control.h"
#include "mirror.h"
#include "params.h"
#include "sync.h"
#include "world.h"

#define DISK_BYTES (64 << 10)
#define SLOW_NS 2000000

enum flaw { FLAW_NONE, FLAW_FAIL, FLAW_LOSE, FLAW_SLOW };

struct disk_target {
  struct target base;
  enum flaw flaw;
  atomic_bool down;
};

struct world {
  struct mirror *mirror;
  struct control *control;
  struct source source;
  struct params defaults;
  _Atomic bool used;            /* a job was started, or quit was heard */
};

static void
must (bool ok, const char *what)
{
  if (ok)
    return;
  fprintf (stderr, "fuzz: %s\n", what);
  abort ();
}

/*-- legs ---------------------------------------------------------------*/

static int
source_pread (struct source *s, void *buf, uint32_t count, uint64_t offset)
{
  (void) s;
  (void) offset;

  memset (buf, 's', count);
  return 0;
}

static int
source_pwrite (struct source *s, const void *buf, uint32_t count,
               uint64_t offset, unsigned flags)
{
  (void) s;
  (void) buf;
  (void) count;
  (void) offset;
  (void) flags;

  return 0;
}

static int
source_zero (struct source *s, uint32_t count, uint64_t offset, unsigned flags)
{
  (void) s;
  (void) count;
  (void) offset;
  (void) flags;

  return 0;
}

static int
source_flush (struct source *s)
{
  (void) s;

  return 0;
}

static const struct source_ops source_ops = {
  .pread = source_pread, .pwrite = source_pwrite, .zero = source_zero,
  .trim = source_zero, .flush = source_flush,
};

static struct disk_target *
of_target (struct target *t)
{
  return (struct disk_target *) t;
}

static void
target_submit (struct target *t, struct target_req *req)
{
  struct disk_target *dt = of_target (t);
  void (*lost) (void *, struct target *, int) = t->lost;
  const struct timespec moment = { .tv_nsec = SLOW_NS };

  req->result = 0;
  if (atomic_load (&dt->down))
    req->result = -ENOTCONN;
  else if (dt->flaw == FLAW_LOSE) {
    req->result = -ENOTCONN;
    if (!atomic_exchange (&dt->down, true) && lost)
      lost (t->lost_opaque, t, -ECONNRESET);
  }
  else if (dt->flaw == FLAW_FAIL && req->op == TARGET_WRITE)
    req->result = -EIO;
  else if (dt->flaw == FLAW_SLOW)
    nanosleep (&moment, NULL);
  if (req->op == TARGET_READ && req->result == 0)
    memset (req->buf, 's', req->count);
}

static int
target_wait (struct target *t, struct target_req *req)
{
  (void) t;

  return req->result;
}

static void
target_shutdown (struct target *t)
{
  atomic_store (&of_target (t)->down, true);
}

static void
target_free (struct target *t)
{
  free (of_target (t));
}

static const struct target_ops target_ops = {
  .submit = target_submit, .wait = target_wait, .shutdown = target_shutdown,
  .free = target_free,
};

static struct target *
target_new (const char *uri)
{
  struct disk_target *dt = calloc (1, sizeof *dt);

  must (dt != NULL, "out of memory");
  dt->base = (struct target) {
    .ops = &target_ops, .size = DISK_BYTES, .block = 1, .can_flush = true,
    .can_fua = true, .can_zero = true, .connections = 1,
  };
  dt->flaw = strstr (uri, "fail") ? FLAW_FAIL
    : strstr (uri, "lose") ? FLAW_LOSE
    : strstr (uri, "slow") ? FLAW_SLOW : FLAW_NONE;
  return &dt->base;
}

/*-- what the commands need of the filter -------------------------------*/

static int
op_start (void *opaque, const struct params *p, char *error)
{
  struct world *w = opaque;
  struct job_params jp = {
    .id = p->job_id ? p->job_id : "mirror",
    .copy_mode = p->copy_mode, .sync = p->sync, .unmap = p->unmap,
    .target_is_zero = p->target_is_zero,
    .max_pause_ns = UINT64_C (1000000) * p->max_pause_ms, .keep = p->keep,
    .granularity = p->granularity, .speed = p->speed,
    .buf_size = p->buf_size,
    .timeout_ns = UINT64_C (1000000000) * p->timeout_s,
    .on_source_error = p->on_source_error,
    .on_target_error = p->on_target_error,
  };
  struct target *t;
  int r;

  must (p->target != NULL, "a start without a target");
  if (strstr (p->target, "refuse"))
    return refuse (error, "%s: no", p->target);
  t = target_new (p->target);
  r = mirror_start (w->mirror, &jp, &w->source, t);
  if (r < 0)
    t->ops->free (t);
  else
    atomic_store (&w->used, true);
  return r;
}

static const struct params *
op_defaults (void *opaque)
{
  return &((struct world *) opaque)->defaults;
}

static char *
op_target_uri (void *opaque)
{
  (void) opaque;

  return strdup ("nbd://\xc3\x28/\x01\"");      /* not what one hopes for */
}

static unsigned
op_clients (void *opaque)
{
  (void) opaque;

  return 0;
}

static unsigned
op_source_flags (void *opaque)
{
  (void) opaque;
  return 0;
}

static uint64_t
op_source_size (void *opaque)
{
  (void) opaque;

  return DISK_BYTES;
}

static void
op_quit (void *opaque)
{
  atomic_store (&((struct world *) opaque)->used, true);
}

static char *
op_bitmap_file (void *opaque)
{
  (void) opaque;
  return strdup ("");
}

static const struct control_ops control_ops = {
  .start = op_start, .defaults = op_defaults, .target_uri = op_target_uri,
  .disk_uri = op_target_uri,
  .bitmap_file = op_bitmap_file,
  .clients = op_clients, .source_size = op_source_size,
  .source_flags = op_source_flags, .quit = op_quit,
};

static void
on_event (void *opaque, const struct mirror_event *ev)
{
  control_event (((struct world *) opaque)->control, ev);
}

/*-- life ---------------------------------------------------------------*/

struct world *
world_new (const char *path)
{
  struct world *w = calloc (1, sizeof *w);
  const struct mirror_config config = {
    .size = DISK_BYTES, .clock = &clock_monotonic, .told_flush = true,
    .event = on_event, .event_opaque = w,
  };
  char error[PARAMS_ERROR_MAX] = "";

  must (w != NULL, "out of memory");
  params_init (&w->defaults);
  w->source = (struct source) { .ops = &source_ops, .can_flush = true };
  w->mirror = mirror_new (&config);
  must (w->mirror != NULL, "out of memory");
  w->control = control_new (path, &control_ops, w, error);
  must (w->control != NULL, error);
  must (control_start (w->control, w->mirror) == 0, "no control thread");
  return w;
}

void
world_free (struct world *w)
{
  control_stop (w->control);
  mirror_free (w->mirror);
  control_free (w->control);
  params_clear (&w->defaults);
  free (w);
}

static uint64_t
now_ns (void)
{
  return clock_monotonic.now_ns (&clock_monotonic);
}

void
world_settle (struct world *w, uint64_t ns)
{
  const struct timespec moment = { .tv_nsec = 200000 };
  const uint64_t deadline = now_ns () + ns;
  struct mirror_status st;

  do {
    mirror_get_status (w->mirror, &st);
    if (!st.have_job || st.status == JOB_READY || st.status == JOB_STANDBY ||
        st.status == JOB_CONCLUDED)
      return;
    nanosleep (&moment, NULL);
  } while (now_ns () < deadline);
}

void
world_cancel (struct world *w)
{
  enum job_status status;
  uint64_t held_ns;

  mirror_release (w->mirror, &held_ns);
  mirror_cancel (w->mirror, NULL, &status);
}

bool
world_is_new (struct world *w)
{
  struct mirror_status st;

  mirror_get_status (w->mirror, &st);
  return !atomic_load (&w->used) && !st.fenced;
}
