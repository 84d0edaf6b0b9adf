#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""One session, with qemu-storage-daemon 10 and with us: the same answers and
events but for the differences that the manual page lists."""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, listens, wait_for  # noqa: E402
from qmp import QMP  # noqa: E402
from qmpreplay import Replay, Step, is_event, names  # noqa: E402

SIZE = 64 << 20
JOB = {"device": "src", "target": "tgt", "sync": "full"}
SLOWLY = {"speed": 4 << 20, "buf-size": 1 << 20}
QUERIES = [("query-block-jobs", None), ("query-jobs", None)]


def mirror(name, until, **more):
    return ("blockdev-mirror", {"job-id": name, **JOB, **{
        k.replace("_", "-"): v for k, v in more.items()}}, until)


def wrong_arguments():
    """Missing, of another type, unknown, and out of range."""
    yield "nosuch-command", None
    yield "query-jobs", {"id": "x"}
    for more in ({"sync": None}, {"sync": 1}, {"sync": "bogus"},
                 {"sync": "incremental"}, {"job-id": 5}, {"job-id": "1st"},
                 {"job-id": "a b"}, {"speed": "1"}, {"speed": 1.5},
                 {"speed": -1}, {"speed": None, "x": 1}, {"buf-size": -1},
                 {"granularity": 3}, {"granularity": 1000},
                 {"granularity": 1 << 40}, {"granularity": "64K"},
                 {"granularity": -65536}, {"granularity": 1.5},
                 {"granularity": 1 << 70}, {"speed": 1 << 70},
                 {"speed": True}, {"job-id": ""}, {"job-id": None},
                 {"copy-mode": "fast"}, {"copy-mode": True},
                 {"on-target-error": "bogus"}, {"on-source-error": 1},
                 {"auto-dismiss": "yes"}, {"auto-finalize": 1},
                 {"device": "nosuch"}, {"device": 3}, {"target": 3},
                 {"target": "nosuch"}):
        yield "blockdev-mirror", {k: v for k, v in {
            "job-id": "e", **JOB, **more}.items() if v is not None}
    for verb in ("pause", "resume", "complete", "cancel", "finalize",
                 "dismiss"):
        key = "id" if verb in ("finalize", "dismiss") else "device"
        other = "device" if key == "id" else "id"
        for name, good, bad in (("block-job-" + verb, key, other),
                                ("job-" + verb, "id", "device")):
            for arguments in ({good: "nosuch"}, {good: ""}, {good: 1}, {},
                              {bad: "nosuch"}, {good: "x", "more": 1}):
                yield name, arguments
    for arguments in ({"device": "x"}, {"speed": 1}, {"device": "x",
                      "speed": -1}, {"device": "x", "speed": "1"},
                      {"device": "x", "speed": 1, "more": 1}):
        yield "block-job-set-speed", arguments
    for arguments in ({"id": "x"}, {"id": "x", "type": "nosuch"},
                      {"id": "x", "type": "mirror"},
                      {"id": "x", "type": "mirror", "copy-mode": "fast"},
                      {"id": "x", "type": "mirror", "copy-mode": 1},
                      {"id": "x", "type": "mirror",
                       "copy-mode": "background", "more": 1}):
        yield "block-job-change", arguments


def all_verbs(job):
    """Each that the state of the job forbids."""
    for verb in ("finalize", "dismiss"):
        yield "job-" + verb, {"id": job}
        yield "block-job-" + verb, {"id": job}


# Commands, and the state of the job to be waited for after each.
SESSION = [
    *QUERIES, *wrong_arguments(),

    # Both verbs of pause and resume, twice; speed; mode; a second job.
    mirror("a", "running", **SLOWLY), *all_verbs("a"),
    ("job-complete", {"id": "a"}), ("block-job-complete", {"device": "a"}),
    ("job-resume", {"id": "a"}),
    ("job-pause", {"id": "a"}, "paused"), ("job-pause", {"id": "a"}),
    *QUERIES, *all_verbs("a"), ("job-complete", {"id": "a"}),
    ("job-resume", {"id": "a"}), ("block-job-resume", {"device": "a"}),
    ("block-job-pause", {"device": "a"}, "paused"),
    ("block-job-pause", {"device": "a"}),
    ("block-job-set-speed", {"device": "a", "speed": 8 << 20}), *QUERIES,
    ("block-job-resume", {"device": "a"}),
    ("block-job-set-speed", {"device": "a", "speed": -1}),
    ("block-job-change", {"id": "a", "type": "mirror",
                          "copy-mode": "background"}),
    ("block-job-change", {"id": "a", "type": "mirror",
                          "copy-mode": "write-blocking"}), *QUERIES,
    ("block-job-set-speed", {"device": "a", "speed": 0}, "READY"), *QUERIES,
    # Soft cancel.
    *all_verbs("a"), ("block-job-cancel", {"device": "a"}, "null"), *QUERIES,
    ("block-job-cancel", {"device": "a"}),

    # Forced, ready; by both verbs; before ready.
    mirror("b", "READY", copy_mode="write-blocking"), *QUERIES,
    ("job-pause", {"id": "b"}), *QUERIES, ("job-pause", {"id": "b"}),
    ("job-resume", {"id": "b"}),
    ("block-job-cancel", {"device": "b", "force": True}, "null"),
    mirror("c", "READY", copy_mode="background"), *QUERIES,
    ("job-cancel", {"id": "c"}, "null"),
    mirror("d", "running", **SLOWLY),
    ("block-job-cancel", {"device": "d"}, "null"), *QUERIES,

    # One that stays until it is dismissed.
    mirror("e", "running", auto_dismiss=False, **SLOWLY),
    ("job-cancel", {"id": "e"}, "concluded"), *QUERIES,
    ("job-cancel", {"id": "e"}), ("job-pause", {"id": "e"}),
    ("job-resume", {"id": "e"}), ("job-complete", {"id": "e"}),
    ("block-job-set-speed", {"device": "e", "speed": 1}),
    ("job-finalize", {"id": "e"}), ("job-dismiss", {"id": "e"}), *QUERIES,
    ("job-dismiss", {"id": "e"}),

    # Pivot.
    mirror("f", "READY", auto_dismiss=False), *QUERIES,
    ("block-job-complete", {"device": "f"}, "concluded"), *QUERIES,
    ("block-job-complete", {"device": "f"}),
    ("block-job-dismiss", {"id": "f"}), *QUERIES,
    ("quit", None),
]


def version_of(daemon):
    run = subprocess.run([daemon, "--version"], stdout=subprocess.PIPE,
                         check=False)
    m = re.search(r"version (\d+)\.", run.stdout.decode())
    return int(m.group(1)) if m else 0


def start_daemon(t, daemon):
    arguments = [daemon, "--chardev", "socket,id=m,server=on,wait=off,path=" +
                 t.path("qsd.sock"), "--monitor", "chardev=m"]
    for name, size, read_only in (("src", SIZE, "off"), ("tgt", SIZE, "off")):
        with open(t.path(name), "wb") as f:
            f.truncate(size)
            if name == "src":
                f.write(b"\1" * size)
        arguments += ["--blockdev", "driver=file,node-name=%s,filename=%s,"
                      "read-only=%s" % (name, t.path(name), read_only)]
    with open(t.path("qsd.log"), "wb") as log:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=log)
    t.servers["qsd"] = process
    wait_for(lambda: listens(t.path("qsd.sock")) or
             process.poll() is not None, "qemu-storage-daemon does not start")


def is_it(message, until):
    if until == "READY":
        return is_event(message, "BLOCK_JOB_READY")
    return is_event(message, "JOB_STATUS_CHANGE", status=until)


def record(t):
    """What the daemon says to SESSION."""
    steps = []
    with QMP(t.path("qsd.sock"), negotiate=False, timeout=60 * SLOW) as q:
        steps.append(Step("greeting"))
        steps[0].answers.append(q.receive())
        for i, (name, arguments, *until) in enumerate(
                [("qmp_capabilities", None)] + SESSION):
            command = {"execute": name, "id": i}
            if arguments is not None:
                command["arguments"] = arguments
            step = Step("command %d" % i, command)
            q.send(command)
            while not any("event" not in m for m in step.answers) or not all(
                    any(is_it(m, u) for m in step.answers) for u in until):
                message = q.receive()
                message.pop("timestamp", None)
                step.answers.append(message)
            # QEMU's order is chance here: both at once.
            if until == ["paused"]:
                step.answers.sort(key=lambda m: "event" in m)
            steps.append(step)
    assert t.servers.pop("qsd").wait(60 * SLOW) == 0
    return steps


path = os.environ.get("QEMU_STORAGE_DAEMON", "qemu-storage-daemon")
if shutil.which(path) is None or version_of(path) != 10:
    print("needs qemu-storage-daemon 10")
    sys.exit(77)

with Test() as test:
    start_daemon(test, path)
    recorded = record(test)
    test.nbdkit("target", "memory", str(SIZE))
    test.mirror("data", "1*%d" % SIZE, "size=%d" % SIZE)
    with test.qmp() as qmp:
        ours = [c["name"] for c in qmp.command("query-commands")]
    replay = Replay(test.path("ctl.sock"), test.uri, ours)
    replay.run(recorded)
    assert test.servers.pop("proxy").wait(20 * SLOW) == 0
    assert not replay.problems, "\n" + "\n".join(replay.problems)
    assert replay.seen <= names(), replay.seen
