#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# nbdfsx is content with honest servers, finds the faults of those that lie,
# and says which few operations show them.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

nbdfsx=$top_builddir/tests/lib/nbdfsx
liar=$top_builddir/tests/lib/.libs/liar.so
caps=$top_builddir/tests/lib/.libs/caps.so
size=$((1024 * 1024 + 333))
ops=3000

# check STATUS NAME ARGS...
check ()
{
  local want=$1 name=$2 status=0
  shift 2
  timeout -k 5 120 "$nbdfsx" --ops=$ops "$@" "$(uri "$name")" \
    >"$tmp/out.log" 2>&1 || status=$?
  [ $status -eq "$want" ] || die "$name, $*: status $status instead of $want"
}

start_nbdkit memory memory $size
for args in "" "--connections=4 --depth=16 --seed=2" "--align=512 --seed=3" \
            "--max-size=1M --edge=512 --seed=4" "--only=3,5,2000"; do
  check 0 memory $args
done
# The list is the seed's.
"$nbdfsx" --ops=50 --seed=9 "$(uri memory)" >"$tmp/a"
"$nbdfsx" --ops=50 --seed=9 "$(uri memory)" >"$tmp/b"
[ "$(sed 's/ seconds.*//' "$tmp/a")" = "$(sed 's/ seconds.*//' "$tmp/b")" ] ||
  die "the same seed, but not the same operations"
check 2 memory --at=100:false
check 2 memory --settle=false
stop_server memory

for offer in "" extents,fast-zero,zero,trim,flush,fua,cache,multi-conn; do
  start_nbdkit caps "$caps" size=$size caps=$offer
  check 0 caps
  stop_server caps
done
start_nbdkit none "$liar" size=$size lie=none
start_nbdkit blocks --filter=blocksize-policy memory $size \
  blocksize-minimum=4K blocksize-error-policy=error
check 0 none
check 0 blocks
stop_server none
stop_server blocks

# Each lie is told of every request that covers one byte, so it is always the
# same; found and shrunk to LENGTH operations at most.
for fault in drop-write:1 short-write:1 flip-write:1 misplace-write:1 \
             flip-read:1 ignore-zero:2 short-zero:2 wide-zero:2 \
             fast-zero-half:2 false-hole:2 trim-more:2; do
  lie=${fault%:*}
  length=${fault#*:}
  weights=read=10,write=15,zero=10,status=10
  [ "$lie" != trim-more ] || weights=read=10,write=10,trim=3
  start_nbdkit "$lie" "$liar" size=$size lie="$lie" every=1 at=200000
  check 1 "$lie" --weights=$weights
  grep -q "MISMATCH: seed 1," "$tmp/out.log" || die "$lie: no mismatch"
  n=$(sed -n 's/.*shrunk from [0-9]* to \([0-9]*\) operations.*/\1/p' \
        "$tmp/out.log")
  [ -n "$n" ] && [ "$n" -le "$length" ] ||
    die "$lie: shrunk to '$n' operations, not $length"
  echo "$lie: $n of $(sed -n 's/.* operations=\([0-9]*\).*/\1/p' \
    "$tmp/out.log") operations"

  # What it says to do again fails again.
  again=$(sed -n 's/.* again: //p' "$tmp/out.log")
  check 1 "$lie" --shrink-seconds=0 $again
  stop_server "$lie"
done

# A fresh server for each replay.  It is not known to functions.sh.
cat >"$tmp/restart" <<END
[ ! -f "$tmp/fresh.pid" ] || kill -KILL \$(cat "$tmp/fresh.pid")
rm -f "$tmp/fresh.sock" "$tmp/fresh.pid"
exec nbdkit -P "$tmp/fresh.pid" -U "$tmp/fresh.sock" "$liar" \\
  size=$size lie=half-write-error every=1 at=200000
END
kill_fresh ()
{
  kill -KILL "$(cat "$tmp/fresh.pid")"
}
sh "$tmp/restart"
cleanup_fn kill_fresh
check 1 fresh --restart="sh $tmp/restart"
grep -q "shrunk from [0-9]* to 1 operations.*Input/output error" \
  "$tmp/out.log" || die "an error: not shrunk to one operation"

# A target that is not the same.
start_nbdkit memory memory $size
start_nbdkit other memory $size
timeout 60 "$nbdfsx" --ops=100 --shrink-seconds=0 "$(uri memory)" \
  "$(uri other)" >"$tmp/out.log" && die "another target is accepted"
grep -q "at the end: the target" "$tmp/out.log" ||
  die "not the target is blamed"
timeout 60 "$nbdfsx" --ops=100 "$(uri memory)" "$(uri memory)" ||
  die "the same disk as the target is refused"
