# SPDX-License-Identifier: BSD-3-Clause
"""One connection through the chaos proxy; see chaosproxy.py.

NBD is understood as far as frames go: fixed newstyle, simple and structured
replies, extended headers.  What is not (TLS) is forwarded as bytes.

Each connection has two pumps, one for each direction, and a delayer for each
direction that was ever delayed.  Sockets do not block; who waits for one waits
for the connection's pipe, too, and so learns that it has been killed.  The
proxy's lock protects what they share.
"""

import collections
import errno
import os
import select
import socket
import struct
import threading
import time

KINDS = ("read", "write", "disc", "flush", "trim", "cache", "zero", "status")
REQUEST = 0x25609513
SIMPLE = 0x67446698
STRUCTURED = 0x668e33ef
EXTENDED_REQUEST = 0x21e41c71   # what libnbd 1.18 and QEMU 8.2 agree upon
EXTENDED = 0x6e8a278c
OPTION = 0x49484156             # the first half of IHAVEOPT
OPTION_REPLY = 0x0003e889       # ... and of its reply
GREETING = 0x4e42444d           # ... and of NBDMAGIC
OPT_EXPORT_NAME = 1
OPT_STARTTLS = 5
FLAG_NO_ZEROES = 2
FLAG_PAYLOAD = 32               # of a request with an extended header
DONE = 1
ERROR_TYPE = 0x8000
MAX_FRAME = 64 << 20


class Closed(Exception):
    """The end of a connection, or of one direction of it."""


class Wire:
    """One socket of a connection."""

    def __init__(self, sock, conn):
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.conn = conn

    def wait(self, mask):
        poll = select.poll()
        poll.register(self.sock, mask)
        ghost = self.conn.ghost
        poll.register(self.conn.end_r if ghost else self.conn.wake_r,
                      select.POLLIN)
        poll.poll()

    def read_some(self, view):
        while not self.conn.ended(self):
            try:
                n = self.sock.recv_into(view)
            except BlockingIOError:
                self.wait(select.POLLIN)
                continue
            except OSError as e:
                raise Closed from e
            if n == 0:
                raise Closed
            return n
        raise Closed

    def read(self, count, frame=None):
        """That many bytes more, at the end of frame."""
        frame = bytearray() if frame is None else frame
        start = len(frame)
        if count > MAX_FRAME:
            raise Closed
        frame.extend(bytes(count))
        with memoryview(frame) as view:
            while start < len(frame):
                with view[start:] as rest:
                    start += self.read_some(rest)
        return frame

    def write(self, data):
        with memoryview(data) as view:
            sent = 0
            while sent < len(view):
                if self.conn.ended(self):
                    raise Closed
                try:
                    with view[sent:] as rest:
                        sent += self.sock.send(rest)
                except BlockingIOError:
                    self.wait(select.POLLOUT)
                except OSError as e:
                    raise Closed from e


class Connection:
    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.wake_r, self.wake_w = os.pipe()    # readable once it is dead
        self.end_r, self.end_w = os.pipe()      # ... and no ghost any more
        self.client = Wire(client, self)
        self.server = Wire(server, self)
        self.to = {"up": self.server, "down": self.client}
        self.writing = {"up": threading.Lock(), "down": threading.Lock()}
        self.cookies = {}       # in flight: [kind, length of a read, offset]
        self.extended = False   # the headers
        self.held = []          # frames, with their cookies
        self.dead = False       # the client's side has been closed
        self.ghost = False      # ... but the server's has not
        self.reset = False
        self.raw = False
        self.first_up = True
        self.no_zeroes = False
        self.export_name = False
        self.queues = {"up": None, "down": None}
        self.threads = [threading.Thread(target=self.pump, args=a, daemon=True)
                        for a in (("up", self.client, self.up_frame),
                                  ("down", self.server, self.down_frame))]
        self.pumps = 2
        self.running = 2        # ... and delayers

    def ended(self, wire):
        return self.dead and not (self.ghost and wire is self.server)

    def kill(self, reset=False):
        """With the proxy's lock."""
        if self.dead:
            return
        self.reset = reset
        self.ghost = bool(self.held)
        self.dead = True
        os.write(self.wake_w, b"x")
        if self.ghost:          # its sockets are closed at its end only
            self.client.sock.shutdown(socket.SHUT_RDWR)
        else:
            os.write(self.end_w, b"x")
        self.proxy.changed.notify_all()

    def exorcise(self):
        """The server's side of a ghost ends, too."""
        self.ghost = False
        os.write(self.end_w, b"x")

    # Each reads one frame and says what events it is.

    def up_frame(self, wire):
        frame = wire.read(4)
        magic, = struct.unpack(">I", frame)
        if self.first_up:
            self.first_up = False
            self.no_zeroes = bool(magic & FLAG_NO_ZEROES)
            return frame, [], None
        if magic == OPTION:
            wire.read(12, frame)
            option, length = struct.unpack(">II", frame[8:])
            wire.read(length, frame)
            self.export_name = option == OPT_EXPORT_NAME
            if option == OPT_STARTTLS:
                self.raw = True
            return frame, [], None
        if magic not in (REQUEST, EXTENDED_REQUEST):
            self.raw = True
            return frame, [], None
        self.extended = magic == EXTENDED_REQUEST
        wire.read(28 if self.extended else 24, frame)
        flags, kind, cookie, offset, length = struct.unpack(
            ">HHQQQ" if self.extended else ">HHQQI", frame[4:])
        if kind == 1 or self.extended and flags & FLAG_PAYLOAD:
            wire.read(length, frame)
        name = KINDS[kind] if kind < len(KINDS) else "unknown"
        with self.proxy.lock:
            if kind != 2:       # a disconnect has no reply
                self.cookies[cookie] = [name, length, offset]
            self.proxy.stats.requests[name] += 1
        return frame, ["any", name], cookie

    def down_frame(self, wire):
        if self.export_name:
            self.export_name = False
            return wire.read(10 if self.no_zeroes else 134), [], None
        frame = wire.read(4)
        magic, = struct.unpack(">I", frame)
        if magic == GREETING:
            return wire.read(14, frame), [], None
        if magic == OPTION_REPLY:
            wire.read(16, frame)
            wire.read(struct.unpack(">I", frame[16:])[0], frame)
            return frame, [], None
        if magic == SIMPLE:
            wire.read(12, frame)
            error, cookie = struct.unpack(">IQ", frame[4:])
            name, length, _ = self.cookies.get(cookie, ["unknown", 0, 0])
            if name == "read" and error == 0:
                wire.read(length, frame)
            done = True
        elif magic in (STRUCTURED, EXTENDED):
            wire.read(28 if magic == EXTENDED else 16, frame)
            flags, kind, cookie = struct.unpack(">HHQ", frame[4:16])
            length, = struct.unpack(">Q" if magic == EXTENDED else ">I",
                                    frame[-8 if magic == EXTENDED else -4:])
            wire.read(length, frame)
            name = self.cookies.get(cookie, ["unknown"])[0]
            error = kind & ERROR_TYPE
            done = flags & DONE
        else:
            self.raw = True
            return frame, [], None
        with self.proxy.lock:
            if error:
                self.proxy.stats.errors[name] += 1
            if done:
                self.cookies.pop(cookie, None)
                self.proxy.changed.notify_all()
        return frame, ["any-reply", name + "-reply"] if done else [], cookie

    def raw_frame(self, wire):
        frame = bytearray(65536)
        del frame[wire.read_some(frame):]
        return frame, [], None

    def pump(self, way, wire, read_frame):
        """Forward one direction until the end."""
        try:
            while True:
                read = self.raw_frame if self.raw else read_frame
                frame, events, cookie = read(wire)
                self.proxy.frame(self, way, frame, events, cookie)
        except Closed:
            pass
        self.end_direction(way)
        with self.proxy.lock:
            self.pumps -= 1
            if self.pumps == 0:
                self.kill()
            self.thread_ended()

    def answer_eio(self, cookie):
        """Instead of the server."""
        with self.proxy.lock:
            name, _, offset = self.cookies.pop(cookie)
            self.proxy.stats.errors[name] += 1
        if self.extended:
            answer = struct.pack(">IHHQQQIH", EXTENDED, DONE, ERROR_TYPE | 1,
                                 cookie, offset, 6, errno.EIO, 0)
        else:
            answer = struct.pack(">IIQ", SIMPLE, errno.EIO, cookie)
        self.write("down", answer)

    def end_direction(self, way):
        """Its end is told to the receiver: a client that has sent all still
        gets its replies."""
        with self.proxy.lock:
            if self.queues[way] is not None:
                self.queues[way].append((0, None))
                self.proxy.changed.notify_all()
            elif not self.dead:
                self.shutdown(way)

    def shutdown(self, way):
        try:
            self.to[way].sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def thread_ended(self):
        """With the proxy's lock.  The last one closes."""
        self.running -= 1
        if self.running > 0:
            return
        self.proxy.connections.discard(self)
        self.proxy.changed.notify_all()
        for wire in (self.client, self.server):
            if self.reset:
                wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                     struct.pack("ii", 1, 0))
            wire.sock.close()
        for fd in (self.wake_r, self.wake_w, self.end_r, self.end_w):
            os.close(fd)

    def write(self, way, data):
        """What is for the dead is dropped."""
        try:
            with self.writing[way]:     # frames stay whole
                if not self.dead:
                    self.to[way].write(data)
        except Closed:
            if not (self.ghost and way == "down"):
                raise

    def send(self, way, data):
        """Now, or as late as the direction is."""
        delay = self.proxy.delay[way]
        if delay == 0 and self.queues[way] is None:
            self.write(way, data)
            return
        with self.proxy.lock:
            if self.queues[way] is None:
                self.queues[way] = collections.deque()
                self.running += 1
                threading.Thread(target=self.delayer, args=(way,),
                                 daemon=True).start()
            self.queues[way].append((time.monotonic() + delay, data))
            self.proxy.changed.notify_all()

    def delayer(self, way):
        proxy, queue = self.proxy, self.queues[way]
        data = b""
        try:
            while data is not None and not self.dead:
                self.write(way, data)
                with proxy.lock:
                    while not self.dead and (
                            not queue or queue[0][0] > time.monotonic()):
                        proxy.changed.wait(
                            queue[0][0] - time.monotonic() if queue else None)
                    data = queue.popleft()[1] if queue else None
            self.shutdown(way)
        except Closed:
            pass
        with proxy.lock:
            self.thread_ended()
