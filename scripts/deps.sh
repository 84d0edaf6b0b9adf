# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the scripts of this directory: install what is missing.

# What building and testing need on Debian 12 and later.
build_packages=(gcc make autoconf automake libtool pkg-config perl
  nbdkit nbdkit-plugin-dev libnbd-dev libjansson-dev
  liburing-dev)
test_packages=(check libnbd-bin python3 python3-libnbd qemu-utils fio
  e2fsprogs xfsprogs procps man-db nbd-server socat strace tmux
  python3-prometheus-client)

# ensure_packages NAME...: install those that are missing, as root or with
# sudo; else print the command and exit 1.
ensure_packages ()
{
  local missing=() p sudo=
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null |
      grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    if ! sudo=$(command -v sudo) || ! sudo -n true 2>/dev/null; then
      echo "Packages are missing; as root, run:"
      echo "  apt-get install -y ${missing[*]}"
      exit 1
    fi
  fi
  echo "Installing: ${missing[*]}"
  if ! { $sudo apt-get update -q &&
         $sudo env DEBIAN_FRONTEND=noninteractive \
           apt-get install -y -q --no-install-recommends "${missing[@]}"; } \
       > "${TMPDIR:-/tmp}/nbdkit-mirror-apt.log" 2>&1; then
    tail -20 "${TMPDIR:-/tmp}/nbdkit-mirror-apt.log" >&2
    echo "apt-get install ${missing[*]} failed" >&2
    exit 1
  fi
}

# build DIR [CONFIGURE-ARGS...]: configure and build out of tree.
build ()
{
  local dir=$1; shift
  local src=$PWD log
  mkdir -p "$dir"
  log=$PWD/$dir/build.log
  if ! { { [ -x configure ] || autoreconf -fi; } &&
         cd "$dir" &&
         { [ -f Makefile ] || "$src/configure" "$@"; } &&
         make -j"$(nproc)"; } > "$log" 2>&1; then
    tail -40 "$log" >&2
    echo "the build failed; all of it is in $log" >&2
    exit 1
  fi
  cd "$src" || exit 1
}
