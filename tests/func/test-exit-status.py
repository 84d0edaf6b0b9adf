#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Exit status and message of every subcommand of nbdmirror: without a server,
with one that is gone or hangs, without a job, after one that failed or was
cancelled, and in a state in which it is refused.  A command that is not in the table fails
the test."""

import json
import os
import re
import select
import socket
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test  # noqa: E402

environment = {k: v for k, v in os.environ.items()
               if k not in ("NBDMIRROR_SOCK", "XDG_RUNTIME_DIR")}

# How each is called; status and part of the message with a server that has no
# job, and with a job that is not ready (limited to one byte a second, paused).
# None: not tried there.
NO_JOB = (1, "no job")
TABLE = {
    "status": ([], (0, ""), (0, "")),
    "watch": (["--interval", "0.1"], None, None),
    "wait": (["ready", "--timeout", "0.2"], (1, "there is no job"),
             (2, "timed out: not ready yet")),
    "start": (["nbd+unix:///?socket=/nonexistent"], (1, "/nonexistent"),
              (1, "There is a job already")),
    "pause": ([], NO_JOB, (1, "already paused")),
    "resume": ([], NO_JOB, None),
    "set": (["speed=1"], NO_JOB, (0, "")),
    "mode": (["background"], NO_JOB, (0, "")),
    "speed": (["1"], NO_JOB, (0, "")),
    "complete": ([], NO_JOB, (1, "in state 'paused'")),
    "cancel": (["--force"], NO_JOB, None),
    "hold": (["--timeout", "1"], NO_JOB, (1, "not ready")),
    "release": ([], (1, "Nothing is held"), (1, "Nothing is held")),
    "fence": ([], (1, "force"), (1, "force")),
    "events": ([], None, None),
    "metrics": ([], (0, ""), (0, "")),
    "qmp": (['{"execute": "nosuch"}'], (1, ""), (1, "")),
    "quit": ([], None, None),
}

# Of other tests: they need more than a socket.
ELSEWHERE = {"run", "verify", "bitmap"}

problems = []


def call(what, args, status, text, lines=1, stdout=subprocess.PIPE):
    r = subprocess.run(["nbdmirror", *args], env=environment,
                       stdin=subprocess.DEVNULL, stdout=stdout,
                       stderr=subprocess.PIPE, timeout=100 * SLOW,
                       encoding="utf-8", check=False)
    if r.returncode != status or text not in r.stderr:
        problems.append("%s: %s: status %d, %r; want %d, %r" % (
            what, " ".join(args[2:]), r.returncode, r.stderr, status, text))
    elif text and (r.stderr.count("\n") != lines or
                   not r.stderr.startswith("nbdmirror: ")):
        problems.append("%s: %s: not one line: %r" % (
            what, " ".join(args[2:]), r.stderr))


def everything(what, sock, text, wait=3):
    """All at once: status 3, but of wait."""
    threads = [threading.Thread(target=call, args=(
        what, ["-S", sock, name, *entry[0]], wait if name == "wait" else 3,
        text)) for name, entry in TABLE.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def check_table():
    with open(os.path.join(TOP, "ctl/subcommands.h"), encoding="ascii") as f:
        known = set(re.findall(r'  SUB \(\w+, "([^"]+)"', f.read()))
    assert len(known) > 10
    missing = known - ELSEWHERE - set(TABLE)
    assert not missing, "not in the table: %s" % missing
    assert set(TABLE) <= known, set(TABLE) - known


def check_no_server(t):
    everything("no socket", t.path("none.sock"), "none.sock")
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(t.path("dead.sock"))
    dead.close()
    everything("dead socket", t.path("dead.sock"),
               "no server is listening there")
    with open(t.path("file.sock"), "w", encoding="ascii"):
        pass
    everything("no socket at all", t.path("file.sock"), "file.sock")


def check_strange_server(t):
    """It hangs up at once; all have to say so and to end."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(t.path("strange.sock"))
    server.listen(64)
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            c, _ = server.accept()
            if not stop.is_set():
                c.sendall(b'{"greeting": "hello"}\r\n')
            c.close()

    thread = threading.Thread(target=serve)
    thread.start()
    everything("another protocol", t.path("strange.sock"), "strange.sock")
    stop.set()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
        last.connect(t.path("strange.sock"))
    thread.join()
    server.close()


def check_hung_server(t):
    """Nobody ever answers: 3 in time, but 2 for who gave a time."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(t.path("hung.sock"))
    server.listen(64)
    everything("hung", t.path("hung.sock"), "hung.sock", wait=2)
    server.close()


def check_failed_job(t):
    """What a server says of a job that failed, that is gone or that is kept
    until it is dismissed."""
    answers = [
        {"job": None, "last-job": {"id": "j", "end": "failed",
                                   "error": "No space left on device"}},
        {"job": {"id": "j", "status": "concluded", "auto-dismiss": False,
                 "error": "No space left on device"}, "last-job": None}]
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(t.path("fake.sock"))
    server.listen(64)

    def serve(answer):
        c, _ = server.accept()
        with c, c.makefile("rw", encoding="ascii", newline="") as f:
            f.write('{"QMP": {}}\r\n')
            f.flush()
            for result in ({}, answer):
                f.readline()
                f.write(json.dumps({"return": result}) + "\r\n")
                f.flush()

    for answer in answers:
        for goal in ("ready", "synced", "completed"):
            thread = threading.Thread(target=serve, args=(answer,))
            thread.start()
            call("failed job", ["-S", t.path("fake.sock"), "wait", goal], 1,
                 "No space left on device")
            thread.join()
    server.close()


def check_states(t):
    sock = t.path("ctl.sock")

    def column(what, which):
        for name, entry in TABLE.items():
            if entry[which] is not None:
                call(what, ["-S", sock, name, *entry[0]], *entry[which])

    column("no job", 1)
    call("start", ["-S", sock, "start", t.uri("target"), "--speed", "1"],
         0, "")
    call("pause", ["-S", sock, "pause"], 0, "")
    column("paused job", 2)
    call("resume", ["-S", sock, "resume"], 0, "")
    call("cancel", ["-S", sock, "cancel", "--force"], 0, "")
    call("cancelled", ["-S", sock, "wait", "completed"], 1, "was cancelled")
    for goal in ("ready", "synced", "completed"):
        call("cancelled", ["-S", sock, "wait", goal], 1, "was cancelled")


def check_full(t):
    """What is printed to be used, and cannot be written, does not pass for
    all."""
    t.nbdkit("map", "--filter=mirror", "memory", "1M", "mirror-bitmap=" +
             t.path("map"), "mirror-control=" + t.path("map.ctl"))
    with open("/dev/full", "w", encoding="ascii") as full:
        for args in (["status"], ["status", "--json"], ["metrics"],
                     ["bitmap", t.path("map")],
                     ["bitmap", "--ranges", t.path("map")]):
            call("full disk", ["-S", t.path("map.ctl"), *args], 1,
                 "%s: cannot write: No space left on device" % args[0],
                 stdout=full)
    t.stop("map")


def check_end(t):
    """Those that run until the server ends are told so."""
    sock = t.path("ctl.sock")
    processes = [subprocess.Popen(
        ["nbdmirror", "-S", sock, *args], env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, encoding="utf-8") for args in
        (["watch"], ["events"])]
    assert processes[0].stdout.readline(), "watch prints nothing"
    # Only who is there hears of an event: until the second one is.
    while not select.select([processes[1].stdout], [], [], 0.1)[0]:
        call("fence", ["-S", sock, "fence", "--force"], 0, "")
        call("fence", ["-S", sock, "fence", "--off"], 0, "")
    assert "MIRROR_FENCED" in processes[1].stdout.readline()
    call("quit", ["-S", sock, "quit"], 0, "")
    for process in processes:
        _, err = process.communicate(timeout=20 * SLOW)
        assert process.returncode == 3, (process.args, process.returncode)
        assert err.startswith("nbdmirror: ") and err.count("\n") == 1, err
    server = t.servers.pop("proxy")
    assert server.wait(20 * SLOW) == 0


check_table()
with Test() as test:
    check_no_server(test)
    check_strange_server(test)
    check_failed_job(test)
    test.nbdkit("target", "memory", "64M")
    test.mirror("data", "1*8388608", "size=64M")
    check_full(test)
    check_states(test)
    check_end(test)
    check_hung_server(test)
    assert not problems, "\n" + "\n".join(problems)
