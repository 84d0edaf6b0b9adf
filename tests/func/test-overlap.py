#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Overlapping writes in flight at once: source and target get the same winner
everywhere, bytes of one request only are its own, and nobody waits for
ever."""

import os
import random
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import ORACLE, SLOW, STRESS, Test  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
SIZE = 4 * MIB
ROUNDS = 300 if STRESS else max(5, 40 // SLOW)


class Clients:
    """One request on each of several connections, sent at once."""

    def __init__(self, uri, count):
        self.handles = []
        for _ in range(count):
            h = nbd.NBD()
            h.connect_uri(uri)
            self.handles.append(h)

    def write_all(self, requests):
        """requests: (start, end, byte), one for each connection."""
        left = []
        for h, (start, end, byte) in zip(self.handles, requests):
            buf = nbd.Buffer.from_bytearray(
                bytearray([byte]) * (end - start))
            left.append((h, h.aio_pwrite(buf, start)))
        deadline = time.monotonic() + 30 * SLOW
        while left:
            for h, cookie in list(left):
                h.poll(2)
                if h.aio_command_completed(cookie):
                    left.remove((h, cookie))
            assert time.monotonic() < deadline, "requests hang: %s" % requests

    def close(self):
        for h in self.handles:
            h.shutdown()


def check(before, after, requests):
    """Each piece has the value of a request that covers it."""
    borders = sorted({0, SIZE} | {b for s, e, _ in requests
                                  for b in (s, e)})
    for start, end in zip(borders, borders[1:]):
        values = {v for s, e, v in requests if s <= start and end <= e}
        piece = after[start:end]
        if not values:
            assert piece == before[start:end], "[%d, %d) has changed" % (
                start, end)
        else:
            assert set(piece) <= values, "[%d, %d) has %s, not of %s" % (
                start, end, set(piece) - values, values)


def random_requests(count):
    requests = []
    for _ in range(count):
        start = random.randrange(SIZE - 1)
        end = min(SIZE, start + random.randrange(1, MIB))
        if random.random() < 0.5:       # same edges are common
            start, end = start // MIB * MIB, -(-end // MIB) * MIB
        requests.append((start, end))
    return requests


def run_rounds(t, qmp, mode):
    clients = Clients(t.uri("proxy"), 5)
    reader = nbd.NBD()
    reader.connect_uri(t.uri("proxy"))
    target = nbd.NBD()
    target.connect_uri(t.uri("target"))
    byte = 0
    for i in range(ROUNDS):
        ranges = [(0, MIB), (0, 2 * MIB), (0, 2 * MIB), (MIB, 3 * MIB)] \
            if i % 2 else random_requests(5)
        requests = []
        for start, end in ranges:
            byte = byte % 255 + 1
            requests.append((start, end, byte))
        before = reader.pread(SIZE, 0)
        clients.write_all(requests)
        after = reader.pread(SIZE, 0)
        check(before, after, requests)
        if mode == "background":
            t.wait_equal(qmp)
        else:
            assert qmp.job()["len"] == qmp.job()["offset"]
        assert target.pread(SIZE, 0) == after, \
            "round %d: not identical after %s" % (i, requests)
    clients.close()
    reader.shutdown()
    target.shutdown()


with Test() as t:
    for mode in "write-blocking", "background":
        t.nbdkit("target", "--filter=delay", "memory", str(SIZE),
                 "wdelay=3ms")
        t.mirror("--filter=delay", "memory", str(SIZE), "wdelay=5ms",
                 "mirror-copy-mode=" + mode,
                 "mirror-target=" + t.uri("target"))
        with t.qmp() as qmp:
            qmp.wait(lambda q: q.job()["ready"], 30 * SLOW)
            run_rounds(t, qmp, mode)
            # Many more, of all kinds; each read is checked.
            subprocess.run(
                [ORACLE, "--overlap", "--connections=4", "--depth=8",
                 "--ops=%d" % (20000 if STRESS else 2000 // SLOW),
                 t.uri("proxy")], check=True, timeout=300 * SLOW)
            t.wait_equal(qmp)
            assert t.compare("proxy", "target")
        t.stop("proxy")
        t.stop("target")
