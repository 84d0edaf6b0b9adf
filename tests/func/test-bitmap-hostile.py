#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Intent files that are none, that somebody else could write to or uses, that
cannot be made, and that are damaged: refused with one line, in no time, and
left as they are; and never believed to say less than they must."""

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from restarts import REGION, SIZE, WAIT, Pair  # noqa: E402
from mirrortest import BUILD, SLOW, STRESS, Test, wait_for  # noqa: E402

HEAD = 16384
PAGES = 2 * HEAD


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def seal(head):
    head = bytearray(head)
    head[12:16] = bytes(4)
    head[12:16] = struct.pack("<I", crc32c(head))
    return bytes(head)


def no_files(t):
    """What stands there instead of a file."""
    p = Pair(t)

    def refused(text):
        before = os.lstat(p.file)
        began = time.monotonic()
        p.refused("mirror-target=" + p.target, text=text, untouched=False)
        assert time.monotonic() - began < 10 * SLOW, "it waited"
        after = os.lstat(p.file)
        assert (before.st_ino, before.st_mode, before.st_mtime_ns) == \
            (after.st_ino, after.st_mode, after.st_mtime_ns), text
        r = subprocess.run(["nbdmirror", "bitmap", p.file], check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           encoding="utf-8", timeout=10 * SLOW)
        assert r.returncode == 1 and r.stdout == "" and text in r.stderr, r
        assert r.stderr.count("\n") == 1, r

    os.mkfifo(p.file)
    refused("is a FIFO")
    os.unlink(p.file)
    os.mkdir(p.file)
    refused("is a directory")
    os.rmdir(p.file)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(p.file)
        refused("is a socket")
    os.unlink(p.file)
    for to in t.path("elsewhere"), "/dev/null":
        os.symlink(to, p.file)
        refused("is a symbolic link")
        os.unlink(p.file)
    assert not os.path.exists(t.path("elsewhere"))
    for content in b"", b"x", bytes(100000), os.urandom(100000):
        with open(p.file, "wb") as f:
            f.write(content)
        refused("is no intent file")
        with open(p.file, "rb") as f:
            assert f.read() == content
    shutil.copy(p.source, p.file)
    refused("is no intent file: it is left alone")
    os.unlink(p.file)
    # A good one by a link is no better.
    p.start()
    p.stop()
    os.rename(p.file, t.path("real"))
    os.symlink("real", p.file)
    refused("is a symbolic link")
    # Nothing temporary is left anywhere.
    assert not [n for n in os.listdir(t.tmp) if n.startswith(".")]


def cannot_be_made(t):
    """No directory, no right to write there."""
    p = Pair(t)
    for file, text in (("nowhere/map", "its directory cannot be opened"),
                       ("source.img/map", "its directory cannot be opened"),
                       ("x" * 300, "File name too long")):
        p.file = t.path(file)
        p.refused(text=text)
    p.file = "/proc/map"
    p.refused(text="cannot be made")


def owners(t):
    p = Pair(t)
    p.start()
    p.stop()
    os.chmod(p.file, 0o620)
    p.refused(text="may be written by others (mode 0620)")
    assert p.dump()["state"] == "idle"
    os.chmod(p.file, 0o602)
    p.refused(text="mode 0602")
    os.chmod(p.file, 0o600)
    if os.geteuid() != 0:
        print("not checked: owners (not root)")
        return
    os.chown(p.file, 1, 1)
    p.refused(text="belongs to user 1")
    os.chown(p.file, 0, 0)
    p.start()
    p.stop()


def another_user(t):
    """nbdkit -u: the file belongs to the user that nbdkit becomes."""
    if os.geteuid() != 0:
        print("not checked: another user (not root)")
        return
    p = Pair(t)
    nobody = pwd.getpwnam("nobody").pw_uid
    os.mkdir(t.path("theirs"))
    p.file = t.path("theirs/map")
    for name in "", "source.img", "target.sock", "theirs":
        os.chown(t.path(name), nobody, -1)
    for _ in range(2):
        t.nbdkit("proxy", "-u", "nobody", "--filter=mirror",
                 *p.args("mirror-target=" + p.target),
                 "mirror-control=" + t.path("ctl.sock"))
        with t.qmp(timeout=WAIT) as q:
            p.ready(q)
        p.stop()
        assert os.stat(p.file).st_uid == nobody
    assert p.dump()["clean"] == "yes"
    p.refused(text="belongs to user %d" % nobody)


def two_proxies(t):
    """The second one does not start; the first does not notice.  As a daemon,
    too: the lock is there before nbdkit returns, and survives its fork."""
    p = Pair(t)
    p.start("mirror-target=" + p.target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.wait_small()
    # The first may write to it meanwhile.
    p.refused("mirror-target=" + p.target, text="is in use by another nbdkit",
              untouched=False)
    assert p.dump()["state"] == "running"
    p.write(b"still", 0)
    p.stop()

    pidfile = t.path("daemon.pid")
    argv = ["nbdkit", "-P", pidfile, "-U", t.path("daemon.sock"),
            "--filter=mirror", *p.args("mirror-target=" + p.target)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=WAIT)
    # The child writes it.
    wait_for(lambda: os.path.exists(pidfile) and os.path.getsize(pidfile) > 0,
             "no pid file")
    with open(pidfile, encoding="ascii") as f:
        pid = int(f.read())
    try:
        p.refused(text="is in use by another nbdkit", untouched=False)
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not os.path.exists("/proc/%d" % pid), "the daemon")
    p.start()
    p.resumed(REGION)
    p.stop()
    p.equal()


@contextlib.contextmanager
def file_system(t, options):
    """A small one, or None where that is not allowed."""
    path = t.path("fs")
    os.mkdir(path)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path],
                       stderr=subprocess.DEVNULL, check=False)
    try:
        yield path if r.returncode == 0 else None
    finally:
        if r.returncode == 0:
            subprocess.run(["umount", path], check=True)
        os.rmdir(path)


def file_systems(t):
    """Full, and read-only."""
    p = Pair(t)
    with file_system(t, "size=64k") as path:
        if path is None:
            print("not checked: file systems (nothing can be mounted)")
            return
        p.file = os.path.join(path, "map")
        filler = os.path.join(path, "filler")
        with open(filler, "wb", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(4096))
        p.refused(text="No space left on device")
        assert os.listdir(path) == ["filler"], os.listdir(path)

        # Once it is there it needs no more space.
        os.unlink(filler)
        p.start("mirror-target=" + p.target)
        with open(filler, "wb", buffering=0) as f:
            with contextlib.suppress(OSError):
                while True:
                    f.write(bytes(4096))
        with t.qmp(timeout=WAIT) as q:
            p.ready(q)
            p.wait_small()
            for i in range(0, SIZE - REGION, REGION):
                p.write(b"x" * 512, i)
            assert q.mirror()["bitmap"]["state"] == "running"
        p.stop()
        assert p.dump()["clean"] == "yes"
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        p.refused(text="Read-only file system")
        os.chmod(t.tmp, 0o755)
        p.dump()
        p.file = os.path.join(path, "map2")
        p.refused(text="Read-only file system")


def damaged(t):
    """One header is enough; with none it is refused, and so is a newer version
    in either."""
    p = Pair(t)
    p.start("mirror-target=" + p.target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.stop()
    good = p.bytes()

    def put(content):
        with open(p.file, "wb") as f:
            f.write(content)

    for copy in 0, HEAD:
        bad = bytearray(good)
        bad[copy + 100] ^= 1
        put(bad)
        p.start()
        p.resumed(0)
        p.stop()
        newer = bytearray(good)
        newer[copy + 8] = 2
        newer[copy:copy + HEAD] = seal(newer[copy:copy + HEAD])
        put(newer)
        line = p.refused(text="is an intent file of version 2")
        assert "this program knows 1" in line and "a full copy" in line, line
    bad = bytearray(good)
    bad[100] ^= 1
    bad[HEAD + 100] ^= 1
    put(bad)
    line = p.refused(text="is damaged")
    assert "delete it to start over" in line, line
    # Granules that no mirror has, which nothing behind it would stop.
    bad = bytearray(good)
    for copy in 0, HEAD:
        struct.pack_into("<QQ", bad, copy + 40, 128 << 20, 128 << 20)
        bad[copy:copy + HEAD] = seal(bad[copy:copy + HEAD])
    put(bad)
    p.refused("mirror-buf-size=1G", text="is damaged")
    for n in HEAD, PAGES, len(good) - 1:
        put(good[:n])
        p.refused(text="is cut off: it has %d bytes and needs %d"
                  % (n, len(good)))
    # A page that is not whole: all of it is dirty, and longer is no harm.
    bad = bytearray(good) + b"more"
    bad[PAGES + 20] ^= 1
    put(bad)
    assert p.dirty() == SIZE and p.dump()["bad-pages"] == "1 of 1"
    p.start()
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        assert q.mirror()["copied-bytes"] >= SIZE - 65536
    p.stop()
    p.equal()


def random_damage(t):
    """Whatever happens to the file's bytes: nbdkit refuses it, or copies what
    differs."""
    p = Pair(t, 4 * REGION)
    p.start("mirror-target=" + p.target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.wait_small()
    p.write(b"differs", 2 * REGION)
    t.kill("proxy")
    good = p.bytes()
    with open(p.source, "rb") as f:
        source = f.read()
    # What a write that was torn by the kill would have left.
    with open(t.path("target.img"), "r+b") as f:
        f.seek(2 * REGION)
        f.write(b"torn ...")
    with open(t.path("target.img"), "rb") as f:
        target = f.read()
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print("SEED=%d" % seed)
    rng = random.Random(seed)
    places = [0, 12, 16, 24, 72, 80, HEAD, HEAD + 12, PAGES, PAGES + 8,
              PAGES + 16]
    refused = resumed = 0
    for _ in range(400 if STRESS else 12):
        bad = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 8))):
            at = rng.choice(places) + rng.randrange(40)
            bad[at] = rng.choice((0, 0xff, bad[at] ^ 1 << rng.randrange(8)))
        with open(p.file, "wb") as f:
            f.write(bad)
        with open(t.path("target.img"), "r+b") as f:
            f.write(target)
        r = subprocess.run(["nbdmirror", "bitmap", "--ranges", p.file],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           encoding="utf-8", check=False)
        if r.returncode != 0:
            assert r.returncode == 1 and r.stderr.count("\n") == 1, r
            p.refused(text="map: is ")
            refused += 1
            continue
        p.start("mirror-suspect-time=0")
        p.resumed()
        p.stop()
        p.equal()
        resumed += 1
    with open(p.source, "rb") as f:
        assert f.read() == source
    print("%d refused, %d went on" % (refused, resumed))


def has_failpoints():
    with open(os.path.join(BUILD, "config.h"), encoding="ascii") as f:
        return "#define MIRROR_FAILPOINTS 1" in f.read()


def lost(t):
    """The file cannot be written: it is given up, clients go on, one event and
    one line; and the next start copies everything."""
    if not has_failpoints():
        print("not checked: a file that fails (no --enable-failpoints)")
        return
    for point in "intent-write", "intent-sync":
        p = Pair(t)
        os.environ["MIRROR_FAILPOINT"] = point + "=EIO"
        p.start()
        del os.environ["MIRROR_FAILPOINT"]
        with t.qmp(timeout=WAIT) as q:
            q.command("blockdev-mirror", target=p.target, sync="full",
                      copy_mode="write-blocking")
            p.ready(q)
            q.wait(lambda q: q.mirror()["bitmap"]["state"] == "lost" or
                   q.mirror()["bitmap"]["dirty-bytes"] == 0, WAIT)
            for i in range(0, SIZE - REGION, REGION):
                p.write(b"y" * 512, i)
            q.wait_event("MIRROR_BITMAP_LOST", WAIT)
            b = q.mirror()["bitmap"]
            assert b == {"file": p.file, "state": "lost",
                         "dirty-bytes": SIZE}, b
            assert q.job()["ready"]
        status = subprocess.run(
            ["nbdmirror", "-S", t.path("ctl.sock"), "status"], check=True,
            stdout=subprocess.PIPE, encoding="utf-8").stdout
        assert "bitmap    lost" in status, status
        t.kill("proxy")
        assert p.log().count("the intent file cannot be written") == 1
        p.said("the intent file cannot be written, and is given up")
        assert p.dirty() == SIZE
        p.start("mirror-suspect-time=0")
        p.resumed()
        with t.qmp() as q:
            assert q.mirror()["bitmap"]["state"] == "running"
        p.stop()
        p.equal()
        t.stop("target")
        os.unlink(p.file)


TESTS = (no_files, cannot_be_made, owners, another_user, two_proxies,
         file_systems, damaged, random_damage, lost)

for test in TESTS:
    if len(sys.argv) == 1 or test.__name__ in sys.argv[1:]:
        print(test.__name__, flush=True)
        with Test() as scene:
            test(scene)
