#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The lying server tells each of its lies, byte for byte, and without one it
is honest."""

import errno
import os
import socket
import struct
import sys

sys.dont_write_bytecode = True
top = os.environ["top_srcdir"]
sys.path.insert(0, os.path.join(top, "tests/lib"))
sys.path.insert(0, os.path.join(top, "tests/tools"))
from lyingserver import LyingServer  # noqa: E402
from mirrortest import SLOW, Test  # noqa: E402

import nbd  # noqa: E402

SIZE = 1 << 20


class Raw:
    """A client that believes nothing and takes everything."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(20 * SLOW)
        self.sock.connect(path)
        assert self.read(18)[:16] == b"NBDMAGICIHAVEOPT"
        self.sock.sendall(struct.pack(">I", 3))
        self.option(8)
        self.option(10, struct.pack(">III", 0, 1, 15) + b"base:allocation")
        info = self.option(7, struct.pack(">IH", 0, 0))
        for data in info:
            kind, = struct.unpack(">H", data[:2])
            if kind == 0:
                self.size, self.flags = struct.unpack(">qH", data[2:])
            else:
                self.blocks = struct.unpack(">III", data[2:])
        self.cookie = 100

    def read(self, count):
        data = self.sock.recv(count, socket.MSG_WAITALL) if count else b""
        if len(data) < count:
            raise EOFError
        return data

    def option(self, number, data=b""):
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data))
                          + data)
        infos = []
        while True:
            _, _, kind, length = struct.unpack(">QIII", self.read(20))
            data = self.read(length)
            if kind == 1:
                return infos
            infos.append(data)

    def send(self, kind, offset, length, data=b""):
        self.cookie += 1
        self.sock.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind,
                                      self.cookie, offset, length) + data)

    def reply(self):
        """(cookie, error) or (cookie, type, done, length, bytes there)."""
        magic = self.read(4)
        if magic == bytes.fromhex("67446698"):
            error, cookie = struct.unpack(">IQ", self.read(12))
            return cookie, error
        assert magic == bytes.fromhex("668e33ef"), magic
        done, kind, cookie, length = struct.unpack(">HHQI", self.read(16))
        return cookie, kind, done, length

    def silent(self):
        """Nothing more comes."""
        self.sock.settimeout(0.2)
        try:
            return not self.sock.recv(1)
        except socket.timeout:
            return True
        finally:
            self.sock.settimeout(20 * SLOW)


class Lie:
    """A server with lies, and a raw client."""

    count = 0

    def __init__(self, t, **lies):
        Lie.count += 1
        self.path = t.path("lie%d.sock" % Lie.count)
        seed = lies.pop("seed", 1)
        self.server = LyingServer(
            self.path, {k.rstrip("_"): v for k, v in lies.items()}, seed)
        self.uri = "nbd+unix:///?socket=" + self.path

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.server.stop()

    def raw(self):
        return Raw(self.path)


def honest(t):
    with Lie(t) as lie:
        h = nbd.NBD()
        h.add_meta_context("base:allocation")
        h.connect_uri(lie.uri)
        assert h.get_size() == SIZE
        h.pwrite(b"x" * 5000, 1234)
        assert h.pread(5002, 1233) == b"\0" + b"x" * 5000 + b"\0"
        h.zero(1000, 2000)
        assert h.pread(1002, 1999) == b"x" + bytes(1000) + b"x"
        h.flush()
        h.trim(512, 0)
        extents = []
        h.block_status(SIZE, 0, lambda *a: extents.append(a[2]) or 0)
        assert extents == [[SIZE, 0]], extents
        assert h.get_block_size(nbd.SIZE_PREFERRED) == 4096
        h.shutdown()


def handshake(t):
    with Lie(t, size="0,-5,4096,0x7fffffffffffffff") as lie:
        sizes = [lie.raw().size for _ in range(5)]
        assert sizes == [0, -5, 4096, 0x7fffffffffffffff,
                         0x7fffffffffffffff], sizes
    with Lie(t, min=0, pref=100, max=0xffffffff, flags=0x3) as lie:
        raw = lie.raw()
        assert raw.blocks == (0, 100, 0xffffffff)
        assert raw.flags == 3


def replies(t):
    with Lie(t, cookie="wrong", from_=2) as lie:
        raw = lie.raw()
        for wrong in False, True:
            raw.send(3, 0, 0)
            assert (raw.reply() != (raw.cookie, 0)) is wrong
    with Lie(t, cookie="duplicate") as lie:
        raw = lie.raw()
        raw.send(3, 0, 0)
        assert raw.reply() == raw.reply() == (raw.cookie, 0)
    with Lie(t, cookie="never") as lie:
        raw = lie.raw()
        raw.send(3, 0, 0)
        assert raw.silent()
    with Lie(t, error=28, from_=2) as lie:
        h = nbd.NBD()
        h.connect_uri(lie.uri)
        h.pwrite(b"a" * 512, 0)
        for call in ("pwrite", b"b" * 512, 0), ("pread", 512, 0):
            try:
                getattr(h, call[0])(*call[1:])
                raise AssertionError("no error")
            except nbd.Error as e:
                assert e.errnum == errno.ENOSPC, e
        assert lie.server.disk[:512] == b"a" * 512
    with Lie(t, close=2) as lie:
        raw = lie.raw()
        raw.send(3, 0, 0)
        raw.reply()
        raw.send(3, 0, 0)
        try:
            raw.reply()
            raise AssertionError("it goes on")
        except EOFError:
            pass


def chunks(t):
    """The chunks of a read of 512 bytes at 1024."""
    want = {
        "range": [(1, 1, 520, 1536, 512)],
        "overlap": [(1, 0, 520, 1024, 512), (1, 1, 520, 1024, 512)],
        "nodone": [(1, 0, 520, 1024, 512)],
        "length": [(1, 1, 520 + 4096, 1024, 512)],
        "short": [(1, 1, 264, 1024, 256)],
        "type": [(99, 1, 520, 1024, 512)],
    }
    for kind, expected in want.items():
        with Lie(t, chunk=kind) as lie:
            raw = lie.raw()
            raw.send(0, 1024, 512)
            for number, done, length, offset, there in expected:
                assert raw.reply() == (raw.cookie, number, done, length), kind
                assert raw.read(8) == struct.pack(">Q", offset), kind
                assert raw.read(there) == bytes(there), kind
            assert raw.silent(), kind
    with Lie(t, chunk="none") as lie:
        raw = lie.raw()
        raw.send(0, 1024, 512)
        assert raw.reply() == (raw.cookie, 0, 1, 0)
        assert raw.silent()


def extents(t):
    want = {
        "zero": (7, (0, 0, 512, 3)), "past": (7, (0xfffffe00, 3)),
        "unaligned": (7, (511, 0, 1, 0)), "id": (8, (512, 0)),
        "none": (7, ()),
    }
    for kind, (context, expected) in want.items():
        with Lie(t, extents=kind) as lie:
            raw = lie.raw()
            raw.send(7, 1024, 512)
            size = 4 + 4 * len(expected)
            assert raw.reply() == (raw.cookie, 5, 1, size), kind
            got = struct.unpack(">%dI" % (size // 4), raw.read(size))
            assert got == (context, *expected), (kind, got)


def mutations(t):
    """By the seed."""
    def bytes_of(seed):
        with Lie(t, mutate=10, seed=seed) as lie:
            raw = lie.raw()
            raw.send(0, 0, 4096)
            return raw.read(20 + 8 + 4096)

    first = bytes_of(1)
    assert first == bytes_of(1) != bytes_of(2)
    # A mutation may leave a byte as it was.
    changed = sum(b != 0 for b in first[28:])
    assert 4096 / 20 < changed < 4096 / 5, changed


with Test() as test:
    honest(test)
    handshake(test)
    replies(test)
    chunks(test)
    extents(test)
    mutations(test)
    for bad in {"nonsense": 1}, {"chunk": "nonsense"}, {"min": "x"}:
        try:
            LyingServer(test.path("bad.sock"), bad)
            raise AssertionError("%s was accepted" % bad)
        except ValueError:
            pass
