#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The chaos proxy does what it is told, when it is told, and nothing else."""

import errno
import os
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from chaos import Chaos, ChaosError  # noqa: E402
from mirrortest import ORACLE, SLOW, STRESS, Test, wait_for  # noqa: E402

import nbd  # noqa: E402

MIB = 1 << 20
SIZE = 32 * MIB
REQUEST_HEADER = 28
REPLY_HEADER = 16


def client(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h


def poll_until(h, condition, what):
    """The client's connection moves meanwhile."""
    wait_for(lambda: condition() or h.poll(10) < 0 or condition(), what)


def ends(h):
    """Until the client has seen the end of its connection."""
    def ended():
        return h.aio_is_dead() or h.aio_is_closed()
    try:
        poll_until(h, ended, "the client sees no end")
    except nbd.Error:
        assert ended()


def fails(function, *args):
    try:
        function(*args)
    except nbd.Error:
        return True
    return False


def honest(t, chaos):
    """Untold it changes nothing, and it counts."""
    before = chaos.stats()
    load = t.load("load", "--ops=600", "--seed=5", "--connections=3",
                  "--depth=4")
    load.join()
    after = chaos.stats()
    assert after["accepted"] - before["accepted"] == 3, after
    assert sum(after["requests"].values()) >= 600, after
    assert after["errors"] == before["errors"] == {}, after
    h = client(chaos.uri)
    assert h.get_size() == SIZE
    before = chaos.stats()
    h.pwrite(bytes(4096), 0)
    h.pread(8192, 0)
    h.flush()
    after = chaos.stats()
    for kind in "read", "write", "flush":
        assert after["requests"][kind] == before["requests"][kind] + 1
    up = after["bytes"]["up"] - before["bytes"]["up"]
    down = after["bytes"]["down"] - before["bytes"]["down"]
    assert up == 3 * REQUEST_HEADER + 4096, up
    assert 3 * REPLY_HEADER + 8192 <= down <= 3 * REPLY_HEADER + 8192 + 64
    h.shutdown()
    wait_for(lambda: chaos.stats()["open"] == 0, "connections stay open")


def cuts(t, chaos):
    """By request, by reply and by byte; the server has what went through."""
    direct = client(t.uri("target"))
    for action in "cut", "reset":
        h = client(chaos.uri)
        other = client(chaos.uri)
        rule = chaos.at("write 2 " + action)
        h.pwrite(b"a" * 512, 0)
        assert fails(h.pwrite, b"b" * 512, 0)
        chaos.wait(rule)
        ends(other)
        assert direct.pread(512, 0) == b"a" * 512, "the request went through"
    h = client(chaos.uri)
    chaos.at("write-reply 1 cut")
    assert fails(h.pwrite, b"c" * 512, 0)
    assert direct.pread(512, 0) == b"c" * 512, "it was cut too early"
    # In the middle of a write; the server drops the half that it has.
    h = client(chaos.uri)
    before = chaos.stats()["bytes"]["up"]
    chaos.at("up-bytes %d cut" % (2 * REQUEST_HEADER + 512 + 100))
    h.pwrite(b"d" * 512, 0)
    assert fails(h.pwrite, b"e" * 512, 0)
    assert direct.pread(512, 0) == b"d" * 512
    assert chaos.stats()["bytes"]["up"] - before == 2 * (
        REQUEST_HEADER + 512)
    # In the middle of a reply; in a chain; and new ones are refused.
    h = client(chaos.uri)
    chaos.at("flush 1 then down-bytes 30 down")
    h.pread(512, 0)
    h.flush()
    assert fails(h.pread, 4096, 0)
    assert fails(client, chaos.uri)
    assert chaos.stats()["refused"] >= 1
    chaos.up()
    client(chaos.uri).shutdown()
    direct.shutdown()


def halves(t, chaos):
    """The end of one direction only."""
    h = client(chaos.uri)
    before = chaos.stats()["bytes"]["down"]
    chaos.at("read 2 half")
    h.pread(4096, 0)
    assert fails(h.pread, 4096, 0)
    assert chaos.stats()["bytes"]["down"] - before < 2 * 4096
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.connect(t.path("chaos.sock"))
    assert raw.recv(8) == b"NBDMAGIC"
    raw.shutdown(socket.SHUT_WR)
    raw.settimeout(20 * SLOW)
    while raw.recv(4096):
        pass
    raw.close()


def stalls(chaos):
    """Nothing arrives while it is stalled; all does afterwards."""
    for way in "up", "down", "both":
        h = client(chaos.uri)
        before = chaos.stats()["requests"].get("write", 0)
        chaos.command("stall " + way)
        done = []
        buf = nbd.Buffer.from_bytearray(bytearray(512))
        h.aio_pwrite(buf, 0, completion=lambda e: done.append(e.value) or 1)
        poll_until(h, lambda: chaos.stats()["requests"].get("write", 0) >
                   before, "the request does not come")
        deadline = time.monotonic() + 0.2
        while time.monotonic() < deadline:
            h.poll(20)
        assert not done, "stall %s is not one" % way
        chaos.command("resume")
        poll_until(h, lambda: done, "not resumed")
        h.shutdown()
    h = client(chaos.uri)
    chaos.at("read 1 stall")
    thread = threading.Thread(target=h.pread, args=(512, 0))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive(), "the rule does not stall"
    chaos.do("pass")
    chaos.command("resume")
    thread.join(20 * SLOW)
    assert not thread.is_alive()
    h.shutdown()


def delays(chaos):
    """Latency, not bandwidth: many requests wait together."""
    h = client(chaos.uri)
    chaos.command("delay down 200")
    begin = time.monotonic()
    done = []
    for i in range(32):
        h.aio_pread(nbd.Buffer(512), i * 512,
                    completion=lambda e: done.append(time.monotonic()) or 1)
    poll_until(h, lambda: len(done) == 32, "replies are missing")
    assert 0.2 <= done[0] - begin, done[0] - begin
    assert done[-1] - begin < 2 * SLOW, done[-1] - begin
    chaos.command("delay down 0")
    h.shutdown()
    wait_for(lambda: chaos.stats()["open"] == 0, "the delayer does not end")


def ghosts(t, chaos):
    """A write that is held arrives after its connection has been cut and a
    newer one has been written."""
    direct = client(t.uri("target"))
    h = client(chaos.uri)
    h.pwrite(b"1" * 512, 4096)
    rule = chaos.at("write 1 hold")
    buf = nbd.Buffer.from_bytearray(bytearray(b"2" * 512))
    h.aio_pwrite(buf, 4096)
    poll_until(h, lambda: chaos.stats()["held"] == 1, "not held")
    chaos.wait(rule)
    h.pread(512, 0)             # what comes after it is not held
    assert direct.pread(512, 4096) == b"1" * 512, "it was not held"
    chaos.do("cut")
    ends(h)
    h = client(chaos.uri)
    h.pwrite(b"3" * 512, 4096)
    assert chaos.stats()["ghosts"] == 1
    assert chaos.release() == 1
    assert direct.pread(512, 4096) == b"2" * 512, "the ghost has not come"
    assert chaos.release() == 0
    wait_for(lambda: chaos.stats()["ghosts"] == 0, "the ghost stays")
    # Without a cut it is a late request, and its reply comes.
    chaos.at("write 1 hold")
    done = []
    h.aio_pwrite(buf, 4096, completion=lambda e: done.append(e.value) or 1)
    poll_until(h, lambda: chaos.stats()["held"] == 1, "not held")
    assert not done
    assert chaos.release() == 1
    poll_until(h, lambda: done, "no reply")
    h.shutdown()
    direct.shutdown()


def errors(t, chaos):
    """Answered by EIO, the server hears nothing of it: once, from a moment
    on, or after having been held."""
    direct = client(t.uri("target"))
    h = client(chaos.uri)
    h.pwrite(b"1" * 512, 0)
    chaos.at("write 1 then flush 1 fail")
    h.flush()
    h.pwrite(b"2" * 512, 0)
    assert fails(h.flush)
    h.flush()
    rule = chaos.at("write 2 always fail")
    h.pwrite(b"3" * 512, 0)
    for _ in range(3):
        assert fails(h.pwrite, b"4" * 512, 0)
    chaos.wait(rule)
    chaos.command("forget")
    assert direct.pread(512, 0) == b"3" * 512
    h.pwrite(b"5" * 512, 0)
    chaos.at("write 1 hold")
    result = []
    buf = nbd.Buffer.from_bytearray(bytearray(b"6" * 512))
    h.aio_pwrite(buf, 0, completion=lambda e: result.append(e.value) or 1)
    poll_until(h, lambda: chaos.stats()["held"] == 1, "not held")
    assert chaos.fail() == 1
    poll_until(h, lambda: result, "no answer")
    assert result != [0] and chaos.stats()["held"] == 0
    assert direct.pread(512, 0) == b"5" * 512
    assert chaos.stats()["errors"] == {"flush": 1, "write": 4}
    h.shutdown()
    direct.shutdown()


def receive(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        assert more, "an end after %r" % data
        data += more
    return data


def extended(t):
    """The headers that newer versions of libnbd and QEMU agree upon."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(t.path("newer.sock"))
        listener.listen()
        chaos = Chaos(t, "extended", "newer")
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(t.path("extended.sock"))
        theirs, _ = listener.accept()
    with ours, theirs:
        for sock in ours, theirs:
            sock.settimeout(20 * SLOW)
        flags = struct.pack(">I", 3)
        trim = struct.pack(">IHHQQQ", 0x21e41c71, 0, 4, 6, 0, 1 << 40)
        write = struct.pack(">IHHQQQ", 0x21e41c71, 32, 1, 7, 4096, 512)
        rule = chaos.at("trim 1 then write 1 fail")
        ours.sendall(flags + trim + write + bytes(512))
        assert receive(theirs, 36) == flags + trim
        chaos.wait(rule)
        assert receive(ours, 38) == struct.pack(
            ">IHHQQQIH", 0x6e8a278c, 1, 0x8001, 7, 4096, 6, errno.EIO, 0)
        rule = chaos.at("trim-reply 1 cut")
        theirs.sendall(struct.pack(">IHHQQQ", 0x6e8a278c, 1, 0, 6, 0, 0))
        chaos.wait(rule)
        assert ours.recv(1) == b"", "the reply went through"


def refusals(chaos):
    for line in ("", "nonsense", "at", "at cut", "at write cut", "at write 0 "
                 "cut", "at read-reply 1 hold", "at up-bytes 5 hold",
                 "at read 1 fail", "at write 1 twice fail", "do fail",
                 "at nothing 1 cut", "do hold", "stall", "delay up -1",
                 "wait 999999 1", "refuse maybe", "stats please"):
        try:
            chaos.command(line)
        except ChaosError:
            continue
        raise AssertionError("'%s' was accepted" % line)
    number = chaos.at("flush 1000 pass")
    try:
        chaos.wait(number, 0.05)
    except ChaosError as e:
        assert "has not fired" in str(e), e
    else:
        raise AssertionError("a rule fires without its event")
    chaos.command("forget")


def tcp(t):
    """A reset is one, over TCP."""
    chaos = Chaos(t, "tcp", "target", tcp=True)
    host, port = chaos.uri[len("nbd://"):].split(":")
    raw = socket.create_connection((host, int(port)), timeout=20 * SLOW)
    assert raw.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
    chaos.do("reset")
    try:
        while raw.recv(100):
            pass
        raise AssertionError("an end of file, not a reset")
    except ConnectionResetError:
        pass
    raw.close()


def speed(t, chaos):
    """Fast enough not to be what is measured; only told under STRESS."""
    h = client(chaos.uri)
    count, done = (4000 if STRESS else 200), []
    buf = nbd.Buffer.from_bytearray(bytearray(256 << 10))
    begin = time.monotonic()
    for i in range(count):
        h.aio_pwrite(buf, i % 64 * (256 << 10),
                     completion=lambda e: done.append(e.value) or 1)
        while i - len(done) >= 8:
            h.poll(100)
    poll_until(h, lambda: len(done) == count, "replies are missing")
    rate = count / 4 / (time.monotonic() - begin)
    print("256K writes through the proxy: %.0f MiB/s" % rate)
    assert not any(done)
    h.shutdown()


with Test() as t:
    assert os.access(ORACLE, os.X_OK)
    t.nbdkit("target", "memory", str(SIZE))
    c = Chaos(t, "chaos", "target")
    # The oracle's loads go to "proxy".
    os.symlink(t.path("chaos.sock"), t.path("proxy.sock"))
    honest(t, c)
    cuts(t, c)
    halves(t, c)
    stalls(c)
    delays(c)
    ghosts(t, c)
    errors(t, c)
    extended(t)
    refusals(c)
    tcp(t)
    speed(t, c)
