#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The life of a job as seen on the control socket: order of answers and
events, fields, what is refused when."""

import os
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402
from qmp import QMPError  # noqa: E402

SIZE = 64 << 20
BLOCK_JOB = {"type", "device", "len", "offset", "busy", "paused", "speed",
             "io-status", "ready", "status", "auto-finalize", "auto-dismiss",
             "actively-synced"}


def fails(cls, desc, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except QMPError as e:
        assert (e.cls, e.desc) == (cls, desc or e.desc), e
        return e.desc
    raise AssertionError("accepted: %s %s" % (args, kwargs))


def take(q, count):
    """The next messages: (event, state) or ("return", value)."""
    messages = []
    for _ in range(count):
        msg = q.receive()
        if "event" in msg:
            assert set(msg["timestamp"]) == {"seconds", "microseconds"}, msg
            messages.append((msg["event"], msg["data"].get("status") or
                             msg["data"].get("state")))
        else:
            messages.append(("return", msg["return"]))
    return messages


def states(messages):
    return [s for e, s in messages if e == "JOB_STATUS_CHANGE"]


def start(q, uri, **more):
    q.send({"execute": "blockdev-mirror", "arguments":
            {"target": uri, "sync": "full", **more}})


def check_start(q):
    messages = take(q, 4)
    assert messages == [("JOB_STATUS_CHANGE", "created"),
                        ("JOB_STATUS_CHANGE", "running"),
                        ("MIRROR_TARGET_STATE", "online"),
                        ("return", {})], messages


def check_cancel(q, name, args):
    """Cancelled by q: the answer, then the events, in order."""
    q.send({"execute": name, "arguments": args})
    messages = []
    while ("JOB_STATUS_CHANGE", "null") not in messages:
        messages += take(q, 1)
        # What was on its way when the command came.
        if messages == [("BLOCK_JOB_ERROR", None)] or \
           messages == [("MIRROR_SYNCED", None)]:
            messages = []
    assert messages[0] == ("return", {}), messages
    assert states(messages) == ["aborting", "concluded", "null"], messages
    names = [e for e, _ in messages]
    assert names.index("BLOCK_JOB_CANCELLED") < \
        messages.index(("JOB_STATUS_CHANGE", "concluded")), messages
    assert "BLOCK_JOB_COMPLETED" not in names, messages


with Test() as t:
    t.nbdkit("target", "memory", "64M")
    # With data in it, so that a limited job is not ready at once.
    t.mirror("data", "1*4194304", "size=64M", "mirror-speed=1G")
    target = t.uri("target")

    with t.qmp() as q, t.qmp(negotiate=False) as mute, t.qmp() as other:
        mute.receive()

        # Slow enough to look at it.
        start(q, target, speed=1, **{"job-id": "slow.Job-1_x",
                                     "device": "source"})
        check_start(q)
        jobs = q.command("query-block-jobs")
        assert len(jobs) == 1 and set(jobs[0]) == BLOCK_JOB, jobs
        job = jobs[0]
        assert job["device"] == "slow.Job-1_x" and job["type"] == "mirror"
        assert job["status"] == "running" and not job["ready"], job
        assert job["speed"] == 1 and job["io-status"] == "ok", job
        assert job["auto-finalize"] and job["auto-dismiss"], job
        assert not job["paused"] and not job["actively-synced"], job
        job = q.command("query-jobs")[0]
        assert set(job) == {"id", "type", "status", "current-progress",
                            "total-progress"}, job
        assert job["id"] == "slow.Job-1_x", job

        mirror = q.mirror()
        assert mirror["job"]["id"] == "slow.Job-1_x", mirror
        assert mirror["job"]["copy-mode"] == "background", mirror
        assert mirror["job"]["error"] is None, mirror
        assert mirror["target"]["state"] == "online", mirror
        assert mirror["target"]["uri"] == target, mirror
        assert mirror["target"]["size"] == SIZE, mirror
        assert mirror["source"]["size"] == SIZE, mirror
        assert mirror["convergence"] in ("scanning", "converging",
                                         "tracking"), mirror
        assert mirror["clients"] == 0, mirror

        # A second one is refused, with name and state, by any client.
        for client in (q, other):
            desc = fails("GenericError", None, client.command,
                         "blockdev-mirror", target=target, sync="full")
            assert "'slow.Job-1_x'" in desc and "'running'" in desc, desc

        # Speed.
        fails("GenericError", "Parameter 'speed' expects a non-negative"
              " value", q.command, "block-job-set-speed",
              device="slow.Job-1_x", speed=-1)
        fails("DeviceNotActive", "Block job 'mirror' not found", q.command,
              "block-job-set-speed", device="mirror", speed=5)
        q.command("block-job-set-speed", device="slow.Job-1_x", speed=4096)
        assert q.job()["speed"] == 4096

        q.events.clear()
        other.events.clear()

    with t.qmp() as q:
        q.command("block-job-cancel", device="slow.Job-1_x", force=True)
        q.wait(lambda q: q.job() is None, 20 * SLOW)
        mirror = q.mirror()
        assert mirror["last-job"]["id"] == "slow.Job-1_x", mirror
        assert mirror["last-job"]["end"] == "cancelled", mirror
        assert mirror["last-job"]["error"] is None, mirror
        assert mirror["target"]["state"] == "none", mirror

    with t.qmp() as q, t.qmp() as other, t.qmp(negotiate=False) as mute:
        mute.receive()
        start(q, target, **{"copy-mode": "write-blocking"})
        check_start(q)
        other.wait_event("BLOCK_JOB_READY", 30 * SLOW, device="mirror",
                         type="mirror")
        q.wait(lambda q: q.job()["actively-synced"], 30 * SLOW)
        job = q.job()
        assert job["ready"] and job["len"] == job["offset"], job
        assert job["speed"] == 1 << 30, job             # the key's value
        mirror = q.mirror()
        assert mirror["convergence"] == "synced", mirror
        assert mirror["job"]["teeing"], mirror
        assert mirror["job"]["copy-mode"] == "write-blocking", mirror
        assert mirror["dirty-bytes"] == mirror["inflight-bytes"] == 0, mirror

        # All clients get the same events; who has not negotiated, none.
        q.events.clear()
        other.events.clear()
        check_cancel(q, "job-cancel", {"id": "mirror"})
        other.wait_event("JOB_STATUS_CHANGE", 20 * SLOW, status="aborting")
        other.wait_event("BLOCK_JOB_CANCELLED", 20 * SLOW, device="mirror")
        other.wait_event("JOB_STATUS_CHANGE", 20 * SLOW, status="null")
        mute.send({"execute": "query-jobs"})
        assert mute.receive()["error"]["class"] == "CommandNotFound"

        # Gone means gone: at once there can be another.
        for _ in range(20):
            start(q, target, speed=1)
            check_start(q)
            check_cancel(q, "block-job-cancel",
                         {"device": "mirror", "force": True})
        fails("DeviceNotActive", "Block job 'mirror' not found", q.command,
              "block-job-cancel", device="mirror", force=True)
        fails("GenericError", "Job not found", q.command, "job-cancel",
              id="mirror")

    # A target that does not answer holds up this client only, and not for
    # ever; what it sends meanwhile is run afterwards.
    silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    silent.bind(t.path("silent.sock"))
    silent.listen(16)
    silent.settimeout(30 * SLOW)
    with t.qmp(timeout=60 * SLOW) as q, t.qmp() as other, \
            t.qmp() as hangs_up:
        q.send(b'{"execute": "blockdev-mirror", "id": 1, "arguments":'
               b' {"sync": "full", "target": "' +
               t.uri("silent").encode("ascii") + b'"}}'
               b'{"execute": "query-version", "id": 2}')
        held = [silent.accept()[0]]
        start(hangs_up, t.uri("silent"))
        held.append(silent.accept()[0])
        hangs_up.close()
        assert other.mirror()["job"] is None

        # Events for who has hung up meanwhile do not hold up anybody.
        start(other, target, speed=1)
        check_start(other)
        check_cancel(other, "job-cancel", {"id": "mirror"})
        q.sock.setblocking(False)
        try:
            q.buffer += q.sock.recv(65536)
        except BlockingIOError:
            pass
        assert b"error" not in q.buffer and b'"id"' in q.buffer and \
            b"return" not in q.buffer, q.buffer

        # As if the target gave up.
        silent.close()
        for connection in held:
            connection.close()
        q.sock.settimeout(60 * SLOW)
        answer = q.answer()
        assert answer["id"] == 1 and "error" in answer, answer
        answer = q.answer()
        assert answer["id"] == 2 and "return" in answer, answer
