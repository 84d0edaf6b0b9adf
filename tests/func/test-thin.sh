#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A thin source stays thin on the target, and nothing is sent where both are
# zero already; what mirror-unmap, mirror-detect-zeroes and
# mirror-target-is-zero change about it.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

mib=$((1024 * 1024))
size=$((32 * mib))
# Granules at the ends of the data, and what a file system needs for itself.
slack=$((12 * 65536))

# Data in three places, not at edges of granules; the rest are holes, or
# zeroes (ARG 2).
make_source ()
{
  rm -f "$1"
  truncate -s $size "$1"
  [ -z "$2" ] || dd if=/dev/zero of="$1" bs=1M count=32 status=none
  "$PYTHON" - "$1" <<'END'
import random, sys
random.seed(1)
with open(sys.argv[1], "r+b") as f:
    for at in 1 << 20, (9 << 20) + 4096, (32 << 20) - 700000:
        f.seek(at)
        f.write(bytes(b | 1 for b in random.randbytes(700000)))
END
}

allocated ()
{
  echo $(($(stat -c %b "$1") * 512))
}

# What the target contains before.
garbage ()
{
  head -c $size /dev/zero | tr '\0' '\245' >"$tmp/target.img"
}

zeroes ()
{
  head -c $size /dev/zero >"$tmp/target.img"
}

holes ()
{
  rm -f "$tmp/target.img"
  truncate -s $size "$tmp/target.img"
}

make_source "$tmp/thin"
make_source "$tmp/thick" zeroes
thin=$(allocated "$tmp/thin")

# The file system must be one that knows holes.
[ "$thin" -lt $((4 * mib)) ] && [ "$(allocated "$tmp/thick")" -ge $size ] ||
  skip "no sparse files here"
zeroes
requires fallocate -p -o 0 -l $size "$tmp/target.img"
[ "$(allocated "$tmp/target.img")" -lt $mib ] || skip "no holes here"
data=$((3 * 700000))

# copy TARGET-FILTERS -- SOURCE... KEYS...: until the mirror is ready.
copy ()
{
  local filters=()
  while [ "$1" != -- ]; do filters+=("$1"); shift; done
  shift
  start_nbdkit target "${filters[@]}" file "$tmp/target.img"
  start_mirror "$@" mirror-target="$(uri target)"
  wait_ready
  wait_equal
  copied=$(qmp_get 'm["copied-bytes"]')
  zeroed=$(qmp_get 'm["zeroed-bytes"]')
}

end ()
{
  stop_server proxy
  stop_server target
  "$mirrorcmp" --no-holes "$tmp/$1" "$tmp/target.img" ||
    die "$2: not identical"
  is=$(allocated "$tmp/target.img")
  echo "$2: copied $copied, zeroed $zeroed, allocated $is of $size bytes"
}

assert_thin ()
{
  [ "$is" -le $((thin + slack)) ] ||
    die "$1: the target has $is bytes, the source $thin"
}

assert_thick ()
{
  [ "$is" -ge $size ] || die "$1: the target has $is of $size bytes only"
}

# What is data, and granules at its ends.
assert_copied ()
{
  [ "$copied" -ge $data ] && [ "$copied" -le $((data + slack)) ] ||
    die "$1: copied $copied bytes"
}

for mode in background write-blocking; do
  # A fresh target: only data is sent.
  holes
  copy -- file "$tmp/thin" mirror-copy-mode=$mode
  end thin "$mode, fresh target"
  assert_thin "$mode, fresh target"
  assert_copied "$mode, fresh target"
  [ "$zeroed" -eq 0 ] || die "$mode: $zeroed bytes zeroed on a fresh target"

  # One that is full is emptied.
  garbage
  copy -- file "$tmp/thin" mirror-copy-mode=$mode
  end thin "$mode, garbage"
  assert_thin "$mode, garbage"
  [ "$zeroed" -ge $((size - data - slack)) ] || die "$mode: zeroed $zeroed"
done

# With mirror-unmap=false its blocks stay.
garbage
copy -- file "$tmp/thin" mirror-unmap=false
end thin "garbage, unmap=false"
assert_thick "garbage, unmap=false"

#-- mirror-detect-zeroes -------------------------------------------------

# A source that cannot tell makes a thick target.
holes
copy -- --filter=noextents file "$tmp/thick"
[ "$copied" -ge $size ] || die "no extents: only $copied bytes are copied"
end thick "no extents"
assert_thick "no extents"

holes
copy -- --filter=noextents file "$tmp/thick" mirror-detect-zeroes=true
end thick "no extents, detect-zeroes"
assert_thin "no extents, detect-zeroes"
[ "$copied" -le $((data + slack)) ] ||
  die "detect-zeroes: $copied bytes are copied"

# Also on a full target, with and without mirror-unmap.
garbage
copy -- --filter=noextents file "$tmp/thick" mirror-detect-zeroes=on
end thick "garbage, detect-zeroes"
assert_thin "garbage, detect-zeroes"
garbage
copy -- --filter=noextents file "$tmp/thick" mirror-detect-zeroes=yes \
  mirror-unmap=no
end thick "garbage, detect-zeroes, unmap=no"
assert_thick "garbage, detect-zeroes, unmap=no"

#-- mirror-target-is-zero ------------------------------------------------

# A target that cannot tell is cleared,
for content in zeroes holes; do
  $content
  copy --filter=noextents -- file "$tmp/thin"
  [ "$zeroed" -ge $((size - data - slack)) ] ||
    die "$content, target cannot tell: zeroed $zeroed"
  end thin "$content, target cannot tell"

  # but not if the user knows better.
  $content
  copy --filter=noextents -- file "$tmp/thin" mirror-target-is-zero=true
  end thin "$content, target-is-zero"
  [ "$zeroed" -eq 0 ] || die "$content, target-is-zero: zeroed $zeroed"
  assert_copied "$content, target-is-zero"
  [ $content = zeroes ] || assert_thin "target-is-zero"
done

#-- clients' zeroes ------------------------------------------------------

# client CODE: with h, a connection to the proxy.
client ()
{
  timeout -k 5 $((60 * slow)) "$PYTHON" - "$(uri proxy)" <<END
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
$1
h.flush()
h.shutdown()
END
}

# change WHAT CODE -- KEYS...: from data to zeroes in the first 8 MiB, teed.
change ()
{
  local what=$1 code=$2
  shift 3
  rm -f "$tmp/source.img"
  truncate -s $size "$tmp/source.img"
  holes
  copy -- file "$tmp/source.img" mirror-copy-mode=write-blocking "$@"
  client 'for i in range(8): h.pwrite(b"x" * (1 << 20), i << 20)'
  wait_equal
  [ "$(allocated "$tmp/target.img")" -ge $((8 * mib)) ] ||
    die "$what: the data is not there"
  client "$code"
  wait_equal
  end source.img "$what"
}

change "client zero" 'h.zero(8 << 20, 0)' --
[ "$is" -le $slack ] || die "client zero: $is bytes"
change "client zero, no hole" \
  'h.zero(8 << 20, 0, nbd.CMD_FLAG_NO_HOLE)' --
[ "$is" -ge $((8 * mib)) ] || die "client zero, no hole: $is bytes"
change "client zero, unmap=0" 'h.zero(8 << 20, 0)' -- mirror-unmap=0
[ "$is" -ge $((8 * mib)) ] || die "client zero, unmap=0: $is bytes"
change "client trim" 'h.trim(8 << 20, 0)' --
[ "$is" -le $slack ] || die "client trim: $is bytes"
change "zeroes as data" 'h.pwrite(bytes(8 << 20), 0)' --
[ "$is" -ge $((8 * mib)) ] || die "zeroes as data: $is bytes"
change "zeroes as data, detect-zeroes" 'h.pwrite(bytes(8 << 20), 0)' -- \
  mirror-detect-zeroes=1
[ "$is" -le $slack ] || die "zeroes as data, detect-zeroes: $is bytes"
