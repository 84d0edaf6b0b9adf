#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""How nbdmirror run ends: signals, its proxy and itself killed, what it tells a
service manager."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
import nbd  # noqa: E402
from mirrortest import SLOW, Test, freeze, wait_for  # noqa: E402
from runtest import (Run, ended, make_disk, processes,  # noqa: E402
                     read_disk, refused)

SIZE = 4 << 20
DATA = os.urandom(1 << 20)


def fails(call, *args):
    try:
        call(*args)
    except nbd.Error:
        return True
    return False


def check_signals(t):
    """Orderly: what was written is there, and nothing is left."""
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Run(t, "s.img", "%d.img" % sig) as run:
            client = run.connect()
            client.pwrite(b"%04d" % sig, 2 << 20)
            if sig != signal.SIGTERM:
                client.shutdown()
            start = time.monotonic()
            run.stop(sig)       # one that is idle is disconnected
            assert time.monotonic() - start < 10 * SLOW
            if sig == signal.SIGTERM:
                assert fails(client.pread, 1, 0)
            assert run.complaints() == [], run.all()
        ended(t)
        assert read_disk(t, "s.img")[2 << 20:].startswith(b"%04d" % sig)
    # Under nohup SIGHUP is nothing to it.
    run = Run(t, "s.img", "hup.img", preexec_fn=lambda: signal.signal(
        signal.SIGHUP, signal.SIG_IGN))
    run.process.send_signal(signal.SIGHUP)
    run.ctl("wait", "ready")
    assert run.process.poll() is None
    run.ctl("quit")             # that is an orderly end, too
    assert run.wait() == 0, run.all()
    ended(t)


def check_signals_with_command(t):
    """They are the command's; we end after it."""
    def start(script):
        run = Run(t, "s.img", "cmd.img", "--force", "--", "sh", "-c",
                  script, "--", t.path("go"))
        run.says("go\n")
        return run

    for sig, name in ((signal.SIGTERM, "TERM"), (signal.SIGINT, "INT")):
        run = start("trap 'exit 9' %s; echo go; while :; do sleep 0.05; done"
                    % name)
        run.stop(sig, status=9)
        ended(t)
    run = start("echo go; exec sleep 1000")
    run.stop(signal.SIGTERM, status=128 + 15)
    ended(t)
    # One that does not care; the second signal does not ask.
    run = start("trap '' TERM INT; echo go; exec sleep 1000")
    run.process.send_signal(signal.SIGTERM)
    run.ctl("wait", "ready")
    assert run.process.poll() is None
    second_signal(run, signal.SIGTERM)
    ended(t)


def second_signal(run, sig):
    """One kills all, as soon as it does not count as the first any more."""
    def over():
        if run.process.poll() is None:
            run.process.send_signal(sig)
        return run.process.poll() is not None

    wait_for(over, "not killed")
    assert run.wait() == 1, run.all()
    assert run.errors().count("killed by the second signal") >= 1, run.all()


def check_signals_at_once(t):
    """Those are one: timeout(1) signals its child, and then the process group
    that it is in."""
    def closed_in_order(run, status=0):
        assert run.wait() == status, run.all()
        assert run.complaints() == [], run.all()
        ended(t)
        r = subprocess.run(["nbdmirror", "bitmap", t.path("map")], check=True,
                           stdout=subprocess.PIPE, encoding="utf-8")
        assert re.search(r"^clean +yes$", r.stdout, re.M), r.stdout

    def at_once(run):
        freeze(run.pid)
        run.process.send_signal(signal.SIGTERM)
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGCONT)

    args = ("s.img", "once.img", "--force", "--bitmap", "map")
    run = Run(t, *args)
    client = run.connect()
    client.pwrite(b"once", 2 << 20)
    at_once(run)
    closed_in_order(run)
    assert read_disk(t, "s.img")[2 << 20:].startswith(b"once")
    run = Run(t, *args, "--", "sh", "-c", "trap 'exit 9' TERM INT; echo go;"
              " while :; do sleep 0.05; done")
    run.says("go\n")
    at_once(run)
    closed_in_order(run, 9)
    for _ in range(3):          # may be taken as one by the kernel
        run = Run(t, *args, prefix=("timeout", "1000"))
        run.process.send_signal(signal.SIGTERM)
        closed_in_order(run)


def check_second_signal(t):
    """A proxy that does not end on the first."""
    with Run(t, "s.img", "second.img") as run:
        pid = run.proxy_pid()
        freeze(pid)
        run.process.send_signal(signal.SIGINT)
        wait_for(lambda: run.pending(signal.SIGTERM, pid), "not ended")
        assert run.process.poll() is None
        second_signal(run, signal.SIGINT)
    ended(t)


def check_proxy_killed(t):
    """Nobody knows what was equal, so it ends, and says so."""
    with Run(t, "s.img", "k1.img") as run:
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.expect(3, "the proxy was killed by signal 9 (Killed); there is no"
                   " intent file (--bitmap), so everything must be copied"
                   " again")
    ended(t)
    with Run(t, "s.img", "k2.img", "--", "sh", "-c",
             "trap 'echo told >&2; exit 0' TERM; echo trapped;"
             " while :; do sleep 0.05; done") as run:
        run.says("trapped\n")
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.expect(3, "told\n")
    ended(t)
    # After a pivot the source is out of date: nobody must start from it.
    with Run(t, "s.img", "k3.img", "--complete") as run:
        run.says("pivoted ")
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.expect(3, "only k3.img has their data")
    ended(t)
    refused(t, "s.img", "k3.img", text="has data in it")


def check_run_killed(t):
    """Its servers do not outlive it, also if clients are idle; nor does the
    disk stay locked."""
    with Run(t, "s.img", "k4.img", "--", "sleep", "1000") as run:
        idle = run.connect()
        idle.pread(512, 0)
        run.process.kill()
        run.process.wait()
        ended(t)
        wait_for(lambda: fails(idle.pread, 1, 0), "still served")
        for path in (run.control, run.uri.partition("=")[2]):
            if os.path.exists(path):
                os.unlink(path)
    r = Run(t, "s.img", "k5.img")
    r.stop()


def check_sockets(t):
    """Those of somebody else, in the place of ours, stay."""
    with Run(t, "s.img", "k6.img", "--listen", "unix:nbd", "--control",
             "ctl") as run, \
            socket.socket(socket.AF_UNIX) as nbd_socket, \
            socket.socket(socket.AF_UNIX) as control:
        for path, other in ("nbd", nbd_socket), ("ctl", control):
            os.unlink(t.path(path))
            other.bind(t.path(path))
            other.listen()
        run.control = None      # it is not ours any more
        for pid in processes(t, "mirror-control="):
            os.kill(pid, signal.SIGKILL)
        run.expect(3, "everything must be copied again")
        for path in "nbd", "ctl":
            assert os.path.exists(t.path(path)), path
    ended(t)
    # They replace what nobody listens on.
    with Run(t, "s.img", "k6.img", "--force", "--listen", "unix:nbd",
             "--control", "ctl"):
        pass
    ended(t)


def check_notify(t):
    """A service manager is told when clients can connect, and of the end."""
    for name in (t.path("notify"), "\0" + t.path("notify")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            manager.settimeout(30 * SLOW)
            env = {"NOTIFY_SOCKET": name.replace("\0", "@")}
            refused(t, "s.img", "nosuch/x", text="No such file", env=env)
            with Run(t, "s.img", "n%d.img" % len(name), env=env,
                     wait=False) as run:
                assert manager.recv(100) == b"READY=1"
                run.wait_serving()
                run.connect().shutdown()
                for pid in processes(t):
                    assert "NOTIFY_SOCKET" not in Run.read(
                        "/proc/%d/environ" % pid)
                run.stop()
                assert manager.recv(100) == b"STOPPING=1"
    with Run(t, "s.img", "n.img", env={"NOTIFY_SOCKET": "tcp:x"}) as run:
        assert len(run.complaints()) == 1, run.all()    # but serves


with Test() as test:
    make_disk(test, "s.img", SIZE, DATA)
    check_signals(test)
    check_signals_with_command(test)
    check_second_signal(test)
    check_signals_at_once(test)
    check_proxy_killed(test)
    check_run_killed(test)
    check_sockets(test)
    check_notify(test)
