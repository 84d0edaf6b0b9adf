# SPDX-License-Identifier: BSD-3-Clause
"""Say again what a client said to QEMU, and compare what we answer.

A session is a list of steps: what the client sent, and all that QEMU sent
from then on until the client's next word.  Replay says the same to our
server, in the same order, and wants the same messages in the same order:
members and their types, classes, texts, states, speeds.  Only times, versions
and the progress of a job are other numbers.

What we do otherwise is in DIFFERENCES, and in the manual page under the same
names; nothing else may differ, and each of these must be seen.  A difference
is a function that turns what QEMU answered to a step into what we must answer,
or returns None: it has no part in this step.
"""

import copy
import json
import re
import socket
import time

from mirrortest import SLOW
from qmp import QMP

SIZE = 64 << 20                 # of the disks

# What the client calls a node.  The disk that is mirrored is always "source"
# to us; which target "src" is depends on what is mirrored to it.
NODES = {"tgt": "target", "small": "small", "ro": "ro", "bad": "bad",
         "full": "full"}

# Accepted by QEMU, refused by us: the text.  The job is started without them.
REFUSED = {
    "auto-finalize": "Value 'false' of parameter 'auto-finalize' is not"
                     " supported",
    "filter-node-name": "Parameter 'filter-node-name' is not supported",
}

DIFFERENCES = []                # (name, function), in the order of their use

# Those that need no function: members and events that only we have, and
# arguments that are refused (above).
OTHERS = {"events", "arguments"}


class Step:
    def __init__(self, where, sent=None):
        self.where = where
        self.note = ""
        self.sent = sent        # a command, bytes, or None: the greeting
        self.answers = []       # QEMU's
        self.starts = False     # we start a job, unlike QEMU: to be ended
        self.undo = None        # a command for what we did, unlike QEMU
        self.replay = None

    def command(self):
        return self.sent.get("execute") if isinstance(self.sent, dict) \
            else None

    def arguments(self):
        return self.sent.get("arguments", {}) \
            if isinstance(self.sent, dict) else {}


def read_sessions(path):
    """Of a file; its head says what its lines are."""
    sessions, note = [[Step("greeting")]], ""
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            mark, _, rest = line.strip().partition(" ")
            steps = sessions[-1]
            if mark == "#":
                note = rest
            elif mark == "==":
                sessions.append([Step("greeting")])
            elif mark == "<-":
                steps[-1].answers.append(json.loads(rest))
            elif mark in ("->", "=>"):
                sent = json.loads(rest)
                if mark == "=>":
                    sent = sent.encode("latin-1")
                steps.append(Step("line %d" % number, sent))
                steps[-1].note, note = note, ""
            else:
                assert line.strip() == "", (path, number, line)
    return sessions


def is_event(message, name=None, **data):
    return message.get("event", "") == (name or message.get("event")) and \
        "event" in message and \
        all(message["data"].get(k) == v for k, v in data.items())


def error_of(answers):
    for message in answers:
        if "error" in message and isinstance(message["error"]["desc"], str):
            return message["error"]["desc"]
    return ""


def with_error(answers, desc, cls=None):
    """The same, with another text.  A compiled pattern will do, too."""
    return [m if "error" not in m else
            dict(m, error={"class": cls or m["error"]["class"],
                           "desc": desc}) for m in answers]


def started(step, name):
    """What an accepted blockdev-mirror is answered with."""
    states = [{"event": "JOB_STATUS_CHANGE",
               "data": {"id": name, "status": s}}
              for s in ("created", "running")]
    answer = {"return": {}}
    if "id" in step.sent:
        answer["id"] = step.sent["id"]
    return states + [answer]


# -- differences -------------------------------------------------------------

def difference(name):
    def add(function):
        DIFFERENCES.append((name, function))
        return function
    return add


@difference("greeting")
def greeting(_, answers):
    """No capability is offered; the version is ours."""
    if "QMP" in answers[0]:
        assert answers[0]["QMP"]["capabilities"] == ["oob"]
        return [{"QMP": dict(answers[0]["QMP"], capabilities=[])}]
    return None


@difference("commands")
def commands(step, answers):
    """Others than QEMU's."""
    name = step.command()
    if name == "query-commands":
        ours = [{"name": n} for n in step.replay.ours]
        return [{"return": ours}]
    if name == "query-mirror":
        return [{"return": None}]
    if name == "query-block-exports":
        return [{"error": {"class": "CommandNotFound", "desc":
                           "The command %s has not been found" % name}}]
    return None


@difference("device and job-id")
def optional(step, answers):
    """May be left out of blockdev-mirror."""
    if error_of(answers) == "Parameter 'device' is missing" and \
            step.command() == "blockdev-mirror":
        return with_error(answers, "Parameter 'target' is missing")
    if error_of(answers) == "Invalid job ID ''" and \
            "job-id" not in step.arguments():
        step.starts = True
        return started(step, "mirror")
    return None


@difference("target")
def target(step, answers):
    """Is a URI, connected to by the command."""
    ours = {"nosuch": r"^target=nosuch: not an NBD URI; allowed are ",
            "src": r"/proxy\.sock: the target is this server itself$",
            "small": r"/small\.sock: the target is smaller \(.* bytes\) than"
                     r" the source \(.* bytes\)$",
            "ro": r"/ro\.sock: the export is read-only$"}
    name = step.arguments().get("target")
    if step.command() != "blockdev-mirror" or name not in ours or \
            step.arguments().get("device") != "src" or \
            ("Cannot find" in error_of(answers) and name != "nosuch"):
        return None
    return with_error([m for m in answers if "event" not in m and "error" in m]
                      or [{"error": {"class": "GenericError"}}],
                      re.compile(ours[name]))


@difference("one job")
def one_job(step, answers):
    """There can be one job at a time."""
    if step.command() == "blockdev-mirror" and error_of(answers) in (
            "Need a root block node", "Job ID 'mirror' already in use"):
        return with_error(answers, "There is a job already: 'mirror' in state"
                          " 'running'")
    return None


@difference("refused jobs")
def refused_jobs(step, answers):
    """Are never created, so that no event tells of them."""
    if step.command() == "blockdev-mirror" and error_of(answers):
        rest = [m for m in answers
                if not is_event(m, status="created") and
                not is_event(m, status="null")]
        return rest if len(rest) < len(answers) else None
    return None


@difference("drain")
def drain(_, answers):
    """QEMU tells how it pauses a job for other work, and goes on."""
    rest = []
    for m in answers:
        if rest and is_event(m, "JOB_STATUS_CHANGE", status="running") and \
                is_event(rest[-1], "JOB_STATUS_CHANGE", status="paused"):
            rest.pop()
        else:
            rest.append(m)
    return rest if len(rest) < len(answers) else None


@difference("target-is-zero")
def target_is_zero(step, answers):
    """Is of a newer QEMU."""
    if "'target-is-zero' is unexpected" in error_of(answers):
        step.starts = True
        return started(step, "mirror")
    return None


@difference("copy-mode")
def copy_mode(step, answers):
    """There is auto, and it can be changed both ways."""
    if "does not accept value 'auto'" in error_of(answers):
        step.starts = True
        return started(step, step.arguments()["job-id"])
    if error_of(answers).startswith("Change to copy mode"):
        if step.arguments()["type"] == "mirror":
            step.undo = ("block-job-change",
                         dict(step.arguments(), **{"copy-mode":
                                                   "write-blocking"}))
            return [{"return": {}}]
        # QEMU takes the mode of another type of job to be background.
        return with_error(answers, "Parameter 'type' does not accept value"
                          " 'backup'")
    return None


@difference("standby")
def standby(step, answers):
    """A job that is paused and completed does not wait for being resumed."""
    steps = step.replay.steps
    i = steps.index(step)
    if step.command() == "job-complete" and is_plain(answers) and \
            steps[i + 1].command() == "job-resume":
        return answers + [m for m in steps[i + 1].answers if "event" in m]
    if step.command() == "job-resume" and \
            steps[i - 1].command() == "job-complete" and \
            is_plain(steps[i - 1].answers):
        return [{"error": {"class": "GenericError", "desc":
                           "Can't resume a job that was not paused"}}]
    return None


def is_plain(answers):
    """Nothing but that the command has been accepted."""
    return len(answers) == 1 and answers[0].get("return") == {}


@difference("actively-synced")
def actively_synced(_, answers):
    """Is not so any more when the job has ended."""
    changed = False
    answers = copy.deepcopy(answers)
    for m in answers:
        for job in m["return"] if isinstance(m.get("return"), list) else ():
            if job.get("actively-synced") and \
                    job["status"] in ("pending", "concluded"):
                job["actively-synced"] = False
                changed = True
    return answers if changed else None


@difference("pending")
def pending(step, answers):
    """A job finalizes itself, whatever auto-finalize is."""
    replay, changed = step.replay, []
    for m in answers:
        for job in m["return"] if isinstance(m.get("return"), list) else ():
            if job.get("auto-finalize") is False:
                changed.append(m)
    if not replay.finalizes or not (
            changed or any(is_event(m, "BLOCK_JOB_PENDING") for m in answers)
            or "'pending'" in error_of(answers) or replay.finalized):
        return None
    return finalized(step, copy.deepcopy(answers))


def finalized(step, answers):
    replay, result = step.replay, []
    for m in answers:
        if is_event(m, "BLOCK_JOB_PENDING"):
            # What comes with job-finalize comes now.
            replay.finalized = True
            result += [x for x in replay.conclusion(step) if "event" in x]
            continue
        if isinstance(m.get("return"), list):
            for job in m["return"]:
                job.update({k: v for k, v in (("auto-finalize", True),
                                              ("paused", False))
                            if k in job and replay.finalized or
                            k == "auto-finalize" and k in job})
                if job["status"] == "pending":
                    job["status"] = "concluded"
            if replay.finalized and replay.finalizes["auto-dismiss"]:
                m = dict(m, **{"return": []})
        if "'pending'" in error_of([m]):
            m["error"]["desc"] = m["error"]["desc"].replace("'pending'",
                                                            "'concluded'")
        result.append(m)
    if step.command() == "job-finalize":
        replay.finalized = False
        name = step.arguments()["id"]
        kept = not replay.finalizes["auto-dismiss"]
        return [{"error": {"class": "GenericError", "desc":
                           "Job '%s' in state 'concluded' cannot accept"
                           " command verb 'finalize'" % name
                           if kept else "Job not found"}}]
    return result


@difference("progress")
def progress(_, answers):
    """What clients write to both sides at once is none."""
    changed = False
    answers = copy.deepcopy(answers)
    for m in answers:
        for job in m["return"] if isinstance(m.get("return"), list) else \
                [m["data"]] if "data" in m else ():
            for key in ("len", "offset", "total-progress",
                        "current-progress"):
                if job.get(key, 0) > SIZE:
                    job[key] = SIZE
                    changed = True
    return answers if changed else None


@difference("quit")
def quits(step, answers):
    """Is answered at once; no event is sent after that."""
    if step.command() != "quit":
        return None
    return [m for m in answers if "event" not in m]


@difference("cancel")
def cancel(step, answers):
    """A job that is paused is shown as running after the answer."""
    if step.command() not in ("job-cancel", "block-job-cancel") or \
            not is_event(answers[0], "JOB_STATUS_CHANGE", status="running"):
        return None
    return [answers[1], answers[0]] + answers[2:]


@difference("errors")
def errors(step, answers):
    """At most one BLOCK_JOB_ERROR a second is sent, by the policy ignore; and
    none before the answer to blockdev-mirror."""
    first = [i for i, m in enumerate(answers)
             if is_event(m, "BLOCK_JOB_ERROR")][:1]
    if step.command() == "blockdev-mirror" and first and \
            answers[first[0] + 1].get("return") == {}:
        i = first[0]
        return answers[:i] + [answers[i + 1], answers[i]] + answers[i + 2:]
    repeated = [m for i, m in enumerate(answers)
                if i > 0 and m == answers[i - 1] and
                is_event(m, "BLOCK_JOB_ERROR")]
    if not repeated:
        return None
    return answers[:len(answers) - len(repeated)]


def like(expected, got):
    """With the answer where it is expected: a job that begins or goes on may
    come to something before the answer is sent (a part of "errors")."""
    place = [i for i, m in enumerate(expected) if "return" in m]
    answer = [m for m in got if "return" in m]
    if len(place) != 1 or len(answer) != 1:
        return got
    got = [m for m in got if "return" not in m]
    got.insert(place[0], answer[0])
    return got


# -- the replay --------------------------------------------------------------

class Replay:
    """Of sessions, each with a server of its own.

    uri(name): where that node is served; ours: the names of our commands."""

    def __init__(self, path, uri, ours):
        self.path = path
        self.uri = uri
        self.ours = ours
        self.seen = set()       # differences
        self.problems = []
        self.steps = []
        self.last_error = None  # the BLOCK_JOB_ERROR that is repeated
        self.finalizes = None   # of the job: auto-finalize was false
        self.finalized = False  # QEMU's job is pending, ours concluded
        self.sock = None
        self.buffer = b""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self.path)
        self.buffer = b""

    def receive(self, timeout):
        """A message, or None."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            self.sock.settimeout(left)
            try:
                data = self.sock.recv(65536)
            except socket.timeout:
                return None
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        assert line.endswith(b"\r") and line.isascii(), line
        return json.loads(line)

    # What we say otherwise in a command.

    def translated(self, step):
        """The arguments for our server."""
        arguments = dict(step.arguments())
        if step.command() != "blockdev-mirror":
            return arguments
        device, name = arguments.get("device"), arguments.get("target")
        if device in ("src", "tgt", "o1"):
            arguments["device"] = "source"
        if name == "src":
            name = "proxy" if device == "src" else "back"
        if name in ("o2", "proxy", "back") or name in NODES:
            arguments["target"] = self.uri(NODES.get(name, name))
        return arguments

    def say(self, step, arguments):
        if isinstance(step.sent, bytes):
            self.sock.sendall(step.sent)
        elif step.sent is not None:
            command = dict(step.sent)
            if "arguments" in command:
                command["arguments"] = arguments
            self.sock.sendall(json.dumps(command).encode("ascii"))

    def refused(self, step, arguments, message):
        """An argument that we do not take, for which the job is refused."""
        if step.command() != "blockdev-mirror" or "error" not in message:
            return None
        for name, text in REFUSED.items():
            if name in arguments and message["error"]["desc"] == text:
                return name
        return None

    def listen(self, step, count):
        """The next messages: so many, without those that only we have."""
        arguments = self.translated(step)
        if any(is_event(m, status="created") for m in step.answers):
            self.last_error = self.finalizes = None
        self.say(step, arguments)
        messages = []
        while len(messages) < count:
            message = self.receive(20 * SLOW)
            if message is None:
                break
            name = self.refused(step, arguments, message)
            if name:
                self.drop(step, arguments, name)
                self.say(step, arguments)
            elif "event" not in message or self.is_known(message):
                messages.append(message)
                if step.starts and "return" in message:
                    break       # what follows is not QEMU's
        return messages

    def drop(self, step, arguments, name):
        """The job is started without it."""
        self.seen.add("arguments")
        if name == "auto-finalize":
            self.finalizes = {"auto-dismiss":
                              arguments.get("auto-dismiss", True)}
        del arguments[name]

    def is_known(self, message):
        """Is it an event of QEMU's?  Take away what is ours in it."""
        stamp = message.pop("timestamp")
        assert set(stamp) == {"seconds", "microseconds"} and \
            0 <= stamp["microseconds"] < 1000000, stamp
        if message["event"].startswith("MIRROR_"):
            self.seen.add("events")
            return False
        if message["event"] == "BLOCK_JOB_ERROR":
            self.seen.add("events")
            for name in ("errno", "offset", "length"):
                assert type(message["data"].pop(name)) is int, message
            known = message == self.last_error and \
                message["data"]["action"] == "ignore"
            self.last_error = message
            return not known
        return True

    def conclusion(self, step):
        """What QEMU answers to the next job-finalize."""
        rest = self.steps[self.steps.index(step):]
        return next(s for s in rest if s.command() == "job-finalize").answers

    def run(self, steps, hooks=()):
        """hooks: functions, by the note of the step before which they are
        called."""
        hooks = dict(hooks)
        self.steps = steps
        self.connect()
        for step in steps:
            hooks.pop(step.note, lambda: None)()
            self.replay_step(step)
        assert not hooks, hooks
        if not self.ended():
            self.problems.append("more is sent after the answer to quit")

    def replay_step(self, step):
        step.replay = self
        expected = step.answers
        for name, function in DIFFERENCES:
            changed = function(step, expected) if expected else None
            if changed is not None:
                self.seen.add(name)
                expected = changed
        got = self.listen(step, len(expected))
        if step.command() in ("job-resume", "block-job-resume",
                              "blockdev-mirror"):
            got = like(expected, got)
        if step.undo:
            with QMP(self.path) as q:
                q.execute(*step.undo)
        if step.starts:
            self.end(step.arguments().get("job-id", "mirror"))
        elif not same(expected, got):
            self.problems.append("%s: %s\n%s" % (
                step.where, step.sent, "\n".join(
                    ["  QEMU " + json.dumps(m, default=str) for m in expected]
                    + ["  we   " + json.dumps(m) for m in got])))
            # It makes no sense to go on when one has waited in vain.
            assert len(got) == len(expected), "\n" + "\n".join(self.problems)

    def end(self, name):
        """Of a job that QEMU has not got."""
        with QMP(self.path) as q:
            q.command("job-cancel", id=name)
            q.wait(lambda q: (q.job() or {"status": "concluded"})["status"] ==
                   "concluded", 20 * SLOW)
            if q.job():
                q.command("job-dismiss", id=name)
            q.command("query-version")
        while True:             # what it has told us until then
            message = self.receive(20 * SLOW)
            if is_event(message, "JOB_STATUS_CHANGE", status="null"):
                break

    def ended(self):
        """After quit: nothing more is told."""
        message = self.receive(20 * SLOW)
        self.sock.close()
        return message is None


# -- comparing ---------------------------------------------------------------

def same(want, got, key=None):
    """As JSON, with the exceptions that are said above."""
    if isinstance(want, re.Pattern):
        return isinstance(got, str) and want.search(got) is not None
    if want is None and key == "return":
        return isinstance(got, dict)
    if type(want) is not type(got):
        return False
    if isinstance(want, list):
        return len(want) == len(got) and \
            all(same(w, g) for w, g in zip(want, got))
    if isinstance(want, dict):
        return set(want) == set(got) and same_progress(want, got) and \
            all(same(want[k], got[k], k) for k in want)
    if key in ("major", "minor", "micro", "package", "busy", "offset",
               "current-progress"):
        return True
    return want == got


def same_progress(want, got):
    """Both equal or both not at the end."""
    for now, end in (("offset", "len"), ("current-progress",
                                         "total-progress")):
        if now in want:
            if not 0 <= got[now] <= got[end] or \
                    (want[now] == want[end]) != (got[now] == got[end]):
                return False
    return True


def names():
    """Of all differences."""
    return {n for n, _ in DIFFERENCES} | OTHERS
