#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The proxy dies at each place of the intent file's and of a pivot's that has
a failpoint, under load: it aborts there, or stops and is killed.

* Whatever differs then is in the file, and after a restart both disks become
  the same, and clients find what they have written.
* Around a pivot a restart serves one of the two disks, the one that the file
  names; that has all that was acknowledged, and the other is not written to.

Needs a build with --enable-failpoints.  STRESS: each place in each mode, by
both ways to die."""

import itertools
import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from bitmap import check_recorded, differing, header  # noqa: E402
from dead import WAIT, Scene  # noqa: E402
from failpoints import failpoint, need_failpoints, wait_dead  # noqa: E402
from mirrortest import STRESS, Test  # noqa: E402

SIZE = (32 << 20) + 1536
SMALL = (4 << 20) + 1536
MODES = "write-blocking", "background"
WAYS = "abort", "pause"

# Of a proxy that goes on with a file that was not closed: a page and a header,
# twice, are written before it serves.
UNDER_LOAD = (
    [("intent-write", n) for n in (1, 2, 3, 20)] +
    [("intent-sync", n) for n in (1, 2, 3, 20)] +
    [("intent-recorded", n) for n in (1, 2, 10)] +
    [("intent-retire", n) for n in (1, 2, 10)] +
    [(p, n) for p in ("intent-head", "intent-head-sync", "intent-head-synced")
     for n in (1, 2)])

# What writes a header, twice, in one that runs.
ORDERS = {
    "cancel": {"execute": "block-job-cancel",
               "arguments": {"device": "mirror", "force": True}},
    "fence": {"execute": "mirror-fence", "arguments": {"force": True}},
    "quit": {"execute": "quit"},
}
BY_ORDER = [(p, n, order) for order in ORDERS
            for p in ("intent-head", "intent-head-sync", "intent-head-synced")
            for n in (3, 4)]

# The place, and whether the file then says that clients have been moved.  A
# new file has had four headers before.
PIVOT = [
    ("pivot-before", False), ("pivot-commit", False), ("intent-head:5", False),
    # In the kernel's cache, which survives this.
    ("intent-head-sync:5", True),
    ("intent-head-synced:5", True), ("intent-head:6", True),
    ("intent-head-sync:6", True), ("intent-head-synced:6", True),
    ("pivot-committed", True), ("pivot-after", True),
]


def read(path):
    with open(path, "rb") as f:
        return f.read()


class Dying(Scene):
    def __init__(self, t, mode, size):
        super().__init__(t, mode, size)
        self.file = t.path("bitmap")
        self.keys.update({"mirror-bitmap": self.file,
                          "mirror-suspect-time": 0})

    def start(self, point=None, by_itself=False):
        """by_itself: it may die before it serves."""
        self.target()
        options = "-t8", "-Dmirror.tidy_ms=20"
        if by_itself:
            with failpoint(point):
                return self.proxy(*options, start=self.t.spawn)
        if point:
            with failpoint(point):
                self.mirror(*options)
        else:
            self.mirror(*options)
        return self.t.servers["proxy"]

    def dead(self, load=None):
        """It is; the target after it."""
        self.t.kill("proxy")
        self.fence()
        if load:
            load.over()
        return check_recorded(self.file, self.source, self.disk)


class Running(Dying):
    """One that goes on, again and again."""

    def __init__(self, t):
        super().__init__(t, MODES[0], SIZE)
        self.rng = random.Random(os.environ.get("SEED", "1"))

    def background(self, *options):
        # Slow enough for regions to retire under it.
        return self.load("--reconnect", "--overlap", "--iops=400",
                         "--from=%d" % self.rng.choice([0, 3 << 20]),
                         "--length=28M", "--weights=write=50,read=10,zero=10,"
                         "trim=5,flush=2", *options)

    def restart(self):
        self.start()
        if self.qmp.mirror()["fenced"]:
            self.qmp.command("mirror-fence", enable=False)
        if self.qmp.job() is None:
            self.qmp.command("blockdev-mirror", target=self.t.uri("target"),
                             sync="full")
        self.online()

    def round(self, point, count, way, order=None):
        load = self.background(*(["--allow-errors"] if order else []))
        load.more(self.rng.randrange(1, 100))
        self.qmp.close()
        self.dead(load)
        process = self.start("%s:%d=%s" % (point, count, way), order is None)
        if order:
            load.more(self.rng.randrange(1, 100))
            if order == "quit":
                load.stop()     # it is not in order if a request takes long
            self.qmp.send(ORDERS[order])
        wait_dead(process, way)
        if order:
            self.qmp.close()
        self.dead(None if order == "quit" else load)
        self.restart()
        if order != "quit":
            load.stop()
        self.t.wait_equal(self.qmp)
        self.qmp.close()
        self.t.stop("proxy")
        self.t.stop("target")
        assert not list(differing(self.source, self.disk)), "not identical"
        self.mode = self.keys["mirror-copy-mode"] = self.rng.choice(MODES)
        self.start()


def pivot(t, mode, point, way, moved):
    with Dying(t, mode, SMALL) as s:
        process = s.start("%s=%s" % (point, way))
        s.qmp.wait(lambda q: q.job()["ready"], WAIT)
        load = s.load("--reconnect", "--overlap")
        load.more(100)
        s.qmp.command("job-complete", id="mirror")
        wait_dead(process, way)
        s.qmp.close()
        s.dead(load)
        if point != "pivot-after":
            assert not list(differing(s.source, s.disk)), \
                "clients went on before it was over"
        assert (header(s.file)["disk"] != "-") == moved, header(s.file)
        before = read(s.source)
        s.start()
        m = s.qmp.mirror()
        assert m["pivoted"] == moved and (m["job"] is None) == moved, m
        load.more(100)
        load.stop()
        if moved:
            assert read(s.source) == before, "both disks are written to"
            assert t.compare("proxy", "target", "--no-holes")
        else:
            s.equal()
            assert read(s.source) != before, "the load wrote nothing"
        s.end()
        s.qmp = None
        t.stop("target")


def rounds(places):
    """Each with a way to die; each with both if there is time."""
    if STRESS:
        return list(itertools.product(places, WAYS))
    return [(place, WAYS[n % 2]) for n, place in enumerate(places)]


need_failpoints()
with Test() as test, Running(test) as s:
    s.start()
    s.qmp.wait(lambda q: q.job()["ready"], WAIT)
    for (p, n), w in rounds(UNDER_LOAD):
        s.round(p, n, w)
    for (p, n, o), w in rounds(BY_ORDER):
        s.round(p, n, w, o)
    s.end()
for (p, m), w in rounds(PIVOT):
    for mode in MODES if STRESS else [MODES[len(p) % 2]]:
        with Test() as test:
            pivot(test, mode, p, w, m)
