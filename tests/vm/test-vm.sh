#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A virtual machine whose disk is the proxy: while its kernel writes to a
# file system, the disk is mirrored; then what the guest wrote is on both.
#
# Usage, in ./run: test-vm.sh write-blocking|background KERNEL INITRD LOG
# See check-vm.sh for the last three; LOG is for the guest's console.

. "${top_srcdir:-../..}/tests/lib/functions.sh"

mode=$1 kernel=$2 initrd=$3 console=$4
size=256M
more=$(stress && echo 300 || echo 15)   # rounds of the guest

# Emulation on a machine that has other things to do is slow.
boot=300 round=120

#-- the guest ------------------------------------------------------------

# Emulated: there are machines whose KVM, nested, does not run this kernel.
start_guest ()
{
  mkfifo "$tmp/console"
  exec 8<>"$tmp/console"
  qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
    -machine q35 -accel tcg -cpu max -m 320 \
    -kernel "$kernel" -initrd "$initrd" \
    -append 'console=ttyS0 rdinit=/init panic=-1 oops=panic loglevel=4' \
    -drive "if=none,id=disk,format=raw,discard=unmap,file=$(uri proxy)" \
    -device virtio-blk-pci,drive=disk -serial stdio \
    <&8 >"$console" 2>"$tmp/qemu.log" &
  guest=$!
  cleanup_fn end_guest
}

# Only where the test fails is it still there.
end_guest ()
{
  [ -n "$guest" ] || return 0
  kill -KILL "$guest" 2>/dev/null
  wait "$guest" 2>/dev/null
  return 0
}

rounds ()
{
  sed -n 's/\r*$//; s/^guest: round \([0-9]*\)$/\1/p' "$console" | tail -n 1
}

rounds_or_gone ()
{
  [ "$(rounds)" -ge "$1" ] 2>/dev/null || gone "$guest"
}

failure ()
{
  grep -a 'guest: FAILED' "$console" || tail -n 3 "$console"
}

# more_rounds N [SECONDS]: until the guest has done that many more.
more_rounds ()
{
  local n=$(($(rounds) + $1))
  wait_for $((${2:-0} + round * $1)) rounds_or_gone $n ||
    die "the guest has stalled after $(rounds) rounds"
  ! gone "$guest" || die "the guest has ended: $(failure)"
}

stop_guest ()
{
  local status=0
  echo stop >&8
  wait_for $((2 * round)) gone "$guest" || die "the guest does not end"
  wait "$guest" || status=$?
  guest=
  [ $status -eq 0 ] || die "qemu ended with status $status"
  grep -a '^guest: verified [1-9]' "$console" ||
    die "the guest is not content: $(failure)"
}

#-- the test -------------------------------------------------------------

truncate -s $size "$tmp/source.img" "$tmp/target.img"
start_nbdkit target file "$tmp/target.img"
start_mirror file "$tmp/source.img"
start_guest
more_rounds 2 $boot

# Slow, so that the first pass takes some rounds.
mirror_to target "$mode" '"speed": 2097152'
more_rounds $more
if [ "$mode" = write-blocking ]; then
  wait_ready 300
  more_rounds $more
  qmp_wait 60 'j["actively-synced"]' || die "never synced: $(qmp_get j)"
fi
stop_guest

if [ "$mode" = write-blocking ]; then
  # No waiting: a write that the guest has its answer to is on the target.
  assert_qmp 'j["actively-synced"] and m["dirty-bytes"] == 0'
fi
wait_equal
wait_ready
assert_qmp "m['job']['copy-mode'] == '$mode'"
assert_identical "$(uri proxy)" "$(uri target)"
stop_server proxy
stop_server target
assert_identical "$tmp/source.img" "$tmp/target.img"

#-- the target, as a file system -----------------------------------------

e2fsck -fn "$tmp/target.img" >"$tmp/e2fsck.log" 2>&1 ||
  die "the target's file system is damaged"
mkdir "$tmp/disk"
debugfs -R "rdump / $tmp/disk" "$tmp/target.img" >"$tmp/debugfs.log" 2>&1
(cd "$tmp/disk" && sha256sum -c --quiet SUMS) ||
  die "files on the target differ from what the guest wrote"
echo "$mode: $(rounds) rounds, $(wc -l <"$tmp/disk/SUMS") files on the target"
