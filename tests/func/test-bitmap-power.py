#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Source, target or both lose their power under load, with what they had
acknowledged and not yet flushed, alone or together with a proxy that has an
intent file:

* what a client had flushed is on the source;
* once the proxy is gone, what differs between what is left of both disks is
  in the file;
* when all are started again both become the same.

The source is behind the plugin nbd or nbdsource; when it is lost, so is all that
the proxy could serve: also if it comes back, since what it had not been asked to
flush is gone, and a flush that succeeds then would hide that.  The proxy is ended
in order."""

import os
import random
import signal
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
import nbd  # noqa: E402
from bitmap import REGION, check_recorded  # noqa: E402
from dead import Scene  # noqa: E402
from journal import Journal, check_flushed  # noqa: E402
from lossy import PLUGIN, Lossy  # noqa: E402
from mirrortest import STRESS, Test, wait_for  # noqa: E402

SIZE = (32 << 20) + 1536
AREA = 4 << 20                  # of the disk; of each client a region in it
SCRIBBLERS = 2                  # in the rest
REST = 16 << 20
ROUNDS = 20 if STRESS else 1
MODES = "write-blocking", "background"

# Who ends at once; the order is random.
LOSSES = [("source",), ("target",), ("source", "proxy"), ("target", "proxy"),
          ("source", "target", "proxy")]


class Scribbler(threading.Thread):
    """A client that writes here and there, so that regions come and go, and
    never flushes."""

    def __init__(self, h, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.h = h
        self.count = 0
        self.stopping = False
        self.wrong = None
        self.start()

    def run(self):
        try:
            while not self.stopping:
                region = self.random.randrange((SIZE - REST) // REGION)
                for _ in range(self.random.randrange(1, 10)):
                    self.h.pwrite(self.random.randbytes(4096),
                                  REST + region * REGION +
                                  self.random.randrange(REGION - 4096))
                    self.count += 1
        except nbd.Error as e:
            self.wrong = str(e)

    def more(self, n):
        want = self.count + n
        wait_for(lambda: self.count >= want or self.wrong, "it stalls")
        assert not self.wrong, self.wrong

    def stop(self):
        self.stopping = True
        self.join()
        assert not self.wrong, self.wrong
        self.h.shutdown()


def read_image(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    image = b"".join(h.pread(min(1 << 20, SIZE - at), at)
                     for at in range(0, SIZE, 1 << 20))
    h.shutdown()
    return image


class Power(Scene):
    def __init__(self, t, mode, lost, seed):
        super().__init__(t, mode, SIZE)
        self.seed = seed
        self.nr_journals = 0 if (seed + MODES.index(mode) +
                                 LOSSES.index(lost)) % 2 else 3
        self.rng = random.Random("%d %s %s" % (seed, mode, lost))
        self.file = t.path("bitmap")
        self.keys["mirror-bitmap"] = self.file
        self.plugin = [self.rng.choice(["nbd", "nbdsource"]),
                       "uri=" + t.uri("source")]
        self.images = {"source": self.source, "target": self.disk}
        self.servers = {}
        self.journals = self.clients = []
        self.recorded = 0

    def start(self):
        for name, image in self.images.items():
            if name not in self.servers:
                self.servers[name] = Lossy(self.t, name, image)
        if "proxy" not in self.t.servers:
            self.mirror("-Dmirror.tidy_ms=%d" %
                        self.rng.choice([20, 200, 5000]))

    def lose(self, name):
        if name == "proxy":
            self.qmp.close()
            self.t.kill("proxy")
        else:
            server = self.servers.pop(name)
            try:
                server.lose_power(self.rng.randrange(1 << 32))
            except (OSError, AssertionError):
                self.aborted(name)

    def aborted(self, name):
        """nbdkit 1.32 does when a connection is lost on which it has requests
        to answer; that is a loss of power, too."""
        status = self.t.servers.pop(name).wait(20)
        assert status == -signal.SIGABRT, status

    def left(self):
        """Paths of what is on the two disks now."""
        for name, image in self.images.items():
            path = image + ".now"
            try:
                now = name in self.servers and read_image(self.t.uri(name))
            except nbd.Error:
                self.servers.pop(name)
                self.aborted(name)
                now = None
            if now:
                with open(path, "wb") as f:
                    f.write(now)
            yield path if now else image

    def flushed(self):
        return {at: n for j in self.journals for at, n in j.flushed.items()}

    def comes_back(self):
        """Nobody is told that all is well, whether he was there or not."""
        self.servers["source"] = Lossy(self.t, "source", self.source)
        h = self.client()
        for request in (h.flush,), (h.pwrite, b"x", 0), (h.pread, 1, 0):
            try:
                request[0](*request[1:])
            except nbd.Error:
                continue
            raise AssertionError("%s: %s goes on" % (self.plugin[0],
                                                     request[0].__name__))
        h.shutdown()

    def after_loss(self, lost):
        """The proxy cannot serve any more."""
        for client in self.clients:
            client.join()
            assert client.wrong, "it goes on without a disk"
            client.h = None             # that closes it
        if lost == ("source",):
            self.comes_back()
        if "proxy" not in lost:
            self.end()
        source, target = self.left()
        with open(source, "rb") as f:
            check_flushed(f.read(), self.flushed())
        self.recorded = check_recorded(self.file, source, target)
        self.start()

    def load(self):
        """Without a journal nobody flushes, but for the mirror itself, before
        it lets a region go."""
        self.journals = [
            Journal(self.client(), self.seed,
                    n * AREA + self.rng.randrange(4) * REGION, REGION)
            for n in range(self.nr_journals)]
        self.clients = self.journals + [
            Scribbler(self.client(), self.rng.random())
            for _ in range(SCRIBBLERS)]
        for client in self.clients:
            client.more(1)
        self.clients[-1].more(self.rng.randrange(50, 300))

    def crash(self, lost):
        self.load()
        for name in self.rng.sample(lost, len(lost)):
            self.lose(name)
        if lost == ("target",):
            self.offline()
            self.clients[0].more(5)     # on the source alone
            self.start()
            self.online()
            for client in self.clients:
                client.more(5)
                client.stop()
        else:
            self.after_loss(lost)
        self.equal()
        check_flushed(read_image(self.t.uri("proxy")), self.flushed())
        print("%s, %s: %s lost: %d blocks had been flushed, %d bytes recorded" %
              (self.mode, self.plugin[0], " and ".join(lost),
               len(self.flushed()), self.recorded))


def run(mode, lost, seed):
    with Test() as t, Power(t, mode, lost, seed) as s:
        s.start()
        s.qmp.wait(lambda q: q.job()["ready"])
        if seed % 4 > 0:        # else all of the first copy is recorded
            wait_for(lambda: s.qmp.mirror()["bitmap"]["dirty-bytes"] == 0,
                     "nothing retires")
        s.crash(lost)
        s.end()


assert os.path.exists(PLUGIN), PLUGIN
first = int(os.environ.get("SEED", 1))
for number in range(first, first + ROUNDS):
    for m in MODES:
        for what in LOSSES:
            run(m, what, number)
