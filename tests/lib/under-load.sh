# SPDX-License-Identifier: BSD-3-Clause
# The same for each copy mode; sourced after functions.sh.

# No multiple of the granule, nor of a sector.
size=$((33 * 1024 * 1024 + 4321))

# Writes and zeroes only: then write-blocking must converge under load.
steady=write=50,read=20,zero=10,flush=2

n=$(light 1000)
! stress || n=$((n * 20))

# start_source memory|file
start_source ()
{
  local args=(memory "$size")
  if [ "$1" = file ]; then
    rm -f "$tmp/source"
    truncate -s "$size" "$tmp/source"
    args=(file "$tmp/source")
  fi
  shift
  start_mirror "${args[@]}" "$@"
}

# Once no client writes: everything in flight ends, and both are the same.
finish ()
{
  wait_equal
  wait_ready
  assert_identical "$(uri proxy)" "$(uri target)"
  [ "$1" != file ] || assert_identical "$tmp/source" "$(uri target)"
  stop_server proxy
  stop_server target
}

# mirror_at_startup MODE SOURCE: clients come as soon as they can.
mirror_at_startup ()
{
  start_target $size
  start_source "$2" mirror-target="$(uri target)" mirror-copy-mode="$1"
  start_load one --connections=3 --seed=11
  more_load one "$n"
  stop_load one
  finish "$2"
}

# mirror_under_load MODE SOURCE: clients have been there for a while when the
# mirror is started, and stay past the first pass.
mirror_under_load ()
{
  start_target $size
  start_source "$2"
  start_load one --connections=4 --seed=21 --weights=$steady
  more_load one "$n"
  mirror_to target "$1"
  more_load one "$n"
  if [ "$1" = write-blocking ]; then
    wait_ready
    more_load one "$n"
  fi
  stop_load one
  wait_ready

  # Now with trims, on a mirror that is ready.
  start_load two --connections=4 --seed=22
  more_load two "$n"
  stop_load two
  finish "$2"
}
