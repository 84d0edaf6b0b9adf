#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""copy-mode=auto: no client waits for the target during the first pass; then
it tees, under load too, and becomes synced."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

SIZE = 16 << 20

with Test() as t:
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("memory", str(SIZE))
    load = t.load("fill", "--connections=1", "--depth=4", "--max-size=256K",
                  "--weights=write=1", "--seed=1")
    load.more(100)
    load.stop()
    with t.qmp() as qmp:
        qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                    target=t.uri("target"), copy_mode="auto",
                    speed=1 << 20, buf_size=1 << 20)
        load = t.load("load", "--connections=4", "--depth=4",
                      "--max-size=16K", "--seed=2")
        load.more(200)
        q = qmp.command("query-mirror")
        assert q["job"]["copy-mode"] == "auto", q
        assert q["job"]["teeing"] is False, q
        assert q["target-waits"] == 0, q
        assert q["job"]["len"] > q["job"]["offset"], "the pass is over already"

        # The load never stops dirtying; it must become write-blocking.
        qmp.command("block-job-set-speed", device="mirror", speed=0)
        qmp.wait(lambda q: q.command("query-mirror")["job"]["teeing"],
                 60 * SLOW)
        load.more(200)
        assert qmp.command("query-mirror")["target-waits"] > 0
        load.stop()
        qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        t.wait_equal(qmp)
        assert t.compare("proxy", "target"), "not identical"
