# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run as a process, for the tests of it.

    t = Test()
    with Run(t, "disk.img", "copy.img") as run:     # names in t.tmp
        client = run.connect()
        run.ctl("wait", "ready")

At the end of the block it must end by SIGTERM, with status 0, and leave no
process and no socket behind.
"""

import glob
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile

import nbd

from mirrortest import SLOW, wait_for

ENVIRONMENT = {k: v for k, v in os.environ.items()
               if k not in ("NBDMIRROR_SOCK", "XDG_RUNTIME_DIR",
                            "NOTIFY_SOCKET")}


def make_disk(t, name, size, data=b""):
    with open(t.path(name), "wb") as f:
        f.write(data)
        f.truncate(size)


def read_disk(t, name):
    with open(t.path(name), "rb") as f:
        return f.read()


def processes(t, *words):
    """The pids of the nbdkits, but for those that the test has started
    itself, that have its directory and these words in the command line."""
    found, own = [], [str(p.pid) for p in t.servers.values()]
    for pid in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                line = f.read().decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            continue
        if pid.isdigit() and pid not in own and \
                all(word in line for word in ("nbdkit", t.tmp, *words)):
            found.append(int(pid))
    return found


def exiting(t):
    """The pids of processes that have no command line any more, but still hold
    a file of the test, so its lock, too."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                if f.read(1):
                    continue
            fds = "/proc/%s/fd" % pid
            if any(os.readlink(os.path.join(fds, fd)).startswith(t.tmp)
                   for fd in os.listdir(fds)):
                found.append(int(pid))
        except OSError:
            continue
    return found


def ended(t):
    """No server is left."""
    wait_for(lambda: not processes(t) and not exiting(t),
             "left: %s" % processes(t), 20)


def instead_of_proxy(t, script):
    """The environment for Run in which the proxy is this shell script, with the
    command line of nbdkit; all other nbdkits are themselves."""
    directory = tempfile.mkdtemp(dir=t.tmp)
    with open(os.path.join(directory, "nbdkit"), "w", encoding="utf-8") as f:
        f.write("#!/bin/bash\nnbdkit=%s\ncase \"$*\" in *mirror-control=*) ;;"
                " *) exec $nbdkit \"$@\" ;; esac\n%s\n" %
                (shlex.quote(shutil.which("nbdkit")), script))
    os.chmod(f.name, 0o755)
    return {"PATH": "%s:%s" % (directory, os.environ["PATH"])}


class Run:
    count = 0

    def __init__(self, t, *args, env=None, cwd=None, prefix=(), wait=True,
                 **kwargs):
        Run.count += 1
        self.t = t
        self.out = t.path("run%d.out" % Run.count)
        self.err = t.path("run%d.log" % Run.count)
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                [*prefix, "nbdmirror", "run", *args], cwd=cwd or t.tmp,
                env={**ENVIRONMENT, **(env or {})},
                stdin=kwargs.pop("stdin", subprocess.DEVNULL), stdout=out,
                stderr=err, **kwargs)
        self.pid = self.process.pid
        self.uri = self.control = None
        if wait:
            self.wait_serving("--" in args)

    def wait_serving(self, command=False):
        where = self.errors if command else self.output
        wait_for(lambda: "\ncontrol " in where() or
                 self.process.poll() is not None, "run does not serve")
        words = dict(line.split(maxsplit=1) for line in where().splitlines()
                     if line.startswith(("uri ", "control ")))
        assert set(words) == {"uri", "control"}, self.all()
        self.uri, self.control = words["uri"], words["control"]

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def output(self):
        return self.read(self.out)

    def errors(self):
        # nbdkit 1.32 says so of its nbd plugin under any filter that opens it,
        # and our plugin where io_uring is refused, as in a container.
        return re.sub(r"nbdkit: error: (no connection in this thread|io_uring "
                      r"cannot be used: .*)\n", "", self.read(self.err))

    def all(self):
        return "stdout:\n%s\nstderr:\n%s" % (self.output(), self.errors())

    def complaints(self):
        """What nbdmirror itself has said on stderr; a server that was killed
        may have left half a line before it."""
        return [line[line.index("nbdmirror: "):]
                for line in self.errors().splitlines()
                if "nbdmirror: " in line]

    def says(self, text):
        """Wait until it does, anywhere."""
        wait_for(lambda: text in self.output() + self.errors(),
                 "it does not say " + text)

    def connect(self):
        client = nbd.NBD()
        client.connect_uri(self.uri)
        return client

    def ctl(self, *args, status=0):
        r = subprocess.run(["nbdmirror", "-S", self.control, *args],
                           env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           timeout=100 * SLOW, encoding="utf-8", check=False)
        assert r.returncode == status, (args, r, self.all())
        return r.stdout

    def proxy_pid(self):
        pids = processes(self.t, "mirror-control=" + self.control)
        assert len(pids) == 1, pids
        return pids[0]

    @staticmethod
    def pending(sig, pid):
        """Has a process got a signal that it has not taken yet?"""
        masks = [int(line.split()[1], 16)
                 for line in Run.read("/proc/%d/status" % pid).splitlines()
                 if line.startswith(("SigPnd:", "ShdPnd:"))]
        return any(mask >> sig - 1 & 1 for mask in masks)

    def wait(self):
        """Its status.  It must not leave anything behind."""
        try:
            status = self.process.wait(60 * SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("run does not end\n" + self.all()) from None
        if self.control:
            assert not os.path.exists(self.control), self.control
            path = self.uri.partition("?socket=")[2]
            assert not path or not os.path.exists(path), path
        return status

    def stop(self, sig=signal.SIGTERM, status=0):
        self.process.send_signal(sig)
        got = self.wait()
        assert got == status, "status %s\n%s" % (got, self.all())

    def expect(self, status, text):
        """It ends by itself, with that status, and says that."""
        got = self.wait()
        assert got == status and text in self.errors(), \
            "status %s\n%s" % (got, self.all())

    def detach(self):
        """The target becomes a copy of this moment."""
        self.ctl("wait", "ready", "--timeout", str(60 * SLOW))
        self.ctl("cancel")
        self.ctl("wait", "completed", "--timeout", str(60 * SLOW))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.process.poll() is None:
            if kind:
                self.process.kill()
                self.process.wait()
            else:
                self.stop()
        # What is left of one that was killed, in a directory that stays.
        for path in glob.glob("/run/nbdmirror/%d.*" % self.pid):
            os.unlink(path)


def refused(t, *args, text, lines=1, status=1, env=None):
    """It ends before it serves: the text is in one of that many lines."""
    run = Run(t, *args, env=env, wait=False)
    got = run.wait()
    err = run.errors()
    assert got == status and text in err and err.count("\n") == lines and \
        run.output() == "", (args, "status %s" % got, run.all())
    ended(t)
