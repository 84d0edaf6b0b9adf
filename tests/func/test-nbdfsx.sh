#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Random operations of all kinds through the proxy, in each copy mode, with a
# mirror from the beginning or started in the middle: every answer is right,
# and at the end source and target contain what they should.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

nbdfsx=$top_builddir/tests/lib/nbdfsx
caps=$top_builddir/tests/lib/.libs/caps.so

# Four runs for each geometry: a million operations with STRESS=1.
ops=$(light 800)
! stress || ops=$(light 250000)
seed=${SEED:-1}
total=0

# For nbdfsx, which runs them beside its operations.
cat >"$tmp/qmp" <<END
exec "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" command "\$@"
END
# What fails is copied again, so the images alone do not tell.
no_errors='m["target-errors"] == 0 and m["source-errors"] == 0'
cat >"$tmp/cancel" <<END
"$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" wait 0 '$no_errors' &&
sh "$tmp/qmp" block-job-cancel '{"device": "mirror", "force": true}' &&
exec "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" wait $((30 * slow)) 'j is None'
END
cat >"$tmp/settle" <<END
exec "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" wait $((120 * slow)) \
  'j and j["ready"] and j["len"] == j["offset"]'
END

# start MODE: what starts the mirror, as nbdfsx needs it.
start ()
{
  cat >"$tmp/start-$1" <<END
exec sh "$tmp/qmp" blockdev-mirror '{"job-id": "mirror", "sync": "full",
  "target": "$(uri target)", "copy-mode": "$1"}'
END
  echo "sh $tmp/start-$1"
}

# fsx ARGS...
fsx ()
{
  timeout -k 10 $((600 * slow)) "$nbdfsx" --ops="$ops" --seed="$seed" \
    --connections=3 --settle="sh $tmp/settle" "$@" \
    "$(uri proxy)" "$(uri target)" >"$tmp/fsx.out" 2>&1 || {
    cat "$tmp/fsx.out"
    die "$name: nbdfsx is not content: $*"
  }
  assert_qmp "$no_errors"
  total=$((total + ops))
  seed=$((seed + 1))
}

# begin KEYS...: the proxy with this geometry's source and target.
begin ()
{
  local source=("${source[@]}")
  start_nbdkit target "${target[@]}"
  case ${source[*]} in
    *"file "*) rm -f "$tmp/source"; truncate -s "$size" "$tmp/source" ;;
  esac
  start_mirror "${source[@]}" mirror-granularity="$gran" "$@"
}

end ()
{
  stop_server proxy
  stop_server target
}

# geometry NAME SIZE GRANULARITY EDGE -- SOURCE... -- TARGET...
geometry ()
{
  name=$1 size=$2 gran=$3 edge=$4
  shift 5
  source=()
  while [ "$1" != -- ]; do source+=("$1"); shift; done
  target=("${@:2}")

  begin mirror-target="$(uri target)" mirror-copy-mode=write-blocking
  fsx --edge="$edge"
  end
  begin
  fsx --edge="$edge" --at=$((ops / 4)):"$(start background)"
  end
  begin
  fsx --edge="$edge" --at=$((ops / 4)):"$(start write-blocking)"
  end
  # Cancelled, and once more onto the same target.
  begin
  fsx --edge="$edge" --at=$((ops / 6)):"$(start auto)" \
    --at=$((ops / 2)):"sh $tmp/cancel" \
    --at=$((ops * 2 / 3)):"$(start write-blocking)"
  end
  echo "$name: ok"
}

m=$((1024 * 1024))
geometry memory $((8 * m + 333)) 64K 64K -- memory $((8 * m + 333)) \
  -- memory $((8 * m + 333))
geometry file $((4 * m + 511)) 512 512 \
  -- file "$tmp/source" -- memory $((4 * m + 512))
geometry no-extents $((5 * m + 1)) 1M 1M -- "$caps" size=$((5 * m + 1)) \
  caps=zero,trim,flush,multi-conn -- "$caps" size=$((5 * m + 1)) caps=flush
geometry all-caps $((3 * m + 513)) 4K 4K -- "$caps" size=$((3 * m + 513)) \
  caps=zero,fast-zero,trim,flush,fua,cache,extents,multi-conn \
  -- --filter=nozero "$caps" size=$((3 * m + 513)) caps=extents,fua
# The copier must keep to the source's blocks, too: granules are smaller.
geometry blocks $((6 * m + 4096)) 512 4K -- --filter=blocksize-policy \
  memory $((6 * m + 4096)) blocksize-minimum=4K \
  blocksize-error-policy=error -- memory $((6 * m + 4096))
echo "nbdfsx: $total operations"
