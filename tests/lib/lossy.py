# SPDX-License-Identifier: BSD-3-Clause
"""Drives tests/tools/lossy-plugin.c, which says what the words mean.

    lossy = Lossy(t, "target", path)        t.uri("target") serves it
    lossy.command("images 10 1 " + prefix)
    lossy.lose_power(seed)                  and the server is gone
"""

import os
import socket

from mirrortest import BUILD

PLUGIN = os.path.join(BUILD, "tests/tools/.libs/lossy-plugin.so")


class Lossy:
    def __init__(self, test, name, path, *args):
        self.test = test
        self.name = name
        self.path = test.path(name + ".lossy")
        test.nbdkit(name, PLUGIN, "file=" + path, "control=" + self.path,
                    *args)

    def command(self, line):
        """Returns the numbers of the answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(self.path)
            with sock.makefile("rw", encoding="ascii") as f:
                f.write(line + "\n")
                f.flush()
                answer = f.readline().split()
        assert answer and answer[0] == "ok", "%s: %s" % (line, answer)
        return [int(n) for n in answer[1:]]

    def unflushed(self):
        """How many requests."""
        return self.command("stats")[0]

    def lose_power(self, seed):
        self.command("power-loss %d" % seed)
        self.test.servers.pop(self.name).wait()
