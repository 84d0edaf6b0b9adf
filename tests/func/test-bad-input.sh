#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: nbdkit does not start, with status 1 and one line that names the
# key, the value and what is allowed, in the foreground and as a daemon.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

# If it starts after all, it must not stay.
stop_daemon ()
{
  [ ! -s "$tmp/bad.pid" ] || kill "$(cat "$tmp/bad.pid")" 2>/dev/null || :
}

# All that is wrong is told before the test fails.
failures=0
wrong ()
{
  echo "nbdkit $1: $2 in:"
  cat "$tmp/bad.log"
  failures=$((failures + 1))
}

# run_bad HOW WORDS ARGS...: WORDS are patterns, joined by |, and all of them
# must be in the line.
run_bad ()
{
  local how=$1 words=$2 status=0 word
  shift 2
  rm -f "$tmp/bad.pid" "$tmp/bad.sock"
  timeout $((20 * slow)) nbdkit $how -P "$tmp/bad.pid" -U "$tmp/bad.sock" \
    --filter=mirror "$@" >"$tmp/bad.log" 2>&1 </dev/null || status=$?
  stop_daemon
  [ $status -eq 1 ] || wrong "$how $*" "status $status instead of 1"
  [ "$(wc -l <"$tmp/bad.log")" -eq 1 ] || wrong "$how $*" "not one line"
  while read -r -d '|' word; do
    grep -q -e "$word" "$tmp/bad.log" || wrong "$how $*" "no '$word'"
  done <<<"$words|"
}

# bad WORDS ARGS...: with a source of 1 MiB.  Slow builds: once is enough.
bad ()
{
  local words=$1
  shift
  run_bad -f "$words" memory 1M "$@"
  [ $slow -gt 1 ] || run_bad "" "$words" memory 1M "$@"
}

# Each key's value: named, with what is allowed.
bad 'mirror-copy-mode=nosuch|background|write-blocking' mirror-copy-mode=nosuch
bad 'mirror-sync=nosuch|full' mirror-sync=nosuch
for value in 3 -1 256 65535 x 64KK; do
  bad "mirror-granularity=$value|power of two|512|64M" \
    mirror-granularity=$value
done
# Of these the value may be told in bytes.
bad 'mirror-granularity=1[0-9]*M*:|power of two|512|64M' mirror-granularity=128M
bad 'mirror-granularity=9|power of two|512|64M' mirror-granularity=9E
for value in -1 x 9999E 1.5; do
  bad "mirror-speed=$value" mirror-speed=$value
done
for value in 0 511 2G -5 x; do
  bad "mirror-buf-size=" mirror-buf-size=$value
done
for value in 0 17 -1 x 3.5; do
  bad "mirror-connections=$value|1|16" mirror-connections=$value
done
for key in copy-mode sync granularity speed buf-size connections target \
           control; do
  bad "mirror-$key|empty" mirror-$key=
done

# Two that do not fit together.
bad 'buf.*size|65536|131072|granularity' \
  mirror-granularity=128K mirror-buf-size=64K
bad 'buf.*size|granularity' mirror-buf-size=64K mirror-granularity=128K

# Names.
bad 'mirror-copymode|mirror-copy-mode' mirror-copymode=background
bad 'mirror-granularty|mirror-granularity' mirror-granularty=64K
bad 'mirror-x' mirror-x=1
bad 'mirror-speed|twice' mirror-speed=1 mirror-speed=1
bad 'mirror-control|twice' mirror-control="$tmp/1" mirror-control="$tmp/2"

# What the interface has and this version has not is refused by name.
for key in on-source-error=report on-target-error=stop target-timeout=10 \
           suspect-time=30 max-pause=2000 target-flush=propagate unmap=true \
           detect-zeroes=true target-is-zero=true bitmap=/tmp/x \
           after-pivot=target export=x complete=manual tls=off \
           tls-certificates=/tmp tls-psk=/tmp/x tls-username=x \
           tls-verify=true; do
  bad "mirror-${key%%=*}|not available" mirror-$key
done
bad 'mirror-copy-mode=auto|not available' mirror-copy-mode=auto
for sync in none incremental; do
  bad "mirror-sync=$sync|not available" mirror-sync=$sync
done

# The control socket.
long=/tmp/$(printf '%0104d' 0)
bad 'mirror-control|107' mirror-control="$long"
bad 'mirror-control|nosuch' mirror-control="$tmp/nosuch/ctl.sock"
: >"$tmp/file"
bad 'mirror-control' mirror-control="$tmp/file"
[ -f "$tmp/file" ] || die "a file was replaced by the control socket"
start_mirror memory 1M
bad 'mirror-control' mirror-control="$tmp/ctl.sock"
stop_server proxy

# Targets.
bad 'mirror-target|nbd' mirror-target=/dev/null
bad 'mirror-target|nbd' mirror-target=http://localhost/
bad 'mirror-target|TLS|nbds' mirror-target=nbds://localhost/
bad 'mirror-target|TLS|nbds' \
  "mirror-target=nbds+unix:///?socket=$tmp/target.sock"
bad 'mirror-target|socket' mirror-target=nbd+unix:///
bad "nosuch.sock" mirror-target="$(uri nosuch)"
bad "localhost:1" mirror-target=nbd://localhost:1/
start_nbdkit target -r memory 1M
bad 'target.sock|read-only' mirror-target="$(uri target)"
stop_server target
start_nbdkit target -e other --filter=exportname memory 1M exportname=other \
  exportname-strict=true
bad 'target.sock' "mirror-target=nbd+unix:///nosuch?socket=$tmp/target.sock"
stop_server target

# What needs the source: -f only, as a daemon has answered already.
start_nbdkit target memory $((1024 * 1024 - 1))
run_bad -f 'target.sock|1048576|1048575' memory 1M \
  mirror-target="$(uri target)" mirror-control="$tmp/ctl2.sock"
[ ! -e "$tmp/ctl2.sock" ] || die "the control socket is left behind"
stop_server target
start_target 1M
run_bad -f 'parallel' --filter=noparallel memory 1M \
  mirror-target="$(uri target)"
stop_server target

# After all that, a good one.
start_target 1M
start_mirror memory 1M mirror-target="$(uri target)" mirror-speed=1G \
  mirror-granularity=4k mirror-buf-size=4096 mirror-connections=16 \
  mirror-copy-mode=write-blocking mirror-sync=full
wait_ready
[ $failures -eq 0 ] || die "$failures failures"
