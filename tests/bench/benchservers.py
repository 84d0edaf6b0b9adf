# SPDX-License-Identifier: BSD-3-Clause
"""The servers and proxies of scripts/bench.

A proxy of each kind gets a source and a target of its own, so that at the end
both can be compared; none of them has anything to do while another is
measured.
"""

import os
import shutil
import socket
import subprocess
import time

from mirrortest import MIRRORCMP, Test, wait_for
from qmp import QMP

import benchload

LONG = 120                      # seconds for what should take a few


class Address:
    """Where a server listens: a Unix socket, or a port of 127.0.0.1."""

    def __init__(self, t, name, tcp):
        self.path = t.path(name + ".sock")
        self.port = None
        if tcp:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                self.port = s.getsockname()[1]

    def uri(self):
        if self.port:
            return "nbd://127.0.0.1:%d/" % self.port
        return "nbd+unix:///?socket=" + self.path

    def nbdkit(self):
        """Options by which nbdkit listens there."""
        if self.port:
            return ["-i", "127.0.0.1", "-p", str(self.port)]
        return ["-U", self.path]

    def qemu(self, prefix):
        """The same for a QEMU's --blockdev or --nbd-server."""
        if self.port:
            return "%stype=inet,%shost=127.0.0.1,%sport=%d" % (
                prefix, prefix, prefix, self.port)
        return "%stype=unix,%spath=%s" % (prefix, prefix, self.path)


def have_qemu():
    return shutil.which("qemu-storage-daemon") is not None


class Servers(Test):
    """A Test that starts other servers, too."""

    def __init__(self):
        super().__init__()
        self.addresses = {}
        self.files = []         # elsewhere, to be removed

    def __exit__(self, *exc):
        try:
            super().__exit__(*exc)
        finally:
            for path in self.files:
                if os.path.exists(path):
                    os.unlink(path)

    def start(self, name, command):
        if os.path.exists(self.path(name + ".sock")):
            os.unlink(self.path(name + ".sock"))
        with open(self.path(name + ".log"), "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        self.servers[name] = process
        return process

    def alive(self, name):
        status = self.servers[name].poll()
        if status is None:
            return True
        with open(self.path(name + ".log"), errors="replace",
                  encoding="utf-8") as f:
            raise RuntimeError("%s ended with status %d: %s" % (
                name, status, " ".join(f.read().split())[-300:]))

    def serve(self, name, *args, tcp=False, options=()):
        """An nbdkit.  Returns when it can be connected to."""
        address = self.addresses[name] = Address(self, name, tcp)
        pidfile = self.path(name + ".pid")
        if os.path.exists(pidfile):
            os.unlink(pidfile)
        process = self.start(name, [
            "nbdkit", "-f", "-P", pidfile, *address.nbdkit(), *options, *args])
        wait_for(lambda: self.alive(name) and os.path.exists(pidfile) and
                 os.path.getsize(pidfile) > 0, name + " does not start")
        return process

    def address(self, name):
        return self.addresses[name]

    def equal(self, a, b):
        """Of servers, or paths.  Other servers than those may be busy."""
        def where(x):
            return x if x.startswith("/") else self.addresses[x].uri()
        r = subprocess.run([MIRRORCMP, where(a), where(b)], check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
        if r.returncode not in (0, 1):
            raise RuntimeError("mirrorcmp: " + r.stdout.strip())
        return r.returncode == 0


class Proxy:
    """What ours and QEMU's have in common.  name + ".source" and
    name + ".target" are its servers; source may be a path instead."""

    def __init__(self, t, name, source, target, tcp=False):
        self.t = t
        self.name = name
        self.source = source
        self.target = target
        self.tcp = tcp
        self.process = None

    def uri(self):
        return self.t.address(self.name).uri()

    def control(self):
        return QMP(self.t.path(self.name + ".ctl"), timeout=LONG)

    def stop(self):
        self.t.stop(self.name)

    def job(self, q):
        self.t.alive(self.name)
        job = q.job()
        if job is None:
            raise RuntimeError("%s: the job has ended" % self.name)
        return job

    def all_copied(self, q):
        job = self.job(q)
        return job["len"] == job["offset"]

    def wait_ready(self, timeout=LONG, step=0.002):
        """False: not by then."""
        deadline = time.monotonic() + timeout
        with self.control() as q:
            while not self.job(q)["ready"]:
                if time.monotonic() > deadline:
                    return False
                time.sleep(step)
        return True

    def cancel(self):
        with self.control() as q:
            q.command("block-job-cancel", device="mirror", force=True)
            q.wait(lambda q: q.job() is None, LONG)

    def equal(self):
        """No client is there any more: ends the job, which then has equal
        sides.  To wait until it tells that nothing is left is not enough:
        QEMU's knows only after a while of what has become dirty."""
        if not self.wait_ready():
            raise RuntimeError(self.name + " does not get ready")
        with self.control() as q:
            q.command("block-job-cancel", device="mirror")
            q.wait(lambda q: q.job() is None, LONG)
        return self.t.equal(self.source, self.target)

    def sample(self, cell, seconds):
        self.t.watchdog_again()
        return benchload.measure(cell, self.uri(), self.process.pid, seconds,
                                 self.t.path(self.name + ".json"))


class Ours(Proxy):
    def __init__(self, t, name, source, target, tcp=False, threads=None,
                 connections=None, plugin="nbdsource",
                 source_connections=None):
        super().__init__(t, name, source, target, tcp)
        self.client = plugin
        self.client_keys = ["connections=%d" % source_connections] \
            if source_connections else []
        self.options = ["-t", str(threads)] if threads else []
        self.keys = ["mirror-control=" + t.path(name + ".ctl")]
        if connections:
            self.keys.append("mirror-connections=%d" % connections)

    def plugin(self):
        if self.source.startswith("/"):
            return ["file", self.source]
        return [self.client, "uri=" + self.t.address(self.source).uri(),
                *self.client_keys]

    def start(self, *keys):
        self.process = self.t.serve(
            self.name, "--filter=mirror", *self.plugin(), *self.keys, *keys,
            tcp=self.tcp, options=self.options)

    def start_mirrored(self, mode="write-blocking"):
        """With a job from the start."""
        self.start("mirror-target=" + self.t.address(self.target).uri(),
                   "mirror-copy-mode=" + mode)

    def mirror(self, mode, speed=0):
        """Start a job."""
        with self.control() as q:
            q.command("blockdev-mirror", sync="full", copy_mode=mode,
                      target=self.t.address(self.target).uri(), speed=speed)

    def wait_synced(self):
        with self.control() as q:
            q.wait(lambda q: q.mirror()["job"]["actively-synced"], LONG)


class Qemu(Proxy):
    """The export is on the source's node, above which the job inserts its
    filter: then what clients write passes through that."""

    def start(self):
        t = self.t
        address = t.addresses[self.name] = Address(t, self.name, self.tcp)
        source = "driver=nbd," + t.address(self.source).qemu("server.") \
            if not self.source.startswith("/") else \
            "driver=file,filename=%s,cache.direct=off,aio=threads" \
            % self.source
        control = t.path(self.name + ".ctl")
        if os.path.exists(control):
            os.unlink(control)
        self.process = t.start(self.name, [
            "qemu-storage-daemon",
            "--blockdev", source + ",node-name=source,discard=unmap",
            "--blockdev", "driver=nbd,%s,node-name=target,discard=unmap"
            % t.address(self.target).qemu("server."),
            "--nbd-server", address.qemu("addr.") + ",max-connections=0",
            "--export",
            "type=nbd,id=disk,node-name=source,name=,writable=on",
            "--chardev", "socket,id=ctl,path=%s,server=on,wait=off" % control,
            "--monitor", "chardev=ctl"])
        wait_for(lambda: t.alive(self.name) and self.listens(),
                 self.name + " does not start")

    def listens(self):
        """The monitor is the last that it makes."""
        try:
            self.control().close()
            return True
        except (FileNotFoundError, ConnectionError, EOFError):
            return False

    def mirror(self, mode, speed=0):
        with self.control() as q:
            q.command("blockdev-mirror", job_id="mirror", device="source",
                      target="target", sync="full", copy_mode=mode,
                      speed=speed)

    def start_mirrored(self, mode="write-blocking"):
        self.start()
        self.mirror(mode)

    def wait_synced(self):
        """There is no such thing: ready, and nothing is left."""
        with self.control() as q:
            q.wait(self.all_copied, LONG)
