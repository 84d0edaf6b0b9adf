#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Input is a stream: pieces, no newlines, nonsense, and limits."""

import os
import random
import select
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, STRESS, Test  # noqa: E402

VERSION = b'{"execute": "query-version"}'
MAX_INPUT = 64 << 10
MAX_LINE = 60 << 10

# Bytes, and the text of the one error that they get (None: any).
MALFORMED = [
    (b"garbage", "JSON parse error, invalid keyword 'garbage'"),
    (b"garbage\n", "JSON parse error, invalid keyword 'garbage'"),
    (b"[]", "QMP input must be a JSON object"),
    (b"17", "QMP input must be a JSON object"),
    (b"17\n", "QMP input must be a JSON object"),
    (b"true ", "QMP input must be a JSON object"),
    (b'"text"', "QMP input must be a JSON object"),
    (b"[[{}], 1] 2 3\n", "QMP input must be a JSON object"),
    (b'{"foo": 1}', "QMP input member 'foo' is unexpected"),
    (b"{}", "QMP input lacks member 'execute'"),
    (b'{"execute": 5}', "QMP input member 'execute' must be a string"),
    (b'{"execute":"query-version","arguments":[]}',
     "QMP input member 'arguments' must be an object"),
    (b'{"execute":"query-version","extra":1}',
     "QMP input member 'extra' is unexpected"),
    (b'{"exec-oob":"query-version"}',
     "QMP input member 'exec-oob' is unexpected"),
    (b'{"execute":"query-version","arguments":{"nope":1}}',
     "Parameter 'nope' is unexpected"),
    (b'{"execute":"query-version","execute":"quit"}', None),
    (b'{"execute" "query-version"}', None),
    (b'{"execute": query-version}}', None),
    (b'{"execute": "query-version"]', None),
    (b'{"execute": ["query-version"}, {"a": {"b": 1}}', None),
    (b"{]}", None), (b"}", None), (b"]]]", None), (b":", None), (b",", None),
    (b"\\", None), (b"#!/bin/sh\n", None), (b"GET / HTTP/1.1\r\n", None),
    (b"\0", None), (b"\0\0\0", None), (b"\xff", None), (b"\xfe\xff", None),
    (b'{"execute": "query-\0version"}', None),
    (b'{"execute": "query-\\u0000version"}', None),
    (b'{"execute": "query-\nversion"}', None),
    (b'{"execute": "\\x"}', None), (b'{"execute": "\\u12"}', None),
    (b'{"execute": "\\ud800"}', None), (b'{"execute": "\xc0\x80"}', None),
    (b'{"execute": "\xc3("}', None), (b'{"execute": "\xed\xa0\x80"}', None),
    (b'{"execute": "\xff"}', None), (b'{"execute": 1e999}', None),
    (b'{\x7f}', None), (b"{'execute': 'a\"\\'\xff'}", None),
    # An incomplete request, and the bytes that throw it away.
    (b'{"execute": "query-version", "id": "x\xff', None),
    (b'{"execute": [[[\xff', None),
    # The name of the command is repeated, but not 60,000 bytes of it.
    (b'{"execute": "' + b"x" * 60000 + b'"}', None),
]


def expect_error(q, data, desc):
    q.send(data)
    answer = q.receive()
    assert "error" in answer and "id" not in answer, (data, answer)
    if desc:
        assert answer["error"] == {"class": "GenericError", "desc": desc}, \
            (data, answer)
    assert len(answer["error"]["desc"]) < 1024, answer


def expect_version(q, data=VERSION, **more):
    if data:
        q.send(data)
    answer = q.receive()
    assert "qemu" in answer["return"], (data, answer)
    del answer["return"]
    assert answer == more, answer


def closed(q):
    try:
        while True:
            answer = q.receive()
            assert "error" in answer, answer
    except (EOFError, ConnectionResetError):
        return True


with Test() as t:
    t.mirror("memory", "64M")
    with t.qmp() as q:
        # Pieces.
        for data in (VERSION, b' \r\n\t{ "execute":\n"query-version"\n}\n',
                     b"{'execute': 'query-version'}",
                     b'{"execute": "query-version", "arguments": {}}'):
            expect_version(q, data)
            for i in range(len(data)):
                q.send(data[i:i + 1])
            expect_version(q, b"")

        # Several in one write are run in order.
        q.send(b"".join(b'{"execute": "query-version", "id": %d}' % i
                        for i in range(500)))
        for i in range(500):
            assert q.receive()["id"] == i

        # A string that would end the object if it were not a string.
        for text in (b'"}{]["', b'"\\"}"', b"'\"}'", b"'\\'}'", b'"\\\\"'):
            q.send(b'{"execute": "query-version", "id": ' + text + b"}")
            assert isinstance(q.receive()["id"], str)

        # Nonsense: one error without id, and all is well again.
        for data, desc in MALFORMED:
            expect_error(q, data, desc)
            expect_version(q, b'{"execute": "query-version", "id": 1}', id=1)
        for data, desc in MALFORMED:
            expect_error(q, data + b"\n", desc)
            expect_version(q)
        # A lost client sends a forbidden byte, and then a request at once.
        q.send(b'{"execute": "lost \xff' + VERSION)
        assert "error" in q.receive()
        expect_version(q, b"")

        # Sizes: the largest that is allowed, and an id that fits no answer.
        head = b'{"execute": "query-version", "id": "a"'
        expect_version(q, head + b" " * (MAX_INPUT - len(head) - 1) + b"}",
                       id="a")
        expect_error(q, b'{"execute": "query-version", "id": "'
                     + b"a" * 60000 + b'"}', None)
        expect_error(q, b'{"execute": "query-version", "id": "'
                     + "\u20ac".encode("utf-8") * 15000 + b'"}', None)
        # Whatever else is wrong with it.
        for rest in (b'"execute": 5', b'"execute": "query-version", "x": 1',
                     b'"arguments": [], "execute": "query-version"', b'"x": 1'):
            expect_error(q, b'{"id": "' + b"a" * 62000 + b'", ' + rest + b"}",
                         "QMP input member 'id' is longer than 16384 bytes")
            expect_version(q)
        longest = "\u20ac" * 2700
        q.send(b'{"execute": "nosuch", "id": "' + longest.encode("utf-8")
               + b'"}')
        data = b""
        while not data.endswith(b"\n"):
            data += q.sock.recv(1 << 20)
        assert data.endswith(b"\r\n") and len(data) <= MAX_LINE, len(data)
        q.buffer = data
        assert q.receive()["id"] == longest

        # Depth.
        head = b'{"execute": "query-version", "id": '
        deep = head + b"[" * 63 + b"]" * 63 + b"}"
        q.send(deep)
        assert "return" in q.receive()

        # Random bytes never get more than errors.
        rng = random.Random(20)
        for i in range(100 if STRESS else 10):
            for _ in range(20):
                q.send(bytes(rng.choice(b'{}[]:,"\'\\ \n\r\x00\xff\xc3ax19-')
                             for _ in range(rng.randrange(1, 40))))
            q.send(b'\xff\n{"execute": "query-version", "id": "end"}')
            while True:
                answer = q.receive()
                if answer.get("id") == "end":
                    break
                assert "error" in answer and "id" not in answer, answer

    # Over a limit: an error, and the connection is closed.
    for data in (b'{"execute": "' + b"x" * MAX_INPUT + b'"}',
                 b'{"execute": "query-version"' + b" " * MAX_INPUT + b"}",
                 b"x" * (MAX_INPUT + 1),
                 b'"' + b"x" * (MAX_INPUT + 1),
                 b'{"id": ' + b"[" * 64, b"[" * 65, b"{'a':" * 65):
        with t.qmp() as q:
            q.send(data)
            answer = q.receive()
            assert answer["error"]["class"] == "GenericError", answer
            assert closed(q)

    # Half closed: what has been asked is answered all the same.
    with t.qmp() as q:
        q.send(VERSION * 3)
        q.sock.shutdown(1)
        for _ in range(3):
            expect_version(q, b"")
        assert closed(q)

    # A client that hangs up in the middle harms nobody.
    for data in (b"", b"{", b"garbage", VERSION * 1000):
        with t.qmp() as q:
            q.send(data)

    # One that asks and does not read is not read from, either, until it does;
    # then it gets all its answers.
    with t.qmp() as q, t.qmp() as other:
        command = b'{"execute": "query-commands"}'
        sent = 0
        writable = select.poll()
        writable.register(q.sock, select.POLLOUT)
        # That it stays so is what matters: nothing is read meanwhile.
        while writable.poll(500 * SLOW):
            sent += q.sock.send((command * 2000)[sent % len(command):],
                                socket.MSG_DONTWAIT)
            assert sent < 64 << 20, "the server takes in without limit"
            expect_version(other)
        q.sock.setblocking(True)
        q.sock.settimeout(60 * SLOW)
        for i in range(sent // len(command)):
            assert q.receive()["return"][0]["name"] == "qmp_capabilities"
        expect_version(other)
