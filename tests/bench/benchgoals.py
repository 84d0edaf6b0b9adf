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


def of_row(result, baseline):
    """A list of verdicts for a result as in the JSON file."""
    if result["error"] or not (result["required"] or result["goals"]):
        return []
    samples, ratios = result["samples"], result["ratios"]
    verdicts = []
    if result["required"]:
        verdicts.append(at_least(">=%g" % result["floor"],
                                 ratios.get(baseline), result["floor"]))
    for goal in result["goals"]:
        if goal == "cpu":
            both = [median(s["cpu"] for s in samples[x])
                    for x in ("ours", baseline) if samples.get(x)]
            good = both[0] <= both[1] if len(both) == 2 else None
            verdicts.append(verdict("cpu", both[0], good))
    return verdicts


def overall(results):
    """Verdicts on the run as a whole."""
    required = [r for r in results if r["required"] and not r["error"]]
    means = [median(r["ratios"]["qemu"]) for r in required
             if r["ratios"].get("qemu")]
    verdicts = []
    if means:
        mean = geometric_mean(means)
        verdicts.append(verdict(
            "geometric mean of %d required rows >= %g" % (
                len(means), MEAN_FLOOR), mean, mean >= MEAN_FLOOR))
    return verdicts
