#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The proxy is killed at random moments under load, in both modes.  Each time:

* whatever differs between the two disks is in a region that the intent file
  says may differ, as it is after the kill, and before anything is restarted;
* a restart copies no more than that, and then both disks are the same;
* clients find what they have written (the oracle checks it).

The proxy is in one process with its source, so the source stands still then.
The target may still carry out what it has been sent: it is ended, which is a
fence, so that the suspect time can be 0 here.  STRESS: two thousand kills, and
the figures."""

import os
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from bitmap import check_recorded, differing  # noqa: E402
from dead import Scene  # noqa: E402
from mirrortest import STRESS, Test, wait_for  # noqa: E402

SCENES = 20 if STRESS else 1            # in each mode; a new pair of disks
KILLS = 50 if STRESS else 12            # in each
SIZE = (64 << 20) + 1536


class Killed(Scene):
    def __init__(self, t, mode, number, copied):
        super().__init__(t, mode, SIZE)
        self.file = t.path("bitmap")
        self.keys.update({"mirror-bitmap": self.file,
                          "mirror-suspect-time": 0})
        self.rng = random.Random("%s %d %s" % (mode, number,
                                               os.environ.get("SEED", 1)))
        self.copied = copied

    def start(self):
        self.target()
        self.mirror("-t8", "-Dmirror.tidy_ms=%d" %
                    self.rng.choice([20, 20, 300, 5000]))

    def load(self):
        return super().load(
            "--reconnect", "--overlap", "--from=%d" %
            self.rng.choice([0, 4 << 20, 37 << 20, 44 << 20]),
            "--length=%dM" % self.rng.choice([1, 2, 20]),
            "--weights=write=50,read=10,zero=10,trim=5,flush=%d" %
            self.rng.choice([0, 2, 10]))

    def kill(self, load):
        """Both, the target after the proxy."""
        self.qmp.close()
        self.t.kill("proxy")
        self.fence()
        load.over()
        return check_recorded(self.file, self.source, self.disk)

    def round(self):
        load = self.load()
        load.more(self.rng.randrange(1, 3000))
        recorded = self.kill(load)
        self.start()
        self.quiet(load)
        self.online()
        self.t.wait_equal(self.qmp)
        mirror = self.qmp.mirror()
        written = mirror["copied-bytes"] + mirror["zeroed-bytes"]
        self.qmp.close()
        self.t.stop("proxy")
        self.t.stop("target")
        assert not list(differing(self.source, self.disk)), "not identical"
        self.copied.append((recorded, written))
        self.start()


def run(mode, number, copied):
    with Test() as t, Killed(t, mode, number, copied) as s:
        s.target()
        s.mirror("-Dmirror.tidy_ms=100")
        s.qmp.wait(lambda q: q.job()["ready"])
        # The first copy is of everything.
        wait_for(lambda: s.qmp.mirror()["bitmap"]["dirty-bytes"] < SIZE // 4,
                 "nothing retires")
        for _ in range(KILLS):
            s.round()
        s.end()
        s.qmp = None


def percentile(numbers, p):
    return sorted(numbers)[len(numbers) * p // 100]


for m in "write-blocking", "background":
    pairs = []
    for scene in range(SCENES):
        run(m, scene, pairs)
    recorded, written = zip(*pairs)
    print("%s: %d kills; recorded p50 %d, p99 %d bytes; copied again p50 %d, "
          "p99 %d bytes of %d" %
          (m, len(pairs), percentile(recorded, 50), percentile(recorded, 99),
           percentile(written, 50), percentile(written, 99), SIZE))
    assert percentile(written, 50) < SIZE // 2, "all is copied again"
