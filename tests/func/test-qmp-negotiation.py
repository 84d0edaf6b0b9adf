#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The greeting, the negotiation, ids, and the shape of every line."""

import json
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402

EXPECTING = ("Expecting capabilities negotiation with 'qmp_capabilities'")
ALREADY = "Capabilities negotiation is already complete, command ignored"


def ask(q, name, **more):
    q.send({"execute": name, **more})
    return q.receive()


def failed(cls, desc, **more):
    return {"error": {"class": cls, "desc": desc}, **more}


with Test() as t:
    t.mirror("memory", "64M")

    # Every line is ASCII and ends with CR LF.
    with t.qmp(negotiate=False) as q:
        data = b""
        while not data.endswith(b"\n"):
            data += q.sock.recv(65536)
        assert data.endswith(b"\r\n") and data.count(b"\n") == 1, data
        greeting = json.loads(data)["QMP"]
        assert greeting["capabilities"] == [], greeting
        version = greeting["version"]
        assert version["qemu"] == {"major": 10, "minor": 1, "micro": 0}
        assert version["package"].startswith("nbdkit-mirror "), version
        assert "(nbdkit 1." in version["package"], version
        q.send('{"execute": "query-version", "id": "\\u00e9\u20ac"}'
               .encode("utf-8"))
        data = q.sock.recv(65536)
        assert data.isascii() and data.endswith(b"\r\n"), data
        assert json.loads(data)["id"] == "\u00e9\u20ac", data

    with t.qmp(negotiate=False) as q:
        q.receive()

        # Only one command is known before the negotiation.
        for name in ("query-version", "nosuch", "block-job-pause", "quit"):
            assert ask(q, name) == failed("CommandNotFound", EXPECTING)
        assert ask(q, "query-version", id=7) == failed(
            "CommandNotFound", EXPECTING, id=7)
        assert ask(q, "qmp_capabilities", arguments={"enable": ["nosuch"]}) \
            == failed("GenericError",
                      "Parameter 'null' does not accept value 'nosuch'")
        assert ask(q, "qmp_capabilities", arguments={"enable": ["oob"]}) \
            == failed("GenericError", "Capability oob not available")
        assert ask(q, "query-version") == failed("CommandNotFound", EXPECTING)
        assert ask(q, "qmp_capabilities", arguments={"enable": []},
                   id="neg") == {"return": {}, "id": "neg"}
        assert ask(q, "qmp_capabilities") == failed("CommandNotFound",
                                                    ALREADY)

        # Ids may be anything, and come back as they are.
        for i in (None, True, 0, -5, 1.5, "", "x", [], {"a": [1, None]}):
            answer = ask(q, "query-version", id=i)
            assert "id" in answer and answer["id"] == i, answer
            assert answer["return"] == version, answer
            answer = ask(q, "nosuch-command", id=i)
            assert answer == failed(
                "CommandNotFound",
                "The command nosuch-command has not been found", id=i)
        assert "id" not in ask(q, "query-version")

        # What is listed works.
        commands = [c["name"] for c in ask(q, "query-commands")["return"]]
        assert len(commands) == len(set(commands)), commands
        for name in ("qmp_capabilities", "query-version", "query-commands",
                     "quit", "blockdev-mirror", "query-mirror",
                     "block-job-cancel", "block-job-set-speed", "job-cancel",
                     "query-block-jobs", "query-jobs", "block-job-pause",
                     "job-complete", "mirror-fence", "mirror-verify"):
            assert name in commands, name
        assert ask(q, "query-qmp-schema")["error"]["class"] == \
            "CommandNotFound"

        assert ask(q, "query-jobs") == {"return": []}
        assert ask(q, "query-block-jobs") == {"return": []}
        mirror = ask(q, "query-mirror")["return"]
        assert mirror["job"] is None and mirror["last-job"] is None, mirror
        assert mirror["source"]["size"] == 64 << 20, mirror
        assert mirror["convergence"] == "none", mirror
