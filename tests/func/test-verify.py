#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Online verify: finds every byte that the target has otherwise, and nothing
else, whatever clients do meanwhile; repairs; stops; keeps its speed; gates
complete."""

import os
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
SIZE = 16 * MIB + 1001          # no multiple of anything
DATA = 3 * MIB                  # the rest is a hole
LOAD_S = 600 if STRESS else 4 * SLOW


class Image:
    """The target, behind the mirror's back."""

    def __init__(self, t):
        self.h = nbd.NBD()
        self.h.connect_uri(t.uri("target"))

    def spoil(self, offset):
        byte = self.h.pread(1, offset)[0]
        self.h.pwrite(bytes([byte ^ 0x55]), offset)

    def close(self):
        self.h.shutdown()


def start(qmp, **args):
    qmp.events.clear()
    assert qmp.command("mirror-verify", action="start", **args) == {}


def result(qmp, timeout=60):
    return qmp.wait_event("MIRROR_VERIFY_COMPLETED", timeout * SLOW)["data"]


def verify(qmp, **args):
    start(qmp, **args)
    found = result(qmp)
    status = qmp.mirror()["verify"]
    assert status["running"] is False, status
    for name in ("differences", "bytes", "left-bytes", "first-differences"):
        assert status[name] == found[name], (status, found)
    assert status["error"] is None and "error" not in found, (status, found)
    return found


def nbdmirror(t, *args, status=0):
    r = subprocess.run(["nbdmirror", "-S", t.path("ctl.sock"), *args],
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=120 * SLOW,
                       encoding="utf-8", check=False)
    assert r.returncode == status, (args, r)
    return r.stdout, r.stderr


def check_errors(t, qmp):
    assert "no job" in qmp.refused("mirror-verify", action="start")
    assert "no verification" in qmp.refused("mirror-verify", action="stop")
    assert "action" in qmp.refused("mirror-verify")
    assert "action" in qmp.refused("mirror-verify", action="begin")
    assert "speed" in qmp.refused("mirror-verify", action="start", speed=-1)
    assert "repair" in qmp.refused("mirror-verify", action="start", repair=1)
    assert "start" in qmp.refused("mirror-verify", action="stop", repair=True)
    assert qmp.mirror()["verify"] is None
    _, err = nbdmirror(t, "verify", status=1)
    assert "no job" in err, err
    _, err = nbdmirror(t, "verify", "--speed", "fast", status=1)
    assert "--speed fast: must be" in err, err
    _, err = nbdmirror(t, "verify", "--stop", "--repair", status=1)
    assert "--stop" in err, err


def check_found(qmp, image):
    """Each by itself, then all of them; repair, then none."""
    granularity = qmp.mirror()["job"]["granularity"]
    offsets = [0, 1, 4096, 2 * MIB + 7, DATA - 1, DATA, 9 * MIB,
               10 * MIB + 65535, 16 * MIB, SIZE - 2, SIZE - 1]
    assert verify(qmp) == {"differences": 0, "bytes": SIZE, "left-bytes": 0,
                           "first-differences": []}
    for offset in offsets:
        image.spoil(offset)
        found = verify(qmp)
        assert found["differences"] == 1, (offset, found)
        assert found["first-differences"] == [
            offset - offset % granularity], (offset, found)
        assert found["bytes"] == SIZE, (offset, found)
        image.spoil(offset)     # back again
    for offset in offsets:
        image.spoil(offset)
    granules = sorted({offset - offset % granularity for offset in offsets})
    found = verify(qmp)
    assert found["differences"] == len(granules), found
    assert found["first-differences"] == granules[:8], found
    return len(granules)


def check_repair(t, qmp, granules):
    assert not t.compare("proxy", "target")
    found = verify(qmp, repair=True)
    assert found["differences"] == granules, found
    t.wait_equal(qmp)
    assert t.compare("proxy", "target"), "repaired, but not the same"
    assert verify(qmp)["differences"] == 0


def check_stop_and_speed(t, qmp):
    """Of the data: holes cost nothing."""
    speed = 2 * MIB
    began = time.monotonic()
    start(qmp, speed=speed)
    assert "already" in qmp.refused("mirror-verify", action="start")
    qmp.wait(lambda q: q.mirror()["verify"]["bytes"] > 0, 20 * SLOW)
    status = qmp.mirror()["verify"]
    assert status["running"] and status["speed"] == speed, status
    out, _ = nbdmirror(t, "status")
    assert "verify    running" in out, out
    found = result(qmp)
    took = time.monotonic() - began
    # A tenth of a second's worth may go at once, and a last piece.
    assert took > (DATA - 256 * 1024) / speed - 0.2, took
    assert found["bytes"] == SIZE and found["differences"] == 0, found

    start(qmp, speed=1000)
    qmp.wait(lambda q: q.mirror()["verify"]["bytes"] > 0, 20 * SLOW)
    nbdmirror(t, "verify", "--stop")
    found = result(qmp)
    assert found["error"] == "stopped" and found["left-bytes"] > 0, found
    assert found["bytes"] + found["left-bytes"] == SIZE, found


def check_pause_and_hold(t, qmp):
    """Paused: it waits.  Held: it can compare everything."""
    load = t.load("load", "--connections=2", "--depth=4", "--max-size=64K",
                  "--iops=2000")
    qmp.command("job-pause", id="mirror")
    start(qmp)
    load.more(100)
    status = qmp.mirror()["verify"]
    assert status["running"] and status["bytes"] == 0, status
    qmp.command("job-resume", id="mirror")
    found = result(qmp)
    assert found["differences"] == 0 and "error" not in found, found

    qmp.command("mirror-hold", timeout=100)
    assert verify(qmp) == {"differences": 0, "bytes": SIZE, "left-bytes": 0,
                           "first-differences": []}
    assert qmp.mirror()["held"], "the barrier has fallen meanwhile"
    qmp.command("mirror-release")
    load.stop()


def check_load(t, qmp):
    """Overlapping writers and trims, in every mode and while it changes."""
    load = t.load("load", "--connections=4", "--depth=8", "--max-size=128K",
                  "--overlap", "--length=2M",
                  "--weights=write=50,read=5,zero=15,trim=15,flush=3")
    modes = ("background", "write-blocking")
    deadline = time.monotonic() + LOAD_S
    rounds = 0
    while rounds < 3 or time.monotonic() < deadline:
        t.watchdog_again()
        start(qmp)
        for i in range(rounds % 3):
            load.more(100)
            qmp.command("block-job-change", id="mirror", type="mirror",
                        copy_mode=modes[(rounds + i) % 2])
        found = result(qmp)
        assert found["differences"] == 0, (rounds, found)
        assert "error" not in found, (rounds, found)
        assert found["bytes"] >= SIZE - 3 * MIB, (rounds, found)
        rounds += 1
    if STRESS:
        print("%d rounds in %d s, %d requests, no false alarm" %
              (rounds, LOAD_S, load.count()))
    load.stop()
    qmp.command("block-job-change", id="mirror", type="mirror",
                copy_mode="write-blocking")
    t.wait_equal(qmp)
    assert verify(qmp)["left-bytes"] == 0


def check_gate(t, qmp, image):
    """complete --verify does nothing when something differs."""
    image.spoil(12345)
    out, err = nbdmirror(t, "verify", status=1)
    assert "1 granules differ, found first at 0" in out, out
    assert "source and target differ" in err, err
    _, err = nbdmirror(t, "complete", "--verify", status=1)
    assert "complete: source and target differ" in err, err
    assert qmp.job()["status"] == "ready", qmp.job()
    nbdmirror(t, "verify", "--repair", status=1)
    t.wait_equal(qmp)
    out, _ = nbdmirror(t, "verify")
    assert ": 0 granules differ" in out, out
    out, _ = nbdmirror(t, "complete", "--verify")
    assert "0 granules differ" in out and "pivoted" in out, out
    assert qmp.mirror()["pivoted"] is True


def check_ends(t, qmp):
    """With the job, and with the target."""
    qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                target=t.uri("other"))
    qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
    start(qmp, speed=1000)
    qmp.wait(lambda q: q.mirror()["verify"]["bytes"] > 0, 20 * SLOW)
    qmp.command("block-job-cancel", device="mirror", force=True)
    assert result(qmp)["error"] == "the job was cancelled"
    qmp.wait(lambda q: q.job() is None, 20 * SLOW)

    qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                target=t.uri("other"))
    qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
    start(qmp, speed=1000)
    qmp.wait(lambda q: q.mirror()["verify"]["bytes"] > 0, 20 * SLOW)
    t.kill("other")
    assert result(qmp)["error"] == "the target was lost"
    assert "offline" in qmp.refused("mirror-verify", action="start")


with Test() as t:
    with open(t.path("disk"), "wb") as f:
        f.write(os.urandom(DATA))
        f.truncate(SIZE)
    t.nbdkit("target", "memory", str(SIZE))
    t.nbdkit("other", "memory", str(SIZE))
    t.mirror("file", t.path("disk"))
    with t.qmp(timeout=60 * SLOW) as qmp:
        check_errors(t, qmp)
        qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                    target=t.uri("target"), copy_mode="background")
        qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
        image = Image(t)
        check_repair(t, qmp, check_found(qmp, image))
        check_stop_and_speed(t, qmp)
        check_pause_and_hold(t, qmp)
        check_load(t, qmp)
        check_gate(t, qmp, image)
        image.close()
        check_ends(t, qmp)
