#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Clients who go on with a target that offers less than the source notice
# nothing: all that it lacks is emulated, and it is sent nothing that it does
# not take.  Random operations of all kinds go on across the start of a mirror
# and across the pivot.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

nbdfsx=$top_builddir/tests/lib/nbdfsx
caps=$top_builddir/tests/lib/.libs/caps.so
ops=$(light 1500)
! stress || ops=$(light 100000)
seed=${SEED:-1}

# For nbdfsx, which runs them beside its operations.
client="$PYTHON $libdir/qmp.py $tmp/ctl.sock"
cat >"$tmp/complete" <<END
$client wait $((60 * slow)) 'j and j["ready"]' &&
[ "\$($client get 'm["target-errors"] + m["source-errors"]')" = 0 ] &&
$client command job-complete '{"id": "mirror"}' &&
$client wait $((60 * slow)) 'm["pivoted"] and j is None'
END

options=()

# one NAME SIZE MODE TARGET...
one ()
{
  local name=$1 size=$2 mode=$3
  shift 3
  start_nbdkit target "$@"
  start_mirror memory "$size"
  cat >"$tmp/start" <<END
$client command blockdev-mirror '{"job-id": "mirror", "sync": "full",
  "target": "$(uri target)", "copy-mode": "$mode"}'
END
  # In the end both are read, and the target not by way of the proxy.
  timeout -k 10 $((300 * slow)) "$nbdfsx" --ops="$ops" --seed="$seed" \
    --connections=3 --edge=4K "${options[@]}" \
    --at=$((ops / 4)):"sh $tmp/start" --at=$((ops / 2)):"sh $tmp/complete" \
    "$(uri proxy)" "$(uri target)" >"$tmp/fsx.out" 2>&1 || {
    cat "$tmp/fsx.out"
    die "$name, $mode: nbdfsx is not content"
  }
  assert_qmp 'm["pivoted"] and m["target"]["state"] == "pivoted"'
  ! log_has proxy 'Invalid argument' || die "$name: a request was refused"
  # What the target refuses it says.
  ! log_has target error || die "$name: the target was sent what it cannot do"
  stop_server proxy
  stop_server target
  seed=$((seed + 1))
  echo "$name, $mode: ok"
}

m=$((1024 * 1024))
for mode in write-blocking background; do
  one blocks $((3 * m + 4096)) $mode --filter=blocksize-policy \
    memory $((3 * m + 4096)) blocksize-minimum=4096 blocksize-preferred=4096 \
    blocksize-maximum=64K blocksize-error-policy=error
  # Requests that meet in one block.
  options=(--max-size=2K)
  one neighbours 65536 $mode --filter=blocksize-policy --filter=delay \
    memory 65536 blocksize-minimum=4096 blocksize-preferred=4096 \
    blocksize-error-policy=error delay-read=1ms
  options=()
  one no-fua $((3 * m + 333)) $mode "$caps" size=$((3 * m + 333)) \
    caps=flush,zero,trim,multi-conn,extents
  one no-zero $((3 * m + 333)) $mode --filter=nozero "$caps" \
    size=$((3 * m + 333)) caps=flush,fua,trim,multi-conn,extents
  one no-trim $((3 * m + 333)) $mode "$caps" size=$((3 * m + 333)) \
    caps=flush,fua,zero,fast-zero,multi-conn,extents
  one nothing $((3 * m + 4096)) $mode --no-sr --filter=blocksize-policy \
    --filter=nozero "$caps" size=$((3 * m + 4096)) caps=flush \
    blocksize-minimum=4096 blocksize-preferred=4096 \
    blocksize-error-policy=error
done
