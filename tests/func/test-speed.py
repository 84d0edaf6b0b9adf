#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The speed limits background copying, before and after ready, and setting it
to 0 lifts the limit."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
SPEED = 8 * MIB
SIZE = 64 * MIB


def copied(qmp):
    return qmp.mirror()["copied-bytes"]


def measure(qmp, seconds):
    """Bytes per second that were copied in about that time."""
    begin, t = copied(qmp), time.monotonic()
    while time.monotonic() - t < seconds:
        time.sleep(0.02)
    return (copied(qmp) - begin) / (time.monotonic() - t)


def fill(uri, byte):
    h = nbd.NBD()
    h.connect_uri(uri)
    for offset in range(0, SIZE, MIB):
        h.pwrite(bytes([byte]) * MIB, offset)
    h.shutdown()


def assert_limited(qmp):
    # What was saved up while there was nothing to do may go out at once.
    measure(qmp, 0.3)
    rate = measure(qmp, 2)
    assert rate <= 3 * SPEED, "copied at %d with a limit of %d" % (
        rate, SPEED)
    if SLOW == 1:
        assert rate >= SPEED / 3, "copied at only %d of %d" % (rate, SPEED)


with Test() as t:
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("memory", str(SIZE))
    fill(t.uri("proxy"), 1)
    with t.qmp() as qmp:
        qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                    target=t.uri("target"), speed=SPEED)
        assert qmp.job()["speed"] == SPEED
        assert_limited(qmp)
        assert not qmp.job()["ready"]

        # Lifted: what is left would have taken seconds.
        begin = time.monotonic()
        qmp.command("block-job-set-speed", device="mirror", speed=0)
        qmp.wait(lambda q: q.job()["ready"], 30 * SLOW)
        assert time.monotonic() - begin < 2 * SLOW, "the limit stays"

        # After ready it limits as well.
        qmp.command("block-job-set-speed", device="mirror", speed=SPEED)
        fill(t.uri("proxy"), 2)
        assert_limited(qmp)
        qmp.command("block-job-set-speed", device="mirror", speed=0)
        t.wait_equal(qmp)
        assert t.compare("proxy", "target")
        t.cancel(qmp)

        # Teed writes are not limited: 64 MiB would take 64 seconds.
        qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                    target=t.uri("target"), speed=MIB,
                    copy_mode="write-blocking")
        begin = time.monotonic()
        fill(t.uri("proxy"), 3)
        took = time.monotonic() - begin
        assert took < 10 * SLOW, "teeing took %d s" % took
        qmp.command("block-job-set-speed", device="mirror", speed=0)
        t.wait_equal(qmp)
        assert t.compare("proxy", "target")
        t.cancel(qmp)

        # Pieces are whole granules, whatever may be in flight; also when that
        # is changed on the way.
        for size, other in (100000, 200 * 1024 + 1), ((1 << 18) - 1, 65537):
            fill(t.uri("proxy"), size % 256)
            before = copied(qmp)
            qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                        target=t.uri("target"), buf_size=size,
                        speed=4 * SPEED)
            qmp.wait(lambda q: copied(q) != before)
            qmp.command("mirror-set", buf_size=other)
            qmp.command("block-job-set-speed", device="mirror", speed=0)
            t.wait_equal(qmp)
            assert t.compare("proxy", "target")
            t.cancel(qmp)
