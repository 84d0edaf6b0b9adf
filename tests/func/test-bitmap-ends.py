#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""SIGTERM and quit close the intent file at once: with idle clients that stay
connected, with requests in flight, with a target that hangs.  A SIGKILL that
follows costs nothing once the file is closed, and is like any other before.

A file that was closed in order, with nothing dirty, is gone on with without
copying a byte.  What another one has recorded is suspect for
mirror-suspect-time."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
import nbd  # noqa: E402
from bitmap import REGION, check_recorded, header  # noqa: E402
from dead import WAIT, Scene  # noqa: E402
from mirrortest import SLOW, STRESS, Test, freeze, wait_for  # noqa: E402

SIZE = (16 << 20) + 1536
MODES = "write-blocking", "background"
WAYS = "SIGTERM", "quit"
ROUNDS = 10 if STRESS else 1
SUSPECT = 2
NEVER_MS = 3600000

# Requests in flight may take a second, and so may the job's thread to end.
# Three times that.
CLOSE = 6 * SLOW
# quit: as long for clients to leave, and again for the file.
QUIT = 12 * SLOW


class Ending(Scene):
    def __init__(self, t, mode):
        super().__init__(t, mode, SIZE)
        self.file = t.path("bitmap")
        self.process = None
        self.keys.update({"mirror-bitmap": self.file,
                          "mirror-suspect-time": SUSPECT,
                          "mirror-target-timeout": 100})
        self.start(20)
        self.wait(lambda m: m["bitmap"]["dirty-bytes"] == 0)
        self.end_both()
        self.start()
        self.qmp.wait(lambda q: q.job()["ready"], WAIT)

    def start(self, tidy_ms=NEVER_MS):
        if "target" not in self.t.servers:
            self.target()
        self.mirror("-t8", "-Dmirror.tidy_ms=%d" % tidy_ms)
        self.process = self.t.servers["proxy"]

    def end_both(self):
        self.end()
        self.t.stop("target")

    def order(self, way):
        """To end.  Does not wait."""
        if way == "quit":
            self.qmp.send({"execute": "quit"})
        else:
            self.process.terminate()

    def closed(self):
        """Wait until the file is, in order."""
        wait_for(lambda: header(self.file)["clean"] == "yes",
                 "the file is not closed", CLOSE / SLOW)

    def kill(self):
        self.qmp.close()
        self.t.kill("proxy")

    def ends(self, within):
        """By itself."""
        self.qmp.close()
        status = self.t.servers.pop("proxy").wait(within)
        assert status == 0, status

    def recorded(self):
        """What differs is, also after the target has done all that it was
        sent.  Returns the header."""
        check_recorded(self.file, self.source, self.disk)
        self.fence()
        check_recorded(self.file, self.source, self.disk)
        return header(self.file)

    def resumed(self, clean, load=None):
        """Start it again, and wait for the end of what it has to do.  The load
        makes more."""
        dirty = int(header(self.file)["dirty"].split()[0])
        self.target()
        begin = time.monotonic()
        self.start()
        if clean:
            assert self.qmp.mirror()["suspect-bytes"] == 0
        if load:
            load.more(10)
            load.stop()
        self.qmp.wait(lambda q: q.job()["ready"], WAIT)
        took = time.monotonic() - begin
        assert clean or dirty == 0 or took >= 0.95 * SUSPECT, \
            "%d bytes were suspect for %.3f s only" % (dirty, took)
        m = self.qmp.mirror()
        copied = m["copied-bytes"] + m["zeroed-bytes"] + m["skipped-bytes"]
        assert m["suspect-bytes"] == 0 and (load or copied <= dirty), m
        self.equal()
        self.end_both()
        self.qmp = None


def idle(t, mode, way, then):
    """Nothing is dirty, but three regions are in the file."""
    with Ending(t, mode) as s:
        clients = [s.client() for _ in range(3)]
        for n, h in enumerate(clients):
            h.pwrite(os.urandom(4096), n * 3 * REGION)
        t.wait_equal(s.qmp)
        assert s.qmp.mirror()["bitmap"]["dirty-bytes"] == 3 * REGION
        s.order(way)
        if then == "kill":
            s.closed()
        if then == "leave":
            s.closed()
            if way == "SIGTERM":
                for h in clients:
                    h.shutdown()
            s.ends(QUIT)
        else:
            s.kill()
        head = s.recorded()
        if then != "at once":
            assert head["clean"] == "yes", head
            assert head["dirty"].split()[0] == "0", head
        s.resumed(head["clean"] == "yes")


def busy(t, mode, way, then):
    with Ending(t, mode) as s:
        # Who comes too late is told so.
        load = s.load("--reconnect", "--allow-errors", "--overlap")
        load.more(300)
        s.order(way)
        if then == "kill":
            s.closed()
        s.kill()
        head = s.recorded()
        load.over()
        assert then == "at once" or head["clean"] == "yes", head
        s.resumed(head["clean"] == "yes", load)


def until(clients, condition, what):
    """Their requests go on meanwhile."""
    def turn():
        for h in clients:
            h.poll(0)
        return condition()
    wait_for(turn, what, CLOSE / SLOW)


def hung(t, mode, way, then):
    """The target has been sent something and has not answered."""
    with Ending(t, mode) as s:
        h = s.client()
        h.pread(512, 0)
        freeze(t.servers["target"].pid)
        done = []
        h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(os.urandom(65536))),
                     5 * REGION, lambda err: done.append(err.value) or 1)
        # A tee shows by its region, a copy is in flight.
        until([h], lambda: s.qmp.mirror()["bitmap"]["dirty-bytes"] > 0 and
              (mode == "write-blocking" or
               s.qmp.mirror()["inflight-bytes"] > 0),
              "it is not sent to the target")
        s.order(way)
        if then == "leave":
            until([h], lambda: done, "it gets no answer")
            assert done == [0], done
            if way == "SIGTERM":
                h.shutdown()
            s.ends(QUIT)
        else:
            s.kill()
        check_recorded(s.file, s.source, s.disk)
        s.continued()
        head = s.recorded()
        assert head["clean"] == "no", head
        s.resumed(False)


def killed(t, mode):
    """No order at all."""
    with Ending(t, mode) as s:
        load = s.load("--reconnect", "--overlap")
        load.more(300)
        s.kill()
        head = s.recorded()
        load.over()
        assert head["clean"] == "no" and head["dirty"].split()[0] != "0", head
        s.resumed(False, load)


for _ in range(ROUNDS):
    for m in MODES:
        for w in WAYS:
            for last in "kill", "at once", "leave":
                with Test() as test:
                    idle(test, m, w, last)
            for last in "kill", "at once":
                with Test() as test:
                    busy(test, m, w, last)
            for last in "leave", "at once":
                with Test() as test:
                    hung(test, m, w, last)
        with Test() as test:
            killed(test, m)
