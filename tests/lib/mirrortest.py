# SPDX-License-Identifier: BSD-3-Clause
"""What functions.sh is to shell tests, for those in Python.

    from mirrortest import Test
    with Test() as t:
        t.nbdkit("target", "memory", "64M")
        t.mirror("memory", "64M")
        with t.qmp() as qmp: ...

At the end every server must end by SIGTERM, with status 0 and in time.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from qmp import QMP

TOP = os.environ.get("top_srcdir", os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", ".."))
BUILD = os.environ.get("top_builddir", TOP)
ORACLE = os.path.join(BUILD, "tests/lib/oracle")
MIRRORCMP = os.path.join(BUILD, "tests/lib/mirrorcmp")
STRESS = bool(os.environ.get("STRESS"))

# Whatever the suite was started by, such as nohup: what is tested must get them.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Deadlines are stretched and loads reduced by this.
SLOW = 1
if os.environ.get("MIRROR_SANITIZER", "no") != "no":
    SLOW = 4
    # See keep-locales.c.
    os.environ["MIRROR_PRELOAD"] += " " + os.path.join(
        BUILD, "tests/lib/.libs/keep-locales.so")
if os.environ.get("MIRROR_VALGRIND"):
    SLOW = 10


def figure(what, **values):
    """Something measured, for scripts/scoreboard."""
    path = os.environ.get("MIRROR_FIGURES")
    if path:
        with open(path, "a", encoding="ascii") as f:
            f.write(json.dumps(dict(values, what=what)) + "\n")


def wait_for(condition, what, timeout=30):
    """Until condition() is true; returns its value."""
    deadline = time.monotonic() + timeout * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def listens(path):
    """Is there a server at that socket?  A while before it there is the file,
    where connections are refused."""
    with open("/proc/net/unix", encoding="utf-8") as f:
        return any(int(line.split()[3], 16) & 0x10000   # __SO_ACCEPTCON
                   for line in f if line.rstrip("\n").endswith(" " + path))


def all_stopped(pid):
    """Are all threads of a process in the state T?"""
    tasks = "/proc/%d/task" % pid
    for task in os.listdir(tasks):
        with open(os.path.join(tasks, task, "stat"), encoding="ascii") as f:
            if f.read().rsplit(") ", 1)[1][0] != "T":
                return False
    return True


def freeze(pid):
    """Stop a process, until it gets SIGCONT."""
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all_stopped(pid), "process %d does not stop" % pid)


class Load:
    """The oracle as a client in the background."""

    def __init__(self, test, name, uri, args):
        self.count_file = os.path.join(test.tmp, name + ".count")
        self.over_file = os.path.join(test.tmp, name + ".over")
        self.log = os.path.join(test.tmp, name + ".log")
        self.name = name
        self.checked = False    # its status has been
        if os.path.exists(self.count_file):
            os.unlink(self.count_file)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [ORACLE, "--progress=" + self.count_file,
                 "--over=" + self.over_file, *args, uri],
                stdout=log, stderr=log)

    def count(self):
        try:
            with open(self.count_file, encoding="ascii") as f:
                return int(f.read() or 0)
        except FileNotFoundError:
            return 0

    def more(self, n, timeout=60):
        """Until that many more requests have been completed, or all that it
        was to send."""
        want = self.count() + n
        wait_for(lambda: self.process.poll() is not None or
                 self.count() >= want,
                 "load %s stalls" % self.name, timeout)
        if self.process.poll() is not None:
            self.check(0)

    def over(self):
        """For one that reconnects: its server is dead, and what that had been
        sent cannot happen any more.  There is no other yet."""
        with open(self.over_file, "wb"):
            pass
        wait_for(lambda: self.process.poll() is not None or
                 not os.path.exists(self.over_file),
                 "load %s does not hear that" % self.name)
        assert self.process.poll() is None, "load %s has ended" % self.name

    def stop(self):
        """It checks all that it wrote, and must be content."""
        self.process.terminate()
        self.join()

    def join(self):
        self.check(0)

    def lost(self):
        """Its server has gone, and all that it read until then was right."""
        self.check(2)

    def check(self, want, timeout=120):
        """See oracle.c for what its status means."""
        self.checked = True
        status = self.process.wait(timeout * SLOW)
        if status == want:
            return
        with open(self.log, errors="replace", encoding="utf-8") as f:
            raise AssertionError("load %s: status %d, not %d: %s" % (
                self.name, status, want, f.read()[-2000:]))


class Test:
    def __init__(self):
        self.tmp = tempfile.mkdtemp(
            prefix="mirror.", dir=os.environ.get("MIRROR_TMPDIR", "/tmp"))
        self.servers = {}
        self.loads = []
        self.watchdog = None
        self.watchdog_again()

    def watchdog_again(self):
        """For tests that take longer than it allows.  A call of libnbd that
        hangs cannot be interrupted."""
        if self.watchdog:
            self.watchdog.cancel()
        self.watchdog = threading.Timer(600 * SLOW, self.give_up)
        self.watchdog.daemon = True
        self.watchdog.start()

    def give_up(self):
        print("the test hangs", file=sys.stderr)
        for process in [x.process for x in self.loads] + list(
                self.servers.values()):
            process.kill()
        self.show_logs()
        os._exit(1)

    def path(self, name):
        return os.path.join(self.tmp, name)

    def uri(self, name):
        return "nbd+unix:///?socket=" + self.path(name + ".sock")

    def spawn(self, name, *args, prefix=()):
        """Start a server that need not live for long."""
        pidfile = self.path(name + ".pid")
        for path in (pidfile, self.path(name + ".sock")):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.path(name + ".log"), "ab") as log:
            process = subprocess.Popen(
                [*prefix, "nbdkit", "-f", "-P", pidfile, "-U",
                 self.path(name + ".sock"), *args],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.servers[name] = process
        return process

    def nbdkit(self, name, *args, prefix=()):
        process = self.spawn(name, *args, prefix=prefix)
        pidfile = self.path(name + ".pid")
        wait_for(lambda: process.poll() is not None or
                 os.path.exists(pidfile) and os.path.getsize(pidfile) > 0,
                 "server %s does not start" % name, 20)
        assert process.poll() is None, "server %s ended at once" % name
        return process

    def mirror(self, *args, start=None):
        return (start or self.nbdkit)(
            "proxy", "--filter=mirror", *args,
            "mirror-control=" + self.path("ctl.sock"))

    def qmp(self, **kwargs):
        return QMP(self.path("ctl.sock"), **kwargs)

    def load(self, name, *args):
        """Start the oracle against the proxy."""
        load = Load(self, name, self.uri("proxy"), args)
        self.loads.append(load)
        return load

    def stop(self, name):
        process = self.servers.pop(name)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            status = self.ended(process)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            status = "none: it does not end by SIGTERM"
        assert status == 0, "server %s: status %s" % (name, status)

    def ended(self, process):
        """TSan keeps a signal for the thread that it came to until that makes a
        call; if it ends before, the signal is lost.  So it gets another."""
        if os.environ.get("MIRROR_SANITIZER") == "thread":
            try:
                return process.wait(5 * SLOW)
            except subprocess.TimeoutExpired:
                process.terminate()
        return process.wait(20 * SLOW)

    def kill(self, name):
        process = self.servers.pop(name)
        process.kill()
        process.wait()

    def compare(self, a, b, *options):
        """True if the images of two servers are the same."""
        r = subprocess.run([MIRRORCMP, *options, self.uri(a), self.uri(b)],
                           check=False)
        assert r.returncode in (0, 1), "mirrorcmp failed"
        return r.returncode == 0

    def wait_equal(self, qmp, timeout=60):
        """No client writes: until nothing is dirty or in flight."""
        def equal(q):
            job = q.job()
            assert job is not None, "the job is gone"
            return job["len"] == job["offset"]
        qmp.wait(equal, timeout * SLOW)

    def no_errors(self, qmp):
        """Nothing that the job has sent to either side has failed."""
        m = qmp.mirror()
        assert m["target-errors"] == 0 and m["source-errors"] == 0, m

    def cancel(self, qmp):
        qmp.command("block-job-cancel", device="mirror", force=True)
        qmp.wait(lambda q: q.job() is None, 20 * SLOW)

    def __enter__(self):
        return self

    def show_logs(self):
        for name in sorted(os.listdir(self.tmp)):
            if name.endswith(".log"):
                print("---", name, file=sys.stderr)
                with open(self.path(name), errors="replace",
                          encoding="utf-8") as f:
                    sys.stderr.writelines(f.readlines()[-60:])

    def __exit__(self, kind, value, traceback):
        errors = []
        for load in self.loads:
            if load.process.poll() is None:
                load.process.terminate()
                try:
                    load.process.wait(10 * SLOW)
                except subprocess.TimeoutExpired:
                    load.process.kill()
                    load.process.wait()
            if not kind and not load.checked:
                try:
                    load.check(0)
                except AssertionError as e:
                    errors.append(str(e))
        for name in reversed(list(self.servers)):
            if kind:            # clients may still be connected
                self.kill(name)
                continue
            try:
                self.stop(name)
            except AssertionError as e:
                errors.append(str(e))
        self.watchdog.cancel()
        if kind or errors:
            self.show_logs()
        shutil.rmtree(self.tmp, ignore_errors=True)
        if errors and not kind:
            raise AssertionError("; ".join(errors))
