#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A file system with a journal, written to through the mirror by the kernel:
what a target that loses its power leaves replays its journal cleanly, and has
each file that had been synced by then.  With mirror-target-flush=defer it has
not, or nothing would be tested.

The kernel gets the disk by FUSE and a loop device, for which one must be root,
in a mount namespace of its own: whatever happens, nothing stays."""

import os
import random
import shutil
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from dead import Scene  # noqa: E402
from lossy import Lossy  # noqa: E402
from mirrortest import SLOW, STRESS, TOP, Test, figure, wait_for  # noqa: E402

SIZE = 16 << 20
MOMENTS = 30 if STRESS else 3   # at which the power might have been lost
IMAGES = 8 if STRESS else 4     # ... with as many outcomes
FILES = 24
MOUNTED = "MIRROR_TEST_NAMESPACE"


def run(*args, status=(0,)):
    r = subprocess.run(args, stdin=subprocess.DEVNULL, check=False,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       encoding="utf-8", errors="replace")
    assert r.returncode in status, "%s: status %d\n%s" % (
        " ".join(args), r.returncode, r.stdout)
    return r.stdout


def prepare():
    """Into a namespace of its own; does not return if that is impossible."""
    for tool in ("mkfs.ext4", "e2fsck", "debugfs", "unshare", "mount"):
        if not shutil.which(tool):
            print("there is no", tool)
            sys.exit(77)
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or \
            not os.path.exists("/dev/loop-control"):
        print("needs root, /dev/fuse and loop devices")
        sys.exit(77)
    if MOUNTED not in os.environ:
        os.environ[MOUNTED] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private",
                              sys.executable, os.path.abspath(__file__)])


class Mount:
    """The proxy's export as a directory."""

    def __init__(self, t):
        self.file, self.directory = t.path("export"), t.path("files")
        with open(self.file, "wb"):
            pass
        os.mkdir(self.directory)
        with open(t.path("fuse.log"), "ab") as log:
            self.fuse = subprocess.Popen(
                [sys.executable, os.path.join(TOP, "tests/lib/fusedisk.py"),
                 self.file, t.uri("proxy")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for(lambda: os.path.getsize(self.file) == SIZE or
                 self.fuse.poll() is not None, "fusedisk.py does not start")
        assert self.fuse.poll() is None, "fusedisk.py ended at once"
        self.mounted = subprocess.run(
            ["mount", "-t", "ext4", "-o", "loop,commit=1", self.file,
             self.directory], check=False).returncode == 0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        """Whoever still writes gets errors then."""
        if kind:
            self.fuse.kill()
            subprocess.run(["umount", "-l", self.directory], check=False)
            subprocess.run(["umount", "-l", self.file], check=False)
            return
        if self.mounted:
            run("umount", self.directory)
        run("umount", self.file)
        assert self.fuse.wait(20 * SLOW) == 0, "fusedisk.py has failed"


class Writer(threading.Thread):
    """Replaces files by new ones, syncs them, and remembers what had been
    synced: the number in each."""

    def __init__(self, directory, seed):
        super().__init__(daemon=True)
        self.directory = directory
        self.random = random.Random(seed)
        self.synced = {}
        self.number = 0
        self.stopping = False
        self.wrong = None
        self.start()

    def content(self):
        self.number += 1
        return b"%08d\n" % self.number * self.random.randrange(1, 4000)

    def replace(self, name):
        path = os.path.join(self.directory, name)
        with open(path + ".new", "wb") as f:
            f.write(self.content())
            f.flush()
            os.fsync(f.fileno())
        os.rename(path + ".new", path)
        fd = os.open(self.directory, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        self.synced = {**self.synced, name: self.number}

    def litter(self):
        """What nobody syncs: names come and go, and their blocks."""
        name = os.path.join(self.directory, "x%d" % self.random.randrange(9))
        if os.path.exists(name):
            os.unlink(name)
        else:
            with open(name, "wb") as f:
                f.write(self.content())

    def run(self):
        try:
            while not self.stopping:
                self.replace("f%d" % self.random.randrange(FILES))
                self.litter()
        except OSError as e:
            self.wrong = str(e)

    def more(self, n):
        want = self.number + 2 * n
        wait_for(lambda: self.number >= want or self.wrong, "syncing stalls",
                 120)
        assert not self.wrong, self.wrong

    def stop(self):
        self.stopping = True
        self.join(120 * SLOW)
        assert not self.is_alive(), "a sync hangs"
        assert not self.wrong, self.wrong


def check(t, image, synced):
    """Returns whether the journal had to be replayed, or why the image is
    bad."""
    files, replay = t.path("dump"), False
    try:
        replay = "needs_recovery" in run("dumpe2fs", "-h", image)
        # As at every boot; what is wrong but for the journal is left alone.
        run("e2fsck", "-p", image, status=(0, 1))
        run("e2fsck", "-f", "-n", image)
    except AssertionError as e:
        return replay, str(e)
    shutil.rmtree(files, ignore_errors=True)
    os.mkdir(files)
    run("debugfs", "-R", "rdump / " + files, image)
    for name, number in synced.items():
        path = os.path.join(files, name)
        if not os.path.exists(path):
            return replay, "%s is not there" % name
        with open(path, "rb") as f:
            data = f.read()
        if not data or data != data[:9] * (len(data) // 9) or \
                int(data[:9]) < number:
            return replay, "%s has not what was synced" % name
    return replay, None


def moment(t, disk, writer, seed):
    """Returns how many journals were replayed, and what is wrong."""
    writer.more(2 + seed * 7 % 11)
    synced = writer.synced
    disk.command("images %d %d %s" % (IMAGES, seed * IMAGES,
                                      t.path("image")))
    results = [check(t, "%s.%d" % (t.path("image"), n), synced)
               for n in range(IMAGES)]
    return sum(r for r, _ in results), [why for _, why in results if why]


def mirror(t, s, flush):
    """Returns images, replayed journals, files synced, and what is wrong."""
    replayed, wrong = 0, []
    moments = MOMENTS if flush == "propagate" else 1
    disk = Lossy(t, "target", s.disk)
    s.mirror(target_flush=flush)
    if flush == "propagate":
        s.synced()
    else:
        t.wait_equal(s.qmp)
    with Mount(t) as m:
        if not m.mounted:
            print("cannot mount a loop device here")
            sys.exit(77)
        writer = Writer(m.directory, 1)
        for seed in range(1, moments + 1):
            if flush == "propagate":
                s.qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
            n, bad = moment(t, disk, writer, seed)
            replayed += n
            wrong += bad
        writer.stop()
    target = s.qmp.mirror()["target"]
    assert target["state"] == "online" and target["reconnects"] == 0, target
    s.equal()
    s.end()
    return moments * IMAGES, replayed, writer.number, wrong


prepare()
for flush in ("propagate", "defer"):
    began = time.monotonic()
    with Test() as t, Scene(t, "write-blocking", SIZE) as s:
        s.new_disk(s.source, SIZE)
        run("mkfs.ext4", "-q", "-b", "1024", "-J", "size=1", "-E",
            "lazy_itable_init=0,lazy_journal_init=0", s.source)
        images, replayed, files, wrong = mirror(t, s, flush)
    print("%s: %d images, %d journals replayed, %d files written, %d images "
          "bad, %.1f s" % (flush, images, replayed, files, len(wrong),
                           time.monotonic() - began))
    figure("journal", flush=flush, images=images, replayed=replayed,
           files=files, bad=len(wrong))
    if flush == "propagate":
        assert not wrong, "\n".join(wrong)
        assert replayed > 0, "no journal was in use"
    else:
        assert wrong, "the test finds nothing"
