#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A pivot that cannot be done in time, or fails, is not felt: clients were
held for no longer than the limit, and the mirror goes on."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

SIZE = 1 << 20


def ready(t, qmp):
    qmp.command("blockdev-mirror", job_id="m", sync="full",
                target=t.uri("target"), copy_mode="write-blocking")
    qmp.wait(lambda q: q.job()["ready"], 30 * SLOW)


def failing_flush(t):
    """The target's flush fails: no switch; later it does not: a switch."""
    fail = t.path("fail")
    disk = t.path("disk")
    with open(disk, "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("target", "eval", "get_size=echo %d" % SIZE,
             "pread=dd if=%s skip=$4 count=$3 iflag=skip_bytes,count_bytes"
             % disk,
             "pwrite=dd of=%s seek=$4 conv=notrunc oflag=seek_bytes" % disk,
             "can_write=exit 0", "can_flush=exit 0",
             "flush=test ! -e %s || exit 1" % fail)
    t.mirror("memory", str(SIZE))
    load = t.load("load", "--depth=2", "--max-size=4K", "--seed=3",
                  "--weights=write=1,read=1")
    load.more(5)
    with t.qmp() as qmp:
        ready(t, qmp)
        with open(fail, "w", encoding="ascii"):
            pass
        qmp.command("job-complete", id="m")
        event = qmp.wait_event("MIRROR_SWITCH_FAILED", 30 * SLOW)
        assert event["data"]["operation"] == "pivot", event
        assert "flush" in event["data"]["error"], event
        load.more(5)
        os.unlink(fail)
        assert qmp.command("query-mirror")["pivoted"] is False
        qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        load.more(5)
    load.stop()
    assert t.compare("proxy", "target")
    t.stop("proxy")
    t.stop("target")


def slow_drain(t):
    """A request in flight takes longer than clients may be held."""
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("--filter=delay", "memory", str(SIZE),
             "rdelay=%d" % (2 * SLOW), "mirror-max-pause=200")
    with t.qmp() as qmp:
        ready(t, qmp)
        load = t.load("load", "--depth=1", "--weights=read=1", "--ops=0")
        load.more(1)
        qmp.command("job-complete", id="m")
        event = qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
        pause = event["data"]["pause-us"]
        assert 200000 <= pause < 3 * 200000 * SLOW, event
        assert qmp.job()["status"] == "ready"
        # Once there is no client it works.
        load.stop()
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 30 * SLOW)
    t.stop("proxy")
    t.stop("target")


def lost_target(t):
    """Before the switch: nothing is felt.  After it: requests fail."""
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("memory", str(SIZE))
    load = t.load("load", "--connections=2", "--max-size=4K", "--seed=9")
    load.more(50)
    with t.qmp() as qmp:
        ready(t, qmp)
        t.kill("target")
        qmp.wait(lambda q: q.command("query-mirror")["target"]["state"] ==
                 "offline", 20 * SLOW)
        why = qmp.refused("job-complete", id="m")
        assert "offline" in why, why
        load.more(50)
    load.stop()
    t.stop("proxy")


with Test() as t:
    failing_flush(t)
    slow_drain(t)
    lost_target(t)
