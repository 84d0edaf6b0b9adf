#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Targets with every subset of what a server may offer, in both modes, under
load: identical at the end, or refused with the reason.

All 256 subsets with STRESS=1, else a sample in which every pair of them is
there, is missing, and is half there.
"""

import itertools
import os
import random
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, SLOW, STRESS, Test  # noqa: E402
from qmp import QMPError  # noqa: E402

NBDFSX = os.path.join(BUILD, "tests/lib/nbdfsx")
CAPS = os.path.join(BUILD, "tests/lib/.libs/caps.so")
NAMES = ("flush", "fua", "zero", "fast-zero", "trim", "multi-conn",
         "extents", "cache")
SIZE = (1 << 20) + 4097
OPS = max(300 // SLOW, 50)
SAMPLE = 24


def pairs(subset):
    """What a subset covers: each pair of names with who of them is there."""
    return {(a, b, a in subset, b in subset)
            for a, b in itertools.combinations(NAMES, 2)}


def subsets():
    every = [frozenset(c) for n in range(len(NAMES) + 1)
             for c in itertools.combinations(NAMES, n)]
    if STRESS:
        return every
    chosen = [every[0], every[-1]]
    chosen += [every[-1] - {n} for n in NAMES]
    covered = set().union(*map(pairs, chosen))
    rng = random.Random(1)
    while len(chosen) < (SAMPLE if SLOW == 1 else 12):
        best = max(rng.sample(every, 32),
                   key=lambda s: len(pairs(s) - covered))
        chosen.append(best)
        covered |= pairs(best)
    if SLOW == 1:
        assert len(covered) == 4 * 28, "not all pairs: %d" % len(covered)
    return chosen


def server_args(subset, mode):
    """nbdkit itself emulates zero for a plugin, and tells of all data for
    block status; so filters and options take these away."""
    args = []
    if "zero" not in subset:
        args.append("--filter=nozero")
    # In one of the modes it does not even offer the meta context.
    if "extents" not in subset and mode == "background":
        args.append("--no-sr")
    return args + [CAPS, "size=%d" % SIZE, "caps=" + ",".join(
        n for n in NAMES if n in subset)]


# With eval each call is a shell, so only what differs most.
EVAL = (
    ("nothing", []),
    ("zero-without-fast", [
        "can_zero=exit 0", "can_fast_zero=exit 3",
        "zero=dd if=/dev/zero of=$tmpdir/disk bs=1 count=$3 seek=$4 "
        "conv=notrunc 2>/dev/null",
        "can_flush=exit 0", "flush=true"]),
    # What a server may do: promise, and then refuse.
    ("zero-that-fails", [
        "can_zero=exit 0", "zero=echo EOPNOTSUPP refused >&2; exit 1",
        "can_flush=exit 0", "flush=true"]),
)
EVAL_SIZE = 262144 + 512


def eval_args(extra):
    return [
        "-t", "8", "eval", "thread_model=echo parallel",
        "get_ready=truncate -s %d $tmpdir/disk" % EVAL_SIZE,
        "get_size=echo %d" % EVAL_SIZE, "can_write=exit 0",
        "pread=dd if=$tmpdir/disk bs=64K iflag=skip_bytes,count_bytes "
        "skip=$4 count=$3 2>/dev/null",
        "pwrite=dd of=$tmpdir/disk bs=64K oflag=seek_bytes seek=$4 "
        "conv=notrunc 2>/dev/null", *extra]


class Count:
    def __init__(self):
        self.identical = self.refused = self.seed = 0


def run(t, qmp, mode, what, count, ops, offer=None):
    """The target is there.  A mirror of a client's load, then compare."""
    count.seed += 1
    try:
        qmp.command("blockdev-mirror", job_id="mirror", sync="full",
                    target=t.uri("target"), copy_mode=mode)
    except QMPError as e:
        assert t.uri("target") in e.desc and len(e.desc) > len(
            t.uri("target")) + 10, "refused without a reason: %s" % e
        print("%s, %s: refused: %s" % (what, mode, e))
        count.refused += 1
        return
    if offer is not None:
        seen = qmp.mirror()["target"]
        for flag in ("flush", "fua", "zero", "multi-conn"):
            assert seen[flag] == (flag in offer), "%s: %s" % (what, seen)
    settle = ("%s %s %s wait %d 'j and j[\"ready\"] and "
              "j[\"len\"] == j[\"offset\"]'" % (
                  sys.executable, os.path.join(
                      os.environ["top_srcdir"], "tests/lib/qmp.py"),
                  t.path("ctl.sock"), 60 * SLOW))
    r = subprocess.run(
        [NBDFSX, "--ops=%d" % ops, "--seed=%d" % count.seed,
         "--shrink-seconds=0", "--settle=" + settle, t.uri("proxy"),
         t.uri("target")], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        check=False, timeout=180 * SLOW)
    assert r.returncode == 0, "%s, %s: %s" % (what, mode, r.stdout.decode())
    job = qmp.job()
    assert job and job["ready"], "%s, %s: no job: %s" % (what, mode, job)
    # What fails is copied again, so the images alone do not tell.
    t.no_errors(qmp)
    count.identical += 1
    t.cancel(qmp)


with Test() as t:
    counts = Count()
    chosen = subsets()
    t.mirror("memory", str(SIZE))
    with t.qmp() as control:
        for chosen_set in chosen:
            for m in ("background", "write-blocking"):
                t.nbdkit("target", *server_args(chosen_set, m))
                run(t, control, m, "+".join(sorted(chosen_set)) or "nothing",
                    counts, OPS, chosen_set)
                t.stop("target")
    t.stop("proxy")
    print("%d subsets x 2 modes: %d identical, %d refused" % (
        len(chosen), counts.identical, counts.refused))
    assert counts.identical + counts.refused == 2 * len(chosen)
    # Nothing of it is a reason to refuse a target.
    assert counts.refused == 0

    t.mirror("memory", str(EVAL_SIZE))
    with t.qmp() as control:
        for name, args in EVAL:
            for m in ("background", "write-blocking"):
                t.nbdkit("target", *eval_args(args))
                run(t, control, m, "eval " + name, counts, 30)
                t.stop("target")
    t.stop("proxy")
    print("with eval: %d identical, %d refused in all" % (
        counts.identical, counts.refused))
