#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The intent file's disk fails.

* The file is given up: it says that everything may differ, or is gone.
  Clients notice nothing; MIRROR_BITMAP_LOST is sent, bitmap.state is "lost";
  a restart copies everything.
* If neither can be done, who writes to what is not recorded waits, at most
  mirror-target-timeout, and gets EIO, and has changed nothing.  All others go
  on.  As soon as the file can be removed so does he.
* A pivot whose record cannot be written does not happen; if it is unknown
  whether it was, clients wait until it is known.

Needs a build with --enable-failpoints."""

import errno
import os
import shutil
import signal
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
import nbd  # noqa: E402
from bitmap import (REGION, check_recorded, differing,  # noqa: E402
                    dirty_ranges, header)
from dead import TIMEOUT, WAIT, Scene  # noqa: E402
from failpoints import failpoint, need_failpoints  # noqa: E402
from mirrortest import Test, all_stopped, wait_for  # noqa: E402

SIZE = (8 << 20) + 1536
MODES = "write-blocking", "background"

# What fails, and whether the file is gone then.  A new file has had four
# headers before.
GIVEN_UP = [
    ("intent-write:1=EIO", False),      # the first that retires
    ("intent-write:6=EIO", False),
    ("intent-sync:1=EIO", False),
    ("intent-sync:5=ENOSPC", False),
    ("intent-write:4=EIO,intent-head:5=EIO", True),
    ("intent-sync:2=EIO,intent-head-sync:5=EIO", True),
]


class Failing(Scene):
    def __init__(self, t, mode):
        super().__init__(t, mode, SIZE)
        self.file = t.path("bitmap")
        self.keys.update({"mirror-bitmap": self.file,
                          "mirror-suspect-time": 0})

    def start(self, point=None, tidy_ms=20):
        self.target()
        options = "-t8", "-Dmirror.tidy_ms=%d" % tidy_ms
        if point:
            with failpoint(point):
                self.mirror(*options)
        else:
            self.mirror(*options)
        self.qmp.wait(lambda q: self.qmp.mirror()["pivoted"] or
                      q.job()["ready"], WAIT)

    def end_both(self):
        self.end()
        self.t.stop("target")

    def restarted(self, everything):
        """From the file as it is."""
        self.start()
        self.equal()
        m = self.qmp.mirror()
        if everything:
            assert m["copied-bytes"] + m["zeroed-bytes"] + \
                m["skipped-bytes"] >= SIZE, m
        assert m["bitmap"]["state"] == "running", m
        self.end_both()

    def bitmap_state(self):
        return self.qmp.mirror()["bitmap"]["state"]


def given_up(t, mode, point, gone):
    with Failing(t, mode) as s:
        s.start(point)
        load = s.load("--iops=400", "--weights=write=50,read=10,zero=10,"
                      "trim=5,flush=2")
        s.qmp.wait_event("MIRROR_BITMAP_LOST", WAIT)
        assert s.bitmap_state() == "lost"
        assert os.path.exists(s.file) != gone
        if not gone:
            assert dirty_ranges(s.file) == [(0, SIZE)], dirty_ranges(s.file)
        load.more(100)
        s.quiet(load)           # no request has failed
        s.qmp.close()
        t.kill("proxy")
        s.fence()
        s.restarted(everything=True)


class Broken:
    """Between: the file cannot be removed, since there is another one of its
    name."""

    def __init__(self, s):
        self.file = s.file
        self.aside = s.file + ".aside"

    def __enter__(self):
        os.rename(self.file, self.aside)
        with open(self.file, "wb"):
            pass
        return self

    def __exit__(self, *exc):
        if os.path.exists(self.file):
            os.unlink(self.file)


def pieces(region):
    """Where to write in a region, again and again."""
    at = region * REGION
    while True:
        for n in range(16):
            yield at + n * 4096


class Hot:
    """A client that writes to one region all the time, in the test's own
    thread: each call is one write that must not wait."""

    def __init__(self, s, region):
        self.h = s.client()
        self.pieces = pieces(region)

    def write(self):
        begin = time.monotonic()
        self.h.pwrite(os.urandom(4096), next(self.pieces))
        return time.monotonic() - begin


def broken(t, mode, killed):
    """Regions 0 and 1 are recorded, no other is, when the file breaks."""
    with Failing(t, mode) as s:
        s.start()
        s.wait(lambda m: m["bitmap"]["dirty-bytes"] == 0)
        s.end_both()
        # Closed in order: a page and four headers.
        s.start("intent-write:4+=EIO,intent-head:5+=EIO", tidy_ms=3600000)
        hot = [Hot(s, n) for n in range(2)]
        for h in hot:
            h.write()
        assert s.qmp.mirror()["bitmap"]["dirty-bytes"] == 2 * REGION
        with Broken(s) as b:
            blocked = s.client()
            done = {}

            def completed(err):
                done["errno"] = err.value
                done["at"] = time.monotonic()
                return 1

            at = 5 * REGION + 512
            with open(s.source, "rb") as f:
                f.seek(at)
                before = f.read(512)
            begin = time.monotonic()
            blocked.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(512)), at,
                               completed)
            while not done:
                blocked.poll(0)
                longest = max(h.write() for h in hot)
                hot[0].h.pread(4096, 7 * REGION)
                assert longest < TIMEOUT or done, longest
                assert time.monotonic() - begin < 10 * TIMEOUT, "no time-out"
            waited = done["at"] - begin
            assert done["errno"] == errno.EIO, done
            assert 0.9 * TIMEOUT <= waited < 3 * TIMEOUT, waited
            with open(s.source, "rb") as f:
                f.seek(at)
                assert f.read(512) == before, "it failed and was written"
            hot[0].h.flush()
            assert s.bitmap_state() == "running"        # not given up yet
            if killed:
                for h in hot:
                    h.h.shutdown()
                s.qmp.close()
                t.kill("proxy")
                s.fence()
                check_recorded(b.aside, s.source, s.disk)
                os.rename(b.aside, s.file)
                s.restarted(everything=False)
                s.qmp = None
                return
            os.unlink(s.file)
            blocked.pwrite(bytes(512), at)
            s.qmp.wait_event("MIRROR_BITMAP_LOST", WAIT)
            assert s.bitmap_state() == "lost"
            assert not os.path.exists(s.file)
            for h in hot:
                h.write()
                h.h.shutdown()
            blocked.shutdown()
        s.equal()
        s.end_both()
        s.restarted(everything=True)


def pivot_fails(t, mode):
    """It is known that the record is not in the file."""
    with Failing(t, mode) as s:
        s.start("intent-head:5=EIO")
        load = s.load()
        s.qmp.command("job-complete", id="mirror")
        event = s.qmp.wait_event("MIRROR_SWITCH_FAILED", WAIT)
        assert "commit record" in event["data"]["error"], event
        load.more(100)
        s.quiet(load, 10 * TIMEOUT)
        m = s.qmp.mirror()
        assert not m["pivoted"] and m["bitmap"]["state"] == "lost", m
        assert header(s.file)["disk"] == "-"
        assert dirty_ranges(s.file) == [(0, SIZE)]
        s.qmp.close()
        t.kill("proxy")
        s.fence()
        s.restarted(everything=True)


def pivot_in_no_file(t, mode, replaced):
    """The file has been removed, or there is another one of its name: a pivot
    is not recorded where no restart would find it."""
    with Failing(t, mode) as s:
        s.start()
        load = s.load()
        load.more(10)
        os.rename(s.file, s.file + ".aside")
        if replaced:
            shutil.copy(s.file + ".aside", s.file)
        s.qmp.command("job-complete", id="mirror")
        event = s.qmp.wait_event("MIRROR_SWITCH_FAILED", WAIT)
        assert "removed or replaced" in event["data"]["error"], event
        load.more(100)
        s.quiet(load, 10 * TIMEOUT)
        m = s.qmp.mirror()
        assert not m["pivoted"], m
        assert m["bitmap"]["state"] == ("running" if replaced else "lost"), m
        assert header(s.file + ".aside")["disk"] == "-"
        s.equal()
        s.end_both()


def pivot_unknown(t, mode, killed):
    """It may be in the file, which can be neither written nor removed."""
    with Failing(t, mode) as s:
        # Until then the file must have its name.
        s.start("intent-head:5=pause,intent-head-sync:5=EIO,"
                "intent-head:6+=EIO")
        load = s.load("--reconnect")
        load.more(10)
        h = s.client()
        done = []
        proxy = t.servers["proxy"].pid
        complete = threading.Thread(target=s.qmp.command,
                                    args=("job-complete",),
                                    kwargs={"id": "mirror"})
        complete.start()
        wait_for(lambda: all_stopped(proxy), "the record is not written")
        with Broken(s) as b:
            os.kill(proxy, signal.SIGCONT)
            complete.join()
            wait_for(lambda: header(b.aside)["state"] == "pivoted",
                     "no record")
            h.aio_pread(nbd.Buffer(512), 0,
                        lambda err: done.append(err.value) or 1)
            begin = time.monotonic()
            while time.monotonic() - begin < TIMEOUT:
                h.poll(20)
                m = s.qmp.mirror()
                assert not done and not m["pivoted"], (done, m)
            if killed:
                s.qmp.close()
                t.kill("proxy")
                s.fence()
                load.over()
                assert not list(differing(s.source, s.disk)), "they differ"
                os.rename(b.aside, s.file)
                s.start()
                assert s.qmp.mirror()["pivoted"]
                load.more(100)
                load.stop()
                s.end_both()
                return
            os.unlink(s.file)
            event = s.qmp.wait_event("MIRROR_SWITCH_FAILED", WAIT)
            assert "commit record" in event["data"]["error"], event
            wait_for(lambda: h.poll(10) is not None and done, "still held")
            assert done == [0], done
            h.shutdown()
        assert not os.path.exists(s.file)
        load.more(100)
        load.stop()
        assert not s.qmp.mirror()["pivoted"]
        assert s.bitmap_state() == "lost"
        s.equal()
        s.end_both()
        s.restarted(everything=True)


need_failpoints()
for n, (p, g) in enumerate(GIVEN_UP):
    with Test() as test:
        given_up(test, MODES[n % 2], p, g)
for m in MODES:
    for k in False, True:
        with Test() as test:
            pivot_in_no_file(test, m, k)
        with Test() as test:
            broken(test, m, k)
        with Test() as test:
            pivot_unknown(test, m, k)
    with Test() as test:
        pivot_fails(test, m)
