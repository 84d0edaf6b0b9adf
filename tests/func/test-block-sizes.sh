#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Targets with a minimum and a maximum block: requests of any alignment lose
# no byte, not of their neighbours, nor what the target has behind the end of
# the source.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

size=$((3 * 1024 * 1024 + 333))
target_size=$((4 * 1024 * 1024))
RANDOM=1                        # seeds of the loads
ops=$(light 1500)
! stress || ops=20000

# start_blocks MIN MAX: a target full of garbage that fails what does not fit.
start_blocks ()
{
  head -c $target_size /dev/zero | tr '\0' '\245' >"$tmp/image"
  start_nbdkit target --filter=blocksize-policy file "$tmp/image" \
    blocksize-minimum=$1 blocksize-maximum=$2 \
    blocksize-preferred=$(($1 > 4096 ? $1 : 4096)) \
    blocksize-error-policy=error
}

check_equal ()
{
  wait_equal
  "$mirrorcmp" --larger-second "$(uri proxy)" "$tmp/image" ||
    die "not identical: $1"
  [ "$(tail -c +$((size + 1)) "$tmp/image" | tr -d '\245' | wc -c)" -eq 0 ] ||
    die "the target has changed behind the end of the source: $1"
}

# one MIN MAX
one ()
{
  local mode granularity load
  start_blocks $1 $2
  start_mirror memory $size
  run_load --ops=200 --no-fua "$(uri proxy)" >"$tmp/load.log"
  for mode in background write-blocking; do
    # The smallest granules that are possible, and the default.
    granularity=$1
    [ $mode = background ] || granularity=65536
    mirror_to target $mode "\"granularity\": $granularity"
    for load in "" --overlap; do
      # Small requests: their ends meet in one block.
      run_load --ops=$ops --seed=$RANDOM --max-size=8K $load \
        --connections=3 "$(uri proxy)" >"$tmp/load.log"
      run_load --ops=$(light 100) --max-size=1M $load "$(uri proxy)" \
        >"$tmp/load.log"
      check_equal "minimum $1, maximum $2, $mode $load"
    done
    # What fails is copied again, so the images alone do not tell.
    assert_qmp 'm["target-errors"] == 0 and m["source-errors"] == 0'
    cancel_mirror
  done
  stop_server proxy
  stop_server target
}

for min in 512 4096 65536; do
  for max in 64K 1M 32M; do
    one $min $max
  done
done

# Granules smaller than the block would be locked apart and written together.
start_blocks 4096 1M
start_mirror memory $size
if mirror_to target background '"granularity": 512' 2>"$tmp/error"; then
  die "granules smaller than the block are accepted"
fi
grep -q "the granularity (512) is smaller than the target's minimum block \
size (4096)" "$tmp/error" || die "what is wrong is not told"
