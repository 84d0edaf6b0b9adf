#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""query-mirror: every verdict in the situation that it is for, rates, the time
that is left, histograms, counters that do not fall, errors and their events,
and the lines of the log."""

import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

MB = 1 << 20
COUNTERS = ("copied-bytes", "zeroed-bytes", "teed-bytes", "tracked-bytes",
            "skipped-bytes", "target-waits", "target-errors", "source-errors",
            "target-flushes")
VERDICTS = ("none", "scanning", "converging", "diverging", "tracking",
            "synced", "paused", "offline", "stuck")


class Watch:
    """Looks at the mirror; what must always hold is checked each time."""

    def __init__(self, qmp):
        self.qmp = qmp
        self.last = None

    def look(self):
        m = self.qmp.command("query-mirror")
        assert m["convergence"] in VERDICTS, m["convergence"]
        job = m["job"]
        if job is not None:
            assert job["len"] - job["offset"] == m["dirty-bytes"] + \
                m["inflight-bytes"] + m["unscanned-bytes"], m
            assert m["suspect-bytes"] <= m["dirty-bytes"], m
        eta = m["eta-seconds"]
        assert eta is None or isinstance(eta, int) and eta >= 0, eta
        for name, h in m["latency"].items():
            assert h["buckets-us"] == [2 ** i for i in range(28)], name
            assert len(h["counts"]) == 28, name
        # They stay when a job has ended, until the next begins.
        if self.last is not None and \
           (job is None or self.last["job"] is not None):
            for name in COUNTERS:
                assert m[name] >= self.last[name], name
            if job is not None:
                assert job["offset"] >= self.last["job"]["offset"]
            for name, h in m["latency"].items():
                old = self.last["latency"][name]
                assert h["sum-us"] >= old["sum-us"], name
                assert all(a >= b for a, b in
                           zip(h["counts"], old["counts"])), name
        self.last = m
        return m

    def until(self, verdict, timeout=30):
        def there():
            return self.look()["convergence"] == verdict and self.last
        try:
            return wait_for(there, verdict, timeout)
        except TimeoutError:
            raise AssertionError("not %s: %s" % (verdict, self.last)) from None


def counts(m, name):
    return sum(m["latency"][name]["counts"])


def start(qmp, uri, mode="background", **more):
    qmp.command("blockdev-mirror", target=uri, sync="full", copy_mode=mode,
                **more)


def check_idle(t):
    with t.qmp() as qmp:
        m = Watch(qmp).look()
    assert m["convergence"] == "none" and m["eta-seconds"] is None
    assert m["job"] is None and m["bitmap"] is None
    assert m["dirty-bytes-per-second"] == m["copy-bytes-per-second"] == 0
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    for name, ask in (("flush", h.can_flush), ("fua", h.can_fua),
                      ("trim", h.can_trim), ("zero", h.can_zero),
                      ("fast-zero", h.can_fast_zero),
                      ("multi-conn", h.can_multi_conn)):
        assert m["source"][name] == ask(), name
    h.pwrite(b"x" * 4096, 0)
    h.pread(4096, 0)
    with t.qmp() as qmp:        # nothing is counted without a job
        m = Watch(qmp).look()
    assert not any(counts(m, name) for name in m["latency"]), m["latency"]
    h.shutdown()


def check_running(t):
    """A limited job: rates, the time left, then diverging and paused."""
    with t.qmp() as qmp:
        w = Watch(qmp)
        start(qmp, t.uri("target"), speed=4 * MB)
        m = w.until("converging")
        m = wait_for(lambda: w.look()["copy-bytes-per-second"] > 0 and w.last,
                     "no rate")
        # 4 MB a second, and what may be copied at once at the start.
        wait_for(lambda: 2 * MB < w.look()["copy-bytes-per-second"] < 9 * MB,
                 "the rate is not what is allowed: %s" % m)
        m = wait_for(lambda: w.look()["eta-seconds"] is not None and w.last,
                     "no time is told")
        left = m["job"]["len"] - m["job"]["offset"]
        assert left / (9 * MB) <= m["eta-seconds"] <= left / MB, m
        assert counts(m, "copy") > 0

        # Each write makes another granule dirty, faster than is copied.
        h = nbd.NBD()
        h.connect_uri(t.uri("proxy"))
        deadline = time.monotonic() + 30 * SLOW
        at = 0
        while w.look()["convergence"] != "diverging":
            assert time.monotonic() < deadline, w.last
            for _ in range(16):
                h.pwrite(b"y", at % (64 * MB))
                at += 65536
        assert w.last["dirty-bytes-per-second"] > 0, w.last
        assert w.last["eta-seconds"] is None, w.last
        m = w.look()
        assert counts(m, "write") * 65536 == at, (counts(m, "write"), at)
        assert counts(m, "tee") == counts(m, "read") == 0
        before = m
        for i in range(10):
            h.pread(4096, i * 65536)
        assert counts(w.look(), "read") == 10
        # The average forgets.
        wait_for(lambda: w.look()["dirty-bytes-per-second"] == 0,
                 "it does not forget")

        qmp.command("block-job-pause", device="mirror")
        m = w.until("paused")
        assert m["eta-seconds"] is None
        qmp.command("block-job-resume", device="mirror")
        qmp.command("block-job-set-speed", device="mirror", speed=0)
        m = w.until("tracking")
        t.wait_equal(qmp)
        m = w.look()
        assert m["eta-seconds"] == 0 and m["copied-bytes"] > \
            before["copied-bytes"]

        qmp.command("block-job-change", id="mirror", type="mirror",
                    copy_mode="write-blocking")
        m = w.until("synced")
        tees, writes = counts(m, "tee"), counts(m, "write")
        for i in range(7):
            h.pwrite(b"z" * 4096, i * 8192)
        h.zero(4096, MB)
        m = w.look()
        assert counts(m, "tee") == tees + 8, m["latency"]
        assert counts(m, "write") == writes + 8, m["latency"]
        h.shutdown()
        t.cancel(qmp)
        assert counts(w.look(), "tee") == tees + 8 and \
            w.last["convergence"] == "none"
        assert w.last["copied-bytes"] >= 64 * MB, w.last
        # The next one begins anew.
        start(qmp, t.uri("target"), target_is_zero=False, speed=MB)
        m = Watch(qmp).look()
        assert m["copied-bytes"] < 64 * MB and counts(m, "tee") == 0, m
        t.cancel(qmp)


def check_counters_under_load(t):
    load = t.load("load", "--depth=8", "--max-size=64K")
    load.more(1)
    with t.qmp() as qmp:
        w = Watch(qmp)
        start(qmp, t.uri("target"), "write-blocking")
        for mode in ("background", "write-blocking") * 3:
            w.look()
            load.more(max(100 // SLOW, 1))
            w.look()
            qmp.command("block-job-change", id="mirror", type="mirror",
                        copy_mode=mode)
        w.until("synced", 60)
        t.cancel(qmp)
    load.stop()


def offline_lines(t):
    with open(t.path("proxy.log"), encoding="utf-8") as f:
        return f.read().count("target offline")


def check_offline(t):
    t.nbdkit("dies", "memory", "64M")
    with t.qmp() as qmp:
        w = Watch(qmp)
        start(qmp, t.uri("dies"))
        w.until("tracking")
        t.kill("dies")
        m = w.until("offline")
        assert m["eta-seconds"] is None and m["target"]["state"] == "offline"
        # It is so before it is told; a job that has been cancelled tells nothing.
        wait_for(lambda: offline_lines(t), "no line in the log")
        t.cancel(qmp)
    assert offline_lines(t) == 1


FAILS = """
case $(( $(cat {0} 2>/dev/null || echo 0) )) in
  0) echo 1 >{0}; echo ENOMEM full >&2 ;;
  *) echo 0 >{0}; echo EIO bad >&2 ;;
esac
exit 1
"""


def check_stuck(t):
    """A target that refuses every write, in turn with two errors: events of
    each at most once a second, one line of the log."""
    t.nbdkit("bad", "eval", "get_size=echo 67108864",
             "pread=head -c $3 /dev/zero", "thread_model=echo "
             "serialize_all_requests", "can_write=exit 0",
             "pwrite=" + FAILS.format(t.path("turn")))
    with t.qmp() as qmp:
        w = Watch(qmp)
        start(qmp, t.uri("bad"), granularity=MB * 4)
        m = w.until("stuck", 60)
        assert m["eta-seconds"] is None, m
        e = m["last-error"]
        assert (e["side"], e["op"]) == ("target", "write"), e
        assert e["errno"] in (5, 12) and e["text"] == os.strerror(e["errno"])
        assert e["length"] > 0 and abs(e["time"] - time.time()) < 60 * SLOW, e
        assert m["target-errors"] >= 6
        events = [e for e in qmp.events if e["event"] == "BLOCK_JOB_ERROR"]
        for errno in (5, 12):
            stamps = [e["timestamp"]["seconds"] +
                      e["timestamp"]["microseconds"] / 1e6 for e in events
                      if e["data"]["errno"] == errno]
            assert len(stamps) >= 2, events
            for a, b in zip(stamps, stamps[1:]):
                assert b - a > 0.95, (errno, stamps)
        for event in events:
            data = event["data"]
            assert data["operation"] == "write" and data["length"] > 0 and \
                data["offset"] % (4 * MB) == 0, data
        assert len(events) < m["target-errors"], "nothing was held back"
        t.cancel(qmp)
        last = w.look()
        assert last["last-error"]["op"] == "write" and \
            last["last-error"]["time"] >= e["time"], last
        assert last["target-errors"] >= m["target-errors"], last
        # Until the next job begins.
        start(qmp, t.uri("target"))
        new = Watch(qmp).look()
        assert new["last-error"] is None and new["target-errors"] == 0, new
        t.cancel(qmp)
    with open(t.path("proxy.log"), encoding="utf-8") as f:
        lines = [line for line in f if "target failed at" in line]
    assert 1 <= len(lines) < m["target-errors"], lines
    t.stop("bad")


def ends_by(how, qmp, t):
    """End the job, so that it is gone."""
    if how == "cancelled":
        t.cancel(qmp)
        return
    if how == "completed":
        qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
        qmp.command("block-job-cancel", device="mirror")        # detach
    else:
        t.kill("other")
    qmp.wait(lambda q: q.job() is None, 60 * SLOW)


def check_facts(target, uri):
    """What is told of a target is what it tells."""
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    want = {"size": h.get_size(), "flush": h.can_flush(), "fua": h.can_fua(),
            "trim": h.can_trim(), "zero": h.can_zero(),
            "fast-zero": h.can_fast_zero(),
            "multi-conn": h.can_multi_conn(),
            "extents": h.can_meta_context("base:allocation"),
            "minimum-block-size": h.get_block_size(nbd.SIZE_MINIMUM) or 1}
    for name, which in (("preferred-block-size", nbd.SIZE_PREFERRED),
                        ("maximum-block-size", nbd.SIZE_MAXIMUM)):
        want[name] = h.get_block_size(which) or None
    h.shutdown()
    for name, value in want.items():
        assert target.get(name) == value, (name, value, target)
    assert target["connections"] >= 1, target


def check_disk(t):
    """After a pivot the disk that is told of is the clients', whatever other
    mirrors have come to."""
    t.nbdkit("first", "--filter=blocksize-policy", "memory", "4M",
             "blocksize-minimum=512", "blocksize-preferred=8192",
             "blocksize-maximum=16M")
    t.mirror("data", "1*65536", "size=4M")
    with t.qmp() as qmp:
        start(qmp, t.uri("first"), auto_dismiss=False)
        qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
        qmp.command("block-job-complete", device="mirror")
        qmp.wait(lambda q: q.job()["status"] == "concluded", 60 * SLOW)
        target = qmp.mirror()["target"]
        assert (target["state"], target["uri"]) == \
            ("pivoted", t.uri("first")), target
        check_facts(target, t.uri("first"))
        with open(t.path("proxy.log"), encoding="utf-8") as f:
            assert "there is no intent file: a restart will serve the source" \
                in f.read()
        qmp.command("job-dismiss", id="mirror")
        for how in ("cancelled", "completed", "failed"):
            t.nbdkit("other", "memory", "4M")
            start(qmp, t.uri("other"), on_target_error="report")
            target = qmp.mirror()["target"]
            assert (target["state"], target["uri"]) == \
                ("online", t.uri("other")), target
            check_facts(target, t.uri("other"))
            assert qmp.mirror()["disk"] == {
                "uri": t.uri("first"), "state": "online", "reason": None,
                "reconnects": 0}, qmp.mirror()["disk"]
            ends_by(how, qmp, t)
            m = qmp.mirror()
            assert m["last-job"]["end"] == how, m
            assert (m["target"]["state"], m["target"]["uri"]) == \
                ("pivoted", t.uri("first")), m
            check_facts(m["target"], t.uri("first"))
            if how != "failed":
                t.stop("other")
        # It is lost while it is mirrored: that does not look like the target.
        t.nbdkit("other", "memory", "4M")
        start(qmp, t.uri("other"))
        qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
        t.kill("first")
        qmp.wait_event("MIRROR_TARGET_STATE", 30 * SLOW, disk=True,
                       state="offline")
        m = qmp.mirror()
        assert m["disk"]["state"] == "offline" and m["disk"]["reason"], m
        assert m["target"]["uri"] == t.uri("other"), m
        status = subprocess.run(
            ["nbdmirror", "-S", t.path("ctl.sock"), "status"], check=True,
            stdout=subprocess.PIPE, encoding="utf-8").stdout
        assert "moved to %s, offline" % t.uri("first") in status, status
        with open(t.path("proxy.log"), encoding="utf-8") as f:
            assert "mirror: the clients' disk offline" in f.read()
        t.cancel(qmp)
        target = qmp.mirror()["target"]
        assert target["state"] == "offline", target
        assert target["uri"] == t.uri("first") and "size" not in target, target
        t.stop("other")
    t.stop("proxy")


with Test() as test:
    test.nbdkit("target", "memory", "64M")
    test.mirror("data", "1*67108864", "size=64M")
    check_idle(test)
    check_running(test)
    check_counters_under_load(test)
    check_offline(test)
    check_stuck(test)
    test.stop("proxy")
    check_disk(test)
