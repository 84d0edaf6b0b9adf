# SPDX-License-Identifier: BSD-3-Clause
"""Failpoints (common/utils/failpoint.h) for tests that need such a build."""

import contextlib
import os
import signal
import sys

from mirrortest import BUILD, all_stopped, wait_for


def need_failpoints():
    """End the test as skipped if it was built without."""
    with open(os.path.join(BUILD, "config.h"), encoding="ascii") as config:
        if "#define MIRROR_FAILPOINTS 1" not in config.read():
            print("skipped: no --enable-failpoints", file=sys.stderr)
            sys.exit(77)


@contextlib.contextmanager
def failpoint(text):
    """For what is started in this block."""
    os.environ["MIRROR_FAILPOINT"] = text
    try:
        yield
    finally:
        del os.environ["MIRROR_FAILPOINT"]


def stopped(process):
    try:
        return all_stopped(process.pid)
    except FileNotFoundError:           # a thread, or all of it, has ended
        return False


def wait_dead(process, action):
    """Until that action, abort or pause, has happened; one that pauses is
    killed."""
    if action == "pause":
        wait_for(lambda: stopped(process) or process.poll() is not None,
                 "it does not stop", 60)
        assert process.poll() is None, "it has ended"
        process.kill()
    wait_for(lambda: process.poll() is not None, "it does not die", 60)
    want = signal.SIGKILL if action == "pause" else signal.SIGABRT
    assert process.returncode == -want, process.returncode
