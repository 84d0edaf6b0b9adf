#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# A few seconds of the protocol model: some configurations of the rules as
# they are must be clean to the last state, and some looser wordings and
# seeded bugs must be found.  All of them: make check-model.
here=${top_srcdir:-$(cd "$(dirname "$0")/../.." && pwd)}/tests/model
export MC=${MC:-${top_builddir:+$top_builddir/tests/model/mc}}
[ -n "$MC" ] || unset MC
export MC_MAX=1000000           # more would only cost page faults

expect ()                       # script, names, how many, last line
{
  local out rc
  out=$("$here/$1" "$2" 2>&1); rc=$?
  printf '%s\n' "$out"
  if [ $rc -ne 0 ] || [ "${out##*$'\n'}" != "$4: all $3 as expected" ]; then
    echo "$1: failed, status $rc"
    exit 1
  fi
}

# One or more of each family: sessions, ghosts, intent file, pivot, job start,
# block size, crash consistency, liveness.
expect run-fixed.sh 'A9b|B2|G1|G4|G6|P3|J1|M2|C1|L2|L5' 11 'fixed rules'
expect run-holes.sh 'H1d|H2b|H5|H6|H7a|H8a|H8d|H9a|H9b|H10|H11|H13'\
'|m1|m4|m5|m8|m16|m19|m20|m21|mFIFO|r6|r8|r10' 24 'holes and seeded bugs'
