#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run --bitmap, whose proxy is killed again and again under a client
that connects again: each time the mirror goes on with what may differ, says
how much that is, and copies no more; the client's data is right.  STRESS:
fifty times."""

import json
import os
import re
import signal
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import STRESS, Load, Test, wait_for  # noqa: E402
from runtest import Run, ended, make_disk, read_disk  # noqa: E402

SIZE = 64 << 20
PART = 2 << 20                  # what the client writes to
KILLS = 50 if STRESS else 4
UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def mirror(run):
    return json.loads(run.ctl("qmp", '{"execute": "query-mirror"}'))["return"]


def resumed(run):
    """The two sizes in each line that says so."""
    def size(text):
        number, unit = text.split()
        return float(number) * UNITS[unit]
    return [(size(a), size(b)) for a, b in re.findall(
        r"^resumed +by the intent file, (.*) of (.*) may differ$",
        run.output(), re.M)]


def kill(run, load, n):
    """The n-th time.  Returns how much has been copied after it."""
    load.more(100)
    os.kill(run.proxy_pid(), signal.SIGKILL)
    wait_for(lambda: len(resumed(run)) == n, "it does not go on")
    run.ctl("wait", "ready", "--timeout", "60")
    m = mirror(run)
    left, whole = resumed(run)[-1]
    assert whole == SIZE and left <= 2 * PART, (left, whole)
    # What the client makes dirty meanwhile is copied, too.
    copied = m["copied-bytes"] + m["zeroed-bytes"]
    assert copied < SIZE // 4, m
    assert m["source"]["size"] == SIZE and m["job"]["sync"] == "incremental"
    load.more(20)
    return copied


with Test() as t:
    make_disk(t, "s.img", SIZE, os.urandom(SIZE))
    with Run(t, "s.img", "t.img", "--bitmap", "map", "--copy-mode",
             "write-blocking", "-o", "suspect-time=1") as run:
        wait_for(lambda: mirror(run)["bitmap"]["dirty-bytes"] == 0,
                 "nothing retires", 60)
        load = Load(t, "load", run.uri,
                    ["--reconnect", "--overlap", "--iops=500",
                     "--max-size=64K", "--from=%d" % (7 << 20),
                     "--length=%d" % PART])
        t.loads.append(load)
        copied = sorted(kill(run, load, n) for n in range(1, KILLS + 1))
        load.stop()
        assert len(run.complaints()) == KILLS, run.all()
        run.detach()
    ended(t)
    assert read_disk(t, "s.img") == read_disk(t, "t.img"), "not identical"
    print("%d kills; copied again p50 %d, most %d bytes of %d" %
          (KILLS, copied[KILLS // 2], copied[-1], SIZE))
