#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""An NBD export as a file, for a loop device: reads, writes and flushes of the
kernel go to the export one by one, in their order.

    fusedisk.py FILE URI        until FILE is unmounted (as root)

FILE, an empty one, is mounted over.  It speaks the protocol of /dev/fuse
itself, as far as a file that is only read, written and synced needs it:
nbdfuse of libnbd 1.14 may fail an assertion when a reply comes quickly.
"""

import ctypes
import errno
import os
import stat
import struct
import sys

import nbd

GETATTR, SETATTR, OPEN, READ, WRITE, STATFS = 3, 4, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, DESTROY = 18, 20, 25, 26, 38
NO_REPLY = (2, 36, 42)          # FORGET, INTERRUPT, BATCH_FORGET

VERSION = 7, 31
ASYNC_READ, BIG_WRITES = 1 << 0, 1 << 5
MAX_WRITE = 128 << 10
MODE = stat.S_IFREG | 0o600
MS_NOSUID, MS_NODEV = 2, 4


class Disk:
    def __init__(self, uri):
        self.nbd = nbd.NBD()
        self.nbd.connect_uri(uri)
        self.size = self.nbd.get_size()

    def init(self, _):
        return struct.pack("<4I2H2I2HI28x", *VERSION, MAX_WRITE,
                           ASYNC_READ | BIG_WRITES, 16, 12, MAX_WRITE, 1, 0,
                           0, 0)

    def attributes(self, _):
        return struct.pack("<QII6Q3I7I", 3600, 0, 0, 1, self.size,
                           self.size // 512, 0, 0, 0, 0, 0, 0, MODE, 1, 0, 0,
                           0, 4096, 0)

    def open(self, _):
        return struct.pack("<QII", 1, 0, 0)

    def read(self, data):
        _, offset, count = struct.unpack_from("<QQI", data)
        count = max(0, min(count, self.size - offset))
        return bytes(self.nbd.pread(count, offset)) if count else b""

    def write(self, data):
        _, offset, count = struct.unpack_from("<QQI", data)
        self.nbd.pwrite(data[40:40 + count], offset)
        return struct.pack("<II", count, 0)

    def fsync(self, _):
        self.nbd.flush()
        return b""

    def nothing(self, _):
        return b""

    def statfs(self, _):
        return struct.pack("<5Q2IQ", 0, 0, 0, 0, 0, 512, 255, 0) + bytes(24)

    HANDLERS = {INIT: init, GETATTR: attributes, SETATTR: attributes,
                OPEN: open, READ: read, WRITE: write, STATFS: statfs,
                FSYNC: fsync, FLUSH: nothing, RELEASE: nothing,
                DESTROY: nothing}

    def answer(self, opcode, data):
        """Returns errno, or 0, and what is answered."""
        if opcode not in self.HANDLERS:
            return errno.ENOSYS, b""
        try:
            return 0, self.HANDLERS[opcode](self, data)
        except nbd.Error as e:
            return e.errnum or errno.EIO, b""

    def serve(self, fd):
        while True:
            try:
                request = os.read(fd, MAX_WRITE + 4096)
            except OSError as e:
                if e.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                if e.errno == errno.ENODEV:
                    return      # unmounted
                raise
            _, opcode, unique = struct.unpack_from("<IIQ", request)
            if opcode in NO_REPLY:
                continue
            error, data = self.answer(opcode, request[40:])
            try:
                os.write(fd, struct.pack("<IiQ", 16 + len(data), -error,
                                         unique) + data)
            except OSError as e:
                if e.errno != errno.ENOENT:     # nobody waits any more
                    raise


def mount(path):
    """Returns the descriptor."""
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = "fd=%d,rootmode=%o,user_id=0,group_id=0" % (fd, MODE)
    if libc.mount(b"fusedisk", os.fsencode(path), b"fuse",
                  ctypes.c_ulong(MS_NOSUID | MS_NODEV),
                  options.encode("ascii")) == -1:
        raise OSError(ctypes.get_errno(), "mount " + path)
    return fd


if __name__ == "__main__":
    disk = Disk(sys.argv[2])
    disk.serve(mount(sys.argv[1]))
