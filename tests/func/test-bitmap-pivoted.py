#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What follows at the start from an intent file that says that clients have
been moved: these rows of the table in nbdkit-mirror-filter(1), with real
servers and disks.  Each function is a test of its own; with names as arguments
only those are run."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from restarts import REGION, SIZE, WAIT, Pair  # noqa: E402
from mirrortest import Test  # noqa: E402

GRANULE = 65536


def pivot(t, p):
    p.start("mirror-target=" + p.target)
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        q.command("block-job-complete", device="mirror")
        q.wait_event("MIRROR_PIVOTED", WAIT)
    assert "a restart will serve the source" not in p.log(), p.log()
    p.write(b"moved", REGION)


def pivoted(t):
    """Clients get the target, by whatever command line, also if the source is
    not what it was."""
    p = Pair(t)
    pivot(t, p)
    with open(p.source, "rb") as f:
        before = f.read()
    t.kill("proxy")
    d = p.dump()
    assert d["state"] == "pivoted" and d["disk"] == p.target, d
    for more in (("mirror-target=" + p.target,), (),
                 ("mirror-on-target-error=report",)):
        p.start(*more)
        p.no_job()
        p.said("clients had been moved to")
        assert p.read(5, REGION) == b"moved"
        p.write(b"later", 2 * REGION)
        with t.qmp() as q:
            m = q.mirror()
            assert m["pivoted"] and m["target"]["state"] == "pivoted", m
            assert m["target"]["uri"] == p.target, m
            assert m["source"]["size"] == SIZE
        p.stop()
    with open(p.source, "rb") as f:
        assert f.read() == before, "the source was written to"
    os.truncate(p.source, 0)
    p.start()
    with p.client() as h:
        assert h.get_size() == SIZE
        assert h.pread(5, 2 * REGION) == b"later"
        assert h.can_flush() and h.can_zero() and h.can_trim()
        h.zero(4096, 0)
        h.trim(4096, 8192)
        h.flush()
    p.stop()
    p.refused("mirror-target=nbd://localhost:1/", text="another target")


def pivoted_refuse(t):
    p = Pair(t)
    pivot(t, p)
    p.stop()
    for more in ("mirror-target=" + p.target,), ():
        p.refused("mirror-after-pivot=refuse", *more,
                  text="clients had been moved to")
    p.start("mirror-after-pivot=target")
    assert p.read(5, REGION) == b"moved"
    p.stop()


def pivoted_source(t):
    """By order the source is the truth again; the target is not touched until
    a mirror to it is started."""
    p = Pair(t)
    pivot(t, p)
    p.stop()
    target = "mirror-target=" + p.target
    p.start("mirror-after-pivot=source", target)
    p.said("they get the source again")
    p.no_job()
    assert p.read(5, REGION) != b"moved"
    p.stop()
    d = p.dump()
    assert d["disk"] == "-" and d["state"] != "pivoted", d
    for more in "mirror-after-pivot=source", "mirror-after-pivot=target":
        p.start(more, target)
        p.no_job()
        assert p.read(5, REGION) != b"moved"
        p.stop()
    with open(t.path("target.img"), "rb") as f:
        f.seek(REGION)
        assert f.read(5) == b"moved", "the target was overwritten"
    p.start(target)
    with t.qmp(timeout=WAIT) as q:
        q.command("blockdev-mirror", target=p.target, sync="full")
        p.ready(q)
    p.stop()
    p.equal()


def pivoted_unreachable(t):
    """The disk that clients have is not there: they wait for it, or nbdkit
    does not start."""
    p = Pair(t)
    pivot(t, p)
    p.stop()
    t.stop("target")
    p.refused("mirror-on-target-error=report", text="had been moved to: ")
    p.start("mirror-target-timeout=%d" % WAIT)
    p.said("it is tried again")
    with t.qmp() as q:
        assert q.mirror()["target"]["state"] == "offline"
    p.serve("target", SIZE)
    assert p.read(5, REGION) == b"moved"
    p.stop()


def pivoted_another(t):
    """A disk of another size answers in its place: it is not given to clients,
    neither at once nor when the right one has been there."""
    p = Pair(t)
    pivot(t, p)
    p.stop()
    t.stop("target")
    target = t.path("target.img")
    os.truncate(target, SIZE + GRANULE)
    p.serve("target", SIZE)
    p.refused(text="it has %d bytes, the disk that clients had been moved to %d"
              % (SIZE + GRANULE, SIZE))
    t.stop("target")
    p.start("mirror-target-timeout=%d" % WAIT)
    with t.qmp(timeout=WAIT) as q:
        p.serve("target", SIZE)
        q.wait_event("MIRROR_TARGET_STATE", WAIT,
                     reason="its size is %d bytes, not %d any more" %
                     (SIZE + GRANULE, SIZE))
        t.stop("target")
        os.truncate(target, SIZE)
        p.serve("target", SIZE)
        assert p.read(5, REGION) == b"moved"
    p.stop()


def mirror_after_pivot(t):
    """A mirror from the target on, to a third disk, is gone on with, too."""
    p = Pair(t)
    pivot(t, p)
    p.serve("third", SIZE)
    with t.qmp(timeout=WAIT) as q:
        q.command("blockdev-mirror", target=t.uri("third"), sync="full",
                  copy_mode="write-blocking")
        p.ready(q)
    p.wait_small()
    p.write(b"again", 3 * REGION)
    t.kill("proxy")
    d = p.dump()
    assert d["state"] == "running" and d["disk"] == p.target and \
        d["target"] == t.uri("third"), d
    for more in (("mirror-target=" + p.target,), (),
                 ("mirror-target=" + t.uri("third"),)):
        p.start(*more)
        p.said("the mirror from there to")
        p.resumed(4 * REGION)
        with t.qmp(timeout=WAIT) as q:
            assert q.mirror()["target"]["uri"] == t.uri("third"), q.mirror()
        assert p.read(5, 3 * REGION) == b"again"
        p.write(b"again", 3 * REGION)
        p.stop()
    p.equal("third", t.path("target.img"))
    # The clients' disk is where it was, also when that mirror is no more.
    p.start()
    with t.qmp(timeout=WAIT) as q:
        p.ready(q)
        t.cancel(q)
        target = q.mirror()["target"]
        assert (target["state"], target["uri"]) == ("pivoted", p.target), target
    p.stop()


TESTS = (pivoted, pivoted_refuse, pivoted_source, pivoted_unreachable,
         pivoted_another, mirror_after_pivot)

for test in TESTS:
    if len(sys.argv) == 1 or test.__name__ in sys.argv[1:]:
        print(test.__name__, flush=True)
        with Test() as scene:
            test(scene)
