#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A target that dies, hangs, fails or talks nonsense, and is well again later:
no client's request fails or waits for long, and the mirror becomes identical
by itself, without copying much more than it must."""

import contextlib
import errno
import os
import shutil
import sys
import time

sys.dont_write_bytecode = True
top = os.environ["top_srcdir"]
sys.path.insert(0, os.path.join(top, "tests/lib"))
sys.path.insert(0, os.path.join(top, "tests/tools"))
from chaos import Chaos  # noqa: E402
from dead import GRANULARITY, MINUTE, SIZE, TIMEOUT, WAIT, Scene  # noqa: E402
from lyingserver import LyingServer  # noqa: E402
from mirrortest import STRESS, Test, figure  # noqa: E402
from qmp import QMPError  # noqa: E402

MODES = ("write-blocking", "background")
RESETS = 1000 if STRESS else 6
FULL = 20 if STRESS else 2      # how often the disk is
NONSENSE = ({"mutate": 20}, {"cookie": "wrong", "from": 3},
            {"mutate": 300, "from": 5}, {"cookie": "never", "from": 5},
            {"close": 2}, {"chunk": "range"}, {"chunk": "length"})
N = 20000 if STRESS else 1000   # requests of a load


def killed(t, s):
    s.target()
    s.mirror()
    load = s.load()
    s.synced_once()
    load.more(N)
    t.kill("target")
    s.offline()
    load.more(N)
    s.target()
    s.online()
    load.more(N)
    return load


def asked_to_end(t, s):
    """nbdkit that gets SIGTERM refuses what comes from then on, but waits for
    its clients to leave.  They must, at the first refusal."""
    s.target()
    s.mirror()
    s.synced()
    h = s.client()
    t.servers["target"].terminate()
    # It may still do some.
    s.wait(lambda m: h.pwrite(b"x" * 512, 4096) or
           m["target"]["state"] != "online")
    t.stop("target")
    s.target()
    h.shutdown()


def resent(t, s):
    """What was flushed and has not been written since is not sent again."""
    s.target()
    s.mirror()
    s.synced()
    h = s.client()
    h.pwrite(b"a" * 4096, 0)
    h.flush()
    s.synced()
    before = s.qmp.mirror()["copied-bytes"]
    t.kill("target")
    s.offline()
    places = [i * 5 * GRANULARITY for i in range(20)]
    for at in places:
        h.pwrite(b"b" * 4096, at)
    s.target()
    s.equal()
    h.shutdown()
    copied = s.qmp.mirror()["copied-bytes"] - before
    least = len(places) * GRANULARITY
    most = least + 4 * GRANULARITY
    assert least <= copied <= most, "%d bytes were copied, not %d to %d" % (
        copied, least, most)
    print("%s: resent %d bytes, the least is %d" % (s.mode, copied, least))
    figure("resent", mode=s.mode, bytes=copied, least=least)


def stopped(t, s):
    s.qemu_target()
    s.mirror()
    load = s.load()
    s.synced_once()
    load.more(N)
    s.stopped()
    s.offline()
    load.more(N)
    s.continued()
    s.online()
    load.more(N)
    return load


def reset(t, s):
    s.qemu_target()
    chaos = Chaos(t, "chaos", "target", tcp=True)
    s.mirror(target=chaos.uri)
    load = s.load()
    for _ in range(RESETS):
        before = s.reconnects()
        rule = chaos.at("any 20 reset")
        chaos.wait(rule)
        s.reconnected(before)
    load.more(N)
    return load


def resets(t, s):
    """Every 50 ms, so that hardly a session lasts."""
    s.qemu_target()
    chaos = Chaos(t, "chaos", "target", tcp=True)
    s.mirror(target=chaos.uri)
    load = s.load()

    def reset_it():
        chaos.do("reset")
        s.reconnects()      # reads the events: who never does is hung up on

    s.last(load, MINUTE, reset_it)
    assert s.reconnects() > 0
    load.more(N)
    return load


def absent(t, s):
    """At the start, and for a minute."""
    s.mirror()
    assert s.state() == "connecting", s.state()
    load = s.load()
    s.last(load, MINUTE)
    assert s.state() == "connecting", s.state()
    s.target()
    s.online()
    load.more(N)
    return load


def full(t, s):
    bad = t.path("bad")
    s.target("error", error="ENOSPC", error_rate="0%",
             error_pwrite_rate="100%", error_zero_rate="100%",
             error_file=bad)
    s.mirror()
    load = s.load()
    s.synced_once()
    load.more(N)
    for _ in range(FULL):
        with open(bad, "wb"):
            pass
        errors = s.qmp.mirror()["target-errors"]
        s.wait(lambda m: m["target-errors"] > errors)
        load.more(N // FULL)
        m = s.qmp.mirror()
        assert m["target"]["state"] == "online", m["target"]
        assert m["last-error"]["errno"] == errno.ENOSPC, m["last-error"]
        os.unlink(bad)
        copied = m["copied-bytes"]
        s.wait(lambda m: m["copied-bytes"] > copied)
        load.more(N // FULL)
    return load


def bad_range(t, s):
    """Only that stays dirty, until the disk has been repaired."""
    first, last = 40 * GRANULARITY, 42 * GRANULARITY
    s.target("protect", protect="%d-%d" % (first, last - 1))
    s.mirror()
    s.wait(lambda m: m["target-errors"] > 0)
    load = s.load("--from=%d" % (4 << 20))
    load.more(N)
    s.quiet(load)
    # A copy that fails is as long as the longest piece.
    s.wait(lambda m: m["dirty-bytes"] + m["inflight-bytes"] <=
           last - first + 2 * (256 << 10))
    m = s.qmp.mirror()
    assert m["target"]["state"] == "online" and \
        m["dirty-bytes"] + m["inflight-bytes"] > 0, m
    t.kill("target")
    s.offline()
    s.target()
    return s.load()


def read_target(qmp):
    """Of some lies none but who reads can notice.  Returns None."""
    if not (qmp.mirror()["verify"] or {}).get("running"):
        with contextlib.suppress(QMPError):     # not online, or just started
            qmp.command("mirror-verify", action="start")


def garbage(t, s):
    s.target()
    s.mirror()
    load = s.load()
    t.kill("target")
    os.unlink(t.path("target.sock"))
    for lies in NONSENSE if STRESS else NONSENSE[:2]:
        liar = LyingServer(t.path("target.sock"), dict(lies, size=SIZE))
        before = liar.connections
        s.qmp.wait(lambda q: liar.connections >= before + 8 or
                   "chunk" in lies and read_target(q), WAIT)
        load.more(N // 10)
        liar.stop()
        os.unlink(t.path("target.sock"))
    s.target()
    s.online()
    load.more(N)
    return load


def run(what, mode):
    with Test() as t, Scene(t, mode) as s:
        # The first pass is over; under load a mirror need not be equal.
        s.synced_once = lambda: s.wait(lambda m: m["job"]["ready"] or
                                       m["copied-bytes"] >= SIZE)
        began = time.monotonic()
        load = what(t, s)
        if load:
            s.quiet(load)
        s.equal()
        m = s.qmp.mirror()
        print("%s, %s, %.1f s: longest wait %.3f s of %.0f, "
              "%d reconnects, %d copied" %
              (what.__name__, mode, time.monotonic() - began, s.longest,
               TIMEOUT, m["target"]["reconnects"], m["copied-bytes"]))
        if load:
            figure("outage", scenario=what.__name__, mode=mode,
                   longest=s.longest, timeout=TIMEOUT,
                   reconnects=m["target"]["reconnects"],
                   requests=s.requests)
        s.end()


SCENARIOS = (killed, asked_to_end, resent, stopped, reset, resets, absent,
             full, bad_range, garbage)
for number, scenario in enumerate(SCENARIOS):
    if len(sys.argv) > 1 and scenario.__name__ not in sys.argv[1:]:
        continue
    if scenario in (stopped, reset, resets) and \
            not shutil.which("qemu-nbd"):
        print("%s: not done, there is no qemu-nbd" % scenario.__name__)
        continue
    for i, mode in enumerate(MODES):
        if STRESS or len(sys.argv) > 1 or scenario is resent or \
                i == (number + 1) % 2:
            run(scenario, mode)
