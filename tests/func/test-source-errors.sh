#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A source that fails: clients get the error of their own request, and the
# target is made equal to what the source has.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

n=$(light 1000)
! stress || n=$((n * 20))

# finish: after the errors have ended.
finish ()
{
  wait_equal 120
  wait_ready
  assert_identical "$(uri proxy)" "$(uri target)"
  stop_server proxy
  stop_server target
}

# A range of which a write has failed stays dirty for the suspect time.
suspect=mirror-suspect-time=2

for mode in background write-blocking; do
  # Requests fail before anything was done.
  : >"$tmp/bad"
  start_target 32M
  start_mirror --filter=error memory 32M error-file="$tmp/bad" \
    error-pwrite-rate=5% error-zero-rate=5% error-trim-rate=5% \
    $suspect mirror-copy-mode=$mode mirror-target="$(uri target)"
  out=$(run_load --allow-errors --connections=3 --ops="$n" "$(uri proxy)")
  echo "$out"
  case $out in
    *" errors=0 "*) die "clients did not see the source's errors" ;;
  esac
  rm "$tmp/bad"
  finish

  # Half of a write was done when it failed: no reply says what there is.
  start_target 32M
  start_mirror "$top_builddir/tests/lib/.libs/liar.so" size=32M \
    lie=half-write-error every=20 \
    $suspect mirror-copy-mode=$mode mirror-target="$(uri target)"
  run_load --allow-errors --connections=3 --ops="$n" "$(uri proxy)"
  finish

  # The copier cannot read: what it could not copy stays dirty.
  start_target 32M
  start_mirror --filter=error memory 32M error-file="$tmp/bad" \
    error-pread-rate=30% \
    $suspect mirror-copy-mode=$mode mirror-target="$(uri target)"
  start_load one --connections=3 --weights=write=5,zero=1,trim=1
  : >"$tmp/bad"
  more_load one "$n"
  rm "$tmp/bad"
  stop_load one
  finish
done
