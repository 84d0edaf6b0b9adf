#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""In write-blocking mode a write that touches dirty granules only, none of them
wholly, goes to the source alone, since the copier will carry it.  All others go
to both sides.  In the end both are equal."""

import os
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 8 << 20
GRANULE = 64 << 10
LAST = SIZE - GRANULE           # far from where the copier is


def target_writes(t):
    """Not those at the beginning, where a copy may still be under way."""
    with open(t.path("target-requests"), encoding="ascii") as f:
        found = re.findall(r" (?:Write|Zero) id=\d+ offset=(0x[0-9a-f]+) ",
                           f.read())
    return sum(int(offset, 16) >= SIZE // 2 for offset in found)


class Step:
    """What of a request has been teed, and what left to the copier."""

    def __init__(self, t, qmp, what, teed, left):
        self.t, self.qmp, self.what = t, qmp, what
        self.want = (teed, left, int(teed > 0), int(teed > 0))

    def look(self):
        q = self.qmp.command("query-mirror")
        return (q["teed-bytes"], q["tracked-bytes"], q["target-waits"],
                target_writes(self.t))

    def __enter__(self):
        self.before = self.look()

    def __exit__(self, kind, value, traceback):
        if kind is None:
            got = tuple(b - a for a, b in zip(self.before, self.look()))
            assert got == self.want, "%s: teed, left, waits and requests to " \
                "the target %s, not %s" % (self.what, got, self.want)


with Test() as t:
    t.nbdkit("target", "--filter=log", "memory", "%d" % SIZE,
             "logfile=" + t.path("target-requests"))
    t.mirror("memory", "%d" % SIZE)
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    for offset in range(0, SIZE, 1 << 20):
        h.pwrite(os.urandom(1 << 20), offset)
    with t.qmp() as qmp:
        qmp.command("blockdev-mirror", job_id="mirror", sync="full", speed=1,
                    target=t.uri("target"), copy_mode="write-blocking")
        # What is copied at once, in spite of the limit, is at the beginning.
        qmp.wait(lambda q: q.command("query-mirror")["unscanned-bytes"] == 0,
                 20 * SLOW)
        qmp.command("job-pause", id="mirror")
        qmp.wait(lambda q: q.job()["status"] == "paused", 20 * SLOW)

        with Step(t, qmp, "part of a dirty granule", 0, 4096):
            h.pwrite(b"a" * 4096, LAST + 4096)
        with Step(t, qmp, "the same with FUA", 0, 512):
            h.pwrite(b"b" * 512, LAST + 8192, nbd.CMD_FLAG_FUA)
        with Step(t, qmp, "parts of two dirty granules", 0, 8192):
            h.pwrite(b"c" * 8192, LAST - 4096)
        with Step(t, qmp, "part of a dirty granule is made zero", 0, 1024):
            h.zero(1024, LAST + 16384)
        with Step(t, qmp, "all of a dirty granule", GRANULE, 0):
            h.pwrite(b"d" * GRANULE, LAST - GRANULE)
        with Step(t, qmp, "part of one that is clean now", 4096, 0):
            h.pwrite(b"e" * 4096, LAST - GRANULE + 4096)
        with Step(t, qmp, "a clean one and a dirty one in part", 4096, 0):
            h.pwrite(b"f" * 4096, LAST - 2048)
        with Step(t, qmp, "a dirty one wholly, and one in part",
                  GRANULE + 4096, 0):
            h.pwrite(b"g" * (GRANULE + 4096), LAST - 4 * GRANULE)

        h.shutdown()
        qmp.command("mirror-set", speed=0)
        qmp.command("job-resume", id="mirror")
        qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        with Step(t, qmp, "when all is equal", 4096, 0):
            h = nbd.NBD()
            h.connect_uri(t.uri("proxy"))
            h.pwrite(b"h" * 4096, LAST)
            h.shutdown()
        t.wait_equal(qmp)
        assert t.compare("proxy", "target"), "not identical"
