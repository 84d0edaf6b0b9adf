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
from failpoints import (failpoint, need_failpoints,  # noqa: E402
                        stopped, wait_dead)
from mirrortest import MIRRORCMP, SLOW, Test, wait_for  # noqa: E402

SIZE = (2 << 20) + 100

need_failpoints()


def start(t, point, *options):
    with open(t.path("disk"), "wb") as f:
        f.write(os.urandom(SIZE))
    t.nbdkit("target", "memory", str(SIZE))
    with failpoint(point):
        process = t.mirror("file", t.path("disk"))
    load = t.load("load", "--seed=8", "--max-size=16K", *options)
    load.more(30)
    qmp = t.qmp(timeout=60 * SLOW)
    qmp.command("blockdev-mirror", job_id="m", sync="full",
                target=t.uri("target"), copy_mode="write-blocking")
    qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
    qmp.command("job-complete", id="m")
    return process, load, qmp


def fails(t):
    """Like any other failure: nothing is switched, and then it works.  No
    request fails."""
    # In the end it reads what it has written from the target itself.
    _, load, qmp = start(t, "pivot-before=EIO", "--final=" + t.uri("target"))
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


def dies(t, point, action):
    """Before the switch, or after it when no client has been let go: both
    sides are the same."""
    process, load, qmp = start(t, "%s=%s" % (point, action), "--allow-errors")
    wait_dead(process, action)
    load.lost()
    t.kill("proxy")
    r = subprocess.run([MIRRORCMP, t.path("disk"), t.uri("target")],
                       check=False)
    assert r.returncode == 0, "the sides differ"
    qmp.close()
    t.stop("target")


def stops_after(t):
    """Clients are on the target, and were only held for a while: the source
    stays as it is."""
    process, load, qmp = start(t, "pivot-after=pause",
                               "--final=" + t.uri("target"))
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
    for a in "abort", "pause":
        dies(test, "pivot-before", a)
