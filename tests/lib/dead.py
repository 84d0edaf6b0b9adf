# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of dead targets have in common: a mirror of a disk with
content, whose target will go and come back.

    with Test() as t, Scene(t, "write-blocking") as s:
        s.target()                      served from a file
        s.mirror()                      ... and mirrored to
        t.kill("target")
        s.offline()
        s.target()
        s.equal()                       by itself, byte for byte
"""

import os
import re
import signal
import subprocess
import time

from mirrortest import SLOW, STRESS, listens, wait_for

import nbd

SIZE = (16 << 20) + 1536       # what qemu-nbd does not round
GRANULARITY = 64 << 10

# In seconds.
TIMEOUT = 1 * SLOW
SUSPECT = 1
WAIT = 60 * SLOW
MINUTE = 60 if STRESS else 3    # how long something is to last


class Scene:
    def __init__(self, t, mode, size=SIZE):
        self.t = t
        self.mode = mode
        self.size = size
        self.disk = t.path("disk")
        self.keys = {"mirror-target-timeout": TIMEOUT,
                     "mirror-suspect-time": SUSPECT,
                     "mirror-granularity": GRANULARITY,
                     "mirror-copy-mode": mode,
                     "mirror-target": t.uri("target")}
        self.backoff_ms = 20
        self.qmp = None
        self.loads = 0
        self.requests = 0       # of the loads that have ended
        self.longest = 0        # ... in seconds
        self.source = t.path("source")
        with open(self.source, "wb") as f:
            f.write(os.urandom(size))
        self.plugin = ["file", self.source]
        self.new_disk(self.disk, size)

    @staticmethod
    def new_disk(path, size):
        """Of zeroes."""
        with open(path, "wb") as f:
            f.truncate(size)

    def target(self, *filters, disk=None, read_only=False, **keys):
        """Start the target."""
        return self.t.nbdkit(
            "target", *(["-r"] if read_only else []),
            *("--filter=" + x for x in filters), "file",
            disk or self.disk, *("%s=%s" % (k.replace("_", "-"), v)
                                 for k, v in keys.items()))

    def qemu_target(self, *options, disk=None):
        """The same, of QEMU: nbdkit 1.32 does not survive that a connection
        is lost on which it has requests to answer."""
        sock = self.t.path("target.sock")
        if os.path.exists(sock):
            os.unlink(sock)
        with open(self.t.path("target.log"), "ab") as log:
            process = subprocess.Popen(
                ["qemu-nbd", "-t", "-e", "64", "-f", "raw", "-k", sock,
                 *options, disk or self.disk],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.t.servers["target"] = process
        wait_for(lambda: process.poll() is not None or listens(sock),
                 "qemu-nbd does not start")
        assert process.poll() is None, "qemu-nbd ended at once"

    def proxy(self, *args, start=None, **keys):
        """args: filters, and their keys."""
        self.keys.update({"mirror-" + k.replace("_", "-"): v
                          for k, v in keys.items()})
        return self.t.mirror(*(x for x in args if x[0] == "-"), "-D",
                             "mirror.backoff_ms=%d" % self.backoff_ms,
                             *self.plugin,
                             *(x for x in args if x[0] != "-"),
                             *("%s=%s" % x for x in self.keys.items()),
                             start=start)

    def fence(self):
        """End the target after a proxy that was killed: what that has sent is
        done, or never will be.  nbdkit 1.32 may have done so itself (see
        qemu_target)."""
        process = self.t.servers.pop("target")
        process.terminate()
        status = process.wait(20 * SLOW)
        assert status in (0, -signal.SIGABRT), status

    def mirror(self, *args, **keys):
        self.proxy(*args, **keys)
        self.qmp = self.t.qmp(timeout=WAIT)

    def client(self):
        h = nbd.NBD()
        h.connect_uri(self.t.uri("proxy"))
        return h

    # -- the oracle

    def load(self, *args):
        """A client that writes all the time."""
        self.loads += 1
        load = self.t.load("load%d" % self.loads, "--connections=3",
                           "--max-size=64K", "--seed=%d" % self.loads, *args)
        load.more(1)
        return load

    def quiet(self, load, limit=TIMEOUT + SLOW):
        """End it: no request has failed, each byte is right, and none has
        taken longer than `limit` seconds.  Returns the longest."""
        load.stop()
        with open(load.log, encoding="utf-8") as f:
            longest = int(re.findall(r"max-us=(\d+)", f.read())[-1]) / 1e6
        assert longest <= limit, "a request has taken %.3f s" % longest
        self.requests += load.count()
        self.longest = max(self.longest, longest)
        return longest

    # -- the job

    def state(self):
        return self.qmp.mirror()["target"]["state"]

    def wait(self, condition, timeout=WAIT):
        """condition: over the answer of query-mirror."""
        return self.qmp.wait(lambda q: condition(q.mirror()), timeout)

    def online(self):
        self.wait(lambda m: m["target"]["state"] == "online")

    def offline(self):
        self.wait(lambda m: m["target"]["state"] in ("offline",
                                                     "connecting"))

    def reconnected(self, before):
        """There is a session, and not the one that was."""
        self.wait(lambda m: m["target"]["state"] == "online" and
                  m["target"]["reconnects"] > before)

    def reconnects(self):
        return self.qmp.mirror()["target"]["reconnects"]

    def synced(self):
        """As much as the mode can prove: all is on the target, flushed."""
        if self.mode == "write-blocking":
            self.qmp.wait(lambda q: q.job()["actively-synced"], WAIT)
        else:
            self.qmp.wait(lambda q: q.job()["ready"], WAIT)
            self.t.wait_equal(self.qmp, WAIT)

    def equal(self):
        """Nobody writes: it becomes so by itself."""
        self.online()
        self.t.wait_equal(self.qmp, WAIT)
        assert self.t.compare("proxy", "target", "--no-holes"), \
            "not identical: %s" % self.qmp.mirror()

    def last(self, load, seconds, action=None, every=0.05):
        """So long, and under load all the while, repeat an action."""
        begin = time.monotonic()
        before, times = load.count(), 0
        while time.monotonic() - begin < seconds:
            if action:
                action()
            times += 1
            due = begin + times * every
            wait_for(lambda: time.monotonic() >= due, "the clock")
            if times % 100 == 0:
                load.more(1)    # else it stalls
        assert load.count() > before, "there was no load"

    def stopped(self, name="target"):
        self.t.servers[name].send_signal(signal.SIGSTOP)

    def continued(self, name="target"):
        self.t.servers[name].send_signal(signal.SIGCONT)

    def end(self):
        self.qmp.close()
        self.t.stop("proxy")

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.qmp:
            self.qmp.close()
