# SPDX-License-Identifier: BSD-3-Clause
"""What nbdmirror run takes for its proxy, but does only what a test wants:

    fakeproxy.py MODE NBDKIT'S COMMAND LINE

    event    an event comes along with an answer; the intent file is lost
    late     the first block-job-complete is answered after the next request
    deaf     quit is not answered, and SIGTERM is nothing to it

What has happened stands in the file "happened" of the current directory.
"""

import json
import os
import signal
import socket
import sys

PIVOTED = {"event": "MIRROR_PIVOTED", "data": {"pause-us": 1234},
           "timestamp": {"seconds": 1, "microseconds": 0}}
MIRROR = {"job": {"id": "mirror", "status": "ready", "ready": True,
                  "copy-mode": "background", "len": 1, "offset": 1}}


def note(word):
    with open("happened", "a", encoding="ascii") as f:
        f.write(word + "\n")


class Session:
    def __init__(self, mode, connection):
        self.mode, self.connection = mode, connection
        self.owed = False

    def send(self, *objects):
        """In one piece."""
        self.connection.sendall(b"".join(
            json.dumps(o).encode("ascii") + b"\r\n" for o in objects))

    def answer(self, command):
        if self.owed:
            note("asked again")
        if command == "block-job-complete" and self.mode == "late":
            note("complete")
            self.mode, self.owed = "", True
        elif command == "quit" and self.mode == "deaf":
            note("quit")
        elif command == "quit":
            self.send({"return": {}})
            sys.exit(0)
        elif command == "query-mirror" and self.mode == "event":
            self.mode = ""
            self.send({"return": dict(MIRROR, bitmap={"state": "lost"})},
                      PIVOTED)
        else:
            self.send({"return": MIRROR if command == "query-mirror" else {}})

    def run(self):
        """Until it is closed.  The mode of the next one."""
        self.send({"QMP": {"version": {}, "capabilities": []}})
        with self.connection.makefile("r", encoding="ascii") as lines:
            for line in lines:
                self.answer(json.loads(line)["execute"])
        note("closed")
        return self.mode


def main():
    mode = sys.argv[1]
    signal.signal(signal.SIGTERM, signal.SIG_IGN if mode == "deaf"
                  else lambda *_: sys.exit(0))
    path, = (word.partition("=")[2] for word in sys.argv
             if word.startswith("mirror-control="))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        try:
            while True:
                connection, _ = listener.accept()
                with connection:
                    mode = Session(mode, connection).run()
        finally:
            os.unlink(path)


main()
