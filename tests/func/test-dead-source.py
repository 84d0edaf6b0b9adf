#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A source that fails: what cannot be read is never taken for copied, nor for
zeroes, and it is told where it is; a source that takes back what it had
acknowledged is followed; and whatever it says about its extents, all is
copied."""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, SLOW, STRESS, Test  # noqa: E402

import nbd  # noqa: E402

SICK = os.path.join(BUILD, "tests/lib/.libs/sick.so")
SIZE = (4 << 20) + 512
GRANULARITY = 64 << 10
BAD = 37 * GRANULARITY + 1234
PIECE = 256 << 10               # that the copier reads at once
BEFORE = b"t"                   # what is on the target at first
WAIT = 60 * SLOW
ROUNDS = 20 if STRESS else 2


def client(t, name):
    h = nbd.NBD()
    h.connect_uri(t.uri(name))
    return h


def start(t, mode, *args):
    with open(t.path("disk"), "wb") as f:
        f.write(BEFORE * SIZE)
    t.nbdkit("target", "file", t.path("disk"))
    t.mirror(SICK, "size=%d" % SIZE, *args,
             "mirror-target=" + t.uri("target"), "mirror-copy-mode=" + mode,
             "mirror-suspect-time=1", "mirror-granularity=%d" % GRANULARITY)
    return t.qmp(timeout=WAIT)


def equal(t, qmp):
    t.wait_equal(qmp, WAIT)
    assert t.compare("proxy", "target", "--no-holes"), "not identical"


def end(t, qmp, *clients):
    for h in clients:
        h.shutdown()
    qmp.close()
    t.stop("proxy")
    t.stop("target")


def bad_sector(mode):
    first = BAD // GRANULARITY * GRANULARITY
    with Test() as t:
        qmp = start(t, mode, "bad=%d" % BAD)
        m = qmp.wait(lambda q: (m := q.mirror())["convergence"] == "stuck" and
                     m, WAIT)
        e = m["last-error"]
        assert (e["side"], e["op"], e["errno"]) == ("source", "read", 5), e
        assert e["offset"] <= BAD < e["offset"] + e["length"], e
        status = subprocess.run(
            ["nbdmirror", "-S", t.path("ctl.sock"), "status"],
            stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
        assert "source read at %d+%d" % (e["offset"], e["length"]) in status
        # Nothing else is kept from being copied but what is read with it.
        h, direct = client(t, "proxy"), client(t, "target")
        for at in range(0, SIZE, GRANULARITY):
            n = min(GRANULARITY, SIZE - at)
            if at == first:
                assert direct.pread(n, at) == BEFORE * n, "at %d" % at
            elif abs(at - first) >= PIECE:
                assert direct.pread(n, at) == h.pread(n, at), "at %d" % at
            else:
                assert direct.pread(n, at) in (BEFORE * n, h.pread(n, at))
        job = qmp.job()
        assert not job["ready"] and job["len"] > job["offset"], job
        why = qmp.refused("block-job-complete", device="mirror")
        assert why, "a pivot is possible"
        errors = qmp.mirror()["source-errors"]
        # A client gets its own error, and only that.
        try:
            h.pread(512, BAD // 512 * 512)
            raise AssertionError("a bad sector could be read")
        except nbd.Error as err:
            assert err.errno == "EIO", err
        # As in a disk, it is good once it has been written to.
        h.pwrite(b"new!" * 128, BAD // 512 * 512)
        qmp.wait(lambda q: q.job()["ready"], WAIT)
        equal(t, qmp)
        assert direct.pread(GRANULARITY, first) == h.pread(GRANULARITY, first)
        print("%s, bad sector: stuck after %d errors" % (mode, errors))
        end(t, qmp, h, direct)


def taken_back(mode):
    """A flush fails, and with it goes what was written before."""
    with Test() as t:
        fails = t.path("fails")
        qmp = start(t, mode, "flush-fails=" + fails)
        h = client(t, "proxy")
        for n in range(ROUNDS):
            qmp.wait(lambda q: q.job()["ready"], WAIT)
            t.wait_equal(qmp, WAIT)
            h.flush()
            at = n * 3 * GRANULARITY % (SIZE - 4096)
            old = h.pread(4096, at)
            h.pwrite(b"lost" * 1024, at)
            with open(fails, "wb"):
                pass
            try:
                h.flush()
                raise AssertionError("a flush that failed was good")
            except nbd.Error as e:
                assert e.errno == "EIO", e
            os.unlink(fails)
            assert h.pread(4096, at) == old, "it was not taken back"
            assert not qmp.job()["actively-synced"]
            e = qmp.mirror()["last-error"]
            assert (e["side"], e["op"]) == ("source", "flush"), e
            equal(t, qmp)
        if mode == "write-blocking":
            qmp.wait(lambda q: q.job()["actively-synced"], WAIT)
        print("%s: %d flushes failed" % (mode, ROUNDS))
        end(t, qmp, h)


def extents(mode, kind):
    with Test() as t:
        qmp = start(t, mode, "extents=" + kind)
        h = client(t, "proxy")
        for n in range(ROUNDS):
            h.pwrite(b"%04d" % n * 300, n * 77777 % (SIZE - 1200))
        qmp.wait(lambda q: q.job()["ready"], WAIT)
        equal(t, qmp)
        m = qmp.mirror()
        assert m["target"]["state"] == "online", m
        end(t, qmp, h)


for mode in ("write-blocking", "background"):
    bad_sector(mode)
    taken_back(mode)
    for kind in ("error", "none", "tiny", "past"):
        extents(mode, kind)
