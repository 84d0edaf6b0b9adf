# SPDX-License-Identifier: BSD-3-Clause
"""Drives tests/tools/chaosproxy.py, which says what the words mean.

    chaos = Chaos(t, "chaos", "target")     t.uri("chaos") leads to target
    rule = chaos.at("write 3 hold")
    chaos.wait(rule)
    chaos.do("cut")

It is one of the Test's servers.
"""

import json
import os
import socket
import subprocess
import sys

from mirrortest import SLOW, TOP

PROXY = os.path.join(TOP, "tests/tools/chaosproxy.py")


class ChaosError(Exception):
    """The proxy refused a command, or it could not be done."""


class Chaos:
    def __init__(self, test, name, target, tcp=False):
        self.path = test.path(name + ".chaos")
        listen = "127.0.0.1:0" if tcp else test.path(name + ".sock")
        for path in self.path, test.path(name + ".sock"):
            if os.path.exists(path):
                os.unlink(path)
        with open(test.path(name + ".log"), "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, PROXY, "--listen", listen, "--target",
                 test.path(target + ".sock"), "--control", self.path],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                text=True)
        test.servers[name] = self.process
        words = self.process.stdout.readline().split()
        assert words and words[0] == "listening", "%s does not start" % name
        self.uri = "nbd://" + words[1] if tcp else test.uri(name)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)
        self.file = self.sock.makefile("rw", encoding="ascii")

    def command(self, line):
        """Returns what the answer says, or None."""
        self.file.write(line + "\n")
        self.file.flush()
        answer = self.file.readline()
        if not answer.startswith("ok"):
            raise ChaosError(answer.strip() or "the proxy has gone")
        return json.loads(answer[3:]) if answer[3:].strip() else None

    def at(self, rule):
        """Returns its number."""
        return self.command("at " + rule)

    def wait(self, rule, timeout=30):
        self.command("wait %d %f" % (rule, timeout * SLOW))

    def do(self, action):
        self.command("do " + action)

    def up(self):
        """All is well again; rules and held frames stay."""
        self.command("resume")
        self.command("refuse off")
        self.command("delay up 0")
        self.command("delay down 0")

    def release(self):
        """Returns how many frames."""
        return self.command("release")

    def fail(self):
        """Answer them by EIO instead; returns how many."""
        return self.command("fail")

    def stats(self):
        return self.command("stats")
