#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What can be done to a job on the control socket: texts, and the order of
answers and events, which are QEMU's; barrier and fence."""

import errno
import os
import sys
import time

import nbd

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

SIZE = 16 << 20
NOT_NOW = "Job 'm' in state '%s' cannot accept command verb '%s'"
NO_JOB = "Job not found"
NO_BLOCK_JOB = "Block job 'm' not found"
VERBS = ("pause", "resume", "complete", "finalize", "dismiss", "cancel")


def both(verb):
    """The two names of a command, and what its argument is called."""
    return ((("block-job-" + verb), "id" if verb in ("finalize", "dismiss")
             else "device"), ("job-" + verb, "id"))


def ask(q, name, **arguments):
    """The error text, or what is returned; events go to q.events."""
    q.send({"execute": name, "arguments":
            {k.replace("_", "-"): v for k, v in arguments.items()}})
    answer = q.answer()
    return answer["error"]["desc"] if "error" in answer else answer["return"]


def exchange(q, name, end, **arguments):
    """Run a command; all messages until its answer and that state have been
    seen: names of events, states for JOB_STATUS_CHANGE, "return"."""
    q.send({"execute": name, "arguments": arguments})
    seen = []
    while "return" not in seen or end not in seen:
        m = q.receive()
        assert "error" not in m, m
        seen.append("return" if "return" in m else
                    m["data"]["status"] if m["event"] == "JOB_STATUS_CHANGE"
                    else m["event"])
    return [s for s in seen if s != "MIRROR_SYNCED"]


def start(t, q, state, **more):
    """A job that is running, since limited, or ready."""
    ask(q, "blockdev-mirror", job_id="m", target=t.uri("target"),
        sync="full", copy_mode="write-blocking", **more)
    if state == "running":
        assert q.job()["status"] == "running"
    else:
        q.wait(lambda q: q.job()["actively-synced"], 30 * SLOW)
        q.wait_event("JOB_STATUS_CHANGE", 30 * SLOW, status="ready")
        q.wait_event("BLOCK_JOB_READY", 30 * SLOW)
    q.events.clear()


def end(q):
    ask(q, "job-cancel", id="m")
    q.wait(lambda q: q.job() is None, 30 * SLOW)
    q.events.clear()


def without_job(q):
    for verb in VERBS:
        for (name, what), text in zip(both(verb), (NO_BLOCK_JOB, NO_JOB)):
            assert ask(q, name, **{what: "m"}) == text, name
    change = {"id": "m", "type": "mirror", "copy-mode": "auto"}
    assert ask(q, "block-job-change", **change) == NO_BLOCK_JOB
    assert ask(q, "mirror-set", speed=1) == "There is no job"
    assert "no job" in ask(q, "mirror-hold")
    assert ask(q, "mirror-release") == "Nothing is held"
    assert "Nothing is held" in ask(q, "mirror-fence")


def pause_running(t, q):
    start(t, q, "running", speed=1)
    for verb in ("complete", "finalize", "dismiss"):
        for name, what in both(verb):
            assert ask(q, name, **{what: "m"}) == NOT_NOW % ("running", verb)
    # QEMU's order: the job pauses after the answer, but is resumed before it.
    for (pause, what), (resume, _) in zip(both("pause"), both("resume")):
        args = {what: "m"}
        assert ask(q, resume, **args) == \
            "Can't resume a job that was not paused"
        assert exchange(q, pause, "paused", **args) == ["return", "paused"]
        assert ask(q, pause, **args) == "Job is already paused"
        job = q.job()
        assert job["paused"] and job["status"] == "paused", job
        assert q.mirror()["convergence"] == "paused"
        assert exchange(q, resume, "running", **args) == ["running", "return"]
    end(q)


def pause_ready(t, q):
    start(t, q, "ready")
    assert exchange(q, "job-pause", "standby", id="m") == \
        ["standby", "return"]
    job = q.job()
    assert job["paused"] and job["ready"] and job["actively-synced"], job
    assert ask(q, "mirror-hold") == "Cannot hold: the job is not ready"
    assert exchange(q, "job-resume", "ready", id="m") == ["ready", "return"]
    assert ask(q, "job-finalize", id="m") == NOT_NOW % ("ready", "finalize")
    end(q)


def settings(t, q):
    """All or nothing; what is not set stays."""
    start(t, q, "running", speed=1, buf_size=1 << 20)
    for bad in ({"speed": -1}, {"buf-size": 4096}, {"max-pause": 0},
                {"max-pause": 60001}, {"copy-mode": "fast"},
                {"target-timeout": 0}, {"target-timeout": 3601},
                {"on-source-error": "auto"}, {"on-target-error": ""}):
        good = {"speed": 2, "buf-size": 1 << 21, "copy-mode": "auto",
                "on-source-error": "stop", "on-target-error": "report"}
        text = ask(q, "mirror-set", **{**good, **bad})
        assert next(iter(bad)) in text, text
    assert "Nothing to set" in ask(q, "mirror-set")
    job = q.mirror()["job"]
    assert (job["speed"], job["buf-size"], job["copy-mode"]) == \
        (1, 1 << 20, "write-blocking"), job
    assert (job["on-source-error"], job["on-target-error"]) == \
        ("ignore", "ignore"), job
    assert ask(q, "mirror-set", **{"copy-mode": "background", "buf-size":
                                   1 << 21, "max-pause": 60000,
                                   "target-timeout": 3600,
                                   "on-source-error": "enospc"}) == {}
    job = q.mirror()["job"]
    assert (job["speed"], job["buf-size"], job["copy-mode"]) == \
        (1, 1 << 21, "background"), job
    assert (job["on-source-error"], job["on-target-error"]) == \
        ("enospc", "ignore"), job
    for mode in ("auto", "write-blocking", "background"):
        assert ask(q, "block-job-change", id="m", type="mirror",
                   copy_mode=mode) == {}
        assert q.mirror()["job"]["copy-mode"] == mode
    end(q)


def detach_and_keep(t, q):
    """Soft cancel of a job that stays until it is dismissed."""
    start(t, q, "ready", auto_dismiss=False)
    assert q.job()["auto-dismiss"] is False
    assert exchange(q, "block-job-cancel", "concluded", device="m") == \
        ["return", "waiting", "pending", "MIRROR_TARGET_STATE",
         "BLOCK_JOB_COMPLETED", "concluded"]
    job = q.job()
    assert job["status"] == "concluded" and not job["ready"], job
    assert "error" not in job, job
    mirror = q.mirror()
    assert mirror["target"]["state"] == "none", mirror
    assert mirror["convergence"] == "none" and not mirror["pivoted"], mirror
    for verb in ("cancel", "pause", "complete"):
        assert ask(q, "job-" + verb, id="m") == NOT_NOW % ("concluded", verb)
    assert "'concluded'" in ask(q, "blockdev-mirror", target=t.uri("target"),
                                sync="full")
    assert exchange(q, "job-dismiss", "null", id="m") == ["null", "return"]
    assert q.command("query-jobs") == []
    assert q.mirror()["last-job"]["end"] == "completed"

    # Cancelled before it was ready, which is always forced.
    start(t, q, "running", speed=1, auto_dismiss=False)
    seen = exchange(q, "block-job-cancel", "concluded", device="m")
    assert seen[:2] == ["return", "aborting"] and \
        "BLOCK_JOB_CANCELLED" in seen, seen
    ended = time.time()
    assert q.command("query-jobs")[0]["error"] == "Operation canceled"
    assert q.job()["error"] == "Operation canceled"
    # It ended when it did, however long it is kept.
    wait_for(lambda: time.time() > ended + 2, "time stands still")
    assert ask(q, "block-job-dismiss", id="m") == {}
    last = q.mirror()["last-job"]
    assert last["end"] == "cancelled", last
    assert ended - 20 * SLOW < last["time"] <= ended, (last, ended)
    q.events.clear()


def barrier_and_fence(t, q, other):
    client = nbd.NBD()
    client.connect_uri(t.uri("proxy"))
    start(t, q, "ready")
    for seconds in (0, 301, -1):
        assert "from 1 to 300" in ask(q, "mirror-hold", timeout=seconds)
    held = ask(q, "mirror-hold", timeout=300)
    assert 0 <= held["drain-us"] and 0 < held["expires-us"] <= 300000000, held
    assert q.mirror()["held"] is True
    for name, what in both("complete"):
        assert "cannot be completed now: " in ask(q, name, **{what: "m"})
    assert "detached now: " in ask(q, "block-job-cancel", device="m")
    assert "Cannot hold: " in ask(other, "mirror-hold")

    # It is fenced before it is released: the write that was held fails.
    done = []
    buf = nbd.Buffer.from_bytearray(bytearray(b"w" * 4096))
    client.aio_pwrite(buf, 0, completion=lambda e: done.append(e.value) or 1)
    assert ask(q, "mirror-fence") == {}
    other.wait_event("MIRROR_FENCED", 30 * SLOW, enabled=True)
    assert not done
    released = ask(other, "mirror-release")
    assert released["held-us"] > 0, released
    while not done:
        assert client.poll(int(30000 * SLOW)) == 1, "still held"
    assert done == [errno.EPERM], done
    mirror = q.mirror()
    assert mirror["fenced"] and not mirror["held"], mirror
    assert client.pread(512, 0) == b"\1" * 512

    assert ask(q, "mirror-fence", enable=False) == {}
    other.wait_event("MIRROR_FENCED", 30 * SLOW, enabled=False)
    client.pwrite(b"x" * 512, 0)

    # It falls by itself, which is told.
    ask(q, "mirror-hold", timeout=1)
    event = other.wait_event("MIRROR_RELEASED", 30 * SLOW, reason="expired")
    assert event["data"]["held-us"] >= 1000000, event
    assert ask(q, "mirror-release") == "The hold has expired"
    assert ask(q, "mirror-release") == "Nothing is held"
    end(q)
    client.shutdown()


def pivot(t, q):
    start(t, q, "ready", auto_dismiss=False, max_pause=60000)
    seen = exchange(q, "block-job-complete", "concluded", device="m")
    assert seen == ["return", "MIRROR_PIVOTED", "waiting", "pending",
                    "MIRROR_TARGET_STATE", "BLOCK_JOB_COMPLETED",
                    "concluded"], seen
    mirror = q.mirror()
    assert mirror["pivoted"] and mirror["target"]["state"] == "pivoted", \
        mirror
    assert ask(q, "job-dismiss", id="m") == {}
    assert q.mirror()["target"]["state"] == "pivoted"
    assert q.mirror()["last-job"]["end"] == "completed"

    # A further mirror is one like any other.
    t.nbdkit("second", "memory", str(SIZE))
    assert ask(q, "blockdev-mirror", target=t.uri("second"), sync="full",
               job_id="n") == {}
    assert q.mirror()["target"]["state"] == "online"
    q.wait(lambda q: q.job()["ready"], 30 * SLOW)
    assert ask(q, "job-cancel", id="n") == {}
    q.wait(lambda q: q.job() is None, 30 * SLOW)
    assert q.mirror()["target"]["state"] == "pivoted"


with Test() as test:
    test.nbdkit("target", "memory", str(SIZE))
    # With data in it, so that a limited job is not ready at once.
    test.mirror("data", "1*4194304", "size=%d" % SIZE)
    with test.qmp() as one, test.qmp() as two:
        without_job(one)
        pause_running(test, one)
        pause_ready(test, one)
        settings(test, one)
        detach_and_keep(test, one)
        two.events.clear()
        barrier_and_fence(test, one, two)
        pivot(test, one)
