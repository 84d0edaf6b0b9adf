#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The oracle is content with an honest server and catches those that lie.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

liar=$top_builddir/tests/lib/.libs/liar.so
size=$((8 * 1024 * 1024 + 333))
ops=3000

# check STATUS SERVER-NAME ARGS...
check ()
{
  local want=$1 name=$2 status=0
  shift 2
  "$oracle" --ops=$ops --seconds=20 "$@" "$(uri "$name")" \
    >"$tmp/out.log" 2>&1 || status=$?
  [ $status -eq "$want" ] || die "$name, $*: status $status instead of $want"
}

start_nbdkit memory memory $size
for args in "" "--overlap" "--overlap --connections=4 --depth=16" \
            "--connections=1 --depth=1" "--no-unaligned --max-size=4K" \
            "--from=65537 --length=100001" "--iops=500 --seconds=0.3" \
            "--weights=write=1" "--weights=write=1,read=5,flush=1"; do
  check 0 memory $args
done

# A second run finds the first one's data, and is content with it.
check 0 memory --seed=2 --image="$tmp/image"
"$mirrorcmp" "$tmp/image" "$(uri memory)" || die "the image is wrong"
stop_server memory

# Errors, and a lost connection.
start_nbdkit errors --filter=error memory $size error-pwrite-rate=1%
check 1 errors
check 0 errors --allow-errors
stop_server errors

for lie in drop-write short-write flip-write misplace-write repeat-write \
           half-overlap flip-read ignore-zero short-zero wide-zero \
           fast-zero-half; do
  # A lie in ten zero requests: there are fewer of them.
  weights=write=50,read=50,zero=5,trim=5
  every=50
  case $lie in *-zero) weights=write=5,read=5,zero=5; every=10 ;; esac
  start_nbdkit "$lie" "$liar" size=$size lie=$lie every=$every
  for args in "--weights=$weights" "--weights=$weights --overlap"; do
    # Requests that never meet are not bent by this one.
    [ "$lie $args" != "half-overlap --weights=$weights" ] || continue
    check 1 "$lie" $args
    grep -q MISMATCH "$tmp/out.log" || die "$lie: not seen as wrong data"
  done
  stop_server "$lie"
done
start_nbdkit none "$liar" size=$size lie=none
check 0 none
check 0 none --overlap
stop_server none

start_nbdkit dies memory $size
"$oracle" --progress="$tmp/progress" "$(uri dies)" >"$tmp/out.log" 2>&1 &
pid=$!
wait_for 20 test -s "$tmp/progress"
kill_server dies
status=0
wait $pid || status=$?
[ $status -eq 2 ] || die "the server has died: status $status instead of 2"

# One that comes back with what it had; and one that has lost something.
printf '' >"$tmp/disk"
truncate -s $size "$tmp/disk"
for end in keeps forgets; do
  start_nbdkit back file "$tmp/disk"
  rm -f "$tmp/progress"
  "$oracle" --reconnect --progress="$tmp/progress" "$(uri back)" \
    >"$tmp/out.log" 2>&1 &
  pid=$!
  for round in 1 2 3; do
    before=$(cat "$tmp/progress" 2>/dev/null || echo 0)
    more () { [ $(($(cat "$tmp/progress" 2>/dev/null || echo 0))) -gt \
                $((before + 1000)) ]; }
    wait_for 60 more || die "no progress in round $round"
    kill_server back
    [ $end = keeps ] || truncate -s 0 "$tmp/disk"
    truncate -s $size "$tmp/disk"
    start_nbdkit back file "$tmp/disk"
  done
  kill -TERM $pid
  status=0
  wait $pid || status=$?
  case $end in
    keeps) [ $status -eq 0 ] || die "reconnecting: status $status"
           grep -q ' cut=[1-9]' "$tmp/out.log" || die "nothing was cut" ;;
    *)     [ $status -eq 1 ] || die "a loss is not seen: status $status" ;;
  esac
  stop_server back
done

# What clients wrote to one export must be on the other.
start_nbdkit one file "$tmp/disk"
start_nbdkit same file "$tmp/disk"
start_nbdkit other memory $size
run_load --ops=500 --final="$(uri same)" "$(uri one)"
check 1 one --final="$(uri other)"
