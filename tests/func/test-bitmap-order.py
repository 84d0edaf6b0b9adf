#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Each region that the proxy touches, on the source or the target, is durably
in the intent file before it is: strace sees the file written, fdatasync
return, and only then the first write, zero or trim of the region go to either
disk.  A region leaves the file only while nothing is on its way to it.

And a region that is in the file already costs no fdatasync."""

import functools
import os
import re
import struct
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from bitmap import REGION  # noqa: E402
from dead import WAIT, Scene  # noqa: E402
from mirrortest import Test, wait_for  # noqa: E402

SIZE = (24 << 20) + 1536
MODES = "write-blocking", "background"
STRACE = ["strace", "-D", "-f", "-y", "-xx", "-s", "512", "-e",
          "trace=fdatasync,fsync,sync_file_range,pwrite64,pwritev,pwritev2,"
          "write,writev,fallocate,sendto,sendmsg,sendmmsg,io_uring_setup"]

# From nbdkit-mirror-intent(5) and the NBD protocol.
PAGES, PAGE, BITS_AT = 32768, 512, 16
REQUEST = 0x25609513
NAMES = {1: "write", 4: "trim", 6: "zero"}


def skip_without_strace(t):
    """It may not be there, or not be allowed."""
    log = t.path("strace.try")
    try:
        r = subprocess.run([*STRACE[:1], "-f", "-o", log, "true"],
                           stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
        if r.returncode == 0 and os.path.getsize(log) > 0:
            return
    except OSError:
        pass
    print("skipped: no strace", file=sys.stderr)
    sys.exit(77)


class Call:
    """A system call, from when it was entered.  strace prints paths and data
    in hexadecimal."""

    @staticmethod
    def bytes(match):
        return bytes.fromhex(match.group(1).replace("\\x", "")) \
            if match else b""

    def __init__(self, name, args):
        self.name = name
        path = re.match(r"\d+<((?:\\x[0-9a-f]{2})*)>", args)
        self.path = self.bytes(path).decode()
        self.data = self.bytes(re.search(r'"((?:\\x[0-9a-f]{2})*)"', args))
        self.numbers = [int(x) for x in re.findall(
            r"(?<=, )(-?\d+)(?=[,)\s]|$)", re.sub(r'"[^"]*"\.*', "", args))]


def calls(log):
    """(process, call, result), None as the result when it is entered; in the
    order of the events, as far as they have been written."""
    open_calls = {}
    with open(log, encoding="ascii") as f:
        for line in f:
            if not line.endswith("\n"):
                return
            pid, rest = line.rstrip("\n").split(None, 1)
            m = re.match(r"(\w+)\((.*?)(?: <unfinished \.\.\.>|"
                         r"\)\s+= (-?\d+|\?).*)$", rest)
            if m:
                call = Call(m.group(1), m.group(2))
                yield pid, call, None
                if m.group(3) is None:
                    open_calls[pid] = call
                else:
                    yield pid, call, m.group(3)
                continue
            m = re.match(r"<\.\.\. (\w+) resumed>.*\)\s+= (-?\d+|\?)", rest)
            if m:
                yield pid, open_calls.pop(pid), m.group(2)


class Record:
    """What of the intent file is durable, and what must be."""

    def __init__(self, source, file):
        self.source = source
        self.file = file
        self.content = set()    # regions that the file has
        self.durable = set()
        self.snapshots = {}     # of a sync that is under way
        self.busy = {}          # regions of a call to the source
        self.syncs = self.left = 0
        self.touched = {"source": [], "target": []}     # (syncs, regions)

    def page(self, call):
        """The regions of the page that is written, and those it has set."""
        n, at = call.numbers[-2:]
        if at < PAGES:
            return None         # a header
        assert n == PAGE, "several pages: %s" % call.numbers
        first = (at - PAGES) // PAGE * 3968
        bits = int.from_bytes(call.data[BITS_AT:], "little")
        return {first + i for i in range(3968) if bits >> i & 1}

    def of_file(self, pid, call, result):
        if call.name == "pwrite64":
            page = self.page(call)
            if page is None:
                return
            if result is None:
                gone = self.durable - page
                for regions in self.busy.values():
                    assert not gone & regions, "left while busy: %s" % gone
                self.left += len(gone)
                self.durable -= gone
                self.content -= gone
            else:
                assert int(result) == PAGE, result
                self.content = page
            return
        assert call.name == "fdatasync", call.name
        if result is None:
            self.snapshots[pid] = set(self.content)
        else:
            assert result == "0", result
            self.syncs += 1
            self.durable |= self.snapshots.pop(pid) & self.content

    def touch(self, side, what, at, length):
        regions = set(range(at // REGION, (at + length - 1) // REGION + 1))
        assert regions <= self.durable, \
            "%s to the %s in %s, but only %s are recorded" % (
                what, side, sorted(regions), sorted(self.durable))
        self.touched[side].append((self.syncs, regions))
        return regions

    def of_source(self, pid, call, result):
        assert call.name in ("pwrite64", "fallocate", "fdatasync", "fsync"), \
            "%s to the source" % call.name
        if call.name in ("fdatasync", "fsync"):
            return
        if result is not None:
            del self.busy[pid]
            return
        a, b = call.numbers[-2:]
        at, length = (b, a) if call.name == "pwrite64" else (a, b)
        self.busy[pid] = self.touch("source", call.name, at, length)

    def of_socket(self, call):
        if len(call.data) < 28:
            return
        magic, _, kind, _, at, length = struct.unpack(">IHHQQI",
                                                      call.data[:28])
        if magic == REQUEST and kind in NAMES:
            self.touch("target", NAMES[kind], at, length)

    def event(self, pid, call, result):
        if call.path == self.file:
            self.of_file(pid, call, result)
        elif call.path == self.source:
            self.of_source(pid, call, result)
        elif call.name == "sendto" and result is None:
            self.of_socket(call)
        else:
            assert not call.name.startswith(("sendm", "io_uring")), call.name


class Traced(Scene):
    def __init__(self, t, mode):
        super().__init__(t, mode, SIZE)
        self.file = t.path("bitmap")
        self.log = t.path("strace")
        self.keys.update({"mirror-bitmap": self.file,
                          "mirror-suspect-time": 0})
        # The first copy is of everything; then nothing is recorded.
        self.target()
        self.mirror("-Dmirror.tidy_ms=20")
        self.wait(lambda m: m["bitmap"]["dirty-bytes"] == 0)
        self.end()

    def trace(self, tidy_ms):
        process = self.proxy("-t8", "-Dmirror.tidy_ms=%d" % tidy_ms,
                             start=functools.partial(
                                 self.t.nbdkit,
                                 prefix=[*STRACE, "-o", self.log]))
        self.qmp = self.t.qmp(timeout=WAIT)
        self.qmp.wait(lambda q: q.job()["ready"], WAIT)
        return process

    def record(self):
        """What strace has seen."""
        record = Record(self.source, self.file)
        for pid, call, result in calls(self.log):
            record.event(pid, call, result)
        return record

    def seen(self, process):
        """Ends it; all that strace saw."""
        self.t.wait_equal(self.qmp)
        self.end()

        def complete():
            with open(self.log, encoding="ascii") as f:
                return re.search(r"^%d +\+\+\+ exited" % process.pid, f.read(),
                                 re.M)
        wait_for(complete, "strace does not end")
        return self.record()


def marks_first(t, mode):
    """Under load, while regions leave all the time."""
    with Traced(t, mode) as s:
        process = s.trace(20)
        load = s.load("--iops=200", "--overlap", "--weights=write=50,read=5,"
                      "zero=15,trim=10,flush=1")

        def enough():
            load.more(400)
            return s.record().left > SIZE // REGION
        wait_for(enough, "regions do not leave", WAIT)
        load.stop()
        record = s.seen(process)
        for side in "source", "target":
            regions = set().union(*(r for _, r in record.touched[side]))
            assert len(regions) > SIZE // REGION // 2, (side, regions)
        print("%s: %d touches of the source, %d of the target, %d syncs, %d "
              "times a region left" %
              (mode, len(record.touched["source"]),
               len(record.touched["target"]), record.syncs, record.left))


def hot_is_free(t, mode):
    with Traced(t, mode) as s:
        process = s.trace(3600000)
        h = s.client()
        for n in range(200):
            h.pwrite(os.urandom(4096), 3 * REGION + n * 4096)
        h.shutdown()
        record = s.seen(process)
        syncs = {n for n, regions in record.touched["source"] if 3 in regions}
        assert len(record.touched["source"]) >= 200, record.touched
        assert len(syncs) == 1, "a sync while it was recorded: %s" % syncs


with Test() as test:
    skip_without_strace(test)
for m in MODES:
    with Test() as test:
        marks_first(test, m)
    with Test() as test:
        hot_is_free(test, m)
