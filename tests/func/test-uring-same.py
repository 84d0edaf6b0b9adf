#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The plugins uring and file do the same: a random list of operations, of any
alignment, has the same results and leaves the same image, on each file system,
in each mode, for disks that end with a block, within one, or before one."""

import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402
from uringtest import MODES, Loop, Mount, connect, result  # noqa: E402

import nbd  # noqa: E402

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
OPS = 8000 if STRESS else 150 // SLOW     # in each case; STRESS: 10^6 in all
SIZES = (1, 511, 512, 4095, 4096 + 333, (1 << 20) + 512, (3 << 20) + 4095,
         4 << 20)


def lengths(rng, size):
    """Small, or some blocks, or so large that it is in pieces."""
    kind = rng.randrange(10)
    if kind < 5:
        n = rng.randrange(1, 1500)
    elif kind < 8:
        n = rng.choice((512, 4096)) * rng.randrange(1, 20)
    else:
        n = rng.randrange(1, 3 << 20)
    return min(n, size)


def make_op(rng, size, sector):
    """A name and arguments of a method of nbd.NBD.  The file plugin zeroes and
    trims whole sectors of a device only."""
    n = lengths(rng, size)
    at = rng.randrange(size - n + 1)
    if rng.randrange(3) == 0:
        at = at // 512 * 512
    if rng.randrange(8) == 0:
        at = size - n
    fua = nbd.CMD_FLAG_FUA if rng.randrange(6) == 0 else 0
    kind = rng.randrange(12)
    if kind < 4:
        return "pread", (n, at)
    if kind < 8:
        return "pwrite", (rng.randbytes(n), at, fua)
    n -= n % sector
    at -= at % sector
    if n == 0:
        return "flush", ()
    if kind < 10:
        hole = nbd.CMD_FLAG_NO_HOLE if rng.randrange(2) else 0
        return "zero", (n, at, fua | hole)
    if kind < 11:
        return "trim", (n, at, fua)
    return "flush", ()


def short(op):
    return "%s %s" % (op[0], [len(a) if isinstance(a, (bytes, bytearray))
                              else a for a in op[1]])


def content(path):
    with open(path, "rb") as f:
        return f.read()


def compare(t, a, b, mode, size, what, sector=1):
    """Disks a by uring, b by file."""
    global done
    t.watchdog_again()
    rng = random.Random("%d %d %s" % (SEED, size, mode))
    t.nbdkit("uring", "uring", a, *mode)
    t.nbdkit("file", "file", b)
    ha, hb = connect(t, "uring"), connect(t, "file")
    assert ha.get_size() == hb.get_size() == size
    for n in range(OPS):
        op = make_op(rng, size, sector)
        ra, rb = result(ha, op), result(hb, op)
        done += 1
        assert ra == rb, "%s %s size %d: operation %d, %s: %.80s, not %.80s" % (
            what, mode, size, n, short(op), ra, rb)
    ha.shutdown()
    hb.shutdown()
    t.stop("uring")
    t.stop("file")
    assert not os.path.isfile(a) or os.path.getsize(a) == size
    assert content(a) == content(b), "%s %s size %d" % (what, mode, size)


def in_directory(t, directory, what):
    a, b = os.path.join(directory, "a"), os.path.join(directory, "b")
    for mode in MODES:
        for size in SIZES:
            for path in a, b:
                with open(path, "wb") as f:
                    f.truncate(size)
            compare(t, a, b, mode, size, what)
    print(what, "ok", flush=True)


def on_loop(t):
    for sector in "512", "4096":
        for path in "a", "b":
            with open(t.path(path), "wb") as f:
                f.truncate(2 << 20)
        with Loop(t.path("a"), "--sector-size", sector) as a, \
                Loop(t.path("b"), "--sector-size", sector) as b:
            if a is None or b is None:
                print("no loop devices")
                return
            for mode in MODES:
                compare(t, a, b, mode, 2 << 20, "loop " + sector, int(sector))
        print("loop", sector, "ok", flush=True)


done = 0                        # operations
print("seed", SEED)
with Test() as test:
    in_directory(test, test.tmp, "here")
    for fs, megabytes in ("ext4", 32), ("xfs", 300), ("tmpfs", 32):
        with Mount(test, fs, megabytes << 20) as where:
            if where is None:
                print("no", fs)
            else:
                in_directory(test, where, fs)
    on_loop(test)
    print(done, "operations")
