#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A pivot that cannot be done in time, or fails, is not felt: clients were
held for no longer than the limit, and the mirror goes on."""

import contextlib
import errno
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 1 << 20
CAPS = os.path.join(BUILD, "tests/lib/.libs/caps.so")


def ready(t, qmp):
    qmp.command("blockdev-mirror", job_id="m", sync="full",
                target=t.uri("target"), copy_mode="write-blocking")
    qmp.wait(lambda q: q.job()["ready"], 30 * SLOW)


@contextlib.contextmanager
def client(t):
    h = nbd.NBD()
    h.connect_uri(t.uri("proxy"))
    yield h
    h.shutdown()


def failing_flush(t):
    """The target's flush fails: no switch; later it does not: a switch."""
    fail = t.path("fail")
    disk = t.path("disk")
    with open(disk, "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("target", "eval", "get_size=echo %d" % SIZE,
             "pread=dd if=%s skip=$4 count=$3 iflag=skip_bytes,count_bytes"
             % disk,
             "pwrite=dd of=%s seek=$4 conv=notrunc oflag=seek_bytes" % disk,
             "can_write=exit 0", "can_flush=exit 0",
             "flush=test ! -e %s || exit 1" % fail)
    t.mirror("memory", str(SIZE))
    load = t.load("load", "--depth=2", "--max-size=4K", "--seed=3",
                  "--weights=write=1,read=1")
    load.more(5)
    with t.qmp() as qmp:
        ready(t, qmp)
        with open(fail, "w", encoding="ascii"):
            pass
        qmp.command("job-complete", id="m")
        event = qmp.wait_event("MIRROR_SWITCH_FAILED", 30 * SLOW)
        assert event["data"]["operation"] == "pivot", event
        assert "flush" in event["data"]["error"], event
        load.more(5)
        os.unlink(fail)
        assert qmp.command("query-mirror")["pivoted"] is False
        qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        load.more(5)
    load.stop()
    assert t.compare("proxy", "target")
    t.stop("proxy")
    t.stop("target")


def slow_drain(t):
    """A request in flight takes longer than clients may be held."""
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("--filter=delay", "memory", str(SIZE),
             "rdelay=%d" % (2 * SLOW), "mirror-max-pause=200")
    with t.qmp() as qmp:
        ready(t, qmp)
        load = t.load("load", "--depth=1", "--weights=read=1", "--ops=0")
        load.more(1)
        qmp.command("job-complete", id="m")
        event = qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
        pause = event["data"]["pause-us"]
        assert 200000 <= pause < 3 * 200000 * SLOW, event
        assert qmp.job()["status"] == "ready"
        # Once there is no client it works.
        load.stop()
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 30 * SLOW)
    t.stop("proxy")
    t.stop("target")


def late_flush(t):
    """The source's flush takes longer than clients may be held, and fails when
    the job has been told to end."""
    disk, armed, hang, began = map(t.path, ("source", "armed", "hang", "began"))
    with open(disk, "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("target", "memory", str(SIZE))
    # Once armed the second flush, with clients held, is the one.
    t.nbdkit("slow", "eval", "thread_model=echo parallel",
             "get_size=echo %d" % SIZE,
             "pread=dd if=%s skip=$4 count=$3 iflag=skip_bytes,count_bytes"
             % disk,
             "pwrite=dd of=%s seek=$4 conv=notrunc oflag=seek_bytes" % disk,
             "can_write=exit 0", "can_flush=exit 0", "can_fua=echo native",
             "flush=test -e {0} || exit 0; mkdir {0}/one 2>&- && exit 0; "
             "touch {2}; while test -e {1}; do sleep 0.05; done; "
             "rm -r {0}; echo EIO it is lost >&2; exit 1"
             .format(armed, hang, began))
    t.mirror("nbdsource", "uri=" + t.uri("slow"),
             "mirror-max-pause=%d" % (1000 * SLOW))
    load = t.load("load", "--depth=1", "--max-size=4K", "--seed=4",
                  "--weights=write=1", "--ops=0")
    load.more(5)
    with t.qmp() as qmp:
        ready(t, qmp)
        with open(hang, "w", encoding="ascii"):
            pass
        os.mkdir(armed)
        qmp.command("job-complete", id="m")
        event = qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
        assert "longer than max-pause" in event["data"]["error"], event
        assert os.path.exists(began)
        qmp.command("block-job-cancel", device="m", force=True)
        # The job lets its target go before it waits for the flush.
        t.stop("target")
        os.unlink(hang)
        qmp.wait(lambda q: q.job() is None, 60 * SLOW)
    load.more(5)
    # Whoever flushes next is told.
    with client(t) as h:
        try:
            h.flush()
            assert False, "the failure of the flush is told to nobody"
        except nbd.Error as e:
            assert e.errnum == errno.EIO, e
    load.stop()
    t.stop("proxy")
    t.stop("slow")


def resting_tee(t):
    """After an error of the target nothing is teed for a while.  A switch need
    not wait for that."""
    fail, disk = t.path("fail2"), t.path("disk2")
    with open(disk, "wb") as f:
        f.truncate(SIZE)
    t.nbdkit("target", "eval", "thread_model=echo parallel",
             "get_size=echo %d" % SIZE,
             "pread=dd if=%s skip=$4 count=$3 iflag=skip_bytes,count_bytes"
             % disk,
             "pwrite=test ! -e %s || { echo EIO no >&2; exit 1; }; "
             "dd of=%s seek=$4 conv=notrunc oflag=seek_bytes" % (fail, disk),
             "can_write=exit 0", "can_flush=exit 0", "flush=exit 0")
    t.mirror("-D", "mirror.backoff_ms=%d" % (600000 * SLOW), "memory",
             str(SIZE), "mirror-on-target-error=ignore")
    with t.qmp() as qmp, client(t) as h:
        ready(t, qmp)
        with open(fail, "w", encoding="ascii"):
            pass
        h.pwrite(b"x" * 512, 0)
        qmp.wait(lambda q: not q.mirror()["job"]["teeing"], 30 * SLOW)
        os.unlink(fail)
        qmp.wait(lambda q: q.mirror()["dirty-bytes"] == 0, 60 * SLOW)
        assert not qmp.mirror()["job"]["teeing"]
        h.pwrite(b"y" * 512, 65536)
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        assert h.pread(1, 0) + h.pread(1, 65536) == b"xy"
    t.stop("proxy")
    t.stop("target")


def lost_target(t):
    """Before the switch: nothing is felt.  After it: requests fail."""
    t.nbdkit("target", "memory", str(SIZE))
    t.mirror("memory", str(SIZE))
    load = t.load("load", "--connections=2", "--max-size=4K", "--seed=9")
    load.more(50)
    with t.qmp() as qmp:
        ready(t, qmp)
        t.kill("target")
        qmp.wait(lambda q: q.command("query-mirror")["target"]["state"] ==
                 "offline", 20 * SLOW)
        why = qmp.refused("job-complete", id="m")
        assert "offline" in why, why
        load.more(50)
    load.stop()
    t.stop("proxy")


def cannot_flush(t):
    """Clients who may flush are not moved to a target that cannot, and neither
    verb does anything; those who were never told that they may are."""
    for source in "flush,multi-conn", "multi-conn":
        t.nbdkit("target", CAPS, "size=%d" % SIZE, "caps=zero,multi-conn")
        t.mirror(CAPS, "size=%d" % SIZE, "caps=" + source)
        load = t.load("load", "--connections=2", "--max-size=4K", "--seed=5",
                      "--final=" + t.uri("target"))
        load.more(50)
        with t.qmp() as qmp:
            ready(t, qmp)
            if "flush" in source:
                for verb, name in ("job-complete", "id"), \
                        ("block-job-complete", "device"):
                    why = qmp.refused(verb, **{name: "m"})
                    assert why == (
                        "Job 'm' cannot be completed now: the target cannot "
                        "flush, but clients were told that they may"), why
                load.more(50)
                m = qmp.mirror()
                assert m["pivoted"] is False and m["held"] is False, m
                assert qmp.job()["status"] == "ready", qmp.job()
                assert not [e for e in qmp.events if e["event"] in (
                    "MIRROR_PIVOTED", "MIRROR_SWITCH_FAILED")], qmp.events
            else:
                qmp.command("job-complete", id="m")
                qmp.wait_event("MIRROR_PIVOTED", 30 * SLOW)
                load.more(50)
            load.stop()
            if "flush" in source:
                t.wait_equal(qmp)
                assert t.compare("proxy", "target")
        t.stop("proxy")
        t.stop("target")


with Test() as t:
    failing_flush(t)
    slow_drain(t)
    late_flush(t)
    resting_tee(t)
    lost_target(t)
    cannot_flush(t)
