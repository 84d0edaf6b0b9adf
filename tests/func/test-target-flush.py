#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""mirror-target-flush: with propagate a client's flush and FUA reach the
target, with defer they do not, on a target with and one without FUA."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402


def requests(t):
    """Flushes, and writes with FUA, that the target has logged."""
    with open(t.path("target-requests"), encoding="ascii") as f:
        lines = f.readlines()
    return (sum(" Flush " in x for x in lines),
            sum(" Write " in x and "fua=1" in x for x in lines))


with Test() as t:
    for fua in (True, False):
        args = [] if fua else ["--filter=fua"]
        for when in ("propagate", "defer"):
            log = t.path("target-requests")
            if os.path.exists(log):
                os.unlink(log)
            t.nbdkit("target", "--filter=log", *args, "memory", "1M",
                     "logfile=" + log)
            t.mirror("memory", "1M", "mirror-target-flush=" + when,
                     "mirror-target=" + t.uri("target"),
                     "mirror-copy-mode=write-blocking")
            with t.qmp() as qmp:
                qmp.wait(lambda q: q.job()["actively-synced"], 20 * SLOW)
                before = requests(t)
                h = nbd.NBD()
                h.connect_uri(t.uri("proxy"))
                for i in range(10):
                    h.pwrite(b"x" * 4096, 8192 * i, flags=nbd.CMD_FLAG_FUA)
                    h.pwrite(b"y" * 4096, 8192 * i + 4096)
                    h.flush()
                h.shutdown()
                t.wait_equal(qmp)
                after = requests(t)
                assert qmp.job()["actively-synced"], "not synced"
            seen = tuple(b - a for a, b in zip(before, after))
            want = (0, 0) if when == "defer" else \
                (10, 10) if fua else (20, 0)
            assert seen == want, "%s, fua %s: flushes and FUA writes %s, " \
                "not %s" % (when, fua, seen, want)
            assert t.compare("proxy", "target"), "not identical"
            t.stop("proxy")
            t.stop("target")
