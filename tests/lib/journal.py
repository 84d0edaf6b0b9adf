# SPDX-License-Identifier: BSD-3-Clause
"""Clients that know what they have flushed, for losses of power."""

import random
import threading

import nbd

from mirrortest import wait_for

BLOCK = 4096


class Journal(threading.Thread):
    """One that numbers what it writes, in an area of its own, and remembers
    which number it has flushed."""

    def __init__(self, h, seed, base, area):
        super().__init__(daemon=True)
        self.random = random.Random(seed + base)
        self.base = base
        self.area = area
        self.h = h
        self.written = {}
        self.flushed = {}
        self.number = seed << 32
        self.stopping = False
        self.wrong = None
        self.rounds = 0
        self.start()

    def write(self, flags=0):
        at = self.base + self.random.randrange(self.area // BLOCK) * BLOCK
        self.number += 1
        self.written[at] = self.number
        self.h.pwrite(self.number.to_bytes(8, "big") * (BLOCK // 8), at,
                      flags)
        return at

    def run(self):
        try:
            while not self.stopping:
                for _ in range(self.random.randrange(1, 5)):
                    self.write()
                self.h.flush()
                self.flushed = dict(self.written)
                at = self.write(nbd.CMD_FLAG_FUA)
                self.flushed = {**self.flushed, at: self.written[at]}
                self.rounds += 1
        except (nbd.Error, TypeError) as e:
            self.wrong = str(e)

    def more(self, n):
        want = self.rounds + n
        wait_for(lambda: self.rounds >= want or self.wrong, "flushes stall")
        assert not self.wrong, self.wrong

    def join(self, timeout=60):
        super().join(timeout)
        assert not self.is_alive(), "a request hangs"

    def stop(self):
        self.stopping = True
        self.join()
        assert not self.wrong, self.wrong
        self.h.shutdown()


def check_flushed(image, flushed):
    """Each block has the number that was flushed, or a later one, in every
    sector."""
    for at, number in flushed.items():
        for sector in range(at, at + BLOCK, 512):
            data = image[sector:sector + 512]
            found = int.from_bytes(data[:8], "big")
            assert data == data[:8] * 64, "torn at %d" % sector
            assert found >= number, "at %d is %x, but %x was flushed" % (
                sector, found, number)
