#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Requests that cover no whole granule, beside granules that are dirty, and
disks that end in the middle of one."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
GRANULE = 65536


class Client:
    """Keeps what the disk should contain."""

    def __init__(self, uri):
        self.h = nbd.NBD()
        self.h.connect_uri(uri)
        self.size = self.h.get_size()
        self.content = bytearray(self.h.pread(self.size, 0))
        self.next = 1

    def write(self, offset, count):
        end = min(offset + count, self.size)
        offset = max(0, offset)
        if offset >= end:
            return
        data = bytes([self.next % 255 + 1]) * (end - offset)
        self.next += 1
        self.h.pwrite(data, offset)
        self.content[offset:end] = data

    def zero(self, offset, count, flags=0):
        end = min(offset + count, self.size)
        offset = max(0, offset)
        if offset >= end:
            return
        self.h.zero(end - offset, offset, flags)
        self.content[offset:end] = bytes(end - offset)

    def check(self, uri):
        assert self.h.pread(self.size, 0) == self.content, "source is wrong"
        h = nbd.NBD()
        h.connect_uri(uri)
        assert h.pread(self.size, 0) == self.content, "target is wrong"
        h.shutdown()


def edges(c, granule):
    """One byte and more at every edge, also of the disk."""
    for at in (0, granule, 3 * granule, 5 * granule, c.size // granule *
               granule, c.size - 1, c.size - 513):
        for offset in (at - 1, at, at + 1):
            if 0 <= offset < c.size:
                c.write(offset, 1)
        c.zero(at + 10, 1)
        c.zero(at + 100, 300, nbd.CMD_FLAG_NO_HOLE)
        c.write(at - 7, 14)
        c.zero(at - 3, 6)
    # Almost two granules, but none whole; then exactly one, and one more.
    c.write(granule + 1, 2 * granule - 2)
    c.zero(6 * granule + 1, 2 * granule - 2)
    c.write(9 * granule, granule)
    c.write(11 * granule - 1, granule + 2)
    # The last, partial one: in part, then whole.
    tail = c.size // granule * granule
    c.write(tail + 1, granule)
    c.zero(tail, granule)
    c.write(tail, granule)


with Test() as t:
    for mode in "background", "write-blocking":
        for granule in (512, GRANULE):
            for size in (1, 511, 512, 513, granule, granule + 1,
                         MIB, MIB + 1, 2 * MIB - 1):
                t.nbdkit("target", "memory", str(size))
                t.mirror("memory", str(size))
                c = Client(t.uri("proxy"))
                # Old content, so that holes cannot hide a lost write.
                c.write(0, size)
                with t.qmp() as qmp:
                    # So slow that all stays dirty meanwhile.
                    qmp.command("blockdev-mirror", job_id="mirror",
                                sync="full", target=t.uri("target"),
                                copy_mode=mode, granularity=granule, speed=1)
                    edges(c, granule)
                    qmp.command("block-job-set-speed", device="mirror",
                                speed=0)
                    t.wait_equal(qmp)
                    t.no_errors(qmp)
                    c.check(t.uri("target"))
                    # Now with all clean.
                    qmp.wait(lambda q: q.job()["ready"], 30 * SLOW)
                    edges(c, granule)
                    t.wait_equal(qmp)
                    t.no_errors(qmp)
                    c.check(t.uri("target"))
                c.h.shutdown()
                t.stop("proxy")
                t.stop("target")
