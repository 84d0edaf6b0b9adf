#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# SIGTERM and quit end the server in time and with status 0, and nothing is
# left behind.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

# An idle client, until its standard input ends.
start_client ()
{
  rm -f "$tmp/stdin" "$tmp/connected"
  mkfifo "$tmp/stdin"
  "$PYTHON" -c '
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.pwrite(b"x" * 4096, 0)
open(sys.argv[2], "w").close()
sys.stdin.read()
try:
    h.shutdown()
except nbd.Error:
    pass' "$(uri proxy)" "$tmp/connected" <"$tmp/stdin" &
  client=$!
  exec 9>"$tmp/stdin"
  wait_for 20 test -e "$tmp/connected" || die "the client does not connect"
}

stop_client ()
{
  exec 9>&-
  wait $client || :
}

assert_no_socket ()
{
  [ ! -e "$tmp/ctl.sock" ] || die "the control socket is left behind: $1"
}

# wait_server NAME SECONDS: it ends by itself, with status 0.
wait_server ()
{
  local pid=${server_pids[$1]} status=0
  wait_for "$2" gone "$pid" || die "$1 does not end"
  unset "server_pids[$1]"
  wait "$pid" || status=$?
  [ $status -eq 0 ] || die "$1 ended with status $status"
}

quit ()
{
  qmp quit >/dev/null || die "quit gets no answer"
}

# No client, no job.
for how in term quit; do
  start_mirror memory 1M
  if [ $how = term ]; then stop_server proxy 5
  else quit; wait_server proxy 5; fi
  assert_no_socket "$how"
done

# The target has one thread: nbdkit 1.32 aborts when a client hangs up on it
# with several requests in flight.
start_simple_target ()
{
  start_target 64M -t 1
}

# With a job: one that is ready, one in the first pass, one that hangs.
for how in term quit; do
  for state in ready copying hung; do
    start_simple_target
    start_mirror memory 64M
    run_load --ops=200 "$(uri proxy)"
    case $state in
      ready) mirror_to target write-blocking; wait_ready ;;
      copying) mirror_to target background '"speed": 65536' ;;
      hung) mirror_to target background '"speed": 65536'
            kill -STOP "${server_pids[target]}" ;;
    esac
    if [ $how = term ]; then stop_server proxy 15
    else quit; wait_server proxy 15; fi
    kill -CONT "${server_pids[target]}"
    assert_no_socket "$how $state"
    stop_server target
  done
done

# SIGTERM waits for clients, so as nbdkit does, and ends when they leave.
start_simple_target
start_mirror memory 64M mirror-target="$(uri target)"
start_client
kill -TERM "${server_pids[proxy]}"
stop_client
wait_server proxy 10
assert_no_socket "term, client"
stop_server target

# quit disconnects an idle client after about two seconds.
start_simple_target
start_mirror memory 64M mirror-target="$(uri target)"
start_client
begin=$SECONDS
quit
wait_server proxy 10
[ $((SECONDS - begin)) -le $((6 * slow)) ] ||
  die "quit took $((SECONDS - begin)) s"
assert_no_socket "quit, client"
stop_client
stop_server target
