#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Mirror the disk of a running virtual machine, in each copy mode.
#
# Usage, in ./run: check-vm.sh DIRECTORY [MODE...]
#
# DIRECTORY gets Debian's kernel (downloaded once; it is not installed), an
# initrd made of it, tests/vm/init, busybox and the mke2fs of this machine,
# and MODE.log and MODE.console.log of each run.  STRESS=1 runs for longer.
#
# The processor is emulated (no KVM), so that this runs everywhere.

here=$(cd "$(dirname "$0")" && pwd)
. "$here/../../scripts/deps.sh"

done_with ()
{
  echo "$1 passed, $2 failed, $3 skipped"
  [ "$2" = 0 ]
  exit
}

die ()
{
  echo "check-vm: $*" >&2
  done_with 0 1 0
}

dir=$1
shift || exit 2
modes=("$@")
[ ${#modes[@]} -gt 0 ] || modes=(write-blocking background)

if [ "$(dpkg --print-architecture 2>/dev/null)" != amd64 ]; then
  echo "check-vm: skipped: only for Debian on amd64"
  done_with 0 0 ${#modes[@]}
fi
ensure_packages qemu-system-x86 busybox-static cpio kmod e2fsprogs
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$dir" || die "cannot make $dir"
dir=$(readlink -f "$dir")

#-- the kernel -----------------------------------------------------------

# The package of that name only depends on that of the newest version.
download_kernel ()
{
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 |
              sed -n 's/^ *Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' |
              head -n 1)
  [ -n "$package" ] && apt-get download -q "$package"
}

if [ ! -d "$dir/kernel" ]; then
  rm -rf "$dir/new"
  mkdir "$dir/new"
  (cd "$dir/new" &&
     { download_kernel ||
         { [ "$(id -u)" = 0 ] && apt-get update -q && download_kernel; }; } &&
     dpkg -x linux-image-*.deb . &&
     rm linux-image-*.deb) >"$dir/download.log" 2>&1 || {
    tail -n 10 "$dir/download.log" >&2
    die "cannot download linux-image-cloud-amd64 (apt-get update?)"
  }
  mv "$dir/new" "$dir/kernel"
fi
kernel=$(echo "$dir"/kernel/boot/vmlinuz-*)
version=${kernel##*/vmlinuz-}
# Debian 13 has them in /usr/lib.
modules=$dir/kernel
[ -d "$modules/lib/modules" ] || modules=$dir/kernel/usr

#-- the initrd -----------------------------------------------------------

# copy_in COMMAND: into /bin, and the libraries that it needs to where it
# looks for them.
copy_in ()
{
  local command file
  command=$(command -v "$1") && cp -L "$command" "$initrd/bin/" || return 1
  for file in $(ldd "$command" | grep -o '/[^ ]*'); do
    mkdir -p "$initrd${file%/*}" && cp -L "$file" "$initrd$file" || return 1
  done
}

# Modules in the order in which they are loaded; what is built in has none.
# The guest has no modprobe that could decompress them.
copy_modules ()
{
  local verb file name
  mkdir "$initrd/modules" && depmod -b "$modules" "$version" || return 1
  modprobe -d "$modules" -S "$version" --show-depends -a \
    virtio_pci virtio_blk ext4 |
    while read -r verb file; do
      [ "$verb" = insmod ] || continue
      name=$(basename "$file" .xz)
      [ ! -e "$initrd/modules/$name" ] || continue
      case $file in
        *.xz) xz -dc "$file" >"$initrd/modules/$name" ;;
        *) cp "$file" "$initrd/modules/$name" ;;
      esac || return 1
      echo "/modules/$name"
    done >"$initrd/modules/order"
}

initrd=$dir/initrd
make_initrd ()
{
  rm -rf "$initrd"
  mkdir -p "$initrd"/{bin,dev,proc,sys,etc} &&
    cp "$here/init" "$initrd/init" &&
    chmod 755 "$initrd/init" &&
    cp "$(command -v busybox)" "$initrd/bin/busybox" &&
    "$initrd/bin/busybox" --list | grep -vx -e mke2fs -e busybox |
      (cd "$initrd/bin" && xargs -n 1 ln -s busybox) &&
    copy_in mke2fs &&
    cp /etc/mke2fs.conf "$initrd/etc/" &&
    copy_modules &&
    (cd "$initrd" && find . | cpio -o -H newc --quiet) >"$initrd.cpio"
}
make_initrd || die "cannot make an initrd"

#-- the runs -------------------------------------------------------------

passed=0 failed=0
for mode in "${modes[@]}"; do
  rm -f "$dir/$mode.console.log"
  if timeout -k 60 "$([ -n "$STRESS" ] && echo 7200 || echo 1800)" \
       "$here/test-vm.sh" "$mode" "$kernel" "$initrd.cpio" \
       "$dir/$mode.console.log" >"$dir/$mode.log" 2>&1; then
    echo "PASS: $(tail -n 1 "$dir/$mode.log")"
    passed=$((passed + 1))
  else
    echo "==== $dir/$mode.log"
    tail -n 60 "$dir/$mode.log"
    echo "==== $dir/$mode.console.log"
    tail -n 30 "$dir/$mode.console.log"
    echo "FAIL: $mode"
    failed=$((failed + 1))
  fi
done
done_with $passed $failed 0
