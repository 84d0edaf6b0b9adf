#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients do not notice that the target dies or fails, and the next mirror
# makes a new one identical.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

n=$(light 1000)
! stress || n=$((n * 20))

# kill -9 under load, in every mode.
for mode in background write-blocking; do
  start_target 32M
  start_mirror memory 32M mirror-target="$(uri target)" \
    mirror-copy-mode=$mode
  start_load one --connections=3
  more_load one "$n"
  kill_server target
  more_load one "$n"
  qmp_wait 20 'm["target"]["state"] == "offline"' ||
    die "the target is not seen to be offline"
  assert_qmp 'j is not None and not j["actively-synced"]'
  assert_qmp 'not m["job"]["teeing"]'

  # What clients write now is dirty.
  before=$(qmp_get 'm["dirty-bytes"]')
  more_load one "$n"
  after=$(qmp_get 'm["dirty-bytes"]')
  [ "$after" -gt 0 ] && [ "$after" -ge "$before" ] ||
    die "dirty bytes went from $before to $after"

  cancel_mirror
  more_load one "$n"
  start_target 32M
  mirror_to target $mode
  more_load one "$n"
  stop_load one
  wait_equal
  assert_identical "$(uri proxy)" "$(uri target)"
  stop_server proxy
  stop_server target
done

# A target that fails some writes: no client sees it, and it is made good.
# Small writes, so that few are overwritten by others.
for mode in background write-blocking; do
  start_nbdkit target --filter=error memory 64M error-file="$tmp/bad" \
    error-pwrite-rate=20% error-zero-rate=20%
  start_mirror memory 64M mirror-target="$(uri target)" \
    mirror-copy-mode=$mode mirror-granularity=4K
  qmp_wait 20 'j["ready"]' || die "not ready"
  for round in 1 2 3; do
    : >"$tmp/bad"
    start_load one --connections=3 --max-size=4K --seed=$round \
      --weights=write=10,zero=1
    errors=$(qmp_get 'm["target-errors"]')
    more_load one "$n"
    stop_load one
    qmp_wait 20 "m['target-errors'] > $errors" || die "no error was seen"
    assert_qmp 'm["last-error"]["side"] == "target"'
    rm "$tmp/bad"
    wait_equal 120
    assert_identical "$(uri proxy)" "$(uri target)"
  done
  stop_server proxy
  stop_server target
done
