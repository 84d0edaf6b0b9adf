#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Another disk comes back under the target's address.  One of the same size
with another content is copied to as a whole; one that does not fit is left
alone and clients are served, until the right one comes back.  The reason is
told by the event, query-mirror, status, and one line of the log."""

import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from dead import GRANULARITY, SIZE, WAIT, Scene  # noqa: E402
from mirrortest import BUILD, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

BLOCK = 4096
CAPS = os.path.join(BUILD, "tests/lib/.libs/caps.so")
COPIED_AGAIN = "its content is not the one it had: all is copied again"


def another(s, t, name, size):
    """With the same content, as far as it is there."""
    path = t.path(name)
    shutil.copyfile(s.disk, path)
    with open(path, "r+b") as f:
        f.truncate(size)
    return path


def log(t, what):
    """What the log has of it."""
    with open(t.path("proxy.log"), encoding="utf-8") as f:
        return [line.split(what, 1)[1].strip() for line in f if what in line]


def told(t, s, before, reason, what="target"):
    """Once in the log since then, as the last of that kind; and shown."""
    wait_for(lambda: len(log(t, what + " refused: ")) > before,
             "the log does not say that it is refused")
    assert log(t, what + " refused: ")[before:] == [reason]
    target = s.qmp.mirror()["target"]
    assert target["reason"] == reason, target
    status = subprocess.run(
        ["nbdmirror", "-S", t.path("ctl.sock"), "status"],
        stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout
    assert reason in status, status


def other_content(t, s, random):
    """A few granules may differ without being noticed, a disk may not."""
    other = t.path("other")
    if random:
        with open(other, "wb") as f:
            f.write(os.urandom(SIZE))
    else:
        s.new_disk(other, SIZE)
    before = s.qmp.mirror()["copied-bytes"]
    t.kill("target")
    s.offline()
    s.qmp.events.clear()
    s.target(disk=other)
    event = s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="online")
    assert event["data"].get("reason") == COPIED_AGAIN, event
    assert s.qmp.mirror()["target"]["reason"] == COPIED_AGAIN
    assert log(t, "target is back: ") == [COPIED_AGAIN]
    load = s.load()
    load.more(200)
    s.quiet(load)
    s.equal()
    copied = s.qmp.mirror()["copied-bytes"] - before
    assert copied >= SIZE // 2, "%d bytes were copied" % copied
    print("%s, another disk: %d bytes were copied" % (s.mode, copied))


def same_content(t, s):
    """The right disk is not copied again."""
    load = s.load()
    load.more(200)
    s.quiet(load)
    s.equal()
    s.qmp.wait(lambda q: q.job()["actively-synced"] or
               s.mode == "background", WAIT)
    t.kill("target")
    s.offline()
    s.qmp.events.clear()
    s.target()
    event = s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="online")
    assert "reason" not in event["data"], event
    assert s.qmp.mirror()["target"]["reason"] is None
    assert len(log(t, "target offline: ")) == 1
    assert len(log(t, "target is back")) == 1
    assert not log(t, "target refused")
    s.equal()


def unfit(t, s, h, path, reason, start):
    """start: the server, of that file."""
    before, refused = s.reconnects(), len(log(t, "target refused: "))
    with open(path, "rb") as f:
        content = f.read()
    t.kill("target")
    s.offline()
    s.qmp.events.clear()
    start()
    s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="offline",
                     reason=reason)
    told(t, s, refused, reason)
    n = unfit.count = unfit.count + 1
    data = b"%08d" % n * (BLOCK // 8)
    h.pwrite(data, n * GRANULARITY)
    assert h.pread(BLOCK, n * GRANULARITY) == data
    m = s.qmp.mirror()
    assert m["target"]["state"] in ("offline", "connecting"), m["target"]
    assert m["target"]["reconnects"] == before, m["target"]
    assert m["dirty-bytes"] > 0, m
    t.kill("target")
    with open(path, "rb") as f:
        assert f.read() == content, "%s: it was written to" % reason
    s.qmp.events.clear()
    s.target()
    s.equal()
    print("%s: %s" % (s.mode, reason))


unfit.count = 0


def all_unfit(t, s, granularity):
    h = s.client()
    for name, size, reason in (
            ("smaller", s.size - 65536,
             "the target is smaller (%d bytes) than the source (%d bytes)" %
             (s.size - 65536, s.size)),
            ("larger", s.size + 65536,
             "its size is %d bytes, not %d any more" %
             (s.size + 65536, s.size))):
        path = another(s, t, name, size)
        unfit(t, s, h, path, reason, lambda: s.target(disk=path))
    path = another(s, t, "same", s.size)
    unfit(t, s, h, path, "the export is read-only",
          lambda: s.target(disk=path, read_only=True))
    unfit(t, s, h, path,
          "its minimum block size, 65536, is larger than the granularity, %d" %
          granularity if s.size % 65536 == 0 else
          "the source (%d bytes) ends in a block of 65536 bytes that the "
          "target (%d bytes) has not whole" % (s.size, s.size),
          lambda: s.target("blocksize-policy", disk=path,
                           blocksize_minimum=1 << 16,
                           blocksize_preferred=1 << 17,
                           blocksize_maximum=1 << 20))
    unfit(t, s, h, path, "it cannot flush any more",
          lambda: t.nbdkit("target", CAPS, "size=%d" % s.size, "caps=zero"))
    h.shutdown()


def pivoted(t, s):
    """The clients' disk, after a pivot."""
    s.target()
    s.mirror()
    s.synced()
    s.qmp.command("block-job-complete", device="mirror")
    s.qmp.wait_event("MIRROR_PIVOTED", WAIT)
    s.qmp.wait(lambda q: q.job() is None, WAIT)
    h = s.client()
    larger = another(s, t, "larger", s.size + 65536)
    for reason, start in (
            ("the export is read-only", lambda: s.target(read_only=True)),
            ("its size is %d bytes, not %d any more" % (s.size + 65536, s.size),
             lambda: s.target(disk=larger)),
            ("its minimum block size is 512, not 1 any more",
             lambda: s.target("blocksize-policy", blocksize_minimum=512))):
        refused = len(log(t, "disk refused: "))
        t.kill("target")
        s.qmp.events.clear()
        start()
        # What finds out that it is lost.
        h.aio_pread(nbd.Buffer(512), 0)
        s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, reason=reason)
        told(t, s, refused, reason, "disk")
        t.kill("target")
        s.target()
        s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="pivoted")
        assert s.qmp.mirror()["target"]["reason"] is None
        h.pread(512, 0)
    h.shutdown()
    s.end()


for mode, size in ("write-blocking", SIZE), ("background", 16 << 20):
    with Test() as t, Scene(t, mode, size) as s:
        s.target()
        s.mirror(granularity=GRANULARITY // 2)
        s.synced()
        same_content(t, s)
        all_unfit(t, s, GRANULARITY // 2)
        s.end()
    for random in (False, True):
        with Test() as t, Scene(t, mode) as s:
            s.target()
            s.mirror()
            s.synced()
            other_content(t, s, random)
            s.end()
with Test() as t, Scene(t, "write-blocking") as s:
    pivoted(t, s)
