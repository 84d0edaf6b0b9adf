#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many reconnects leave nothing behind: no descriptor, no thread, no memory.
A mirror with nothing to do, and one without its target, hardly need the
processor."""

import os
import shutil
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos  # noqa: E402
from dead import Scene  # noqa: E402
from mirrortest import SLOW, STRESS, Test, figure, wait_for  # noqa: E402

SIZE = 1 << 20
RECONNECTS = 10000 if STRESS else 100 // SLOW
SECONDS = 2                     # how long idling is watched
MAX_LOAD = 0.01 * SLOW          # of a processor
# Bytes.  AddressSanitizer keeps what is freed, and looks for leaks by itself.
MAX_GROWTH = (4 << 20) * SLOW
if os.environ.get("MIRROR_SANITIZER") == "address":
    MAX_GROWTH = 256 << 20
TICKS = os.sysconf("SC_CLK_TCK")


class Usage:
    def __init__(self, process):
        self.pid = process.pid

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def threads(self):
        return len(os.listdir("/proc/%d/task" % self.pid))

    def rss(self):
        with open("/proc/%d/statm" % self.pid, encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def cpu(self):
        """Seconds."""
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def load(self):
        """The part of a processor, over some seconds."""
        cpu, begin = self.cpu(), time.monotonic()
        wait_for(lambda: time.monotonic() - begin >= SECONDS, "the clock")
        return (self.cpu() - cpu) / (time.monotonic() - begin)


def reconnect(s, chaos, n):
    h = s.client()
    for i in range(n):
        before = s.reconnects()
        chaos.do("cut")
        s.reconnected(before)
        if i % 10 == 0:
            s.t.watchdog_again()
            h.pwrite(b"%08d" % i * 64, i * 512 % SIZE)
    h.shutdown()
    s.equal()


def settled(s, usage, threads):
    """Those of the client's connection, too, have gone."""
    wait_for(lambda: usage.threads() <= threads and
             s.qmp.mirror()["clients"] == 0,
             "%d threads, not %d" % (usage.threads(), threads))


if not shutil.which("qemu-nbd"):
    print("there is no qemu-nbd")
    sys.exit(77)
with Test() as t, Scene(t, "write-blocking", SIZE) as s:
    s.qemu_target()
    chaos = Chaos(t, "chaos", "target")
    s.backoff_ms = 1
    s.mirror(target=t.uri("chaos"), suspect_time=0)
    usage = Usage(t.servers["proxy"])
    s.synced()
    threads = usage.threads()
    reconnect(s, chaos, max(RECONNECTS // 4, 20))
    settled(s, usage, threads)
    descriptors, rss = usage.descriptors(), usage.rss()
    reconnect(s, chaos, RECONNECTS)
    settled(s, usage, threads)
    assert usage.descriptors() <= descriptors, "%d descriptors, not %d" % (
        usage.descriptors(), descriptors)
    grown = usage.rss() - rss
    assert grown < MAX_GROWTH, "%d bytes more" % grown
    assert s.reconnects() >= RECONNECTS
    idle = usage.load()
    assert idle < MAX_LOAD, "idle, it takes %.4f" % idle
    chaos.do("down")
    s.offline()
    # The least delay is a test's; the usual one, and longer, soon follow.
    tries = chaos.stats()["refused"]
    wait_for(lambda: chaos.stats()["refused"] >= tries + 9, "no tries")
    offline = usage.load()
    assert offline < MAX_LOAD, "offline, it takes %.4f" % offline
    chaos.up()
    s.equal()
    print("%d reconnects: %d descriptors, %d threads, %d bytes more; "
          "%.2f %% of a processor idle, %.2f %% offline" %
          (s.reconnects(), usage.descriptors(), usage.threads(), grown,
           100 * idle, 100 * offline))
    figure("reconnects", reconnects=s.reconnects(), rss=grown,
           descriptors=usage.descriptors() - descriptors,
           threads=usage.threads() - threads, idle=idle, offline=offline)
    s.end()
