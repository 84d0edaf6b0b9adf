#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Sources that lack something: all are mirrored in both modes.  What cannot
# be mirrored is refused with one line.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

nbdfsx=$top_builddir/tests/lib/nbdfsx
caps=$top_builddir/tests/lib/.libs/caps.so
size=$((1024 * 1024 + 12345))
ops=$(light 400)
! stress || ops=50000
seed=1

cat >"$tmp/settle" <<END
exec "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" wait $((60 * slow)) \
  'j and j["ready"] and j["len"] == j["offset"]'
END

# mirrored NAME SOURCE...: with clients from before the mirror to its end.
mirrored ()
{
  local name=$1 mode
  shift
  for mode in background write-blocking; do
    start_target $size
    start_mirror "$@"
    cat >"$tmp/start" <<END
exec "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" command blockdev-mirror \
  '{"job-id": "mirror", "sync": "full", "target": "$(uri target)",
    "copy-mode": "$mode"}' >/dev/null
END
    timeout -k 10 $((180 * slow)) "$nbdfsx" --ops="$ops" --seed=$seed \
      --connections=3 --at=$((ops / 3)):"sh $tmp/start" \
      --settle="sh $tmp/settle" "$(uri proxy)" "$(uri target)" \
      >"$tmp/fsx.out" 2>&1 ||
      { cat "$tmp/fsx.out"; die "$name, $mode: nbdfsx is not content"; }
    seed=$((seed + 1))
    stop_server proxy
    stop_server target
  done
  echo "$name: ok"
}

all="flush fua zero fast-zero trim multi-conn extents cache"

# only NAME...: these and nothing else.
only ()
{
  local list="$*"
  echo "caps=${list// /,}"
}

mirrored everything "$caps" size=$size "$(only $all)"
mirrored nothing --filter=nozero "$caps" size=$size
for lack in multi-conn extents trim flush fua; do
  mirrored "no $lack" "$caps" size=$size \
    "$(only $(echo " $all " | sed "s/ $lack / /"))"
done
mirrored "no zero" --filter=nozero "$caps" size=$size \
  "$(only flush fua trim multi-conn extents)"
mirrored "no fast zero" "$caps" size=$size \
  "$(only flush zero trim multi-conn extents)"
mirrored "extents taken away" --filter=noextents memory $size

# One that cannot be written to is copied.
start_nbdkit proxy --filter=mirror -r pattern $size \
  mirror-control="$tmp/ctl.sock"
for mode in background write-blocking; do
  start_target $size
  mirror_to target $mode
  wait_ready
  assert_identical "$(uri proxy)" "$(uri target)"
  cancel_mirror
  stop_server target
done
stop_server proxy

# One that reads whole blocks and little at once.
start_nbdkit limited memory 2M
start_mirror -r --filter=blocksize-policy pattern 2M \
  blocksize-minimum=4K blocksize-maximum=64K blocksize-error-policy=error \
  mirror-granularity=512 mirror-target="$(uri limited)"
wait_ready
assert_qmp 'm["source-errors"] == 0'
start_nbdkit same pattern 2M
"$mirrorcmp" "$(uri same)" "$(uri limited)" || die "limited: not identical"
stop_server same
stop_server proxy
stop_server limited

#-- a size that changes --------------------------------------------------

# Clients that have a handle of the source of their own see it.
truncate -s $size "$tmp/image"
start_target $((2 * size))
start_mirror file "$tmp/image" mirror-target="$(uri target)"
wait_ready
[ "$(nbdinfo --size "$(uri proxy)")" = $size ] || die "the first client"
truncate -s $((size + 512)) "$tmp/image"
! nbdinfo --size "$(uri proxy)" >/dev/null 2>&1 ||
  die "a client of a source that has grown is served"
[ "$(grep -c "changed its size from $size to $((size + 512)) bytes" \
  "$tmp/proxy.log")" -eq 1 ] || die "not one line about the size"
assert_qmp 'j["ready"]'
truncate -s $size "$tmp/image"
[ "$(nbdinfo --size "$(uri proxy)")" = $size ] || die "a client again"
stop_server proxy

# Those that share one all see the size it had.
start_mirror "$caps" size=$size opens=1 grow=4096 caps=flush \
  mirror-target="$(uri target)"
for i in 1 2 3; do
  [ "$(nbdinfo --size "$(uri proxy)")" = $size ] || die "shared client $i"
done
stop_server proxy

#-- refused --------------------------------------------------------------

# Filters and plugins that serialize.
for args in "--filter=noparallel memory 1M serialize=connections" \
            "--filter=noparallel memory 1M serialize=all-requests" \
            "--filter=noparallel memory 1M serialize=requests" \
            "eval get_size=echo\ 512 pread=true"; do
  eval "set -- $args"
  # A sanitizer's library is preloaded into eval's shells and kills some.
  [ "$1" != eval ] || [ "${MIRROR_SANITIZER:-no}" = no ] || continue
  status=0
  timeout 20 nbdkit -f -U "$tmp/refused.sock" --filter=mirror "$@" \
    mirror-control="$tmp/ctl2.sock" mirror-target="$(uri target)" \
    >"$tmp/refused.out" 2>&1 </dev/null || status=$?
  [ $status -eq 1 ] || die "$args: status $status instead of 1"
  grep -q "parallel thread model" "$tmp/refused.out" ||
    die "$args: $(cat "$tmp/refused.out")"
  [ ! -e "$tmp/ctl2.sock" ] || die "$args: the control socket is left behind"
done
