#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bad arguments and unknown jobs: classes and texts are QEMU's."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402

TARGET = {"target": "nbd+unix:///?socket=/nonexistent", "sync": "full"}
RANGE = "Parameter 'granularity' expects a value in range [512B, 64MB]"
LATER = "Parameter '%s' is not available in this version"

# Arguments of blockdev-mirror besides TARGET (None: not even those).
MIRROR = [
    (None, "Parameter 'target' is missing"),
    ({"sync": None}, "Parameter 'sync' is missing"),
    ({"job-id": 5}, "Invalid parameter type for 'job-id', expected: string"),
    ({"sync": "bogus"}, "Parameter 'sync' does not accept value 'bogus'"),
    ({"sync": "incremental"}, "Sync mode 'incremental' not supported"),
    ({"sync": "top"}, "Sync mode 'top' not supported"),
    ({"copy-mode": "bogus"},
     "Parameter 'copy-mode' does not accept value 'bogus'"),
    ({"speed": "x"},
     "Invalid parameter type for 'speed', expected: integer"),
    ({"speed": 1.5},
     "Invalid parameter type for 'speed', expected: integer"),
    ({"speed": 1 << 70},
     "Invalid parameter type for 'speed', expected: integer"),
    ({"speed": -1}, "Parameter 'speed' expects a non-negative value"),
    ({"granularity": 3}, RANGE),
    ({"granularity": 0}, RANGE),
    ({"granularity": 256}, RANGE),
    ({"granularity": 1 << 30}, RANGE),
    ({"granularity": -65536}, "Parameter 'granularity' expects uint32_t"),
    ({"granularity": 1 << 32}, "Parameter 'granularity' expects uint32_t"),
    ({"granularity": "64K"}, "Parameter 'granularity' expects uint64"),
    ({"granularity": 513}, "Parameter 'granularity' expects a power of 2"),
    ({"buf-size": -1}, "Invalid parameter 'buf-size'"),
    ({"buf-size": 4096}, None),         # below the granularity
    ({"buf-size": (1 << 30) + 1}, None),
    ({"connections": 0}, None),
    ({"connections": 17}, None),
    ({"connections": (1 << 32) + 1}, None),
    ({"nope": 1}, "Parameter 'nope' is unexpected"),
    ({"device": "nosuch"},
     "Cannot find device='nosuch' nor node-name='nosuch'"),
    ({"job-id": ""}, "Invalid job ID ''"),
    ({"job-id": "bad id!"}, "Invalid job ID 'bad id!'"),
    ({"job-id": "1st"}, "Invalid job ID '1st'"),
    ({"job-id": "x" * 256}, None),
    ({"target": "nosuch"}, None),
    ({"target": ""}, None),
    ({"target": "nbds://h/"}, None),
    ({"on-target-error": "bogus"},
     "Parameter 'on-target-error' does not accept value 'bogus'"),
    ({"on-source-error": "auto"},
     "Parameter 'on-source-error' does not accept value 'auto'"),
    ({"on-source-error": 1},
     "Invalid parameter type for 'on-source-error', expected: string"),
    ({"auto-finalize": False},
     "Value 'false' of parameter 'auto-finalize' is not supported"),
    ({"auto-dismiss": "no"},
     "Invalid parameter type for 'auto-dismiss', expected: boolean"),
    ({"target-is-zero": 1},
     "Invalid parameter type for 'target-is-zero', expected: boolean"),
    ({"bitmap-file": "x"}, "bitmap-file=x: must be an absolute path"),
    ({"bitmap-file": 1},
     "Invalid parameter type for 'bitmap-file', expected: string"),
    ({"target-timeout": 0},
     "target-timeout=0: must be seconds from 1 to 3600"),
    ({"target-timeout": 3601},
     "target-timeout=3601: must be seconds from 1 to 3600"),
    ({"target-timeout": (1 << 32) + 1}, None),
    ({"target-timeout": "5"},
     "Invalid parameter type for 'target-timeout', expected: integer"),
    ({"suspect-time": 5}, "Parameter 'suspect-time' is unexpected"),
    ({"max-pause": 0}, None),
    ({"max-pause": 60001}, None),
    ({"max-pause": (1 << 32) + 1}, None),
    ({"tls-psk": "/x"}, LATER % "tls-psk"),
    ({"replaces": "x"}, "Parameter 'replaces' is not supported"),
    ({"filter-node-name": "x"},
     "Parameter 'filter-node-name' is not supported"),
]

# Other commands.
OTHERS = [
    ("block-job-cancel", None, "GenericError",
     "Parameter 'device' is missing"),
    ("block-job-cancel", {"device": "nope"}, "DeviceNotActive",
     "Block job 'nope' not found"),
    ("block-job-cancel", {"device": "nope", "force": 1}, "GenericError",
     "Invalid parameter type for 'force', expected: boolean"),
    ("block-job-set-speed", {"device": "nope", "speed": 0},
     "DeviceNotActive", "Block job 'nope' not found"),
    ("block-job-set-speed", {"device": "nope"}, "GenericError",
     "Parameter 'speed' is missing"),
    ("job-cancel", {"id": "nope"}, "GenericError", "Job not found"),
    ("job-cancel", {"device": "nope"}, "GenericError",
     "Parameter 'id' is missing"),
    ("query-jobs", {"id": "x"}, "GenericError",
     "Parameter 'id' is unexpected"),
]


def ask(q, name, arguments):
    msg = {"execute": name, "id": name}
    if arguments is not None:
        msg["arguments"] = arguments
    q.send(msg)
    answer = q.receive()            # no event either: no job was made
    assert answer["id"] == name, answer
    return answer.get("error")


with Test() as t:
    t.mirror("memory", "64M")
    with t.qmp() as q:
        for more, desc in MIRROR:
            args = None
            if more is not None:
                args = {k: v for k, v in {**TARGET, **more}.items()
                        if v is not None}
            error = ask(q, "blockdev-mirror", args)
            assert error and error["class"] == "GenericError", (more, error)
            assert error["desc"] == (desc or error["desc"]), (more, error)
            # Our own texts name the argument, too.
            if desc is None and len(more) == 1:
                name = next(iter(more))
                if name != "job-id" and more[name] != 4096:
                    assert name in error["desc"], (more, error)

        for name, args, cls, desc in OTHERS:
            assert ask(q, name, args) == {"class": cls, "desc": desc}, name

        # Unreachable: an error, no job, and no trace of one, whatever the
        # policy is.
        for policy in ("ignore", "report", "enospc", "stop"):
            error = ask(q, "blockdev-mirror",
                        {**TARGET, "on-target-error": policy})
            assert "/nonexistent" in error["desc"], error
            assert q.command("query-jobs") == []
        assert q.mirror()["last-job"] is None

        # Unfit: smaller, or read-only.
        t.nbdkit("small", "memory", "63M")
        t.nbdkit("ro", "-r", "memory", "64M")
        for name in ("small", "ro"):
            error = ask(q, "blockdev-mirror",
                        {"target": t.uri(name), "sync": "full"})
            assert error["class"] == "GenericError", error
            assert q.command("query-jobs") == []
