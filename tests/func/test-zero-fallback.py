#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A target whose plugin refuses to zero: its nbdkit, before 1.38.7, 1.40.7,
1.42.6 and 1.44.1, then fills only the first 64 MiB of a request, and says that
all is done.  So no request to zero may be larger."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 160 << 20
MAX = 64 << 20


def make(t, name):
    with open(t.path(name), "wb") as f:
        for _ in range(SIZE >> 20):
            f.write(b"x" * (1 << 20))


def start_target(t):
    disk = t.path("target.img")
    t.nbdkit("target", "eval", "get_size=echo %d" % SIZE, "can_write=exit 0",
             "can_flush=exit 0", "flush=exit 0", "can_zero=exit 0",
             "zero=echo $3 >> %s; echo EOPNOTSUPP refused >&2; exit 1"
             % t.path("zeroes"),
             "pread=dd if=%s bs=1M iflag=skip_bytes,count_bytes skip=$4 "
             "count=$3 status=none" % disk,
             "pwrite=dd of=%s bs=1M oflag=seek_bytes seek=$4 conv=notrunc "
             "status=none" % disk)


with Test() as test:
    make(test, "source.img")
    make(test, "target.img")
    start_target(test)
    test.mirror("file", test.path("source.img"))
    with test.qmp() as qmp:
        qmp.command("blockdev-mirror", job_id="mirror", sync="none",
                    target=test.uri("target"), copy_mode="write-blocking")
        qmp.wait(lambda q: q.job()["actively-synced"], 30 * SLOW)
        client = nbd.NBD()
        client.connect_uri(test.uri("proxy"))
        client.zero(SIZE, 0, nbd.CMD_FLAG_NO_HOLE)
        client.flush()
        client.shutdown()
        qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        test.cancel(qmp)
    with open(test.path("zeroes"), encoding="ascii") as log:
        sizes = [int(line) for line in log]
    assert sum(sizes) >= SIZE and max(sizes) <= MAX, sizes
    for image in ("source.img", "target.img"):
        with open(test.path(image), "rb") as f:
            assert not any(any(f.read(1 << 20)) for _ in range(SIZE >> 20)), \
                image + " is not all zero"
