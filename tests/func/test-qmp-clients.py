#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The bytes that client libraries send, as they send them; text in JSON in
all its spellings; ids of every type."""

import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test  # noqa: E402

QUERY = b'{"execute":"query-jobs"}'

# What is written to the socket, call by call, after the greeting; how many
# answers come in the end.  A line's end, if any, is part of it.
CLIENTS = {
    # qemu.qmp and its qmp-shell: no newline; numbered ids.
    "qemu.qmp": ([b'{"execute":"qmp_capabilities","arguments":{}}',
                  b'{"execute":"query-jobs","id":"__qmp#00000"}',
                  b'{"execute":"query-block-jobs","arguments":{},'
                  b'"id":"__qmp#00001"}'], 3),
    "qemu.qmp, older": ([b'{"execute":"qmp_capabilities",'
                         b'"arguments":{"enable":[]}}',
                         b'{"execute":"query-jobs","id":"__qmp#00000"}'], 2),
    # The older qmp.py: spaces, no id.
    "qmp.py": ([b'{"execute": "qmp_capabilities"}',
                b'{"execute": "query-jobs", "arguments": {}}'], 2),
    # go-qemu: Go's encoder ends a line, its Run writes what it is given.
    "go-qemu": ([b'{"execute":"qmp_capabilities"}\n', QUERY, QUERY], 3),
    # libvirt.
    "libvirt": ([b'{"execute":"qmp_capabilities","id":"libvirt-1"}\r\n',
                 b'{"execute":"query-jobs","id":"libvirt-2"}\r\n'], 2),
    # socat and an editor: lines, empty lines, indents.
    "socat": ([b'{ "execute": "qmp_capabilities" }\n', b"\n", b"\r\n \t\n",
               b'{ "execute":\n    "query-jobs"\n}\n\n\n', b"\n"], 2),
    "one write": ([b'{"execute":"qmp_capabilities"}' + QUERY + b"\r\n\r\n" +
                   QUERY + b" \n"], 3),
}

# An id as it is sent, and what it comes back as.
IDS = [
    (b"null", None), (b"true", True), (b"false", False), (b"0", 0),
    (b"-9223372036854775808", -(1 << 63)), (b"9223372036854775807",
                                            (1 << 63) - 1),
    (b"1.5", 1.5), (b"-0.0", -0.0), (b"1e3", 1000.0), (b'""', ""),
    (b"[]", []), (b"{}", {}), (b'[1,"a",null,[{"b":{}}]]',
                               [1, "a", None, [{"b": {}}]]),
    # Every escape of JSON; \u, also as a surrogate pair; plain UTF-8 of two,
    # three and four bytes; QEMU's single quotes.
    (rb'"\"\\\/\b\f\n\r\t"', "\"\\/\b\f\n\r\t"),
    (rb'"\u0041\u00e9\u20ac\u007f"', "A\u00e9\u20ac\u007f"),
    (rb'"\ud83d\ude00\uD83D\uDE00"', "\U0001f600\U0001f600"),
    ("\"\u00e9\u20ac\U0001f600\"".encode(), "\u00e9\u20ac\U0001f600"),
    (rb"'it\'s'", "it's"), (b"'say \"x\"'", 'say "x"'),
    (b"{'a': 'b'}", {"a": "b"}),
]

# Before a command, at its very beginning: one error, and then the answer.
STRAY = [b"\xef\xbb\xbf",               # the byte order mark of UTF-8
         b"\xff", b"\xff\xff\xff"]


def answers(q, count):
    """Whole lines as they are on the wire."""
    lines = []
    q.sock.settimeout(30 * SLOW)
    while len(lines) < count:
        while b"\n" not in q.buffer:
            data = q.sock.recv(65536)
            assert data, "closed"
            q.buffer += data
        line, q.buffer = q.buffer.split(b"\n", 1)
        assert line.endswith(b"\r") and line.isascii(), line
        lines.append(json.loads(line))
    return lines


def run_client(t, name, writes, count, size):
    """size: of each write, or 0: as the client does it."""
    data = writes if size == 0 else [
        w[i:i + size] for w in writes for i in range(0, len(w), size)]
    with t.qmp(negotiate=False) as q:
        assert "QMP" in q.receive()
        for piece in data:
            q.send(piece)
        got = answers(q, count)
        assert all("return" in m for m in got), (name, got)
        want = [json.loads(w)["id"] for w in writes
                if w.strip() and b'"id"' in w]
        assert [m["id"] for m in got if "id" in m] == want, (name, got)
        # And not one more.
        q.send(b'{"execute":"query-version","id":"last"}')
        assert answers(q, 1)[0]["id"] == "last", name


def check_ids(q):
    for sent, back in IDS:
        for text in (sent, b" " + sent + b"\r\n"):
            q.send(b'{"id":' + text + b',"execute":"query-jobs"}')
            assert answers(q, 1) == [{"return": [], "id": back}], sent
            # With an error, too.
            q.send(b'{"execute":"nosuch","id":' + text + b"}\n")
            m = answers(q, 1)[0]
            assert m["id"] == back and type(m["id"]) is type(back) and \
                m["error"]["class"] == "CommandNotFound", (sent, m)
    # None is sent back when none was sent, or null.
    q.send(QUERY)
    assert answers(q, 1) == [{"return": []}]


def check_stray(q):
    for stray in STRAY:
        q.send(stray + QUERY)
        first, second = answers(q, 2)
        assert first["error"]["class"] == "GenericError" and \
            "id" not in first, (stray, first)
        assert second == {"return": []}, (stray, second)
    # In the middle of a command: it is forgotten, all of it.
    q.send(b'{"execute":"qu\xff' + QUERY)
    first, second = answers(q, 2)
    assert "error" in first and second == {"return": []}, (first, second)


with Test() as test:
    test.mirror("memory", "64M")
    for client, (calls, expected) in CLIENTS.items():
        for pieces in (0, 1, 2, 7):
            run_client(test, client, calls, expected, pieces)
    with test.qmp() as qmp:
        check_ids(qmp)
        check_stray(qmp)
        # A number that is too large spoils no other: the id is no 7.0.
        for big in (b"1" + b"0" * 30, b"-1" + b"0" * 30):
            qmp.send(b'{"execute":"block-job-set-speed","arguments":{"device":'
                     b'"11\\"9999999999999999999","speed":' + big +
                     b'},"id":[7,1e2]}')
            m = answers(qmp, 1)[0]
            assert m["error"]["desc"] == "Invalid parameter type for" \
                " 'speed', expected: integer" and \
                type(m["id"][0]) is int and m["id"] == [7, 100], m
        # The names of commands and arguments may be escaped as well.
        qmp.send(rb'{"\u0065xecute":"query\u002djobs","arguments":{}}')
        assert answers(qmp, 1) == [{"return": []}]
