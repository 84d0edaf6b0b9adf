#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Build and run the whole suite in a chroot of Debian 13 (trixie), which has a
# newer nbdkit, libnbd and compiler than Debian 12.
#
# Usage: check-debian13.sh TARBALL DIRECTORY [CONFIGURE-ARGS...]
#
#   TARBALL    of "make dist": what users get is what is tested
#   DIRECTORY  has the chroot (downloaded once, about 700 MB in the end) and,
#              when it is over, build.log and check.log
#
# Environment: DEBIAN13_MIRROR, the archive to download from (default: the
# one that apt uses here); JOBS; CHECK_TESTS="tests/func/a.sh ..." to run
# only those.
#
# Needs root, for chroot and the mounts.  Mounts and processes are in
# namespaces of their own: when this script ends, however it ends, they are
# gone.  The build in the chroot starts anew each time, so that its log has
# every warning.

tarball=$(readlink -f "$1") dir=$2
shift 2 || exit 2
. "$(dirname "$0")/../../scripts/deps.sh"

done_with ()
{
  echo "$1 passed, $2 failed, $3 skipped"
  [ "$2" = 0 ] && [ "$1" -gt 0 ]
  exit
}

die ()
{
  echo "check-debian13: $*" >&2
  done_with 0 1 0
}

if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || die "needs root, for chroot: use sudo"
  exec sudo -n --preserve-env=DEBIAN13_MIRROR,JOBS,CHECK_TESTS,http_proxy \
    "$0" "$tarball" "$dir" "$@"
fi

ensure_packages debootstrap
mkdir -p "$dir" || die "cannot make $dir"
dir=$(readlink -f "$dir")
root=$dir/chroot
case $(findmnt -n -o OPTIONS -T "$dir"),  in
  *nodev,* | *noexec,*) die "$dir is on a file system with nodev or noexec" ;;
esac

#-- the chroot -----------------------------------------------------------

# What apt here goes through on its way to the archive, its mirrors do too.
proxy=$(apt-config dump | sed -n 's/^Acquire::http::Proxy "\(..*\)";$/\1/p')
[ -z "$proxy" ] || export http_proxy=${http_proxy:-$proxy}

mirror=${DEBIAN13_MIRROR:-$(
  apt-get indextargets --format '$(REPO_URI)' \
    'Origin: Debian' 'Label: Debian' 2>/dev/null | head -1)}
mirror=${mirror:-http://deb.debian.org/debian}

if [ ! -d "$root" ]; then
  echo "Downloading Debian 13 from $mirror to $root"
  rm -rf "$root.new"
  debootstrap --variant=minbase trixie "$root.new" "$mirror" \
    >"$dir/debootstrap.log" 2>&1 || {
      tail -20 "$dir/debootstrap.log" >&2
      die "debootstrap failed"
    }
  # A clock that is wrong here is no trouble for the chroot either.
  apt-config dump | grep -E '^Acquire::Check-(Valid-Until|Date) ' \
    >"$root.new/etc/apt/apt.conf.d/90host"
  mv "$root.new" "$root"
fi
cp /etc/resolv.conf "$root/etc/resolv.conf"

# in_chroot COMMAND...: until the command ends, whatever it leaves behind.
# Its root is a mount, else a test could not have a mount namespace of its own.
in_chroot ()
{
  unshare --mount --pid --fork --kill-child -- bash -c '
    root=$1; shift
    mount --bind "$root" "$root" &&
    mount -t proc proc "$root/proc" &&
    mount -t sysfs -o ro sysfs "$root/sys" &&
    mount --rbind /dev "$root/dev" &&
    mount -t tmpfs -o mode=1777 shm "$root/dev/shm" || exit 125
    exec chroot "$root" /usr/bin/env -i \
      PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
      ${http_proxy:+http_proxy="$http_proxy"} "$@"' - "$root" "$@"
}

rm -rf "$root/build"
mkdir -p "$root/build/src" &&
  tar -C "$root/build/src" --strip-components=1 --no-same-owner \
    -xf "$tarball" || die "cannot unpack $tarball"

# deps.sh is the one list of what is needed; what is installed comes second.
in_chroot bash -c '. /build/src/scripts/deps.sh
  ensure_packages "${build_packages[@]}" "${test_packages[@]}"' ||
  die "the packages cannot be installed"
in_chroot dpkg-query -W -f '${Package} ${Version}\n' nbdkit libnbd0 gcc \
  automake libtool python3

#-- the build ------------------------------------------------------------

# With this Debian's autotools, too: whoever has the tree has no configure.
in_chroot bash -c 'cd /build/src && autoreconf -fi -Wall && mkdir ../obj &&
  cd ../obj && ../src/configure --enable-gcc-warnings "$@" &&
  make -j"$0"' "${JOBS:-$(nproc)}" "$@" >"$dir/build.log" 2>&1 || {
    tail -40 "$dir/build.log" >&2
    die "the build failed; all of it is in $dir/build.log"
  }
if grep -E 'warning:' "$dir/build.log"; then
  die "the build has warnings; all of it is in $dir/build.log"
fi

#-- the tests ------------------------------------------------------------

in_chroot bash -c 'cd /build/obj && make -k -j"$0" check "$@"' \
  "${JOBS:-$(nproc)}" ${CHECK_TESTS:+TESTS="$CHECK_TESTS"} 2>&1 |
  tee "$dir/check.log" |
  grep -E -e '^(PASS|FAIL|SKIP|XPASS|ERROR|make.*(Error|\*\*\*))' \
    -e '(error|warning): '
make_status=${PIPESTATUS[0]}

sum=$root/build/obj/test-suite.log
count ()
{
  sed -n "s/^# $1: *\([0-9]*\).*/\1/p" "$sum" 2>/dev/null | head -1
}
passed=$(count PASS) failed=$(count FAIL) skipped=$(count SKIP)
errors=$(count ERROR) xpass=$(count XPASS)
failed=$((${failed:-0} + ${errors:-0} + ${xpass:-0}))
if [ "$make_status" != 0 ]; then
  for trs in $(grep -lrE '^:test-result: (FAIL|ERROR|XPASS)' \
                 --include='*.trs' "$root/build/obj"); do
    echo "==== ${trs%.trs}.log"
    tail -60 "${trs%.trs}.log"
  done
  [ "$failed" != 0 ] || failed=1
fi
done_with "${passed:-0}" "$failed" "${skipped:-0}"
