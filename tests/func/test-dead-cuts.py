#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The connection is cut after every byte of the handshake, in both directions,
of a write of 512 bytes, and of its reply: the mirror always comes back, and with
the data.  Without STRESS only after some of the bytes, and of a write of
4 KiB."""

import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos  # noqa: E402
from dead import Scene  # noqa: E402
from mirrortest import STRESS, Test, figure  # noqa: E402

import nbd  # noqa: E402

SIZE = 1 << 20
BLOCK = 512 if STRESS else 4096
WRITE = 28 + BLOCK              # bytes of the request
REPLY = 16
# The handshake.  What a new session reads to know the disk comes after that,
# but not if all of the disk is to be copied again.
UP, DOWN = 200, 240
STEP = 1 if STRESS else 23


class Cuts:
    def __init__(self, t, s):
        self.s = s
        self.count = 0
        s.qemu_target()
        self.chaos = Chaos(t, "chaos", "target")
        s.backoff_ms = 5
        s.mirror(target=t.uri("chaos"), connections=1, granularity=BLOCK,
                 suspect_time=0)
        s.synced()
        self.client = s.client()
        self.direct = nbd.NBD()
        self.direct.connect_uri(t.uri("target"))

    def bytes(self):
        return self.chaos.stats()["bytes"]

    def settled(self):
        """All is there, and nothing more is to be sent."""
        self.s.wait(lambda m: m["target"]["state"] == "online" and
                    m["dirty-bytes"] + m["inflight-bytes"] == 0)

    def write(self):
        """Something new at another place.  Returns what and where."""
        self.count += 1
        self.s.t.watchdog_again()
        at = self.count * 7 % (SIZE // BLOCK) * BLOCK
        data = b"%08d" % self.count * (BLOCK // 8)
        self.client.pwrite(data, at)
        return data, at

    def recovered(self, written):
        self.settled()
        data, at = written
        assert self.direct.pread(BLOCK, at) == data, \
            "what was written is not on the target"

    def new_job(self):
        """One that tees: after three losses in a minute it does not."""
        t, qmp = self.s.t, self.s.qmp
        if not qmp.mirror()["job"]["teeing"]:
            t.cancel(qmp)
            qmp.command("blockdev-mirror", target=t.uri("chaos"), sync="full",
                        connections=1)
            self.s.synced()
        assert qmp.mirror()["job"]["teeing"], "it does not tee"

    def session(self):
        """How many bytes does opening one take: up, down."""
        before, n = self.bytes(), self.s.reconnects()
        self.chaos.do("cut")
        self.s.reconnected(n)
        after = self.bytes()
        return [after[x] - before[x] for x in ("up", "down")]

    def cut_handshake(self, way, offset):
        before = self.s.reconnects()
        rule = self.chaos.at("%s-bytes %d cut" % (way, offset))
        self.chaos.do("cut")
        self.chaos.wait(rule)
        written = self.write()
        self.s.reconnected(before)
        self.recovered(written)

    def cut_write(self, way, offset):
        """Of the first request from now on, which is that write: nothing
        else is to be done, apart from a flush."""
        if self.s.mode == "write-blocking":
            self.new_job()
        before = self.s.reconnects()
        rule = self.chaos.at("write 1 then %s-bytes %d cut" % (way, offset)
                             if way == "down" else
                             "up-bytes %d cut" % offset)
        written = self.write()
        self.chaos.wait(rule)
        self.s.reconnected(before)
        self.recovered(written)

    def end(self):
        self.client.shutdown()
        self.direct.shutdown()


def some(n, step):
    """Offsets up to n: the first and the last ones, and what is between."""
    return sorted({x for x in range(1, n + 1)
                   if x <= 2 or x >= n - 1 or x % step == 0})


if not shutil.which("qemu-nbd"):
    print("there is no qemu-nbd")
    sys.exit(77)
for mode in ("write-blocking", "background"):
    with Test() as t, Scene(t, mode, SIZE) as s:
        c = Cuts(t, s)
        up, down = c.session()
        assert up > UP and down > DOWN, (up, down)
        if mode == "write-blocking" or STRESS:
            for x in some(UP, STEP):
                c.cut_handshake("up", x)
            for x in some(DOWN, STEP):
                c.cut_handshake("down", x)
        for x in some(WRITE, 1 if STRESS else 600):
            c.cut_write("up", x)
        for x in range(1, REPLY + 1, 1 if STRESS else 5):
            c.cut_write("down", x)
        print("%s: %d cuts" % (mode, c.count))
        figure("cuts", mode=mode, cuts=c.count)
        c.end()
        s.equal()
        s.end()
