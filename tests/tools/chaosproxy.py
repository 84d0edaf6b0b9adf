#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A proxy between an NBD client and a server that does to the connection what
networks and dying machines do, at a moment that is told to it exactly.

    chaosproxy.py --listen PATH|HOST:PORT --target PATH|HOST:PORT
                  --control PATH

Port 0 takes a free one; the first line on stdout is "listening ADDRESS".
The control socket takes one command a line and answers each by one line, "ok",
"ok JSON" or "error TEXT".  tests/lib/chaos.py is the client.

    at EVENT N [then EVENT N ...] [always] ACTION
                            when the N-th EVENT from now on happens (and after
                            that the N-th of the next kind ...), do ACTION,
                            once or from then on each time; answers the rule's
                            number
    wait RULE SECONDS       until that has happened
    forget                  all rules
    do ACTION               now (pass, cut, down, reset or stall)
    delay up|down MS        every frame of that direction is late by that
    stall up|down|both      forward nothing that way (and read no more than
    resume                  a frame); and again
    refuse on|off           new connections are closed at once
    release                 deliver the frames that are held, in order, also
                            if their connection has been cut since; answers
                            when the server has replied to each
    fail                    instead, answer them by EIO
    stats                   counters, see Stats

EVENT is up-bytes or down-bytes, which counts bytes; or read, write, flush,
trim, zero, cache, status, disc or any (request), when such a request has come
whole from the client; or one of them with -reply, when its last reply has
come whole from the server.  Up is towards the server.  An action takes the
place of forwarding the frame, which is lost if the connection is; the bytes
up to an up-bytes or down-bytes are forwarded.

    pass     nothing: only to be waited for
    cut      close all connections, both sides
    down     the same, and refuse new ones
    reset    the same as cut, but by a reset (TCP; no difference on Unix)
    stall    both directions of everything, until resume
    half     forward no more in this direction, and tell the receiver so
    hold     keep this frame until release.  Once its connection is cut the
             proxy keeps its own side of it open: a ghost
    fail     answer this request by EIO (not a read, nor status)

Of what is no plain NBD (TLS) only bytes are events.  One mutex protects the
rules, the counters and what the threads of connections share.
"""

import argparse
import collections
import json
import os
import signal
import socket
import sys
import threading
import time

sys.dont_write_bytecode = True
from chaosconn import KINDS, Closed, Connection  # noqa: E402

EVENTS = {"up-bytes", "down-bytes", "any", "any-reply"}
EVENTS |= set(KINDS) | {k + "-reply" for k in KINDS}
ACTIONS = ("pass", "cut", "down", "reset", "stall", "half", "hold",
           "fail")


class Rule:
    def __init__(self, number, steps, action, always):
        self.number = number
        self.always = always
        self.steps = steps      # [event, how many are left], the first first
        self.action = action
        self.fired = False


class Stats:
    """What `stats` answers: connections accepted, refused and open; frames
    held; for both directions bytes and frames; requests and error replies by
    kind."""

    def __init__(self):
        self.accepted = self.refused = 0
        self.bytes = {"up": 0, "down": 0}
        self.frames = {"up": 0, "down": 0}
        self.requests = collections.Counter()
        self.errors = collections.Counter()


class Proxy:
    def __init__(self, target):
        self.target = target
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.connections = set()
        self.rules = []
        self.next_rule = 1
        self.stats = Stats()
        self.delay = {"up": 0, "down": 0}
        self.stalled = {"up": False, "down": False}
        self.refusing = False

    # -- the pumps' side

    def step(self, event, count):
        """With the lock.  The first rule that fires by count more of that
        event, and how many of them come before it does."""
        fired = None
        for rule in self.rules:
            if not rule.steps or rule.steps[0][0] != event:
                continue
            left = rule.steps[0][1]
            if count < left:
                rule.steps[0][1] -= count
                continue
            if rule.always and len(rule.steps) == 1:
                rule.steps[0][1] = 1
                last = True
            else:
                rule.steps.pop(0)
                last = not rule.steps
            if last:
                rule.fired = True
                self.changed.notify_all()
                if fired is None or rule.action != "pass":
                    fired = rule, left
        return fired

    def frame(self, conn, way, data, events, cookie):
        """A frame has come: forward it, or what a rule says."""
        with self.lock:
            self.stats.bytes[way] += len(data)
            self.stats.frames[way] += 1
            fired = [self.step(e, 1) for e in events] if self.rules else []
            actions = [f[0].action for f in fired if f]
            cut_at = self.step(way + "-bytes", len(data)) \
                if self.rules else None
        for action in actions:
            if action == "hold":
                with self.lock:
                    conn.held.append((data, cookie))
                return
            if action == "fail":
                conn.answer_eio(cookie)
                return
            self.act(action, conn, way)
        if cut_at and cut_at[0].action != "pass":
            self.forward(conn, way, data[:cut_at[1]])
            data = data[cut_at[1]:]
            self.act(cut_at[0].action, conn, way)
        self.forward(conn, way, data)

    def forward(self, conn, way, data):
        with self.lock:
            while self.stalled[way] and not conn.dead:
                self.changed.wait()
        if conn.dead and not (conn.ghost and way == "down"):
            raise Closed
        if len(data) > 0:
            conn.send(way, data)

    def act(self, action, conn, way):
        with self.lock:
            if action in ("cut", "down", "reset"):
                if action == "down":
                    self.refusing = True
                for c in list(self.connections):
                    c.kill(action == "reset")
            elif action == "stall":
                self.stalled = {"up": True, "down": True}
            self.changed.notify_all()
        if action == "half" and conn:
            raise Closed

    def accept(self, listener):
        while True:
            client, _ = listener.accept()
            with self.lock:
                refused = self.refusing
            server = None
            if not refused:
                try:
                    server = connect(self.target)
                except OSError:
                    refused = True
            with self.lock:
                if refused:
                    self.stats.refused += 1
                    client.close()
                    continue
                self.stats.accepted += 1
                conn = Connection(self, client, server)
                self.connections.add(conn)
            for thread in conn.threads:
                thread.start()

    # -- the control socket's side

    def cmd_at(self, *words):
        if not words or words[-1] not in ACTIONS:
            raise ValueError("actions are " + " ".join(ACTIONS))
        steps, words, action = [], list(words[:-1]), words[-1]
        always = words[-1:] == ["always"]
        if always:
            words.pop()
        while words:
            if words[0] == "then" and steps:
                words.pop(0)
            if len(words) < 2 or words[0] not in EVENTS:
                raise ValueError("events are " + " ".join(sorted(EVENTS)))
            count = int(words[1])
            if count < 1:
                raise ValueError("the count is at least 1")
            steps.append([words[0], count])
            del words[:2]
        if not steps:
            raise ValueError("no event")
        if action == "hold" and "-" in steps[-1][0]:
            raise ValueError("only a request can be held")
        if action == "fail" and steps[-1][0] not in ("write", "flush", "trim",
                                                     "cache", "zero"):
            raise ValueError("this cannot be failed")
        with self.lock:
            rule = Rule(self.next_rule, steps, action, always)
            self.next_rule += 1
            self.rules.append(rule)
        return rule.number

    def cmd_wait(self, number, seconds):
        deadline = time.monotonic() + float(seconds)
        with self.lock:
            rule = [r for r in self.rules if r.number == int(number)]
            if not rule:
                raise ValueError("no such rule")
            while not rule[0].fired:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ValueError("rule %s has not fired" % number)
                self.changed.wait(left)

    def cmd_forget(self):
        with self.lock:
            self.rules = []

    def cmd_do(self, action):
        if action not in ("pass", "cut", "down", "reset", "stall"):
            raise ValueError("not an action for now")
        self.act(action, None, None)

    def cmd_delay(self, way, ms):
        if way not in self.delay or float(ms) < 0:
            raise ValueError("delay up|down MS")
        with self.lock:
            self.delay[way] = float(ms) / 1000

    def cmd_stall(self, way):
        if way not in ("up", "down", "both"):
            raise ValueError("stall up|down|both")
        with self.lock:
            for w in ("up", "down"):
                self.stalled[w] = self.stalled[w] or way in (w, "both")

    def cmd_resume(self):
        with self.lock:
            self.stalled = {"up": False, "down": False}
            self.changed.notify_all()

    def cmd_refuse(self, how):
        if how not in ("on", "off"):
            raise ValueError("refuse on|off")
        with self.lock:
            self.refusing = how == "on"

    def cmd_release(self):
        with self.lock:
            held = [(c, f) for c in self.connections for f in c.held]
            for c, _ in held:
                c.held = []
        for conn, (frame, cookie) in held:
            if cookie is None or conn.dead and not conn.ghost:
                raise ValueError("the server has gone")
            try:
                with conn.writing["up"]:
                    conn.server.write(frame)
            except Closed:
                raise ValueError("the server has gone") from None
            with self.lock:
                while cookie in conn.cookies:
                    if conn not in self.connections:
                        raise ValueError("the server has gone")
                    self.changed.wait(0.1)
        with self.lock:
            for conn in {c for c, _ in held}:
                if conn.ghost:
                    conn.exorcise()
        return len(held)

    def cmd_fail(self):
        with self.lock:
            held = [(c, f) for c in self.connections for f in c.held]
            for c, _ in held:
                c.held = []
        for conn, (_, cookie) in held:
            conn.answer_eio(cookie)
        return len(held)

    def cmd_stats(self):
        with self.lock:
            s = self.stats
            return {"accepted": s.accepted, "refused": s.refused,
                    "open": sum(not c.dead for c in self.connections),
                    "ghosts": sum(c.ghost for c in self.connections),
                    "held": sum(len(c.held) for c in self.connections),
                    "bytes": s.bytes, "frames": s.frames,
                    "requests": s.requests, "errors": s.errors}

    def control(self, sock):
        with sock, sock.makefile("rw", encoding="ascii") as f:
            for line in f:
                words = line.split() or [""]
                command = getattr(self, "cmd_" + words[0], None)
                try:
                    if command is None:
                        raise ValueError("unknown command")
                    answer = command(*words[1:])
                    text = "ok" if answer is None else \
                        "ok " + json.dumps(answer)
                except (ValueError, TypeError) as e:
                    text = "error %s: %s" % (line.strip(), e)
                f.write(text + "\n")
                f.flush()


def parse_address(text):
    """PATH or HOST:PORT."""
    if "/" in text:
        return socket.AF_UNIX, text
    host, port = text.rsplit(":", 1)
    return socket.AF_INET, (host, int(port))


def connect(address):
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    try:
        sock.connect(address[1])
    except OSError:
        sock.close()
        raise
    return sock


def listen(address):
    sock = socket.socket(address[0], socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address[1])
    sock.listen(64)
    return sock


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=parse_address, required=True)
    parser.add_argument("--target", type=parse_address, required=True)
    parser.add_argument("--control", type=parse_address, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *args: os._exit(0))
    proxy = Proxy(args.target)
    listener = listen(args.listen)
    control = listen(args.control)
    threading.Thread(target=proxy.accept, args=(listener,),
                     daemon=True).start()
    name = listener.getsockname()
    print("listening", name if isinstance(name, str) else "%s:%d" % name)
    sys.stdout.flush()
    while True:
        sock, _ = control.accept()
        threading.Thread(target=proxy.control, args=(sock,),
                         daemon=True).start()


if __name__ == "__main__":
    main()
