# SPDX-License-Identifier: BSD-3-Clause
"""The results of scripts/bench: on the terminal, as JSON, and as a table of
docs/performance.md.  Everything here works on what is in the JSON file, so a
run can be looked at again."""

import json
import math
import os
import platform
import re
import subprocess

from benchload import median, quartiles

NAMES = {"qemu": "QEMU", "plain": "nbdkit", "nbdcopy": "nbdcopy",
         "convert": "qemu-img", "ours-alone": "no copy",
         "qemu-alone": "QEMU alone", "ours-4": "4 conns"}


def first(*command):
    """The first number with dots that it prints."""
    try:
        out = subprocess.run(command, stdout=subprocess.PIPE, check=False,
                             stderr=subprocess.STDOUT, encoding="utf-8")
    except FileNotFoundError:
        return "none"
    found = re.search(r"\d+(\.\d+)+", out.stdout)
    return found.group() if found else "unknown"


def machine():
    model = ""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo", encoding="ascii") as f:
        memory = int(f.readline().split()[1])
    return {"processor": model or platform.machine(),
            "cores": os.cpu_count(), "memory_mib": memory >> 10,
            "architecture": platform.machine(),
            "kernel": platform.release(), "load": os.getloadavg()[0],
            "nbdkit": first("nbdkit", "--version"),
            "libnbd": first("nbdcopy", "--version"),
            "qemu": first("qemu-storage-daemon", "--version"),
            "qemu-img": first("qemu-img", "--version"),
            "fio": first("fio", "--version")}


def number(x):
    if x >= 100:
        return "%.0f" % x
    return "%.1f" % x if x >= 10 else "%.2f" % x


def pair(samples, key, peer):
    """"ours/peer", medians; "" if there are none."""
    both = []
    for name in "ours", peer:
        values = [s[key] for s in samples.get(name, ())
                  if s.get(key) is not None]
        both.append(number(median(values)) if values else "-")
    return "" if both == ["-", "-"] else "/".join(both)


def value(result, name):
    """The median, with its unit."""
    samples = result["samples"].get(name, ())
    values = [s[result["measure"]] for s in samples]
    if not values:
        return "-"
    if None in values:
        return "never" if all(v is None for v in values) else \
            "never (%d/%d)" % (values.count(None), len(values))
    if result["measure"] == "seconds":
        return "%.2f s" % median(values)
    if result["measure"] == "iops":
        return "%.0f/s" % median(values)
    return "%.0f us" % median(values)


HEAD = ("row", "", "ours", "peer", "", "ratio", "quartiles", "cpu us",
        "p50 us", "p99 us", "p99.9 us", "goals")
FORMAT = "%-14s %1s %9s %9s %-10s %6s %-10s %-9s %-9s %-11s %-13s %s"


def header():
    return FORMAT % HEAD


def lines(result):
    """Rows of the table, each a tuple as HEAD: one for each peer."""
    samples = result["samples"]
    rows = []
    peers = sorted((p for p in samples if p != "ours"),
                   key=lambda p: p != result["baseline"])
    for peer in peers or [None]:
        ratios = result["ratios"].get(peer) if peer else None
        low, middle, high = quartiles(ratios) if ratios else (0, 0, 0)
        is_first = not rows
        verdict = "" if not is_first else "FAILED" if result["error"] else \
            ", ".join("%s %s" % (g["name"], g["verdict"])
                      for g in result["verdicts"])
        rows.append((
            result["name"] if is_first else "",
            "*" if result["required"] and is_first else "",
            value(result, "ours") if is_first else "",
            value(result, peer) if peer else "-",
            NAMES.get(peer, peer or ""), number(middle) if ratios else "-",
            "%s-%s" % (number(low), number(high)) if ratios else "",
            *(pair(samples, key, peer)
              for key in ("cpu", "p50", "p99", "p99.9")),
            verdict))
    return rows


def show(result):
    for row in lines(result):
        print((FORMAT % row).rstrip(), flush=True)
    for note in result["notes"]:
        print("    " + note, flush=True)
    if result["error"]:
        print("    FAILED: " + result["error"], flush=True)


def show_overall(verdicts):
    print()
    for v in verdicts:
        print("%s: %s, %s" % (v["name"], v["figure"], v["verdict"]))


def geometric_mean(values):
    return math.exp(sum(math.log(x) for x in values) / len(values))


def write_json(path, document):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(document, f, indent=1)
        f.write("\n")
