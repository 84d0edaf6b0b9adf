#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The plugin nbdsource does what the plugin nbd does, over connections that all
clients share; one that was lost stays so for those who had it, and who comes
afterwards gets a new one."""

import os
import random
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/tools"))
from lyingserver import LyingServer  # noqa: E402
from mirrortest import SLOW, STRESS, Test, listens, wait_for  # noqa: E402
from uringtest import connect, error_of, result  # noqa: E402

import nbd  # noqa: E402

SEED = int(os.environ.get("SEED", random.randrange(1 << 30)))
OPS = 20000 if STRESS else 600 // SLOW
SIZE = (80 << 20) + 4096


def make_op(rng):
    """A name and arguments of a method of nbd.NBD."""
    n = rng.choice((1, 512, 4096, 65535, 65536, 300000))
    n = rng.randrange(1, n + 1)
    at = rng.randrange((4 << 20) - n)
    if rng.randrange(8) == 0:
        at = SIZE - n
    fua = nbd.CMD_FLAG_FUA if rng.randrange(6) == 0 else 0
    kind = rng.randrange(12)
    if kind < 4:
        return "pread", (n, at)
    if kind < 8:
        return "pwrite", (rng.randbytes(n), at, fua)
    if kind < 10:
        hole = nbd.CMD_FLAG_NO_HOLE if rng.randrange(2) else 0
        fast = nbd.CMD_FLAG_FAST_ZERO if rng.randrange(3) == 0 else 0
        return "zero", (n, at, fua | hole | fast)
    return "flush", ()


# More than one command of the leg.
LARGE = (("pwrite", (random.Random(1).randbytes(40 << 20), 1 << 20, 0)),
         ("pread", (40 << 20, 1 << 20)),
         ("zero", (66 << 20, 2 << 20, 0)),
         ("pread", (40 << 20, 30 << 20)),
         ("pwrite", (b"x", SIZE - 1, 0)),
         ("pread", (2, SIZE - 1)))


def zeroes_of(handle):
    """What is said to read as zero, as ranges."""
    ranges = []

    def extent(_context, offset, entries, _error):
        for length, flags in zip(entries[::2], entries[1::2]):
            if flags & nbd.STATE_ZERO:
                if ranges and ranges[-1][1] == offset:
                    ranges[-1][1] = offset + length
                else:
                    ranges.append([offset, offset + length])
            offset += length
        return 0

    at = 0
    while at < SIZE:
        seen = [0]

        def count(context, offset, entries, error):
            seen[0] = sum(entries[::2])
            return extent(context, offset, entries, error)

        handle.block_status(SIZE - at, at, count)
        assert seen[0] > 0
        at += seen[0]
    return ranges


def content(handle):
    return b"".join(handle.pread(min(16 << 20, SIZE - at), at)
                    for at in range(0, SIZE, 16 << 20))


def same_as_nbd(t):
    rng = random.Random(SEED)
    for name in "a", "b":
        t.nbdkit(name + ".server", "memory", str(SIZE))
    t.nbdkit("a", "nbdsource", t.uri("a.server"))
    t.nbdkit("b", "nbd", "uri=" + t.uri("b.server"))
    ha, hb = connect(t, "a"), connect(t, "b")
    for ask in ("get_size", "is_read_only", "can_flush", "can_fua", "can_zero",
                "can_fast_zero", "can_trim", "can_multi_conn"):
        assert getattr(ha, ask)() == getattr(hb, ask)(), ask
    for n in range(OPS):
        op = make_op(rng)
        ra, rb = result(ha, op), result(hb, op)
        assert ra == rb, "seed %d, operation %d, %s" % (SEED, n, op[0])
    for op in LARGE:
        ra, rb = result(ha, op), result(hb, op)
        assert ra == rb, (op[0], op[1][-1], str(ra)[:50], str(rb)[:50])
    assert zeroes_of(ha) == zeroes_of(hb)
    assert content(ha) == content(hb)
    # What a trim leaves is open; here it is zeroes, and nothing else changes.
    ha.pwrite(b"y" * 8192, 4096)
    ha.trim(4096, 4096)
    assert ha.pread(4096, 8192) == b"y" * 4096
    for h in ha, hb:
        h.shutdown()
    for name in "a", "b", "a.server", "b.server":
        t.stop(name)


def clients_share(t):
    """A server that takes four connections, and six clients."""
    t.nbdkit("server", "--filter=limit", "memory", "1M", "limit=4")
    t.nbdkit("shared", "nbdsource", t.uri("server"), "connections=4")
    handles = [connect(t, "shared") for _ in range(6)]
    for i, h in enumerate(handles):
        h.pwrite(b"%d" % i, i)
    handles[0].flush()
    for h in handles:
        assert h.pread(6, 0) == b"012345"
        h.shutdown()
    t.stop("shared")
    t.stop("server")


def lost_and_found(t):
    t.nbdkit("server", "memory", "1M")
    t.nbdkit("lossy", "nbdsource", t.uri("server"))
    old = connect(t, "lossy")
    old.pwrite(b"a", 0)
    t.kill("server")
    for request in (old.pread, 1, 0), (old.pwrite, b"b", 0), (old.flush,):
        err = error_of(*request)
        assert err == "ESHUTDOWN", (request, err)
    # Nobody is there: no export for a new client.
    assert error_of(connect, t, "lossy") is not None
    t.nbdkit("server", "memory", "1M")
    new = connect(t, "lossy")
    assert new.pread(1, 0) == b"\0"
    # What it has written has gone with the server, and it must hear of it.
    assert error_of(old.flush) == "ESHUTDOWN"
    new.pwrite(b"c", 0)
    old.shutdown()
    assert new.pread(1, 0) == b"c"
    new.flush()
    new.shutdown()
    t.stop("lossy")
    t.stop("server")


def errors_pass(t):
    t.nbdkit("server", "--filter=error", "memory", "1M",
             "error-pwrite=ENOSPC", "error-pwrite-rate=100%")
    t.nbdkit("failing", "nbdsource", t.uri("server"))
    h = connect(t, "failing")
    assert error_of(h.pwrite, b"a", 0) == "ENOSPC"
    assert h.pread(1, 0) == b"\0"
    h.shutdown()
    t.stop("failing")
    t.stop("server")


def fast_zeroes(t):
    """Where they are not fast nothing changes, and slow ones go on."""
    t.nbdkit("server", "--filter=nozero", "--filter=log", "memory", "4M",
             "zeromode=notrim", "fastzeromode=slow",
             "logfile=" + t.path("zeroes"))
    t.nbdkit("slow", "nbdsource", t.uri("server"))
    h = connect(t, "slow")
    assert h.can_fast_zero()
    h.pwrite(b"a" * 65536, 0)
    for _ in range(2):
        err = error_of(h.zero, 65536, 0, nbd.CMD_FLAG_FAST_ZERO)
        assert err == "ENOTSUP", err
    assert h.pread(65536, 0) == b"a" * 65536
    h.zero(65536, 0)
    assert h.pread(65536, 0) == bytes(65536)
    h.trim(65536, 65536)
    with open(t.path("slow.log"), encoding="utf-8") as f:
        assert "zero" not in f.read()
    h.shutdown()
    t.stop("slow")
    t.stop("server")
    with open(t.path("zeroes"), encoding="utf-8") as f:
        log = f.read()
    assert log.count(" Zero ") == 1, "zeroed in another way"
    assert log.count(" Trim ") == 1, "a trim is one"


def errors_of_zeroes(t):
    """What is no refusal is not told as one: something may have changed, and
    nbdkit ends if it is told so of a zero that need not be fast."""
    for number, name, fast in (22, "EINVAL", "EINVAL"), (95, "EIO", "ENOTSUP"):
        os.unlink(t.path("server.sock"))
        server = LyingServer(t.path("server.sock"), {"error": number})
        t.nbdkit("zeroes", "nbdsource", t.uri("server"))
        h = connect(t, "zeroes")
        err = error_of(h.zero, 4096, 0, nbd.CMD_FLAG_FAST_ZERO)
        assert err == fast, (number, err)
        err = error_of(h.zero, 4096, 0)
        assert err == name, (number, err)
        h.shutdown()
        t.stop("zeroes")
        server.stop()


def blocks(t):
    """A server with large blocks: what is no multiple is refused, not read and
    written back without a lock."""
    t.nbdkit("server", "--filter=blocksize-policy", "memory", "1M",
             "blocksize-minimum=4096", "blocksize-error-policy=error")
    t.nbdkit("blocks", "nbdsource", t.uri("server"))
    h = connect(t, "blocks")
    assert h.get_block_size(nbd.SIZE_MINIMUM) == 4096
    h.pwrite(b"a" * 4096, 4096)
    assert error_of(h.pwrite, b"b", 4096) == "EINVAL"
    assert error_of(h.pread, 512, 4096) == "EINVAL"
    assert h.pread(4096, 4096) == b"a" * 4096
    h.shutdown()
    t.stop("blocks")
    t.stop("server")


def under_the_mirror(t, copy_mode, connections):
    t.watchdog_again()
    t.nbdkit("source", "data", "1*16777216", "size=64M")
    t.nbdkit("target", "memory", "64M")
    t.mirror("nbdsource", "uri=" + t.uri("source"),
             "connections=%d" % connections,
             "mirror-target=" + t.uri("target"),
             "mirror-copy-mode=" + copy_mode)
    load = t.load("load-" + copy_mode, "--connections=4", "--overlap",
                  "--seed=%d" % SEED)
    load.more(20000 if STRESS else 2000 // SLOW)
    with t.qmp() as q:
        q.wait(lambda q: q.job()["ready"], 120 * SLOW)
        load.more(2000 // SLOW)
        load.stop()
        t.wait_equal(q)
        assert t.compare("source", "target")
        t.cancel(q)
    for name in "proxy", "source", "target":
        t.stop(name)


def line_of(*args):
    r = subprocess.run(["nbdkit", *args, "--run", "true"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                       universal_newlines=True)
    assert r.returncode != 0
    lines = r.stderr.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def bad_input(t):
    uri = t.uri("server")
    for args, what in (
            ((), "uri=URI is missing"),
            (("nbds://host/",), "for TLS use the plugin nbd"),
            (("/a/file",), "must begin with nbd://"),
            ((uri, "uri=" + uri), "given twice"),
            ((uri, "connections=0"), "allowed are 1 to 16"),
            ((uri, "connections=4x"), "allowed are 1 to 16"),
            ((uri, "timeout=3601"), "allowed are 1 to 3600"),
            ((uri, "sharde=1"), "unknown key")):
        assert what in line_of("nbdsource", *args), args


def read_only(t):
    t.nbdkit("server", "-r", "memory", "1M")
    t.nbdkit("readonly", "nbdsource", t.uri("server"))
    h = connect(t, "readonly")
    assert h.is_read_only() and h.pread(1, 0) == b"\0"
    h.shutdown()
    t.stop("readonly")
    t.stop("server")


def connections_of(t):
    """Those of the plugin to its server: of each descriptor there are two.
    Besides there is one client, and the socket where he has come from."""
    fds = "/proc/%d/fd" % t.servers["few"].pid
    links = (os.readlink(os.path.join(fds, fd)) for fd in os.listdir(fds))
    return len({x for x in links if x.startswith("socket:")}) - 2


def few_connections(t):
    """A server that lets no more than two in: it hangs up on the others, or
    leaves them waiting."""
    t.nbdkit("server", "--filter=limit", "memory", "1M", "limit=2")
    t.nbdkit("few", "nbdsource", t.uri("server"), "connections=4")
    h = connect(t, "few")
    h.pwrite(b"a" * (1 << 20), 0)
    assert h.pread(1 << 20, 0) == b"a" * (1 << 20)
    assert connections_of(t) == 1
    h.shutdown()
    t.stop("few")
    t.stop("server")
    # By one connection unless the user has given his word for the server.
    t.nbdkit("server", "memory", "1M")
    for args, n in ((), 1), (("connections=4",), 4):
        t.nbdkit("few", "nbdsource", t.uri("server"), *args)
        h = connect(t, "few")
        assert h.can_multi_conn() and connections_of(t) == n
        h.shutdown()
        t.stop("few")
    t.stop("server")
    if not shutil.which("qemu-nbd"):
        return
    with open(t.path("image"), "wb") as f:
        f.truncate(1 << 20)
    sock = t.path("server.sock")
    if os.path.exists(sock):
        os.unlink(sock)
    t.servers["server"] = process = subprocess.Popen(
        ["qemu-nbd", "-t", "-e", "2", "-f", "raw", "-k", sock,
         t.path("image")], stdin=subprocess.DEVNULL)
    wait_for(lambda: process.poll() is not None or listens(sock),
             "qemu-nbd does not start")
    t.nbdkit("few", "nbdsource", t.uri("server"), "connections=4")
    h = connect(t, "few")
    h.pwrite(b"b" * 4096, 0)
    h.flush()
    assert h.pread(4096, 0) == b"b" * 4096
    assert connections_of(t) == 1
    h.shutdown()
    t.stop("few")
    t.stop("server")


with Test() as test:
    same_as_nbd(test)
    clients_share(test)
    lost_and_found(test)
    errors_pass(test)
    fast_zeroes(test)
    errors_of_zeroes(test)
    blocks(test)
    for number in 1, 4:
        under_the_mirror(test, "write-blocking", number)
        under_the_mirror(test, "background", number)
    bad_input(test)
    read_only(test)
    few_connections(test)
