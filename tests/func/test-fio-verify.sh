#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# What fio has written through the proxy, it finds on the target.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

requires fio --version
fio --enghelp 2>/dev/null | grep -qw nbd || skip "fio has no nbd engine"

size=$(light 32)M

# run_fio NAME ARGS...: the same sequence of requests each time.
run_fio ()
{
  timeout -k 10 $((120 * slow)) \
    fio --name=verify --ioengine=nbd --uri="$(uri "$1")" --size=$size \
    --rw=randwrite --bsrange=1k-128k --bs_unaligned --iodepth=16 \
    --verify=crc32c --verify_state_save=0 --verify_fatal=1 --randseed=7 \
    "${@:2}" \
    >"$tmp/fio.log" 2>&1 || die "fio finds wrong data on $1"
}

cd "$tmp"
for mode in background write-blocking; do
  start_target $size
  start_mirror memory $size mirror-target="$(uri target)" \
    mirror-copy-mode=$mode
  run_fio proxy --do_verify=1
  wait_equal
  run_fio target --verify_only
  assert_identical "$(uri proxy)" "$(uri target)"
  stop_server proxy
  stop_server target
done
