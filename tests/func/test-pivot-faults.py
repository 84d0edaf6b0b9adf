#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Pivots while the target fails, at every step of one.

Until the switch no client may notice anything: one oracle runs through all
those failures and checks each request.  After it the clients' data is right
on the target, as far as requests did not fail, and the source gets nothing
any more: that is looked up in a log of all that reached it."""

import errno
import os
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos  # noqa: E402
from mirrortest import SLOW, STRESS, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

SIZE = (3 << 20) + 777
LONG_PAUSE = 60000
SHORT_PAUSE = 300 * SLOW
TARGET_TIMEOUT = 10             # how long requests wait for one that is gone
# Nothing but the switch flushes the target then, so its flushes are known:
# the first is before the clients are held, the second while they are.
QUIET = ("--weights=write=3,read=1,zero=1", "--no-fua")


class Client:
    def __init__(self, uri):
        self.h = nbd.NBD()
        self.h.connect_uri(uri)

    def close(self):
        self.h.shutdown()

    def error(self, call, *args):
        """The errno with which a call fails, or 0."""
        try:
            getattr(self.h, call)(*args)
            return 0
        except nbd.Error as e:
            return e.errnum

    def begin_write(self, data, offset):
        """Returns a list that gets the errno when it has ended."""
        result = []
        self.h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset,
                          completion=lambda e: result.append(e.value) or 1)
        return result

    def begin_read(self):
        result = []
        self.h.aio_pread(nbd.Buffer(512), 0,
                         completion=lambda e: result.append(e.value) or 1)
        return result

    def poll_for(self, result, seconds):
        deadline = time.monotonic() + seconds
        while not result and time.monotonic() < deadline:
            self.h.poll(20)
        return bool(result)

    def finish(self, result):
        assert self.poll_for(result, 60 * SLOW), "a request hangs"
        return result[0]


class Reader(threading.Thread):
    """Reads what nobody writes to; no read may fail or be wrong."""

    LIMIT = 2 << 20

    def __init__(self, uri, content):
        super().__init__(daemon=True)
        self.client = Client(uri)
        self.content = content
        self.count = 0
        self.stopping = False
        self.wrong = None
        self.start()

    def run(self):
        try:
            while not self.stopping and not self.wrong:
                at = self.count * 4096 % self.LIMIT
                data = self.client.h.pread(4096, at)
                if data != self.content[at:at + 4096]:
                    self.wrong = "wrong data at %d" % at
                self.count += 1
        except nbd.Error as e:
            self.wrong = str(e)

    def more(self, n):
        want = self.count + n
        wait_for(lambda: self.count >= want or self.wrong, "reads stall")
        assert not self.wrong, self.wrong

    def stop(self):
        self.stopping = True
        self.join(60 * SLOW)
        assert not self.is_alive(), "a read hangs"
        assert not self.wrong, self.wrong
        self.client.close()


class Scene:
    """A source in a file, a target behind the chaos proxy, the mirror."""

    def __init__(self, t, *keys):
        self.t = t
        self.log = t.path("requests")
        self.content = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]
        with open(t.path("disk"), "wb") as f:
            f.write(self.content)
        open(self.log, "wb").close()
        t.nbdkit("target", "memory", str(SIZE))
        self.chaos = Chaos(t, "chaos", "target")
        t.mirror("--filter=log", "file", t.path("disk"),
                 "logfile=" + self.log, *keys)
        self.qmp = t.qmp(timeout=60 * SLOW)
        self.end_of_source = None

    def end(self):
        self.qmp.close()
        for name in "proxy", "chaos", "target":
            self.t.stop(name)

    def source_requests(self, offset):
        with open(self.log, encoding="ascii") as f:
            f.seek(offset)
            return [line for line in f if any(
                " %s " % kind in line
                for kind in ("Read", "Write", "Zero", "Trim", "Flush"))]

    def assert_source_quiet(self):
        late = self.source_requests(self.end_of_source)
        assert not late, "the source gets %s" % late[:3]

    def state(self):
        return self.qmp.mirror()["target"]["state"]

    def wait_state(self, state):
        self.qmp.wait(lambda q: self.state() == state, 60 * SLOW)

    def start(self, max_pause=LONG_PAUSE, ready=True):
        self.qmp.command("blockdev-mirror", job_id="m", sync="full",
                         target=self.t.uri("chaos"), max_pause=max_pause,
                         copy_mode="write-blocking")
        if ready:
            self.wait_synced()

    def wait_synced(self):
        self.qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)

    def complete(self):
        self.qmp.events.clear()
        self.qmp.command("job-complete", id="m")

    def wait_failed(self, reason, pause=None):
        """The switch has failed; pause: (least, most) milliseconds."""
        event = self.qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
        data = event["data"]
        assert data["operation"] == "pivot", event
        assert reason in data["error"], event
        if pause:
            assert pause[0] * 1000 <= data["pause-us"] <= pause[1] * 1000, \
                event
        mirror = self.qmp.mirror()
        assert mirror["pivoted"] is False and mirror["held"] is False, mirror
        assert self.qmp.job()["status"] == "ready"

    def drop_lost_job(self):
        """The target is back, which needs another job."""
        self.wait_state("offline")
        assert "offline" in self.qmp.refused("job-complete", id="m")
        self.cancel()
        self.chaos.command("forget")
        self.chaos.up()

    def cancel(self):
        self.qmp.command("block-job-cancel", device="m", force=True)
        self.qmp.wait(lambda q: q.job() is None, 60 * SLOW)

    def wait_held(self):
        """Until clients are: a read does not return.  Returns the client and
        its read."""
        c = Client(self.t.uri("proxy"))
        deadline = time.monotonic() + 60 * SLOW
        while True:
            result = c.begin_read()
            if not c.poll_for(result, 0.3 * SLOW):
                return c, result
            assert result == [0], result
            assert time.monotonic() < deadline, "clients are not held"

    def pivot(self, then=None):
        """It works; `then` is called in the middle of it, while the target's
        last flush has been made and its reply has not come."""
        begin = os.path.getsize(self.log)
        rule = self.chaos.at("flush-reply 2 stall")
        self.complete()
        self.chaos.wait(rule)
        # The source may be slower with its own.
        wait_for(lambda: sum(" Flush " in r
                             for r in self.source_requests(begin)) == 2,
                 "the source is not flushed twice")
        self.end_of_source = os.path.getsize(self.log)
        if then:
            then()
        self.chaos.command("resume")
        event = self.qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        assert event["data"]["pause-us"] > 0, event
        assert self.qmp.mirror()["pivoted"] is True

    def assert_same(self):
        assert self.t.compare("proxy", "target"), \
            "clients do not see the target"


# -- before the switch

def first_pass(scene):
    rule = scene.chaos.at("write 3 down")
    scene.start(ready=False)
    scene.chaos.wait(rule)
    scene.wait_state("offline")
    why = scene.qmp.refused("job-complete", id="m")
    assert "ready" in why or "running" in why or "state" in why, why
    scene.cancel()
    scene.chaos.up()


def lost(scene, rule, reason, held):
    """The connection goes at that moment of a pivot."""
    scene.start()
    number = scene.chaos.at(rule)
    scene.complete()
    scene.chaos.wait(number)
    scene.wait_failed(reason, None if held else (0, 0))
    scene.drop_lost_job()


def lost_while_draining(scene):
    """... while a client's write is still under way."""
    scene.start()
    number = scene.chaos.at("write 1 hold")
    scene.chaos.wait(number)
    flushed = scene.chaos.at("flush-reply 1 pass")
    scene.complete()
    scene.chaos.wait(flushed)
    client, read = scene.wait_held()
    scene.chaos.do("down")
    scene.wait_failed("")
    assert client.finish(read) == 0
    client.close()
    scene.chaos.release()       # before anything newer
    scene.drop_lost_job()


def flush_fails(scene, rule, again):
    """The job survives; `again` times it fails for the same reason."""
    scene.start()
    scene.chaos.at(rule)
    for _ in range(again):
        scene.complete()
        scene.wait_failed("flushing the target failed")
    scene.chaos.command("forget")
    scene.wait_synced()
    scene.cancel()


def slow_flush(scene, load):
    """It takes longer than clients may be held, and is not waited for."""
    scene.start(SHORT_PAUSE)
    number = scene.chaos.at("flush 2 hold")
    scene.complete()
    scene.chaos.wait(number)
    scene.wait_failed("max-pause", (SHORT_PAUSE, 20 * SHORT_PAUSE))
    load.more(30)
    scene.complete()
    scene.wait_failed("earlier attempt", (0, 0))
    scene.chaos.release()
    scene.wait_synced()
    scene.cancel()


def slow_request(scene, load):
    """A client's write is under way for longer than that."""
    scene.start(SHORT_PAUSE)
    number = scene.chaos.at("write 1 hold")
    scene.chaos.wait(number)
    scene.complete()
    scene.wait_failed("in flight", (SHORT_PAUSE, 20 * SHORT_PAUSE))
    load.more(30)
    assert scene.chaos.release() == 1
    scene.wait_synced()
    scene.cancel()


def before_the_switch(t):
    scene = Scene(t)
    load = t.load("strict", "--connections=2", "--depth=4", "--seed=11",
                  "--max-size=16K", *QUIET)
    load.more(50)
    first_pass(scene)
    for rule, reason, held in (
            ("flush 1 down", "flushing the target failed", False),
            ("flush-reply 1 down", "flushing the target failed", False),
            ("flush 2 down", "", True),
            ("flush-reply 2 down", "", True),
            ("flush 2 reset", "", True),
            ("flush 2 half", "", True),
            ("flush-reply 1 then down-bytes 8 down", "", True)):
        lost(scene, rule, reason, held)
        load.more(30)
    lost_while_draining(scene)
    load.more(30)
    flush_fails(scene, "flush 1 fail", 1)
    flush_fails(scene, "flush 2 fail", 1)
    flush_fails(scene, "flush 1 always fail", 2)
    slow_flush(scene, load)
    slow_request(scene, load)
    # And then it works.
    scene.start()
    scene.pivot()
    load.more(100)
    load.stop()
    scene.assert_source_quiet()
    scene.assert_same()
    scene.end()


def write_fails_while_held(t):
    """A write that is drained fails on the target.  It is copied again at
    once, and the switch goes on; if that fails, too, nothing is switched,
    and no client hears of it."""
    scene = Scene(t)
    c, direct = Client(t.uri("proxy")), Client(t.uri("target"))
    data = os.urandom(5000)
    for always in True, False:
        scene.start(2 * SHORT_PAUSE if always else LONG_PAUSE)
        number = scene.chaos.at("write 1 hold")
        result = c.begin_write(data, 70001)
        assert not c.poll_for(result, 0.1)
        scene.chaos.wait(number)
        flushed = scene.chaos.at("flush-reply 1 pass")
        scene.complete()
        scene.chaos.wait(flushed)
        other, read = scene.wait_held()
        if always:
            scene.chaos.at("write 1 always fail")
        assert scene.chaos.fail() == 1
        if always:
            scene.wait_failed("was not copied", (2 * SHORT_PAUSE,
                                                 40 * SHORT_PAUSE))
            scene.chaos.command("forget")
            scene.wait_synced()
            scene.cancel()
        else:
            scene.qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        assert c.finish(result) == 0 and other.finish(read) == 0
        other.close()
        assert direct.h.pread(5000, 70001) == data, "the write is lost"
        data = data[::-1]
    assert scene.chaos.stats()["errors"]["write"] >= 3
    c.close()
    direct.close()
    scene.assert_same()
    scene.end()


def source_flush_fails(t):
    """Each flush of the source can fail, too: then nothing is switched, and
    the next flush of the clients' fails, since it is told once."""
    t.nbdkit("source", "memory", str(SIZE))
    t.nbdkit("target", "memory", str(SIZE))
    chaos = Chaos(t, "source-chaos", "source")
    t.mirror("nbd", "socket=" + t.path("source-chaos.sock"))
    c, direct = Client(t.uri("proxy")), Client(t.uri("target"))
    content = bytearray(SIZE)

    def write(number):
        at = 8192 + 3000 * number
        data = os.urandom(4096)
        c.h.pwrite(data, at)
        content[at:at + 4096] = data

    with t.qmp(timeout=60 * SLOW) as qmp:
        qmp.command("blockdev-mirror", job_id="m", sync="full",
                    target=t.uri("target"), copy_mode="write-blocking")
        for number, rule in enumerate(("flush 1 fail", "flush 2 fail")):
            write(number)
            qmp.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
            chaos.at(rule)
            qmp.command("job-complete", id="m")
            event = qmp.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
            assert event["data"]["error"] == "flushing the source failed", \
                event
            assert c.error("flush") == errno.EIO, "a loss is hidden"
            assert c.error("flush") == 0
        before = chaos.stats()["requests"]["flush"]
        qmp.command("job-complete", id="m")
        qmp.wait_event("MIRROR_PIVOTED", 60 * SLOW)
        assert chaos.stats()["requests"]["flush"] == before + 2
        assert direct.h.pread(SIZE, 0) == content, "not all is on the target"
        write(2)
        assert direct.h.pread(SIZE, 0) == content, "it is not the new disk"
        assert c.h.pread(SIZE, 0) == content, "it is not what clients see"
    c.close()
    direct.close()
    for name in "proxy", "source-chaos", "source", "target":
        t.stop(name)


# -- during the hold

def two_clients(t):
    """Both write to one range while they are held: by a barrier, which is
    released, and by a pivot."""
    scene = Scene(t)
    scene.start()
    a, b = Client(t.uri("proxy")), Client(t.uri("proxy"))

    def send():
        return (a.begin_write(b"a" * 8192, 1000),
                b.begin_write(b"b" * 8192, 1000 + 4096))

    def check(results, uri):
        assert a.finish(results[0]) == 0 and b.finish(results[1]) == 0
        c = Client(uri)
        got = c.h.pread(8192 + 4096, 1000)
        c.close()
        assert got[:4096] == b"a" * 4096 and got[8192:] == b"b" * 4096, \
            "bytes that one of them wrote alone are lost"
        assert got[4096:8192] in (b"a" * 4096, b"b" * 4096), \
            "neither of two writes"

    scene.qmp.command("mirror-hold", timeout=100)
    results = send()
    assert not a.poll_for(results[0], 0.1) and not b.poll_for(results[1], 0.1)
    scene.qmp.command("mirror-release")
    check(results, t.uri("proxy"))
    check(results, t.uri("target"))
    a.h.pwrite(bytes(16384), 0)
    held = []
    scene.pivot(lambda: held.append(send()))
    check(held[0], t.uri("target"))
    a.close()
    b.close()
    scene.assert_source_quiet()
    scene.assert_same()
    scene.end()


def lost_before_the_fence(t):
    """The barrier stands, then the target goes, then the fence: it is the
    source that is fenced, and its content is what it was."""
    scene = Scene(t)
    scene.start()
    c = Client(t.uri("proxy"))
    c.h.pwrite(b"kept" * 128, 512)
    scene.qmp.command("mirror-hold", timeout=100)
    result = c.begin_write(b"held" * 128, 512)
    scene.chaos.do("down")
    scene.wait_state("offline")
    scene.qmp.command("mirror-fence")
    scene.qmp.command("mirror-release")
    assert c.finish(result) == errno.EPERM
    assert c.h.pread(512, 512) == b"kept" * 128
    scene.qmp.command("mirror-fence", enable=False)
    assert c.error("pwrite", b"more" * 128, 512) == 0
    scene.cancel()
    scene.chaos.up()
    scene.start()
    scene.pivot()
    assert c.h.pread(512, 512) == b"more" * 128
    c.close()
    scene.assert_source_quiet()
    scene.assert_same()
    scene.end()


# -- after the switch

def lost_after(t, rule):
    """The target goes with requests in flight.  Reads are sent again; what
    else was in flight may fail, and nothing else; then it goes on."""
    scene = Scene(t)
    reads = Reader(t.uri("proxy"), scene.content)
    writes = t.load("writes", "--connections=2", "--depth=4", "--seed=6",
                    "--max-size=16K", "--allow-errors",
                    "--from=%d" % Reader.LIMIT, *QUIET)
    scene.start()
    numbers = []
    scene.pivot(lambda: numbers.append(scene.chaos.at(rule)))
    scene.chaos.wait(numbers[0])
    scene.wait_state("offline")
    scene.chaos.up()
    scene.wait_state("pivoted")
    reads.more(50)
    writes.more(50)
    reads.stop()
    writes.stop()
    scene.assert_source_quiet()
    scene.assert_same()
    scene.end()


def lost_later(t):
    """What had been acknowledged and not flushed may be gone with the target,
    so the next flush says so, once; and so does FUA."""
    scene = Scene(t)
    scene.start()
    c = Client(t.uri("proxy"))
    scene.pivot()
    fua = "pwrite", b"y" * 512, 0, nbd.CMD_FLAG_FUA
    for calls in ((("flush",),), (fua, ("flush",))):
        c.h.flush()
        c.h.pwrite(b"x" * 512, SIZE - 512)
        scene.chaos.do("down")
        scene.wait_state("offline")
        scene.chaos.up()
        scene.wait_state("pivoted")
        for call in calls:      # FUA does not stand for a flush
            assert c.error(*call) == errno.EIO, "%s hides a loss" % call[0]
            assert c.error(*call) == 0, "%s fails twice" % call[0]
        assert c.h.pread(512, SIZE - 512) == b"x" * 512
    # All had been flushed: nothing to tell.
    c.h.flush()
    scene.chaos.do("down")
    scene.wait_state("offline")
    scene.chaos.up()
    scene.wait_state("pivoted")
    assert c.error("flush") == 0
    c.close()
    scene.assert_source_quiet()
    scene.end()


def gone_for_long(t):
    """Requests wait for the target as long as they may, then fail."""
    scene = Scene(t)
    scene.start()
    c = Client(t.uri("proxy"))
    scene.pivot()
    scene.chaos.do("down")
    scene.wait_state("offline")
    begin = time.monotonic()
    read = c.begin_read()
    write = c.begin_write(b"z" * 512, 512)
    assert c.error("flush") == errno.EIO
    assert c.finish(read) == errno.EIO and c.finish(write) == errno.EIO
    waited = time.monotonic() - begin
    assert TARGET_TIMEOUT - 1 < waited < TARGET_TIMEOUT + 10 * SLOW, waited
    scene.chaos.up()
    scene.wait_state("pivoted")
    assert c.error("pwrite", b"z" * 512, 0) == 0
    assert c.error("flush") == 0
    c.close()
    scene.assert_source_quiet()
    scene.assert_same()
    scene.end()


def edges(t):
    """The first and the last bytes, and what is not a multiple of anything,
    after the switch."""
    scene = Scene(t)
    scene.start()
    c, direct = Client(t.uri("proxy")), Client(t.uri("target"))
    assert c.h.get_size() == SIZE
    scene.pivot()
    content = bytearray(c.h.pread(SIZE, 0))
    tail = SIZE // 512 * 512
    for i, (offset, count) in enumerate((
            (0, 1), (SIZE - 1, 1), (tail, SIZE - tail), (tail - 1, 2),
            (SIZE - 777, 777), (1, 1023), (65535, 2), (SIZE - 65537, 65537))):
        data = bytes([i + 1]) * count
        c.h.pwrite(data, offset)
        content[offset:offset + count] = data
        assert c.h.pread(count, offset) == data
        assert direct.h.pread(SIZE, 0) == content, (offset, count)
    c.h.zero(3, SIZE - 3)
    content[SIZE - 3:] = bytes(3)
    assert direct.h.pread(SIZE, 0) == content, "zeroes at the tail"
    for call in ("pread", 2, SIZE - 1), ("pwrite", b"xx", SIZE - 1):
        c.h.set_strict_mode(0)
        assert c.error(*call) in (errno.EINVAL, errno.ENOSPC), call
    c.close()
    direct.close()
    scene.assert_source_quiet()
    scene.end()


CASES = [before_the_switch, write_fails_while_held,
         source_flush_fails,
         two_clients, lost_before_the_fence, lost_later, edges]
if STRESS:
    CASES.append(gone_for_long)

with Test() as t:
    for case in CASES:
        case(t)
    for after in ("write 1 down", "write-reply 1 down", "any-reply 3 down",
                  "up-bytes 5000 down", "down-bytes 3000 down"):
        for _ in range(20 if STRESS else 1):
            lost_after(t, after)
