#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Servers of nbdmirror run that are killed and started again, under a client.
With STRESS=1 more often."""

import os
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
import nbd  # noqa: E402
from mirrortest import BUILD, STRESS, Test, wait_for  # noqa: E402
from runtest import (Run, ended, instead_of_proxy,  # noqa: E402
                     make_disk, processes, read_disk, refused)

SIZE = 4 << 20
DATA = os.urandom(1 << 20)
KILLS = 40 if STRESS else 3


class Writer(threading.Thread):
    """A client that connects again when it is disconnected.  It knows what
    every byte must be that it has been told is written."""

    def __init__(self, run):
        super().__init__()
        self.run_under_test = run
        self.image = bytearray(read_disk(run.t, "s.img"))
        self.ending = False
        self.failure = None
        self.writes = self.connects = 0

    @staticmethod
    def write(client, data, at):
        """One that was under way when the target was lost fails."""
        while True:
            try:
                client.pwrite(data, at)
                return
            except nbd.Error as e:
                if not client.aio_is_ready() or e.errno != "EIO":
                    raise

    def session(self):
        client = nbd.NBD()
        client.connect_uri(self.run_under_test.uri)
        self.connects += 1
        while not self.ending:
            n = self.writes % 256
            at = n * 4096
            # One that fails may have been done or not: done again, it is.
            data = b"%08d" % self.writes
            self.write(client, data, at)
            self.image[at:at + 8] = data
            self.writes += 1
            at = (n * 7 % 256) * 4096
            got = client.pread(8, at)
            assert got == self.image[at:at + 8], (at, got)
        client.shutdown()

    def run(self):
        while not self.ending and self.failure is None:
            try:
                self.session()
            except nbd.Error:
                time.sleep(0.01)        # as any client that reconnects
            except Exception as e:      # pylint: disable=broad-except
                self.failure = e

    def more(self, n):
        want = self.writes + n
        wait_for(lambda: self.failure or self.writes >= want,
                 "the client stands still", 60)
        assert self.failure is None, self.failure

    def stop(self):
        self.ending = True
        self.join()
        assert self.failure is None, self.failure


def check_restart(t):
    """With an intent file the proxy is started again, and the mirror goes on.
    """
    with Run(t, "s.img", "again.img", "--bitmap", "map", "--copy-mode",
             "write-blocking", "-o", "suspect-time=1") as run:
        writer = Writer(run)
        writer.start()
        try:
            for i in range(KILLS):
                connects = writer.connects
                writer.more(20)
                pid = wait_for(lambda: processes(
                    t, "mirror-control=" + run.control), "no proxy")[0]
                os.kill(pid, signal.SIGKILL)
                wait_for(lambda: writer.failure or
                         writer.connects > connects, "not again", 60)
                wait_for(lambda: run.output().count("again ") > i,
                         "again is not told")
                wait_for(lambda: run.output().count("resumed ") > i,
                         "resumed is not told")
        finally:
            writer.stop()
        assert len(run.complaints()) == KILLS, run.all()
        wait_for(lambda: "" == subprocess.run(
            ["nbdmirror", "-S", run.control, "wait", "ready"], check=True,
            stdout=subprocess.PIPE, encoding="ascii").stdout, "not ready")
        run.detach()
    ended(t)
    assert read_disk(t, "s.img") == bytes(writer.image)
    assert read_disk(t, "again.img") == bytes(writer.image)
    # One that does not start is tried again, but not for ever.
    os.unlink(t.path("map"))
    with Run(t, "s.img", "again.img", "--force", "--bitmap", "map", "-o",
             "granularity=4K") as run:
        os.rename(t.path("s.img"), t.path("gone.img"))
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.says("the proxy did not start again: nbdkit ended with status 1; "
                 "it is tried again")
        os.rename(t.path("gone.img"), t.path("s.img"))
        run.says("again ")
        os.rename(t.path("s.img"), t.path("gone.img"))
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.expect(3, "ended with status 1; that was the last of 10 tries")
    os.rename(t.path("gone.img"), t.path("s.img"))
    ended(t)
    # A target of which the file says that it is equal must be there, and be the
    # same one.
    make_disk(t, "other.img", SIZE)
    refused(t, "s.img", "other.img", "--bitmap", "map", lines=2,
            text="is of another target")
    assert read_disk(t, "other.img") == bytes(SIZE)
    os.unlink(t.path("again.img"))
    refused(t, "s.img", "again.img", "--bitmap", "map",
            text="does not exist, but the intent file map says")
    assert not os.path.exists(t.path("again.img"))


def check_file_gone(t):
    """Nothing is started again without what the intent file knew: the next
    proxy would serve the source, and copy it over the target."""
    for moved in True, False:
        make_disk(t, "far.img", SIZE)
        t.nbdkit("far", "file", t.path("far.img"))
        with Run(t, "s.img", t.uri("far"), "--bitmap", "lost") as run:
            run.ctl("wait", "ready")
            if moved:
                run.ctl("complete")
            client = run.connect()
            client.pwrite(b"newest", 0)
            client.flush()
            before = read_disk(t, "far.img")
            os.unlink(t.path("lost"))
            os.kill(run.proxy_pid(), signal.SIGKILL)
            run.expect(1, "the intent file lost is gone")
            assert len(run.complaints()) == 1, run.all()
        ended(t)
        assert not os.path.exists(t.path("lost"))
        if moved:
            assert before.startswith(b"newest")
            assert read_disk(t, "far.img") == before
        t.stop("far")
    # Nor if it has gone by the next try.
    env = instead_of_proxy(t, """
[ -e lost ] || exec "$nbdkit" "$@"
echo x >> starts
[ $(wc -l < starts) -lt 2 ] || rm lost
exit 1""")
    t.nbdkit("far", "file", t.path("far.img"))
    with Run(t, "s.img", t.uri("far"), "--bitmap", "lost", env=env) as run:
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.expect(1, "the proxy has ended; it is not started again, since the "
                   "intent file lost is gone")
        assert read_disk(t, "starts") == b"x\nx\n"
    ended(t)
    t.stop("far")


def check_no_process(t):
    """What cannot even be started is tried again, but not all the time."""
    if os.environ.get("MIRROR_SANITIZER", "no") != "no":
        return                  # its library wants to be the first
    env = {"LD_PRELOAD": os.path.join(BUILD, "tests/lib/.libs/nofork.so"),
           "NOFORK": t.path("nofork")}
    make_disk(t, "f.img", SIZE)
    with Run(t, "s.img", "f.img", "--bitmap", "fork", env=env) as run:
        for pid in (run.proxy_pid,
                    lambda: (set(processes(t, "f.img")) -
                             {run.proxy_pid()}).pop()):
            failures = run.errors().count("run: fork: ")
            make_disk(t, "nofork", 0)
            start = time.monotonic()
            os.kill(pid(), signal.SIGKILL)
            wait_for(lambda: run.errors().count("run: fork: ") > failures + 3,
                     "it is not tried again")
            assert time.monotonic() - start > 3, run.all()
            os.unlink(t.path("nofork"))
            wait_for(lambda: len(processes(t, "f.img")) == 2, "not again")
        run.says("again ")
    ended(t)


def check_source_again(t):
    """-o after-pivot=source takes clients back once, and not those that have
    been moved since."""
    make_disk(t, "far.img", SIZE)
    t.nbdkit("far", "file", t.path("far.img"))
    args = ("s.img", t.uri("far"), "--bitmap", "back")
    old = read_disk(t, "s.img")[:4]
    with Run(t, *args, "--complete") as run:
        run.says("pivoted ")
        client = run.connect()
        client.pwrite(b"lost", 0)
        client.shutdown()
    with Run(t, *args, "-o", "after-pivot=source") as run:
        client = run.connect()
        assert client.pread(4, 0) == old
        client.shutdown()
        run.ctl("start", t.uri("far"))
        run.ctl("wait", "ready")
        run.ctl("complete")
        client = run.connect()
        client.pwrite(b"kept", 0)
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.says("again ")
        client = run.connect()
        assert client.pread(4, 0) == b"kept", client.pread(4, 0)
        client.shutdown()
    assert read_disk(t, "far.img").startswith(b"kept")
    t.stop("far")


def check_moved_again(t):
    """Clients that have been moved on to a third disk get that, from whichever
    process, and by the same command."""
    make_disk(t, "third.img", SIZE)
    t.nbdkit("third", "file", t.path("third.img"))
    args = ("s.img", "second.img", "--bitmap", "moved")
    with Run(t, *args, "--complete") as run:
        run.says("pivoted ")
        run.ctl("start", t.uri("third"))
        run.ctl("wait", "ready")
        run.ctl("complete")
        client = run.connect()
        client.pwrite(b"third", 0)
        os.kill(run.proxy_pid(), signal.SIGKILL)
        run.says("again ")
        client = run.connect()
        assert client.pread(5, 0) == b"third", client.pread(5, 0)
        client.shutdown()
    with Run(t, *args) as run:
        client = run.connect()
        assert client.pread(5, 0) == b"third", client.pread(5, 0)
        client.shutdown()
    assert read_disk(t, "third.img").startswith(b"third")
    t.stop("third")


def check_source_gone(t):
    """After a pivot something must be there in its place, whatever that is; but
    no server."""
    make_disk(t, "old.img", SIZE, DATA)
    for uri in False, True:
        if uri:
            t.nbdkit("old", "file", t.path("old.img"))
        args = (t.uri("old") if uri else "old.img", "new%d.img" % uri,
                "--bitmap", "gone%d" % uri)
        with Run(t, *args, "--complete") as run:
            run.says("pivoted ")
        if uri:
            t.stop("old")
        else:
            os.rename(t.path("old.img"), t.path("kept.img"))
            refused(t, *args, text="SOURCE old.img: No such file")
            make_disk(t, "old.img", 0)
        with Run(t, *args) as run:
            client = run.connect()
            assert client.pread(len(DATA), 0) == DATA
            client.pwrite(b"new", 0)
            client.shutdown()
        if not uri:
            assert read_disk(t, "old.img") == b""
            os.rename(t.path("kept.img"), t.path("old.img"))
        assert read_disk(t, args[1]) == b"new" + DATA[3:] + bytes(
            SIZE - len(DATA))


def check_target_killed(t):
    """A local target is served again; clients that have been moved to it stay
    connected."""
    with Run(t, "s.img", "t.img", "--complete") as run:
        run.says("pivoted ")
        writer = Writer(run)
        writer.start()
        try:
            for i in range(KILLS):
                writer.more(20)
                pids = wait_for(lambda: set(processes(t, "t.img")) -
                                {run.proxy_pid()}, "no server")
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                wait_for(lambda: len(run.complaints()) > i, "not told")
            writer.more(20)
        finally:
            writer.stop()
        assert writer.connects == 1, "disconnected"
        assert all("server of the target was killed by signal 9" in line
                   for line in run.complaints()), run.all()
    assert read_disk(t, "t.img") == bytes(writer.image)


with Test() as test:
    make_disk(test, "s.img", SIZE, DATA)
    check_restart(test)
    check_file_gone(test)
    check_no_process(test)
    check_source_again(test)
    check_moved_again(test)
    check_source_gone(test)
    check_target_killed(test)
