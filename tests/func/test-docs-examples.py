#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The examples of the manual pages do what the pages say.

An example is an indented block of a page, in one of two languages:

  shell   lines of a shell script, or of a session in which "$ " stands before
          each command.  All blocks of one =head1 are one script, which stops at
          the first command that fails.  nbdkit is started in the background,
          one server after the other.  What a session shows after a command
          must be what the command prints, but only the first word of each line
          is compared.

  QMP     "-> " is sent, "<- " is expected: the same members, of the same JSON
          types; an error also with the same text.  A line that is indented
          further goes on with the one above.  Events that are not shown are
          skipped.  A block without "-> " is an event that must have been seen
          in one of the other examples, or in the mirror that has errors.

A line "=for examples ..." is about the next block:

  not run: REASON       it is not, and is counted
  state: STATE          what the server is in before it (QMP): connected
                        (before the negotiation), idle (the default), ready
                        (a job is), cancelled

The block of a SYNOPSIS that shows how to call a program, with what may be left
out in brackets, is no example.  Anything else that is indented and is neither
is a mistake.
"""

import json
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, TOP, Test, wait_for  # noqa: E402
from qmp import QMPError  # noqa: E402

PAGES = ("filters/mirror/nbdkit-mirror-filter.pod", "ctl/nbdmirror.pod",
         "docs/nbdkit-mirror-qmp.pod")

# All that is replaced in an example: other hosts, and places that are not
# ours.  {tmp} is the directory of the test.
SUBSTITUTIONS = (
    ("nbd://otherhost/", "nbd+unix:///?socket={tmp}/target.sock"),
    ("/run/copy.sock", "{tmp}/target.sock"),
    ("/run/disk.sock", "{tmp}/disk.sock"),
    ("/var/lib/disk.intent", "{tmp}/disk.intent"),
)

# The source of all examples, 16 MiB; the target has the same size.
SIZE = 16 << 20
DATA = 4 << 20

problems = []
events = {}                     # what has been seen of each name


def problem(where, text):
    problems.append("%s: %s" % (where, text))


# -- the pages ---------------------------------------------------------------

class Block:
    def __init__(self, page, section, line, text, order):
        self.where = "%s:%d" % (os.path.basename(page), line)
        self.section = section
        self.text = text
        self.order = order      # of =for examples, or ""
        self.qmp = re.match(r" (->|<-) ", text) is not None

    def is_usage(self):
        return self.section == "SYNOPSIS" and re.search(r"\[[A-Za-z-]",
                                                        self.text)


def blocks_of(page):
    """Each Block of a page; their lines have one space at the front."""
    with open(os.path.join(TOP, page), encoding="utf-8") as f:
        lines = f.read().split("\n")
    blocks, section, order, i = [], "", "", 0
    while i < len(lines):
        heading = re.match(r"=head1 (.*)", lines[i])
        if heading:
            section = heading.group(1)
        if lines[i].startswith("=for examples "):
            order = lines[i][len("=for examples "):]
        if not lines[i].startswith(" "):
            i += 1
            continue
        first = i
        while i < len(lines) and lines[i].startswith(" "):
            i += 1
        blocks.append(Block(page, section, first + 1,
                            "\n".join(lines[first:i]), order))
        order = ""
    if order:
        problem(page, "=for examples %s: nothing follows" % order)
    return blocks


def substitute(text, tmp):
    for what, by in SUBSTITUTIONS:
        text = text.replace(what, by.format(tmp=tmp))
    return text


# -- shell ---------------------------------------------------------------

PRELUDE = r"""
set -e
cd "$tmp"
end () { kill "$server"; wait "$server"; server=; }
trap '[ -z "$server" ] || end' EXIT
trap 'echo "failed: the block at $where" >&2' ERR
up () { [ -s nbdkit.pid ] || ! kill -0 "$server"; }
nbdkit ()
{
  [ -z "$server" ] || end
  rm -f nbdkit.pid nbdkit.sock
  command nbdkit -P nbdkit.pid -U nbdkit.sock "$@" & server=$!
  until up; do read -r -t 0.02 <> <(:) || :; done
  kill -0 "$server"
}
"""


def shell_script(blocks):
    """The script, and the lines of output that are shown: for each command
    that shows any, its number and the first words."""
    script, shown = [PRELUDE], []
    for block in blocks:
        session = block.text.startswith(" $ ")
        script.append("where='%s'" % block.where)
        for line in block.text.split("\n"):
            line = line[1:]
            if not session:
                script.append(line)
            elif line.startswith("$ "):
                script.append("echo '=== %d'" % len(shown))
                script.append(line[2:])
                shown.append((block.where + ": " + line, []))
            else:
                shown[-1][1].append(line.split()[0])
    return "\n".join(script) + "\n", shown


def check_output(output, shown):
    for number, (where, words) in enumerate(shown):
        part = output.split("=== %d\n" % number)[1].split("=== ")[0]
        printed = [line.split()[0] for line in part.splitlines()
                   if line.strip()]
        if words and printed != words:
            problem(where, "prints\n%s" % part)


def run_shell(t, page, section, blocks):
    """A server is there already, unless it starts one itself."""
    with open(t.path("disk.img"), "wb") as f:
        f.write(b"x" * DATA)
        f.truncate(SIZE)
    t.nbdkit("target", "memory", str(SIZE))
    script, shown = shell_script(blocks)
    if "mirror-control=/run/disk.sock" not in script:
        t.nbdkit("server", "--filter=mirror", "file", t.path("disk.img"),
                 "mirror-control=" + t.path("disk.sock"))
    run = subprocess.run(
        ["bash", "-c", "tmp='%s'\n" % t.tmp + substitute(script, t.tmp)],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=120 * SLOW, encoding="utf-8",
        check=False)
    if run.returncode != 0:
        problem("%s, %s" % (page, section), "status %d\n%s%s"
                % (run.returncode, run.stdout, run.stderr))
    else:
        check_output(run.stdout, shown)
    stop_all(t)


# -- QMP -----------------------------------------------------------------

def messages(block):
    """[(is it sent, object)], None after a problem."""
    text = re.sub(r"\n {2,}", " ", block.text)
    result = []
    for line in text.split("\n"):
        m = re.match(r" (->|<-) (.*)$", line)
        try:
            result.append((m.group(1) == "->", json.loads(m.group(2))))
        except (AttributeError, ValueError) as e:
            problem(block.where, "%s: %s" % (e, line))
            return None
    return result


def differences(want, got, at="", exact=False):
    """In what do the members and types differ?  A list of texts."""
    if type(want) is not type(got):
        return ["%s: %s is shown, %s is there"
                % (at, json.dumps(want), json.dumps(got))]
    found = []
    if isinstance(want, dict):
        for key in sorted(set(want) ^ set(got)):
            found.append("%s/%s is %s" % (at, key, "not there"
                                          if key in want else "not shown"))
        for key in sorted(set(want) & set(got)):
            found += differences(want[key], got[key], at + "/" + key,
                                 exact or key in ("error", "id"))
    elif isinstance(want, list):
        if bool(want) != bool(got):
            found.append("%s: %d elements are shown, %d are there"
                         % (at, len(want), len(got)))
        for i, (a, b) in enumerate(zip(want, got)):
            found += differences(a, b, "%s/%d" % (at, i), exact)
    elif exact and want != got:
        found.append("%s: %s is shown, %s is there"
                     % (at, json.dumps(want), json.dumps(got)))
    return found


def kind(message):
    """Of an event: its name, and of what it tells."""
    if "event" not in message:
        return None
    data = message["data"]
    return message["event"], data.get("status") or data.get("state")


def receive(q):
    message = q.receive()
    if "event" in message:
        events.setdefault(message["event"], []).append(message)
    return message


def expect(q, want, where):
    """The next message that is no event, or the event that is wanted."""
    while True:
        got = receive(q)
        if kind(got) == kind(want):
            break
        if kind(got) is None:
            problem(where, "instead of %s: %s" % (want, got))
            return
    for text in differences(want, got):
        problem(where, text)


def stop_all(t):
    for name in reversed(list(t.servers)):      # the target is the first
        t.stop(name)


def start_job(t, q, **arguments):
    q.command("blockdev-mirror", target=t.uri("target"), sync="full",
              copy_mode="write-blocking", **arguments)


def prepare(t, q, state):
    """Bring the server into that state, with a connection that has been
    negotiated and has no events waiting."""
    if state == "idle":
        return
    start_job(t, q)
    q.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
    if state == "cancelled":
        q.command("job-cancel", id="mirror")
        q.wait(lambda q: q.job() is None, 60 * SLOW)


def keep_events(q, *more):
    for event in (*q.events, *more):
        events.setdefault(event["event"], []).append(event)


def run_qmp(t, block, state):
    exchange = messages(block)
    if exchange is None:
        return
    exchange = [(sent, json.loads(substitute(json.dumps(m), t.tmp)))
                for sent, m in exchange]
    t.nbdkit("target", "memory", str(SIZE))
    server = t.mirror("data", "1*%d" % DATA, "size=%d" % SIZE)
    with t.qmp(negotiate=state != "connected") as q, \
            t.qmp(negotiate=False) as other:
        if state == "connected":
            receive(q)          # the greeting
        elif "QMP" in exchange[0][1]:
            expect(other, exchange.pop(0)[1], block.where)
        else:
            prepare(t, q, state)
        for sent, message in exchange:
            if sent:
                q.send(message)
            else:
                try:
                    expect(q, message, block.where)
                except (EOFError, OSError) as e:
                    problem(block.where, "%s: %s" % (message, e))
                    break
        keep_events(q)
    if any(m.get("execute") == "quit" for sent, m in exchange if sent):
        wait_for(lambda: server.poll() is not None, "quit does not", 20)
        assert server.returncode == 0
        del t.servers["proxy"]
    stop_all(t)


def see_all_events(t):
    """A mirror to a target that fails writes, then is lost."""
    trigger = t.path("trigger")
    t.nbdkit("target", "--filter=error", "memory", str(SIZE),
             "error-pwrite=ENOSPC", "error-pwrite-rate=100%",
             "error-pwrite-file=" + trigger)
    with open(trigger, "wb"):
        pass
    t.mirror("data", "1*%d" % DATA, "size=%d" % SIZE)
    with t.qmp() as q:
        start_job(t, q)
        failed = q.wait_event("BLOCK_JOB_ERROR", 60 * SLOW)
        os.unlink(trigger)
        t.kill("target")
        lost = q.wait_event("MIRROR_TARGET_STATE", 60 * SLOW,
                            state="offline")
        try:
            t.cancel(q)
        except QMPError:
            pass                # it may have ended by itself
        keep_events(q, failed, lost)
    t.stop("proxy")
    see_failed_switch(t)


def see_failed_switch(t):
    """A target that cannot flush any more; a verification, a hold and a fence
    that end."""
    fail = t.path("fail")
    t.nbdkit("target", "eval", "get_size=echo 65536", "can_write=exit 0",
             "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
             "pwrite=cat >/dev/null", "can_flush=exit 0",
             "flush=test ! -e %s" % fail)
    t.mirror("memory", "64K")
    with t.qmp() as q:
        start_job(t, q)
        q.wait(lambda q: q.job()["actively-synced"], 60 * SLOW)
        q.command("mirror-verify", action="start")
        verified = q.wait_event("MIRROR_VERIFY_COMPLETED", 60 * SLOW)
        q.command("mirror-hold", timeout=1)
        released = q.wait_event("MIRROR_RELEASED", 60 * SLOW)
        q.command("mirror-fence", force=True)
        with open(fail, "wb"):
            pass
        q.command("job-complete", id="mirror")
        failed = q.wait_event("MIRROR_SWITCH_FAILED", 60 * SLOW)
        keep_events(q, verified, released, failed)
    stop_all(t)


def check_event(block):
    for _, want in messages(block) or ():
        seen = [e for e in events.get(want["event"], ())
                if kind(e) == kind(want)] or events.get(want["event"], ())
        if not seen:
            problem(block.where, "no event %s was seen" % want["event"])
        elif all(differences(want, e) for e in seen):
            problem(block.where, "; ".join(differences(want, seen[0])))


def check_complete(t, shown):
    """Is there an example of each command and each event?"""
    t.mirror("memory", "1M")
    with t.qmp() as q:
        commands = {c["name"] for c in q.command("query-commands")}
    t.stop("proxy")
    for name in sorted((commands | set(events)) - shown):
        problem(PAGES[2], "there is no example of %s" % name)


# -- all -----------------------------------------------------------------

def state_of(block):
    m = re.match(r"state: (connected|idle|ready|cancelled)$", block.order)
    if m:
        return m.group(1)
    if block.order:
        problem(block.where, "=for examples: unknown: " + block.order)
    return "idle"


def main(t):
    counts = {"shell": 0, "QMP": 0, "not run": 0}
    later, shown = [], set()
    for page in PAGES:
        scripts = {}
        for block in blocks_of(page):
            if block.qmp:
                shown.update(re.findall(r'"(?:execute|event)": "([^"]+)"',
                                        block.text))
            if re.match(r"not run: .", block.order) or (
                    "socat" in block.text and not shutil.which("socat")):
                counts["not run"] += 1
            elif block.is_usage():
                pass
            elif block.qmp:
                counts["QMP"] += 1
                if " -> " in block.text or '"QMP"' in block.text:
                    run_qmp(t, block, state_of(block))
                else:
                    later.append(block)
            elif re.match(r" (\$ |nbdkit |nbdmirror |\()", block.text):
                counts["shell"] += 1
                scripts.setdefault(block.section, []).append(block)
            else:
                problem(block.where, "neither shell nor QMP, and not marked")
        for section, blocks in scripts.items():
            run_shell(t, page, section, blocks)
    see_all_events(t)
    for block in later:
        check_event(block)
    check_complete(t, shown)
    assert counts["shell"] >= 10 and counts["QMP"] >= 20, counts
    print("examples: %d shell, %d QMP, %d not run"
          % tuple(counts.values()))


with Test() as test:
    main(test)
    for text in problems:
        print("test-docs-examples: " + text)
    assert not problems, "%d problems" % len(problems)
