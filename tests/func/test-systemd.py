#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What nbdmirror@.service starts, without systemd: the command line by the
example configuration, the notification, and the end by SIGTERM."""

import os
import re
import socket
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test  # noqa: E402
from runtest import Run, ended, make_disk, read_disk  # noqa: E402
from unitfile import Unit, assignments  # noqa: E402

SIZE = 4 << 20
DATA = bytes(range(256)) * 4096         # 1 MiB


def example():
    with open(os.path.join(TOP, "systemd/nbdmirror-example.conf"),
              encoding="utf-8") as f:
        return f.read()


class Listener:
    """$NOTIFY_SOCKET."""

    def __init__(self, t):
        self.path = t.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(30 * SLOW)

    def receive(self):
        return self.socket.recv(4096).decode()


def start(t, unit, notify):
    """As systemd does."""
    assert unit.argv[:2] == ["nbdmirror", "run"], unit.argv
    return Run(t, *unit.argv[2:], wait=False,
               env={**unit.environment, "NOTIFY_SOCKET": notify.path})


def check_example(t, notify):
    """The example, with disks of ours: everything else stays as it is."""
    make_disk(t, "s s.img", SIZE, DATA)
    t.nbdkit("target", "memory", str(SIZE))
    config = re.sub(r"(?m)^SOURCE=.*", 'SOURCE="%s"' % t.path("s s.img"),
                    example())
    config = re.sub(r"(?m)^TARGET=.*", "TARGET=" + t.uri("target"), config)
    unit = Unit(t, "a-b", config)
    with start(t, unit, notify) as run:
        assert notify.receive().split("\n")[0] == "READY=1"
        run.wait_serving()
        assert run.control == unit.directory + "/a-b.sock", run.control
        assert run.uri.endswith("socket=%s/a-b.nbd" % unit.directory), run.uri
        assert "write-blocking" in run.ctl("status"), "OPTIONS are not used"
        client = run.connect()
        assert client.pread(len(DATA), 0) == DATA
        client.pwrite(b"written", 2 << 20)
        client.shutdown()
        run.ctl("wait", "synced", "--timeout", "60")
        run.stop()
        assert notify.receive().split("\n")[0] == "STOPPING=1"
    t.nbdkit("source", "file", t.path("s s.img"))
    assert t.compare("source", "target")


def check_local(t, notify):
    """A local target, and an address; both sides get what is written."""
    make_disk(t, "s.img", SIZE, DATA)
    unit = Unit(t, "x", "SOURCE=%s\nTARGET=%s\nLISTEN=127.0.0.1:0\n"
                % (t.path("s.img"), t.path("n.img")))
    with start(t, unit, notify) as run:
        assert notify.receive().split("\n")[0] == "READY=1"
        run.wait_serving()
        assert run.uri.startswith("nbd://127.0.0.1:"), run.uri
        run.ctl("wait", "ready", "--timeout", "60")
        run.stop()
        assert notify.receive().split("\n")[0] == "STOPPING=1"
    assert read_disk(t, "n.img") == DATA + bytes(SIZE - len(DATA))
    ended(t)


def check_again(t, notify):
    """The same started again goes on, and after a pivot it serves the target;
    without its intent file it does not overwrite the target."""
    unit = Unit(t, "x", "SOURCE=%s\nTARGET=%s\n"
                % (t.path("s.img"), t.path("n.img")))
    with start(t, unit, notify) as run:
        assert notify.receive().split("\n")[0] == "READY=1"
        run.wait_serving()
        run.says("resumed ")
        run.ctl("wait", "ready", "--timeout", "60")
        run.ctl("complete")
        client = run.connect()
        client.pwrite(b"moved", 0)
        client.shutdown()
        run.stop()
        assert notify.receive().split("\n")[0] == "STOPPING=1"
    with start(t, unit, notify) as run:
        assert notify.receive().split("\n")[0] == "READY=1"
        run.wait_serving()
        client = run.connect()
        assert client.pread(5, 0) == b"moved"
        client.shutdown()
        run.stop()
        assert notify.receive().split("\n")[0] == "STOPPING=1"
    assert read_disk(t, "s.img")[:5] == DATA[:5]
    ended(t)
    os.unlink(t.path("x.intent"))
    run = start(t, unit, notify)
    run.expect(1, "n.img")
    assert read_disk(t, "n.img")[:5] == b"moved"


def check_unit(t):
    """What keeps data safe must not get lost."""
    unit = Unit(t, "x", "")
    assert unit.values("Type") == ["notify"]
    # Only the intent file knows, after a pivot, which disk is the right one.
    assert "--bitmap %i.intent " in unit.values("ExecStart")[0]
    assert unit.values("Restart") == ["on-failure"]
    assert unit.values("RestartPreventExitStatus") == ["1"]
    # The servers are ended by the supervisor, in order.
    assert unit.values("KillMode") == ["mixed"]
    assert unit.values("RuntimeDirectoryPreserve") == ["yes"]
    known = set(re.findall(r"\$\{?(\w+)", unit.values("ExecStart")[0]))
    said = set(re.findall(r"(?m)^#?([A-Z]+)=", example()))
    assert said == known, (said, known)
    assert "--force" not in assignments(example())["OPTIONS"]


with Test() as test:
    listener = Listener(test)
    check_unit(test)
    check_example(test, listener)
    check_local(test, listener)
    check_again(test, listener)
