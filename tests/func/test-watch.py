#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror watch on real terminals (tmux): five states, a change of the size,
the end by q, Ctrl-C and a server that goes, Ctrl-Z; terminals that cannot do
much, and no terminal."""

import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import SLOW, Test, wait_for  # noqa: E402

if not shutil.which("tmux"):
    print("skipped: no tmux", file=sys.stderr)
    sys.exit(77)


class Terminal:
    """A shell in tmux, with a prompt that cannot be mistaken."""

    count = 0

    def __init__(self, t, columns=80, rows=24, **env):
        Terminal.count += 1
        self.socket = t.path("tmux%d.sock" % Terminal.count)
        self.environment = {
            k: v for k, v in os.environ.items()
            if k not in ("TMUX", "LC_ALL", "LANG", "NO_COLOR",
                         "NBDMIRROR_SOCK")}
        self.environment.update(
            {"NBDMIRROR_SOCK": t.path("ctl.sock"), "LC_ALL": "C.UTF-8"})
        self.run("-f", "/dev/null", "new-session", "-d", "-x", str(columns),
                 "-y", str(rows), "bash --norc --noprofile")
        try:
            self.prepare(env)
        except BaseException:
            self.run("kill-server")
            raise

    def prepare(self, env):
        self.wait("[#$]")
        self.type("PS1='prompt> '; clear")
        self.wait(r"\Aprompt>")
        for item in env.items():        # not tmux's own
            self.type("export %s=%s" % item)

    def run(self, *args):
        return subprocess.run(
            ["tmux", "-u", "-S", self.socket, *args], env=self.environment,
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            timeout=30 * SLOW, encoding="utf-8").stdout

    def type(self, text):
        self.run("send-keys", "-l", text)
        self.run("send-keys", "Enter")

    def key(self, name):
        self.run("send-keys", name)

    def screen(self, colors=False):
        return self.run("capture-pane", "-p", *(["-e"] if colors else []))

    def wait(self, *patterns, without=None):
        """Until the screen has all of these, and not that."""
        seen = ""

        def there():
            nonlocal seen
            seen = self.screen()
            return all(re.search(p, seen, re.M) for p in patterns) and \
                not (without and re.search(without, seen, re.M)) and seen
        try:
            return wait_for(there, "screen", 20)
        except TimeoutError:
            raise AssertionError("not on the screen: %s\n%s" % (
                patterns, seen)) from None

    def flag(self, name):
        return self.run("display-message", "-p", "#{%s}" % name).strip()

    def size(self, columns, rows):
        self.run("resize-window", "-x", str(columns), "-y", str(rows))

    def restored(self):
        """The shell's own screen again, as it was."""
        self.wait("^prompt>")
        assert self.flag("alternate_on") == "0"
        assert self.flag("cursor_flag") == "1"
        assert self.flag("wrap_flag") == "1"
        self.type("stty -a | tr ';' '\\n' | grep -c -E '[ -]icanon .*[ ]echo "
                  "'; echo done=$?")
        self.type("stty -a")
        text = self.wait(r" icanon ", r" echo ")
        assert "-icanon" not in text and " -echo " not in text, text
        self.type("clear")
        self.wait(r"\Aprompt>\s*\Z")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.run("kill-server")


def nbdmirror(t, *args):
    subprocess.run(["nbdmirror", "-S", t.path("ctl.sock"), *args],
                   check=True, stdin=subprocess.DEVNULL,
                   timeout=60 * SLOW)


def fits(screen, columns):
    assert all(len(line) <= columns for line in screen.split("\n")), screen


def check_states(t, term):
    term.type("nbdmirror watch --interval 0.1")
    term.wait("^job       none$", "^verdict   none$", "^target    none$")
    assert term.flag("alternate_on") == "1"
    assert term.flag("cursor_flag") == "0"

    nbdmirror(t, "start", t.uri("target"), "--speed", "1")
    term.wait(
        "^job       mirror: running, background$",
        r"^progress  \[.{40}\] +\d+\.\d%$", "^left      .* of 16 MiB",
        r"^rates     copy \d.*/s, dirty \d.*/s$", "^dirty     [▁-█]+$",
        r"^p50/p99   copy \d", "^target    nbd.*, online,", "connections: 4$",
        "^verdict   converging$")
    nbdmirror(t, "pause")
    term.wait("^job       mirror: paused", "^verdict   paused$")

    # Another size: at once, and nothing of the old one is left.
    term.size(44, 20)
    screen = term.wait(r"^progress  \[.{24}\] +\d+\.\d%$",
                       r"^          online")
    fits(screen, 44)
    term.size(30, 10)
    screen = term.wait(r"\Apaused \d+\.\d% paused", without="^job|verdict")
    assert len(screen.strip().split("\n")) == 1, screen
    fits(screen, 30)
    term.size(100, 5)           # too few rows: the first ones
    screen = term.wait(r"\Ajob       mirror: paused", "^left ")
    assert "target" not in screen, screen
    term.size(80, 24)

    nbdmirror(t, "speed", "0")
    nbdmirror(t, "resume")
    nbdmirror(t, "mode", "write-blocking")
    term.wait("^job       mirror: ready, write-blocking, teeing, synced$",
              r"^progress  \[█{40}\] 100\.0%$", "^verdict   synced$",
              "^left      0 B of")
    assert "\033[32msynced" in term.screen(colors=True), "no colour"

    t.kill("target")
    term.wait("^verdict   offline$", "^target    nbd.*, offline")
    assert "\033[31moffline" in term.screen(colors=True), "no colour"
    nbdmirror(t, "cancel", "--force")
    term.wait("^job       none; the last, mirror, was cancelled$")
    term.key("q")
    term.restored()


def check_ends(t, term):
    """However it ends, the terminal is as before."""
    term.type("nbdmirror watch --interval 3600")
    term.wait("^job       none; the last, mirror, was cancelled$")
    term.size(44, 20)           # is seen though nothing else happens
    term.wait("^          was cancelled$")
    term.size(80, 24)
    term.wait("^job       none; the last, mirror, was cancelled$")
    term.key("C-c")
    term.wait("^prompt>$")
    term.type("echo status=$?")
    term.wait("status=130")
    term.restored()

    term.type("nbdmirror watch")
    term.wait("^verdict ")
    term.key("C-z")
    term.wait("Stopped")
    term.restored()
    term.type("fg")
    term.wait("^verdict ", without="prompt")
    assert term.flag("alternate_on") == "1"
    term.key("q")
    term.restored()


def check_poor(t):
    """No colours, no UTF-8, hardly a terminal."""
    with Terminal(t, NO_COLOR="1", LC_ALL="C") as term:
        term.type("nbdmirror watch")
        screen = term.wait("^verdict   converging|^verdict   paused",
                           r"^progress  \[#*-+\]", "^dirty     [_.:=+*#-]+$")
        assert screen.isascii(), screen
        assert "\033[3" not in term.screen(colors=True), "colours"
        term.key("q")
        term.restored()
    with Terminal(t, TERM="dumb") as term:
        term.type("nbdmirror watch --interval 0.1")
        term.wait(r"(^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .* paused,.*\n){3}")
        assert term.flag("alternate_on") == "0"
        term.key("C-c")
        term.wait("^prompt>$")


def check_no_terminal(t):
    """A line for every interval, and one for each change."""
    process = subprocess.Popen(
        ["nbdmirror", "-S", t.path("ctl.sock"), "watch", "--interval",
         "3600"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        encoding="utf-8")
    line = process.stdout.readline()
    assert re.match(r"[-\d]+ [:\d]+ paused \d+\.\d% paused, .* MiB left, "
                    r"copy .*/s$", line), line
    nbdmirror(t, "resume")
    while " running " not in line:
        line = process.stdout.readline()
    process.terminate()
    rest = process.communicate(timeout=20 * SLOW)[0]
    assert process.returncode == -15
    assert "\033" not in line + rest, rest


def check_server_ends(t, term):
    term.type("nbdmirror watch; echo status=$?")
    term.wait("^verdict ")
    t.stop("proxy")
    screen = term.wait("status=3")
    assert "nbdmirror: watch: " in screen, screen
    term.restored()


with Test() as test:
    test.nbdkit("target", "memory", "64M")
    test.mirror("data", "1*16777216", "size=64M")
    with Terminal(test) as terminal:
        check_states(test, terminal)
        check_ends(test, terminal)
        test.nbdkit("target", "memory", "64M")
        nbdmirror(test, "start", test.uri("target"), "--speed", "1")
        nbdmirror(test, "pause")
    check_poor(test)
    check_no_terminal(test)
    with Terminal(test) as terminal:
        check_server_ends(test, terminal)
