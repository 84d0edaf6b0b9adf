#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Time and memory follow the data, not the size of the disk; large requests
# are split and right.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

# Few file systems can have such files; tmpfs can.
dir=/dev/shm/mirror.$$
mkdir "$dir" 2>/dev/null || skip "no /dev/shm"
cleanup_fn rm -rf "$dir"
requires truncate -s 64T "$dir/source"
requires truncate -s 64T "$dir/target"

"$PYTHON" - "$dir/source" <<'END'
import random, sys
random.seed(1)
with open(sys.argv[1], "r+b") as f:
    size = f.seek(0, 2)
    for i in range(100):
        f.seek(random.randrange(0, size - (1 << 20)))
        f.write(random.randbytes(1 << 20))
END

now ()
{
  echo "${EPOCHREALTIME/./}"
}

rss ()
{
  awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status"
}

# How long it takes to ask for the extents of both, and how much memory a
# server takes that was asked.
start_nbdkit target file "$dir/target"
start_nbdkit plain file "$dir/source"
begin=$(now)
nbdinfo --map "$(uri plain)" >/dev/null
nbdinfo --map "$(uri target)" >/dev/null
both=$(($(now) - begin))
rss_plain=$(rss "${server_pids[plain]}")
stop_server plain

start_mirror file "$dir/source"
begin=$(now)
mirror_to target write-blocking
wait_ready 120
took=$(($(now) - begin))
rss_mirror=$(rss "${server_pids[proxy]}")
echo "maps: $both us; ready: $took us; rss: $rss_plain and $rss_mirror KiB"
[ $took -le $(((both * 3 + 1000000) * slow)) ] ||
  die "ready took $took us; the maps of both: $both us"
[ -n "$MIRROR_VALGRIND" ] || [ "${MIRROR_SANITIZER:-no}" != no ] ||
  [ "$rss_mirror" -le $((rss_plain + 65536)) ] ||
  die "memory: $rss_mirror KiB with a mirror, $rss_plain KiB without"
assert_qmp 'j["len"] == j["offset"]'
"$mirrorcmp" "$dir/source" "$dir/target" || die "not identical"

# Requests of 64 MiB of data, of 1 GiB and almost 4 GiB of zeroes.
timeout -k 10 $((120 * slow)) "$PYTHON" - "$(uri proxy)" <<'END'
import nbd, random, sys
h = nbd.NBD()
# The server takes more than what newer versions of libnbd want to send.
h.set_strict_mode(h.get_strict_mode() & ~getattr(nbd, "STRICT_PAYLOAD", 0))
h.connect_uri(sys.argv[1])
at = 123 << 30
data = random.randbytes(64 << 20)
h.pwrite(data, at + 5)
assert h.pread(len(data), at + 5) == data
h.pwrite(b"x" * 1000, at - 500)
h.pwrite(b"y" * 1000, at + (1 << 30) - 500)
h.pwrite(b"z" * 1000, at + (63 << 20))
h.zero(1 << 30, at)
assert h.pread(1000, at - 500) == b"x" * 500 + bytes(500)
assert h.pread(1000, at + (1 << 30) - 500) == bytes(500) + b"y" * 500
assert h.pread(64 << 20, at) == bytes(64 << 20)
h.pwrite(b"w" * 4096, at + (3 << 30))
h.zero((4 << 30) - 4096, at)
assert h.pread(4096, at + (3 << 30)) == bytes(4096)
h.trim((4 << 30) - 4096, at + 777)
h.shutdown()
END
wait_equal
"$mirrorcmp" "$dir/source" "$dir/target" || die "not identical"
