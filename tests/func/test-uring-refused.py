#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the plugin uring refuses, with a line that says why, and what it is
started with all the same: symbolic links, a kernel that refuses io_uring, no
memory that may be locked."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402
from uringtest import NO_URING, Loop, connect, error_of  # noqa: E402

import nbd  # noqa: E402


def refused(t, words, *args, prefix=(), before=()):
    """nbdkit does not start, and one line has all these words."""
    if os.path.exists(t.path("bad.sock")):      # it had that already
        os.unlink(t.path("bad.sock"))
    p = subprocess.run([*prefix, "nbdkit", "-f", "-U", t.path("bad.sock"),
                        *before, "uring", *args], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=30 * SLOW, check=False)
    assert p.returncode == 1, (args, p.returncode, p.stdout)
    assert p.stdout.count("\n") == 1, p.stdout
    for word in words:
        assert word in p.stdout, (word, p.stdout)


def bad_input(t, disk):
    refused(t, ["file=PATH"])
    refused(t, ["given twice"], disk, "file=" + disk)
    refused(t, ["nosuch", "file", "direct", "uring", "queue-depth", "cache"],
            disk, "nosuch=1")
    for key in "direct", "uring":
        refused(t, [key + "=maybe", "auto", "on", "off"], disk, key + "=maybe")
    for depth in "0", "1025", "-1", "x":
        refused(t, ["queue-depth", depth], disk, "queue-depth=" + depth)
    refused(t, ["cache=all", "default", "none"], disk, "cache=all")
    refused(t, ["cache", "direct=on"], disk, "direct=on", "cache=none")


def bad_files(t):
    refused(t, ["nosuch", "No such file"], t.path("nosuch"))
    refused(t, ["a directory"], t.tmp)
    os.mkfifo(t.path("fifo"))
    refused(t, ["a FIFO"], t.path("fifo"))
    refused(t, ["a character device"], "/dev/null")
    os.symlink(t.path("fifo"), t.path("to-fifo"))
    refused(t, ["a FIFO"], t.path("to-fifo"))
    os.symlink("loop", t.path("loop"))
    refused(t, ["symbolic links"], t.path("loop"))


def says(t, name, text):
    with open(t.path(name + ".log"), encoding="utf-8") as f:
        return f.read().count(text)


def not_direct(t):
    """tmpfs does not report direct I/O."""
    path = "/dev/shm/mirror-uring.%d" % os.getpid()
    if subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], check=False,
                      stdout=subprocess.PIPE).stdout != b"tmpfs\n":
        return
    try:
        with open(path, "wb") as f:
            f.truncate(5000)
        refused(t, ["direct=on", "O_DIRECT"], path, "direct=on")
        t.nbdkit("shm", "uring", path, "cache=none")
        works(t, "shm")
        t.stop("shm")
    finally:
        os.unlink(path)


def works(t, name):
    h = connect(t, name)
    size = min(h.get_size(), 3 << 20)
    data = os.urandom(size)
    h.pwrite(data, 0)
    h.pwrite(b"unaligned", 333)
    h.flush()
    assert h.pread(size, 0) == data[:333] + b"unaligned" + data[342:]
    h.shutdown()


def read_only(t, disk):
    """A file that is being executed cannot be opened for writing, not even by
    root; nor can a loop device that is read-only."""
    program = t.path("program")
    shutil.copy(shutil.which("sleep"), program)
    process = subprocess.Popen([program, "1000"])
    try:
        not_writable(t, "program", program)
    finally:
        process.kill()
        process.wait()
    with Loop(disk, "-r") as device:
        if device is not None:
            not_writable(t, "device", device)


def not_writable(t, name, path):
    t.nbdkit(name, "uring", path)
    assert error_of(connect, t, name) is not None, "served for writing"
    line = "it can be served read-only (nbdkit -r)"
    assert says(t, name, "file=" + path) == says(t, name, line) == 1
    t.stop(name)
    t.nbdkit(name, "-r", "uring", path)
    h = connect(t, name)
    assert h.is_read_only()
    with open(path, "rb") as f:
        assert h.pread(1000, 111) == f.read(1111)[111:]
    assert error_of(h.pwrite, b"x", 0) == "EPERM"
    h.shutdown()
    t.stop(name)
    mirrored(t, name, path)


def mirrored(t, name, path):
    """With -r the filter, too, has its source open for reading only.  What it
    is told stays read-only when clients have been moved."""
    with open(path, "rb") as f:
        content = f.read()
    t.nbdkit("target", "memory", str(len(content)))
    args = ("--filter=mirror", "uring", path, "mirror-control=" +
            t.path("ctl.sock"), "mirror-target=" + t.uri("target"))
    refused(t, [path, "it can be served read-only (nbdkit -r)"], *args[2:],
            before=args[:1])
    name += ".mirror"
    t.nbdkit(name, "-r", *args)
    with t.qmp() as q:
        q.wait(lambda q: q.job()["ready"], 60 * SLOW)
        h = connect(t, name)
        refuses_writes(h, content)
        q.command("block-job-complete", device="mirror")
        q.wait(lambda q: q.job() is None, 60 * SLOW)
        refuses_writes(h, content)
        h.shutdown()
        h = connect(t, name)
        refuses_writes(h, content)
        h.shutdown()
    t.stop(name)
    assert says(t, name, "error: file=") == 0
    h = connect(t, "target")
    assert h.pread(len(content), 0) == content
    h.shutdown()
    t.stop("target")


def refuses_writes(h, content):
    assert h.is_read_only()
    assert h.pread(1000, 111) == content[111:1111]
    assert error_of(h.pwrite, b"x", 0) == "EPERM"
    assert error_of(h.zero, 512, 0) == "EPERM"
    assert error_of(h.trim, 512, 0) == "EPERM"


def no_uring(t, disk):
    """As in a container."""
    line = "io_uring cannot be used"
    refused(t, ["uring=on", "not permitted"], disk, "uring=on",
            prefix=[NO_URING])
    dump = subprocess.run([NO_URING, "nbdkit", "uring", "--dump-plugin"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "uring_io_uring=no\n" in dump, dump
    assert "uring_io_uring_refused=" in dump, dump
    os.environ["MIRROR_NO_URING"] = "1"
    t.nbdkit("without", "uring", disk)
    t.nbdkit("off", "uring", disk, "uring=off")
    del os.environ["MIRROR_NO_URING"]
    for name in "without", "off":
        works(t, name)
        works(t, name)
        t.stop(name)
    assert says(t, "without", line) == 1
    assert says(t, "off", line) == 0


def no_memory(t, disk):
    """RLIMIT_MEMLOCK concerns nobody."""
    process = t.nbdkit("locked", "uring", disk)
    subprocess.run(["prlimit", "--pid", str(process.pid), "--memlock=0"],
                   check=True)
    works(t, "locked")
    t.stop("locked")
    assert says(t, "locked", "error") == 0


with Test() as test:
    image = test.path("disk")
    with open(image, "wb") as f:
        f.truncate((4 << 20) + 77)
    bad_input(test, image)
    bad_files(test)
    not_direct(test)
    read_only(test, image)
    no_uring(test, image)
    no_memory(test, image)
    os.symlink("disk", test.path("link"))
    test.nbdkit("link", "uring", test.path("link"))
    works(test, "link")
