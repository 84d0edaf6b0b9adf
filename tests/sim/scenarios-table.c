/* SPDX-License-Identifier: BSD-3-Clause */
/* All named profiles, with what each is about; see scenarios.h. */

#include <config.h>

#include <string.h>

#include "scenarios.h"

const struct scenario scenarios[] = {
  { "H1a", "switches to and fro under late requests", SEEN_SYNCED_AGAIN,
    scenario_h1a },
  { "H1d", "power cut during a tee", SEEN_LOSS_DURING_TEE, scenario_h1d },
  { "H2b", "the last granule is being copied", SEEN_LAST_COPY, scenario_h2b },
  { "H3", "synced again after a detour", SEEN_SYNCED_AGAIN, scenario_h3 },
  { "H5", "acknowledged during a flush", SEEN_ACK_DURING_FLUSH, scenario_h5 },
  { "H6", "an acknowledgement outlives its session", SEEN_LATE_ACK,
    scenario_h6 },
  { "H7", "a late write over a newer one", SEEN_GHOST_AGAIN, scenario_h7 },
  { "H18", "the source takes back", SEEN_ROLLED_BACK, scenario_h18 },
  { "bad-flush", "a flush fails while a tee is half done",
    SEEN_BAD_FLUSH_DURING_TEE, scenario_bad_flush },
  { "H11", "a job starts over requests in flight", SEEN_OLD_REQUEST,
    scenario_h11 },
  { "zeroes-late", "... and zero what it tees", SEEN_OLD_REQUEST,
    scenario_zeroes_late },
  { "H13", "ready under load", SEEN_READY_UNDER_LOAD, scenario_h13 },
  { "wake", "few marks, sleeping copiers", SEEN_LAST_COPY, scenario_wake },
  { "block", "neighbours in a block of the target", SEEN_SHARED_BLOCK,
    scenario_block },
  { "block-fails", "failures spoil their blocks", SEEN_GARBAGE,
    scenario_block_fails },
  { "block-64k", "blocks of 64 KiB", SEEN_SHARED_BLOCK, scenario_block_64k },
  { "none", "sync none holds clients", SEEN_HELD, scenario_none },
  { "none-late", "... for too long", SEEN_START_LATE, scenario_none_late },
  { "auto", "auto begins to tee", SEEN_AUTO_TEE, scenario_by_itself },
  { "modes", "auto among the other modes", SEEN_SYNCED_AGAIN, scenario_modes },
  { "detect", "data is sent as zeroes", SEEN_DETECTED, scenario_detect },
  { "skip", "zeroes are not sent", SEEN_SKIPPED, scenario_skip },
  { "is-zero", "the target is zero", SEEN_SKIPPED, scenario_is_zero },
  { "defer", "flushes stay with the source", SEEN_SYNCED, scenario_defer },
  { "pivot", "clients are moved under load", SEEN_PIVOT, scenario_pivot },
  { "pivot-fails", "... or not", SEEN_PIVOT_FAILED, scenario_pivot_fails },
  { "pivot-back", "... and back again", SEEN_PIVOT_BACK, scenario_pivot_back },
  { "pivot-block", "a block of the clients' disk is spoilt", SEEN_DISK_GARBAGE,
    scenario_pivot_block },
  { "pivot-cut", "... and nobody could flush it", SEEN_DISK_LOST,
    scenario_pivot_cut },
  { "pivot-lost", "the clients' disk is lost", SEEN_DISK_LOST,
    scenario_pivot_lost },
  { "detach", "a copy of this moment", SEEN_DETACH, scenario_detach },
  { "hold", "a barrier", SEEN_BARRIER, scenario_hold },
  { "fence", "changes are refused", SEEN_FENCED, scenario_fence },
  { "pause", "copying stops and goes on", SEEN_PAUSED, scenario_pause_and_go },
  { "ghosts", "late writes of a lost session", SEEN_GHOST, scenario_ghosts },
  { "back", "the target comes back", SEEN_BACK, scenario_back },
  { "another", "another one comes back", SEEN_REPLACED, scenario_another },
  { "hung", "the target hangs and is given up", SEEN_HUNG, scenario_hung },
  { "policy", "an error makes the job fail", SEEN_FAILED, scenario_policy },
  { "policy-stop", "... or stop", SEEN_STOPPED, scenario_policy },
  { "verify", "compared under load", SEEN_VERIFIED_UNDER_LOAD,
    scenario_verify },
  { "verify-fails", "... whatever goes wrong meanwhile", SEEN_VERIFIED,
    scenario_verify_fails },
  { "verify-ends", "... until the job ends", SEEN_PIVOT, scenario_verify_ends },
  { "verify-repair", "differences are found and repaired", SEEN_REPAIRED,
    scenario_verify_repair },
  { "H8a", "regions retire while others are dirty", SEEN_RETIRED_DIRTY,
    scenario_h8a },
  { "H8b", "... while others are being copied", SEEN_RETIRED_COPYING,
    scenario_h8b },
  { "H8c", "... while a request waits for its lock", SEEN_RETIRED_WAITING,
    scenario_h8c },
  { "H8d", "a request begins while its region retires", SEEN_BEGIN_RETIRING,
    scenario_h8d },
  { "H9", "W grows without a write", SEEN_GROWN, scenario_h9 },
  { "H10", "a pivot is called off, its record may be there", SEEN_COMMIT_FAILED,
    scenario_h10 },
  { "H19", "a restart after a pivot", SEEN_RESTART_PIVOTED, scenario_h19 },
  { "kill", "the process is killed", SEEN_KILLED, scenario_kill },
  { "kill-late", "... and its writes arrive at the source later",
    SEEN_LATE_SOURCE, scenario_kill_late },
  { "cut-source", "... and the source loses data", SEEN_CUT_SOURCE,
    scenario_cut },
  { "cut-target", "... and the target", SEEN_CUT_TARGET, scenario_cut },
  { "cut-file", "... and the intent file", SEEN_CUT_INTENT, scenario_cut },
  { "cut-all", "... and all of them", SEEN_CUT_ALL, scenario_cut },
  { "H18-late", "the source takes back, in time", SEEN_ROLLED_BACK_LATE,
    scenario_taken_back },
  { "kill-record", "... when a commit record is in a cache only",
    SEEN_KILLED_AT_COMMIT, scenario_kill_pivot },
  { "kill-pivot", "... when it is durable, and nobody has been moved",
    SEEN_COMMITTED, scenario_kill_pivot },
  { "kill-ends", "a fence outlives a kill", SEEN_FENCE_KEPT,
    scenario_kill_ends },
  { "restart", "ended in order, and resumed", SEEN_RESUMED_CLEAN,
    scenario_restart },
  { "file-lost", "the intent file is given up", SEEN_FILE_LOST,
    scenario_file_lost },
  { "file-broken", "... and cannot be removed", SEEN_FILE_BROKEN,
    scenario_file_broken },
  { NULL, NULL, NR_WITNESSES, NULL },
};

const struct scenario *
scenario_find (const char *name)
{
  const struct scenario *s;

  for (s = scenarios; s->name; s++)
    if (strcmp (s->name, name) == 0)
      return s;
  return NULL;
}
