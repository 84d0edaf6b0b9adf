#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What query-mirror, the events and nbdmirror tell of a target that fails, is
lost, comes back, or is not there when nbdkit starts."""

import errno
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

FAST = ("-D", "mirror.backoff_ms=50")


def status(t):
    return subprocess.run(["nbdmirror", "-S", t.path("ctl.sock"), "status"],
                          check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout


def wait_state(q, *states):
    q.wait(lambda q: q.mirror()["target"]["state"] in states, 30 * SLOW)
    return q.mirror()


def comes_late(t):
    """By ignore, nbdkit starts without its target, and finds it later."""
    t.mirror(*FAST, "data", "1*16777216", "size=64M",
             "mirror-target=" + t.uri("target"),
             "mirror-copy-mode=write-blocking", "mirror-suspect-time=0")
    with t.qmp() as q:
        m = q.mirror()
        assert m["target"]["state"] == "connecting", m
        assert "size" not in m["target"] and m["convergence"] == "offline", m
        assert m["target"]["uri"] == t.uri("target"), m
        assert m["job"]["status"] == "running", m
        t.nbdkit("target", "memory", "64M")
        m = wait_state(q, "online")
        assert m["target"]["size"] == 64 << 20, m
        assert m["target"]["reconnects"] == 0, m
        q.wait_event("BLOCK_JOB_READY", 30 * SLOW)


def lost_and_found(t):
    """... and when it has been lost."""
    with t.qmp() as q:
        t.kill("target")
        q.wait_event("MIRROR_TARGET_STATE", 30 * SLOW, state="offline")
        m = wait_state(q, "offline", "connecting")
        # What is known of it stays.
        assert m["target"]["size"] == 64 << 20, m
        assert m["convergence"] == "offline", m
        assert "offline" in status(t)
        text = q.refused("block-job-complete", device="mirror")
        assert "cannot be completed now" in text, text
        t.nbdkit("target", "memory", "64M")
        q.wait_event("MIRROR_TARGET_STATE", 30 * SLOW, state="online")
        m = wait_state(q, "online")
        assert m["target"]["reconnects"] == 1, m
        assert ", reconnected: 1" in status(t), status(t)
        t.cancel(q)
        m = q.mirror()
        assert m["target"]["state"] == "none", m
        assert "size" not in m["target"], m
        assert m["last-job"]["end"] == "cancelled", m


def stopped_at_start(t):
    """By stop, nbdkit starts without its target, and waits to be told to look
    for it."""
    t.mirror(*FAST, "data", "1*16777216", "size=64M",
             "mirror-target=" + t.uri("target"),
             "mirror-on-target-error=stop",
             "mirror-copy-mode=write-blocking", "mirror-suspect-time=0")
    with open(t.path("proxy.log"), encoding="utf-8") as f:
        log = f.read()
    assert "the job is paused until it is resumed" in log and \
        "tried again" not in log, log
    with t.qmp() as q:
        q.wait(lambda q: q.job()["status"] == "paused", 30 * SLOW)
        m = q.mirror()
        assert m["target"]["state"] == "offline", m
        assert "No such file or directory" in m["target"]["reason"], m
        assert t.path("target.sock") not in m["target"]["reason"], m
        assert m["convergence"] == "offline", m
        assert m["job"]["io-status"] == q.job()["io-status"] == "failed", m
        e = m["last-error"]
        assert (e["side"], e["op"], e["errno"]) == ("target", "connect", 2), m
        assert "stopped by an error" in status(t), status(t)
        with open(t.path("proxy.log"), encoding="utf-8") as f:
            assert "mirror: target offline: " in f.read()

        # Told to look, and in vain: as by ignore.
        q.events.clear()
        q.command("block-job-resume", device="mirror")
        q.wait_event("MIRROR_TARGET_STATE", 30 * SLOW, state="connecting")
        m = q.mirror()
        assert m["target"]["state"] == "connecting" and \
            m["job"]["io-status"] == "ok", m
        t.nbdkit("target", "memory", "64M")
        q.wait_event("BLOCK_JOB_READY", 30 * SLOW)
        m = wait_state(q, "online")
        assert m["target"]["reason"] is None, m
        assert m["target"]["reconnects"] == 0, m
        t.cancel(q)
    t.stop("proxy")
    t.stop("target")


ERRORS = {"bad": "EIO", "full": "ENOSPC"}


def serve(t, name):
    """Anew for each job: nbdkit 1.32 aborts when a client hangs up that has
    requests in flight."""
    if name in t.servers:
        t.kill(name)
        os.unlink(t.path(name + ".pid"))
        os.unlink(t.path(name + ".sock"))
    t.nbdkit(name, "--filter=error", "memory", "64M",
             *("error-%s" % x for r in ("pwrite", "zero", "trim")
               for x in ("%s=%s" % (r, ERRORS[name]), r + "-rate=100%")))


def start(t, q, name, policy, **more):
    if name in ERRORS:
        serve(t, name)
    q.command("blockdev-mirror", target=t.uri(name), sync="full",
              on_target_error=policy, target_is_zero=False, **more)


def error_event(q, action, error, earlier=None):
    """earlier: what copies that were still in flight may tell before."""
    while True:
        data = q.wait_event("BLOCK_JOB_ERROR", 30 * SLOW)["data"]
        if data["action"] != earlier:
            break
    assert (data["action"], data["errno"], data["operation"]) == \
        (action, error, "write"), data


def events_until(q, name, **data):
    """All that come, up to that one."""
    seen = []
    while True:
        while q.events:
            seen.append(q.events.pop(0))
            if seen[-1]["event"] == name and \
                    data.items() <= seen[-1]["data"].items():
                return seen
        q.events.append(q.receive())


LOST = (errno.ENOTCONN, errno.ECONNRESET)


def told_once(q, seen, action):
    """The loss of the target is one error, and what follows comes after it."""
    names = [e["event"] for e in seen]
    assert names.count("BLOCK_JOB_ERROR") == 1, seen
    data = seen[names.index("BLOCK_JOB_ERROR")]["data"]
    assert (data["operation"], data["action"]) == ("write", action), data
    assert data["errno"] in LOST, data
    changes = [i for i, e in enumerate(seen)
               if e["event"] == "JOB_STATUS_CHANGE"]
    assert names.index("BLOCK_JOB_ERROR") < changes[0], seen
    e = q.mirror()["last-error"]
    assert e["side"] == "target" and e["errno"] in LOST, e


def loses(t):
    """A connection that is lost is told as an error, be anything under way or
    not, if something follows from it."""
    for policy, action in (("report", "report"), ("enospc", "report"),
                           ("stop", "stop"), ("ignore", None)):
        for busy in (False, True):
            if "target" not in t.servers:
                t.nbdkit("target", "memory", "64M")
            with t.qmp(timeout=60 * SLOW) as q:
                start(t, q, "target", policy, copy_mode="write-blocking")
                q.wait_event("BLOCK_JOB_READY", 60 * SLOW)
                q.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
                load = t.load("load", "--depth=8") if busy else None
                if busy:
                    load.more(100)
                q.events.clear()
                t.kill("target")
                if action == "report":
                    seen = events_until(q, "BLOCK_JOB_COMPLETED")
                    told_once(q, seen, action)
                elif action == "stop":
                    seen = events_until(q, "JOB_STATUS_CHANGE",
                                        status="standby")
                    told_once(q, seen, action)
                    t.cancel(q)
                else:
                    seen = events_until(q, "MIRROR_TARGET_STATE",
                                        state="offline")
                    if not busy:
                        assert "BLOCK_JOB_ERROR" not in [
                            e["event"] for e in seen], seen
                        assert q.mirror()["last-error"] is None, q.mirror()
                    t.cancel(q)
                if busy:
                    load.stop()


def cancelled(t):
    """A job that is cancelled tells no error."""
    t.nbdkit("target", "memory", "64M")
    with t.qmp(timeout=60 * SLOW) as q:
        start(t, q, "target", "report", copy_mode="write-blocking")
        q.wait_event("BLOCK_JOB_READY", 60 * SLOW)
        q.events.clear()
        q.command("job-cancel", id="mirror")
        seen = events_until(q, "BLOCK_JOB_CANCELLED")
        assert "BLOCK_JOB_ERROR" not in [e["event"] for e in seen], seen
        assert q.mirror()["last-error"] is None, q.mirror()


def reports(t):
    """The job fails: by an error, or by a loss."""
    for name, policy, error, text in (
            ("bad", "report", 5, "Input/output error"),
            ("bad", "enospc", 5, "Input/output error"),
            ("full", "report", 28, "No space left on device")):
        with t.qmp() as q:
            start(t, q, name, policy)
            error_event(q, "report", error)
            event = q.wait_event("BLOCK_JOB_COMPLETED", 30 * SLOW)
            assert event["data"]["error"] == text, event
            q.wait(lambda q: q.job() is None, 30 * SLOW)
            m = q.mirror()
            assert m["job"] is None and m["target"]["state"] == "none", m
            last = m["last-job"]
            assert (last["end"], last["error"]) == ("failed", text), last
            e = m["last-error"]
            assert (e["side"], e["errno"]) == ("target", error), m
            assert m["target-errors"] > 0, m
            assert "failed: " + text in status(t), status(t)
    with t.qmp() as q:
        start(t, q, "target", "report")
        t.kill("target")
        event = q.wait_event("BLOCK_JOB_COMPLETED", 30 * SLOW)
        assert event["data"]["error"], event
        q.wait(lambda q: q.job() is None, 30 * SLOW)
        assert q.mirror()["last-job"]["end"] == "failed", q.mirror()


def stops(t):
    """The job is paused, and goes on to fail again when it is resumed."""
    for name, policy, error, io_status, text in (
            ("bad", "stop", 5, "failed", "stopped by an error"),
            ("full", "stop", 28, "nospace", "stopped by a full disk"),
            ("full", "enospc", 28, "nospace", "stopped by a full disk")):
        with t.qmp() as q:
            start(t, q, name, policy)
            for _ in range(2):
                error_event(q, "stop", error)
                q.wait(lambda q: q.job()["status"] == "paused", 30 * SLOW)
                assert q.job()["io-status"] == io_status, q.job()
                m = q.mirror()
                assert m["job"]["io-status"] == io_status, m
                assert m["job"]["on-target-error"] == policy, m
                assert not m["job"]["teeing"], m
                assert text in status(t), status(t)
                q.command("block-job-resume", device="mirror")
            # From now on it goes on by itself.
            q.wait(lambda q: q.job()["status"] == "paused", 30 * SLOW)
            q.command("mirror-set", on_target_error="ignore")
            q.command("block-job-resume", device="mirror")
            assert q.job()["io-status"] == "ok", q.job()
            error_event(q, "ignore", error, earlier="stop")
            t.cancel(q)


with Test() as test:
    stopped_at_start(test)
    comes_late(test)
    lost_and_found(test)
    reports(test)
    stops(test)
    loses(test)
    cancelled(test)
