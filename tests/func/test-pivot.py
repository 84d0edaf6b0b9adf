#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Pivots there and back, A -> B -> A, on one proxy under load: no request
fails, every read is right (the oracle checks), and once clients have been
moved nothing reaches the old side any more."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402

import nbd  # noqa: E402

PIVOTS = 1000 if STRESS else max(4, 12 // SLOW)
SIZE = (2 << 20) + 512


def log_size(t, name):
    return os.path.getsize(t.path(name + "-requests"))


def requests_since(t, name, offset):
    with open(t.path(name + "-requests"), encoding="ascii") as f:
        f.seek(offset)
        return [x for x in f if any(" %s " % kind in x for kind in
                                    ("Read", "Write", "Zero", "Trim",
                                     "Flush"))]


def start(t, name):
    t.nbdkit(name, "--filter=log", "memory", str(SIZE),
             "logfile=" + t.path(name + "-requests"))


with Test() as t:
    start(t, "a")
    start(t, "b")
    t.mirror("nbd", "socket=" + t.path("a.sock"))
    load = t.load("load", "--connections=4", "--depth=4", "--max-size=64K",
                  "--seed=7")
    load.more(100)
    pauses = []
    with t.qmp(timeout=60 * SLOW) as qmp:
        for i in range(PIVOTS):
            old, new = ("a", "b") if i % 2 == 0 else ("b", "a")
            mode = ("write-blocking", "background", "auto")[i % 3]
            qmp.command("blockdev-mirror", job_id="m", sync="full",
                        target=t.uri(new), copy_mode=mode)
            if mode == "background":    # under load it is not ready for long
                qmp.command("block-job-change", id="m", type="mirror",
                            copy_mode="write-blocking")
            qmp.wait_event("BLOCK_JOB_READY", 60 * SLOW)
            qmp.command("job-complete", id="m")
            event = qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
            before = log_size(t, old)
            pauses.append(event["data"]["pause-us"])
            load.more(100)
            qmp.wait(lambda q: q.command("query-jobs") == [], 20 * SLOW)
            late = requests_since(t, old, before)
            assert not late, "pivot %d: the old side gets %s" % (i, late[:3])
            q = qmp.command("query-mirror")
            assert q["pivoted"] is True, q
            assert q["target"]["state"] == "pivoted", q
            qmp.events.clear()
    # New clients do not need the source.
    last = "a" if PIVOTS % 2 == 0 else "b"
    gone = "b" if last == "a" else "a"
    t.kill(gone)
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    assert h.get_size() == SIZE
    h.pread(SIZE - 1, 1)
    h.shutdown()
    load.more(50)
    load.stop()
    assert t.compare("proxy", last), "clients do not see the target"
    pauses.sort()
    print("%d pivots; pause in us: p50 %d, p99 %d, max %d" % (
        PIVOTS, pauses[len(pauses) // 2], pauses[len(pauses) * 99 // 100],
        pauses[-1]))
