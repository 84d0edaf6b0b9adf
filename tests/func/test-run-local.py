#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run serves local disks by the plugin uring: past the page cache,
without io_uring where it is refused, read-only where it must be; and by the
plugin file where there is no uring."""

import contextlib
import ctypes
import mmap
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402
from runtest import (Run, ended, make_disk, processes,  # noqa: E402
                     read_disk)
from uringtest import Loop, error_of  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB
DATA = os.urandom(8 * MIB)
LOST = "nbdkit cannot load the plugin uring"
REFUSED = "io_uring cannot be used"


def command_lines(t):
    """Of the two servers: {"source" or "target": words}."""
    found = {}
    for pid in processes(t):
        words = Run.read("/proc/%d/cmdline" % pid).split("\0")
        found["source" if any(word.startswith("mirror-control=")
                              for word in words) else "target"] = words
    assert set(found) == {"source", "target"}, found
    return found


def plugins(t):
    """What both are served by."""
    def plugin(words):
        return ["uring" if word.endswith("/nbdkit-uring-plugin.so") else word
                for word in words
                if word == "file" or word.endswith("-plugin.so")]

    lines = command_lines(t)
    return plugin(lines["source"]) + plugin(lines["target"])


def use(run, size):
    """Write as a client, also across the end of the last whole block."""
    client = run.connect()
    assert client.get_size() == size
    client.pwrite(b"in the middle", size // 2 + 1)
    client.pwrite(b"x" * 1000, size - 1000)
    client.zero(5000, size - 9999)
    client.flush()
    client.shutdown()


def mirror(t, source, target, size, by, *args, **kwargs):
    """A mirror, with a client, by these two plugins; its log."""
    with Run(t, source, target, *args, **kwargs) as run:
        assert plugins(t) == by, command_lines(t)
        use(run, size)
        run.detach()
        use(run, size)          # it goes on without one
    ended(t)
    return run.read(run.err)


def check_sizes(t):
    """Of a file, also one that is not made of blocks; sparse as it was."""
    for size in (SIZE, SIZE + 333, SIZE + 512, 12345):
        make_disk(t, "s.img", size, DATA[:size // 2])
        with Run(t, "s.img", "t.img") as run:
            assert plugins(t) == ["uring", "uring"], command_lines(t)
            use(run, size)
            run.detach()
            copy, source = read_disk(t, "t.img"), read_disk(t, "s.img")
            assert len(copy) == size and copy == source, size
        assert run.complaints() == [], run.all()
        if size >= SIZE:
            allocated = os.stat(t.path("t.img")).st_blocks * 512
            assert allocated < size - 4 * MIB, allocated
        os.unlink(t.path("t.img"))


#-- the page cache ----------------------------------------------------------

def cached(path):
    """How many bytes of a file are in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size = os.path.getsize(path)
    page = mmap.PAGESIZE
    with open(path, "rb") as f:
        where = libc.mmap(None, ctypes.c_size_t(size), mmap.PROT_READ,
                          mmap.MAP_SHARED, f.fileno(), ctypes.c_long(0))
        assert where not in (None, ctypes.c_void_p(-1).value), "mmap"
        pages = (ctypes.c_ubyte * ((size + page - 1) // page))()
        r = libc.mincore(ctypes.c_void_p(where), ctypes.c_size_t(size), pages)
        assert r == 0, "mincore"
        libc.munmap(ctypes.c_void_p(where), ctypes.c_size_t(size))
    return sum(p & 1 for p in pages) * page


def drop(path):
    with open(path, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def has_direct_io(t, name):
    r = subprocess.run(["nbdkit", "uring", t.path(name), "direct=on", "--run",
                        "true"], stdin=subprocess.DEVNULL, check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return r.returncode == 0


def check_page_cache(t):
    """Copying a disk, and writing to it, leaves nothing there."""
    make_disk(t, "s.img", SIZE, DATA)
    if not has_direct_io(t, "s.img"):
        print("no direct I/O here: the page cache is not looked at")
        return
    assert cached(t.path("s.img")) >= len(DATA)     # we can tell
    drop(t.path("s.img"))
    assert cached(t.path("s.img")) == 0
    with Run(t, "s.img", "t.img") as run:
        use(run, SIZE)
        run.ctl("wait", "ready")
        run.ctl("verify")
        for name in "s.img", "t.img":
            assert cached(t.path(name)) == 0, "%s: %d" % (
                name, cached(t.path(name)))
    assert read_disk(t, "t.img") == read_disk(t, "s.img")
    os.unlink(t.path("t.img"))


#-- what is missing ----------------------------------------------------------

@contextlib.contextmanager
def environment(name, value):
    old = os.environ.get(name)
    os.environ[name] = value
    try:
        yield {name: value}
    finally:
        if old is None:
            del os.environ[name]
        else:
            os.environ[name] = old


def check_no_io_uring(t):
    """The plugins say so, each once, and do without."""
    make_disk(t, "s.img", SIZE, DATA)
    with environment("MIRROR_NO_URING", "1") as env:
        said = mirror(t, "s.img", "t.img", SIZE, ["uring", "uring"], env=env)
    assert said.count(REFUSED) == 2 and LOST not in said, said
    os.unlink(t.path("t.img"))


def check_no_plugin(t):
    """It is said, once, also when a server is started again; and what was
    mirrored by one plugin goes on by the other."""
    make_disk(t, "s.img", SIZE, DATA)
    args = ("s.img", "t.img")
    by_file, by_uring = ["file", "file"], ["uring", "uring"]
    nowhere = {"MIRROR_PLUGIN": t.path("nbdkit-uring-plugin.so")}
    said = mirror(t, *args, SIZE, by_file, env=nowhere)
    assert said.count(LOST) == 1, said
    os.unlink(t.path("t.img"))
    bitmap = ("--bitmap", "intent", "-o", "suspect-time=1")
    for env, by in ((nowhere, by_file), ({}, by_uring), (nowhere, by_file)):
        with Run(t, *args, *bitmap, env=env) as run:
            assert plugins(t) == by, command_lines(t)
            use(run, SIZE)
            run.ctl("wait", "ready")
            os.kill(run.proxy_pid(), 9)
            run.says("again ")
            assert plugins(t) == by, command_lines(t)
            use(run, SIZE)
            run.ctl("wait", "ready")
        assert run.errors().count(LOST) == (env == nowhere), run.all()
        assert read_disk(t, "t.img") == read_disk(t, "s.img")
    os.unlink(t.path("t.img"))


def check_tmpfs(t):
    """No direct I/O."""
    name = "mirror-run.%d" % os.getpid()
    path = os.path.join("/dev/shm", name)
    if subprocess.run(["stat", "-f", "-c", "%T", "/dev/shm"], check=False,
                      stdout=subprocess.PIPE).stdout != b"tmpfs\n":
        return
    try:
        with open(path, "wb") as f:
            f.write(DATA)
            f.truncate(SIZE + 77)
        with Run(t, path, "t.img") as run:
            use(run, SIZE + 77)
            run.detach()
            with open(path, "rb") as f:
                assert read_disk(t, "t.img") == f.read()
        os.unlink(path)
        with Run(t, "t.img", path) as run:
            use(run, SIZE + 77)
            run.detach()
            with open(path, "rb") as f:
                assert read_disk(t, "t.img") == f.read()
    finally:
        if os.path.exists(path):
            os.unlink(path)
    os.unlink(t.path("t.img"))


#-- read-only ---------------------------------------------------------------

def check_read_only(t, source):
    """Clients can only read; also from the target when they have been moved,
    but not when it is served from the start."""
    with open(source, "rb") as f:
        content = f.read()
    # A whole path, by which its servers are found.
    args = (source, "ro.img", "--bitmap", t.path("ro.intent"))
    with Run(t, *args) as run:
        assert "-r" in command_lines(t)["source"]
        client = run.connect()
        client.set_strict_mode(0)
        assert client.is_read_only()
        assert client.pread(1000, 0) == content[:1000]
        assert error_of(client.pwrite, b"x", 0) == "EPERM"
        run.ctl("wait", "ready")
        assert read_disk(t, "ro.img") == content
        run.ctl("complete")
        assert error_of(client.pwrite, b"x", 0) == "EPERM"
        assert error_of(client.trim, 512, 0) == "EPERM"
        client.shutdown()
        assert run.complaints() == [], run.all()
    assert read_disk(t, "ro.img") == content
    with Run(t, *args) as run:
        assert "-r" not in command_lines(t)["source"]
        client = run.connect()
        client.pwrite(b"now", 0)
        client.shutdown()
    # Nor when a further mirror, from that disk on, goes on or has ended.
    make_disk(t, "third.img", len(content))
    t.nbdkit("third", "file", t.path("third.img"))
    with Run(t, *args) as run:
        run.ctl("start", t.uri("third"))
        run.ctl("wait", "ready")
    for data in b"and", b"end":
        with Run(t, *args) as run:
            assert "-r" not in command_lines(t)["source"]
            client = run.connect()
            client.pwrite(data, 0)
            client.shutdown()
            if data == b"and":
                run.detach()
    t.stop("third")
    assert read_disk(t, "third.img").startswith(b"and")
    with open(source, "rb") as f:
        assert f.read() == content
    assert read_disk(t, "ro.img") == b"end" + content[3:]
    # But they may be taken back to the source.
    with Run(t, *args, "-o", "after-pivot=source") as run:
        assert "-r" in command_lines(t)["source"]
    for name in "ro.img", "ro.intent":
        os.unlink(t.path(name))


def check_read_only_sources(t):
    """One that is being executed, and a device; for root there is no other."""
    program = t.path("program")
    shutil.copy(shutil.which("sleep"), program)
    process = subprocess.Popen([program, "1000"])
    try:
        check_read_only(t, program)
    finally:
        process.kill()
        process.wait()
    with Loop(t.path("s.img"), "-r") as device:
        if device:
            check_read_only(t, device)
        else:
            print("no loop devices: not tested")


with Test() as test:
    check_sizes(test)
    check_page_cache(test)
    check_no_io_uring(test)
    check_no_plugin(test)
    check_tmpfs(test)
    check_read_only_sources(test)
