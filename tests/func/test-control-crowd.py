#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Many who steer the same job at once, job after job, under load.

Whatever they say, each gets an answer: what was asked for, or an error of a
documented class that says why not.  Every job ends in one of the documented
ways; clients lose nothing, and are on the target if and only if the job was
completed."""

import os
import random
import re
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402
from qmp import QMPError  # noqa: E402

SIZE = (2 << 20) + 512
ROUNDS = 300 if STRESS else max(6, 16 // SLOW)
CROWD = 8
DEADLINE = 60 * SLOW

# Why a command may be refused while others steer, too: (class, text).
REASONS = [
    ("DeviceNotActive", r"Block job 'j\d+' not found"),
    ("GenericError", r"Job not found"),
    ("GenericError", r"There is no job"),
    ("GenericError", r"Job 'j\d+' in state '\w+' cannot accept command verb"),
    ("GenericError", r"Job is already paused"),
    ("GenericError", r"Can't resume a job that was not paused"),
    ("GenericError", r"Job 'j\d+' cannot be (completed|detached) now: "
     r"(the mirror is held; release it first|the job is being completed, "
     r"detached or held already|the target is offline)"),
    ("GenericError", r"Cannot hold: (there is no job|the job is not ready|"
     r"somebody else is waiting for the same|the job has ended|"
     r"the mirror is held; release it first|the job is being completed, "
     r"detached or held already|the target is offline|the target was lost|"
     r"the flushes took longer|requests in flight have not|what was dirty)"),
    ("GenericError", r"Nothing is held"),
    ("GenericError", r"The hold has expired"),
    ("GenericError", r"There is a job already: 'j\d+' in state"),
]
ENDINGS = ("completed", "cancelled")
STATES = {"created", "running", "paused", "ready", "standby", "waiting",
          "pending", "aborting", "concluded", "null"}


def say(q, name, **arguments):
    """True if it was done; an unexpected refusal is a failure."""
    try:
        q.command(name, **arguments)
        return True
    except QMPError as e:
        assert any(e.cls == c and re.match(text, e.desc)
                   for c, text in REASONS), (name, arguments, e.cls, e.desc)
        return False


def deeds(rng, job):
    """What one of the crowd may do next."""
    mode = rng.choice(("background", "write-blocking", "auto"))
    return rng.choice([
        ("query-mirror", {}), ("query-block-jobs", {}), ("query-jobs", {}),
        ("block-job-change", {"id": job, "type": "mirror",
                              "copy-mode": mode}),
        ("mirror-set", {"copy-mode": mode, "speed": 0}),
        ("block-job-set-speed", {"device": job, "speed":
                                 rng.choice((0, 1 << 20, 1 << 30))}),
        ("mirror-hold", {"timeout": 1}), ("mirror-release", {}),
        ("job-pause", {"id": job}), ("job-resume", {"id": job}),
        ("block-job-pause", {"device": job}),
        ("block-job-resume", {"device": job}),
    ])


class Member(threading.Thread):
    """One of the crowd: steers a job until it is gone, and at some moment
    tries to end it in its own way."""

    def __init__(self, t, job, seed, begin):
        super().__init__(daemon=True)
        self.rng = random.Random(seed)
        self.test, self.job, self.begin = t, job, begin
        self.error = None
        self.won = []

    def run(self):
        try:
            with self.test.qmp(timeout=DEADLINE) as q:
                self.begin.wait()
                self.steer(q)
        except Exception as e:  # pylint: disable=broad-except
            self.error = e

    def end(self, q):
        name, arguments = self.rng.choice([
            ("job-complete", {"id": self.job}),
            ("job-complete", {"id": self.job}),
            ("block-job-complete", {"device": self.job}),
            ("block-job-cancel", {"device": self.job}),
            ("block-job-cancel", {"device": self.job}),
            ("block-job-cancel", {"device": self.job, "force": True}),
            ("job-cancel", {"id": self.job})])
        if say(q, name, **arguments):
            self.won.append(name)

    def steer(self, q):
        deadline = time.monotonic() + DEADLINE
        last = time.monotonic() + (0.1 + self.rng.random() / 4) * SLOW
        while True:
            assert time.monotonic() < deadline, "the job does not end"
            name, arguments = deeds(self.rng, self.job)
            say(q, name, **arguments)
            if time.monotonic() > last:
                # What would keep it from ending must not last.
                for name in ("job-resume", "mirror-release"):
                    say(q, name, **({"id": self.job}
                                    if name == "job-resume" else {}))
                self.end(q)
            jobs = q.command("query-jobs")
            assert all(j["status"] in STATES for j in jobs), jobs
            if not jobs or jobs[0]["id"] != self.job:
                return


def one_round(t, q, i, sides):
    """sides: what clients have now, and the target."""
    job = "j%d" % i
    rng = random.Random(i)
    q.events.clear()
    q.command("blockdev-mirror", job_id=job, sync="full",
              target=t.uri(sides[1]), granularity=16384, max_pause=5000,
              copy_mode=rng.choice(("background", "write-blocking", "auto")))
    begin = threading.Barrier(CROWD)
    crowd = [Member(t, job, 100 * i + k, begin) for k in range(CROWD)]
    for member in crowd:
        member.start()
    for member in crowd:
        member.join(2 * DEADLINE)
        assert not member.is_alive(), "a member of the crowd hangs"
        if member.error:
            raise member.error
    q.wait(lambda q: q.job() is None, DEADLINE)
    m = q.mirror()
    last = m["last-job"]
    assert last["id"] == job and last["end"] in ENDINGS, last
    assert m["held"] is False, m
    won = {name for member in crowd for name in member.won}
    assert won, "it ended without anybody"
    pivoted = [e for e in q.events if e["event"] == "MIRROR_PIVOTED"]
    ends = [e["event"] for e in q.events
            if e["event"] in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED")]
    assert ends == ["BLOCK_JOB_" + last["end"].upper()], (ends, last)
    assert len(pivoted) <= (last["end"] == "completed"), q.events
    if pivoted:
        assert won & {"job-complete", "block-job-complete"}, won
        sides.reverse()
    elif last["end"] == "completed":
        assert "block-job-cancel" in won, won
    return "pivoted" if pivoted else "detached" \
        if last["end"] == "completed" else "cancelled"


def crowd(t):
    for name in ("a", "b"):
        t.nbdkit(name, "-t", "1", "memory", str(SIZE))
    t.mirror("nbd", "socket=" + t.path("a.sock"))
    load = t.load("load", "--connections=3", "--depth=3", "--max-size=32K",
                  "--seed=2")
    load.more(50)
    sides, ends = ["a", "b"], {}
    with t.qmp(timeout=DEADLINE) as q:
        for i in range(ROUNDS):
            how = one_round(t, q, i, sides)
            ends[how] = ends.get(how, 0) + 1
            load.more(20)
            assert load.process.poll() is None, "the load has ended"
        load.stop()
    assert t.compare("proxy", sides[0]), "clients are on the wrong side"
    print("%d rounds, %d requests: %s" % (ROUNDS, load.count(), ends))
    if STRESS:
        assert len(ends) == 3, ends
    for name in ("proxy", "a", "b"):
        t.stop(name)


def ready(t, q, **arguments):
    q.events.clear()
    q.command("blockdev-mirror", job_id="m", sync="full",
              target=t.uri("target"), **arguments)
    q.wait_event("BLOCK_JOB_READY", DEADLINE)


def ended(q, how):
    q.wait_event("BLOCK_JOB_" + how, DEADLINE)
    q.wait(lambda q: q.job() is None, DEADLINE)


def cases(t):
    """One by one: what may follow what."""
    t.nbdkit("target", "memory", str(SIZE))
    server = t.mirror("memory", str(SIZE))
    load = t.load("load", "--connections=2", "--max-size=16K", "--iops=2000",
                  "--allow-errors", "--seed=4")
    with t.qmp(timeout=DEADLINE) as q, t.qmp(timeout=DEADLINE) as other:
        # Without a job.
        assert "there is no job" in q.refused("mirror-hold")
        assert q.refused("mirror-release") == "Nothing is held"
        assert "mirror-hold" in q.refused("mirror-fence")
        q.command("mirror-fence", force=True)
        assert q.mirror()["fenced"] is True
        q.command("mirror-fence", enable=False)
        assert q.mirror()["fenced"] is False
        assert "not found" in q.refused("job-complete", id="m")

        # Held: no second hold, no switch, no other job; but pause, modes
        # and speeds.
        ready(t, q, copy_mode="write-blocking")
        q.command("mirror-hold", timeout=300)
        for one in (q, other):
            assert "held" in one.refused("mirror-hold")
            assert "held" in one.refused("job-complete", id="m")
            assert "held" in one.refused("block-job-cancel", device="m")
            assert "already" in one.refused(
                "blockdev-mirror", target=t.uri("target"), sync="full")
        q.command("block-job-change", id="m", type="mirror",
                  copy_mode="background")
        q.command("block-job-set-speed", device="m", speed=1 << 30)
        q.command("job-pause", id="m")
        assert q.mirror()["held"] is True
        assert q.job()["status"] == "standby"
        q.command("job-resume", id="m")
        assert q.mirror()["held"] is True
        assert other.command("mirror-release")["held-us"] > 0
        assert q.refused("mirror-release") == "Nothing is held"
        load.more(50)

        # Paused: there is no barrier.
        q.command("job-pause", id="m")
        assert "not ready" in q.refused("mirror-hold")
        q.command("job-resume", id="m")

        # Held, and it expires.
        q.command("mirror-hold", timeout=1)
        q.wait_event("MIRROR_RELEASED", DEADLINE, reason="expired")
        assert q.refused("mirror-release") == "The hold has expired"
        assert q.refused("mirror-release") == "Nothing is held"
        load.more(50)

        # Held, and cancelled: the clients are free.
        q.command("mirror-hold", timeout=300)
        q.command("block-job-cancel", device="m", force=True)
        q.wait_event("MIRROR_RELEASED", DEADLINE, reason="job ended")
        ended(q, "CANCELLED")
        assert q.refused("mirror-release") == "Nothing is held"
        load.more(50)

        # Detached: clients stay, and it was no cancel.
        ready(t, q, copy_mode="write-blocking")
        q.command("block-job-cancel", device="m")
        ended(q, "COMPLETED")
        assert q.mirror()["pivoted"] is False
        assert q.mirror()["last-job"]["end"] == "completed"
        load.more(50)

        # Offline: no switch, no hold.
        ready(t, q)
        t.kill("target")
        q.wait(lambda q: q.mirror()["target"]["state"] == "offline", DEADLINE)
        for name, arguments in (("job-complete", {"id": "m"}),
                                ("block-job-cancel", {"device": "m"}),
                                ("mirror-hold", {})):
            assert "offline" in q.refused(name, **arguments), name
        q.command("job-cancel", id="m")
        ended(q, "CANCELLED")
        load.more(50)

        # Paused, and completed.
        t.nbdkit("target", "memory", str(SIZE))
        ready(t, q, copy_mode="write-blocking")
        q.command("job-pause", id="m")
        q.command("job-complete", id="m")
        q.wait_event("MIRROR_PIVOTED", DEADLINE)
        ended(q, "COMPLETED")
        assert q.mirror()["pivoted"] is True
        load.more(50)
        load.stop()
        assert t.compare("proxy", "target")

        # Held, and quit: it ends with status 0, and in time.
        t.nbdkit("next", "memory", str(SIZE))
        q.command("blockdev-mirror", job_id="n", sync="full",
                  target=t.uri("next"), copy_mode="write-blocking")
        q.wait(lambda q: q.job()["ready"], DEADLINE)
        q.command("mirror-hold", timeout=300)
        begin = time.monotonic()
        q.command("quit")
        assert server.wait(DEADLINE) == 0
        took = time.monotonic() - begin
        assert took < 2 + 3 * SLOW, "quit took %.1f s" % took
    del t.servers["proxy"]
    t.stop("target")
    t.stop("next")


with Test() as t:
    cases(t)
    crowd(t)
