#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The target loses its power under load, again and again, and with it what it
had acknowledged and not yet flushed: the mirror becomes identical each time,
and what a client had flushed while the mirror was synced is in every image
that the loss could have left."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from dead import Scene  # noqa: E402
from journal import BLOCK, Journal, check_flushed  # noqa: E402
from lossy import PLUGIN, Lossy  # noqa: E402
from mirrortest import STRESS, Test, figure  # noqa: E402

SIZE = 4 << 20
ROUNDS = 30 if STRESS else 3
IMAGES = 40 if STRESS else 12
AREA = 1 << 20                  # of each client
CLIENTS = 3


def unflushed(s, journals, disk):
    """Nobody waits for a flush, which would fail: only what has been written
    is lost."""
    while journals:
        journals.pop().stop()
    h = s.client()
    for n in range(100):
        h.pwrite(b"unflushed" * 512, n * 2 * BLOCK + AREA)
    h.shutdown()
    assert disk.unflushed() >= 100, disk.unflushed()


def crash(t, s, disk, seed):
    """One loss of power under load, and the recovery.  Returns how many
    blocks had been flushed by then."""
    journals = [Journal(s.client(), seed, n * AREA, AREA)
                for n in range(CLIENTS)]
    for journal in journals:
        journal.more(1)
    s.synced()
    journals[0].more(5 + seed * 37 % 60)
    m = s.qmp.mirror()
    assert m["job"]["teeing"] and m["job"]["actively-synced"], m
    before = {at: n for j in journals for at, n in j.flushed.items()}
    disk.command("images %d %d %s" % (IMAGES, seed, t.path("image")))
    if seed % 2 == 0:
        unflushed(s, journals, disk)
    disk.lose_power(seed)
    s.offline()
    for n in range(IMAGES):
        with open(t.path("image.%d" % n), "rb") as f:
            check_flushed(f.read(), before)
    for journal in journals:
        journal.more(5)         # on the source alone
    disk = Lossy(t, "target", s.disk)
    s.online()
    for journal in journals:
        journal.more(5)
        journal.stop()
    # Their last writes were flushed by the job, if it had to, or by them.
    h = s.client()
    s.synced()
    h.flush()
    h.shutdown()
    s.equal()
    disk.command("images %d %d %s" % (IMAGES, seed, t.path("image")))
    with open(s.source, "rb") as f:
        content = f.read()
    for n in range(IMAGES):
        with open(t.path("image.%d" % n), "rb") as f:
            assert f.read() == content, "not all of it is durable"
    return disk, len(before)


assert os.path.exists(PLUGIN), PLUGIN
for seed in range(1, ROUNDS + 1):
    with Test() as t, Scene(t, "write-blocking", SIZE) as s:
        # The third loss within a minute would end teeing.
        disk = Lossy(t, "target", s.disk)
        s.mirror(target_flush="propagate")
        for n in range(2):
            disk, blocks = crash(t, s, disk, 2 * seed + n)
            print("seed %d: %d blocks had been flushed" %
                  (2 * seed + n, blocks))
            figure("power", images=2 * IMAGES, blocks=blocks)
        s.end()
