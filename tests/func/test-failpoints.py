#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The proxy fails, stops and dies next to the switch of a pivot.  Needs a
build with --enable-failpoints."""

import os
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, MIRRORCMP, SLOW, Test, wait_for  # noqa: E402

SIZE = (2 << 20) + 100

with open(os.path.join(BUILD, "config.h"), encoding="ascii") as config:
    if "#define MIRROR_FAILPOINTS 1" not in config.read():
        print("skipped: no --enable-failpoints", file=sys.stderr)
        sys.exit(77)


def start(t, failpoint):
    with open(t.path("disk"), "wb") as f:
        f.write(os.urandom(SIZE))
    t.nbdkit("target", "memory", str(SIZE))
    os.environ["MIRROR_FAILPOINT"] = failpoint
    process = t.mirror("file", t.path("disk"))
    del os.environ["MIRROR_FAILPOINT"]
    load = t.load("load", "--seed=8", "--max-size=16K", "--allow-errors")
    load.more(30)
    qmp = t.qmp(timeout=60 * SLOW)
    qmp.command("blockdev-mirror", job_id="m", sync="full",
                target=t.uri("target"), copy_mode="write-blocking")
    qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
    qmp.command("job-complete", id="m")
    return process, load, qmp


def fails(t):
    """Like any other failure: nothing is switched, and then it works."""
    _, load, qmp = start(t, "pivot-before=EIO")
    event = qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
    assert "failpoint" in event["data"]["error"], event
    load.more(30)
    qmp.command("job-complete", id="m")
    qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
    load.more(30)
    load.stop()
    assert t.compare("proxy", "target")
    qmp.close()
    t.stop("proxy")
    t.stop("target")


def stopped(process):
    with open("/proc/%d/stat" % process.pid, encoding="ascii") as f:
        return f.read().rsplit(")", 1)[1].split()[0] == "T"


def dies(t, failpoint):
    """Before the switch, or after it when no client has been let go: both
    sides are the same."""
    process, load, qmp = start(t, failpoint)
    if failpoint.endswith("pause"):
        wait_for(lambda: stopped(process), "it does not stop")
        process.kill()
    wait_for(lambda: process.poll() is not None, "it does not die")
    want = signal.SIGKILL if failpoint.endswith("pause") else signal.SIGABRT
    assert process.returncode == -want, process.returncode
    assert load.process.wait(60 * SLOW) == 2
    t.loads.remove(load)
    t.kill("proxy")
    r = subprocess.run([MIRRORCMP, t.path("disk"), t.uri("target")],
                       check=False)
    assert r.returncode == 0, "the sides differ"
    qmp.close()
    t.stop("target")


def stops_after(t):
    """Clients are on the target: the source stays as it is."""
    process, load, qmp = start(t, "pivot-after=pause")
    wait_for(lambda: stopped(process), "it does not stop")
    with open(t.path("disk"), "rb") as f:
        before = f.read()
    process.send_signal(signal.SIGCONT)
    qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
    load.more(100)
    load.stop()
    with open(t.path("disk"), "rb") as f:
        assert f.read() == before, "the source was written to"
    assert t.compare("proxy", "target")
    qmp.close()
    t.stop("proxy")
    t.stop("target")


with Test() as test:
    fails(test)
    stops_after(test)
    for point in "pivot-before=abort", "pivot-before=pause":
        dies(test, point)
