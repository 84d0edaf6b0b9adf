#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run never overwrites what it was not told to, and makes of a local
target what the source needs."""

import contextlib
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402
from runtest import (Run, instead_of_proxy, make_disk,  # noqa: E402
                     read_disk, refused)
from uringtest import Loop, Mount  # noqa: E402

SIZE = 3 << 20
DATA = os.urandom(1 << 20)


def mirror(t, *args):
    """Until the target is a copy."""
    with Run(t, *args) as run:
        run.detach()


def check_created(t):
    """Sparse, of the source's size, and not for more eyes than the source."""
    make_disk(t, "s.img", 64 << 20, DATA)
    for mode, want in ((0o644, 0o644), (0o600, 0o600), (0o440, 0o640)):
        os.chmod(t.path("s.img"), mode)
        old = os.umask(0)
        try:
            mirror(t, "s.img", "new.img")
        finally:
            os.umask(old)
        st = os.stat(t.path("new.img"))
        assert st.st_mode & 0o777 == want, oct(st.st_mode)
        assert st.st_size == 64 << 20 and st.st_blocks * 512 < 8 << 20, st
        assert read_disk(t, "new.img") == read_disk(t, "s.img")
        os.unlink(t.path("new.img"))
    t.nbdkit("s", "file", t.path("s.img"))
    mirror(t, t.uri("s"), "new.img")
    assert os.stat(t.path("new.img")).st_mode & 0o777 == 0o600
    t.stop("s")
    # A name is followed, but nothing is made where a link leads to nothing.
    os.symlink("no such", t.path("link"))
    refused(t, "s.img", "link", text="TARGET link: No such file")
    os.unlink(t.path("link"))


def check_not_created(t):
    """What was made for a mirror that did not start is gone again."""
    make_disk(t, "s.img", SIZE, DATA)
    refused(t, "s.img", "no.img", "-o", "granularity=3", lines=2,
            text="mirror-granularity=3: must be a power of two")
    assert not os.path.exists(t.path("no.img"))
    t.nbdkit("s", "file", t.path("s.img"))
    refused(t, t.uri("s"), "no.img", "-o", "sync=incremental", lines=2,
            text="incremental")
    assert not os.path.exists(t.path("no.img"))
    refused(t, t.uri("s"), "no/such/dir", text="TARGET no/such/dir: No such")
    t.stop("s")
    make_disk(t, "zero.img", SIZE)              # but not what was there
    refused(t, "s.img", "zero.img", "-o", "granularity=3", lines=2,
            text="granularity=3")
    assert os.path.getsize(t.path("zero.img")) == SIZE


def check_not_told(t):
    """But it stays if the intent file knows it by then, though nobody has been
    told where the proxy is."""
    env = instead_of_proxy(t, """
kill -STOP $PPID
(LISTEN_PID=$BASHPID exec "$nbdkit" "$@") &
until nbdmirror bitmap map 2>&1 | grep -q '^state *running$'; do :; done
kill -KILL $!; wait $!
kill -CONT $PPID
exit 1""")
    make_disk(t, "s.img", SIZE, DATA)
    run = Run(t, "s.img", "kept.img", "--bitmap", "map", "--control", "c",
              env=env, wait=False)
    run.expect(1, "the proxy did not start: nbdkit ended with status 1")
    assert os.path.exists(t.path("kept.img"))
    mirror(t, "s.img", "kept.img", "--bitmap", "map")
    assert read_disk(t, "kept.img") == read_disk(t, "s.img")
    for name in "kept.img", "map":
        os.unlink(t.path(name))


def check_data(t):
    """Whatever is not zero stands in the way, wherever it is."""
    make_disk(t, "s.img", SIZE, DATA)
    t.nbdkit("s", "file", t.path("s.img"))
    for size, where in ((SIZE, 0), (SIZE, SIZE - 1), (SIZE, 1 << 20),
                        (100, 99), (1 << 20, 12345), (2 * SIZE, 2 * SIZE - 1)):
        for holes in (True, False):
            make_disk(t, "old.img", size, b"" if holes else bytes(size))
            with open(t.path("old.img"), "r+b") as f:
                f.seek(where)
                f.write(b"\1")
            before = read_disk(t, "old.img")
            for source in ("s.img", t.uri("s")):
                refused(t, source, "old.img", text="TARGET old.img: has data "
                        "in it; it is overwritten only with --force")
                assert read_disk(t, "old.img") == before, (size, where)
        mirror(t, "--force", "s.img", "old.img")
        now = read_disk(t, "old.img")
        assert now[:SIZE] == read_disk(t, "s.img")
        assert now[SIZE:] == before[SIZE:]      # not the source's business
    with open(t.path("old.img"), "wb") as f:    # zeroes, a hole, then data
        f.write(bytes(4096))
        f.seek(SIZE - 4096)
        f.write(b"x" * 4096)
    refused(t, "s.img", "old.img", text="has data in it")
    t.stop("s")


def check_zero(t):
    """Nothing but zeroes, allocated or not, of any size: no --force needed."""
    for size in (0, 1, 1 << 20, SIZE, 2 * SIZE):
        for holes in (True, False):
            make_disk(t, "zero.img", size, b"" if holes else bytes(size))
            mirror(t, "s.img", "zero.img")
            now = read_disk(t, "zero.img")
            assert len(now) == max(size, SIZE)
            assert now[:SIZE] == read_disk(t, "s.img")


def check_known(t):
    """One of which the intent file says what is equal stays as it is: what has
    been cut off is not made up for by zeroes."""
    make_disk(t, "s.img", SIZE, DATA)
    args = ("s.img", "known.img", "--bitmap", "map")
    for moved in False, True:
        with Run(t, *args) as run:
            if moved:
                run.ctl("wait", "ready")
                run.ctl("complete")
        with open(t.path("known.img"), "rb") as f:
            copy = f.read()
        os.truncate(t.path("known.img"), SIZE // 2)
        refused(t, *args, lines=2, text="smaller" if moved else
                "another target: that has %d bytes, this one" % SIZE)
        assert os.path.getsize(t.path("known.img")) == SIZE // 2, moved
        with open(t.path("known.img"), "wb") as f:
            f.write(copy)
    # Nor is anything done to any target when the file cannot be read.
    os.truncate(t.path("map"), 100)
    make_disk(t, "short.img", SIZE // 2)
    for name in "known.img", "short.img", "none.img":
        before = os.path.exists(t.path(name)) and read_disk(t, name)
        refused(t, "s.img", name, "--bitmap", "map", "--force", text="map: is ")
        assert (os.path.exists(t.path(name)) and
                read_disk(t, name)) == before, name
    os.unlink(t.path("map"))


def check_itself(t):
    """The source under another name, and disks that another run has."""
    os.symlink("s.img", t.path("link"))
    os.link(t.path("s.img"), t.path("hard"))
    for name in ("s.img", "./s.img", t.path("s.img"), "link", "hard"):
        for force in ((), ("--force",)):
            refused(t, "s.img", name, *force, text="is the source itself")
    assert read_disk(t, "s.img")[:len(DATA)] == DATA
    make_disk(t, "z.img", SIZE)
    make_disk(t, "z2.img", SIZE)
    with Run(t, "s.img", "z.img"):
        for source, target, what in (("link", "z2.img", "SOURCE link"),
                                     ("z.img", "z2.img", "SOURCE z.img"),
                                     ("z2.img", "s.img", "TARGET s.img"),
                                     ("z2.img", "z.img", "TARGET z.img")):
            r = Run(t, source, target, "--force", wait=False)
            r.expect(1, what + ": the file is locked")
    mirror(t, "link", "z2.img")                 # and not any more


@contextlib.contextmanager
def loop_device(t, name):
    """None: there are none here."""
    device = None
    if os.getuid() == 0 and shutil.which("losetup"):
        r = subprocess.run(["losetup", "--show", "-f", t.path(name)],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                           encoding="utf-8", check=False)
        device = r.stdout.strip() if r.returncode == 0 else None
    try:
        yield device
    finally:
        if device:
            subprocess.run(["losetup", "-d", device], check=True)


def check_devices(t):
    for name, size, data in (("d1", SIZE, DATA), ("d2", SIZE, b""),
                             ("d3", SIZE - 512, b"")):
        make_disk(t, name, size, data)
    with loop_device(t, "d1") as one, loop_device(t, "d2") as two, \
            loop_device(t, "d3") as small:
        if not (one and two and small):
            print("no loop devices: not tested")
            return
        refused(t, one, one, text="is the source itself")
        refused(t, "s.img", one, text="has data in it")
        refused(t, one, small, "--force", text="TARGET %s: has %d bytes, the "
                "source %d" % (small, SIZE - 512, SIZE))
        with Run(t, one, two) as run:
            r = Run(t, two, "d4", wait=False)
            r.expect(1, "SOURCE %s: the block device is in use" % two)
            run.detach()
        mirror(t, two, "copy.img")
        mirror(t, "--force", "s.img", one)
    assert read_disk(t, "copy.img") == read_disk(t, "d2")
    assert read_disk(t, "d2")[:len(DATA)] == DATA
    assert read_disk(t, "d1") == read_disk(t, "s.img")


def check_read_only(t):
    """That is said of the target; it is no use to serve it read-only."""
    def check(name, why):
        for args in ((), ("--force",), ("--bitmap", "no.map")):
            refused(t, "s.img", name, *args, text="nbdmirror: run: TARGET %s: "
                    "cannot be written to: %s\n" % (name, why))
        refused(t, t.uri("s"), name, text="cannot be written to: " + why)

    make_disk(t, "s.img", SIZE, DATA)
    make_disk(t, "ro.img", SIZE)
    t.nbdkit("s", "file", t.path("s.img"))
    tested = []
    with Loop(t.path("ro.img"), "-r") as device:
        if device:
            tested.append(device)
            check(device, "Read-only file system")
    with Mount(t, "tmpfs", 2 * SIZE) as mounted:
        if mounted:
            tested.append(mounted)
            shutil.copy(t.path("ro.img"), mounted)
            subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
            check(mounted + "/ro.img", "Read-only file system")
    if shutil.which("chattr") and subprocess.run(
            ["chattr", "+i", t.path("ro.img")], stderr=subprocess.DEVNULL,
            check=False).returncode == 0:
        tested.append("ro.img")
        try:
            check("ro.img", "Operation not permitted")
        finally:
            subprocess.run(["chattr", "-i", t.path("ro.img")], check=True)
    if os.getuid() != 0:
        tested.append("mode")
        os.chmod(t.path("ro.img"), 0o400)
        check("ro.img", "Permission denied")
    if not tested:
        print("nothing is read-only here: not tested")
    t.stop("s")


def check_kinds(t):
    os.mkfifo(t.path("fifo"))
    os.mkdir(t.path("dir"))
    for name, text in (
            ("fifo", "it is a special file"), ("dir", "it is a directory"),
            ("/dev/null", "it is a special file"),
            ("s.img/x", "Not a directory"), ("", "No such file"),
            ("http://h/", "for a file of this name write ./http://h/"),
            ("NBD://h/", "must be a file, a block device, or an NBD URI"),
            ("nbd:h:1", "for a file of this name write ./nbd:h:1")):
        refused(t, "s.img", name, text="TARGET %s: " % name)
        refused(t, "s.img", name, text=text)
        refused(t, name, "none.img", text="SOURCE %s: " % name)
        assert not os.path.exists(t.path("none.img"))
    refused(t, "nosuch", "none.img", text="SOURCE nosuch: No such file")


with Test() as test:
    check_created(test)
    check_not_created(test)
    check_not_told(test)
    check_data(test)
    check_zero(test)
    check_known(test)
    check_itself(test)
    check_devices(test)
    check_read_only(test)
    check_kinds(test)
