#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The socket as a file, who may connect, how many, and who does not read."""

import fcntl
import os
import select
import socket
import stat
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

NOBODY = 65534


def refused(t, path, *words):
    """nbdkit does not start, and says why in one line."""
    run = subprocess.run(
        ["nbdkit", "-f", "-U", t.path("x.sock"), "--filter=mirror",
         "memory", "1M", "mirror-control=" + path],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=60 * SLOW, check=False)
    text = run.stdout.decode("utf-8", "replace")
    assert run.returncode == 1, (path, run.returncode, text)
    lines = [line for line in text.split("\n") if "mirror-control" in line]
    assert len(lines) == 1, text
    for word in words:
        assert word in lines[0], (word, lines[0])
    if os.path.exists(t.path("x.sock")):
        os.unlink(t.path("x.sock"))


def has_open(pid, path):
    """Has the process opened that file?"""
    fds = "/proc/%d/fd" % pid
    for fd in os.listdir(fds):
        try:
            if os.readlink(os.path.join(fds, fd)) == path:
                return True
        except FileNotFoundError:
            pass
    return False


def peer_is_served(path):
    """Run by a child: is there a greeting?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(30)
        s.connect(path)
        try:
            return s.recv(100) != b""
        except ConnectionResetError:
            return False


def as_user(uid, path):
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            status = 0 if peer_is_served(path) else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


with Test() as t:
    path = t.path("ctl.sock")

    # A dead socket is replaced, whatever the umask.
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(path)
    dead.close()
    os.chmod(path, 0o777)
    before = os.stat(path).st_ino
    old = os.umask(0)
    t.mirror("memory", "1M")
    os.umask(old)
    st = os.stat(path)
    assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o600, \
        oct(st.st_mode)

    # A live one is not.
    refused(t, path, path, "another server is listening")
    assert os.stat(path).st_ino == st.st_ino
    with t.qmp() as q:
        assert q.greeting

    # Nor is anything else, and it is not touched.
    for name, make in (("file", lambda p: open(p, "w").close()),
                       ("dir", os.mkdir), ("fifo", os.mkfifo),
                       ("link", lambda p: os.symlink(path, p)),
                       ("loose", lambda p: os.symlink("/nonexistent", p))):
        make(t.path(name))
        before = os.lstat(t.path(name))
        refused(t, t.path(name), t.path(name), "not a socket")
        after = os.lstat(t.path(name))
        assert (before.st_ino, before.st_mode, before.st_mtime_ns) == \
            (after.st_ino, after.st_mode, after.st_mtime_ns), name
    refused(t, t.path("nodir/x.sock"), t.path("nodir/x.sock"))
    refused(t, t.path("x" * 120), "107")

    # Between looking at a dead socket and binding nobody may come: it is done
    # under a lock on the directory.
    os.mkdir(t.path("locked"))
    locked = t.path("locked/x.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(locked)
    directory = os.open(t.path("locked"), os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    run = subprocess.Popen(
        ["nbdkit", "-f", "-U", t.path("x.sock"), "--filter=mirror",
         "memory", "1M", "mirror-control=" + locked],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: has_open(run.pid, t.path("locked")),
             "the directory is not opened")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as live:
        os.unlink(locked)
        live.bind(locked)
        live.listen(1)
        os.close(directory)
        assert run.wait(60 * SLOW) == 1, "a live socket was replaced"

    # Of two that start at once on a dead socket, one is refused.
    both = t.path("both.sock")
    for _ in range(5):
        if os.path.exists(both):
            os.unlink(both)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(both)
        pids = [t.path("both%d.pid" % i) for i in (0, 1)]
        runs = [subprocess.Popen(
            ["nbdkit", "-f", "-P", pid, "-U", pid + ".sock",
             "--filter=mirror", "memory", "1M", "mirror-control=" + both],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for pid in pids]
        wait_for(lambda: all(r.poll() is not None or os.path.exists(p)
                             for r, p in zip(runs, pids)),
                 "neither started", 30)
        alive = [r for r in runs if r.poll() is None]
        assert len(alive) == 1, "servers on one socket: %d" % len(alive)
        assert peer_is_served(both)
        alive[0].terminate()
        assert alive[0].wait(30 * SLOW) == 0
        assert not os.path.exists(both), "the socket was left behind"
        for name in pids + [p + ".sock" for p in pids]:
            if os.path.exists(name):
                os.unlink(name)

    # Only root and the owner are served, also where the mode is wide open.
    if os.getuid() == 0:
        os.chmod(t.tmp, 0o711)
        assert as_user(NOBODY, path) == 2, "mode 0600 let somebody in"
        os.chmod(path, 0o777)
        assert as_user(NOBODY, path) == 1, "a stranger is served"
        assert as_user(0, path) == 0
        os.chmod(path, 0o600)

    # 64 clients, not one more; when one goes there is room again.
    clients = [t.qmp() for _ in range(64)]
    for q in clients:
        assert q.command("query-jobs") == []
    assert not peer_is_served(path), "a 65th client is served"
    clients.pop().close()
    wait_for(lambda: peer_is_served(path), "no room again")
    for q in clients:
        assert q.command("query-jobs") == []
        q.close()

    # One that does not read its events is dropped, and nobody else.
    t.nbdkit("target", "memory", "1M")
    lazy = t.qmp()
    hangup = select.poll()
    hangup.register(lazy.sock, 0)
    with t.qmp() as q, t.qmp() as reader:
        for i in range(2000):
            q.command("blockdev-mirror", target=t.uri("target"), sync="full")
            q.command("job-cancel", id="mirror")
            q.wait_event("JOB_STATUS_CHANGE", 30 * SLOW, status="null")
            reader.wait_event("JOB_STATUS_CHANGE", 30 * SLOW, status="null")
            gone = hangup.poll(0)
            if gone:
                break
        assert gone, "%d events are kept for who does not read" % (i * 8)
        assert q.command("query-jobs") == []
        assert reader.command("query-jobs") == []
    lazy.close()

    # Removed at the end, but only if it is still ours.
    t.stop("proxy")
    assert not os.path.exists(path)
    t.mirror("memory", "1M")
    os.rename(path, t.path("moved.sock"))
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    other.bind(path)
    t.stop("proxy")
    assert os.path.exists(path), "somebody else's socket was removed"

    # quit: answered, and then the process ends.
    os.unlink(path)
    server = t.mirror("memory", "1M")
    with t.qmp() as q:
        q.send({"execute": "quit", "id": "bye"})
        assert q.receive() == {"return": {}, "id": "bye"}
        try:
            while True:
                q.receive()
        except (EOFError, ConnectionResetError):
            pass
    assert server.wait(30 * SLOW) == 0
    del t.servers["proxy"]
    assert not os.path.exists(path)
