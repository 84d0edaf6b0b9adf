#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror@.service in the eyes of systemd-analyze, and what it forbids: no
system call that a mirror from its start to its end makes is among it."""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test, wait_for  # noqa: E402
from runtest import ENVIRONMENT, Run, make_disk  # noqa: E402
from unitfile import Unit  # noqa: E402

SIZE = 16 << 20


def analyze(*args):
    r = subprocess.run(["systemd-analyze", *args], env=ENVIRONMENT,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=60 * SLOW,
                       encoding="utf-8", check=False)
    assert r.returncode == 0, (args, r)
    return r.stdout, r.stderr


def check_verify(t, unit):
    """No line about the unit.  The program need not be installed."""
    path = t.path("nbdmirror@.service")
    program = unit.values("ExecStart")[0].split()[0]
    with open(path, "w", encoding="utf-8") as f:
        f.write(unit.text.replace(program, shutil.which("true")))
    _, err = analyze("verify", "--man=no", path)
    said = [line for line in err.splitlines() if "nbdmirror@" in line]
    assert not said, said
    return path


def check_score(path):
    out, _ = analyze("security", "--offline=true", path)
    score = float(re.search(r"exposure level .*: ([0-9.]+)", out).group(1))
    with open(os.path.join(TOP, "docs/recipes.md"), encoding="utf-8") as f:
        said = re.search(r"exposure level ([0-9.]+) by systemd ([0-9]+)",
                         f.read())
    version = re.match(r"systemd (\d+)", analyze("--version")[0]).group(1)
    print("exposure level %.1f, systemd %s" % (score, version))
    if version == said.group(2):
        assert score == float(said.group(1)), (score, said.group())
    assert score < 3, score     # what systemd calls OK ends at 4


def calls_of(name, seen):
    """The system calls of a set, with the sets in it."""
    if not name.startswith("@"):
        return {name}
    if name not in seen:
        out, _ = analyze("syscall-filter", name)
        seen[name] = set()
        for line in out.splitlines()[1:]:
            word = line.strip()
            if word and not word.startswith("#"):
                seen[name] |= calls_of(word, seen)
    return seen[name]


def allowed(unit):
    """By SystemCallFilter: sets, and after ~ what is taken away again."""
    seen, calls = {}, set()
    for value in unit.values("SystemCallFilter"):
        these = set()
        for word in value.lstrip("~").split():
            these |= calls_of(word, seen)
        calls = calls - these if value.startswith("~") else calls | these
    return calls | calls_of("@default", seen)


def has_io_uring():
    r = subprocess.run(["nbdkit", "uring", "--dump-plugin"], check=True,
                       stdout=subprocess.PIPE, encoding="utf-8")
    return "\nuring_io_uring=yes\n" in r.stdout


def check_calls(t, unit):
    trace = t.path("trace")
    # With -D it is a process beside, so that run is ours to end.
    with Run(t, *unit.argv[2:], wait=False, prefix=(
            "strace", "-D", "-f", "-q", "-o", trace)) as run:
        run.wait_serving()
        client = run.connect()
        run.ctl("wait", "synced", "--timeout", "60")
        client.pwrite(b"x" * 65536, 65536)
        client.pread(1 << 20, 8 << 20)
        client.zero(1 << 20, 2 << 20)
        client.trim(1 << 20, 4 << 20)
        client.flush()
        run.ctl("verify")
        run.ctl("set", "speed=1M")
        run.ctl("hold")
        run.ctl("release")
        run.ctl("complete")
        client.pwrite(b"y" * 65536, 65536)
        client.shutdown()
        run.ctl("quit")
        assert run.wait() == 0, run.all()
    wait_for(lambda: re.search(r"(?m)^%d +\+\+\+ exited with 0" % run.pid,
                               Run.read(trace)), "strace does not end")
    text = Run.read(trace)
    made = set(re.findall(r"^\d+ +([a-z_0-9]+)\(", text, re.M))
    assert {"execve", "accept4", "fallocate", "fdatasync"} <= made, made
    if has_io_uring():
        assert {"io_uring_setup", "io_uring_enter"} <= made, made
    forbidden = made - allowed(unit)
    print("%d system calls" % len(made))
    assert not forbidden, "SystemCallFilter forbids %s" % sorted(forbidden)
    # RestrictAddressFamilies
    families = set(re.findall(r"\bsocket\((AF_\w+)", text))
    assert families and families <= set(
        unit.values("RestrictAddressFamilies")[0].split()), families


if not shutil.which("systemd-analyze"):
    print("SKIP: no systemd-analyze")
    sys.exit(77)
with Test() as test:
    make_disk(test, "s.img", SIZE, b"x" * (1 << 20))
    the_unit = Unit(test, "x", "SOURCE=%s\nTARGET=%s\nLISTEN=127.0.0.1:0\n"
                    "OPTIONS=--copy-mode write-blocking\n"
                    % (test.path("s.img"), test.path("n.img")))
    check_score(check_verify(test, the_unit))
    if shutil.which("strace") and SLOW == 1:
        check_calls(test, the_unit)
    else:
        print("not checked: system calls (no strace, or another program)")
