#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# The rules as they are: every run must see all states and find no violation.
#   run-fixed.sh [REGEX]      REGEX: whole names, as 'A.*|L1'
# $MC is the checker; without it, it is compiled into a temporary directory.
# $MC_MAX bounds the states of one run (and its memory).
cd "$(dirname "$0")" || exit 1
. ./lib.sh

run ()                          # name, keys
{
  local name=$1 out rc
  shift
  wanted "$name" || return 0
  out=$(timeout 600 "$MC" fixed=1 max="${MC_MAX:-25000000}" "$@" 2>&1); rc=$?
  count=$((count + 1))
  if [ $rc -eq 0 ] && [[ $out == "OK, exhausted: "* ]] &&
     [[ $out != *VIOLAT* ]]; then
    printf 'ok     %-5s %s\n       %s\n' "$name" "$*" "${out%%$'\n'*}"
  else
    printf 'FAILED %-5s %s (status %s)\n%s\n' "$name" "$*" $rc "$out" |
      head -n 200
    bad=1
  fi
}

# A: data path, switches both ways, one T EIO, one S error
run A1  nc=2 left=1 ops=w3,w1,w2,w6,wf,t3 nk=1 mode0=2 tsw=2 tf=1 sf=1
run A2  nc=2 left=1 ops=w3,w1,w6 nk=1 mode0=1 tsw=2 tf=1 sf=1
run A3  nc=2 left=1 ops0=w3,t3 ops1=wf,t3 nk=1 mode0=1 tsw=2 tf=1 sf=1
run A3b nc=2 left=1 ops0=wf ops1=wf,t6 nk=1 mode0=1 tsw=1 tf=1
run A4  nc=2 left=1 ops=w3,w6 nk=2 mode0=1 tsw=2 tf=1
run A5  nc=2 left=2 ops=w3,w1 nk=1 mode0=1 tsw=2
run A6  nc=2 left=2 gs=1 ops=w1,t1 nk=1 mode0=1 tsw=2 tf=1 sf=1
run A6b nc=2 left=3 gs=1 ops=w1 nk=2 mode0=1 tsw=3
run A7  nc=2 left=1 ops=w3,w6 nk=1 mode0=2 dirty0=3 tsw=1 tf=1 sf=1
run A8  nc=2 left=1 ops=w3,w1 nk=2 mode0=2 dirty0=3 tsw=1 tf=1
# ... small writes to what is dirty are left to the copier
run A9  nc=2 left=1 ops=w1,w6,w3 nk=1 mode0=2 dirty0=1 tsw=1 tf=1 sf=1
run A9b nc=2 left=1 ops=w1,w6 nk=1 mode0=2 dirty0=1 tf=1
run A10 nc=2 left=2 ops=w1,w2 nk=1 mode0=2 dirty0=1 ls=1 pl=1
# B: target session: connection loss with and without power loss, flush failures
run B1  nc=2 left=1 ops=w3,w1,w6,f nk=1 mode0=2 ls=1 pl=1 tsw=1 tf=1
run B2  nc=2 left=1 ops=w3,w1,f nk=1 mode0=2 ls=2 pl=1 ff=1
run B3  nc=2 left=1 ops=w3,w1,w6 nk=1 mode0=1 ls=1 pl=1 tsw=2
run B4  nc=2 left=2 gs=1 ops=w1,f nk=1 mode0=2 ls=2 pl=1 ff=1 tsw=1
run B5  nc=1 left=2 ops=w3,f nk=2 mode0=2 dirty0=2 ls=1 pl=1 ff=1 tf=1
# W: intent file, crash and restart
run W1  nc=2 left=1 ops=w3,w1,w6 nk=1 mode0=2 w=1 cr=1 ls=1 pl=1
run W2  nc=2 left=1 ops=w3,w1 nk=1 mode0=1 w=1 cr=1 tsw=1 ls=1 pl=1
run W3  nc=1 left=2 ops=w3,w6 nk=1 mode0=2 dirty0=1 w=1 cr=1 ls=1 pl=1
# ... which goes on over the end of one mirror and the start of the next
run W4  nc=2 left=1 ops=w3,w6 nk=1 mode0=3 job=1 jmode=1 w=1 tf=1
run W5  nc=1 left=2 gs=1 ops=w3,w1 nk=1 mode0=3 job=1 jmode=2 w=1 cr=1
# G: ghost writes of lost sessions and of a crashed proxy, suspect set Q
run G1  nc=2 left=1 ops=w3,w1 nk=1 mode0=2 ls=1 pl=1 ghost=1 tsw=1
run G2  nc=1 left=2 ops=w3 nk=1 mode0=2 ls=2 pl=1 ghost=1 tsw=1
run G3  nc=1 left=2 ops=w3,w1 nk=1 mode0=2 w=1 cr=1 ls=1 ghost=1
run G4  nc=2 left=1 ops=w3,w1 nk=1 mode0=2 w=1 cr=1 ghost=1 tsw=1
run G5  nc=2 left=2 gs=1 ops=w1 nk=1 mode0=2 ls=2 pl=1 ghost=1
run G6  nc=1 left=3 gs=1 ops=w1 nk=2 mode0=2 ls=2 ghost=1 tsw=1
# P: pivot, with an unclear outcome of the commit record
run P1  nc=2 left=1 ops=w3,w1,f nk=1 mode0=2 pv=1 cu=1 ls=1 pl=1 tf=1
run P2  nc=2 left=1 ops=w3,w6 nk=1 mode0=1 pv=1 cu=1 tsw=1 ff=1 pl=1
run P3  nc=1 left=2 ops=w3 nk=1 mode0=2 pv=1 cu=1 ls=1 pl=1 ghost=1
run P4  nc=2 left=1 ops=w3 nk=1 mode0=2 pv=1 cu=1 w=1 cr=1 pl=1 tsw=1
# J: job start while requests of "no job" and of an old job are in flight
run J1  nc=2 left=1 ops=w3,w1,w6 nk=1 mode0=3 job=1 jmode=2 tsw=1
run J2  nc=2 left=1 ops=w3,w1,w6 nk=1 mode0=3 job=1 jmode=1 tsw=1 tf=1
run J3  nc=2 left=1 gs=1 ops=w1,w2 nk=1 mode0=3 job=1 jmode=2 ls=1 pl=1 tsw=1
# M: target minimum block = granule, sub-block writes by read-modify-write
run M1  nc=2 left=1 ops=w1,w2,w3,w6 nk=1 mode0=2 tb=2 tsw=1 tf=1 torn=1
run M2  nc=2 left=1 ops=w1,w2 nk=1 mode0=2 tb=2 ls=1 pl=1 tsw=1 sf=1
# C: crash consistency of the synced target: W1, flush, W2
run C1  nc=1 seq0=w1,f,w4 nk=1 mode0=1 tsw=2 cc=1 pl=1 ls=1 gs=1 ff=1
run C2  nc=1 seq0=w1,f,w4 nk=1 mode0=2 tsw=2 cc=1 pl=1 ls=1 gs=1 dirty0=8
run C3  nc=2 seq0=w1,f,w4 ops1=w2,f nk=1 mode0=2 tsw=1 cc=1 pl=1 ls=1 gs=2
run C4  nc=2 seq0=w1,f,w4 ops1=w8 nk=1 mode0=1 tsw=1 cc=1 pl=1 ls=1 gs=1 ff=1
# L: liveness in tee mode (clients write for ever, weak fairness): synced is reached again and again
run L1  nc=2 live=1 ops=w1,w2 nk=1 mode0=2 dirty0=1
run L2  nc=2 live=1 ops0=w3 ops1=w6 nk=1 mode0=2 dirty0=3
run L3  nc=2 live=1 gs=1 ops=w1,w2 nk=2 mode0=2 dirty0=7
run L4  nc=1 live=1 ops=w1,w3 nk=1 mode0=1 tsw=1 dirty0=3 tf=1
run L4b nc=2 live=1 ops=w1,w3 nk=1 mode0=1 tsw=1 dirty0=1
run L5  nc=1 live=1 ops=w3 nk=1 mode0=2 ls=1 pl=1 dirty0=1
run L5b nc=2 live=1 gs=1 ops=w1 nk=1 mode0=2 ls=1 pl=1 dirty0=2
run L6  nc=2 live=1 ops0=w1 ops1=f nk=1 mode0=2 dirty0=1 pl=1
finish "fixed rules"
