#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The barrier and the fence: while clients are held nothing moves and both
sides are the same; behind a fence no client writes."""

import errno
import os
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import MIRRORCMP, SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = (4 << 20) + 1000


def same(t):
    r = subprocess.run([MIRRORCMP, t.path("disk"), t.uri("target")],
                       check=False)
    return r.returncode == 0


def read(t):
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    h.pread(1, 0)
    h.shutdown()


def write_error(t):
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    try:
        h.pwrite(b"x", 0)
        return 0
    except nbd.Error as e:
        return e.errnum
    finally:
        h.pread(512, 0)         # reading goes on
        h.shutdown()


def hold(t, qmp):
    """Under load, several times; the load goes on afterwards."""
    assert "no job" in qmp.refused("mirror-hold")
    assert qmp.refused("mirror-release")
    qmp.command("blockdev-mirror", job_id="m", sync="full",
                target=t.uri("target"), copy_mode="write-blocking")
    qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
    load = t.load("load", "--connections=4", "--depth=4", "--max-size=32K",
                  "--seed=4")
    for i in range(5):
        load.more(50)
        r = qmp.command("mirror-hold", timeout=100)
        assert r["drain-us"] >= 0 and 0 < r["expires-us"] <= 100000000, r
        assert qmp.command("query-mirror")["held"] is True
        assert same(t), "hold %d: the sides differ" % i
        reader = threading.Thread(target=read, args=(t,))
        reader.start()
        qmp.wait(lambda q: q.command("query-mirror")["clients"] == 5,
                 20 * SLOW)
        assert "held" in qmp.refused("mirror-hold", timeout=1)
        assert "held" in qmp.refused("job-complete", id="m")
        assert same(t)
        assert reader.is_alive(), "a request was not held"
        r = qmp.command("mirror-release")
        reader.join()
        assert r["held-us"] > 0, r
    assert qmp.refused("mirror-release")
    # One that is forgotten ends by itself.
    qmp.command("mirror-hold", timeout=1)
    event = qmp.wait_event("MIRROR_RELEASED", 30 * SLOW, reason="expired")
    assert event["data"]["held-us"] >= 900000, event
    load.more(50)
    assert "expired" in qmp.refused("mirror-release")
    load.stop()


def fence(t, qmp):
    assert "held" in qmp.refused("mirror-fence")
    qmp.command("mirror-hold", timeout=100)
    qmp.command("mirror-fence")
    assert qmp.command("query-mirror")["fenced"] is True
    qmp.command("mirror-release")
    assert write_error(t) == errno.EPERM
    qmp.command("mirror-fence", enable=False)
    assert write_error(t) == 0
    qmp.command("mirror-fence", force=True)
    assert write_error(t) == errno.EPERM
    # It is the server's, not the job's.
    t.wait_equal(qmp)
    qmp.command("block-job-cancel", device="m", force=True)
    qmp.wait(lambda q: q.job() is None, 20 * SLOW)
    assert write_error(t) == errno.EPERM
    qmp.command("mirror-fence", enable=False)
    assert write_error(t) == 0


with Test() as t:
    with open(t.path("disk"), "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("file", t.path("disk"))
    with t.qmp(timeout=60 * SLOW) as qmp:
        hold(t, qmp)
        fence(t, qmp)
