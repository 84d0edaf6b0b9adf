#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run: wrong calls, the default directory, and what a terminal
shows."""

import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test, wait_for  # noqa: E402
from runtest import (ENVIRONMENT, Run, ended, make_disk,  # noqa: E402
                     refused)

SIZE = 8 << 20


def check_usage(t):
    """One line: what is wrong, and what is allowed."""
    for args, text in (
            ((), "run takes SOURCE TARGET [-- COMMAND ...]"),
            (("s.img",), "run takes SOURCE TARGET [-- COMMAND ...]"),
            (("s.img", "n", "x"), "run takes SOURCE and TARGET; a command "
             "comes after --"),
            (("--", "s.img", "n"), "run takes SOURCE and TARGET"),
            (("s.img", "--", "n"), "run takes SOURCE and TARGET"),
            (("s.img", "n", "--"), "a command is missing after --"),
            (("-s.img", "n"), "unknown option '-s.img'"),
            (("s.img", "n", "--forse"), "unknown option '--forse'"),
            (("s.img", "n", "--force=1"), "--force takes no value"),
            (("s.img", "n", "--speed"), "--speed needs a value: N"),
            (("s.img", "n", "--speed", "1", "--speed", "1"), "given twice"),
            (("s.img", "n", "--speed", "1X"), "--speed 1X: must be a number "
             "of bytes per second, 0 = no limit"),
            (("s.img", "n", "--copy-mode", "fast"), "--copy-mode fast: must "
             "be background, write-blocking or auto"),
            (("s.img", "n", "-o"), "-o needs a value: KEY=VALUE"),
            (("s.img", "n", "-o", "x"), "-o x: must be KEY=VALUE"),
            (("s.img", "n", "-o=x"), "-o =x: must be KEY=VALUE"),
            (("s.img", "n", "-ospeed=1"), "-o speed=1: use --speed"),
            (("s.img", "n", "-o", "target=x"), "-o target=x: use TARGET"),
            (("s.img", "n", "-S", "a", "--control", "b"), "are the same"),
            (("s.img", "n", "--control", ""), "must be the path"),
            (("s.img", "n", "--control", "x" * 108), "at most 107 bytes"),
            (("s.img", "n", "--listen", "unix:" + "x" * 108),
             "at most 107 bytes"),
            (("s.img", "n", "--bitmap", "s.img"), "is no intent file"),
            (("s.img", "n", "--listen", "unix:"), "must be the path"),
            (("s.img", "n", "--listen", "unix:no/x"), "No such file"),
            (("s.img", "n", "--listen", "unix:s.img"), "is no socket"),
            (("s.img", "n", "--listen", "unix:live"), "a server is listening"),
            *((("s.img", "n", "--listen", a), "--listen %s: must be unix:PATH "
               "or [HOST]:PORT" % a)
              for a in ("", "x", ":", "h:", ":65536", ":-1", ":1x", "::1:5",
                        "[::1:5", "[]x:5")),
            (("s.img", "n", "--listen", "999.1.1.1:5"), "999.1.1.1"),
            (("s.img", "n", "--listen", "192.0.2.1:0"),
             "Cannot assign requested address")):
        refused(t, *args, text=text)
        assert not os.path.exists(t.path("n")), args
    # What the filter judges: its line, and one that says what it means.
    for args, text in (
            (("n", "-o", "granlarity=4K"), "the nearest is mirror-granularity"),
            (("n", "--control", "no/such"), "cannot bind: No such file"),
            (("n", "--control", "taken", "--complete"),
             "taken: another server is listening there"),
            ((t.uri("nobody"), "-o", "on-target-error=report"),
             "nobody.sock")):
        refused(t, "s.img", *args, text=text, lines=2)
        refused(t, "s.img", *args, text="the proxy did not start: nbdkit ended"
                " with status 1", lines=2)
        assert not os.path.exists(t.path("n")), args
    path = t.path("empty")
    os.mkdir(path)
    r = subprocess.run([shutil.which("nbdmirror"), "run", "s.img", "n"],
                       cwd=t.tmp, env={**ENVIRONMENT, "PATH": path},
                       stderr=subprocess.PIPE, encoding="utf-8", check=False)
    assert r.returncode == 1 and "is nbdkit installed?" in r.stderr, r
    assert not os.path.exists(t.path("n"))


class OtherUser:
    """Somebody who is not root, so that the default directory is ours alone;
    with a copy of the disk.  Root's belongs to everybody's tests."""

    def __init__(self, t):
        self.t = t
        self.ids = {}
        self.tmp = t.path("home")
        os.mkdir(self.tmp)
        make_disk(t, "home/s.img", SIZE)
        self.env = {"XDG_RUNTIME_DIR": self.tmp}
        if os.getuid() == 0:
            self.ids = {"user": 65534, "group": 65534, "extra_groups": []}
            os.chmod(t.tmp, 0o755)
            os.chown(self.tmp, 65534, 65534)
            os.chown(t.path("home/s.img"), 65534, 65534)

    def call(self, *args, env=None):
        return subprocess.run(
            ["nbdmirror", *args], cwd=self.tmp, stdin=subprocess.DEVNULL,
            env={**ENVIRONMENT, **(self.env if env is None else env)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            check=False, **self.ids)

    def run(self, target, *args, env=None):
        shutil.copy(self.t.path("home/s.img"), self.t.path("home/" + target +
                                                           ".s"))
        if self.ids:
            os.chown(self.t.path("home/" + target + ".s"), 65534, 65534)
        return Run(self.t, target + ".s", target, *args, cwd=self.tmp,
                   env=self.env if env is None else env, **self.ids)


def check_default_directory(t):
    who = OtherUser(t)
    try:
        usable = who.call("--version").returncode == 0
    except PermissionError:
        usable = False
    if not usable:
        print("the build is for root's eyes only: not tested")
        return
    with who.run("a") as first:
        directory = os.path.join(who.tmp, "nbdmirror")
        assert first.control == "%s/%d.sock" % (directory, first.pid)
        assert os.stat(directory).st_mode & 0o777 == 0o700
        r = who.call("status")
        assert r.returncode == 0 and "8 MiB" in r.stdout, r
        with who.run("b") as second:
            r = who.call("status")
            assert r.returncode == 3 and "several servers" in r.stderr, r
            assert first.control in r.stderr and second.control in r.stderr, r
        r = who.call("status")
        assert r.returncode == 0, r
        first.process.kill()            # what it leaves is not live
        first.process.wait()
        ended(t)
    with who.run("c"):
        assert who.call("status").returncode == 0
    # A directory that others can write to is none.
    os.chmod(directory, 0o777)
    run = Run(t, "s.img", "d", cwd=who.tmp, env=who.env, wait=False,
              **who.ids)
    run.expect(1, "nobody else can write to")
    # No default directory at all: somewhere, and gone afterwards.
    if who.ids:
        for env in ({}, {"XDG_RUNTIME_DIR": "/nonexistent"}):
            with who.run("e%d" % len(env), env=env) as run:
                private = os.path.dirname(run.control)
                assert private.startswith(tempfile.gettempdir()), private
                assert os.stat(private).st_mode & 0o777 == 0o700
                assert run.ctl("status")
            assert not os.path.exists(private)
    ended(t)


class Terminal:
    """nbdmirror run with a terminal of its own."""

    def __init__(self, t, *args):
        self.data = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(t.tmp)
            os.execvpe("nbdmirror", ["nbdmirror", "run", *args],
                       {**ENVIRONMENT, "TERM": "xterm"})

    def read(self):
        if select.select([self.fd], [], [], 0.01)[0]:
            try:
                self.data += os.read(self.fd, 65536)
            except OSError:     # it is closed at the other side
                pass
        return self.data.decode("utf-8", "replace")

    def says(self, text):
        try:
            wait_for(lambda: re.search(text, self.read()), text)
        except TimeoutError:
            print(self.data)
            raise

    def end(self):
        """As by Ctrl-C; its status."""
        os.write(self.fd, b"\3")
        found = []

        def over():
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            found.append(status)
            return pid != 0
        wait_for(over, "does not end by Ctrl-C")
        self.read()
        os.close(self.fd)
        return os.waitstatus_to_exitcode(found[-1])


def check_terminal(t):
    with open(t.path("full.img"), "wb") as f:
        f.write(os.urandom(SIZE))
    # So slow that it is seen under way on any machine.
    terminal = Terminal(t, "full.img", "shown.img", "--speed", "32K",
                        "--control", "c", "--complete")
    terminal.says(r"\[#+ +\] running \d+\.\d% \w+, \S+ [KM]iB left, copy ")
    terminal.says(r"(?s)(\d+\.\d%.*){4}")
    terminal.says(r" (?!0\.0|100)\d+\.\d%")
    subprocess.run(["nbdmirror", "-S", t.path("c"), "speed", "0"], check=True)
    terminal.says(r"\r\033\[Kready  |\033\[Kready  ")
    terminal.says("pivoted  ")
    terminal.says("none, the last was completed")
    assert terminal.end() == 0, terminal.data
    percents = [float(p) for p in re.findall(r"(\d+\.\d)%",
                                             terminal.data.decode())]
    assert len(percents) >= 4 and percents == sorted(percents), percents
    # It is one line, drawn again.
    lines = [line for line in terminal.data.split(b"\n")
             if b"io_uring cannot be used" not in line]
    assert len(lines) <= 9, terminal.data
    ended(t)
    # With a command the terminal belongs to that, and so does Ctrl-C.
    terminal = Terminal(t, "full.img", "shown2.img", "--control", "c2", "--",
                        "sh", "-c", "n=0; trap 'n=$((n+1)); echo mine$n; "
                        "test $n -lt 3 || exit 6' INT; echo up; "
                        "while :; do sleep 0.05; done")
    terminal.says("up\r\n")
    for said in ("mine1", "mine2"):
        os.write(terminal.fd, b"\3")
        terminal.says(said)
        assert subprocess.run(["nbdmirror", "-S", t.path("c2"), "status"],
                              stdout=subprocess.DEVNULL, check=False
                              ).returncode == 0, "the proxy has heard it, too"
    assert terminal.end() == 6, terminal.data
    assert b"mine3" in terminal.data and b"%" not in terminal.data
    ended(t)


def main(t):
    make_disk(t, "s.img", SIZE)
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(t.path("live"))
        live.listen()
        make_disk(t, "other.img", SIZE)
        t.nbdkit("other", "--filter=mirror", "file", t.path("other.img"),
                 "mirror-control=" + t.path("taken"))
        check_usage(t)
        t.stop("other")
    check_default_directory(t)
    check_terminal(t)


with Test() as test:
    main(test)
