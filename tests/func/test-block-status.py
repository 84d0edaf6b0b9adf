#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The largest block status request there is, of a disk that is one extent and
of one that is not: without a job, with one, and after a pivot.  It is answered,
and the server lives (nbdkit before 1.43.7 aborts if it is told of an extent
that is longer than that)."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 8 << 30
LARGEST = (1 << 32) - 1
DATA = 5 << 30                  # where there is some, if anywhere
BLOCK = 64 << 10


def client(t):
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(t.uri("proxy"))
    # What libnbd thinks of such a request is not what this is about.
    h.set_strict_mode(0)
    return h


def status(h, offset):
    """[(bytes, does it read as zero?)]"""
    extents = []

    def extent(context, at, entries, _):
        assert context == nbd.CONTEXT_BASE_ALLOCATION and at == offset
        extents.extend(zip(entries[::2], entries[1::2]))
        return 0
    h.block_status(LARGEST, offset, extent)
    assert extents and all(n > 0 for n, _ in extents), extents
    return [(n, bool(flags & nbd.STATE_ZERO)) for n, flags in extents]


def look(t, server, clients, data):
    for h in [*clients, client(t)]:
        for offset in 0, 1, SIZE - LARGEST:
            at = offset
            for n, zero in status(h, offset):
                assert data or zero, "holes at %d are data" % at
                assert not (data and zero and at <= DATA < at + n), \
                    "%d bytes at %d are no hole" % (n, at)
                at += n
        assert h.pread(512, DATA) == (b"x" if data else b"\0") * 512
        if h not in clients:
            h.shutdown()
    assert server.poll() is None, "the server has ended"


def stages(t, source, data):
    t.nbdkit("target", "memory", str(SIZE))
    server = t.mirror(source, str(SIZE))
    old = client(t)
    if data:
        old.pwrite(b"x" * BLOCK, DATA)
    look(t, server, [old], data)
    with t.qmp(timeout=60 * SLOW) as q:
        q.command("blockdev-mirror", job_id="m", sync="full",
                  target=t.uri("target"), copy_mode="write-blocking")
        look(t, server, [old], data)
        q.wait(lambda q: q.job()["ready"], 60 * SLOW)
        look(t, server, [old], data)
        q.command("job-complete", id="m")
        q.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        look(t, server, [old], data)
        assert q.mirror()["pivoted"]
    old.shutdown()
    t.stop("proxy")
    t.stop("target")


with Test() as test:
    stages(test, "memory", False)
    stages(test, "memory", True)
    # It answers with the whole disk, whatever is asked.
    stages(test, "null", False)
