# SPDX-License-Identifier: BSD-3-Clause
# For the functional tests, which source this file first:
#
#   . "${top_srcdir:-../..}/tests/lib/functions.sh"
#
# A test is one behaviour.  It starts servers by name, and each server has
# its socket, log and pid by that name in $tmp.  At the end of the test every
# server that is still there must end by SIGTERM, with status 0 and in time,
# else the test fails: that is how crashes and what sanitizers find are seen.
#
# There are no sleeps for "long enough": wait_for and qmp_wait poll for a
# condition with a deadline.  Deadlines are stretched by $slow, and loads are
# reduced by it, where the filter runs under valgrind or a sanitizer.

set -e
set -o pipefail

: "${top_srcdir:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)}"
: "${top_builddir:=$top_srcdir}"
: "${PYTHON:=/usr/bin/python3}"
export top_srcdir top_builddir PYTHON PYTHONDONTWRITEBYTECODE=1
libdir=$top_srcdir/tests/lib
oracle=$top_builddir/tests/lib/oracle
mirrorcmp=$top_builddir/tests/lib/mirrorcmp

slow=1
[ "${MIRROR_SANITIZER:-no}" = no ] || slow=4
[ -z "$MIRROR_VALGRIND" ] || slow=10

# See keep-locales.c.
if [ "${MIRROR_SANITIZER:-no}" != no ]; then
  MIRROR_PRELOAD+=" $top_builddir/tests/lib/.libs/keep-locales.so"
fi

# Libnbd's debug output and a user's proxy socket have no place here.
unset LIBNBD_DEBUG NBDMIRROR_SOCK

#-- ends -----------------------------------------------------------------

cleanups=()

# Run a command at the end; the last that was given runs first.
cleanup_fn ()
{
  cleanups=("$(printf '%q ' "$@")" "${cleanups[@]}")
}

at_exit ()
{
  local status=$? c name
  trap - EXIT
  trap '' TERM INT
  set +e
  for c in "${cleanups[@]}"; do
    eval "$c" || { [ $status -ne 0 ] || status=1; }
  done
  for name in "${server_names[@]}"; do
    [ -n "${server_pids[$name]}" ] || continue
    stop_server "$name" || { [ $status -ne 0 ] || status=1; }
  done
  if [ $status -ne 0 ] && [ $status -ne 77 ]; then
    for c in "$tmp"/*.log; do
      [ -s "$c" ] && echo "--- ${c##*/}" && tail -n 60 "$c"
    done
  fi
  [ -n "$MIRROR_KEEP_TMP" ] || rm -rf "$tmp"
  exit $status
}

die ()
{
  echo "$(basename "$0"): $*" >&2
  exit 1
}

skip ()
{
  echo "$(basename "$0"): skipped: $*" >&2
  exit 77
}

# Skip unless that command succeeds.
requires ()
{
  "$@" </dev/null >/dev/null 2>&1 || skip "'$*' does not work here"
}

# The path must be short: sockets live there.
tmp=$(mktemp -d "${MIRROR_TMPDIR:-/tmp}/mirror.XXXXXX")
trap at_exit EXIT
trap 'exit 1' TERM INT

#-- waiting --------------------------------------------------------------

# wait_for SECONDS COMMAND ARGS...: until the command succeeds.
wait_for ()
{
  local deadline=$((SECONDS + $1 * slow + 1))
  shift
  until "$@"; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.03
  done
}

# What remains of a load on a slow build.
light ()
{
  echo $(($1 / slow > 0 ? $1 / slow : 1))
}

# The heavy variants belong to "make check-stress".
stress ()
{
  [ -n "$STRESS" ]
}

gone ()
{
  ! kill -0 "$1" 2>/dev/null
}

#-- servers --------------------------------------------------------------

declare -A server_pids
server_names=()                 # the last first

uri ()
{
  echo "nbd+unix:///?socket=$tmp/$1.sock"
}

log_has ()
{
  grep -q -e "$2" "$tmp/$1.log"
}

server_ready_or_gone ()
{
  [ -s "$tmp/$1.pid" ] || gone "${server_pids[$1]}"
}

# start_nbdkit NAME ARGS...: serves $(uri NAME).
start_nbdkit ()
{
  local name=$1
  shift
  rm -f "$tmp/$name.pid" "$tmp/$name.sock"
  nbdkit -f -P "$tmp/$name.pid" -U "$tmp/$name.sock" "$@" \
    >>"$tmp/$name.log" 2>&1 </dev/null &
  server_pids[$name]=$!
  server_names=("$name" "${server_names[@]}")
  wait_for 20 server_ready_or_gone "$name" ||
    die "server $name does not start"
  if [ ! -s "$tmp/$name.pid" ]; then
    unset "server_pids[$name]"
    die "server $name ended at once: $(tail -n 3 "$tmp/$name.log")"
  fi
}

# A stopped process would not see SIGTERM.
stop_server ()
{
  local name=$1 pid=${server_pids[$1]} status=0
  unset "server_pids[$name]"
  kill -CONT "$pid" 2>/dev/null || :
  kill -TERM "$pid" 2>/dev/null || :
  if ! wait_for "${2:-20}" gone "$pid"; then
    echo "server $name does not end by SIGTERM" >&2
    kill -KILL "$pid"
    wait "$pid" 2>/dev/null || :
    return 1
  fi
  wait "$pid" || status=$?
  if [ $status -ne 0 ]; then
    echo "server $name ended with status $status" >&2
    return 1
  fi
}

# For servers that are meant to die.
kill_server ()
{
  local pid=${server_pids[$1]}
  unset "server_pids[$1]"
  kill -KILL "$pid"
  wait "$pid" 2>/dev/null || :
}

# start_target [SIZE [ARGS...]]: a good target, "target", in memory.
start_target ()
{
  start_nbdkit target "${@:2}" memory "${1:-64M}"
}

# start_mirror ARGS...: the proxy, "proxy"; ARGS are its inner filters, the
# source and keys.
start_mirror ()
{
  start_nbdkit proxy --filter=mirror "$@" mirror-control="$tmp/ctl.sock"
}

#-- the control socket ---------------------------------------------------

# qmp COMMAND [JSON]: prints what is returned, as JSON.
qmp ()
{
  "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" command "$@"
}

# qmp_get EXPRESSION: over m (query-mirror) and j (the job or None).
qmp_get ()
{
  "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" get "$1"
}

# qmp_wait SECONDS EXPRESSION
qmp_wait ()
{
  "$PYTHON" "$libdir/qmp.py" "$tmp/ctl.sock" wait $(($1 * slow)) "$2"
}

assert_qmp ()
{
  [ "$(qmp_get "$1")" = True ] ||
    die "not true: $1: $(qmp_get '(m, j)')"
}

# mirror_to NAME MODE [JSON-MEMBERS]: a full mirror to that server.
mirror_to ()
{
  qmp blockdev-mirror "{\"job-id\": \"mirror\", \"sync\": \"full\",
    \"target\": \"$(uri "$1")\", \"copy-mode\": \"$2\" ${3:+, $3}}" >/dev/null
}

cancel_mirror ()
{
  qmp block-job-cancel '{"device": "mirror", "force": true}' >/dev/null
  qmp_wait 20 'j is None' || die "the job does not end"
}

# No client writes any more: until nothing is dirty or in flight.
wait_equal ()
{
  qmp_wait "${1:-60}" 'j and j["len"] == j["offset"]' ||
    die "the mirror does not converge: $(qmp_get '(m, j)')"
}

wait_ready ()
{
  qmp_wait "${1:-60}" 'j and j["ready"]' ||
    die "the job does not become ready: $(qmp_get '(m, j)')"
}

#-- clients and images ---------------------------------------------------

# start_load NAME ORACLE-ARGS...: until stop_load, against the proxy.
start_load ()
{
  local name=$1
  shift
  rm -f "$tmp/$name.count"
  "$oracle" --progress="$tmp/$name.count" "$@" "$(uri proxy)" \
    >"$tmp/$name.log" 2>&1 &
  eval "load_$name=$!"
  cleanup_fn end_load "$name"
  wait_for 30 load_has "$name" 1 || die "load $name does not start"
}

# A test that fails must not leave the client behind.
end_load ()
{
  local var=load_$1
  [ -n "${!var}" ] || return 0
  kill -TERM "${!var}" 2>/dev/null
  wait_for 5 gone "${!var}" || kill -KILL "${!var}"
  wait "${!var}" 2>/dev/null
  return 0
}

load_count ()
{
  local n
  n=$(cat "$tmp/$1.count" 2>/dev/null) || n=0
  echo $((n + 0))
}

load_has ()
{
  [ "$(load_count "$1")" -ge "$2" ]
}

# more_load NAME N: until that many more requests have been completed.
more_load ()
{
  local n=$(($(load_count "$1") + $2))
  wait_for "${3:-60}" load_has "$1" $n ||
    die "load $1 has stalled at $(load_count "$1") requests"
}

# The oracle checks everything it wrote, then ends.
stop_load ()
{
  local var=load_$1 status=0
  kill -TERM "${!var}" 2>/dev/null || :
  wait_for 60 gone "${!var}" || die "load $1 does not end"
  wait "${!var}" || status=$?
  eval "load_$1="
  [ $status -eq 0 ] || die "load $1 ended with status $status"
  tail -n 1 "$tmp/$1.log"
}

# Runs the oracle with a number of requests; it must be content.
run_load ()
{
  timeout -k 10 $((180 * slow)) "$oracle" "$@" ||
    die "the oracle is not content (status $?)"
}

assert_identical ()
{
  "$mirrorcmp" --no-holes "$@" || die "not identical: $*"
  "$mirrorcmp" "$@" || die "not identical by block status: $*"
}

assert_different ()
{
  local status=0
  "$mirrorcmp" --quiet "$@" || status=$?
  [ $status -eq 1 ] || die "not different (mirrorcmp: status $status): $*"
}
