#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Input whose effect shows later than on the command line: paths that are
# relative although a daemon leaves its directory; what is found to be wrong
# only after nbdkit has gone into the background; a source that changes its
# size; bad targets that are given to a running server.

. "${top_srcdir:-../..}/tests/lib/functions.sh" || exit 1

# start_daemon DIRECTORY ARGS...: without -f, from that directory.
start_daemon ()
{
  local directory=$1
  shift
  rm -f "$tmp/daemon.pid" "$tmp/daemon.sock"
  (cd "$directory" &&
     timeout $((20 * slow)) nbdkit -P "$tmp/daemon.pid" \
       -U "$tmp/daemon.sock" --filter=mirror "$@") ||
    die "no daemon: $*"
  # nbdkit returns before its child has written this.
  wait_for 20 test -s "$tmp/daemon.pid" || die "no pid of the daemon"
  daemon=$(cat "$tmp/daemon.pid")
}

end_daemon ()
{
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || :
}
cleanup_fn end_daemon

quit_daemon ()
{
  qmp quit >/dev/null
  wait_for 20 gone "$daemon" || die "the daemon does not end"
  daemon=
}

# A server that is there, but hangs; who connects to it waits, meanwhile.
"$PYTHON" -c 'import signal, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(8)
signal.pause()' "$tmp/hung.sock" & hung=$!
cleanup_fn kill $hung
wait_for 20 test -S "$tmp/hung.sock"
nbdkit -f -U "$tmp/waiting.sock" --filter=mirror memory 1M \
  mirror-target="$(uri hung)" mirror-control="$tmp/waiting-ctl.sock" \
  mirror-on-target-error=report mirror-target-timeout=5 \
  >"$tmp/waiting.log" 2>&1 </dev/null & waiting=$!
cleanup_fn end_waiting
end_waiting () { ! kill $waiting 2>/dev/null; }

# Relative paths of both sockets, from a directory with characters that mean
# something in a URI.
directory="$tmp/a b%41&c;d#e?f"
mkdir "$directory"
start_nbdkit target memory 1M
ln -s "$tmp/target.sock" "$directory/target.sock"
ln -s "$directory" "$tmp/plain"
for at in "$tmp" "$directory"; do
  start_daemon "$at" data '1 @0x80000 2' size=1M mirror-control=ctl.sock \
    mirror-target='nbd+unix:///?socket=target.sock'
  [ -S "$at/ctl.sock" ] || die "$at: the control socket is not there"
  [ "$at" = "$tmp" ] || ln -s "$at/ctl.sock" "$tmp/ctl.sock"
  [ "$(readlink "/proc/$daemon/cwd")" = / ] || die "this is no daemon"
  wait_ready
  [ "$at" != "$tmp" ] ||
    assert_qmp "m['target']['uri'].endswith('?socket=$tmp/target.sock')"
  quit_daemon
  [ ! -e "$at/ctl.sock" ] || die "$at: the control socket is left behind"
done
rm "$tmp/ctl.sock"
stop_server target

# Below the limit of the path that was given, above that of the absolute one.
(cd "$directory" &&
   ! nbdkit -P "$tmp/long.pid" -U "$tmp/long.sock" --filter=mirror memory 1M \
     mirror-control="$(printf '%090d' 0)" 2>"$tmp/long.log") ||
  die "a path of more than 107 bytes was accepted"
log_has long '107' || die "no limit is named: $(cat "$tmp/long.log")"

# A dead socket is replaced, and the new one removed at the end.
"$PYTHON" -c 'import socket, sys
socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$tmp/ctl.sock"
dead=$(stat -c %i "$tmp/ctl.sock")
start_daemon "$tmp" memory 1M mirror-control=ctl.sock
[ "$(qmp query-jobs)" = "[]" ] || die "the dead socket was not replaced"
[ "$(stat -c '%a' "$tmp/ctl.sock")" = 600 ] || die "its mode is not 0600"
quit_daemon
[ ! -e "$tmp/ctl.sock" ] || die "the new socket is left behind (was $dead)"

# Too small a target is seen by a daemon when nbdkit has returned: it ends,
# and does not leave its socket.
start_nbdkit target memory 512K
start_daemon "$tmp" memory 1M mirror-control=ctl.sock \
  mirror-target="$(uri target)"
wait_for 20 gone "$daemon" || die "the daemon goes on with a small target"
daemon=
[ ! -e "$tmp/ctl.sock" ] || die "the control socket of that is left behind"
stop_server target

# Whoever connects after the size of the source has changed is refused; the
# clients and the mirror that are there go on.
truncate -s 1M "$tmp/disk.img"
start_target 4M
start_mirror file "$tmp/disk.img" mirror-target="$(uri target)"
wait_ready
for size in 2M 512K; do
  truncate -s $size "$tmp/disk.img"
  ! nbdinfo --size "$(uri proxy)" >"$tmp/info.log" 2>&1 ||
    die "size $size: a client was accepted: $(cat "$tmp/info.log")"
  log_has proxy "changed its size from 1048576 to $(numfmt --from=iec $size)" ||
    die "size $size: the log does not say so"
done
truncate -s 1M "$tmp/disk.img"
[ "$(nbdinfo --size "$(uri proxy)")" = 1048576 ] ||
  die "a client is refused though the size is right again"
cancel_mirror

# Targets that will not do: an error, no job, and the server goes on.
start_nbdkit readonly -r memory 1M
start_nbdkit small memory 512K
start_nbdkit other -e other --filter=exportname memory 1M exportname=other \
  exportname-strict=true
refused ()
{
  ! qmp blockdev-mirror "{\"sync\": \"full\", \"target\": \"$1\"}" \
    >"$tmp/refused.log" 2>&1 || die "accepted as a target: $1"
  grep -q "^blockdev-mirror: GenericError: .*$2" "$tmp/refused.log" ||
    die "$1: no '$2' in: $(cat "$tmp/refused.log")"
  assert_qmp 'j is None and m["target"]["state"] == "none"'
}
refused "$(uri readonly)" 'read-only'
refused "$(uri small)" '524288.*1048576'
refused "$(uri nosuch)" 'nosuch.sock'
refused "nbd+unix:///nosuch?socket=$tmp/other.sock" 'other.sock'
refused "$(uri ctl)" 'ctl.sock'
refused nbd://localhost:1/ 'localhost:1/'
refused nbd:localhost:10809 'nbd://HOST:PORT'
refused "nbd:unix:$tmp/target.sock" 'nbd+unix:///?socket=PATH'
refused /dev/null 'nbd://'
refused "$(uri proxy)" ''            # that is ourselves
mirror_to target background
wait_ready

# The one that waited for the server that hangs: ten seconds, not for ever.
wait_for 20 gone $waiting || die "it still waits for a server that hangs"
status=0
wait $waiting || status=$?
[ $status -eq 1 ] || die "waiting for a server that hangs: status $status"
[ "$(wc -l <"$tmp/waiting.log")" -eq 1 ] && log_has waiting 'hung.sock' &&
  log_has waiting 'no answer from the server within 5000 ms' || die "it says: $(cat "$tmp/waiting.log")"
[ ! -e "$tmp/waiting-ctl.sock" ] || die "its control socket is left behind"
