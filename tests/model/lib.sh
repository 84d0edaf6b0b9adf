# SPDX-License-Identifier: BSD-3-Clause
# What run-fixed.sh and run-holes.sh share; sourced in this directory.
only=$1 count=0 bad=0

if [ -z "$MC" ]; then
  tmp=$(mktemp -d) || exit 1
  trap 'rm -rf "$tmp"' EXIT
  MC=$tmp/mc
  ${CC:-cc} -O2 -o "$MC" mc.c || exit 1
fi

wanted ()                       # name
{
  [ -z "$only" ] || [[ $1 =~ ^($only)$ ]]
}

# The last line tells how many ran: a caller that expects a number can see
# that none was left out.
finish ()
{
  [ $count -gt 0 ] || { echo "no configuration matches '$only'"; exit 1; }
  if [ $bad -eq 0 ]; then
    echo "$1: all $count as expected"
  else
    echo "$1: FAILED"
  fi
  exit $bad
}
