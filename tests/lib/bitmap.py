# SPDX-License-Identifier: BSD-3-Clause
"""What an intent file says, and what differs between two images."""

import os
import subprocess

from mirrortest import BUILD

BLOCK = 512
REGION = 1 << 20


def nbdmirror_bitmap(path, *options):
    return subprocess.run([os.path.join(BUILD, "nbdmirror"), "bitmap", path,
                           *options], check=True, capture_output=True,
                          text=True).stdout


def dirty_ranges(path):
    return [tuple(int(x) for x in line.split())
            for line in nbdmirror_bitmap(path, "--ranges").splitlines()]


def header(path):
    """The words of each line, by the first."""
    return {line.split()[0]: " ".join(line.split()[1:])
            for line in nbdmirror_bitmap(path).splitlines()}


def covered(ranges, offset):
    return any(start <= offset < start + length for start, length in ranges)


def differing(a, b):
    """Offsets of blocks that differ."""
    with open(a, "rb") as f, open(b, "rb") as g:
        offset = 0
        while True:
            x, y = f.read(1 << 20), g.read(1 << 20)
            assert len(x) == len(y), "the disks are not of one size"
            if not x:
                return
            if x != y:
                for at in range(0, len(x), BLOCK):
                    if x[at:at + BLOCK] != y[at:at + BLOCK]:
                        yield offset + at
            offset += len(x)


def check_recorded(path, a, b):
    """Whatever differs is in the file (rule I2).  Returns how many bytes are.
    """
    ranges = dirty_ranges(path)
    for at in differing(a, b):
        assert covered(ranges, at), "%d differs, but is not in %s" % (at,
                                                                      ranges)
    return sum(length for _, length in ranges)
