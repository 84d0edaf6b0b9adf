#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A target that hangs while clients wait for it: the control socket answers
at once all the same, and a word of it sets the clients free."""

import os
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

SIZE = 4 << 20
AT_ONCE = 2.0 * SLOW            # seconds; the hang has no end
QUIT = 2 + 3 * SLOW             # seconds; two are documented


def at_once(q, name, **arguments):
    begin = time.monotonic()
    result = q.command(name, **arguments)
    took = time.monotonic() - begin
    assert took < AT_ONCE, "%s took %.2f s" % (name, took)
    return result


def queries(q):
    assert at_once(q, "query-jobs")
    assert at_once(q, "query-block-jobs")
    assert at_once(q, "query-mirror")["job"]
    assert at_once(q, "query-version")


def start(t, size=SIZE):
    # One thread: nbdkit 1.32 aborts when a client hangs up on it with several
    # requests in flight.
    target = t.nbdkit("target", "-t", "1", "memory", str(size))
    t.mirror("memory", str(size))
    return target


def ready(t, q, mode="write-blocking"):
    q.command("blockdev-mirror", job_id="m", sync="full",
              target=t.uri("target"), copy_mode=mode)
    q.wait(lambda q: q.job()["ready"], 30 * SLOW)


def hang(target, q, load):
    """Until all of that load's requests are stuck."""
    load.more(20)
    target.send_signal(signal.SIGSTOP)
    seen = [0, load.count()]

    def stuck():
        seen[0] = seen[0] + 1 if load.count() == seen[1] else 0
        seen[1] = load.count()
        at_once(q, "query-mirror")
        return seen[0] >= 30
    wait_for(stuck, "clients do not wait for the target")


def cont(target):
    target.send_signal(signal.SIGCONT)


def steering(t):
    """All that can be said to a job is answered."""
    target = start(t)
    load = t.load("load", "--connections=2", "--depth=3", "--max-size=32K",
                  "--weights=write=1", "--length=1M", "--seed=5")
    with t.qmp(timeout=60 * SLOW) as q:
        ready(t, q)
        hang(target, q, load)
        queries(q)
        at_once(q, "block-job-set-speed", device="m", speed=1 << 20)
        at_once(q, "mirror-set", speed=0, max_pause=100)
        at_once(q, "job-pause", id="m")
        queries(q)
        at_once(q, "job-resume", id="m")
        queries(q)
        cont(target)
        load.more(50)
        load.stop()
        t.wait_equal(q)
        assert t.compare("proxy", "target")
    t.stop("proxy")
    t.stop("target")


def to_background(t):
    """Who writes from then on does not wait, and the others get through as
    soon as the target answers."""
    target = start(t)
    load = t.load("load", "--connections=2", "--depth=3", "--max-size=32K",
                  "--weights=write=1", "--length=1M", "--seed=6")
    with t.qmp(timeout=60 * SLOW) as q:
        ready(t, q)
        hang(target, q, load)
        at_once(q, "block-job-change", id="m", type="mirror",
                copy_mode="background")
        assert at_once(q, "query-mirror")["job"]["teeing"] is False
        other = nbd.NBD()
        other.connect_uri(t.uri("proxy"))
        begin = time.monotonic()
        for i in range(200):
            data = bytes([i + 1]) * 10000
            other.pwrite(data, (2 << 20) + 5000 * i)
            assert other.pread(10000, (2 << 20) + 5000 * i) == data
        other.zero(2 << 20, 2 << 20)    # as the load expects it
        other.shutdown()
        assert time.monotonic() - begin < 3 * AT_ONCE
        queries(q)
        cont(target)
        load.more(50)
        load.stop()
        t.wait_equal(q)
        assert t.compare("proxy", "target")
    t.stop("proxy")
    t.stop("target")


def cancel(t):
    """Clients are free before the target answers."""
    target = start(t)
    load = t.load("load", "--connections=2", "--depth=3", "--max-size=32K",
                  "--seed=8")
    with t.qmp(timeout=60 * SLOW) as q:
        ready(t, q)
        hang(target, q, load)
        begin = time.monotonic()
        at_once(q, "block-job-cancel", device="m", force=True)
        load.more(100)
        q.wait_event("BLOCK_JOB_CANCELLED", 30 * SLOW)
        q.wait(lambda q: q.job() is None, 30 * SLOW)
        took = time.monotonic() - begin
        assert took < 3 * SLOW, "the end took %.1f s" % took
        load.stop()
        cont(target)
        # The same target again.
        ready(t, q)
        assert t.compare("proxy", "target")
    t.stop("proxy")
    t.stop("target")


def gone(server, begin, bound, what):
    try:
        status = server.wait(60 * SLOW)
    except subprocess.TimeoutExpired:
        raise AssertionError(what + ": it does not end") from None
    took = time.monotonic() - begin
    print("%s: gone after %.2f s" % (what, took))
    assert status == 0, "%s: status %d" % (what, status)
    assert took < bound, "%s: it took %.1f s" % (what, took)


def quit_hung(t):
    """An idle client, clients that wait for the target, and quit."""
    target = start(t)
    server = t.servers["proxy"]
    idle = nbd.NBD()
    idle.connect_uri(t.uri("proxy"))
    load = t.load("load", "--connections=2", "--depth=3", "--max-size=32K",
                  "--allow-errors", "--seed=9")
    with t.qmp(timeout=60 * SLOW) as q:
        ready(t, q)
        hang(target, q, load)
        begin = time.monotonic()
        at_once(q, "quit")
        gone(server, begin, QUIT, "quit")
    del t.servers["proxy"]
    load.lost()
    assert not os.path.exists(t.path("ctl.sock"))
    cont(target)
    t.stop("target")


def term_hung(t):
    """SIGTERM frees those who wait, and ends when the clients leave."""
    target = start(t)
    server = t.servers["proxy"]
    idle = nbd.NBD()
    idle.connect_uri(t.uri("proxy"))
    load = t.load("load", "--connections=2", "--depth=3", "--max-size=32K",
                  "--allow-errors", "--seed=10")
    with t.qmp(timeout=60 * SLOW) as q:
        ready(t, q)
        hang(target, q, load)
        server.terminate()
        # nbdkit ends connections after the request that is being done.
        load.lost()
        begin = time.monotonic()
        idle.shutdown()
        gone(server, begin, QUIT, "SIGTERM")
    del t.servers["proxy"]
    assert not os.path.exists(t.path("ctl.sock"))
    cont(target)
    t.stop("target")


def first_connection(t, how):
    """The end while a target is being connected that never says a word."""
    hole = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    hole.bind(t.path("hole.sock"))
    hole.listen(10)
    server = t.mirror("memory", str(SIZE))
    with t.qmp(timeout=60 * SLOW) as q, t.qmp() as other:
        q.send({"execute": "blockdev-mirror", "arguments": {
            "sync": "full", "target": t.uri("hole")}})
        peer, _ = hole.accept()
        begin = time.monotonic()
        if how == "quit":
            other.command("quit")
        else:
            server.terminate()
        gone(server, begin, QUIT, how + ", connecting")
    del t.servers["proxy"]
    peer.close()
    hole.close()
    os.unlink(t.path("hole.sock"))


with Test() as t:
    steering(t)
    to_background(t)
    cancel(t)
    quit_hung(t)
    term_hung(t)
    for how in ("quit", "SIGTERM"):
        first_connection(t, how)
