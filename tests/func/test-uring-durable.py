#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the plugin uring has acknowledged as durable, by a flush or FUA, is in
the file after kill -9 in the middle of other writes, after which nothing more
comes, and on the disk whatever a loss of power leaves.  The disk of the latter
is a loop device on a file of nbdfuse, whose content is that of
tests/tools/lossy-plugin.c."""

import os
import random
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from lossy import Lossy  # noqa: E402
from mirrortest import SLOW, STRESS, Test, wait_for  # noqa: E402
from uringtest import MODES, Loop, connect, is_root, run  # noqa: E402

import nbd  # noqa: E402

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
SIZE = 8 << 20
ROUNDS = 30 if STRESS else 3
IMAGES = 12
LARGE = 1 << 20                 # in pieces


class Journal:
    """What has been written where, last, and what is durable of it: a number
    in every eight bytes.  Zeroes are the number 0."""

    def __init__(self, handle, seed, base, size):
        self.h = handle
        self.random = random.Random(seed)
        self.base = base
        self.size = size
        self.number = 0
        self.written = {}       # sector: the numbers it may have, newest last
        self.durable = {}       # sector: the oldest of these that it may have

    def note(self, at, n, number):
        for sector in range(at, at + n, 512):
            self.written.setdefault(sector, [0]).append(number)

    def settle(self, at, n):
        for sector in range(at, at + n, 512):
            if sector in self.written:
                self.durable[sector] = len(self.written[sector]) - 1

    def change(self, flags):
        n = self.random.choice((512, 4096, 4096, LARGE))
        at = self.base + self.random.randrange((self.size - n) // 512 + 1) * 512
        if self.random.randrange(5) == 0:
            self.note(at, n, 0)
            self.h.zero(n, at, flags | (
                nbd.CMD_FLAG_NO_HOLE if self.random.randrange(2) else 0))
        else:
            self.number += 1
            self.note(at, n, self.number)
            self.h.pwrite(self.number.to_bytes(8, "big") * (n // 8), at, flags)
        if flags:
            self.settle(at, n)

    def some(self):
        for _ in range(self.random.randrange(1, 6)):
            self.change(0)
        if self.random.randrange(2):
            self.change(nbd.CMD_FLAG_FUA)
        else:
            self.h.flush()
            self.settle(self.base, self.size)

    def check(self, image, what):
        assert self.durable, "nothing has been made durable"
        for sector, oldest in self.durable.items():
            data = image[sector:sector + 512]
            assert data == data[:8] * 64, "%s: torn at %d" % (what, sector)
            found = int.from_bytes(data[:8], "big")
            allowed = self.written[sector][oldest:]
            assert found in allowed, "%s: at %d is %d, not one of %s" % (
                what, sector, found, allowed)


def killed(t, seed, mode):
    with open(t.path("disk"), "wb") as f:
        f.truncate(SIZE + 100)
    t.nbdkit("killed", "uring", t.path("disk"), *mode)
    rounds = [0]
    journals = [Journal(connect(t, "killed"), seed * 10 + n, n * (SIZE // 4),
                        SIZE // 4) for n in range(4)]

    def work(journal):
        try:
            while True:
                journal.some()
                rounds[0] += 1
        except nbd.Error:
            pass                # killed

    threads = [threading.Thread(target=work, args=[j]) for j in journals]
    for thread in threads:
        thread.start()
    wait_for(lambda: rounds[0] > 20 and all(j.durable for j in journals),
             "writes stall")
    t.kill("killed")
    for thread in threads:
        thread.join(60 * SLOW)
    with open(t.path("disk"), "rb") as f:
        image = f.read()
    assert len(image) == SIZE + 100
    for journal in journals:
        journal.check(image, "killed %s" % mode)


class Fuse:
    """An NBD export as a file."""

    def __init__(self, t, name):
        self.directory = t.path("fuse")
        os.makedirs(self.directory, exist_ok=True)
        self.path = os.path.join(self.directory, "disk")
        self.uri = t.uri(name)

    def __enter__(self):
        self.process = subprocess.Popen(["nbdfuse", self.path, self.uri],
                                        stdout=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(self.path), "nbdfuse does not start")
        return self.path

    def __exit__(self, kind, value, traceback):
        unmounted = run("umount", self.directory)
        if not unmounted:
            run("umount", "-l", self.directory)
            self.process.kill()
        self.process.wait(30 * SLOW)
        assert unmounted or kind is not None, "cannot be unmounted"


def lose_power(t, disk, seed, mode):
    h = connect(t, "power")
    journal = Journal(h, seed, 0, SIZE)
    for n in range(6):
        journal.some()
        if n % 2:
            journal.change(0)
        disk.command("images %d %d %s" % (IMAGES, seed + n, t.path("image")))
        for i in range(IMAGES):
            with open(t.path("image.%d" % i), "rb") as f:
                journal.check(f.read(), "power %s" % mode)
    h.shutdown()


def power(t, seed, mode):
    with open(t.path("lost"), "wb") as f:
        f.truncate(SIZE)
    disk = Lossy(t, "lossy", t.path("lost"))
    with Fuse(t, "lossy") as path, Loop(path) as device:
        if device is None:
            return False
        t.nbdkit("power", "uring", device, *mode)
        try:
            lose_power(t, disk, seed, mode)
        except BaseException:
            t.kill("power")     # it has the device open
            raise
        t.stop("power")
    t.stop("lossy")
    return True


def writes_in_flight(device):
    with open("/sys/block/%s/inflight" % os.path.basename(device),
              encoding="ascii") as f:
        return int(f.read().split()[1])


def late(t, mode):
    """When a server that was killed is gone, so is all that it wrote: nothing
    arrives when another one has the disk.  This disk is slow."""
    with open(t.path("late"), "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("slow", "--filter=delay", "file", t.path("late"), "wdelay=1")
    with Fuse(t, "slow") as path, Loop(path, "--direct-io=on") as device:
        if device is None:
            return False
        t.nbdkit("killed", "uring", device, *mode)
        h = connect(t, "killed")
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"x" * LARGE)), 0)
        wait_for(lambda: h.poll(1) is None or writes_in_flight(device) > 0,
                 "nothing is written")
        t.kill("killed")
        assert writes_in_flight(device) == 0, "killed, but it writes"
        with open(t.path("late"), "rb") as f:
            image = f.read()
    t.stop("slow")
    with open(t.path("late"), "rb") as f:
        assert f.read() == image, "killed, but it has written"
    return True


print("seed", SEED)
for number in range(ROUNDS):
    for m in MODES:
        with Test() as test:
            killed(test, SEED + number, m)
print("kill -9: ok")
can = is_root() and os.path.exists("/dev/fuse") and run("nbdfuse", "--version")
for number in range(ROUNDS if can else 0):
    for m in MODES:
        with Test() as test:
            can = can and power(test, SEED + number, m)
for m in MODES[:2] if can else ():
    with Test() as test:
        can = late(test, m)
print("loss of power, slow disk:", "ok" if can else
      "not tested, it needs root, nbdfuse and loop devices")
