#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The comparer finds every planted difference, and no others.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

# A disk with data at both ends, holes between, and a crooked end.
size=$((8 * 1024 * 1024 + 333))
a=$tmp/a
b=$tmp/b

make_disk ()
{
  rm -f "$1"
  truncate -s $size "$1"
  head -c 70000 /dev/zero | tr '\0' x | dd of="$1" conv=notrunc status=none
  printf '%01000d' 7 |
    dd of="$1" bs=1 seek=$((size - 1000)) conv=notrunc status=none
}

plant ()
{
  printf '\001' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# compare STATUS ARGS...: the output is kept.
compare ()
{
  local want=$1 status=0
  shift
  out=$("$mirrorcmp" "$@" 2>&1) || status=$?
  [ $status -eq "$want" ] ||
    die "mirrorcmp $*: status $status instead of $want: $out"
}

make_disk "$a"
make_disk "$b"
compare 0 "$a" "$b"
compare 0 --no-holes "$a" "$b"
start_nbdkit b --filter=noparallel file "$b"
compare 0 "$a" "$(uri b)"
compare 0 "$(uri b)" "$(uri b)"
stop_server b

# One byte: first, last, even and odd, at borders of sectors and blocks, in a
# hole, in the tail that fills no sector.
for offset in 0 1 510 511 512 513 4095 4096 65535 65536 69999 70000 70001 \
              $((4 << 20)) $(((4 << 20) - 1)) $(((4 << 20) + 777)) \
              $((8 << 20)) $(((8 << 20) - 1)) $((size - 2)) $((size - 1)); do
  make_disk "$b"
  plant "$b" $offset
  for holes in "" --no-holes; do
    for order in "$a $b" "$b $a"; do
      compare 1 $holes $order
      case $out in
        *"first difference at $offset, last at $offset, 1 bytes in 1 sectors")
          ;;
        *) die "one byte at $offset: $out" ;;
      esac
    done
  done
  start_nbdkit b file "$b"
  compare 1 "$a" "$(uri b)"
  compare 1 "$(uri b)" "$a"
  stop_server b
done

# Several: counted, with the first and the last.
make_disk "$b"
for offset in 100 101 600 4194303 4194304 8388700; do
  plant "$b" $offset
done
compare 1 "$a" "$b"
case $out in
  *"first difference at 100, last at 8388700, 6 bytes in 5 sectors") ;;
  *) die "several: $out" ;;
esac

# A hole on one side only, where the other has zeroes.
make_disk "$b"
dd if=/dev/zero of="$b" bs=65536 seek=20 count=9 conv=notrunc status=none
compare 0 "$a" "$b"

# Sizes.
make_disk "$b"
truncate -s $((size + 1)) "$b"
compare 1 "$a" "$b"
compare 0 --larger-second "$a" "$b"
compare 1 --larger-second "$b" "$a"
plant "$b" 100000
compare 1 --larger-second "$a" "$b"

# What cannot be read is neither equal nor different.
compare 2 "$a" "$tmp/nosuch"
compare 2 "$a" "nbd+unix:///?socket=$tmp/nosuch"
compare 2 "$a"
