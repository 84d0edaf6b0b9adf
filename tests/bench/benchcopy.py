# SPDX-License-Identifier: BSD-3-Clause
"""Rows of scripts/bench in which something is copied: how long that takes, with
and without a client that writes, and what a client feels of it."""

import os
import signal
import subprocess
import threading
import time

import benchload
from benchload import Cell, cpu_seconds, fill, size_text
from benchrows import ConnectionsRow, Row, TeeRow, micro_rows
from benchservers import Ours, Qemu

GIB = 1 << 30
MIB = 1 << 20
SPARE_MEMORY = 3 * GIB          # beyond source and target
NEVER = 60                      # seconds after which a copy does not converge
SLOW_PAIRS = 5


def memory_available():
    with open("/proc/meminfo", encoding="ascii") as f:
        for line in f:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return 0


def slow_pairs(bench):
    return bench.asked_pairs or (2 if bench.quick else SLOW_PAIRS)


# -- a full copy ------------------------------------------------------------

class CopyRow(Row):
    """No client.  A proxy's time is from its start until the job is ready,
    that is, target flushed; a command's is all of its life.  All read the same
    source; the target is a new one each time."""

    measure = "seconds"
    cpu_goal = False

    def __init__(self, name, title, size, piece=MIB, stride=0):
        super().__init__(name, title, True)
        self.size, self.piece, self.stride = size, piece, stride

    def goals(self):
        return ["nbdcopy"]

    def measure_in(self, t, bench, result):
        plugin = "memory"
        if not self.stride and memory_available() < \
                2 * self.size + SPARE_MEMORY:
            plugin = "null"
            result.notes.append("too little memory: from pattern to null, "
                                "and nothing is compared")
            t.serve("source", "pattern", str(self.size))
        else:
            t.serve("source", "memory", str(self.size))
            fill(t.address("source").uri(), self.size, self.piece, self.stride)

        def subject(name, run):
            def sample():
                return self.copy(t, plugin, name, run, result)
            return sample
        subjects = {"ours": self.mirror(t, Ours, **bench.ours_options())}
        if bench.qemu:
            subjects["qemu"] = self.mirror(t, Qemu)
        source, target = t.address("source").uri(), self.target_uri(t)
        subjects["nbdcopy"] = self.command("nbdcopy", "--flush", source,
                                           target)
        subjects["convert"] = self.command(
            "qemu-img", "convert", "-n", "-W", "-f", "raw", "-O", "raw",
            source, target)
        self.turns(bench, {name: subject(name, run) for name, run
                           in subjects.items()}, result, slow_pairs(bench))
        result.notes.append("seconds of the processor: " + ", ".join(
            "%s %.2f" % (name, benchload.median(s["cpu_seconds"] for s in x))
            for name, x in result.samples.items()))

    @staticmethod
    def target_uri(t):
        return "nbd+unix:///?socket=" + t.path("target.sock")

    def copy(self, t, plugin, name, run, result):
        t.watchdog_again()
        t.serve("target", plugin, str(self.size))
        sample, stop = run()
        # Once of each: all of them have copied the same in each turn.
        if plugin == "memory" and name not in result.equal:
            result.equal[name] = t.equal("source", "target")
        stop()
        t.stop("target")
        sample["bytes_per_second"] = self.size / sample["seconds"]
        return sample

    @staticmethod
    def mirror(t, kind, **options):
        def run():
            began = time.monotonic()
            proxy = kind(t, "proxy", "source", "target", **options)
            proxy.start_mirrored("background")
            if not proxy.wait_ready(600):
                raise RuntimeError("the copy does not end")
            took = time.monotonic() - began
            cpu = cpu_seconds(proxy.process.pid)
            return {"seconds": took, "cpu_seconds": cpu}, proxy.stop
        return run

    @staticmethod
    def command(*words):
        def run():
            began = time.monotonic()
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            took = time.monotonic() - began
            process.returncode = status
            if status != 0:
                raise RuntimeError("%s: status %d" % (words[0], status))
            return {"seconds": took,
                    "cpu_seconds": usage.ru_utime + usage.ru_stime}, \
                lambda: None
        return run


# -- clients during a copy --------------------------------------------------

class Copying:
    """A full copy goes on while in its context: when it is ready it is started
    again."""

    def __init__(self, proxy, mode):
        self.proxy, self.mode = proxy, mode
        self.end = threading.Event()
        self.copies, self.offset = 0, 0
        self.error = None
        self.thread = threading.Thread(target=self.go_on)

    def go_on(self):
        try:
            while not self.end.is_set():
                self.offset = 0
                self.proxy.mirror(self.mode)
                with self.proxy.control() as q:
                    job = self.proxy.job(q)
                    while not job["ready"] and not self.end.wait(0.02):
                        job = self.proxy.job(q)
                self.copies += job["offset"] / max(job["len"], 1)
                self.proxy.cancel()
        except Exception as e:
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        self.end.set()
        self.thread.join()
        if self.error and not kind:
            raise RuntimeError("copy: %s" % self.error)


class CopyingRow(TeeRow):
    """p99 of a client while all is copied, and while nothing is."""

    measure = "p99"
    cpu_goal = False
    unrelated = ("qemu-alone",)

    def __init__(self, mode, required, size):
        super().__init__(
            "p99-" + mode, "p99 of 2000 requests of 4 KiB a second during a "
            "full copy, " + mode, required,
            cell=Cell("rw", "4k", 4, rate=8 * MIB, size=size))
        self.mode = mode

    def goals(self):
        return ["p99"]

    def measure_in(self, t, bench, result):
        proxies = self.proxies(t, bench)
        seconds = bench.asked_seconds or (1 if bench.quick else 3)
        subjects = {}
        for name, p in proxies.items():
            p.start()
            p.sample(self.cell, min(seconds, 0.3))
            subjects[name] = lambda p=p: self.busy(p, seconds)
            subjects[name + "-alone"] = lambda p=p: self.alone(p, seconds)
        self.turns(bench, subjects, result, slow_pairs(bench))
        result.notes.append("MiB copied a second meanwhile: " + ", ".join(
            "%s %.0f" % (name, benchload.median(
                s["copied"] / s["seconds"] for s in result.samples[name]) /
                MIB) for name in proxies))
        for name, p in proxies.items():
            p.mirror("write-blocking")
            result.equal[name] = p.equal()

    def alone(self, proxy, seconds):
        sample = proxy.sample(self.cell, seconds)
        # With a copy it would be for that, too.
        del sample["cpu"]
        return sample

    def busy(self, proxy, seconds):
        began = time.monotonic()
        with Copying(proxy, self.mode) as copying:
            sample = self.alone(proxy, seconds)
        sample["copied"] = copying.copies * self.cell.size
        sample["seconds"] = time.monotonic() - began
        return sample


# -- a writer that is slower or faster than the copy ------------------------

class Writer:
    """fio in the background, until it is told to end."""

    def __init__(self, proxy, cell):
        self.output = proxy.t.path(proxy.name + ".json")
        self.process = subprocess.Popen(
            cell.command(proxy.uri(), 2 * NEVER) + [
                "--output=" + self.output],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        # It waits for what is in flight, then tells what it has done.
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def sample(self):
        return benchload.result_of(self.output)


class ConvergeRow(TeeRow):
    """From the start of the job until it is ready, while a client writes."""

    measure = "seconds"
    cpu_goal = False
    SPEED = 100 * MIB

    def __init__(self, percent, mode, required):
        super().__init__(
            "converge-%d" % percent, "time to converge, %s, a writer at %d %% "
            "of the copy's 100 MiB/s" % (mode, percent), required,
            cell=Cell("write", "64k", 4, rate=self.SPEED * percent // 100))
        self.mode = mode

    def measure_in(self, t, bench, result):
        proxies = self.proxies(t, bench)
        for p in proxies.values():
            p.start()
        self.turns(bench, {
            name: lambda p=p: self.converge(t, p, result)
            for name, p in proxies.items()}, result, slow_pairs(bench))
        result.notes.append("MiB written a second meanwhile: " + ", ".join(
            "%s %.0f" % (name, benchload.median(
                s["bytes_per_second"] for s in samples) / MIB)
            for name, samples in result.samples.items()))

    def converge(self, t, proxy, result):
        t.watchdog_again()
        with Writer(proxy, self.cell) as writer:
            before = cpu_seconds(proxy.process.pid)
            # Until it writes.
            time.sleep(0.5)
            began = time.monotonic()
            proxy.mirror(self.mode, self.SPEED)
            ready = proxy.wait_ready(NEVER, 0.01)
            took = time.monotonic() - began
            cpu = cpu_seconds(proxy.process.pid) - before
        sample = writer.sample()
        sample.update(seconds=took if ready else None, limit=NEVER,
                      cpu_seconds=cpu)
        same = proxy.equal()
        result.equal[proxy.name] = same and result.equal.get(proxy.name, True)
        return sample


def all_rows(quick):
    yield from micro_rows(quick)
    for mode, required in ("background", True), ("write-blocking", False):
        yield CopyingRow(mode, required, "512m" if quick else "1g")
    size = GIB if quick else 4 * GIB
    yield CopyRow("copy-full", "full copy of " + size_text(size), size)
    yield CopyRow("copy-sparse", "full copy of 64 GiB with 256 MiB of data in "
                  "256 pieces", 64 * GIB, MIB, 256 * MIB)
    yield ConvergeRow(50, "background", False)
    yield ConvergeRow(150, "write-blocking", True)
    yield ConnectionsRow()
