#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lossy disk loses what it may lose, all kinds of it, and nothing else."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from lossy import PLUGIN, Lossy  # noqa: E402
from mirrortest import Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 64 * 512 + 100
IMAGES = 200


def sector(image, n):
    return image[n * 512:(n + 1) * 512]


def fill(c, n=1):
    return c.encode("ascii") * (512 * n)


def connect(t):
    h = nbd.NBD()
    h.connect_uri(t.uri("disk"))
    return h


def new_disk(t):
    path = t.path("disk")
    with open(path, "wb") as f:
        f.write((b"0" * SIZE))
    return Lossy(t, "disk", path), path


def images(t, disk, seed=1):
    disk.command("images %d %d %s" % (IMAGES, seed, t.path("image")))
    result = []
    for i in range(IMAGES):
        with open(t.path("image.%d" % i), "rb") as f:
            result.append(f.read())
    assert all(len(image) == SIZE for image in result)
    return result


def seen(all_images, n):
    return {bytes({c} if len(set(s)) == 1 else s)
            for s in (sector(i, n) for i in all_images)
            for c in s[:1]}


with Test() as t:
    assert os.path.exists(PLUGIN), PLUGIN
    disk, path = new_disk(t)
    h = connect(t)
    assert h.pread(SIZE, 0) == b"0" * SIZE

    # Flushed: there.  Not flushed: any version, and each of them.
    h.pwrite(fill("a", 4), 0)
    h.flush()
    assert disk.unflushed() == 0
    h.pwrite(fill("b", 4), 0)
    h.pwrite(fill("c", 2), 0)
    h.zero(512, 3 * 512)
    h.trim(512, 8 * 512)
    # FUA: that one, but not its neighbours, nor what came before it.
    h.pwrite(fill("d", 1), 10 * 512)
    h.pwrite(fill("e", 3), 9 * 512)
    h.pwrite(fill("f", 1), 10 * 512, nbd.CMD_FLAG_FUA)
    h.pwrite(fill("g", 1), 10 * 512)
    # Less than a sector, across two, and the end of the disk.
    h.pwrite(b"h" * 100, 20 * 512 + 462)
    h.pwrite(b"i" * 100, SIZE - 100)
    assert disk.unflushed() == 10
    now = h.pread(SIZE, 0)
    got = images(t, disk)
    for n, want in ((0, "abc"), (1, "abc"), (2, "ab"), (3, "ab\0"),
                    (4, "0"), (8, "0\0"), (9, "0e"), (10, "fg"), (11, "0e"),
                    (12, "0")):
        have = {s.decode("ascii") for s in seen(got, n)}
        assert have == set(want), "sector %d: %s, not %s" % (n, have, want)
    assert {sector(i, 20)[460:] for i in got} == {
        b"0" * 52, b"00" + b"h" * 50}
    assert {sector(i, 64) for i in got} == {b"0" * 100, b"i" * 100}
    # Requests are torn, and overtake one another.
    assert any(sector(i, 0)[0] != sector(i, 1)[0] for i in got), "never torn"
    assert any(sector(i, 20)[510:] != sector(i, 21)[:2] for i in got)
    assert any(i[SIZE - 1:] == b"i" and sector(i, 2) == fill("a")
               for i in got), "never out of order"
    assert any(i == now for i in got), "never nothing lost"
    # The seed decides, and asking has changed nothing.
    assert images(t, disk) == got
    assert images(t, disk, 1000) != got
    assert h.pread(SIZE, 0) == now and disk.unflushed() == 10
    with open(path, "rb") as f:
        durable = f.read()
    assert sector(durable, 0) == fill("a")
    disk.lose_power(7)
    with open(path, "rb") as f:
        assert f.read() == got[6], "power-loss and images differ"

    # A flush that fails forgets; the next one says nothing of it.
    disk, path = new_disk(t)
    h = connect(t)
    h.pwrite(fill("a"), 0)
    h.pwrite(fill("b"), 512, nbd.CMD_FLAG_FUA)
    disk.command("fail-flush 1")
    try:
        h.flush()
        raise AssertionError("the flush did not fail")
    except nbd.Error:
        pass
    h.pwrite(fill("c"), 1024)
    h.flush()
    assert h.pread(512, 0) == fill("a")
    disk.lose_power(1)
    with open(path, "rb") as f:
        assert f.read(2048) == (fill("0") + fill("b") + fill("c") +
                                fill("0"))

    # What ends while a flush is under way is not its business.
    with open(path, "wb") as f:
        f.write(b"0" * SIZE)
    disk = Lossy(t, "disk", path, "flush-delay=500")
    h = connect(t)
    h.pwrite(fill("a"), 0)
    done = []
    h.aio_flush(completion=lambda e: done.append(e.value) or 1)
    other = connect(t)
    while disk.command("stats")[2] == 0 and not done and \
            disk.unflushed() < 2:
        h.poll(20)
        if not done:
            other.pwrite(fill("b"), 512)
    while not done:
        h.poll(20)
    assert done == [0]
    assert disk.unflushed() >= 1, "a later write was flushed"
    with open(path, "rb") as f:
        assert f.read(1024) == fill("a") + fill("0")
    for x in h, other:
        x.shutdown()
