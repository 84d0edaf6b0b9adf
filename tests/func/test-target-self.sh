#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The proxy itself is refused as target, under each of its names, also when it
# is a daemon; another one is not.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

port=$("$PYTHON" -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')

# refused URI
refused ()
{
  ! qmp blockdev-mirror "{\"sync\": \"full\", \"target\": \"$1\"}" \
    >"$tmp/answer" 2>&1 || die "accepted: $1"
  grep -q "the target is this server itself" "$tmp/answer" ||
    die "$1: not told why: $(cat "$tmp/answer")"
  # The connection to itself ends a little later.
  qmp_wait 10 'j is None and m["clients"] == 0' || die "a client is left"
}

start_mirror memory 4M
ln -s proxy.sock "$tmp/link"
refused "$(uri proxy)"
refused "$(uri proxy)&x=y"
refused "nbd+unix:///?socket=$tmp/link"
# Not one that is like it.
start_nbdkit other --filter=mirror memory 4M
mirror_to other write-blocking
wait_ready
cancel_mirror
stop_server other
stop_server proxy

stop_daemon ()
{
  [ ! -s "$tmp/daemon.pid" ] || kill "$(cat "$tmp/daemon.pid")"
}

no_daemon ()
{
  [ ! -e "$tmp/daemon.pid" ] || gone "$(cat "$tmp/daemon.pid")"
}

daemon_is_up ()
{
  [ -s "$tmp/daemon.pid" ]
}

# daemon ARGS...: not the process that listened for it.
daemon ()
{
  rm -f "$tmp/daemon.pid"
  nbdkit -P "$tmp/daemon.pid" --filter=mirror "$@" memory 4M \
    mirror-control="$tmp/ctl.sock" >>"$tmp/daemon.log" 2>&1 </dev/null
  wait_for 20 daemon_is_up || die "the daemon does not start"
}

cleanup_fn stop_daemon
daemon -U "$tmp/daemon.sock"
refused "$(uri daemon)"
stop_daemon
wait_for 20 no_daemon || die "the daemon does not end"

daemon -p "$port"
refused "nbd://127.0.0.1:$port"
refused "nbd://localhost:$port"
if nbdinfo --size "nbd://[::1]:$port" >/dev/null 2>&1; then
  refused "nbd://[::1]:$port"
fi
stop_daemon
wait_for 20 no_daemon || die "the daemon does not end"
rm -f "$tmp/daemon.pid"
