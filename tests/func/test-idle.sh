#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Without a target the filter changes nothing; with one it copies though no
# client is connected, and goes on when clients come and go.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

size=$((16 * 1024 * 1024 + 777))
n=$(light 1000)
truncate -s $size "$tmp/source"

# No key at all.
start_nbdkit proxy --filter=mirror file "$tmp/source"
run_load --ops="$n" --image="$tmp/image" --weights=write=5,read=5,zero=1 \
  "$(uri proxy)"
run_load --ops="$n" --overlap "$(uri proxy)"
stop_server proxy

start_mirror file "$tmp/source"
assert_qmp 'j is None and m["job"] is None'
run_load --ops="$n" --image="$tmp/image" --weights=write=5,read=5,zero=1 \
  "$(uri proxy)"
assert_identical "$tmp/image" "$tmp/source"

# Nobody is connected.
start_target $size
mirror_to target background
wait_ready
wait_equal
assert_identical "$tmp/source" "$(uri target)"

# Clients come and go.
for i in 1 2 3; do
  run_load --ops="$n" --seed=$i "$(uri proxy)"
  assert_qmp 'j is not None and j["ready"]'
done
wait_equal
assert_identical "$tmp/source" "$(uri target)"
cancel_mirror

# Cancelled: transparent again.
run_load --ops="$n" --seed=9 "$(uri proxy)"
assert_different "$tmp/source" "$(uri target)"
