#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The plugin uring in trouble: a file system that is full, a file that is
truncated under it, a device that goes away.  Clients get the error that it is,
and everything else stays as it was."""

import os
import random
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402
from uringtest import MODES, Loop, Mount, connect, error_of  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
STEP = 256 << 10


def fill(directory, leave):
    """Until only about so many bytes are free."""
    with open(os.path.join(directory, "filler"), "wb") as f:
        while True:
            v = os.statvfs(directory)
            left = v.f_bavail * v.f_frsize - leave
            if left <= 0:
                break
            try:
                os.posix_fallocate(f.fileno(), f.tell(), min(left, MIB))
                f.seek(0, 2)
            except OSError:
                break


def full(t, directory, mode, what):
    """What was there before can be written over; what is not allocated fails
    with ENOSPC, and what has not failed is there."""
    disk = os.path.join(directory, "disk")
    size = 48 * MIB + 333
    with open(disk, "wb") as f:
        f.truncate(size)
    t.nbdkit("full", "uring", disk, *mode)
    h = connect(t, "full")
    expected = {}
    for at in range(0, 4 * MIB, STEP):
        expected[at] = os.urandom(STEP)
        h.pwrite(expected[at], at)
    h.flush()
    fill(directory, 3 * MIB)
    failed = 0
    for at in range(8 * MIB, 40 * MIB, STEP):
        data = os.urandom(STEP)
        error = error_of(h.pwrite, data, at, nbd.CMD_FLAG_FUA)
        assert error in (None, "ENOSPC"), error
        if error is None:
            expected[at] = data
        else:
            failed += 1
    assert failed > 0, "%s is not full" % what
    error = error_of(h.zero, 2 * MIB, 44 * MIB, nbd.CMD_FLAG_NO_HOLE)
    assert error in (None, "ENOSPC"), error
    # In place, also in parts of blocks.
    for at in sorted(expected)[:16]:
        new = bytearray(expected[at])
        new[777:1555] = os.urandom(778)
        h.pwrite(bytes(new[777:1555]), at + 777)
        expected[at] = bytes(new)
    h.flush()
    for at, data in expected.items():
        assert h.pread(STEP, at) == data, "%s %s: torn at %d" % (
            what, mode, at)
    # Room again.
    os.unlink(os.path.join(directory, "filler"))
    h.pwrite(bytes(STEP), 40 * MIB)
    h.flush()
    h.shutdown()
    t.stop("full")
    os.unlink(disk)


def truncated(t, directory, mode):
    disk = os.path.join(directory, "disk")
    data = random.randbytes(4 * MIB + 77)
    with open(disk, "wb") as f:
        f.write(data)
    t.nbdkit("truncated", "uring", disk, *mode)
    h = connect(t, "truncated")
    size = len(data)
    os.truncate(disk, MIB + 100)
    assert h.pread(MIB, 0) == data[:MIB]
    for at, n in ((MIB, 512), (MIB + 99, 2), (2 * MIB, 2 * MIB), (size - 1, 1),
                  (3 * MIB + 1, 100), (512 << 10, 3 * MIB)):
        assert error_of(h.pread, n, at) == "EIO", (mode, at, n)
        assert error_of(h.pwrite, bytes(n), at) == "EIO", (mode, at, n)
        assert error_of(h.zero, n, at) == "EIO", (mode, at, n)
    h.pwrite(b"still works", 1000)
    assert h.pread(11, 1000) == b"still works"
    h.shutdown()
    t.stop("truncated")
    # Only the client's data, and not longer.
    with open(disk, "rb") as f:
        assert f.read() == (data[:1000] + b"still works" +
                            data[1011:MIB + 100])
    os.unlink(disk)


def longer(t, mode):
    """The end is where it was when the client came, and nothing behind it is
    touched."""
    disk = t.path("longer")
    with open(disk, "wb") as f:
        f.write(bytes(MIB + 333))
    t.nbdkit("longer", "uring", disk, *mode)
    h = connect(t, "longer")
    with open(disk, "ab") as f:
        f.write(b"behind" * 1000)
    h.pwrite(b"end", MIB + 330)
    h.zero(333, MIB)
    h.pwrite(b"end", MIB + 330)
    h.flush()
    assert h.get_size() == MIB + 333
    with open(disk, "rb") as f:
        assert f.read()[MIB + 330:] == b"end" + b"behind" * 1000
    h.shutdown()
    t.stop("longer")


def device_shrinks(t, mode):
    """As one that has gone, beyond its new end."""
    disk = t.path("device")
    with open(disk, "wb") as f:
        f.truncate(4 * MIB)
    with Loop(disk, "--direct-io=on") as device:
        if device is None:
            print("no loop device")
            return
        t.nbdkit("device", "uring", device, *mode)
        h = connect(t, "device")
        h.pwrite(b"x" * MIB, 0, nbd.CMD_FLAG_FUA)
        os.truncate(disk, 0)
        subprocess.run(["losetup", "-c", device], check=True)
        for at in 0, 512 << 10, 2 * MIB + 5:
            error = error_of(h.pread, MIB, at)
            assert error == "EIO", (mode, at, error)
            error = error_of(h.pwrite, bytes(MIB), at)
            if mode[:1] == ["direct=off"] and error is None:
                error = error_of(h.flush)
            assert error in ("EIO", "ENOSPC"), (mode, at, error)
        h.shutdown()
        t.stop("device")


def device_claimed(t, mode):
    """By somebody else, as nbdmirror run does: the kernel then refuses to zero
    and to discard what is dirty in the page cache."""
    disk = t.path("device")
    with open(disk, "wb") as f:
        f.truncate(4 * MIB)
    with Loop(disk) as device:
        if device is None:
            print("no loop device")
            return
        claim = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            t.nbdkit("claimed", "uring", device, *mode)
            h = connect(t, "claimed")
            data = os.urandom(MIB)
            for flags in 0, nbd.CMD_FLAG_NO_HOLE:
                for again in range(2):
                    h.pwrite(data, 0)
                    h.zero(STEP, STEP, flags)
                    assert h.pread(MIB, 0) == (data[:STEP] + bytes(STEP) +
                                               data[2 * STEP:]), (mode, again)
            h.pwrite(data, 0)
            h.trim(STEP, STEP)
            assert h.pread(STEP, 0) == data[:STEP]
            h.shutdown()
            t.stop("claimed")
        finally:
            os.close(claim)


with Test() as test:
    for m in MODES:
        truncated(test, test.tmp, m)
        longer(test, m)
        device_shrinks(test, m)
        device_claimed(test, m)
    for fs, megabytes in ("ext4", 32), ("xfs", 300), ("tmpfs", 32):
        with Mount(test, fs, megabytes << 20) as where:
            if where is None:
                print("no", fs)
                continue
            for m in MODES:
                truncated(test, where, m)
                full(test, where, m, fs)
        print(fs, "ok")
