# SPDX-License-Identifier: BSD-3-Clause
"""A small QMP client: a module for the Python tests, a command for the rest.

    qmp.py SOCKET command NAME [JSON]    print what is returned
    qmp.py SOCKET get EXPRESSION         over m (query-mirror) and j (the
    qmp.py SOCKET wait SECONDS EXPRESSION   job of query-block-jobs, or None)
"""

import json
import socket
import sys
import time


class QMPError(Exception):
    """The server answered with an error."""

    def __init__(self, error):
        super().__init__("%s: %s" % (error["class"], error["desc"]))
        self.cls = error["class"]
        self.desc = error["desc"]


class QMP:
    """One connection.  Events that come while waiting for an answer are
    kept in self.events, oldest first."""

    def __init__(self, path, negotiate=True, timeout=30):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # With a time-out it would fail at once when the queue is full.
        self.sock.connect(path)
        self.sock.settimeout(timeout)
        self.buffer = b""
        self.events = []
        self.greeting = None
        if negotiate:
            self.greeting = self.receive()
            self.command("qmp_capabilities")

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def send(self, data):
        """Send bytes, or an object as JSON without a newline."""
        if not isinstance(data, bytes):
            data = json.dumps(data).encode("ascii")
        self.sock.sendall(data)

    def receive(self):
        """The next message, of any kind.  EOFError at the end."""
        while b"\n" not in self.buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError("the control socket was closed")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def answer(self):
        """The next message that is no event."""
        while True:
            msg = self.receive()
            if "event" not in msg:
                return msg
            self.events.append(msg)

    def execute(self, name, arguments=None):
        """Run a command; returns what it returns, or raises QMPError."""
        msg = {"execute": name}
        if arguments is not None:
            msg["arguments"] = arguments
        self.send(msg)
        answer = self.answer()
        if "error" in answer:
            raise QMPError(answer["error"])
        return answer["return"]

    def command(self, name, **arguments):
        """As execute, with keywords: job_id=... becomes "job-id"."""
        return self.execute(name.replace("_", "-")
                            if name != "qmp_capabilities" else name,
                            {k.replace("_", "-"): v
                             for k, v in arguments.items()} or None)

    def refused(self, name, **arguments):
        """As command, but it must fail; returns why."""
        try:
            self.command(name, **arguments)
        except QMPError as e:
            return e.desc
        raise AssertionError(name + " was accepted")

    def wait_event(self, name, timeout=30, **data):
        """Take events until one of that name, with these data members."""
        deadline = time.monotonic() + timeout
        while True:
            while self.events:
                event = self.events.pop(0)
                have = event.get("data", {})
                if event["event"] == name and all(
                        have.get(k.replace("_", "-")) == v
                        for k, v in data.items()):
                    return event
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no event %s %s" % (name, data))
            self.sock.settimeout(left)
            try:
                msg = self.receive()
            except socket.timeout:
                raise TimeoutError("no event %s %s" % (name, data)) from None
            finally:
                self.sock.settimeout(30)
            if "event" in msg:
                self.events.append(msg)

    def job(self):
        jobs = self.command("query-block-jobs")
        return jobs[0] if jobs else None

    def mirror(self):
        return self.command("query-mirror")

    def evaluate(self, expression):
        return eval(expression,
                    {"m": self.mirror(), "j": self.job()})

    def wait(self, condition, timeout=30):
        """Until condition(self) is true; returns its value."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition(self)
            if value:
                return value
            if time.monotonic() > deadline:
                raise TimeoutError("still not so: job %s, mirror %s"
                                   % (self.job(), self.mirror()))
            time.sleep(0.02)


def main():
    path, verb, *args = sys.argv[1:]
    with QMP(path) as qmp:
        if verb == "command":
            arguments = json.loads(args[1]) if len(args) > 1 else None
            try:
                print(json.dumps(qmp.execute(args[0], arguments)))
            except QMPError as e:
                sys.exit("%s: %s" % (args[0], e))
        elif verb == "get":
            print(qmp.evaluate(args[0]))
        elif verb == "wait":
            try:
                qmp.wait(lambda q: q.evaluate(args[1]), float(args[0]))
            except TimeoutError as e:
                sys.exit("waiting for %s: %s" % (args[1], e))
        else:
            sys.exit("unknown: " + verb)


if __name__ == "__main__":
    main()
