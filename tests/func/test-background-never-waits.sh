#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# In background mode no client request, of whatever kind, waits for the target,
# not even for one that hangs for as long as it likes.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

n=$(light 4000)
minute=(--ops=$n)
! stress || minute=(--seconds=60 --iops=2000)

p99 ()
{
  sed -n 's/.* p99-us=\([0-9]*\).*/\1/p' <<<"$1"
}

# number NAME SUMMARY
number ()
{
  sed -n "s/.* $1=\([0-9]*\) .*/\1/p" <<<"$2"
}

# Who waited would wait for an hour.
start_target 64M
start_mirror memory 64M mirror-target="$(uri target)" \
  mirror-copy-mode=background mirror-target-timeout=3600
alive=$(run_load "${minute[@]}" --seed=1 "$(uri proxy)")
wait_equal

kill -STOP "${server_pids[target]}"
hung=$(run_load "${minute[@]}" --seed=2 "$(uri proxy)")
echo "alive: $alive"
echo "hung:  $hung"
assert_qmp 'm["target"]["state"] == "online"'
assert_qmp 'm["dirty-bytes"] + m["inflight-bytes"] > 0'
assert_qmp 'm["target-waits"] == 0'
kill -CONT "${server_pids[target]}"

for op in write read zero trim flush; do
  [ "$(number $op "$hung")" -gt 0 ] || die "there was no $op"
  [ "$(number longest-$op-us "$hung")" -lt $((slow * 1000000)) ] ||
    die "a $op has waited while the target hangs"
done
# Slower by chance is possible, but not by much, and not for long.
if stress && [ $slow -eq 1 ]; then
  [ "$(p99 "$hung")" -le $(($(p99 "$alive") * 2 + 2000)) ] ||
    die "requests are slower while the target hangs"
fi
wait_equal
assert_identical "$(uri proxy)" "$(uri target)"
