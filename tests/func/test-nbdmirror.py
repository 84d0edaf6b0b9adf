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
from mirrortest import SLOW, Test, freeze, wait_for  # noqa: E402

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


def check_whole_lines():
    """The servers of run write to the same stderr: nothing of theirs can come
    into a line that is written at once."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with its:
            process = subprocess.Popen(["nbdmirror", "nosuch"], stderr=its)
        assert process.wait(60 * SLOW) == 1
        line = ours.recv(1000)
        assert line == b"nbdmirror: unknown command 'nosuch'; " \
            b"see nbdmirror --help\n", line
        assert ours.recv(1000) == b""


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
            (("pause", "x"), "pause takes no operands"),
            (("mode",), "mode takes one operand: M"),
            (("set",), "set takes KEY=VALUE"),
            (("set", "x=1"), "allowed are speed=N"),
            (("set", "speed"), "allowed are speed=N"),
            (("set", "speed=x"), "must be a number"),
            (("set", "speed=9223372036854775808"), "must be a number up to "
             "9223372036854775807, maybe with K, M, G or T"),
            (("set", "buf-size=8388608T"), "up to 9223372036854775807,"),
            (("speed", "9223372036854775808"), "up to 9223372036854775807,"),
            (("start", "nbd://h", "--speed", "9223372036854775808"),
             "up to 9223372036854775807,"),
            *((("set", "target-timeout=" + s), "target-timeout=%s: must be a "
               "whole number of seconds, 1 to 3600\n" % s)
              for s in ("5.5", "0", "3601", "5s", "1K", "", "-1", "9" * 30)),
            *((("set", "max-pause=" + s), "max-pause=%s: must be a whole "
               "number of milliseconds, 1 to 60000\n" % s)
              for s in ("2s", "0", "60001", "0.5")),
            *((args, "copy-mode '%s': allowed are background, write-blocking, "
               "auto\n" % mode)
              for mode in ("foo", "", "aut", "autos", "|",
                           "write-blocking|auto")
              for args in (("set", "copy-mode=" + mode), ("mode", mode))),
            *((("set", "on-%s-error=%s" % (side, policy)), "on-%s-error '%s': "
               "allowed are report, ignore, enospc, stop\n" % (side, policy))
              for side in ("source", "target") for policy in ("x", "never")),
            (("set", "speed=1", "speed=2"), "given twice"),
            (("hold", "--timeout", "x"), "from 1 to 300"),
            (("watch", "--interval", "0"), "from 0.1 to 3600"),
            (("watch", "--interval", "nan"), "from 0.1 to 3600")):
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


def check_hung_server(t, server):
    """A server that does not answer does not hang the command."""
    freeze(server.pid)
    start = time.monotonic()
    _, err = run("-S", t.path("ctl.sock"), "wait", "ready", "--timeout",
                 "0.2", status=2)
    assert "does not answer" in err or "timed out" in err, err
    assert time.monotonic() - start < 9, "--timeout was not kept"
    server.send_signal(signal.SIGCONT)


def fill_queue(path):
    """Connect until the server, which is frozen, has no place for more."""
    connected = []
    while True:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.setblocking(False)
        try:
            s.connect(path)
        except BlockingIOError:
            s.close()
            return connected
        connected.append(s)


def is_connecting(pid):
    """Has it a socket, and does it wait?"""
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        waits = f.read().rsplit(") ", 1)[1][0] == "S"
    fds = "/proc/%d/fd" % pid
    return waits and any(os.readlink(os.path.join(fds, fd)).startswith(
        "socket:") for fd in os.listdir(fds))


def check_full_queue(t, server):
    """One that has no place for more connections has, later."""
    path = t.path("ctl.sock")
    freeze(server.pid)
    connected = fill_queue(path)
    start = time.monotonic()
    _, err = run("-S", path, "wait", "ready", "--timeout", "0.2", status=2)
    assert err == "nbdmirror: %s: the server does not answer\n" % path, err
    assert time.monotonic() - start < 9, "--timeout was not kept"
    waiting = background("-S", path, "pause")
    wait_for(lambda: waiting.poll() is not None or is_connecting(waiting.pid),
             "it does not connect")
    for s in connected:
        s.close()
    server.send_signal(signal.SIGCONT)
    _, err = waiting.communicate(timeout=30 * SLOW)
    assert waiting.returncode == 1 and "there is no job" in err, err


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

    run("-S", sock, "cancel", "--force")
    assert other[0].wait(60 * SLOW) == 1
    err = other[0].stderr.read()
    assert "'j2' was cancelled" in err, err
    _, err = run("-S", sock, "wait", "completed", status=1)
    assert "was cancelled" in err, err
    out, _ = run("-S", sock, "status")
    assert "cancelled" in out, out


def check_job_verbs(sock, t):
    def job():
        return json.loads(run("-S", sock, "status", "--json")[0])["job"]

    for command in ("pause", "resume", "complete"):
        _, err = run("-S", sock, command, status=1)
        assert "there is no job" in err, err
    _, err = run("-S", sock, "mode", "auto", status=1)
    assert "there is no job" in err, err
    run("-S", sock, "start", t.uri("target"), "--speed", "1")
    run("-S", sock, "pause")
    assert job()["status"] == "paused"
    _, err = run("-S", sock, "pause", status=1)
    assert "already paused" in err, err
    run("-S", sock, "resume")
    assert job()["status"] == "running"
    run("-S", sock, "mode", "auto")
    assert job()["copy-mode"] == "auto"
    _, err = run("-S", sock, "mode", "fast", status=1)
    assert "'fast'" in err, err
    _, err = run("-S", sock, "complete", status=1)
    assert "in state 'running'" in err, err
    _, err = run("-S", sock, "set", "speed=2", "max-pause=0", status=1)
    assert "max-pause" in err and job()["speed"] == 1, err
    for bad in ("target-timeout=0", "on-target-error=never"):
        _, err = run("-S", sock, "set", "speed=2", bad, status=1)
        assert bad[:13] in err and job()["speed"] == 1, err
    run("-S", sock, "set", "speed=0", "buf-size=2M",
        "copy-mode=write-blocking", "max-pause=60000", "target-timeout=60",
        "on-source-error=stop", "on-target-error=report")
    assert (job()["speed"], job()["buf-size"], job()["copy-mode"]) == \
        (0, 2 << 20, "write-blocking")
    assert (job()["on-source-error"], job()["on-target-error"]) == \
        ("stop", "report")
    run("-S", sock, "wait", "synced", "--timeout", "60")


def check_barrier(sock):
    """On the job that check_job_verbs leaves."""
    _, err = run("-S", sock, "release", status=1)
    assert "Nothing is held" in err, err
    _, err = run("-S", sock, "hold", "--timeout", "301", status=1)
    assert "from 1 to 300" in err, err
    out, _ = run("-S", sock, "hold", "--timeout", "300")
    assert out.startswith("held after ") and out.endswith(" s\n"), out
    assert float(out.split()[-2]) > 250, out
    out, _ = run("-S", sock, "status")
    assert "clients   held\n" in out, out
    _, err = run("-S", sock, "complete", status=1)
    assert "held" in err, err
    run("-S", sock, "fence")
    out, _ = run("-S", sock, "release")
    assert out.startswith("released, ") and out.endswith(" ms\n"), out
    out, _ = run("-S", sock, "status")
    assert "clients   fenced\n" in out, out
    run("-S", sock, "fence", "--off")
    _, err = run("-S", sock, "fence", status=1)
    assert err == "nbdmirror: fence: nothing is held: use nbdmirror hold " \
        "before it, or --force\n", err
    run("-S", sock, "fence", "--force")
    run("-S", sock, "fence", "--off")


def check_switch(sock, t):
    """Detach, then pivot: of the first the target is a copy."""
    def start(uri, **more):     # on a target that is equal already
        run("-S", sock, "qmp", json.dumps(
            {"execute": "blockdev-mirror",
             "arguments": {"target": uri, "sync": "none", **more}}))

    run("-S", sock, "cancel")
    run("-S", sock, "wait", "completed", "--timeout", "60")
    assert t.compare("proxy", "target")

    # A client's request in flight takes longer than clients may be held.
    t.nbdkit("slow", "--filter=delay", "nbd", "uri=" + t.uri("target"),
             "wdelay=%dms" % (400 * SLOW))
    start(t.uri("slow"), **{"copy-mode": "write-blocking", "max-pause": 1})
    run("-S", sock, "wait", "synced", "--timeout", str(60 * SLOW))
    load = t.load("load", "--depth=1", "--max-size=4K", "--weights=write=1")
    load.more(1)
    out, err = run("-S", sock, "complete", status=1)
    assert "max-pause" in err and "were held for" in err and out == "", err
    run("-S", sock, "set", "max-pause=60000")
    run("-S", sock, "wait", "ready", "--timeout", "60")
    out, err = run("-S", sock, "complete")
    assert out.startswith("pivoted, clients were held for ") and \
        float(out.split()[5]) > 0, out
    assert "a restart of the server would give clients the source" in out
    load.stop()
    out, _ = run("-S", sock, "status")
    assert "clients   moved to the target\n" in out, out
    assert ", pivoted, connections: " in out and "none; the last" in out, out
    assert t.compare("proxy", "slow")
    _, err = run("-S", sock, "wait", "ready", status=1)
    assert "was completed" in err, err
    run("-S", sock, "wait", "completed")

    t.nbdkit("third", "memory", "64M")
    run("-S", sock, "start", t.uri("third"))
    run("-S", sock, "wait", "ready", "--timeout", "60")
    run("-S", sock, "complete", "--async")
    run("-S", sock, "wait", "completed", "--timeout", "60")
    start(t.uri("slow"), **{"auto-dismiss": False})
    run("-S", sock, "wait", "ready", "--timeout", "60")
    run("-S", sock, "cancel")
    run("-S", sock, "wait", "completed", "--timeout", "60")
    run("-S", sock, "qmp", '{"execute": "job-dismiss", "arguments":'
        ' {"id": "mirror"}}')


def check_quit(sock, t, server):
    run("-S", sock, "start", t.uri("slow"), "--speed", "1")
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
    check_whole_lines()
    check_no_server(test)
    test.nbdkit("target", "memory", "64M")
    # With data in it, so that a limited job is not ready at once.
    server_process = test.mirror("data", "1*8388608", "size=64M")
    control = test.path("ctl.sock")
    check_hung_server(test, server_process)
    check_full_queue(test, server_process)
    check_discovery(test)
    check_status(control, test)
    check_wait(control, test)
    check_job_verbs(control, test)
    check_barrier(control)
    check_switch(control, test)
    check_quit(control, test, server_process)
