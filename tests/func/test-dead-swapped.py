#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Another disk comes back under the target's address.  One of the same size
with another content is copied to as a whole; one that does not fit is left
alone, the reason is told, and clients are served, until the right one comes
back."""

import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from dead import GRANULARITY, SIZE, WAIT, Scene  # noqa: E402
from mirrortest import Test  # noqa: E402

BLOCK = 4096


def another(s, t, name, size=SIZE):
    """With the same content, as far as it is there."""
    path = t.path(name)
    shutil.copyfile(s.disk, path)
    with open(path, "r+b") as f:
        f.truncate(size)
    return path


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
    assert "copied again" in event["data"].get("reason", ""), event
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
    s.equal()


def unfit(t, s, h, what, path, reason, *filters, **keys):
    """Returns the reason that was told."""
    before = s.reconnects()
    with open(path, "rb") as f:
        content = f.read()
    t.kill("target")
    s.offline()
    s.qmp.events.clear()
    s.target(*filters, disk=path, **keys)
    while True:
        event = s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="offline")
        error = event["data"].get("reason", "")
        if reason in error:
            break
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
        assert f.read() == content, "%s: it was written to" % what
    s.qmp.events.clear()
    s.target()
    s.equal()
    print("%s, %s: %s" % (s.mode, what, error))


unfit.count = 0
for mode in ("write-blocking", "background"):
    with Test() as t, Scene(t, mode) as s:
        s.target()
        s.mirror(granularity=GRANULARITY // 2)
        s.synced()
        same_content(t, s)
        h = s.client()
        unfit(t, s, h, "smaller", another(s, t, "1", SIZE - 65536), "size")
        unfit(t, s, h, "larger", another(s, t, "2", SIZE + 65536), "size")
        unfit(t, s, h, "read-only", another(s, t, "3"), "Read-only",
              read_only=True)
        unfit(t, s, h, "large blocks", another(s, t, "4"), "block",
              "blocksize-policy", blocksize_minimum=1 << 16,
              blocksize_preferred=1 << 17, blocksize_maximum=1 << 20)
        h.shutdown()
        s.end()
    for random in (False, True):
        with Test() as t, Scene(t, mode) as s:
            s.target()
            s.mirror()
            s.synced()
            other_content(t, s, random)
            s.end()
