#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: nbdkit does not start, with status 1 and one line that names the
# key, the value and what is allowed, in the foreground and as a daemon.
# (What a daemon sees later is in test-bad-input-daemon.sh.)

. "${top_srcdir:-../..}/tests/lib/functions.sh"

# If it starts after all, it must not stay.
stop_daemon ()
{
  wait_for 20 test -s "$tmp/bad.pid" || return 0
  kill "$(cat "$tmp/bad.pid")" 2>/dev/null || :
}

# All that is wrong is told before the test fails.
failures=0
wrong ()
{
  printf 'nbdkit %.200s: %s; it says:\n' "$1" "$2"
  cut -c 1-300 "$tmp/bad.log"
  failures=$((failures + 1))
}

# run_bad HOW WORDS ARGS...: WORDS are strings, joined by |, and all of them
# must be in the line.
run_bad ()
{
  local how=$1 words=$2 status=0 word missing=
  shift 2
  rm -f "$tmp/bad.pid" "$tmp/bad.sock"
  timeout $((20 * slow)) nbdkit $how -P "$tmp/bad.pid" -U "$tmp/bad.sock" \
    --filter=mirror "$@" >"$tmp/bad.log" 2>&1 </dev/null || status=$?
  [ $status -ne 0 ] || stop_daemon
  [ $status -eq 1 ] || missing+=" status $status instead of 1"
  [ "$(wc -l <"$tmp/bad.log")" -eq 1 ] || missing+=" not one line"
  while read -r -d '|' word; do
    grep -q -F -e "$word" "$tmp/bad.log" || missing+=" no '$word'"
  done <<<"$words|"
  [ -z "$missing" ] || wrong "$how $*" "$missing"
}

# In both ways.  Slow builds: once is enough.
both ()
{
  run_bad -f "$@"
  [ $slow -gt 1 ] || run_bad "" "$@"
}

# bad WORDS ARGS...: with a source of 1 MiB.
bad ()
{
  both "$1" memory 1M "${@:2}"
}

# Each key's value: named, with what is allowed.
for value in nosuch Background background, 0; do
  bad "mirror-copy-mode=$value|background|write-blocking|auto" \
    mirror-copy-mode=$value
done
for value in nosuch FULL top; do
  bad "mirror-sync=$value|full|none" mirror-sync=$value
done
for value in nosuch true Defer; do
  bad "mirror-target-flush=$value|propagate|defer" mirror-target-flush=$value
done
for key in unmap detect-zeroes target-is-zero; do
  for value in maybe 2 -1 truefalse; do
    bad "mirror-$key=$value|true|false" mirror-$key=$value
  done
done
for value in nosuch auto Report 0; do
  for side in source target; do
    bad "mirror-on-$side-error=$value|report|ignore|enospc|stop" \
      mirror-on-$side-error=$value
  done
done
for value in -1 3601 x 1.5 10s 99999999999999999999; do
  bad "mirror-target-timeout=$value|seconds from 1 to 3600" \
    mirror-target-timeout=$value
  bad "mirror-suspect-time=$value|seconds from 0 to 3600" \
    mirror-suspect-time=$value
done
bad "mirror-target-timeout=0|seconds from 1 to 3600" mirror-target-timeout=0
for value in 3 -1 256 65535 x 64KK; do
  bad "mirror-granularity=$value|power of two|512|64M" \
    mirror-granularity=$value
done
# Of these the value may be told in bytes.
bad 'mirror-granularity=1|power of two|512|64M' mirror-granularity=128M
bad 'mirror-granularity=9|power of two|512|64M' mirror-granularity=9E
for value in -1 x 9999E 8E 1.5 0x10 1KB 18446744073709551616; do
  bad "mirror-speed=$value|bytes per second|2^63-1" mirror-speed=$value
done
for value in 0 511 2G -5 x 9E; do
  bad "mirror-buf-size=$value|512|1G" mirror-buf-size=$value
done
for value in 0 17 -1 x 3.5 4K 4294967297 99999999999999999999; do
  bad "mirror-connections=$value|1|16" mirror-connections=$value
done
for key in copy-mode sync granularity speed buf-size connections target \
           control unmap detect-zeroes target-is-zero target-flush \
           on-source-error on-target-error target-timeout suspect-time; do
  bad "mirror-$key|empty" mirror-$key=
done

# Two that do not fit together.
bad 'buf-size|65536|131072|granularity' \
  mirror-granularity=128K mirror-buf-size=64K
bad 'buf-size|granularity' mirror-buf-size=64K mirror-granularity=128K

# One line, also if the value has several, or is very long.
bad 'mirror-speed=|bytes per second' mirror-speed=$'1\n2'
bad 'mirror-copy-mode=|background' mirror-copy-mode=$'x\nerror: y'
bad 'mirror-connections=|1|16' mirror-connections="$(printf '%0700d' 0)x"
bad 'mirror-speed=|bytes per second' mirror-speed="$(printf '%0700d' 0)x"
bad 'mirror-granularity=|512' mirror-granularity="$(printf '%0700d' 0)x"

# Names.
bad 'mirror-copymode|mirror-copy-mode' mirror-copymode=background
bad 'mirror-granularty|mirror-granularity' mirror-granularty=64K
bad 'mirror-x' mirror-x=1
bad 'mirror-Speed|mirror-speed' mirror-Speed=1
bad 'mirror-0|unknown' "mirror-$(printf '%0700d' 0)=1"
bad 'mirror-speed|twice' mirror-speed=1 mirror-speed=1
bad 'mirror-speed|twice' mirror-speed=1 mirror-granularity=4K mirror-speed=2
bad 'mirror-target|twice' "mirror-target=$(uri 1)" "mirror-target=$(uri 2)"
bad 'mirror-unmap|twice' mirror-unmap=true mirror-unmap=true
bad 'mirror-control|twice' mirror-control="$tmp/1" mirror-control="$tmp/2"

# What the interface has and this version has not is refused by name.
for key in complete=manual tls=off \
           tls-certificates=/tmp tls-psk=/tmp/x tls-username=x \
           tls-verify=true; do
  bad "mirror-${key%%=*}|not available" mirror-$key
done
bad "mirror-sync=incremental|mirror-bitmap" mirror-sync=incremental
bad 'mirror-sync=all|full, none and incremental' mirror-sync=all
bad 'mirror-after-pivot=disk|target, refuse and source' mirror-after-pivot=disk

# The filter's place: once, and above what serves requests in parallel.  Both
# are seen before nbdkit goes into the background.
both 'mirror' --filter=mirror memory 1M
both 'mirror' --filter=mirror memory 1M mirror-speed=1
both 'mirror' --filter=fua --filter=mirror memory 1M mirror-speed=1
for serialize in connections all-requests requests; do
  both 'parallel' --filter=noparallel memory 1M serialize=$serialize
done
both 'cacheextents|before' --filter=cacheextents memory 1M
both 'retry-request|before' --filter=retry-request memory 1M
both 'parallel' --filter=retry memory 1M
# A sanitizer's library is preloaded into eval's shells, too, and kills some.
[ "${MIRROR_SANITIZER:-no}" != no ] ||
  both 'parallel' eval get_size='echo 1M' pread='head -c $3 /dev/zero'

# The control socket: what is there and is not ours stays there.
bad 'mirror-control=|107' mirror-control="/tmp/$(printf '%0103d' 0)"
bad 'mirror-control=|107' mirror-control="$(printf '%0104d' 0)"
bad 'mirror-control=|nosuch' mirror-control="$tmp/nosuch/ctl.sock"
: >"$tmp/file"
mkdir "$tmp/directory"
mkfifo "$tmp/fifo"
start_mirror memory 1M
ln -s "$tmp/nowhere" "$tmp/dangling"
ln -s "$tmp/ctl.sock" "$tmp/link"
for name in file directory fifo dangling link ctl.sock; do
  before=$(stat -c '%i %F' "$tmp/$name")
  bad "mirror-control=$tmp/$name:" mirror-control="$tmp/$name"
  [ "$(stat -c '%i %F' "$tmp/$name")" = "$before" ] ||
    die "$name was replaced by the control socket"
done
[ ! -e "$tmp/nowhere" ] || die "a symbolic link was followed"
qmp query-jobs >/dev/null || die "the live control socket is not served"

# bad_target WORDS URI: the same with a control socket, which is removed.
bad_target ()
{
  bad "mirror-target|$1" mirror-target="$2" mirror-control="$tmp/gone.sock" \
    "${@:3}"
  [ ! -e "$tmp/gone.sock" ] || die "$2: the control socket is left behind"
}

# Targets: what is no URI that we know, with a hint where it is nearly one.
bad_target 'nbd://' /dev/null
bad_target 'nbd://' "$tmp/target.sock"
bad_target 'nbd://' http://localhost/
bad_target 'nbd://' localhost:10809
bad_target 'nbd:HOST:PORT is nbd://HOST:PORT' nbd:localhost:10809
bad_target 'nbd://HOST:PORT' nbd:localhost:10809:exportname=
bad_target 'nbd:unix:PATH is nbd+unix:///?socket=PATH' \
  "nbd:unix:$tmp/target.sock"
bad_target 'TLS|nbds' nbds://localhost/
bad_target 'TLS|nbds' "nbds+unix:///?socket=$tmp/target.sock"
bad_target 'TLS|nbds' nbds+vsock://2/
bad_target 'TLS' "nbd://localhost/?tls-verify-peer=false"
bad_target 'socket' nbd+unix:///
bad_target 'socket' 'nbd+unix:///?socket='
bad_target 'nbd://[::1' 'nbd://[::1'
bad_target '65537|65535' nbd://localhost:65537/   # not port 1
# ... that nobody answers, or somebody else.
for policy in report enospc; do
  bad_target 'nosuch.sock' "$(uri nosuch)" mirror-on-target-error=$policy
done
bad_target 'localhost:1/' nbd://localhost:1/ mirror-on-target-error=report
bad_target 'ctl.sock' "$(uri ctl)" mirror-on-target-error=report
bad_target 'bad.sock' "$(uri bad)" mirror-on-target-error=report  # ourselves
stop_server proxy
# ... or that will not do.
start_nbdkit target -r memory 1M
bad_target 'target.sock|read-only' "$(uri target)"
stop_server target
start_nbdkit target -e other --filter=exportname memory 1M exportname=other \
  exportname-strict=true
bad_target 'target.sock' "nbd+unix:///nosuch?socket=$tmp/target.sock"
stop_server target
start_nbdkit target --filter=blocksize-policy memory 1M \
  blocksize-minimum=4096
bad_target 'target.sock|4096' "$(uri target)" mirror-granularity=2K
stop_server target

# What needs the source: -f only, as a daemon has answered already.
start_nbdkit target memory $((1024 * 1024 - 1))
run_bad -f 'target.sock|1048576|1048575' memory 1M \
  mirror-target="$(uri target)" mirror-control="$tmp/gone.sock"
[ ! -e "$tmp/gone.sock" ] || die "the control socket is left behind"
stop_server target

# After all that, a good one.
start_target 1M
start_mirror memory 1M mirror-target="$(uri target)" mirror-speed=1G \
  mirror-granularity=4k mirror-buf-size=4096 mirror-connections=16 \
  mirror-copy-mode=write-blocking mirror-sync=full mirror-unmap=true \
  mirror-detect-zeroes=0 mirror-target-is-zero=off \
  mirror-target-flush=propagate mirror-target-timeout=3600 \
  mirror-suspect-time=0 mirror-on-source-error=report \
  mirror-on-target-error=stop mirror-export=
wait_ready
[ $failures -eq 0 ] || die "$failures failures"
