#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The end flushes the disk that clients have: the source, by quit and by
SIGTERM, with and without a mirror; and after a pivot a server that hangs holds
nobody up, neither clients for longer than they were told nor the end."""

import errno
import os
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, freeze, wait_for  # noqa: E402

import nbd  # noqa: E402

SIZE = 1 << 20
TIMEOUT = 3                     # mirror-target-timeout, seconds
QUIT = 6 + 4 * SLOW             # seconds, all of the end of one that hangs


def client(t, name="proxy"):
    h = nbd.NBD()
    h.connect_uri(t.uri(name))
    return h


def ended(t, name="proxy"):
    process = t.servers.pop(name)
    status = t.ended(process)
    assert status == 0, "status %d" % status


def flushes(t):
    """Of the source, in the order of its requests."""
    with open(t.path("source.log"), encoding="utf-8") as f:
        lines = [x for x in f if " Write " in x or " Flush " in x]
    return ["F" if " Flush " in x else "W" for x in lines]


def at_the_end(how, mirror):
    with Test() as t:
        t.nbdkit("source", "--filter=log", "memory", str(SIZE),
                 "logfile=" + t.path("source.log"))
        args = []
        if mirror:
            t.nbdkit("target", "memory", str(SIZE))
            args = ["mirror-target=" + t.uri("target")]
        t.mirror("nbd", "socket=" + t.path("source.sock"), *args)
        h = client(t)
        with t.qmp() as q:
            if mirror:
                q.wait(lambda q: q.job()["ready"], 30 * SLOW)
            h.pwrite(b"x" * 512, 0)
            h.shutdown()
            assert "W" in flushes(t)
            before = flushes(t)
            if how == "quit":
                q.command("quit")
            else:
                t.servers["proxy"].terminate()
            ended(t)
        seen = flushes(t)
        assert seen[-1] == "F" and len(seen) == len(before) + 1, seen
        t.stop("source")
        if mirror:
            t.stop("target")


def fails_at_the_end(how):
    """The status is 0 all the same; the log says it."""
    with Test() as t:
        t.mirror("eval", "get_size=echo %d" % SIZE, "can_write=exit 0",
                 "can_flush=exit 0", "thread_model=echo parallel",
                 "pread=head -c $3 /dev/zero",
                 "pwrite=cat >/dev/null", "flush=echo EIO >&2; exit 1")
        with t.qmp() as q:
            if how == "quit":
                q.command("quit")
            else:
                t.servers["proxy"].terminate()
            ended(t)
        with open(t.path("proxy.log"), encoding="utf-8") as f:
            assert f.read().count("mirror: flushing the source at the end: "
                                  "Input/output error") == 1


def pivoted(t):
    """The clients have another disk, whose server is stopped."""
    t.nbdkit("target", "-t", "1", "memory", str(SIZE))
    t.mirror("memory", str(SIZE), "mirror-target=" + t.uri("target"),
             "mirror-target-timeout=%d" % TIMEOUT)
    h = client(t)
    q = t.qmp(timeout=60 * SLOW)
    q.wait(lambda q: q.job()["ready"], 30 * SLOW)
    q.command("block-job-complete", device="mirror")
    q.wait(lambda q: q.mirror()["pivoted"], 30 * SLOW)
    h.pwrite(b"y" * 512, 0)
    freeze(t.servers["target"].pid)
    return h, q


def begin_write(h):
    result = []
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"z" * 512)), 512,
                 completion=lambda e: result.append(e.value) or 1)
    return result


def finish(h, result):
    deadline = time.monotonic() + 60 * SLOW
    while not result and time.monotonic() < deadline:
        h.poll(20)
    assert result, "a request hangs"
    return result[0]


def hung_disk():
    """A request waits for the time-out; then the server counts as lost, and is
    found again when it goes on."""
    with Test() as t:
        h, q = pivoted(t)
        begin = time.monotonic()
        assert finish(h, begin_write(h)) == errno.EIO
        took = time.monotonic() - begin
        print("a write to a disk that hangs fails after %.1f s" % took)
        assert TIMEOUT <= took < 3 * TIMEOUT + SLOW, took
        q.wait(lambda q: q.mirror()["target"]["state"] == "offline", 30 * SLOW)
        t.servers["target"].send_signal(signal.SIGCONT)
        q.wait(lambda q: q.mirror()["target"]["state"] == "pivoted", 60 * SLOW)
        assert h.pread(512, 0) == b"y" * 512
        h.pwrite(b"w" * 512, 1024)
        h.shutdown()
        q.close()


def stopped_for_long():
    """It was not the disk but the proxy that did not run: nothing fails."""
    with Test() as t:
        h, q = pivoted(t)
        result = begin_write(h)
        for _ in range(5):
            h.poll(20)
        proxy = t.servers["proxy"]
        freeze(proxy.pid)
        t.servers["target"].send_signal(signal.SIGCONT)
        # What is waited for is that so much time has passed.
        until = time.monotonic() + TIMEOUT + 1
        wait_for(lambda: time.monotonic() >= until, "time", 60)
        proxy.send_signal(signal.SIGCONT)
        assert finish(h, result) == 0
        assert q.mirror()["target"]["reconnects"] == 0
        h.shutdown()
        q.close()


def end_hung(how, writing):
    with Test() as t:
        h, q = pivoted(t)
        result = begin_write(h) if writing else None
        if writing:
            for _ in range(5):
                h.poll(20)
        begin = time.monotonic()
        proxy = t.servers["proxy"]
        if how == "quit":
            q.command("quit")
        else:
            proxy.terminate()
            if writing:
                assert finish(h, result) != 0, "it cannot have been written"
            del h               # closes it, whatever its state
        ended(t)
        took = time.monotonic() - begin
        print("%s%s: gone after %.1f s" % (how, ", a request waits" if writing
                                           else "", took))
        bound = QUIT + (3 * TIMEOUT if not writing else 0)
        assert took < bound, "%s took %.1f s" % (how, took)
        q.close()


for end in ("quit", "SIGTERM"):
    for mirror in (False, True):
        at_the_end(end, mirror)
    fails_at_the_end(end)
    for waits in (False, True):
        end_hung(end, waits)
hung_disk()
stopped_for_long()
