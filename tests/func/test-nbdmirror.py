#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The command nbdmirror: what it prints and its exit status."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

environment = {k: v for k, v in os.environ.items()
               if k not in ("NBDMIRROR_SOCK", "XDG_RUNTIME_DIR")}


def run(*args, status=0, env=None):
    """Returns its standard output and error."""
    r = subprocess.run(["nbdmirror", *args], env=env or environment,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=120 * SLOW,
                       encoding="utf-8", check=False)
    assert r.returncode == status, (args, r.returncode, r.stdout, r.stderr)
    for line in r.stderr.splitlines():
        assert line.startswith(("nbdmirror: ", "  /")), r.stderr
    return r.stdout, r.stderr


def background(*args):
    return subprocess.Popen(["nbdmirror", *args], env=environment,
                            stdin=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, encoding="utf-8")


def connections(t):
    """How many clients the control socket has, by the kernel's list."""
    with open("/proc/net/unix", encoding="ascii", errors="replace") as f:
        lines = [line.split() for line in f]
    return sum(len(line) == 8 and line[5] == "03" and
               line[7] == t.path("ctl.sock") for line in lines)


def check_usage():
    out, _ = run("--help")
    for word in ("status", "--json", "wait", "--timeout", "start", "-S"):
        assert word in out, word
    out, _ = run("start", "--help")
    assert "--granularity" in out and "--json" not in out, out
    out, _ = run("--version")
    assert out.startswith("nbdmirror "), out
    for args, text in (
            ((), "no command"), (("nosuch",), "unknown command 'nosuch'"),
            (("--nosuch",), "unknown option"), (("-S",), "-S needs a value"),
            (("status", "-S"), "-S needs a value"),
            (("status", "x"), "status takes no operands"),
            (("status", "--jsn"), "unknown option '--jsn'"),
            (("status", "--json=1"), "takes no value"),
            (("status", "--json", "--json"), "given twice"),
            (("wait",), "wait takes one operand"),
            (("wait", "done"), "allowed are ready, synced and completed"),
            (("wait", "ready", "--timeout"), "needs a value"),
            (("wait", "ready", "--timeout", "-1"), "must be"),
            (("wait", "ready", "--timeout", "nan"), "must be"),
            (("wait", "ready", "--timeout", "1s"), "must be"),
            (("speed", "fast"), "must be"), (("speed", "-1"), "unknown"),
            (("speed", "1P"), "must be"), (("speed", "9999999T"), "must be"),
            (("start", "nbd://h", "--speed", "1.5M"), "must be"),
            (("qmp", "{"), "one JSON object"), (("qmp", "[]"), "one JSON"),
            (("qmp", "{} {}"), "one JSON object"),
            (("pause",), "'pause' is not available in this version"),
            (("run", "a", "b"), "'run' is not available in this version")):
        _, err = run(*args, status=1)
        assert text in err and err.count("\n") == 1, (args, err)


def check_no_server(t):
    _, err = run("-S", t.path("none.sock"), "status", status=3)
    assert "none.sock" in err and err.count("\n") == 1, err
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(t.path("dead.sock"))
    dead.close()
    for command in (("status",), ("quit",), ("wait", "ready"), ("speed", "1"),
                    ("start", "nbd://h"), ("cancel",), ("qmp", "{}")):
        _, err = run("-S", t.path("dead.sock"), *command, status=3)
        assert "no server is listening" in err, err
    run("status", status=3, env={**environment,
                                 "NBDMIRROR_SOCK": t.path("dead.sock")})


def all_stopped(pid):
    """Are all threads of a process in the state T?"""
    tasks = "/proc/%d/task" % pid
    for task in os.listdir(tasks):
        with open(os.path.join(tasks, task, "stat"), encoding="ascii") as f:
            if f.read().rsplit(") ", 1)[1][0] != "T":
                return False
    return True


def check_hung_server(t, server):
    """A server that does not answer does not hang the command."""
    server.send_signal(signal.SIGSTOP)
    wait_for(lambda: all_stopped(server.pid), "the server does not stop")
    start = time.monotonic()
    _, err = run("-S", t.path("ctl.sock"), "wait", "ready", "--timeout",
                 "0.2", status=2)
    assert "does not answer" in err or "timed out" in err, err
    assert time.monotonic() - start < 9, "--timeout was not kept"
    server.send_signal(signal.SIGCONT)


def check_discovery(t):
    """Without -S: the only live socket of the default directory."""
    if os.getuid() == 0:
        return      # /run/nbdmirror may belong to somebody
    os.mkdir(t.path("nbdmirror"))
    env = {**environment, "XDG_RUNTIME_DIR": t.tmp}
    _, err = run("status", status=3, env=env)
    assert "no server is running" in err, err
    shutil.move(t.path("dead.sock"), t.path("nbdmirror/1.sock"))
    _, err = run("status", status=3, env=env)
    assert "no server is running" in err, err
    for name in ("2", "3"):
        t.nbdkit("server" + name, "--filter=mirror", "memory", "1M",
                 "mirror-control=" + t.path("nbdmirror/%s.sock" % name))
        if name == "2":
            out, _ = run("status", env=env)
            assert "1 MiB" in out, out
    _, err = run("status", status=3, env=env)
    assert "several" in err and "2.sock" in err and "3.sock" in err, err
    assert "1.sock" not in err, err
    _, err = run("status", status=3)
    assert "XDG_RUNTIME_DIR" in err, err


def check_status(sock, t):
    out, _ = run("-S", sock, "status")
    assert "none" in out and "64 MiB" in out, out
    out, _ = run("status", "--json", "-S", sock)
    assert json.loads(out)["job"] is None, out
    for goal in ("ready", "synced", "completed"):
        _, err = run("-S", sock, "wait", goal, status=1)
        assert "there is no job" in err, err
    _, err = run("-S", sock, "cancel", status=1)
    assert "there is no job" in err, err

    run("-S", sock, "start", t.uri("target"), "--speed=1", "--job-id", "j1",
        "--granularity", "4K", "--buf-size", "1M", "--connections", "2")
    job = json.loads(run("-S", sock, "status", "--json")[0])["job"]
    assert (job["id"], job["speed"], job["granularity"], job["buf-size"]) == \
        ("j1", 1, 4096, 1 << 20), job
    out, _ = run("-S", sock, "status")
    assert "j1" in out and "online" in out and "[" in out, out
    run("-S", sock, "speed", "2G")
    out, _ = run("-S", sock, "qmp", "{'execute': 'query-block-jobs',"
                 "'id': 'x'}")
    answer = json.loads(out)
    assert answer["id"] == "x", out
    assert answer["return"][0]["speed"] == 2 << 30, out
    out, _ = run("-S", sock, "qmp", '{"execute": "nosuch"}', status=1)
    assert json.loads(out)["error"]["class"] == "CommandNotFound", out
    _, err = run("-S", sock, "start", t.uri("target"), status=1)
    assert "'j1'" in err, err
    run("-S", sock, "cancel", "--force")
    run("-S", sock, "wait", "completed", status=1)


def check_wait(sock, t):
    """Waiters are told of a change that comes while they wait."""
    def waiters(before, *goals):
        wait_for(lambda: connections(t) == before, "too many clients")
        processes = [background("-S", sock, "wait", *g) for g in goals]
        wait_for(lambda: connections(t) == before + len(goals),
                 "waiters do not connect")
        return processes

    run("-S", sock, "start", t.uri("target"), "--copy-mode", "write-blocking",
        "--speed", "1", "--job-id", "j2")
    _, err = run("-S", sock, "wait", "ready", "--timeout", "0.1", status=2)
    assert "timed out" in err, err
    ready = waiters(0, ("ready",), ("synced", "--timeout", "100"))
    other = waiters(2, ("completed",))
    run("-S", sock, "speed", "0")
    for process in ready:
        assert process.wait(60 * SLOW) == 0, process.stderr.read()
    run("-S", sock, "wait", "ready", "--timeout", "0")

    _, err = run("-S", sock, "cancel", status=1)        # it is ready
    assert "force" in err, err
    run("-S", sock, "cancel", "--force")
    assert other[0].wait(60 * SLOW) == 1
    err = other[0].stderr.read()
    assert "'j2' was cancelled" in err, err
    _, err = run("-S", sock, "wait", "completed", status=1)
    assert "was cancelled" in err, err
    out, _ = run("-S", sock, "status")
    assert "cancelled" in out, out


def check_quit(sock, t, server):
    run("-S", sock, "start", t.uri("target"), "--speed", "1")
    wait_for(lambda: connections(t) == 0, "too many clients")
    process = background("-S", sock, "wait", "completed")
    wait_for(lambda: connections(t) == 1, "no waiter")
    run("-S", sock, "quit")
    assert server.wait(60 * SLOW) == 0
    del t.servers["proxy"]
    # The job was cancelled, or the connection lost, whichever came first.
    assert process.wait(60 * SLOW) in (1, 3), process.stderr.read()
    run("-S", sock, "status", status=3)


with Test() as test:
    check_usage()
    check_no_server(test)
    test.nbdkit("target", "memory", "64M")
    # With data in it, so that a limited job is not ready at once.
    server_process = test.mirror("data", "1*8388608", "size=64M")
    control = test.path("ctl.sock")
    check_hung_server(test, server_process)
    check_discovery(test)
    check_status(control, test)
    check_wait(control, test)
    check_quit(control, test, server_process)
