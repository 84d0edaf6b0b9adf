#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Some thousand seeds of the simulator: every named scenario, random runs, the
# same seed twice, and a target that lies, which must be seen.
sim=$top_builddir/tests/sim/sim
seeds=${SIM_SEEDS:-1500}
# A sanitizer makes it some times slower; the seeds are the same ones.
[ "${MIRROR_SANITIZER:-no}" = no ] || seeds=$((seeds / 8))

fail ()
{
  echo "test-sim: $*"
  exit 1
}

names=$("$sim" --list | cut -d ' ' -f 1) || fail "no list of scenarios"
[ "$(wc -w <<<"$names")" -ge 8 ] || fail "scenarios are missing"
for s in $names; do
  "$sim" --scenario "$s" --seeds 1..$((seeds / 10)) ||
    fail "scenario $s: status $?"
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
