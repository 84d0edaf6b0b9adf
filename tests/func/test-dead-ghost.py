#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A write that arrives at the target long after its connection has been lost,
and after newer data has been written to the same place: within the suspect
time the mirror does not believe that the target has the newer data, and it is
right."""

import os
import re
import shutil
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos  # noqa: E402
from dead import Scene  # noqa: E402
from mirrortest import SLOW, STRESS, Test, figure, wait_for  # noqa: E402

import nbd  # noqa: E402

SUSPECT = 3 * SLOW
ROUNDS = 10 if STRESS else 1
PLACE = 5 << 20
BLOCK = 4096


class Watch:
    """Never synced as long as the suspect time lasts."""

    def __init__(self, s):
        self.s = s
        self.looks = 0

    def look(self):
        m = self.s.qmp.mirror()
        if m["suspect-bytes"] == 0:
            return False
        job = self.s.qmp.job()
        still = self.s.qmp.mirror()["suspect-bytes"] > 0
        if still:
            assert not job["actively-synced"], "synced, with %d suspect" % \
                m["suspect-bytes"]
            assert job["len"] > job["offset"], job
            self.looks += 1
        return still

    def refused(self):
        """Complete is, with the seconds that are left."""
        text = self.s.qmp.refused("block-job-complete", device="mirror")
        left = [int(n) for n in re.findall(r"for (\d+) s$", text)]
        assert len(left) == 1 and 1 <= left[0] <= 1 + SUSPECT, text
        return left[0]


def connections(log):
    """The newest of the target's."""
    with open(log, encoding="ascii") as f:
        return max(map(int, re.findall(r" connection=(\d+) Connect ",
                                       f.read())))


def written(log, place, newest):
    """How many writes to that place have come by connections up to the newest,
    and have been carried out.  One may be the copier's, of a granule: after some
    losses in a row there are no tees for a while."""
    begun, n = set(), 0
    with open(log, encoding="ascii") as f:
        for line in f:
            m = re.search(r"connection=(\d+) (\.*)Write (id=\d+) "
                          r"(?:offset=0x(\w+) count=0x(\w+))?", line)
            if not m or int(m[1]) > newest:
                continue
            if not m[2]:
                at = int(m[4], 16)
                if at <= place < at + int(m[5], 16):
                    begun.add((m[1], m[3]))
            elif (m[1], m[3]) in begun:
                assert "return=0" in line, line
                n += 1
    return n


def chaos_ghost(t, s):
    """The chaos proxy keeps the frame, and delivers it later."""
    log = t.path("requests")
    s.target("log", logfile=log)
    chaos = Chaos(t, "chaos", "target")
    s.mirror(target=t.uri("chaos"), suspect_time=SUSPECT)
    s.synced()
    h = s.client()
    direct = nbd.NBD()
    direct.connect_uri(t.uri("target"))
    watch = Watch(s)
    for n in range(ROUNDS):
        place = PLACE + n * 2 * BLOCK
        before = s.reconnects()
        rule = chaos.at("write 1 hold")
        done = []
        old, new = b"old%05d" % n * 512, b"new%05d" % n * 512
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(old)), place,
                     completion=lambda e: done.append(e.value) or 1)
        wait_for(lambda: h.poll(1) >= 0 and chaos.stats()["held"], "no write")
        chaos.wait(rule)
        began = time.monotonic()
        lost = connections(log)
        chaos.do("cut")
        wait_for(lambda: h.poll(20) >= 0 and done, "the write hangs")
        assert done == [0], done
        s.reconnected(before)
        h.pwrite(new, place)
        assert watch.look(), "nothing is suspect"
        left = watch.refused()
        assert h.pread(BLOCK, place) == new

        # The newer data has arrived, if at all, before the older.
        before = written(log, place, lost)
        assert chaos.release() == 1
        wait_for(lambda p=place, c=lost, b=before: written(log, p, c) > b,
                 "the ghost did not walk", SUSPECT)
        while watch.look():
            pass
        took = time.monotonic() - began
        assert took >= SUSPECT - 0.2, "%.1f s" % took
        s.synced() if n < 2 else s.equal()
        assert direct.pread(BLOCK, place) == new, "the ghost has won"
    assert watch.looks > 0
    print("%s: %d looks, %d s left, suspect for %.1f s" %
          (s.mode, watch.looks, left, took))
    figure("ghosts", ghosts=ROUNDS, server="nbdkit")
    direct.shutdown()
    h.shutdown()
    s.equal()
    s.end()


def qemu_ghost(t, s):
    """qemu-nbd closes a connection before its requests have ended; those wait
    in the slow disk below it, a server of its own."""
    log = t.path("slow-requests")
    t.nbdkit("slow", "--filter=log", "--filter=delay", "file", s.disk,
             "wdelay=%dms" % (500 * SLOW), "logfile=" + log)

    def writes():
        """How many have come to the disk."""
        with open(log, encoding="ascii") as f:
            return sum(" Write " in line and "offset=%#x" % PLACE in line
                       for line in f)

    s.qemu_target(disk=t.uri("slow"))
    chaos = Chaos(t, "chaos", "target")
    # All of it is equal already: only what is written is copied.
    shutil.copyfile(s.source, s.disk)
    s.mirror(target=t.uri("chaos"), suspect_time=SUSPECT, sync="none",
             target_timeout=10 * SLOW)
    s.synced()
    h = s.client()
    watch = Watch(s)
    before = s.reconnects()
    done = []
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"old!" * 1024)), PLACE,
                 completion=lambda e: done.append(e.value) or 1)
    wait_for(lambda: h.poll(1) >= 0 and writes() > 0, "no write")
    chaos.do("cut")
    wait_for(lambda: h.poll(20) >= 0 and done, "the write hangs")
    assert done == [0], done
    s.reconnected(before)
    h.pwrite(b"new!" * 1024, PLACE)
    assert watch.look(), "nothing is suspect"
    watch.refused()
    while watch.look():
        pass
    s.synced()
    h.shutdown()
    s.equal()
    assert writes() >= 2, "the newer data was never sent"
    print("%s, qemu-nbd: %d looks" % (s.mode, watch.looks))
    figure("ghosts", ghosts=1, server="qemu-nbd")
    s.end()


with Test() as t, Scene(t, "write-blocking") as s:
    chaos_ghost(t, s)
with Test() as t, Scene(t, "write-blocking") as s:
    if shutil.which("qemu-nbd"):
        qemu_ghost(t, s)
    else:
        print("there is no qemu-nbd")
