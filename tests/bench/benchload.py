# SPDX-License-Identifier: BSD-3-Clause
"""The load of scripts/bench: fio, and what it and the proxy's clock tell.

Times are microseconds, unless their names say otherwise.
"""

import json
import os
import random
import subprocess
import time

SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class BadOption(Exception):
    """What is wrong with the command line, as one line."""


def size_of(text):
    """Bytes; raises ValueError."""
    unit = text[-1:].lower() if text[-1:].isalpha() else ""
    if unit not in SIZES or not text[:len(text) - len(unit)].isdigit():
        raise ValueError("not a size: " + text)
    return int(text[:len(text) - len(unit)]) * SIZES[unit]


def size_text(n):
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= unit and n % unit == 0:
            return "%d %s" % (n // unit, name)
    return "%d bytes" % n


class Cell:
    """A load, and how far away source and target are.

    rw     as fio's, but "read" and "write" are random: in order is "seq"
    bs     bytes of a request
    depth  requests in flight of each connection
    jobs   connections
    legs   unix, tcp (all three connections), or local: a file as the source
    delay  milliseconds that each of source and target takes for a request
    rate   bytes a second at most, of all connections; 0: no limit
    """

    FIELDS = ("rw", "bs", "depth", "jobs", "legs", "delay", "rate", "size")

    def __init__(self, rw="write", bs="4k", depth=1, jobs=1, legs="unix",
                 delay=0, rate=0, size="256m"):
        self.rw, self.legs = rw, legs
        self.bs, self.size = size_of(bs), size_of(size)
        self.depth, self.jobs = int(depth), int(jobs)
        self.delay, self.rate = delay, rate

    @classmethod
    def parse(cls, text):
        """rw=write,bs=4k,...; raises BadOption."""
        values = {}
        for word in text.split(","):
            name, equals, value = word.partition("=")
            if not equals or name not in cls.FIELDS:
                raise BadOption("--cell %s: %r is none of %s" % (
                    text, word, ", ".join(f + "=" for f in cls.FIELDS)))
            values[name] = value
        try:
            if "delay" in values:
                values["delay"] = float(values["delay"].removesuffix("ms"))
            if "rate" in values:
                values["rate"] = size_of(values["rate"])
            cell = cls(**values)
        except ValueError as e:
            raise BadOption("--cell %s: %s" % (text, e)) from None
        cell.check(text)
        return cell

    def check(self, text):
        def need(good, what):
            if not good:
                raise BadOption("--cell %s: %s" % (text, what))
        need(self.rw in ("read", "write", "rw", "seqread", "seqwrite"),
             "rw is read, write, rw (all random), seqread or seqwrite")
        need(self.legs in ("unix", "tcp", "local"),
             "legs is unix, tcp or local")
        need(512 <= self.bs <= 32 << 20 and self.bs % 512 == 0,
             "bs is 512 to 32m, in steps of 512")
        need(1 <= self.depth <= 256, "depth is 1 to 256")
        need(1 <= self.jobs <= 16, "jobs is 1 to 16")
        need(0 <= self.delay <= 1000, "delay is 0 to 1000 ms")
        need(self.size % (1 << 20) == 0 and
             self.size >= max(1 << 20, self.bs * self.jobs),
             "size is in steps of 1m, and each job needs a request of it")

    def text(self):
        words = ["%s %s, depth %d" % (size_text(self.bs), self.rw, self.depth)]
        if self.jobs > 1:
            words.append("%d connections" % self.jobs)
        if self.legs != "unix":
            words.append(self.legs)
        if self.delay:
            words.append("legs of %g ms" % self.delay)
        return ", ".join(words)

    def as_dict(self):
        return {f: getattr(self, f) for f in self.FIELDS}

    def command(self, uri, seconds):
        rw = self.rw[3:] if self.rw.startswith("seq") else "rand" + self.rw
        # In order each connection has a part of the disk.
        part = self.size // self.jobs // self.bs * self.bs
        command = [
            "fio", "--name=x", "--ioengine=nbd", "--uri=" + uri,
            "--rw=" + rw, "--bs=%d" % self.bs, "--iodepth=%d" % self.depth,
            "--numjobs=%d" % self.jobs, "--group_reporting", "--time_based",
            "--runtime=%dms" % (seconds * 1000), "--size=%d" % part,
            "--offset_increment=%d" % part, "--norandommap",
            "--random_generator=tausworthe64", "--randrepeat=0",
            "--randseed=%d" % random.randrange(1 << 30),
            "--percentile_list=50:99:99.9", "--output-format=json"]
        if self.rate:
            rate = self.rate // self.jobs // (2 if self.rw == "rw" else 1)
            command.append("--rate=%d,%d" % (rate, rate))
        return command


def cpu_seconds(pid):
    """What all threads of a process have used, also those that are gone."""
    try:
        # The clock of a process; see clock_getcpuclockid(3).
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        with open("/proc/%d/stat" % pid, encoding="ascii") as f:
            words = f.read().rsplit(") ", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def result_of(path):
    """The sample in what fio has written."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    # It may begin with a line about a signal.
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError("fio: error %d" % job["error"])
    sides = [job[x] for x in ("read", "write") if job[x]["total_ios"] > 0]
    if not sides:
        raise RuntimeError("fio: no request has ended")
    sample = {"requests": sum(x["total_ios"] for x in sides),
              "iops": sum(x["iops"] for x in sides),
              "bytes_per_second": sum(x["bw_bytes"] for x in sides)}
    for name, key in (("p50", "50.000000"), ("p99", "99.000000"),
                      ("p99.9", "99.900000")):
        # Of reads and writes the worse ones.
        sample[name] = max(x["clat_ns"]["percentile"][key]
                           for x in sides) / 1000
    return sample


def fio(cell, uri, seconds, output):
    command = cell.command(uri, seconds) + ["--output=" + output]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, check=False,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, timeout=seconds * 20 + 120)
    if run.returncode != 0:
        raise RuntimeError("fio: status %d: %s" % (
            run.returncode, " ".join(run.stdout.split())[-300:]))
    return result_of(output)


def measure(cell, uri, pid, seconds, output):
    """fio, and the time of the processor that the proxy has used."""
    before = cpu_seconds(pid)
    sample = fio(cell, uri, seconds, output)
    sample["cpu"] = (cpu_seconds(pid) - before) * 1e6 / sample["requests"]
    return sample


def fill(uri, size, piece=1 << 20, stride=0):
    """Data that is no zeroes, all over it or in pieces, one each stride."""
    subprocess.run(
        ["fio", "--name=x", "--ioengine=nbd", "--uri=" + uri,
         "--rw=write" + (":%d" % (stride - piece) if stride else ""),
         "--bs=%d" % piece, "--iodepth=8", "--size=%d" % size,
         *(["--io_size=%d" % (size // stride * piece)] if stride else []),
         "--refill_buffers", "--output=/dev/null"],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        timeout=600)


def quartiles(values):
    """(first, median, third), interpolated."""
    values = sorted(values)
    result = []
    for q in 0.25, 0.5, 0.75:
        at = q * (len(values) - 1)
        low = int(at)
        high = min(low + 1, len(values) - 1)
        result.append(values[low] + (values[high] - values[low]) * (at - low))
    return tuple(result)


def median(values):
    return quartiles(values)[1]
