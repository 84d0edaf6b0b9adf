#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes that are in flight while a mirror is started are not lost.

The source delays its writes, so that many are under way, untracked, when
the mirror begins to look at the source (QEMU lost them for three years)."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402

STARTS = 200 if STRESS else max(4, 20 // SLOW)
SIZE = 4 << 20

with Test() as t:
    t.nbdkit("target", "memory", str(SIZE + 512))
    t.mirror("--filter=delay", "memory", str(SIZE), "wdelay=30ms")
    with t.qmp() as qmp:
        for i in range(STARTS):
            mode = ("background", "write-blocking")[i % 2]
            # 64 in flight, as the server takes 16 of each connection.
            load = t.load("load", "--connections=4", "--depth=16",
                          "--weights=write=1", "--max-size=16K",
                          "--seed=%d" % (i + 1))
            load.more(64 + i % 7)
            qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                        target=t.uri("target"), copy_mode=mode)
            # In half of the cases clients go on for a while.
            if i % 4 >= 2:
                load.more(64)
            load.stop()
            t.wait_equal(qmp)
            assert t.compare("proxy", "target", "--larger-second"), \
                "start %d, %s: not identical" % (i, mode)
            t.cancel(qmp)
