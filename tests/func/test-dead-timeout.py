#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A live change of target-timeout holds for everything that has to do with the
target: the connections that there are, one that is being made, those that
follow, and clients that wait."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos  # noqa: E402
from dead import TIMEOUT, WAIT, Scene  # noqa: E402
from mirrortest import SLOW, Test, wait_for  # noqa: E402

LONG = 3600
TICKS = 100                     # a second in /proc/net/tcp (USER_HZ)
ESTABLISHED, KEEP_ALIVE = 1, 2


def idle_seconds(port):
    """How long TCP waits before it asks the other host whether it is there,
    of each connection to that port that has nothing to do."""
    result = []
    with open("/proc/net/tcp", encoding="ascii") as f:
        for line in f.readlines()[1:]:
            fields = line.split()
            timer, when = (int(x, 16) for x in fields[5].split(":"))
            if int(fields[2].split(":")[1], 16) == port and \
                    int(fields[3], 16) == ESTABLISHED and timer == KEEP_ALIVE:
                result.append(when / TICKS)
    return result


def present(s, chaos):
    """The connections that there are."""
    port = int(chaos.uri.rsplit(":", 1)[1])
    n = s.qmp.mirror()["target"]["connections"]
    wait_for(lambda: sum(x > LONG / 4 for x in idle_seconds(port)) == n,
             "%d connections, and %s" % (n, idle_seconds(port)))
    s.qmp.command("mirror-set", target_timeout=2)
    wait_for(lambda: sum(x <= 1 for x in idle_seconds(port)) == n,
             "%d connections, but %s" % (n, idle_seconds(port)))
    s.qmp.command("mirror-set", target_timeout=LONG)
    wait_for(lambda: sum(x > LONG / 4 for x in idle_seconds(port)) == n,
             "%d connections, but %s" % (n, idle_seconds(port)))


def being_made(s, chaos):
    """The server takes the connection and says nothing."""
    chaos.do("stall")
    chaos.do("cut")
    s.wait(lambda m: m["target"]["state"] == "connecting")
    accepted = chaos.stats()["accepted"]
    s.qmp.events.clear()
    s.qmp.command("mirror-set", target_timeout=TIMEOUT)
    began = time.monotonic()
    event = s.qmp.wait_event("MIRROR_TARGET_STATE", WAIT, state="offline",
                             reason="no answer from the server within %d ms" %
                             (TIMEOUT * 1000))
    took = time.monotonic() - began
    assert took < TIMEOUT + 2 * SLOW, "%.1f s: %s" % (took, event)
    # Those that follow, too.
    wait_for(lambda: chaos.stats()["accepted"] >= accepted + 2, "no tries")


def clients(s, chaos, h):
    chaos.up()
    s.online()
    s.synced()
    chaos.do("stall")
    began = time.monotonic()
    h.pwrite(b"x" * 4096, 0)
    took = time.monotonic() - began
    assert TIMEOUT / 2 < took < TIMEOUT + 1 * SLOW, "%.1f s" % took
    chaos.up()


with Test() as t, Scene(t, "write-blocking", 1 << 20) as s:
    s.target()
    chaos = Chaos(t, "chaos", "target", tcp=True)
    s.mirror(target=chaos.uri, target_timeout=LONG)
    s.synced()
    present(s, chaos)
    being_made(s, chaos)
    h = s.client()
    clients(s, chaos, h)
    h.shutdown()
    s.equal()
    s.end()
