#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Targets that others have written: no byte is lost, and what the target has
# behind the end of the source stays.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

size=$((3 * 1024 * 1024 + 333))
target_size=$((4 * 1024 * 1024))
all_ops=$(light 800)
! stress || all_ops=20000
# The loads flush a lot: not to a disk that others use, if there is memory.
dir=$tmp
if mkdir "/dev/shm/mirror.$$" 2>/dev/null; then
  dir=/dev/shm/mirror.$$
  cleanup_fn rm -rf "$dir"
fi
image=$dir/image
RANDOM=1                        # seeds of the loads

can_connect ()
{
  nbdinfo --size "$target_uri" >/dev/null 2>&1
}

# A server in the foreground that is no nbdkit, for stop_server.
start_other ()
{
  "$@" >>"$tmp/target.log" 2>&1 </dev/null &
  server_pids[target]=$!
  server_names=(target "${server_names[@]}")
  wait_for 20 can_connect || die "$1 does not start"
}

start_qemu ()
{
  target_uri=$(uri target)
  start_other qemu-nbd -t -f raw -k "$tmp/target.sock" "$@" "$image"
}

free_port ()
{
  "$PYTHON" -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])'
}

# nbd-server serves one connection only unless it is a daemon.
end_nbd_server ()
{
  [ -s "$tmp/nbd-server.pid" ] || return 0
  kill "$(cat "$tmp/nbd-server.pid")"
  rm -f "$tmp/nbd-server.pid"
}

start_nbd_server ()
{
  local port
  port=$(free_port)
  cat >"$tmp/nbd-server.conf" <<END
[generic]
listenaddr = 127.0.0.1
port = $port
[disk]
exportname = $image
flush = true
fua = true
trim = true
END
  target_uri=nbd://127.0.0.1:$port/disk
  cleanup_fn end_nbd_server
  nbd-server -C "$tmp/nbd-server.conf" -p "$tmp/nbd-server.pid"
  wait_for 20 can_connect || die "nbd-server does not start"
}

start_kit ()
{
  target_uri=$(uri target)
  start_nbdkit target "$@"
}

# Each command of it is a shell script, and whole blocks are all it takes.
start_eval ()
{
  start_kit eval get_size="echo $target_size" \
    block_size='echo 4096 4096 65536' \
    can_write='exit 0' can_flush='exit 0' can_multi_conn='exit 0' \
    pread="[ \$((\$3 % 4096)) = 0 ] || exit 1
      dd if=$image iflag=skip_bytes,count_bytes skip=\$4 count=\$3 bs=64K" \
    pwrite="[ \$((\$3 % 4096)) = 0 ] || exit 1
      dd of=$image oflag=seek_bytes seek=\$4 conv=notrunc bs=64K" \
    flush='exit 0'
}

full_of_garbage ()
{
  head -c $target_size /dev/zero | tr '\0' '\245'
}

check_equal ()
{
  wait_equal
  [ "$plugin" != memory ] ||
    nbdcopy --allocated "$target_uri" "$image" || die "nbdcopy fails"
  "$mirrorcmp" --larger-second "$(uri proxy)" "$image" ||
    die "not identical: $1"
  [ "$(tail -c +$((size + 1)) "$image" | tr -d '\245' | wc -c)" -eq 0 ] ||
    die "the target has changed behind the end of the source: $1"
}

start_job ()
{
  qmp blockdev-mirror "{\"job-id\": \"mirror\", \"sync\": \"full\",
    \"target\": \"$target_uri\", \"copy-mode\": \"$1\"}" >/dev/null
}

# one START-COMMAND...
one ()
{
  local mode load ops=$all_ops
  plugin=$2
  [ "$1" != start_eval ] || ops=$(light 40)
  full_of_garbage >"$image"
  "$@"
  [ "$plugin" != memory ] || nbdcopy "$image" "$target_uri"
  start_mirror memory $size
  run_load --ops=200 --no-fua "$(uri proxy)" >"$tmp/load.log"
  for mode in background write-blocking; do
    start_job $mode
    for load in "" --overlap; do
      run_load --ops=$ops --seed=$RANDOM --max-size=8K $load \
        --connections=3 "$(uri proxy)" >"$tmp/load.log"
      run_load --ops=$((ops / 20 + 1)) --max-size=1M $load "$(uri proxy)" \
        >"$tmp/load.log"
      check_equal "$*, $mode $load"
    done
    assert_qmp 'm["last-error"] is None'
    cancel_mirror
  done
  stop_server proxy
  [ -z "${server_pids[target]}" ] || stop_server target
  end_nbd_server
  echo "$*: identical after $SECONDS s"
}

if command -v qemu-nbd >/dev/null; then
  one start_qemu
  one start_qemu -e 8
  one start_qemu --discard=unmap --detect-zeroes=unmap
  # O_DIRECT needs a real disk.
  image=$tmp/image
  full_of_garbage >"$image"
  if dd if="$image" of=/dev/null iflag=direct bs=64K count=1 2>/dev/null; then
    one start_qemu --cache=none
  fi
  image=$dir/image
fi
if command -v nbd-server >/dev/null; then
  one start_nbd_server
fi
one start_kit file "$image"
one start_kit memory $target_size
one start_eval
