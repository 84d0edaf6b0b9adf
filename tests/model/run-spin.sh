#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The Promela models: independent core, sampling gate, reading "synced", slots
# against range locks.  Needs spin and gcc.
#
# For each: must it be clean, or must spin find an error?
cd "$(dirname "$0")" || exit 1
src=$PWD
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
bad=0

p ()                            # clean|error, model, defines
{
  local want=$1 f=$2 out got
  shift 2
  echo "== $f $*, should be: $want"
  spin "$@" -a "$src/$f" >spin.out 2>&1 &&
    gcc -O2 -DSAFETY -DMEMLIM=1900 -w -o pan pan.c ||
    { cat spin.out; bad=1; return; }
  out=$(timeout 300 ./pan -m2000000 2>&1) || bad=1
  grep -E 'assertion violated|invalid end state \(|errors:|states, stored' \
    <<<"$out"
  case $out in
    *"errors: 0"*) got=clean ;;
    *"errors: "*) got=error ;;
    *) got='no answer' ;;
  esac
  [ "$got" = "$want" ] || { echo "FAILED: $got"; bad=1; }
  rm -f pan pan.? ./*.trail
}

for x in 0 1; do
  p error core.pml -DCLEAR_FIRST=0 -DSWITCHES=2 -DLOSSES=$x
  p clean core.pml -DCLEAR_FIRST=1 -DSWITCHES=2 -DLOSSES=$x
done
p error gate.pml -DGATE=0
p clean gate.pml -DGATE=1
p error syncread.pml -DHOW=0
p error syncread.pml -DHOW=1
p clean syncread.pml -DHOW=2
p error slots.pml -DORDER=0
p clean slots.pml -DORDER=1
p clean slots.pml -DORDER=2
exit $bad
