#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Sources of all sizes, from nothing to 2^62 bytes, in both modes."""

import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, SLOW, STRESS, Test  # noqa: E402

import nbd  # noqa: E402

NBDFSX = os.path.join(BUILD, "tests/lib/nbdfsx")
MODES = ("background", "write-blocking")
OPS = 20000 if STRESS else max(300 // SLOW, 50)
GIB = 1 << 30


def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def start(t, qmp, mode, sync="full"):
    qmp.command("blockdev-mirror", job_id="mirror", sync=sync,
                target=t.uri("target"), copy_mode=mode)


def wait_ready(qmp):
    qmp.wait(lambda q: q.job()["ready"], 120 * SLOW)


def servers(t, size):
    t.nbdkit("target", "memory", str(size))
    t.mirror("memory", str(size))


def stop(t):
    t.stop("proxy")
    t.stop("target")


def small(t, size):
    """Random operations on all of it."""
    for seed, mode in enumerate(MODES):
        servers(t, size)
        with t.qmp() as qmp:
            settle = ("%s %s/tests/lib/qmp.py %s wait %d 'j and j[\"ready\"] "
                      "and j[\"len\"] == j[\"offset\"]'" % (
                          sys.executable, os.environ["top_srcdir"],
                          t.path("ctl.sock"), 60 * SLOW))
            for n in range(2):          # before it is ready, and then
                if n == 0:
                    start(t, qmp, mode)
                r = subprocess.run(
                    [NBDFSX, "--ops=%d" % OPS, "--seed=%d" % (2 * seed + n),
                     "--edge=512", "--shrink-seconds=0",
                     "--settle=" + settle, t.uri("proxy"), t.uri("target")],
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    check=False, timeout=120 * SLOW)
                assert r.returncode == 0, "%d bytes, %s: %s" % (
                    size, mode, r.stdout.decode())
            job = qmp.job()
            assert job["len"] == job["offset"] >= 0 and job["ready"], job
            assert qmp.mirror()["source"]["size"] == size
            t.cancel(qmp)
        stop(t)


def places(size):
    """Where a 32 bit number, or a limit of the protocol, would break."""
    at = [0, 1, 65535, size // 2, size - 70000, size - 1]
    for n in (1 << 31, 1 << 32):
        at += [n - 3, n - 65536, n]
    return [a for a in at if a < size]


def fill(h, size, salt):
    for i, offset in enumerate(places(size)):
        n = min(5000, size - offset)
        h.pwrite(bytes([(salt + i) % 255 + 1]) * n, offset)


def same(a, b, size):
    """Near the places; mirrorcmp sees to the rest where it can."""
    for offset in places(size):
        first = max(0, offset - 8000)
        n = min(16000, size - first)
        assert a.pread(n, first) == b.pread(n, first), "at %d" % offset


def large(t, size):
    for mode in MODES:
        servers(t, size)
        h = connect(t.uri("proxy"))
        fill(h, size, 1)
        with t.qmp() as qmp:
            start(t, qmp, mode)
            wait_ready(qmp)
            t.wait_equal(qmp)
            target = connect(t.uri("target"))
            same(h, target, size)
            assert t.compare("proxy", "target"), "%d: not identical" % size
            fill(h, size, 100)
            h.zero(min(size, (1 << 32) - 4096), 0)
            h.zero(65536, size - 65536)
            h.pwrite(b"z", size - 1)
            h.trim(GIB, size // 2)
            t.wait_equal(qmp)
            same(h, target, size)
            assert t.compare("proxy", "target"), "%d: not identical" % size
            t.cancel(qmp)
            target.shutdown()
        h.shutdown()
        stop(t)


def huge(t, size):
    """A full pass is not feasible, but nothing else takes its time."""
    for mode in MODES:
        servers(t, size)
        h = connect(t.uri("proxy"))
        with t.qmp() as qmp:
            begin = time.monotonic()
            start(t, qmp, mode, "none")
            wait_ready(qmp)
            took = time.monotonic() - begin
            assert took < 3 * SLOW, "sync=none: ready after %.1f s" % took
            target = connect(t.uri("target"))
            fill(h, size, 7)
            h.zero(1000, size - 1000)
            t.wait_equal(qmp)
            same(h, target, size)
            target.shutdown()
            t.cancel(qmp)

            start(t, qmp, mode)
            scanned = qmp.wait(lambda q: size - q.mirror()["unscanned-bytes"],
                               60 * SLOW)
            assert scanned < size, "2^62 bytes are scanned already"
            # Clients are served meanwhile.
            fill(h, size, 9)
            begin = time.monotonic()
            t.cancel(qmp)
            took = time.monotonic() - begin
            assert took < 3 * SLOW, "cancelled after %.1f s" % took
        h.shutdown()
        stop(t)


with Test() as test:
    for s in (0, 1, 511, 513, (1 << 20) + 1):
        small(test, s)
    for s in ((1 << 32) - 1, (1 << 32) + 1):
        large(test, s)
    huge(test, 1 << 62)
