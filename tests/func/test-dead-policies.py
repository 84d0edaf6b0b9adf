#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is done about a source that cannot be read and a target that is lost,
by each policy and after a live change of it.  Clients always go on."""

import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from dead import WAIT, Scene  # noqa: E402
from mirrortest import SLOW, Test  # noqa: E402

SIZE = 4 << 20


def start(s, **keys):
    s.qmp.events.clear()
    s.qmp.command("blockdev-mirror", target=s.t.uri("target"), sync="full",
                  **keys)


EIO = ("Input/output error",)
LOST = ("Transport endpoint is not connected", "Connection reset by peer")
RESUMED = 20 * SLOW             # less than the longest back-off


def failed(s, texts):
    """The job has, by such an error, and is gone."""
    event = s.qmp.wait_event("BLOCK_JOB_COMPLETED", WAIT)
    text = event["data"]["error"]
    assert text in texts, event
    s.qmp.wait(lambda q: q.job() is None, WAIT)
    last = s.qmp.mirror()["last-job"]
    assert last["end"] == "failed" and last["error"] == text, last


def stopped(s, io_status):
    s.qmp.wait(lambda q: q.job()["status"] in ("paused", "standby"), WAIT)
    job = s.qmp.job()
    assert job["io-status"] == io_status and job["paused"], job
    assert not s.qmp.mirror()["job"]["teeing"]


def resume(s):
    s.qmp.command("block-job-resume", device="mirror")
    job = s.qmp.job()
    assert job["io-status"] == "ok" and not job["paused"], job


def source(s, bad):
    """Reads fail: only the mirror reads, as far as clients only write."""
    load = s.load("--weights=write=10,zero=1,flush=1")

    def break_it():
        with open(bad, "wb"):
            pass

    for policy in "report", "enospc":
        break_it()
        start(s, on_source_error=policy)
        event = s.qmp.wait_event("BLOCK_JOB_ERROR", WAIT, action="report")
        assert event["data"]["operation"] == "read", event
        failed(s, EIO)
        load.more(100)
    break_it()
    start(s, on_source_error="stop")
    s.qmp.wait_event("BLOCK_JOB_ERROR", WAIT, action="stop")
    stopped(s, "failed")
    load.more(100)
    os.unlink(bad)
    resume(s)
    s.quiet(load)
    s.t.wait_equal(s.qmp, RESUMED)
    s.equal()
    s.synced()
    s.t.cancel(s.qmp)


def target(s):
    """It is lost."""
    t = s.t
    load = s.load()
    for policy, change in (("report", None), ("enospc", None),
                           ("ignore", "report")):
        start(s, on_target_error=policy)
        s.qmp.wait(lambda q: q.mirror()["copied-bytes"] > 0, WAIT)
        if change:
            s.qmp.command("mirror-set", on_target_error=change)
        load.more(100)
        t.kill("target")
        failed(s, LOST)
        load.more(100)
        s.qemu_target()
    for policy, change in ("stop", None), ("report", "stop"):
        start(s, on_target_error=policy)
        s.qmp.wait(lambda q: q.mirror()["copied-bytes"] > 0, WAIT)
        if change:
            s.qmp.command("mirror-set", on_target_error=change)
        load.more(100)
        t.kill("target")
        stopped(s, "failed")
        s.qemu_target()
        load.more(1000)
        # It waits for somebody to look after the disk.
        stopped(s, "failed")
        assert s.state() == "offline", s.state()
        resume(s)
        s.online()
        load.more(100)
        if change:
            s.quiet(load)
            s.equal()
        t.cancel(s.qmp)


# A job that fails leaves at once, which nbdkit 1.32 does not survive.
if not shutil.which("qemu-nbd"):
    print("there is no qemu-nbd")
    sys.exit(77)
for mode in ("write-blocking", "background"):
    with Test() as t, Scene(t, mode, SIZE) as s:
        bad = t.path("bad")
        s.qemu_target()
        del s.keys["mirror-target"]
        s.mirror("--filter=error", "error-pread=EIO", "error-pread-rate=100%",
                 "error-file=" + bad)
        source(s, bad)
        target(s)
        s.end()
