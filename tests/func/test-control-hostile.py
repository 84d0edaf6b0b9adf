#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients of the control socket that mean harm: NBD clients go on all the
while, memory and descriptors stay what they were, and the socket answers
afterwards."""

import array
import fcntl
import json
import os
import resource
import select
import signal
import socket
import sys
import termios
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test, wait_for  # noqa: E402

MIB = 1 << 20
NEGOTIATE = b'{"execute": "qmp_capabilities"}'
SOON = 2 * SLOW                 # seconds: nothing waits for anything


def rss(pid):
    """Resident bytes."""
    with open("/proc/%d/statm" % pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def control_cpu(pid):
    """Seconds that the control socket's thread has run."""
    for task in os.listdir("/proc/%d/task" % pid):
        path = "/proc/%d/task/%s/" % (pid, task)
        try:
            with open(path + "comm", encoding="ascii") as f:
                name = f.read().strip()
            with open(path + "stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        if name == "mirror-control":
            return (int(fields[11]) + int(fields[12])) / os.sysconf(
                "SC_CLK_TCK")
    raise AssertionError("there is no control thread")


def raw(t, blocking=True):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.setblocking(blocking)
    s.connect(t.path("ctl.sock"))
    if blocking:
        s.settimeout(30 * SLOW)
    return s


def answers(t):
    """Somebody else is served at once."""
    begin = time.monotonic()
    with t.qmp(timeout=30 * SLOW) as q:
        assert q.command("query-mirror")["source"]["size"] == MIB
        assert q.command("query-version")["qemu"]["major"] == 10
    took = time.monotonic() - begin
    assert took < SOON, "an answer took %.1f s" % took


def unread(s):
    """Bytes that the other side has not taken yet."""
    n = array.array("i", [0])
    fcntl.ioctl(s, termios.TIOCOUTQ, n)
    return n[0]


def until_closed(s):
    """All that comes; the errors in it."""
    data = b""
    try:
        while True:
            more = s.recv(1 << 16)
            if not more:
                break
            data += more
    except ConnectionResetError:
        pass
    s.close()
    return [m["error"]["desc"] for m in map(json.loads, data.splitlines())
            if "error" in m]


def endless(t):
    """Input without an end gets one error, and the connection is closed."""
    for head, body in ((b"", b"[" * 65536), (b"", b'{"a":' * 8192),
                       (b'{"execute": "', b"x" * 65536),
                       (b'{"execute": "query-jobs"', b" " * 65536),
                       (b'{"execute": "query-jobs", "arguments": {',
                        b"".join(b'"k%d": 0, ' % i for i in range(9000))),
                       (b'{"execute": "query-jobs", "id": [', b"0, " * 20000),
                       (b"", b"9" * 65536)):
        s = raw(t)
        s.sendall(head + body * 8)
        s.shutdown(socket.SHUT_WR)
        errors = until_closed(s)
        assert len(errors) == 1, (head, errors)
        assert "65536" in errors[0] or "depth" in errors[0], (head, errors)
    # What comes after the error is thrown away for a moment only.
    s = raw(t)
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < 10 * SLOW:
            s.sendall(b"[" * 65536)
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert time.monotonic() - begin < 10 * SLOW, "it is read for ever"
    s.close()
    # White space between commands has no limit, and costs nothing.
    s = raw(t)
    s.sendall(NEGOTIATE)
    for _ in range(64):
        s.sendall(b" \r\n\t" * 16384)
    s.sendall(b'{"execute": "query-jobs", "id": 7}')
    s.shutdown(socket.SHUT_WR)
    data = b"".join(iter(lambda: s.recv(65536), b""))
    assert b'"id": 7' in data, data[-200:]
    s.close()


def nonsense(t):
    """Values that no one would send.  Each is an error, by name if it can."""
    # Without jobs the numbers of blockdev-mirror come first.
    numbers = ("-1", "9223372036854775807", "-9223372036854775808",
               "9223372036854775808", "1e308", "1e309", "-0.0", "0.5",
               "9" * 400, "null", "[]", "{}", '"1"', "true")
    with t.qmp(timeout=30 * SLOW) as q:
        for n in numbers:
            for name in ("granularity", "buf-size", "connections",
                         "max-pause"):
                q.send(b'{"execute": "blockdev-mirror", "arguments": '
                       b'{"target": "nbd+unix:///?socket=/nonexistent", '
                       b'"sync": "full", "%s": %s}}'
                       % (name.encode(), n.encode()))
                answer = q.receive()
                assert "error" in answer, (name, n, answer)
                desc = answer["error"]["desc"]
                assert name in desc or "JSON" in desc, (name, n, desc)
            q.send(b'{"execute": "mirror-hold", "arguments": '
                   b'{"timeout": %s}}' % n.encode())
            assert "error" in q.receive(), n
        for data in (b'{"execute": "query-jobs", "execute": "query-jobs"}',
                     b'{"execute": "job-pause", "arguments": '
                     b'{"id": "a", "id": "b"}}',
                     b'{"execute": "query-jobs", "id": 1, "id": 2}',
                     b'{"execute": "query-jobs", "id": {"a": 1, "a": 2}}',
                     b'{"execute": "job-pause", "arguments": '
                     b'{"id": "a\x00b"}}\n',
                     b'{"execute": "job-pause", "arguments": '
                     b'{"id": "a\\u0000b"}}',
                     b'{"execute": "job-pause", "arguments": '
                     b'{"id": "\xf8\x88\x80\x80\x80"}}\n',
                     b'{"execute": "job-pause", "arguments": '
                     b'{"id": "a\\u001b[2J\\nb"}}',
                     b'{"execute": "job-pause", "arguments": {"id": "'
                     + b"x" * 60000 + b'"}}'):
            q.send(data)
            answer = q.receive()
            assert "error" in answer, (data, answer)
            assert all(" " <= c != "\x7f" for c in answer["error"]["desc"]), \
                (data, answer)
        assert q.command("query-jobs") == []


def storm(t):
    """Connect and close, with and without having said something."""
    done = []

    def run(seed):
        said = (b"", b"{", NEGOTIATE, NEGOTIATE + b'{"execute": "qu',
                NEGOTIATE + b'{"execute": "query-mirror"}' * 20, b"\xff\0")
        for i in range(100 if SLOW > 1 else 250):
            s = raw(t)
            try:
                s.sendall(said[(i + seed) % len(said)])
            except (BrokenPipeError, ConnectionResetError):
                pass            # the 65th, maybe
            s.close()
        done.append(seed)
    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert len(done) == 4


def thousand(t):
    """A thousand attempts at once, next to those who are served."""
    with t.qmp(timeout=30 * SLOW) as q:
        clients = []
        for _ in range(1000):
            try:
                clients.append(raw(t, blocking=False))
            except BlockingIOError:     # the queue is full
                pass
        assert clients
        assert q.command("query-jobs") == []
        for s in clients:
            s.close()
        assert q.command("query-jobs") == []


def queue(t, pid):
    """Who has come and gone in the queue keeps nobody out."""
    os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(64):
            raw(t).close()
        last = raw(t)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert b"QMP" in last.recv(4096), "refused because of those who have gone"
    last.close()


def hung_up(sockets):
    poll = select.poll()
    for s in sockets:
        poll.register(s, 0)
    return len(poll.poll(0))


def deaf(t, pid):
    """Who does not read is not read from; who has 1000 events waiting is
    closed.  What is kept for all of them is bounded."""
    before = rss(pid)
    command = b'{"execute": "query-commands"}' * 100
    with t.qmp(timeout=30 * SLOW) as q:
        deaf_ones, talkers = [], []
        for _ in range(20):
            s = raw(t)
            s.sendall(NEGOTIATE)
            deaf_ones.append(s)
            s = raw(t)
            s.sendall(NEGOTIATE)
            talkers.append(s)
        for s in talkers:
            s.setblocking(False)
            try:
                while True:
                    s.send(command)
            except BlockingIOError:
                pass
        q.command("blockdev-mirror", target=t.uri("target"), sync="full",
                  copy_mode="write-blocking")
        q.wait(lambda q: q.job()["ready"], 30 * SLOW)
        for i in range(5000):
            q.command("job-pause", id="mirror")
            q.command("job-resume", id="mirror")
            q.events.clear()
            if hung_up(deaf_ones) == len(deaf_ones):
                break
        assert hung_up(deaf_ones) == len(deaf_ones), \
            "%d events are kept" % (2 * i)
        assert i >= 450, "closed after %d events" % (2 * i)
        assert hung_up(talkers) == 20, "talkers are kept for all events"
        grown = rss(pid) - before
        assert SLOW > 1 or grown < 64 * MIB, "grown by %d KiB" % (grown >> 10)
        for s in deaf_ones + talkers:
            s.close()
        t.cancel(q)


def black_hole(t):
    """A listening socket at which nobody ever says a word."""
    path = t.path("hole.sock")
    if os.path.exists(path):
        os.unlink(path)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    s.bind(path)
    s.listen(200)
    return s


def abandoned(t, pid):
    """Commands in flight whose clients are gone."""
    fds = descriptors(pid)
    hole = black_hole(t)
    clients = []
    start = json.dumps({"execute": "blockdev-mirror", "arguments": {
        "target": t.uri("hole"), "sync": "full"}}).encode()
    for i in range(40):
        s = raw(t)
        s.sendall(NEGOTIATE + start + start)
        clients.append(s)
    wait_for(lambda: descriptors(pid) >= fds + 2 * len(clients),
             "the commands do not wait")
    half = clients[0]
    half.shutdown(socket.SHUT_WR)
    for s in clients[1:]:
        s.close()
    answers(t)
    # No second one comes for a client that is gone; the half-closed one gets
    # both its answers.
    hole.close()
    errors = until_closed(half)
    assert len(errors) == 2, errors
    wait_for(lambda: descriptors(pid) <= fds, "descriptors leak")

    # One who wants a barrier: it stands nevertheless, until it is released.
    with t.qmp(timeout=30 * SLOW) as q:
        q.command("blockdev-mirror", target=t.uri("target"), sync="full")
        q.wait_event("BLOCK_JOB_READY", 30 * SLOW)
        gone = t.qmp(timeout=30 * SLOW)
        gone.send({"execute": "mirror-hold", "arguments": {"timeout": 300}})
        wait_for(lambda: unread(gone.sock) == 0, "the command is not read")
        gone.close()
        q.wait(lambda q: q.mirror()["held"], 30 * SLOW)
        answers(t)
        assert q.command("mirror-release")["held-us"] > 0
        t.cancel(q)


def exhausted(t, pid, load):
    """No descriptors: who is there is served, others wait, nothing spins."""
    with t.qmp(timeout=30 * SLOW) as q:
        fds = descriptors(pid)
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (fds + 3, limits[1]))
        clients = [raw(t) for _ in range(30)]
        wait_for(lambda: descriptors(pid) >= fds + 3, "none is accepted")
        why = q.refused("blockdev-mirror", target=t.uri("target"),
                        sync="full")
        assert t.uri("target")[-10:] in why or "open files" in why, why
        load.more(20)
        cpu, begin = control_cpu(pid), time.monotonic()
        load.more(300)
        used = control_cpu(pid) - cpu
        took = time.monotonic() - begin
        assert used <= 0.05 + took / 10, \
            "%.2f s of CPU in %.2f s" % (used, took)
        assert q.command("query-jobs") == []
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for s in clients:
            assert b"QMP" in s.recv(4096)
            s.close()
        wait_for(lambda: descriptors(pid) <= fds, "descriptors leak")


with Test() as t:
    t.nbdkit("target", "memory", str(MIB))
    pid = t.mirror("memory", str(MIB)).pid
    load = t.load("load", "--connections=2", "--depth=2", "--max-size=16K",
                  "--iops=400", "--seed=3")
    load.more(20)
    answers(t)
    fds = descriptors(pid)
    sizes = []
    for _ in range(20 if STRESS else 3):
        for name, attack in (
                ("endless", lambda: endless(t)),
                ("nonsense", lambda: nonsense(t)),
                ("storm", lambda: storm(t)),
                ("thousand", lambda: thousand(t)),
                ("queue", lambda: queue(t, pid)),
                ("deaf", lambda: deaf(t, pid)),
                ("abandoned", lambda: abandoned(t, pid)),
                ("exhausted", lambda: exhausted(t, pid, load))):
            begin = time.monotonic()
            attack()
            print("%s %.1f s" % (name, time.monotonic() - begin))
            answers(t)
            load.more(10, 10)
        wait_for(lambda: descriptors(pid) <= fds, "descriptors leak")
        sizes.append(rss(pid))
    print("resident KiB after each round:", [n >> 10 for n in sizes])
    # The arenas of malloc fill up at first.
    grown = sizes[-1] - sizes[len(sizes) // 2]
    assert SLOW > 1 or grown < 6 * MIB, "memory leaks"
    load.stop()
