#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""mirror-target-flush: with propagate a client's flush and FUA reach the
target, with defer they do not, on a target with and one without FUA.  And a
target that cannot flush at all: what is said of it."""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402


def requests(t):
    """Flushes, and writes with FUA, that the target has logged."""
    with open(t.path("target-requests"), encoding="ascii") as f:
        lines = f.readlines()
    return (sum(" Flush " in x for x in lines),
            sum(" Write " in x and "fua=1" in x for x in lines))


def warnings(t):
    with open(t.path("proxy.log"), encoding="utf-8") as f:
        return f.read().count("the target cannot flush: ")


def serve_without_flush(t):
    t.nbdkit("target", "eval", "get_size=echo 1048576", "can_write=exit 0",
             "can_flush=exit 3", "thread_model=echo serialize_all_requests",
             "pread=dd if=%s iflag=skip_bytes,count_bytes skip=$4 count=$3"
             " status=none" % t.path("disk"),
             "pwrite=dd of=%s oflag=seek_bytes conv=notrunc seek=$4"
             " status=none" % t.path("disk"))


def nbdmirror(t, *args):
    return subprocess.run(["nbdmirror", "-S", t.path("ctl.sock"), *args],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, encoding="utf-8",
                          timeout=60 * SLOW, check=False)


def wait_synced(t):
    """It cannot come to that: without an end it would wait for ever."""
    r = nbdmirror(t, "wait", "synced")
    assert (r.returncode, r.stdout, r.stderr) == \
        (1, "", "nbdmirror: wait: the job 'mirror' can never be synced: its"
         " target cannot flush; it can be ready\n"), r


def held(t, can_flush):
    """It is held, but what that is worth is said."""
    r = nbdmirror(t, "hold")
    assert r.returncode == 0 and r.stdout.startswith("held after "), r
    assert r.stderr == ("" if can_flush else "nbdmirror: hold: warning: the"
                        " target cannot be flushed: what it holds now need"
                        " not survive a power cut there\n"), r
    r = nbdmirror(t, "release")
    assert r.returncode == 0, r


def unflushable(t):
    """One warning for each job; ready, never synced, never the clients'."""
    with open(t.path("disk"), "wb") as f:
        f.truncate(1 << 20)
    before = warnings(t)
    t.mirror("-D", "mirror.backoff_ms=50", "data", "1*65536", "size=1M",
             "mirror-target=" + t.uri("target"),
             "mirror-copy-mode=write-blocking", "mirror-suspect-time=0")
    with t.qmp() as qmp:
        assert warnings(t) == before, "nothing is known of it yet"
        r = nbdmirror(t, "wait", "synced", "--timeout", "0.1")
        assert r.returncode == 2, r
        serve_without_flush(t)
        wait_synced(t)
        qmp.wait(lambda q: q.job()["ready"], 60 * SLOW)
        wait_synced(t)
        held(t, False)
        t.wait_equal(qmp)
        m = qmp.mirror()
        assert not m["job"]["actively-synced"], m
        assert m["target"]["flush"] is False, m
        assert warnings(t) == before + 1
        text = qmp.refused("block-job-complete", device="mirror")
        assert "cannot flush" in text, text
        # It comes back: that is the same job.
        t.kill("target")
        qmp.wait(lambda q: q.mirror()["target"]["state"] != "online",
                 60 * SLOW)
        serve_without_flush(t)
        qmp.wait(lambda q: q.mirror()["target"]["state"] == "online",
                 60 * SLOW)
        assert warnings(t) == before + 1
        t.cancel(qmp)
        qmp.command("blockdev-mirror", target=t.uri("target"), sync="none")
        assert warnings(t) == before + 2
        t.cancel(qmp)
    t.stop("proxy")
    t.stop("target")


with Test() as t:
    for fua in (True, False):
        args = [] if fua else ["--filter=fua"]
        for when in ("propagate", "defer"):
            log = t.path("target-requests")
            if os.path.exists(log):
                os.unlink(log)
            t.nbdkit("target", "--filter=log", *args, "memory", "1M",
                     "logfile=" + log)
            t.mirror("memory", "1M", "mirror-target-flush=" + when,
                     "mirror-target=" + t.uri("target"),
                     "mirror-copy-mode=write-blocking")
            with t.qmp() as qmp:
                qmp.wait(lambda q: q.job()["actively-synced"], 20 * SLOW)
                before = requests(t)
                h = nbd.NBD()
                h.connect_uri(t.uri("proxy"))
                for i in range(10):
                    h.pwrite(b"x" * 4096, 8192 * i, flags=nbd.CMD_FLAG_FUA)
                    h.pwrite(b"y" * 4096, 8192 * i + 4096)
                    h.flush()
                h.shutdown()
                t.wait_equal(qmp)
                after = requests(t)
                held(t, True)
                assert qmp.job()["actively-synced"], "not synced"
            seen = tuple(b - a for a, b in zip(before, after))
            want = (0, 0) if when == "defer" else \
                (10, 10) if fua else (20, 0)
            assert seen == want, "%s, fua %s: flushes and FUA writes %s, " \
                "not %s" % (when, fua, seen, want)
            assert t.compare("proxy", "target"), "not identical"
            t.stop("proxy")
            t.stop("target")
    unflushable(t)
