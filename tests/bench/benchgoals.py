# SPDX-License-Identifier: BSD-3-Clause
"""The goals of scripts/bench.  Every one is about medians of ratios, or about
medians."""

from benchload import median
from benchreport import geometric_mean

IDLE_FLOOR = 0.98
MEAN_FLOOR = 1.8
P99_MOST = 1.2


def verdict(name, figure, good):
    return {"name": name, "figure": figure,
            "verdict": "-" if good is None else "pass" if good else "miss"}


def at_least(name, ratios, floor):
    if not ratios:
        return verdict(name, None, None)
    figure = median(ratios)
    return verdict(name, figure, figure >= floor)


def cpu(result):
    both = [median(s["cpu"] for s in result["samples"][x])
            for x in ("ours", result["baseline"]) if result["samples"].get(x)]
    if len(both) < 2:
        return verdict("cpu", None, None)
    return verdict("cpu", both[0] / both[1], both[0] <= both[1])


def p99(result):
    """How much longer than alone."""
    ratios = result["ratios"].get("ours-alone")
    if not ratios:
        return verdict("<=%g of alone" % P99_MOST, None, None)
    longer = median(1 / x for x in ratios)
    return verdict("<=%g of alone" % P99_MOST, longer, longer <= P99_MOST)


GOALS = {
    "cpu": cpu,
    "p99": p99,
    "nbdcopy": lambda r: at_least(">=1 of nbdcopy",
                                  r["ratios"].get("nbdcopy"), 1.0),
    "connections": lambda r: at_least(">=1 of 4 connections",
                                      r["ratios"].get("ours-4"), 1.0),
}


def of_row(result):
    """A list of verdicts for a result as in the JSON file."""
    if result["error"]:
        return []
    verdicts = []
    if result["judged"]:
        name = ">=%g" % result["floor"]
        if any(s.get(result["measure"]) is None
               for s in result["samples"]["ours"]):
            verdicts.append(verdict(name, None, False))
        else:
            verdicts.append(at_least(
                name, result["ratios"].get(result["baseline"]),
                result["floor"]))
    return verdicts + [GOALS[goal](result) for goal in result["goals"]]


def count(name, verdicts):
    good = sum(v["verdict"] == "pass" for v in verdicts)
    all_of = sum(v["verdict"] != "-" for v in verdicts)
    return {"name": name, "figure": "%d of %d" % (good, all_of),
            "verdict": "pass" if good == all_of else "miss"} \
        if all_of else None


def overall(results):
    """Verdicts on the run as a whole."""
    rows = [r for r in results if not r["error"]]
    required = [r for r in rows if r["required"]]

    def floors(condition):
        return [r["verdicts"][0] for r in rows
                if r["judged"] and condition(r)]

    def goals(name):
        return [GOALS[name](r) for r in rows if name in r["goals"]]
    qemu = [r for r in required if r["baseline"] == "qemu"]
    verdicts = [
        count("required rows, against QEMU >= 1", [
            at_least("", r["ratios"].get("qemu"), 1.0) for r in qemu]),
        count("legs of 1 ms and more, against QEMU >= 2", floors(
            lambda r: r["cell"] and r["cell"]["delay"] >= 1)),
        count("256 KiB and larger, against QEMU >= 2", floors(
            lambda r: r["cell"] and r["cell"]["bs"] >= 256 << 10)),
        count("processor time of a request not above QEMU's", goals("cpu")),
        count("full copy not slower than nbdcopy", goals("nbdcopy")),
        count("p99 during a copy <= %g of without" % P99_MOST, goals("p99")),
        count("filter without a job >= %g of nbdkit" % IDLE_FLOOR, floors(
            lambda r: r["baseline"] == "plain")),
        count("16 connections not slower than 4", goals("connections"))]
    means = [median(r["ratios"]["qemu"]) for r in qemu
             if r["ratios"].get("qemu")]
    if means:
        mean = geometric_mean(means)
        verdicts.insert(1, {
            "name": "geometric mean of the required rows against QEMU >= %g"
            % MEAN_FLOOR, "figure": "%.2f" % mean,
            "verdict": "pass" if mean >= MEAN_FLOOR else "miss"})
    return [v for v in verdicts if v] + ([{
        "name": "rows that failed", "figure": "%d" % (
            len(results) - len(rows)), "verdict": "miss"}]
        if len(rows) < len(results) else [])
