#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""nbdmirror run with a proxy whose control socket does what it seldom does."""

import os
import shlex
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import TOP, Test, wait_for  # noqa: E402
from runtest import (Run, ended, instead_of_proxy, make_disk,  # noqa: E402
                     read_disk)

SIZE = 1 << 20


def fake(t, mode, *args):
    if os.path.exists(t.path("happened")):
        os.unlink(t.path("happened"))
    env = instead_of_proxy(t, "exec %s %s %s \"$@\"" % (
        shlex.quote(sys.executable),
        shlex.quote(os.path.join(os.path.abspath(TOP),
                                 "tests/lib/fakeproxy.py")), mode))
    return Run(t, "s.img", "nbd://nowhere/", *args, env=env)


def happened(t):
    if not os.path.exists(t.path("happened")):
        return []
    return read_disk(t, "happened").decode("ascii").split("\n")[:-1]


def check_event(t):
    """One that has come along with an answer is heard of.  In that it says that
    the intent file is lost, and there is none any more."""
    with fake(t, "event", "--bitmap", "map") as run:
        run.says("everything, and gives clients SOURCE, even if they are moved")
        run.says("they were held for 1.234 ms")
    ended(t)


def check_late(t):
    """An answer that does not come in time is not taken for another's: it is
    asked through a new connection."""
    with fake(t, "late", "--complete") as run:
        wait_for(lambda: len(happened(t)) > 1, "nothing happens", 60)
        assert happened(t)[:2] == ["complete", "closed"], happened(t)
        run.says("not completed yet: the server does not answer")
    ended(t)


def check_deaf(t):
    """One that neither answers nor ends by SIGTERM is killed."""
    with fake(t, "deaf") as run:
        run.stop(status=3)
        assert happened(t)[0] == "quit", happened(t)
        assert "was killed by signal 9 (Killed) at its end" in run.errors()
    ended(t)


with Test() as test:
    make_disk(test, "s.img", SIZE)
    check_event(test)
    check_late(test)
    check_deaf(test)
