#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Some thousand seeds of the simulator: every named scenario, random runs, the
# same seed twice, and a target that lies, which must be seen.
#
# Usage: test-sim.sh [SCENARIO...]   those only, with the same seeds
sim=$top_builddir/tests/sim/sim
seeds=${SIM_SEEDS:-800}
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

# How many seeds of a scenario, in thousandths of all: what it needs to find
# the bugs of tests/mutants, with a margin; less of those whose runs are long.
part ()
{
  case $1 in
    # A wakeup that is missed is rare, and the runs are short.
    wake) echo 400 ;;
    # Races that need two rare things at once.
    zeroes-late) echo 400 ;;
    is-zero) echo 2200 ;;
    pivot-twice|pivot-partly|pivot-ghosts) echo 600 ;;
    pivot-lost) echo 800 ;;
    pause|pivot-back|verify-ends|skip) echo 200 ;;
    # Holes of the protocol need certain steps in a row.
    H13) echo 25 ;;
    # Of a restart, too, at a certain moment.
    kill*|cut-*|restart|file-*|H8?|H9|H10|H18-late|H19) echo 90 ;;
    H18) echo 200 ;;
    H18-failed) echo 400 ;;
    H*|bad-flush|ghosts|back|another|pivot-block|verify) echo 120 ;;
    pivot-fails|detach|policy|verify-*) echo 90 ;;
    block|block-64k|auto) echo 25 ;;
    *) echo 50 ;;
  esac
}

scenario ()
{
  local n=$((seeds * $(part "$1") / 1000)) from=1 status=3
  [ $n -ge 12 ] || n=12
  # Status 3: what it is named after has not happened.  Then as many again, until
  # it has; what is rare needs some hundreds.  With a sanitizer it need not.
  while [ $status = 3 ] && [ $from -lt 1000 ]; do
    "$sim" --scenario "$1" --seeds $from..$((from + n - 1))
    status=$?
    from=$((from + n))
    [ "${MIRROR_SANITIZER:-no}" = no ] || [ $status != 3 ] || status=0
  done
  [ $status = 0 ] || fail "scenario $1: status $status"
}

if [ $# -gt 0 ]; then
  for s; do scenario "$s"; done
  exit 0
fi

names=$("$sim" --list | cut -d ' ' -f 1) || fail "no list of scenarios"
[ "$(wc -w <<<"$names")" -ge 64 ] || fail "scenarios are missing"
for s in $names; do
  scenario "$s"
done
"$sim" --seeds 1..$((seeds / 2)) || fail "random runs: status $?"
"$sim" --twice --seeds 1..25 || fail "the same seed twice: status $?"

out=$("$sim" --lie --seeds 1..50 2>&1)
[ $? -eq 1 ] && grep -q '^FAILED: I[0-9]' <<<"$out" ||
  fail "a target that lies is not seen"
again=$(sed -n 's/^again: sim//p' <<<"$out")
[ -n "$again" ] || fail "a report does not say how to repeat the run"
hash=$(sed -n 's/^seed .*trace hash //p' <<<"$out")
"$sim" $again 2>&1 | grep -q "trace hash $hash\$" ||
  fail "'sim$again' does not repeat the run"
