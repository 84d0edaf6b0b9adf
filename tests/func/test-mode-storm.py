#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Ten changes of the copy mode a second under load, with pauses and speeds in
between: no request fails, every read is right, and in the end both sides are
the same.  With a fast target, a slow one, and writes that overlap."""

import os
import random
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test, wait_for  # noqa: E402

SIZE = (8 << 20) + 512
SECONDS = 60 if STRESS else 3
PER_SECOND = 10
MODES = ("background", "write-blocking", "auto")


def change(qmp, rng, now):
    """One change of the mode, and maybe something else."""
    mode = rng.choice([m for m in MODES if m != now["mode"]])
    qmp.command("block-job-change", id="m", type="mirror", copy_mode=mode)
    now["mode"] = mode
    job = qmp.mirror()["job"]
    assert job["copy-mode"] == mode, job
    if mode == "background":
        assert not job["teeing"], job
    if rng.random() < 0.3:
        qmp.command("job-resume" if now["paused"] else "job-pause", id="m")
        now["paused"] = not now["paused"]
    if rng.random() < 0.3:
        qmp.command("block-job-set-speed", device="m",
                    speed=rng.choice((0, 1, 65536, 8 << 20, 1 << 40)))
    if rng.random() < 0.1:
        qmp.command("mirror-set", buf_size=rng.choice((65536, 100000, 1 << 20)),
                    copy_mode=mode)


def storm(t, name, load_args, filters=(), keys=()):
    t.nbdkit("target", *filters, "memory", str(SIZE), *keys)
    t.mirror("memory", str(SIZE))
    load = t.load("load", "--connections=3", "--depth=4", "--max-size=48K",
                  *load_args)
    load.more(20)
    rng = random.Random(name)
    now = {"mode": "background", "paused": False}
    with t.qmp(timeout=60 * SLOW) as qmp:
        qmp.command("blockdev-mirror", job_id="m", sync="full",
                    target=t.uri("target"), granularity=16384)
        begin = time.monotonic()
        for i in range(SECONDS * PER_SECOND):
            change(qmp, rng, now)
            qmp.events.clear()
            assert load.process.poll() is None, "the load has ended"
            due = begin + (i + 1) / PER_SECOND
            wait_for(lambda: time.monotonic() >= due, "the time")
        took = time.monotonic() - begin
        load.more(20)
        if now["paused"]:
            qmp.command("job-resume", id="m")
        qmp.command("mirror-set", speed=0, copy_mode="write-blocking",
                    buf_size=16 << 20)
        load.more(20)
        load.stop()
        t.wait_equal(qmp)
        qmp.wait(lambda q: q.job()["ready"] and q.job()["actively-synced"],
                 60 * SLOW)
        assert t.compare("proxy", "target"), name + ": not identical"
        m = qmp.mirror()
        assert m["teed-bytes"] > 0 and m["tracked-bytes"] > 0, m
        assert m["target-errors"] == 0 and m["source-errors"] == 0, m
    print("%s: %d changes in %.1f s, %d requests" % (
        name, i + 1, took, load.count()))
    t.stop("proxy")
    t.stop("target")


with Test() as t:
    storm(t, "fast", ("--seed=11",))
    storm(t, "slow target", ("--seed=12",),
          ("--filter=delay",), ("wdelay=20ms", "delay-zero=10ms"))
    storm(t, "overlap", ("--overlap", "--seed=13", "--length=256K"))
