#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""sync=none: the target is identical already, and only what is written from
the start on is mirrored.  Clients are held until what is in flight has
ended, and no longer than the limit."""

import os
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402
from qmp import QMPError  # noqa: E402

import nbd  # noqa: E402

SIZE = 4 << 20


def start(qmp, t, mode):
    return qmp.command("blockdev-mirror", job_id="mirror", sync="none",
                       target=t.uri("target"), copy_mode=mode)


def identical_at_once_and_later(t):
    """Nothing is copied at the start; what is written later is."""
    with t.qmp() as qmp:
        for mode in ("background", "write-blocking", "auto"):
            start(qmp, t, mode)
            qmp.wait(lambda q: q.job()["ready"], 20 * SLOW)
            q = qmp.command("query-mirror")
            assert q["job"]["sync"] == "none", q
            assert q["copied-bytes"] == 0 and q["zeroed-bytes"] == 0, q
            load = t.load("load", "--connections=4", "--depth=8",
                          "--max-size=64K", "--seed=5")
            load.more(300)
            load.stop()
            t.wait_equal(qmp)
            assert t.compare("proxy", "target"), mode + ": not identical"
            q = qmp.command("query-mirror")
            assert q["copied-bytes"] + q["teed-bytes"] > 0, q
            t.cancel(qmp)


def differences_stay(t):
    """What it is told to take for identical it does not look at."""
    h = nbd.NBD()
    h.connect_uri(t.uri("target"))
    h.pwrite(b"other", 12345)
    h.shutdown()
    with t.qmp() as qmp:
        start(qmp, t, "write-blocking")
        qmp.wait(lambda q: q.job()["ready"], 20 * SLOW)
        t.cancel(qmp)
    assert not t.compare("proxy", "target"), "it has copied"


def a_slow_request_in_flight(t):
    """One that does not end in time: no job, and the client sees nothing."""
    done = []

    def write():
        h = nbd.NBD()
        h.connect_uri(t.uri("proxy"))
        h.pwrite(b"slow", 0)
        done.append(True)
        h.shutdown()

    writer = threading.Thread(target=write)
    with t.qmp() as qmp:
        writer.start()
        wait_for(lambda: qmp.command("query-mirror")["clients"] == 1,
                 "no client", 20)
        # It is in flight when it has been logged.
        log = t.path("requests")
        wait_for(lambda: os.path.exists(log) and
                 " Write " in open(log, encoding="ascii").read(),
                 "no request", 20)
        begin = time.monotonic()
        try:
            start(qmp, t, "background")
            raise AssertionError("it has started")
        except QMPError as e:
            assert "2000 ms" in e.desc, e.desc
        took = time.monotonic() - begin
        assert took < 3 * 2 * SLOW, "clients were held for %f s" % took
        assert qmp.command("query-mirror")["job"] is None
        writer.join()
        assert done, "the write has failed"


with Test() as t:
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("memory", str(SIZE))
    identical_at_once_and_later(t)
    differences_stay(t)
    t.stop("proxy")
    t.mirror("--filter=log", "--filter=delay", "memory", str(SIZE),
             "logfile=" + t.path("requests"), "wdelay=%d" % (8 * SLOW))
    a_slow_request_in_flight(t)
