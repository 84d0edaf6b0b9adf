#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Write-blocking converges while clients write as fast as they can, with some
# write on its way to the target at any moment, and the copier reads slowly.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

size=64M
limit=100                       # seconds
if stress; then
  size=512M
  limit=800
fi

# The disk is full of data that has to be copied.
truncate -s $size "$tmp/source"
"$PYTHON" -c 'import sys
with open(sys.argv[1], "r+b") as f:
    n = f.seek(0, 2)
    f.seek(0)
    for i in range(n >> 20):
        f.write(bytes([i % 255 + 1]) * (1 << 20))' "$tmp/source"

# Clients do not read, so only the copier feels this.
start_nbdkit target --filter=delay memory $size wdelay=3ms
start_mirror --filter=delay file "$tmp/source" rdelay=50ms
start_load one --connections=4 --depth=8 --max-size=64K \
  --weights=write=10,zero=1
more_load one 100
mirror_to target write-blocking '"buf-size": 1048576'
begin=$(load_count one)
qmp_wait $limit 'j["ready"] and m["dirty-bytes"] == 0' ||
  die "does not converge: $(qmp_get '(m, j)')"
end=$(load_count one)
[ $((end - begin)) -ge "$(light 100)" ] || die "there was no load"
stop_load one
wait_equal
assert_identical "$tmp/source" "$(uri target)"
