#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The source itself is refused as target, where the plugin's parameters tell.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

requires nbdkit --dump-plugin nbd
start_nbdkit one memory 1M
start_nbdkit two memory 1M
ln -s one.sock "$tmp/link"

# refused TARGET ARGS...: at startup, in the foreground and as a daemon.
refused ()
{
  local target=$1 how status
  shift
  for how in -f ""; do
    status=0
    rm -f "$tmp/bad.pid"
    timeout $((20 * slow)) nbdkit $how -P "$tmp/bad.pid" -U "$tmp/bad.sock" \
      --filter=mirror nbd "$@" mirror-target="$target" \
      >"$tmp/bad.log" 2>&1 </dev/null || status=$?
    [ ! -s "$tmp/bad.pid" ] || kill "$(cat "$tmp/bad.pid")" || :
    [ $status -eq 1 ] || die "$* $target: status $status instead of 1"
    [ "$(wc -l <"$tmp/bad.log")" -eq 1 ] || die "$* $target: not one line"
    grep -q 'mirror-target=.*the target is the source itself' \
      "$tmp/bad.log" || die "$* $target: not told why"
  done
}

refused "$(uri one)" socket="$tmp/one.sock"
refused "nbd+unix:///?socket=$tmp/link" socket="$tmp/one.sock"
refused "$(uri one)" uri="nbd+unix:///?socket=$tmp/link"
(
  cd "$tmp"
  refused "$(uri one)" socket=one.sock
  refused "$(uri one)" "nbd+unix:///?socket=one.sock"
)
# Before anything is connected, so there need be no server.
refused nbd://127.0.0.1:1/ hostname=localhost port=1
refused nbd://LOCALHOST/e%20f uri=nbd://127.0.0.1:10809/e%20f
refused nbd://LOCALHOST/e%20f hostname=127.0.0.1 export='e f'

# By command, too; and another server on the same machine is welcome.
start_mirror nbd socket="$tmp/one.sock"
! mirror_to one background 2>"$tmp/error" || die "accepted by blockdev-mirror"
grep -q "the target is the source itself" "$tmp/error" ||
  die "blockdev-mirror does not tell why"
mirror_to two background
wait_ready
assert_identical "$(uri one)" "$(uri two)"
