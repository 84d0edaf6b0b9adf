# SPDX-License-Identifier: BSD-3-Clause
"""The rows of scripts/bench, and how one is measured.

A row has subjects, of which "ours" is the first.  In each turn every subject is
measured once, each turn beginning with another one; a ratio is of two samples
of the same turn, and says how much better ours is, so more is better also
where what is measured is a time.
"""

import os
import subprocess

from qmp import QMPError

from benchload import Cell, fill, measure
from benchservers import Ours, Qemu, Servers


class Result:
    """What is known of a row: samples, and whether images were equal."""

    def __init__(self, row):
        self.row = row
        self.samples = {}       # by subject, one of each turn
        self.equal = {}         # by subject
        self.notes = []
        self.error = None

    def add(self, subject, sample):
        self.samples.setdefault(subject, []).append(sample)

    def ratios(self, peer):
        """One of each turn; more is better for us."""
        def get(sample):
            # It has not ended within that limit.
            return sample[self.row.measure] or sample["limit"]
        pairs = [(get(a), get(b)) for a, b in zip(
            self.samples.get("ours", ()), self.samples.get(peer, ()))]
        if self.row.measure == "iops":
            return [a / b for a, b in pairs]
        return [b / a for a, b in pairs]

    def as_dict(self):
        row = self.row
        return {"name": row.name, "title": row.title, "measure": row.measure,
                "required": row.required, "floor": row.floor,
                "judged": row.judged(), "baseline": row.baseline,
                "goals": row.goals(), "samples": self.samples,
                "cell": row.cell.as_dict() if row.cell else None,
                "equal": self.equal, "notes": self.notes,
                "error": self.error,
                "ratios": {peer: self.ratios(peer) for peer in self.samples
                           if peer not in ("ours", *row.unrelated)}}


class Row:
    """name is what --rows looks at; floor is the goal for the median of the
    ratios to QEMU's, or whatever the baseline is."""

    baseline = "qemu"
    measure = "iops"
    cpu_goal = True
    unrelated = ()              # subjects that ours is not compared with

    def __init__(self, name, title=None, required=False, floor=1.0,
                 cell=None):
        self.name = name
        self.cell = cell
        self.title = title or cell.text()
        self.required = required
        self.floor = floor

    def judged(self):
        """Is the floor a goal?"""
        return self.required

    def goals(self):
        """What is to be evaluated besides: names that benchgoals.py knows."""
        return ["cpu"] if self.cpu_goal and self.required else []

    def run(self, bench):
        """A Result.  Whatever goes wrong is in it."""
        result = Result(self)
        try:
            with Servers() as t:
                self.measure_in(t, bench, result)
        except (AssertionError, EOFError, OSError, QMPError, RuntimeError,
                ValueError, subprocess.SubprocessError) as e:
            result.error = "%s: %s" % (type(e).__name__, e)
        bad = [s for s, same in result.equal.items() if not same]
        if bad and not result.error:
            result.error = "source and target differ: " + ", ".join(bad)
        return result

    def turns(self, bench, subjects, result, pairs=None):
        """subjects: name: function that returns a sample."""
        names = list(subjects)
        pairs = pairs or bench.pairs
        for i in range(pairs):
            first = i % len(names)
            for name in names[first:] + names[:first]:
                bench.progress(self, i, pairs, name)
                result.add(name, subjects[name]())


class TeeRow(Row):
    """A mirror in write-blocking that is ready, under load."""

    def judged(self):
        return self.required or self.floor > 1

    def legs(self, t, bench, name):
        """Start a source and a target; returns what they are called."""
        cell = self.cell
        source, target = name + ".source", name + ".target"
        options, delay = [], []
        if cell.delay:
            options = ["-t", "64", "--filter=delay"]
            delay = ["rdelay=%gms" % cell.delay, "wdelay=%gms" % cell.delay]
        for server in (target,) if cell.legs == "local" else (source, target):
            t.serve(server, "memory", str(cell.size), *delay,
                    tcp=cell.legs == "tcp", options=options)
        if cell.legs == "local":
            return self.local(t, bench.directory), target
        fill(t.address(source).uri(), cell.size)
        return source, target

    def local(self, t, directory):
        """An image there, that has all of its blocks."""
        path = os.path.join(directory, "bench.%d.%d" % (
            os.getpid(), len(t.files)))
        t.files.append(path)
        block = os.urandom(1 << 20)
        with open(path, "wb") as f:
            for _ in range(self.cell.size >> 20):
                f.write(block)
        return path

    def proxies(self, t, bench):
        kinds = {"ours": (Ours, bench.ours_options())}
        if bench.qemu:
            kinds["qemu"] = Qemu, {}
        proxies = {}
        for name, (kind, options) in kinds.items():
            source, target = self.legs(t, bench, name)
            proxies[name] = kind(t, name, source, target,
                                 tcp=self.cell.legs == "tcp", **options)
        return proxies

    def subjects(self, proxies, bench):
        return {name: lambda p=p: p.sample(self.cell, bench.seconds)
                for name, p in proxies.items()}

    def measure_in(self, t, bench, result):
        proxies = self.proxies(t, bench)
        for p in proxies.values():
            p.start_mirrored()
        for p in proxies.values():
            if not p.wait_ready():
                raise RuntimeError(p.name + " does not get ready")
            p.wait_synced()
            p.sample(self.cell, min(bench.seconds, 0.3))
        self.turns(bench, self.subjects(proxies, bench), result)
        for name, p in proxies.items():
            result.equal[name] = p.equal()


class ConnectionsRow(TeeRow):
    """Sixteen connections against four with as many requests in flight."""

    def __init__(self):
        super().__init__("w4k-d4-c16", cell=Cell("write", "4k", 4, 16))

    def goals(self):
        return ["connections"]

    def subjects(self, proxies, bench):
        four = Cell("write", "4k", 16, 4)
        return {**super().subjects(proxies, bench),
                "ours-4": lambda: proxies["ours"].sample(four, bench.seconds)}


class IdleRow(Row):
    """The filter without a job, and nbdkit without the filter."""

    baseline = "plain"
    cpu_goal = False

    def measure_in(self, t, bench, result):
        options = ["-t", str(bench.threads)] if bench.threads else []
        servers = {"ours": ["--filter=mirror"], "plain": []}
        subjects = {}
        for name, words in servers.items():
            process = t.serve(name, *words, "memory", str(self.cell.size),
                              options=options)
            uri = t.address(name).uri()
            fill(uri, self.cell.size)
            subjects[name] = lambda p=process, u=uri, n=name: measure(
                self.cell, u, p.pid, bench.seconds, t.path(n + ".json"))
        self.turns(bench, subjects, result)


def micro_rows(quick):
    def row(name, required, *args, floor=1.0, **kwargs):
        return TeeRow(name, required=required, floor=floor,
                      cell=Cell(*args, size="64m" if quick else "256m",
                                **kwargs))
    yield row("w4k-d1", True, "write", "4k", 1)
    yield row("w4k-d16", True, "write", "4k", 16)
    yield row("w4k-d64", True, "write", "4k", 64)
    yield row("r4k-d16", True, "read", "4k", 16)
    yield row("w64k-d4", True, "write", "64k", 4)
    yield row("w256k-d4", True, "write", "256k", 4, floor=2.0)
    yield row("w1m-d4", True, "write", "1m", 4, floor=2.0)
    yield row("w4k-d16-c4", True, "write", "4k", 16, 4)
    yield row("local-w4k-d1", True, "write", "4k", 1, legs="local")
    yield row("local-w4k-d16", True, "write", "4k", 16, legs="local")
    yield row("tcp-w4k-d1", False, "write", "4k", 1, legs="tcp")
    yield row("tcp-w4k-d16", True, "write", "4k", 16, legs="tcp")
    yield row("1ms-w4k-d1", True, "write", "4k", 1, delay=1, floor=2.0)
    yield row("1ms-w4k-d16", True, "write", "4k", 16, delay=1, floor=2.0)
    yield row("1ms-w64k-d4", False, "write", "64k", 4, delay=1, floor=2.0)
    yield row("10ms-w4k-d16", False, "write", "4k", 16, delay=10, floor=2.0)
    for depth in 1, 16:
        cell = Cell("rw", "4k", depth)
        yield IdleRow("idle-d%d" % depth, "no job: " + cell.text(), True, 0.98,
                      cell)
