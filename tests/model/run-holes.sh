#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# 1. All rules on but one, which is put back to a looser wording: each must
#    give a counterexample, or the rule would not be needed.
# 2. Seeded bugs: each must be found, or the checker is blind.
# 3. Situations that must occur at all, or the other results are empty.
#   [V=1] run-holes.sh [REGEX]      V=1 prints the shortest traces
# $MC is the checker; without it, it is compiled into a temporary directory.
# $MC_MAX bounds the states of one run (and its memory).
cd "$(dirname "$0")" || exit 1
. ./lib.sh

t ()                            # name, keys
{
  local name=$1 out rc first reach=no want=no
  shift
  wanted "$name" || return 0
  out=$(timeout 600 "$MC" fixed=1 max="${MC_MAX:-25000000}" "$@" 2>&1); rc=$?
  count=$((count + 1))
  [[ $out != "VIOLATION: reached "* ]] || reach=yes
  [[ $1 != reach=* ]] || want=yes
  if [ $rc -eq 1 ] && [[ $out == *VIOLAT* ]] && [ $reach = $want ]; then
    first=$(grep -m 1 VIOLAT <<<"$out")
    printf 'found  %-5s %s\n       %s\n' "$name" "$*" "$first"
    [ -z "$V" ] || sed 1d <<<"$out"
  else
    printf 'MISSED %-5s %s: status %s, %s\n' "$name" "$*" $rc \
      "${out%%$'\n'*}"
    bad=1
  fi
}

# looser wordings
t H1a clear=0 gs=1 ops=w1 mode0=1 tsw=1 nk=0
t H1b clear=0 gs=1 ops=w1 mode0=2 tsw=1 nk=0
t H1c clear=0 gs=1 ops0=w1 ops1=t1 mode0=2 nk=0
t H1d clear=0 gs=1 nc=1 ops=w1 mode0=2 nk=0 ls=1 pl=1
t H2  sync=0 gs=1 nc=1 left=0 dirty0=1 mode0=2
t H2b nodraincopy=1 gs=1 nc=1 left=0 dirty0=1 mode0=2 pv=1 pl=1
t H3  sync=1 gs=1 nc=1 seq0=w1,f,w4 mode0=2 sess0=0 cc=1 pl=1
t H4  sync=0 gs=1 nc=1 left=0 job=1 jmode=2 mode0=0
t H5  ugen=0 gs=1 nc=2 ops0=w1 ops1=f mode0=2 nk=0 ls=1 pl=1
t H6  onesess=0 lateack=1 gs=1 nc=2 ops0=f ops1=w1 mode0=2 nk=0 ls=1 pl=1
t H7a q=0 gs=1 nc=1 left=2 ops=w1 mode0=2 ls=1 ghost=1
t H7b restartq=0 nc=1 ops=w3 mode0=2 w=1 cr=1 ghost=1
t H8a retire=0 nc=1 ops=w3 mode0=1 nk=0 w=1
t H8b retire=1 nc=1 left=0 dirty0=1 mode0=2 w=1
t H8c retire=1 nc=1 ops=w3 mode0=2 nk=0 w=1
t H8d race=0 nc=2 ops=w3 mode0=2 nk=0 w=1
t H9a everything=0 nc=1 ops=w3 job=1 jmode=1 mode0=3 nk=0 w=1
t H9b endrec=0 nc=1 ops=w3 job=1 jmode=1 mode0=3 nk=0 w=1
t H9c tidyscan=0 nc=1 left=0 job=1 jmode=1 mode0=0 nk=1 w=1
t H10 commit=0 gs=1 nc=1 ops=w1 mode0=2 nk=0 pv=1 cu=1 pl=1
t H11 jobw=0 gs=1 nc=1 ops=w1 job=1 jmode=1 mode0=3 nk=0
t H12 markround=0 gs=1 tb=2 torn=1 nc=1 ops=w1 mode0=2 nk=0 tf=1
t H13 sync=1 readyrule=0 live=1 gs=1 nc=2 ops0=w1 ops1=w2 nk=1 dirty0=8 mode0=2
t H14 live=1 nc=1 ops=t1 nk=1 dirty0=1 mode0=2
# seeded bugs
t m1 clearlate=1 gs=1 nc=1 left=2 ops=w1 mode0=1
t m2 leave=0 clearouter=1 clear=0 nc=1 ops=w1 dirty0=1 mode0=2 nk=0
t m3 nosfailmark=1 gs=1 nc=1 ops=w1 mode0=1 sf=1
t m4 notfailmark=1 gs=1 nc=1 ops=w1 mode0=2 tf=1
t m5 nolock=1 gs=1 nc=2 ops=w1 mode0=2 nk=0
t m6 nolock=1 gs=1 nc=1 ops=w1 dirty0=1 mode0=2
t m8 noU=1 gs=1 nc=1 ops=w1 mode0=2 nk=0 ls=1 pl=1
t m14 nodrain=1 gs=1 nc=1 ops=w1 mode0=1 pv=1 pl=1
t m16 copynoset=1 gs=1 nc=1 left=0 dirty0=1 mode0=2 tf=1
t m19 scanfirst=1 gs=1 nc=1 ops=w1 job=1 jmode=1 mode0=0
t mRMW lockround=0 tb=2 nc=2 ops=w1,w2 mode0=2 nk=0
t mFIFO nofifo=1 live=1 nc=2 ops=w1,w2 nk=1 dirty0=1 mode0=2
t mFL  nobroken=1 gs=1 nc=1 seq0=w1,f,w4 mode0=2 tsw=2 cc=1 pl=1 dirty0=8
t m20 leaveany=1 nc=1 ops=w6 dirty0=1 mode0=2 nk=0
t m21 leaveearly=1 nc=1 ops=w1 dirty0=1 mode0=2
# situations that must occur
t r1 reach=1 nc=1 seq0=w1,f,w4 nk=1 mode0=2 tsw=2 cc=1 pl=1 ls=1 gs=1 dirty0=8
t r2 reach=2 nc=2 ops=w3,w1,f nk=1 mode0=2 pv=1 cu=1 ls=1 pl=1 tf=1
t r3 reach=3 nc=2 ops=w3,w1,w6 nk=1 mode0=2 w=1 cr=1 ls=1 pl=1
t r4 reach=4 nc=2 ops=w3,w1,w6 nk=1 mode0=2 w=1 cr=1 ls=1 pl=1
t r5 reach=5 nc=1 left=2 ops=w3 nk=1 mode0=2 ls=2 pl=1 ghost=1 tsw=1
t r6 reach=6 nc=2 ops=w3,w1,w6,f nk=1 mode0=2 ls=1 pl=1 tsw=1 tf=1
t r7 reach=7 nc=2 ops=w3,w1,w6 nk=1 mode0=3 job=1 jmode=2 tsw=1
t r8 reach=8 nc=2 ops=w3,w6 nk=2 mode0=2 dirty0=3 tsw=1 tf=1
t r10 reach=10 nc=2 ops=w1 nk=1 mode0=2 dirty0=1
finish "holes and seeded bugs"
