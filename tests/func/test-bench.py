#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""scripts/bench: the table, the JSON file and the page that it writes have what
they should have, images that differ fail a row, and wrong options are refused.
What it measures here means nothing."""

import json
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
for name in "tests/lib", "tests/bench":
    sys.path.insert(0, os.path.join(os.environ["top_srcdir"], name))
import benchgoals  # noqa: E402
import benchrows  # noqa: E402
from benchload import Cell, quartiles  # noqa: E402
from mirrortest import SLOW, TOP, Test  # noqa: E402

QEMU = shutil.which("qemu-storage-daemon") is not None


def bench(*args):
    return subprocess.run(
        [sys.executable, os.path.join(TOP, "scripts/bench"), *args],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=100 * SLOW, encoding="utf-8",
        check=False)


def refused(text, *args):
    r = bench(*args)
    assert r.returncode == 2 and not r.stdout, r
    assert r.stderr.count("\n") == 1 and text in r.stderr, r


def check_options(t):
    refused("--nosuch", "--nosuch")
    refused("--pairs", "--pairs", "0")
    refused("--seconds", "--seconds", "nan")
    refused("--rows", "--rows", "(")
    refused("nosuchrow", "--rows", "nosuchrow")
    refused("'colour=red'", "--cell", "colour=red")
    refused("rw is read", "--cell", "rw=erase")
    refused("not a size", "--cell", "bs=big")
    refused("depth is 1", "--cell", "depth=0")
    refused("legs is unix", "--cell", "legs=wooden")
    refused("nosuchfile: No such", "--from", t.path("nosuchfile"))
    with open(t.path("page"), "w", encoding="ascii") as f:
        f.write("no marks")
    refused("--markdown", "--markdown", t.path("page"))
    refused("not a directory", "--out", t.path("page"))

    r = bench("--list")
    names = [line.split()[0] for line in r.stdout.splitlines()]
    assert r.returncode == 0 and len(names) == len(set(names)), r
    required = {line.split()[0] for line in r.stdout.splitlines()
                if line[15:].split()[0] == "*"}
    assert {"w4k-d1", "w4k-d16-c4", "local-w4k-d16", "1ms-w4k-d16", "idle-d1",
            "copy-full", "copy-sparse", "p99-background",
            "converge-150"} <= required < set(names), r.stdout


def check_row(t):
    r = bench("--rows", "^w4k-d16$", "--pairs", "1", "--seconds", "0.2",
              "--out", t.path("out"))
    assert r.returncode == 0, r
    assert "FAILED" not in r.stdout and "w4k-d16 " in r.stdout, r.stdout
    assert QEMU or "no qemu-storage-daemon" in r.stdout, r.stdout
    with open(t.path("out/results.json"), encoding="utf-8") as f:
        d = json.load(f)
    assert d["pairs"] == 1 and d["machine"]["cores"] > 0, d
    for name in "nbdkit", "libnbd", "fio", "kernel":
        assert d["machine"][name][0].isdigit(), d["machine"]
    row, = d["rows"]
    subjects = ["ours"] + ["qemu"] * QEMU
    assert row["required"] and sorted(row["samples"]) == subjects, row
    for name in subjects:
        sample, = row["samples"][name]
        assert row["equal"][name], row
        assert sample["requests"] > 0 and sample["cpu"] > 0, sample
        assert 0 < sample["p50"] <= sample["p99"] <= sample["p99.9"], sample
    if QEMU:
        ratio, = row["ratios"]["qemu"]
        ours, theirs = (row["samples"][x][0]["iops"] for x in subjects)
        assert abs(ratio - ours / theirs) < 1e-6, row
        assert [v["name"] for v in row["verdicts"]] == [">=1", "cpu"], row
        assert os.path.getsize(t.path("out/ratios.gp")) > 0


def check_again(t):
    """The same results once more, as a page."""
    marks = "<!-- scripts/bench --markdown: %s -->\n"
    with open(t.path("page"), "w", encoding="utf-8") as f:
        f.write("above\n" + marks % "begin" + "was there\n" + marks % "end" +
                "below\n")
    r = bench("--from", t.path("out/results.json"), "--out", t.path("again"),
              "--markdown", t.path("page"))
    assert r.returncode == 0 and "w4k-d16 " in r.stdout, r
    with open(t.path("page"), encoding="utf-8") as f:
        page = f.read()
    assert page.startswith("above\n") and page.endswith("below\n"), page
    assert "| **4 KiB write, depth 16** |" in page and \
        "was there" not in page, page


class FakeRow(benchrows.Row):
    """No servers: samples that are told."""

    samples = {"ours": [90, 100, 130, 120], "qemu": [100, 100, 100, 100]}
    same = True

    def measure_in(self, t, bench, result):
        for name, values in self.samples.items():
            for x in values:
                result.add(name, {"iops": x, "cpu": 1})
        result.equal["ours"] = self.same


def check_figures():
    assert quartiles([1, 2, 3, 4, 5]) == (2, 3, 4)
    assert quartiles([7]) == (7, 7, 7)
    row = FakeRow("fake", "fake", True, 1.1, Cell())
    result = row.run(None).as_dict()
    assert result["ratios"]["qemu"] == [0.9, 1.0, 1.3, 1.2], result
    result["verdicts"] = benchgoals.of_row(result)
    assert [v["verdict"] for v in result["verdicts"]] == ["pass", "pass"]
    row.floor = 1.11
    assert benchgoals.of_row(row.run(None).as_dict())[0]["verdict"] == "miss"
    overall = {v["name"]: v["verdict"] for v in benchgoals.overall([result])}
    assert overall["required rows, against QEMU >= 1"] == "pass", overall
    assert overall["geometric mean of the required rows against QEMU >= 1.8"] \
        == "miss", overall

    # Of times less is better.
    row.measure = "cpu"
    row.samples = {"ours": [1], "qemu": [1]}
    assert row.run(None).as_dict()["ratios"]["qemu"] == [1.0]

    row.same = False
    result = row.run(None)
    assert result.error == "source and target differ: ours", result.error
    assert benchgoals.of_row(result.as_dict()) == []


with Test() as test:
    check_figures()
    check_options(test)
    check_row(test)
    check_again(test)
