#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# SIM_SEEDS seeds from SIM_FIRST on, random runs and scenarios in turn, on all
# processors; ends at the first failure, with its report.
sim=$MIRROR_BUILDDIR/tests/sim/sim
first=${SIM_FIRST:-1000000}
seeds=${SIM_SEEDS:-100000}
chunk=1000
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# One chunk a line: arguments of sim.
chunks ()
{
  local at=$first end=$((first + seeds)) s

  while [ $at -lt $end ]; do
    echo "--seeds $at..$((at + chunk - 1))"
    for s in $("$sim" --list | cut -d ' ' -f 1); do
      echo "--scenario $s --seeds $at..$((at + chunk / 10 - 1))"
    done
    at=$((at + chunk))
  done
}

# Status 255 makes xargs stop.
cat >"$tmp/one" <<'ONE'
#!/bin/bash
out=$("$0.sim" "$@" 2>&1) && { printf '%s\n' "$out"; exit 0; }
printf '%s\n' "$out" | tail -n 150
exit 255
ONE
chmod +x "$tmp/one"
ln -s "$sim" "$tmp/one.sim"
chunks | xargs -P "$(nproc)" -L 1 "$tmp/one"
