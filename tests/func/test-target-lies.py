#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Targets that lie: at worst there is no mirror.  Clients never notice, the
proxy lives, does not grow, and mirrors to an honest target afterwards.  What is
read, from a source or a disk after a pivot, is right or an error.

    test-target-lies.py SEED SECONDS    only random replies, from that seed on,
                                        for so long of processor time
"""

import os
import sys

sys.dont_write_bytecode = True
top = os.environ["top_srcdir"]
sys.path.insert(0, os.path.join(top, "tests/lib"))
sys.path.insert(0, os.path.join(top, "tests/tools"))
from lyingserver import LyingServer  # noqa: E402
from mirrortest import SLOW, STRESS, Test, figure, wait_for  # noqa: E402
from qmp import QMPError  # noqa: E402
from uringtest import connect, error_of  # noqa: E402

import nbd  # noqa: E402

SIZE = 1 << 20
RSS_LIMIT = 200 << 20           # the limit of all buffers is far below
if os.environ.get("MIRROR_SANITIZER") == "address":
    RSS_LIMIT = 600 << 20       # it keeps 256 MiB of what has been freed

# Refused at once: what is said of it must name what is wrong.
UNFIT = [
    ({"size": 0}, "0"), ({"size": -1}, ""), ({"size": -(1 << 63)}, ""),
    ({"size": SIZE - 512}, str(SIZE - 512)), ({"flags": 0x3}, "read-only"),
    ({"flags": 0x3 | 0x4 | 0x20}, "read-only"),
]

# Found out, or survived, while it runs.
LIES = [
    {"size": str(SIZE * 4)}, {"size": "%d,%d" % (SIZE, SIZE - 4096)},
    {"size": str((1 << 63) - 1)},
    {"min": 0}, {"min": 100}, {"min": 1 << 31}, {"pref": 0}, {"pref": 3},
    {"min": 4096, "pref": 512, "max": 512}, {"max": 0}, {"max": 1},
    {"max": 0xffffffff}, {"min": 65536, "pref": 65536, "max": 65536},
    {"flags": 0x1}, {"flags": 0xffff & ~0x2},
    {"cookie": "wrong"}, {"cookie": "wrong", "from": 5},
    {"cookie": "duplicate"}, {"cookie": "never"},
    {"cookie": "never", "from": 4},
    {"chunk": "range"}, {"chunk": "overlap"}, {"chunk": "nodone"},
    {"chunk": "length"}, {"chunk": "short"}, {"chunk": "none"},
    {"chunk": "type"},
    {"error": 1}, {"error": 5}, {"error": 28}, {"error": 95},
    {"error": 0x7fffffff}, {"error": 0xffffffff, "from": 3},
    {"extents": "zero"}, {"extents": "past"}, {"extents": "unaligned"},
    {"extents": "id"}, {"extents": "none"},
    {"close": 1}, {"close": 2}, {"close": 7},
]


def rss(process):
    with open("/proc/%d/status" % process.pid, encoding="ascii") as f:
        for line in f:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    raise AssertionError("no VmRSS")


class Bench:
    def __init__(self, t):
        self.t = t
        self.proxy = t.mirror("memory", str(SIZE))
        self.qmp = t.qmp(timeout=60 * SLOW)
        self.h = nbd.NBD()
        self.h.connect_uri(t.uri("proxy"))
        self.content = bytearray(os.urandom(SIZE))
        self.h.pwrite(bytes(self.content), 0)
        self.count = 0

    def write(self):
        """What a client does must work."""
        self.count += 1
        at = self.count * 7919 % (SIZE - 3000)
        data = bytes([self.count % 256]) * 3000
        self.h.pwrite(data, at)
        self.content[at:at + 3000] = data
        self.h.flush()
        assert self.h.pread(3000, at) == data

    def check(self):
        assert self.h.pread(SIZE, 0) == self.content, "the source is wrong"
        assert self.proxy.poll() is None
        assert rss(self.proxy) < RSS_LIMIT, rss(self.proxy)

    def settled(self):
        """It is known what becomes of this mirror."""
        job, mirror = self.qmp.job(), self.qmp.mirror()
        return job is None or job["len"] == job["offset"] or \
            mirror["target"]["state"] == "offline" or \
            mirror["target-errors"] > 0

    def run(self, lies, seed=1):
        """Returns why it was refused, or None."""
        path = self.t.path("lie%d.sock" % self.count)
        server = LyingServer(path, lies, seed)
        try:
            # It waits for the target only where the server answers at all.
            silent = lies.get("cookie") == "never"
            self.qmp.command(
                "blockdev-mirror", job_id="m", sync="full",
                copy_mode="background" if silent else "write-blocking",
                target="nbd+unix:///?socket=" + path)
            for _ in range(3):
                self.write()
            if not silent:
                wait_for(self.settled, "nothing comes of %s" % lies)
            self.write()
            self.qmp.command("block-job-cancel", device="m", force=True)
            self.qmp.wait(lambda q: q.job() is None, 60 * SLOW)
        except QMPError as e:
            return e.desc
        finally:
            server.stop()
            os.unlink(path)
        return None


def chosen(bench):
    for lies, word in UNFIT:
        why = bench.run(lies)
        assert why and word in why, (lies, why)
        bench.write()
        bench.check()
    for lies in LIES:
        why = bench.run(lies)
        assert why is None or len(why) < 1000 and "\n" not in why, why
        bench.write()
        bench.check()


def mutated(bench, seed):
    bench.run({"mutate": (5, 50, 500, 5000)[seed % 4], "from": seed % 7},
              seed)
    bench.write()
    bench.check()


def only_errors(server, h, blocks):
    """What it sends of a read in part, or twice, or not at all is no content;
    nor is it written back, if a write needs the rest of its blocks."""
    assert h.pread(SIZE, 0) == server.disk
    for lie in "short", "none", "overlap":
        before = bytes(server.disk)
        server.lies["chunk"] = lie
        for count, at in (512, 4096), (65536, 8192), (SIZE, 0), (3000, 5000):
            err = error_of(h.pread, count, at)
            assert err == "EIO", (lie, count, err)
        if blocks:
            err = error_of(h.pwrite, b"x" * 3000, 5000)
            assert err == "EIO", (lie, err)
        server.lies["chunk"] = None
        assert server.disk == before, lie
        assert h.pread(SIZE, 0) == before, lie


def lying_source(t):
    server = LyingServer(t.path("source.sock"), {})
    server.disk[:] = os.urandom(SIZE)
    t.nbdkit("reader", "nbdsource", t.uri("source"))
    h = connect(t, "reader")
    only_errors(server, h, False)
    h.shutdown()
    t.stop("reader")
    server.stop()


def lying_to_tees(t, bench):
    """What a write covers of a block in part is not written with the rest of
    some buffer: its range is copied."""
    server = LyingServer(t.path("new.sock"), {"min": 4096, "chunk": "short"})
    with t.qmp(timeout=60 * SLOW) as qmp:
        qmp.command("blockdev-mirror", job_id="m", sync="full",
                    target=t.uri("new"), copy_mode="write-blocking")
        qmp.wait_event("BLOCK_JOB_READY", 60 * SLOW)
        for _ in range(20):
            bench.write()
        t.wait_equal(qmp)
        assert server.disk == bench.content
        qmp.command("block-job-cancel", device="m", force=True)
        qmp.wait(lambda q: q.job() is None, 20 * SLOW)
    server.stop()
    os.unlink(t.path("new.sock"))


def lying_after_pivot(t, bench):
    server = LyingServer(t.path("new.sock"), {"min": 4096})
    with t.qmp(timeout=60 * SLOW) as qmp:
        qmp.command("blockdev-mirror", job_id="m", sync="full",
                    target=t.uri("new"), copy_mode="write-blocking")
        qmp.wait_event("BLOCK_JOB_READY", 60 * SLOW)
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
    only_errors(server, bench.h, True)
    bench.h.shutdown()
    t.stop("proxy")
    server.stop()


def processor_seconds(bench):
    """Of the proxy and of the server that lies."""
    with open("/proc/%d/stat" % bench.proxy.pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return sum(os.times()[:2]) + \
        sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def mutated_for(bench, first, seconds):
    seed = first
    while processor_seconds(bench) < seconds:
        mutated(bench, seed)
        seed += 1
        bench.t.watchdog_again()
    print("seeds %d..%d: %.0f s of processor time, %d bytes resident" %
          (first, seed - 1, processor_seconds(bench), rss(bench.proxy)))


with Test() as t:
    bench = Bench(t)
    if len(sys.argv) > 2:
        mutated_for(bench, int(sys.argv[1]), int(sys.argv[2]))
    else:
        chosen(bench)
        seeds = 1000 if STRESS else 20
        for seed in range(seeds):
            mutated(bench, seed)
        figure("lies", chosen=len(UNFIT) + len(LIES), random=seeds,
               rss=rss(bench.proxy))
    t.nbdkit("target", "memory", str(SIZE))
    bench.qmp.command("blockdev-mirror", job_id="m", sync="full",
                      target=t.uri("target"))
    bench.write()
    t.wait_equal(bench.qmp)
    assert t.compare("proxy", "target")
    bench.qmp.command("block-job-cancel", device="m", force=True)
    bench.qmp.wait(lambda q: q.job() is None, 20 * SLOW)
    bench.qmp.close()
    lying_to_tees(t, bench)
    lying_source(t)
    lying_after_pivot(t, bench)
