#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror metrics: read by a strict parser of OpenMetrics, with the values of
query-mirror, and under load no counter ever falls."""

import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

try:
    from prometheus_client.openmetrics.parser import \
        text_string_to_metric_families
except ImportError:
    print("skipped: no python3-prometheus-client", file=sys.stderr)
    sys.exit(77)


def nbdmirror(t, *args):
    return subprocess.run(
        ["nbdmirror", "-S", t.path("ctl.sock"), *args], check=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        timeout=60 * SLOW, encoding="ascii").stdout


def scrape(t):
    """{family: metric}; what must hold of every answer is checked."""
    text = nbdmirror(t, "metrics")
    assert text.endswith("\n# EOF\n"), text[-80:]
    families = {}
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("nbdmirror_"), family.name
        assert family.name not in families, family.name
        assert family.documentation.endswith("."), family.name
        assert family.samples, family.name
        if family.unit:
            assert family.name.endswith("_" + family.unit), family
        families[family.name[len("nbdmirror_"):]] = family
    return families


def value(families, name):
    family = families[name]
    assert len(family.samples) == 1, family
    return family.samples[0].value


def state(families, name):
    family = families[name]
    assert family.type == "stateset", family
    on = [s.labels["nbdmirror_" + name] for s in family.samples if s.value]
    assert len(on) == 1, (name, on)
    return on[0]


def counters(families):
    """Everything that may not fall."""
    result = {}
    for family in families.values():
        if family.type in ("counter", "histogram"):
            for s in family.samples:
                result[s.name, tuple(sorted(s.labels.items()))] = s.value
    return result


def check_idle(t, last=None):
    """last: the counters of the job before; None: there has been none."""
    families = scrape(t)
    assert state(families, "convergence") == "none"
    assert state(families, "target_state") == "none"
    assert value(families, "source_size_bytes") == 64 << 20
    assert value(families, "clients") == 0
    now = counters(families)
    if last is None:
        assert not now, "counters without a job"
    else:
        assert set(now) == set(last), set(now) ^ set(last)
        for name, old in last.items():
            assert now[name] >= old, (name, old, now[name])
    assert "dirty_bytes" not in families


def check_values(t):
    """Nothing happens any more, so both answers are the same."""
    families = scrape(t)
    mirror = json.loads(nbdmirror(t, "status", "--json"))
    for name in ("copied-bytes", "zeroed-bytes", "teed-bytes",
                 "tracked-bytes", "skipped-bytes", "target-waits",
                 "target-errors", "source-errors", "target-flushes",
                 "dirty-bytes", "inflight-bytes", "unscanned-bytes",
                 "suspect-bytes"):
        family = families[name.replace("-", "_")]
        assert family.samples[0].value == mirror[name], name
    assert families["copied_bytes"].type == "counter"
    assert families["copied_bytes"].samples[0].name == \
        "nbdmirror_copied_bytes_total"
    assert mirror["copied-bytes"] > 0 and mirror["teed-bytes"] > 0, mirror
    assert value(families, "len_bytes") == mirror["job"]["len"]
    assert value(families, "offset_bytes") == mirror["job"]["offset"]
    assert value(families, "ready") == 1
    assert state(families, "convergence") == mirror["convergence"]
    assert state(families, "job_status") == "ready"
    assert state(families, "target_state") == "online"

    histogram = families["request_duration_seconds"]
    assert histogram.type == "histogram" and histogram.unit == "seconds"
    for kind, h in mirror["latency"].items():
        samples = [s for s in histogram.samples if s.labels["kind"] == kind]
        buckets = [s for s in samples if s.name.endswith("_bucket")]
        so_far = 0
        for bucket, limit, count in zip(buckets, h["buckets-us"],
                                        h["counts"], strict=True):
            so_far += count
            assert bucket.value == so_far, (kind, bucket)
            if bucket is buckets[-1]:
                assert bucket.labels["le"] == "+Inf"
            else:
                assert round(float(bucket.labels["le"]) * 1e6) == limit
        count, = (s for s in samples if s.name.endswith("_count"))
        total, = (s for s in samples if s.name.endswith("_sum"))
        assert count.value == so_far and \
            abs(total.value * 1e6 - h["sum-us"]) < 1, kind
    assert mirror["latency"]["tee"]["sum-us"] > 0


def check_load(t):
    load = t.load("load", "--depth=8", "--max-size=64K")
    load.more(1)
    nbdmirror(t, "start", t.uri("target"), "--copy-mode", "write-blocking",
              "--speed", "100M")
    before, rounds = {}, 0
    enough = load.count() + max(3000 // SLOW, 100)
    while load.count() < enough or rounds < 20:
        assert load.process.poll() is None, "the load has ended"
        now = counters(scrape(t))
        for name, old in before.items():
            assert now[name] >= old, (name, old, now[name])
        before, rounds = now, rounds + 1
        if rounds % 5 == 0:
            nbdmirror(t, "mode", ("background", "write-blocking")[
                rounds // 5 % 2])
    nbdmirror(t, "mode", "write-blocking")
    nbdmirror(t, "wait", "synced", "--timeout", str(60 * SLOW))
    load.more(max(100 // SLOW, 1))
    load.stop()
    nbdmirror(t, "wait", "synced", "--timeout", str(60 * SLOW))


def check_lost(t):
    """A target that is lost and comes back is connected again."""
    with open(t.path("disk"), "wb") as f:
        f.truncate(64 << 20)
    t.nbdkit("lost", "file", t.path("disk"))
    nbdmirror(t, "start", t.uri("lost"))
    nbdmirror(t, "wait", "ready", "--timeout", str(60 * SLOW))
    before = scrape(t)
    assert value(before, "reconnects") == 0
    assert state(before, "io_status") == "ok"
    t.kill("lost")
    wait_for(lambda: state(scrape(t), "target_state") == "offline",
             "the target is not offline")
    t.nbdkit("lost", "file", t.path("disk"))
    wait_for(lambda: state(scrape(t), "target_state") == "online",
             "the target is not online again")
    families = scrape(t)
    assert value(families, "reconnects") == 1
    assert families["reconnects"].type == "counter"
    mirror = json.loads(nbdmirror(t, "status", "--json"))
    assert mirror["suspect-bytes"] == value(families, "suspect_bytes")
    nbdmirror(t, "cancel", "--force")
    wait_for(lambda: "dirty_bytes" not in scrape(t), "the job does not end")
    t.stop("lost")


def check_stopped(t):
    """A job that an error has stopped says by which."""
    t.nbdkit("full", "--filter=error", "memory", "64M",
             "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
    with t.qmp() as q:
        q.command("blockdev-mirror", target=t.uri("full"), sync="full",
                  on_target_error="stop")
    wait_for(lambda: state(scrape(t), "job_status") == "paused",
             "the job is not stopped")
    assert state(scrape(t), "io_status") == "nospace"
    assert "stopped by a full disk" in nbdmirror(t, "status")
    before = counters(scrape(t))
    nbdmirror(t, "cancel", "--force")
    wait_for(lambda: "dirty_bytes" not in scrape(t), "the job does not end")
    t.stop("full")
    return before


with Test() as test:
    test.nbdkit("target", "memory", "64M")
    test.mirror("data", "1*8388608", "size=64M")
    check_idle(test)
    check_load(test)
    wait_for(lambda: value(scrape(test), "clients") == 0, "a client is left")
    check_values(test)
    before = counters(scrape(test))
    nbdmirror(test, "cancel", "--force")
    wait_for(lambda: "dirty_bytes" not in scrape(test), "the job does not end")
    check_idle(test, before)
    check_lost(test)
    check_idle(test, check_stopped(test))
