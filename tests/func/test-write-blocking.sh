#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Teeing becomes ready under load and ends with two identical disks, and then
# source and target stay equal.

. "${top_srcdir:-../..}/tests/lib/functions.sh"
. "$libdir/under-load.sh"

for source in memory file; do
  mirror_at_startup write-blocking $source
  mirror_under_load write-blocking $source
done

# Synced: what a client has written is on the target when it has its reply.
start_target $size
start_source memory mirror-target="$(uri target)" \
  mirror-copy-mode=write-blocking
run_load --ops="$n" --weights=$steady "$(uri proxy)"
qmp_wait 60 'j["actively-synced"]' || die "never synced"
run_load --ops="$n" --weights=$steady --seed=2 "$(uri proxy)"
assert_identical "$(uri proxy)" "$(uri target)"
assert_qmp 'j["actively-synced"] and m["dirty-bytes"] == 0'
