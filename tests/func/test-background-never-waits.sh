#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# In background mode no client request waits for the target, not even for one
# that hangs.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

n=$(light 4000)
minute=(--ops=$n)
! stress || minute=(--seconds=60 --iops=2000)

p99 ()
{
  sed -n 's/.* p99-us=\([0-9]*\).*/\1/p' <<<"$1"
}

start_target 64M
start_mirror memory 64M mirror-target="$(uri target)" \
  mirror-copy-mode=background
alive=$(run_load "${minute[@]}" --seed=1 "$(uri proxy)")
wait_equal

kill -STOP "${server_pids[target]}"
hung=$(run_load "${minute[@]}" --seed=2 "$(uri proxy)")
assert_qmp 'm["dirty-bytes"] + m["inflight-bytes"] > 0'
assert_qmp 'm["target-waits"] == 0'
kill -CONT "${server_pids[target]}"

# Slower by chance is possible, but not by much, and not for long.
echo "alive: $alive"
echo "hung:  $hung"
if stress && [ $slow -eq 1 ]; then
  [ "$(p99 "$hung")" -le $(($(p99 "$alive") * 2 + 2000)) ] ||
    die "requests are slower while the target hangs"
fi
if qmp_wait 20 'j["len"] == j["offset"]' 2>/dev/null; then
  assert_identical "$(uri proxy)" "$(uri target)"
else
  # It was away for so long that it counts as lost.
  assert_qmp 'm["target"]["state"] == "offline"'
fi
