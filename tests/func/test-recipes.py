#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The recipes of docs/recipes.md work as they are written.

An indented block is shell.  All blocks of one heading are one script, which
stops at the first command that fails; what should come of it is looked at by
the function of that name in CHECKS.  <!-- not run: REASON --> on a line of its
own before a block excludes it.

Names of files and sockets are put into the directory of the test.  "nbdmirror
run" goes to the background, as if it had been typed elsewhere; ssh says what it
would have done.  Without "nbdmirror run" there is a proxy already.
"""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test  # noqa: E402
from runtest import make_disk, read_disk  # noqa: E402

SIZE = 16 << 20
DATA = bytes(range(1, 256)) * 4096      # about 1 MiB, no zero in it

SUBSTITUTIONS = (
    ("nbd://standby/", "nbd+unix:///?socket={tmp}/standby.sock"),
    ("nbd://backup/", "nbd+unix:///?socket={tmp}/standby.sock"),
    ("nbd://newhost/", "nbd+unix:///?socket={tmp}/standby.sock"),
    ("/run/disk.nbd", "{tmp}/proxy.sock"),
    ("/run/", "{tmp}/"),
    ("/images/", "{tmp}/"),
)

PRELUDE = r"""
set -e
cd "$tmp"
export NBDMIRROR_SOCK=$tmp/ctl.sock
run=
count=0
# End whatever it has started: the proxy first, then qemu-nbds.
finish ()
{
  local status=$? f
  [ -z "$run" ] || { kill "$run" 2>/dev/null || :; wait "$run" || status=1; }
  for f in qemu-nbd*.pid; do
    [ ! -s "$f" ] || kill "$(cat "$f")"
  done
  exit $status
}
trap finish EXIT
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
ssh () { echo "ssh $*"; }
qemu-nbd ()
{
  count=$((count + 1))
  command qemu-nbd "$@" --pid-file="$tmp/qemu-nbd$count.pid"
}
nbdmirror ()
{
  if [ "$1" != run ]; then command nbdmirror "$@"; return; fi
  [ -z "$run" ] || wait "$run"
  rm -f run.log
  command nbdmirror "$@" --control "$NBDMIRROR_SOCK" \
    --listen "unix:$tmp/clients.sock" > run.log & run=$!
  until grep -qs ^control run.log; do
    kill -0 "$run"
    read -r -t 0.02 <> <(:) || :
  done
}
"""


def recipes():
    """{heading: [block]}, and how many blocks are not run."""
    with open(os.path.join(TOP, "docs/recipes.md"), encoding="utf-8") as f:
        lines = f.read().split("\n")
    found, heading, order, excluded, fence, i = {}, "", "", 0, False, 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if line.startswith("```"):
            fence = not fence
        elif line.startswith("## "):
            heading = line[3:]
        elif line.startswith("<!-- "):
            order = line
            assert re.match(r"<!-- not run: .+ -->$", line), line
        elif line.startswith("    ") and not fence:
            block = [line[4:]]
            while lines[i].startswith("    "):
                block.append(lines[i][4:])
                i += 1
            if order:
                excluded += 1
            else:
                found.setdefault(heading, []).append("\n".join(block))
            order = ""
    return found, excluded


def run_script(t, heading, blocks):
    """Returns what it prints."""
    text = "\n".join(blocks)
    for what, by in SUBSTITUTIONS:
        text = text.replace(what, by.format(tmp=t.tmp))
    make_disk(t, "vm.img", SIZE, DATA)
    if "standby.sock" in text:
        make_disk(t, "standby.img", SIZE)
        t.nbdkit("standby", "file", t.path("standby.img"))
    if "nbdmirror run" not in text:
        t.mirror("file", t.path("vm.img"))
    if "old.qcow2" in text:
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2",
                        t.path("vm.img"), t.path("old.qcow2")], check=True)
    # Not pipes: servers that go to the background keep them open.
    out, log = t.path("script.out"), t.path("script.log")
    with open(out, "wb") as stdout, open(log, "wb") as stderr:
        # By SIGTERM it still ends what it has started.
        r = subprocess.run(["timeout", "-k", "20", str(120 * SLOW), "bash",
                            "-c", "tmp='%s'\n%s%s\n"
                            % (t.tmp, PRELUDE, text)],
                           stdin=subprocess.DEVNULL, stdout=stdout,
                           stderr=stderr, check=False)
    assert r.returncode == 0, "%s: status %d" % (heading, r.returncode)
    with open(out, encoding="utf-8") as f:
        return f.read()


def equal(t):
    assert read_disk(t, "standby.img") == read_disk(t, "vm.img")


def check_machine(t, out):
    """Its client has written, and goes on with the target."""
    assert "pivoted" in out and "read 1048576/1048576" in out, out
    equal(t)
    assert read_disk(t, "standby.img")[1 << 20:2 << 20] == b"\7" * (1 << 20)


def check_standby(t, out):
    assert "0 granules differ" in out, out
    with t.qmp() as q:
        assert q.job()["actively-synced"]
    equal(t)


def check_survives(t, out):
    assert "running" in out and "moved to the target" in out, out
    assert not os.path.exists(t.path("ctl.sock"))
    with open(t.path("run.log"), encoding="utf-8") as f:
        assert "uri " in f.read()
    equal(t)


def check_snapshot(t, out):
    """The snapshot is between hold and release."""
    words = [line.split()[0] for line in out.splitlines()]
    assert words == ["held", "ssh", "released,"], out
    equal(t)


def check_copy(t, _):
    """The job has ended well."""
    with t.qmp() as q:
        last = q.command("query-mirror")["last-job"]
    assert last["end"] == "completed", last
    equal(t)


def check_move(t, out):
    assert "pivoted" in out, out
    equal(t)


def check_qcow2(t, _):
    def image(name):
        return t.path(name)

    for name in ("old.qcow2", "new.qcow2", "new2.qcow2", "new.img"):
        r = subprocess.run(["qemu-img", "compare", image("vm.img"),
                            image(name)], stdout=subprocess.PIPE,
                           encoding="utf-8", check=False)
        assert r.returncode == 0, (name, r.stdout)
        # As sparse as the source.
        blocks = os.stat(image(name)).st_blocks * 512
        assert blocks < 4 << 20, "%s: %d bytes" % (name, blocks)


CHECKS = {
    "The disk of a virtual machine": check_machine,
    "Moving a disk that is in use": check_move,
    "A standby": check_standby,
    "A standby that survives the proxy": check_survives,
    "A consistent snapshot of the target": check_snapshot,
    "A point-in-time copy": check_copy,
    "From and to qcow2": check_qcow2,
}


def main():
    found, excluded = recipes()
    assert set(found) == set(CHECKS), (set(found), set(CHECKS))
    for heading, blocks in found.items():
        with Test() as t:
            CHECKS[heading](t, run_script(t, heading, blocks))
    print("%d recipes run, %d blocks not" % (len(found), excluded))


for program in ("qemu-nbd", "qemu-img", "qemu-io", "nbdinfo"):
    if not shutil.which(program):
        print("SKIP: no " + program)
        sys.exit(77)
main()
