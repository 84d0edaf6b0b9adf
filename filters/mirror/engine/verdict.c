/* SPDX-License-Identifier: BSD-3-Clause */
/* See verdict.h. */

#include <config.h>

#include "verdict.h"

/* As good as never: 30 thousand years. */
#define ETA_MAX UINT64_C (1000000000000)

static bool
is_diverging (const struct verdict_facts *f)
{
  const struct rates_result *r = &f->rates;

  return r->dirtied > 0 && r->dirtied >= r->progress &&
    f->left / (RATES_WINDOW_NS / 1000000000) > r->progress;
}

enum verdict
verdict_of (const struct verdict_facts *f)
{
  if (!f->target)
    return VERDICT_NONE;
  if (!f->online)
    return VERDICT_OFFLINE;
  if (f->synced)
    return VERDICT_SYNCED;
  if (f->paused)
    return VERDICT_PAUSED;
  if (f->scanning)
    return VERDICT_SCANNING;
  if (f->left > 0 && f->failing && f->rates.progress == 0)
    return VERDICT_STUCK;
  if (is_diverging (f))
    return VERDICT_DIVERGING;
  if (f->ready && f->follows)
    return VERDICT_TRACKING;
  return VERDICT_CONVERGING;
}

const char *
verdict_name (enum verdict v)
{
  switch (v) {
  case VERDICT_NONE: return "none";
  case VERDICT_OFFLINE: return "offline";
  case VERDICT_SYNCED: return "synced";
  case VERDICT_PAUSED: return "paused";
  case VERDICT_SCANNING: return "scanning";
  case VERDICT_STUCK: return "stuck";
  case VERDICT_DIVERGING: return "diverging";
  case VERDICT_TRACKING: return "tracking";
  case VERDICT_CONVERGING: return "converging";
  case VERDICT_COUNT: break;
  }
  return "?";
}

int64_t
verdict_eta (const struct verdict_facts *f)
{
  const struct rates_result *r = &f->rates;
  uint64_t rate, seconds;

  switch (verdict_of (f)) {
  case VERDICT_SYNCED:
    return 0;
  case VERDICT_SCANNING:
  case VERDICT_TRACKING:
  case VERDICT_CONVERGING:
    break;
  default:
    return -1;
  }
  if (f->left == 0)
    return 0;
  if (r->progress <= r->dirtied)
    return -1;
  rate = r->progress - r->dirtied;
  seconds = f->left / rate + (f->left % rate != 0);
  return seconds <= ETA_MAX ? (int64_t) seconds : -1;
}
