#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A forced cancel answers at once and ends the job, even if the target hangs,
# and client requests go on.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

n=$(light 500)

# nbdkit 1.32 aborts when a client hangs up on it with several requests in
# flight: hence one thread for the target.
for mode in background write-blocking; do
  start_target 64M -t 1
  start_mirror memory 64M
  start_load one --connections=2 --depth=4
  more_load one "$n"
  mirror_to target $mode '"speed": 1048576'
  more_load one "$n"
  kill -STOP "${server_pids[target]}"
  # In write-blocking mode clients now wait, for a bounded time.
  [ $mode = write-blocking ] || more_load one "$n"
  begin=$SECONDS
  qmp block-job-cancel '{"device": "mirror", "force": true}' >/dev/null
  qmp_wait 5 'j is None' || die "the job does not end"
  [ $((SECONDS - begin)) -le $((4 * slow)) ] ||
    die "cancel took $((SECONDS - begin)) s"
  more_load one "$n"
  stop_load one

  # And all over again, with a target of its own: what the old one still has
  # in its socket it will write when it goes on.
  stop_server target
  start_target 64M -t 1
  mirror_to target $mode
  wait_equal
  assert_identical "$(uri proxy)" "$(uri target)"
  stop_server proxy
  stop_server target
done
