#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Some thousand seeds of the simulator: every named scenario, random runs, the
# same seed twice, and a target that lies, which must be seen.
sim=$top_builddir/tests/sim/sim
seeds=${SIM_SEEDS:-1200}
# Sanitizers make it slower; the seeds are the first ones of the same.
case ${MIRROR_SANITIZER:-no} in
  address) seeds=$((seeds / 5)) ;;
  thread) seeds=$((seeds / 30)) ;;
esac

fail ()
{
  echo "test-sim: $*"
  exit 1
}

names=$("$sim" --list | cut -d ' ' -f 1) || fail "no list of scenarios"
[ "$(wc -w <<<"$names")" -ge 34 ] || fail "scenarios are missing"
for s in $names; do
  n=$((seeds / 20))
  # Holes of the protocol need certain steps in a row.
  [ "${s#H}" = "$s" ] || n=$((seeds / 10))
  # Races that need two rare things at once.
  case $s in
    pause|pivot-back|verify-ends) n=$((seeds / 5)) ;;
    zeroes-late) n=$((seeds / 3)) ;;
  esac
  # A wakeup that is missed is rare, and the runs are short.
  [ "$s" != wake ] || n=$((seeds * 2))
  # Enough for what a scenario is named after to happen.
  [ $n -ge 12 ] || n=12
  "$sim" --scenario "$s" --seeds 1..$n || fail "scenario $s: status $?"
done
"$sim" --seeds 1..$seeds || fail "random runs: status $?"
"$sim" --twice --seeds 1..25 || fail "the same seed twice: status $?"

out=$("$sim" --lie --seeds 1..50 2>&1)
[ $? -eq 1 ] && grep -q '^FAILED: I[0-9]' <<<"$out" ||
  fail "a target that lies is not seen"
again=$(sed -n 's/^again: sim//p' <<<"$out")
[ -n "$again" ] || fail "a report does not say how to repeat the run"
hash=$(sed -n 's/^seed .*trace hash //p' <<<"$out")
"$sim" $again 2>&1 | grep -q "trace hash $hash\$" ||
  fail "'sim$again' does not repeat the run"
