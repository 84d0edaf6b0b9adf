#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the plugin uring refuses, with a line that says why, and what it is
started with all the same: symbolic links, a kernel that refuses io_uring, no
memory that may be locked, no descriptor for a ring."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402
from uringtest import (NO_URING, Loop, connect, error_of,  # noqa: E402
                       is_root)

import nbd  # noqa: E402

LINE = "io_uring cannot be used"
MIB = 1 << 20


def refused(t, words, *args, prefix=(), before=()):
    """nbdkit does not start, and one line has all these words."""
    if os.path.exists(t.path("bad.sock")):      # it had that already
        os.unlink(t.path("bad.sock"))
    p = subprocess.run([*prefix, "nbdkit", "-f", "-U", t.path("bad.sock"),
                        *before, "uring", *args], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, timeout=30 * SLOW, check=False)
    assert p.returncode == 1, (args, p.returncode, p.stdout)
    lines = [line for line in p.stdout.splitlines()
             if not line.endswith("preadv and pwritev are used instead")]
    assert len(lines) == 1, p.stdout
    for word in words:
        assert word in lines[0], (word, p.stdout)


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
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(t.path("socket"))
        refused(t, ["a socket"], t.path("socket"))
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
    """A file whose mode says so.  One that is being executed cannot be opened
    for writing, not even by root; nor can a loop device that is read-only."""
    path = t.path("mode")
    shutil.copy(disk, path)
    os.chmod(path, 0o444)
    os.chmod(t.tmp, 0o777)
    not_writable(t, "mode", path, nobody())
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


def nobody():
    """A prefix: as somebody who is not root."""
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
            "--bounding-set=-all"] if is_root() else []


def not_writable(t, name, path, prefix=()):
    t.nbdkit(name, "uring", path, prefix=prefix)
    assert error_of(connect, t, name) is not None, "served for writing"
    line = "it can be served read-only (nbdkit -r)"
    assert says(t, name, "file=" + path) == says(t, name, line) == 1
    t.stop(name)
    t.nbdkit(name, "-r", "uring", path, prefix=prefix)
    h = connect(t, name)
    assert h.is_read_only()
    with open(path, "rb") as f:
        assert h.pread(1000, 111) == f.read(1111)[111:]
    assert error_of(h.pwrite, b"x", 0) == "EPERM"
    h.shutdown()
    t.stop(name)
    mirrored(t, name, path, prefix)


def mirrored(t, name, path, prefix):
    """With -r the filter, too, has its source open for reading only.  What it
    is told stays read-only when clients have been moved."""
    with open(path, "rb") as f:
        content = f.read()
    t.nbdkit("target", "memory", str(len(content)))
    os.chmod(t.path("target.sock"), 0o777)
    args = ("--filter=mirror", "uring", path, "mirror-control=" +
            t.path("ctl.sock"), "mirror-target=" + t.uri("target"))
    refused(t, [path, "it can be served read-only (nbdkit -r)"], *args[2:],
            before=args[:1], prefix=prefix)
    name += ".mirror"
    t.nbdkit(name, "-r", *args, prefix=prefix)
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
    dump = subprocess.run([NO_URING, "nbdkit", "uring", "--dump-plugin"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "uring_io_uring=no\n" in dump, dump
    why = dump.rpartition("uring_io_uring_refused=")[2].strip()
    assert why == "built without liburing" if "uring_liburing=no\n" in dump \
        else why.startswith("not permitted "), dump
    refused(t, ["uring=on", why], disk, "uring=on", prefix=[NO_URING])
    os.environ["MIRROR_NO_URING"] = "1"
    t.nbdkit("without", "uring", disk)
    t.nbdkit("off", "uring", disk, "uring=off")
    del os.environ["MIRROR_NO_URING"]
    for name in "without", "off":
        works(t, name)
        works(t, name)
        t.stop(name)
    assert says(t, "without", LINE) == 1
    assert says(t, "off", LINE) == 0


def no_memory(t, disk):
    """RLIMIT_MEMLOCK concerns nobody, root or not; before Linux 5.12 a ring may
    be refused, which is said once."""
    prefix = ["prlimit", "--memlock=0", *nobody()]
    os.chmod(t.tmp, 0o777)
    os.chmod(disk, 0o666)
    for args in [], ["queue-depth=1024"]:
        process = t.nbdkit("locked", "uring", disk, *args, prefix=prefix)
        limits = read("/proc/%d/limits" % process.pid)
        assert re.search(r"Max locked memory +0 +0 ", limits), limits
        works(t, "locked")
        t.stop("locked")
    assert says(t, "locked", LINE) in (0, 2)
    assert says(t, "locked", "error") == says(t, "locked", LINE)


def no_descriptors(t, disk):
    """Not for another ring: requests do without, and nobody hears of it."""
    process = t.nbdkit("full", "uring", disk)
    clients = [connect(t, "full") for _ in range(4)]
    before = set(os.listdir("/proc/%d/fd" % process.pid))
    subprocess.run(["prlimit", "--pid", str(process.pid), "--nofile=%d:" %
                    (max(map(int, before)) + 1)], check=True)
    data = [os.urandom(MIB) for _ in clients]
    threads = [threading.Thread(target=write_and_read, args=(h, n * MIB, d))
               for n, (h, d) in enumerate(zip(clients, data))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60 * SLOW)
    assert set(os.listdir("/proc/%d/fd" % process.pid)) == before
    for n, h in enumerate(clients):
        assert h.pread(MIB, n * MIB) == data[n]
        h.shutdown()
    t.stop("full")
    assert says(t, "full", "error") == says(t, "full", LINE)


def write_and_read(h, at, data):
    for _ in range(10):
        h.pwrite(bytes(len(data)), at)
        h.pwrite(data, at)
        assert h.pread(len(data), at) == data


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


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
    no_descriptors(test, image)
    os.symlink("disk", test.path("link"))
    test.nbdkit("link", "uring", test.path("link"))
    works(test, "link")
