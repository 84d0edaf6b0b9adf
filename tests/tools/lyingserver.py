#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD server that lies: a disk in memory behind a newstyle handshake and
replies, any part of which can be told to be wrong.

    lyingserver.py --listen PATH [--seed N] [LIE=VALUE ...]

or in a test: LyingServer(path, lies, seed).  Without lies it is honest, with
structured replies and base:allocation.

    size=N[,N...]      of the export, one for each connection, the last for
                       the rest; may be negative (1 MiB)
    min=, pref=, max=  block sizes (1, 4096, 33554432)
    flags=N            transmission flags (all that it can do)
    from=N             the lies below begin with the N-th request of a
                       connection (1)
    cookie=wrong       of a reply; or "duplicate", a reply is sent twice; or
                       "never", there is none
    chunk=range        a read's data is for a place outside of the request;
                       or "overlap", twice for the same bytes; "nodone", the
                       last chunk does not say that it is; "length", longer
                       than its data; "short", less data than asked for;
                       "none", no data at all; "type", one that nobody knows
    error=N            on the wire, in place of doing anything
    extents=zero       length; or "past", longer than the disk; "unaligned",
                       to 512; "id", of another context; "none", no extent
    mutate=N           one byte in N of all replies is a random one
    close=N            the connection ends without a word at the N-th request
"""

import argparse
import random
import socket
import struct
import sys
import threading

MAGIC = 0x4e42444d41474943
OPTION = 0x49484156454f5054
OPTION_REPLY = 0x0003e889045565a9
REQUEST = 0x25609513
SIMPLE = 0x67446698
STRUCTURED = 0x668e33ef

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
OPT_STRUCTURED, OPT_LIST_META, OPT_SET_META = 8, 9, 10
REP_ACK, REP_INFO, REP_META = 1, 3, 4
REP_UNSUP = 0x80000001
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = range(8)

# has-flags flush fua trim write-zeroes df multi-conn cache fast-zero
ALL_FLAGS = 0x1 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80 | 0x100 | 0x400 | 0x800
CONTEXT_ID = 7
SIZE = 1 << 20
MAX_DISK = 256 << 20

NUMBERS = ("min", "pref", "max", "flags", "from", "error", "mutate", "close")
WORDS = {"cookie": ("wrong", "duplicate", "never"),
         "chunk": ("range", "overlap", "nodone", "length", "short", "none",
                   "type"),
         "extents": ("zero", "past", "unaligned", "id", "none")}


def parse_lies(lies):
    """Checked, with the defaults."""
    result = {"size": [SIZE], "min": 1, "pref": 4096, "max": 32 << 20,
              "flags": ALL_FLAGS, "from": 1, "error": 0, "mutate": 0,
              "close": 0, "cookie": None, "chunk": None, "extents": None}
    for key, value in lies.items():
        if key == "size":
            result[key] = [int(n, 0) for n in str(value).split(",")]
        elif key in NUMBERS:
            result[key] = int(str(value), 0)
        elif key in WORDS and value in WORDS[key]:
            result[key] = value
        else:
            raise ValueError("%s=%s: no such lie" % (key, value))
    return result


class Gone(Exception):
    """The client has hung up, or is hung up on."""


class Session:
    """One connection, in a thread of its own."""

    def __init__(self, server, sock, number):
        self.server = server
        self.lies = server.lies
        self.sock = sock
        sizes = self.lies["size"]
        self.size = sizes[min(number, len(sizes) - 1)]
        self.random = random.Random("%s/%d" % (server.seed, number))
        self.structured = False
        self.requests = 0

    def read(self, count):
        data = self.sock.recv(count, socket.MSG_WAITALL) if count else b""
        if len(data) < count:
            raise Gone
        return data

    def send(self, data):
        if self.lies["mutate"] and self.lying():
            data = bytearray(data)
            for i in range(len(data)):
                if self.random.randrange(self.lies["mutate"]) == 0:
                    data[i] = self.random.randrange(256)
        self.sock.sendall(data)

    def lying(self):
        return self.requests >= self.lies["from"]

    # -- the handshake

    def reply(self, option, kind, data=b""):
        self.send(struct.pack(">QIII", OPTION_REPLY, option, kind,
                              len(data)) + data)

    def info(self, option):
        self.reply(option, REP_INFO, struct.pack(
            ">HqH", 0, self.size, self.lies["flags"]))
        self.reply(option, REP_INFO, struct.pack(
            ">HIII", 3, self.lies["min"], self.lies["pref"],
            self.lies["max"]))
        self.reply(option, REP_ACK)

    def meta(self, option, data):
        if b"base:allocation" in data or option == OPT_LIST_META:
            self.reply(option, REP_META, struct.pack(">I", CONTEXT_ID) +
                       b"base:allocation")
        self.reply(option, REP_ACK)

    def handshake(self):
        """Until the transmission begins."""
        self.send(struct.pack(">QQH", MAGIC, OPTION, 3))
        self.read(4)
        while True:
            magic, option, length = struct.unpack(">QII", self.read(16))
            data = self.read(length)
            if magic != OPTION or option == OPT_ABORT:
                raise Gone
            if option == OPT_EXPORT_NAME:
                self.send(struct.pack(">qH", self.size, self.lies["flags"]))
                return
            if option in (OPT_INFO, OPT_GO):
                self.info(option)
                if option == OPT_GO:
                    return
            elif option == OPT_STRUCTURED:
                self.structured = True
                self.reply(option, REP_ACK)
            elif option in (OPT_LIST_META, OPT_SET_META):
                self.meta(option, data)
            else:
                self.reply(option, REP_UNSUP)

    # -- requests

    def chunk(self, cookie, kind, data, done=True, length=None):
        self.send(struct.pack(">IHHQI", STRUCTURED, done, kind, cookie,
                              len(data) if length is None else length) + data)

    def simple(self, cookie, error=0, data=b""):
        self.send(struct.pack(">IIQ", SIMPLE, error, cookie) + data)

    def send_data(self, cookie, offset, data):
        lie = self.lies["chunk"] if self.lying() else None
        place = struct.pack(">Q", offset)
        if not self.structured:
            self.simple(cookie, 0, data)
        elif lie == "range":
            self.chunk(cookie, 1, struct.pack(">Q", offset + len(data)) + data)
        elif lie == "overlap":
            self.chunk(cookie, 1, place + data, False)
            self.chunk(cookie, 1, place + data)
        elif lie == "nodone":
            self.chunk(cookie, 1, place + data, False)
        elif lie == "length":
            self.chunk(cookie, 1, place + data, True, len(data) + 8 + 4096)
        elif lie == "short":
            self.chunk(cookie, 1, place + data[:len(data) // 2])
        elif lie == "none":
            self.chunk(cookie, 0, b"")
        elif lie == "type":
            self.chunk(cookie, 99, place + data)
        else:
            self.chunk(cookie, 1, place + data)

    def send_extents(self, cookie, offset, length):
        lie = self.lies["extents"] if self.lying() else None
        context, extents = CONTEXT_ID, [(length, 0)]
        if lie == "zero":
            extents = [(0, 0), (length, 3)]
        elif lie == "past":
            extents = [(0xfffffe00, 3)]
        elif lie == "unaligned":
            extents = [(min(length, 511), 0), (max(length - 511, 1), 0)]
        elif lie == "id":
            context += 1
        elif lie == "none":
            extents = []
        self.chunk(cookie, 5, struct.pack(">I", context) + b"".join(
            struct.pack(">II", *e) for e in extents))

    def fits(self, offset, length):
        return offset + length <= min(max(self.size, 0), MAX_DISK)

    def answer(self, kind, cookie, offset, length, data):
        disk = self.server.disk
        if self.lies["error"] and self.lying():
            if kind == READ and self.structured:
                self.chunk(cookie, 0x8001,
                           struct.pack(">IH", self.lies["error"], 0))
            else:
                self.simple(cookie, self.lies["error"])
        elif not self.fits(offset, length):
            self.simple(cookie, 22)
        elif kind == READ:
            self.send_data(cookie, offset, bytes(disk[offset:offset + length]))
        elif kind == STATUS:
            self.send_extents(cookie, offset, length)
        else:
            if kind == WRITE:
                disk[offset:offset + length] = data
            elif kind in (TRIM, ZERO):
                disk[offset:offset + length] = bytes(length)
            self.simple(cookie)

    def request(self):
        magic, _, kind, cookie, offset, length = struct.unpack(
            ">IHHQQI", self.read(28))
        if magic != REQUEST or kind == DISC:
            raise Gone
        data = self.read(length) if kind == WRITE else b""
        self.requests += 1
        if self.requests == self.lies["close"]:
            raise Gone
        lie = self.lies["cookie"] if self.lying() else None
        if lie == "never":
            return
        if lie == "wrong":
            cookie ^= 0x5a5a
        self.answer(kind, cookie, offset, length, data)
        if lie == "duplicate":
            self.answer(kind, cookie, offset, length, data)

    def run(self):
        try:
            self.handshake()
            while True:
                self.request()
        except (Gone, OSError):
            pass
        finally:
            self.sock.close()


class LyingServer:
    def __init__(self, path, lies, seed=1):
        self.lies = parse_lies(lies)
        self.seed = seed
        self.disk = bytearray(max(0, min(MAX_DISK, max(self.lies["size"]))))
        self.connections = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(64)
        self.sockets = []
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.sockets.append(sock)
            session = Session(self, sock, self.connections)
            self.connections += 1
            threading.Thread(target=session.run, daemon=True).start()

    def stop(self):
        for sock in [self.listener] + self.sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join()
        self.listener.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("lies", nargs="*")
    args = parser.parse_args()
    try:
        server = LyingServer(args.listen,
                             dict(x.split("=", 1) for x in args.lies),
                             args.seed)
    except ValueError as e:
        sys.exit("lyingserver: %s" % e)
    server.thread.join()


if __name__ == "__main__":
    main()
