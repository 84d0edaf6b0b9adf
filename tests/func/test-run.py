#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run: every kind of source and target, addresses, names, options,
and a command beside it."""

import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402
from runtest import (ENVIRONMENT, Run, ended, make_disk,  # noqa: E402
                     processes, read_disk)

SIZE = 4 << 20
DATA = bytes(range(256)) * 4096         # 1 MiB


def use(run):
    """Write as a client: the mirror must carry it, too."""
    client = run.connect()
    assert client.get_size() == SIZE, client.get_size()
    assert client.pread(len(DATA), 0) == DATA
    client.pwrite(b"written by the client", 3 << 20)
    client.flush()
    client.shutdown()


def check_pair(t, source, target, read_source, read_target, *args):
    with Run(t, source, target, *args) as run:
        use(run)
        run.detach()
    ended(t)
    want = read_source()
    assert len(want) == SIZE and want[:len(DATA)] == DATA
    assert b"written by the client" in want, (source, target)
    assert read_target() == want, (source, target)


def check_pairs(t):
    """Sources and targets: a file and servers, which are nbdkit's here."""
    def server(name):
        t.nbdkit(name, "file", t.path(name + ".img"))
        return t.uri(name)

    for source in ("file", "server"):
        for target in ("created", "zero", "server"):
            make_disk(t, "s.img", SIZE, DATA)
            for name in ("c.img", "t.img"):
                if os.path.exists(t.path(name)):
                    os.unlink(t.path(name))
            if target != "created":
                make_disk(t, "t.img", SIZE)
            check_pair(t, "s.img" if source == "file" else server("s"),
                       server("t") if target == "server" else "t.img",
                       lambda: read_disk(t, "s.img"),
                       lambda: read_disk(t, "t.img"))
            for name in list(t.servers):
                t.stop(name)


def check_names(t):
    """Any name: no shell, no quoting, no parsing of it on the way."""
    os.mkdir(t.path("a dir"))
    for name in ("a b  c", "k=v=w", "100%41%", "it's \"$HOME\" `x` *?[a]",
                 "-f", "\u00e9\n\t;&|", "nbd:x", "mirror-target=x"):
        make_disk(t, "a dir/" + name, SIZE, DATA)
        copy = "./" + name + ".copy"
        check_pair(t, "./a dir/" + name, copy,
                   lambda: read_disk(t, "a dir/" + name),
                   lambda: read_disk(t, copy))


def check_addresses(t):
    make_disk(t, "s.img", SIZE, DATA)
    addresses = [(":0", "nbd://localhost:"), ("127.0.0.1:0",
                                               "nbd://127.0.0.1:"),
                 ("[127.0.0.1]:0", "nbd://127.0.0.1:"),
                 ("unix:a dir/so%ck?et", "nbd+unix:///?socket=" + t.tmp)]
    if os.path.exists("/proc/net/if_inet6") and \
            "00000000000000000000000000000001" in \
            Run.read("/proc/net/if_inet6"):
        addresses.append(("[::1]:0", "nbd://[::1]:"))
    for i, (address, uri) in enumerate(addresses):
        with Run(t, "s.img", "to%d.img" % i, "--listen", address) as run:
            assert run.uri.startswith(uri), run.uri
            use(run)
            run.detach()
        assert read_disk(t, "to%d.img" % i) == read_disk(t, "s.img")

    # The same port while its old connections still linger, and a socket that
    # was left behind by one that was killed.
    with Run(t, "s.img", "p.img", "--listen", "127.0.0.1:0") as run:
        use(run)
        port = run.uri.rstrip("/").rpartition(":")[2]
    with Run(t, "s.img", "q.img", "--listen=127.0.0.1:" + port) as run:
        use(run)
        run.process.kill()
        run.process.wait()
        ended(t)
    with Run(t, "s.img", "r.img", "--listen=unix:left") as run:
        run.process.kill()
        run.process.wait()
        ended(t)
    assert os.path.exists(t.path("left"))
    with Run(t, "s.img", "u.img", "--listen=unix:left", "-S", "c") as run:
        assert run.control == t.path("c"), run.control
        use(run)


def check_options(t):
    with Run(t, "s.img", "o.img", "--copy-mode=write-blocking", "--speed",
             "1", "-o", "granularity=4K", "-obuf-size=1M", "-o",
             "max-pause=700") as run:
        job = json.loads(run.ctl("status", "--json"))["job"]
        assert (job["copy-mode"], job["speed"], job["granularity"],
                job["buf-size"]) == ("write-blocking", 1, 4096, 1 << 20), job
    # A source that is a server: the job is started later, but like that, too.
    t.nbdkit("s", "file", t.path("s.img"))
    with Run(t, t.uri("s"), "v.img", "-o", "sync=none", "-o",
             "granularity=8K") as run:
        # Nothing is copied.
        run.ctl("wait", "ready")
        status = json.loads(run.ctl("status", "--json"))
        job = status["job"]
        assert (job["sync"], job["granularity"]) == ("none", 8192), job
        assert status["copied-bytes"] == 0, status
    t.stop("s")


def command(t, *args, **kwargs):
    """Run a command beside it; what subprocess.run returns."""
    name = "cmd%d.img" % len(os.listdir(t.tmp))
    r = subprocess.run(["nbdmirror", "run", "s.img", name, "--", *args],
                       cwd=t.tmp, env=ENVIRONMENT, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=100 * SLOW,
                       encoding="utf-8", check=False, **kwargs)
    ended(t)
    assert "control   /" in r.stderr, r
    return r


def check_commands(t):
    r = command(t, "sh", "-c", 'echo "$uri"; test -S "$NBDMIRROR_SOCK" && '
                'nbdmirror wait ready && nbdmirror status && cat',
                input="as it came")
    assert r.returncode == 0 and r.stdout.startswith("nbd+unix:///"), r
    assert r.stdout.endswith("as it came") and "ready" in r.stdout, r
    assert "uri " not in r.stdout and "control" not in r.stdout, r
    assert command(t, "false").returncode == 1
    assert command(t, "sh", "-c", "exit 42").returncode == 42
    assert command(t, "sh", "-c", "kill -9 $$").returncode == 137
    r = command(t, "./nosuch")
    assert r.returncode == 127 and "cannot run ./nosuch: No such" in r.stderr
    r = command(t, "./s.img")
    assert r.returncode == 126 and "Permission denied" in r.stderr, r
    # It gets its words as they are, also those that look like ours.
    r = command(t, "printf", "<%s>", "--help", "--", "a b", "", "-S")
    assert r.stdout == "<--help><--><a b><><-S>", r
    # It may end the proxy itself and look at what is left.
    r = command(t, "sh", "-c", "nbdmirror wait ready; nbdmirror cancel; "
                "nbdmirror wait completed; nbdmirror quit; exit 5")
    assert r.returncode == 5, r


def check_complete(t):
    """Once ready the clients are moved, and stay."""
    make_disk(t, "s.img", SIZE, DATA)
    with Run(t, "s.img", "done.img", "--complete") as run:
        client = run.connect()
        run.says("pivoted   clients have been moved")
        before = read_disk(t, "s.img")
        client.pwrite(b"only there", 2 << 20)
        client.flush()
        assert client.pread(10, 2 << 20) == b"only there"
        client.shutdown()
        assert len(processes(t)) == 2
    assert read_disk(t, "s.img") == before
    assert read_disk(t, "done.img")[2 << 20:].startswith(b"only there")
    out = run.output()
    assert out.count("pivoted") == 1 and "held for " in out, out
    # No terminal: lines, each of them once, and nothing else.
    assert "\r" not in out and "\033" not in out, out
    assert [line.split()[0] for line in out.splitlines()] in (
        ["uri", "control", "ready", "pivoted", "mirror"],
        ["uri", "control", "ready", "pivoted"]), out


with Test() as test:
    check_pairs(test)
    check_names(test)
    check_addresses(test)
    check_options(test)
    check_commands(test)
    check_complete(test)
