# SPDX-License-Identifier: BSD-3-Clause
"""A mirror with an intent file that is started again and again.

    p = Pair(t)                         # source and target are files
    p.start("mirror-target=" + p.target)
    p.refused("mirror-target=...", text="is of another target")
    p.dump()["state"]
"""

import contextlib
import os
import re
import subprocess

import nbd

from mirrortest import SLOW, wait_for

SIZE = (16 << 20) + 4096
REGION = 1 << 20
WAIT = 60 * SLOW
MODE = "mirror-copy-mode=write-blocking"


class Pair:
    def __init__(self, t, size=SIZE, data=None):
        self.t = t
        self.size = size
        self.source = t.path("source.img")
        self.file = t.path("map")
        self.target = t.uri("target")
        with open(self.source, "wb") as f:
            f.write(os.urandom(size) if data is None else data)
            f.truncate(size)
        self.serve("target", size)

    # -- servers -----------------------------------------------------------

    def serve(self, name, size):
        """A target, empty if it is new."""
        path = self.t.path(name + ".img")
        if not os.path.exists(path):
            with open(path, "wb") as f:
                f.truncate(size)
        self.t.nbdkit(name, "file", path)

    def args(self, *more):
        keys = ["mirror-bitmap=" + self.file,
                "mirror-suspect-time=%d" % SLOW, MODE,
                *more]
        given = {k.split("=")[0]: k for k in keys}      # the last counts
        return ["file", self.source] + [
            k for k in given.values() if not k.endswith("=")]

    def start(self, *more):
        """With these keys; KEY= leaves one out.  When it answers all that the
        start does has been done."""
        self.t.mirror(*self.args(*more))
        self.t.qmp(timeout=WAIT).close()

    def stop(self):
        self.t.stop("proxy")

    def log(self):
        with open(self.t.path("proxy.log"), encoding="utf-8") as f:
            return f.read()

    def said(self, text):
        """In the log, since the last time that it was asked for."""
        log = self.log()
        with open(self.t.path("proxy.log"), "wb"):
            pass
        assert text in log, log

    def refused(self, *more, text, untouched=True):
        """It does not start: one line with the text, status 1."""
        before = self.bytes() if untouched else None
        r = subprocess.run(
            ["nbdkit", "-f", "-U", self.t.path("refused.sock"),
             "--filter=mirror", *self.args(*more),
             "mirror-control=" + self.t.path("refused.ctl")],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, encoding="utf-8", timeout=WAIT,
            check=False)
        assert r.returncode == 1, r
        lines = r.stderr.splitlines()
        assert len(lines) == 1 and text in lines[0], r
        assert not os.path.exists(self.t.path("refused.ctl")), "socket left"
        # nbdkit's own it leaves, if it fails after the fork.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.t.path("refused.sock"))
        if untouched:
            assert self.bytes() == before, "the file was changed"
        return lines[0]

    # -- the file ----------------------------------------------------------

    def bytes(self):
        if not os.path.exists(self.file):
            return None
        with open(self.file, "rb") as f:
            return f.read()

    def dump(self):
        r = subprocess.run(["nbdmirror", "bitmap", self.file], check=True,
                           stdout=subprocess.PIPE, encoding="utf-8")
        return dict(re.match(r"(\S+) +(.*)", line).groups()
                    for line in r.stdout.splitlines())

    def ranges(self):
        r = subprocess.run(["nbdmirror", "bitmap", "--ranges", self.file],
                           check=True, stdout=subprocess.PIPE,
                           encoding="utf-8")
        return [tuple(map(int, line.split()))
                for line in r.stdout.splitlines()]

    def dirty(self):
        return sum(length for _, length in self.ranges())

    def wait_dump(self, what=None, **fields):
        wait_for(lambda: all(self.dump()[k.replace("_", "-")] == v
                             for k, v in fields.items()),
                 what or "not so: %s" % fields)

    def wait_small(self, regions=0):
        """Until the file says that at most so many regions may differ."""
        wait_for(lambda: self.dirty() <= regions * REGION,
                 "the file does not get smaller")

    # -- clients -----------------------------------------------------------

    @contextlib.contextmanager
    def client(self):
        h = nbd.NBD()
        h.connect_uri(self.t.uri("proxy"))
        try:
            yield h
        finally:
            with contextlib.suppress(nbd.Error):
                h.shutdown()

    def write(self, data, offset):
        with self.client() as h:
            h.pwrite(data, offset)
            h.flush()

    def read(self, count, offset):
        with self.client() as h:
            return h.pread(count, offset)

    # -- the job -----------------------------------------------------------

    def ready(self, qmp):
        qmp.wait(lambda q: q.job() and q.job()["ready"], WAIT)

    def no_job(self):
        """Clients are served, and there is no mirror."""
        with self.t.qmp() as q:
            assert q.job() is None, q.job()
            target = q.mirror()["target"]
            assert target["state"] in ("none", "pivoted"), target
        self.read(512, 0)

    def resumed(self, most=None):
        """It goes on by the file, and becomes ready; it copies at most that
        much."""
        with self.t.qmp(timeout=WAIT) as q:
            assert q.mirror()["job"]["sync"] == "incremental", q.mirror()
            self.ready(q)
            copied = q.mirror()["copied-bytes"] + q.mirror()["zeroed-bytes"]
            assert most is None or copied <= most, copied
            return copied

    def equal(self, name="target", disk=None):
        """Nobody writes, and nothing is in flight."""
        with open(disk or self.source, "rb") as f:
            ours = f.read()
        with open(self.t.path(name + ".img"), "rb") as f:
            theirs = f.read(len(ours))
        assert ours == theirs, "the sides differ"
