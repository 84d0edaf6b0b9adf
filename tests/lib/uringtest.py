# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the plugin uring have in common.

    with Mount(t, "ext4", 32 << 20) as directory:
    with Loop(path, "--sector-size", "4096") as device:

Mounts and loop devices need root, and a kernel that has them; where they
cannot be had, None is what they are.
"""

import os
import subprocess

import nbd

from mirrortest import BUILD

NO_URING = os.path.join(BUILD, "tests/tools/no-uring")

# What may be asked of the plugin; the first is the default.
MODES = ([], ["uring=off"], ["direct=off"], ["direct=off", "cache=none"])


def run(*words):
    """Does the command succeed?"""
    return subprocess.run(words, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL,
                          check=False).returncode == 0


def is_root():
    return os.geteuid() == 0


class Loop:
    def __init__(self, path, *options):
        self.path = path
        self.options = options
        self.device = None

    def __enter__(self):
        if is_root():
            made = subprocess.run(
                ["losetup", "-f", "--show", *self.options, self.path],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                check=False)
            if made.returncode == 0:
                self.device = made.stdout.strip()
        return self.device

    def __exit__(self, kind, value, traceback):
        if self.device:
            assert run("losetup", "-d", self.device)


class Mount:
    """A new file system of that kind and size."""

    def __init__(self, t, kind, size):
        self.t = t
        self.kind = kind
        self.size = size
        self.directory = None

    def __enter__(self):
        where = self.t.path("mnt." + self.kind)
        os.makedirs(where, exist_ok=True)
        options = []
        if self.kind == "tmpfs":
            options = ["-t", "tmpfs", "-o", "size=%d" % self.size, "tmpfs"]
        elif is_root():
            image = self.t.path("fs." + self.kind)
            with open(image, "wb") as f:
                f.truncate(self.size)
            if not run("mkfs." + self.kind, "-q", image):
                return None
            options = ["-o", "loop", image]
        if is_root() and run("mount", *options, where):
            self.directory = where
        return self.directory

    def __exit__(self, kind, value, traceback):
        if self.directory:
            assert run("umount", self.directory), "cannot be unmounted"


def connect(t, name):
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_strict_mode(0)
    h.connect_uri(t.uri(name))
    return h


def result(handle, op):
    """What a method of nbd.NBD, its name and arguments, returns or fails by."""
    try:
        return getattr(handle, op[0])(*op[1])
    except nbd.Error as e:
        return "error %s" % e.errno


def error_of(function, *args):
    """Its errno, or None."""
    try:
        function(*args)
    except nbd.Error as e:
        return e.errno
    return None
