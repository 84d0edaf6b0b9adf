#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whole sessions that were recorded with qemu-storage-daemon, said again to
us: what we answer otherwise is what the manual page says, and no more."""

import os
import re
import sys

import nbd

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test  # noqa: E402
from qmpreplay import Replay, names, read_sessions  # noqa: E402

SESSIONS = os.path.join(TOP, "tests/func/data/qemu-storage-daemon-10.qmp")
PAGE = os.path.join(TOP, "docs/nbdkit-mirror-qmp.pod")


def documented():
    """The items of a section of the manual page."""
    with open(PAGE, encoding="utf-8") as f:
        m = re.search(r"^=head1 DIFFERENCES FROM QEMU$(.*?)^=head1", f.read(),
                      re.M | re.S)
    items = re.findall(r"^=item B<(.+)>$", m.group(1), re.M)
    assert len(items) == len(set(items)), items
    return set(items)


def nodes(t):
    t.nbdkit("target", "memory", "64M")
    t.nbdkit("back", "memory", "64M")
    t.nbdkit("small", "memory", "32M")
    t.nbdkit("ro", "-r", "memory", "64M")
    for name, error in (("bad", "EIO"), ("full", "ENOSPC")):
        t.nbdkit(name, "--filter=error", "memory", "64M",
                 *("error-%s" % x for r in ("pwrite", "zero", "trim")
                   for x in ("%s=%s" % (r, error), r + "-rate=100%")))


def client_writes(t):
    """Which the target has at once, also while the job is paused."""
    client, other = nbd.NBD(), nbd.NBD()
    client.connect_uri(t.uri("proxy"))
    other.connect_uri(t.uri("target"))
    client.pwrite(b"P" * 512, 8192)
    assert other.pread(512, 8192) == b"P" * 512
    client.shutdown()
    other.shutdown()


with Test() as test:
    assert names() == documented(), names() ^ documented()
    nodes(test)
    hook = ("paused in ready, write-blocking: a client writes, and the target"
            " has it", lambda: client_writes(test))
    seen, problems = set(), []
    for steps in read_sessions(SESSIONS):
        test.mirror("data", "1*67108864", "size=64M")
        with test.qmp() as qmp:
            ours = [c["name"] for c in qmp.command("query-commands")]
        replay = Replay(test.path("ctl.sock"), test.uri, ours)
        replay.run(steps, [hook] if any(s.note == hook[0] for s in steps)
                   else [])
        # QEMU has ended, and so have we.
        assert test.servers.pop("proxy").wait(20 * SLOW) == 0
        seen |= replay.seen
        problems += replay.problems
    assert not problems, "\n" + "\n".join(problems)
    # One that is not seen any more is none.
    assert seen == names(), names() - seen
