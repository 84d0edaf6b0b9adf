#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What follows from an intent file at the start, row by row of the table in
nbdkit-mirror-filter(1), with real servers and disks.  Each function is a test
of its own; with names as arguments only those are run."""

import errno
import os
import stat
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from restarts import MODE, REGION, SIZE, WAIT, Pair  # noqa: E402
from mirrortest import SLOW, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

GRANULE = 65536


def no_file(t):
    """It is made, of its full size, and a mirror starts as it is told to."""
    for more, state in (((), "idle"),
                        (("mirror-target=" + t.uri("target"),), "running"),
                        (("mirror-target=" + t.uri("target"),
                          "mirror-sync=none"), "running")):
        p = Pair(t)
        p.start(*more)
        st = os.lstat(p.file)
        assert stat.S_IMODE(st.st_mode) == 0o600, oct(st.st_mode)
        assert st.st_size == 32768 + 512 and st.st_blocks * 512 >= st.st_size
        d = p.dump()
        assert d["state"] == state and d["fenced"] == "no", d
        assert d["source"] == "file=" + p.source, d
        assert d["source-size"].startswith("%d " % SIZE), d
        assert d["region"].startswith("%d " % REGION), d
        assert p.dirty() == SIZE or state != "idle"
        with t.qmp() as q:
            bitmap = q.mirror()["bitmap"]
            assert bitmap["file"] == p.file and bitmap["state"] == state
        p.stop()
        os.unlink(p.file)
        t.stop("target")


def incremental(t):
    """Only for a mirror that was running."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.refused(target, "mirror-sync=incremental", text="no such file")
    assert not os.path.exists(p.file)
    p.refused("mirror-bitmap=", target, "mirror-sync=incremental",
              text="mirror-bitmap")
    p.start()
    with t.qmp() as q:
        assert "'idle'" in q.refused("blockdev-mirror", target=p.target,
                                     sync="incremental")
    p.stop()
    p.refused(target, "mirror-sync=incremental", text="says 'idle'")
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        assert q.mirror()["job"]["sync"] == "full"
    p.stop()
    p.start(target, "mirror-sync=incremental")
    p.resumed(0)
    p.stop()


def in_order(t):
    """After SIGTERM or quit nothing is copied that was equal."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.write(b"x" * 4096, 3 * REGION)
    p.stop()
    assert p.dump()["clean"] == "yes" and p.dirty() == 0, p.dump()
    p.start(target, "mirror-suspect-time=3600")
    p.resumed(0)
    p.said("goes on with what is recorded")
    metrics = subprocess.run(
        ["nbdmirror", "-S", t.path("ctl.sock"), "metrics"], check=True,
        stdout=subprocess.PIPE, encoding="ascii").stdout.splitlines()
    assert "nbdmirror_bitmap_dirty_bytes 0" in metrics, metrics
    states = [line for line in metrics if "nbdmirror_bitmap_state{" in line]
    assert len(states) == 7 and [s for s in states if s.endswith(" 1")] == [
        'nbdmirror_bitmap_state{nbdmirror_bitmap_state="running"} 1'], states
    # The target that is recorded is good enough.
    p.write(b"y" * 4096, 5 * REGION)
    with t.qmp() as q:
        q.command("quit")
    wait_for(lambda: t.servers["proxy"].poll() is not None, "quit")
    del t.servers["proxy"]
    p.start("mirror-suspect-time=3600")
    p.resumed(0)
    with t.qmp() as q:
        assert q.mirror()["target"]["uri"] == p.target
    p.stop()
    p.equal()


def killed_after_sigterm(t):
    """An idle client keeps nbdkit, but not the file, open: SIGKILL after
    SIGTERM costs nothing."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    with p.client() as h:
        h.pwrite(b"z" * 4096, 0)
        t.servers["proxy"].terminate()
        p.wait_dump(clean="yes")
        assert p.dirty() == 0
        # If none of the connection's threads has come to wait for a request yet,
        # nbdkit ends.
        assert SLOW > 1 or t.servers["proxy"].poll() is None
        try:
            h.pwrite(b"too late", 0)
            raise AssertionError("a write after the end")
        except nbd.Error as e:
            assert e.errnum == errno.ESHUTDOWN or SLOW > 1, e
        t.kill("proxy")
    p.start(target, "mirror-suspect-time=3600")
    p.resumed(0)
    p.stop()
    p.equal()


def killed(t):
    """kill -9: what was written lately is copied, after a while; no more."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.wait_small()
    p.write(b"1" * 4096, 3 * REGION + 100)
    p.write(b"2" * 4096, 7 * REGION - 100)
    assert p.ranges() == [(3 * REGION, REGION), (6 * REGION, 2 * REGION)]
    t.kill("proxy")
    d = p.dump()
    assert d["clean"] == "no" and d["dirty"].startswith("%d " % p.dirty()), d
    assert p.ranges() == [(3 * REGION, REGION), (6 * REGION, 2 * REGION)]
    began = time.monotonic()
    p.start(target)
    with t.qmp() as q:
        assert q.mirror()["bitmap"]["dirty-bytes"] == 3 * REGION
        assert q.mirror()["suspect-bytes"] == 3 * REGION
    copied = p.resumed(3 * REGION)
    assert copied > 0 and time.monotonic() - began >= 1
    p.stop()
    p.equal()


def of_another(t):
    """Another source, target, size or granularity: refused, untouched."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.stop()
    p.serve("other", SIZE)

    p.refused("mirror-target=" + t.uri("other"), text="is of another target")
    p.refused(target, "mirror-granularity=4K", text="another granularity")
    p.refused(target, "mirror-export=e", text="is of another source")
    real, p.source = p.source, t.path("copy.img")
    os.link(real, p.source)
    p.refused(target, text="is of another source")
    p.source = real
    os.truncate(p.source, SIZE + 512)
    p.refused(target, text="is of another source: that has %d bytes, this one "
              "%d" % (SIZE, SIZE + 512))
    os.truncate(p.source, SIZE)
    os.truncate(t.path("target.img"), SIZE + 512)
    p.refused(target, text="is of another target: that has %d bytes, this one "
              "%d" % (SIZE, SIZE + 512))
    os.truncate(t.path("target.img"), SIZE)

    # The same in another spelling.
    os.symlink(t.path("target.sock"), t.path("link"))
    p.start("mirror-target=nbd+unix:///?socket=" + t.path("link"),
            "mirror-granularity=64K")
    p.resumed(0)
    p.stop()


def granularity(t):
    """That of the file, if none is given."""
    p = Pair(t)
    p.start("mirror-target=" + p.target, "mirror-granularity=4K")
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.stop()
    p.start("mirror-target=" + p.target)
    p.resumed(0)
    with t.qmp() as q:
        assert q.mirror()["job"]["granularity"] == 4096
    p.stop()


def ended(t):
    """Cancelled, detached, failed: no job, one line, and a new one copies all.
    """
    for state in "cancelled", "detached", "failed":
        p = Pair(t)
        target = "mirror-target=" + p.target
        p.start(target, "mirror-on-target-error=report")
        with t.qmp(timeout=WAIT) as q:
            p.ready(q)
            if state == "failed":
                t.kill("target")
                p.write(b"f" * 4096, 0)
            else:
                q.command("block-job-cancel", device="mirror",
                          force=state == "cancelled")
            q.wait(lambda q: q.job() is None, WAIT)
            assert q.mirror()["bitmap"] == {
                "file": p.file, "state": state, "dirty-bytes": SIZE}
        p.write(b"untracked", REGION)
        t.kill("proxy")
        if state == "failed":
            p.serve("target", SIZE)
        assert p.dump()["state"] == state and p.dirty() == SIZE, p.dump()
        p.refused(target, "mirror-sync=incremental", text="not recorded")
        p.start(target)
        p.said("has ended (%s), and none is started" % state)
        p.no_job()
        assert p.dump()["state"] == state
        with t.qmp(timeout=WAIT) as q:
            q.command("blockdev-mirror", target=p.target, sync="full")
            p.ready(q)
            m = q.mirror()
            assert m["bitmap"]["state"] == "running", m
            assert m["copied-bytes"] >= SIZE - GRANULE, m
        p.stop()
        p.equal()
        assert p.dirty() == 0
        os.unlink(p.file)
        t.stop("target")
        os.unlink(t.path("target.img"))


def write_error(p):
    with p.client() as h:
        try:
            h.pwrite(b"x", 0)
            return 0
        except nbd.Error as e:
            return e.errnum


def fenced(t):
    """In each state."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        q.command("mirror-fence", force=True)
    t.kill("proxy")
    assert p.dump()["fenced"] == "yes"
    for how in "running", "cancelled":
        p.start(target)
        assert write_error(p) == errno.EPERM
        with t.qmp(timeout=WAIT) as q:
            assert q.mirror()["fenced"] is True
            if how == "running":
                p.ready(q)
                t.cancel(q)
        p.stop()
        assert p.dump()["state"] == "cancelled"
    p.start()
    with t.qmp() as q:
        q.command("mirror-fence", enable=False)
    assert write_error(p) == 0
    t.kill("proxy")
    p.start()
    assert write_error(p) == 0
    p.stop()


def swapped(t):
    """Another disk has come under the target's address while nobody was
    looking: all is copied."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.stop()
    t.stop("target")
    with open(t.path("target.img"), "wb") as f:
        f.write(os.urandom(SIZE))
    p.serve("target", SIZE)
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        assert q.mirror()["copied-bytes"] >= SIZE - GRANULE, q.mirror()
    p.stop()
    p.equal()


def connected_later(t):
    """The target is not there at the start."""
    p = Pair(t)
    target = "mirror-target=" + p.target
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
    p.stop()
    t.stop("target")
    p.refused(target, "mirror-on-target-error=report", text="target.sock")
    p.start(target)
    p.said("it is tried again")
    p.write(b"meanwhile", 4 * REGION)
    assert p.ranges() == [(4 * REGION, REGION)], p.ranges()
    t.kill("proxy")
    p.start(target)
    # Something else is there first: what it is, and should be, is said.
    os.truncate(t.path("target.img"), SIZE + GRANULE)
    with t.qmp(timeout=WAIT) as q:
        p.serve("target", SIZE)
        q.wait_event("MIRROR_TARGET_STATE", WAIT, state="connecting",
                     reason="its size is %d bytes, not %d any more" %
                     (SIZE + GRANULE, SIZE))
    t.stop("target")
    os.truncate(t.path("target.img"), SIZE)
    p.serve("target", SIZE)
    p.resumed(2 * REGION)
    p.stop()
    p.equal()


def by_blockdev_mirror(t):
    """bitmap-file: made, or taken if it says nothing that must be heeded."""
    p = Pair(t)

    def start(q, **more):
        q.command("blockdev-mirror", target=p.target, sync="full",
                  copy_mode="write-blocking", bitmap_file=p.file, **more)

    def refused(q, **more):
        return q.refused("blockdev-mirror", **{
            "target": p.target, "sync": "full", "bitmap_file": p.file, **more})

    p.start("mirror-bitmap=")
    with t.qmp(timeout=WAIT) as q:
        assert q.mirror()["bitmap"] is None
        assert "absolute" in refused(q, bitmap_file="map")
        assert "not possible" in refused(q, sync="incremental") or \
            "no intent file" in refused(q, sync="incremental")
        assert "directory" in refused(q, bitmap_file="/nonexistent/map")
        assert "is no intent file" in refused(q, bitmap_file=p.source)
        assert q.job() is None and not os.path.exists(p.file)
        start(q)
        p.ready(q)
        assert q.mirror()["bitmap"]["file"] == p.file
        t.cancel(q)
        assert "already" in refused(q, bitmap_file=p.file + "2")
        assert "'cancelled'" in refused(q, sync="incremental")
        start(q)
        p.ready(q)
    t.kill("proxy")
    assert p.dump()["state"] == "running"

    # Served without it meanwhile, it is worth nothing.
    p.start("mirror-bitmap=")
    p.write(b"unseen", 0)
    with t.qmp(timeout=WAIT) as q:
        assert "has not ended" in refused(q)
    p.stop()
    p.start()
    with t.qmp(timeout=WAIT) as q:
        assert q.mirror()["job"]["sync"] == "incremental"
        t.cancel(q)
        q.command("mirror-fence", force=True)
    p.stop()
    p.start("mirror-bitmap=")
    with t.qmp(timeout=WAIT) as q:
        assert "fenced" in refused(q)
    p.stop()
    p.start()
    with t.qmp(timeout=WAIT) as q:
        q.command("mirror-fence", enable=False)
    p.stop()
    p.start("mirror-bitmap=")
    with t.qmp(timeout=WAIT) as q:
        start(q)
        p.ready(q)
        assert q.mirror()["copied-bytes"] >= SIZE - GRANULE
    p.stop()
    p.equal()


def bitmap_of_a_pivoted(t):
    """A file that is made after a pivot, or a fence, knows of it."""
    p = Pair(t)
    p.start("mirror-bitmap=", "mirror-target=" + p.target)
    p.serve("third", SIZE)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        q.command("block-job-complete", device="mirror")
        q.wait_event("MIRROR_PIVOTED", WAIT)
        p.write(b"moved", 0)
        q.command("mirror-fence", force=True)
        q.command("blockdev-mirror", target=t.uri("third"), sync="full",
                  bitmap_file=p.file)
        p.ready(q)
        t.cancel(q)
    t.kill("proxy")
    d = p.dump()
    assert d["disk"] == p.target and d["fenced"] == "yes", d
    p.start()
    p.no_job()
    assert p.read(5, 0) == b"moved" and write_error(p) == errno.EPERM
    p.stop()


def sizes(t):
    """Disks of no size, of one byte, and next to a region."""
    for size in 0, 1, REGION - 1, REGION, REGION + 1:
        p = Pair(t, size)
        p.start("mirror-target=" + p.target, MODE)
        with t.qmp(timeout=WAIT) as q:
            p.ready(q)
        if size:
            p.write(b"e", size - 1)
        t.kill("proxy")
        assert all(at + n <= size for at, n in p.ranges()), p.ranges()
        p.start()
        p.resumed()
        p.stop()
        p.equal()
        t.stop("target")
        os.unlink(p.file)
        os.unlink(t.path("target.img"))


TESTS = (no_file, incremental, in_order, killed_after_sigterm, killed,
         of_another, granularity, ended, fenced, swapped, connected_later,
         by_blockdev_mirror, bitmap_of_a_pivoted, sizes)

for test in TESTS:
    if len(sys.argv) == 1 or test.__name__ in sys.argv[1:]:
        print(test.__name__, flush=True)
        with Test() as scene:
            test(scene)
