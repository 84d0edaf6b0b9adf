#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What is exported is what the source exports: size and flags, with and
without a mirror."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import Test  # noqa: E402

import nbd  # noqa: E402


def facts(uri):
    h = nbd.NBD()
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_uri(uri)
    f = {
        "size": h.get_size(),
        "read-only": h.is_read_only(),
        "flush": h.can_flush(),
        "fua": h.can_fua(),
        "zero": h.can_zero(),
        "fast-zero": h.can_fast_zero(),
        "trim": h.can_trim(),
        "multi-conn": h.can_multi_conn(),
        "cache": h.can_cache(),
        "df": h.can_df(),
        "extents": h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION),
        "min": h.get_block_size(nbd.SIZE_MINIMUM),
        "preferred": h.get_block_size(nbd.SIZE_PREFERRED),
        "max": h.get_block_size(nbd.SIZE_MAXIMUM),
    }
    extents = []

    def extent(_context, _offset, entries, _error):
        extents.extend(entries)

    if f["extents"] and f["size"]:
        # Two extents: data, then a hole.
        if not f["read-only"]:
            try:
                h.pwrite(b"x" * 65536, 0)
            except nbd.Error as e:
                f["error"] = e.errno
        h.block_status(min(f["size"], 1 << 20), 0, extent)
    h.shutdown()
    # A server may tell more than was asked for.
    f["map"], left = [], 1 << 20
    for length, kind in zip(extents[::2], extents[1::2]):
        if left > 0:
            f["map"].append((min(length, left), kind))
        left -= length
    return f


with Test() as t:
    disk = t.path("disk")
    with open(disk, "wb") as f:
        f.truncate((4 << 20) + 123)
    sources = {
        "memory": ["memory", "4M"],
        "file": ["file", disk],
        "no zero, no extents": ["--filter=nozero", "--filter=noextents",
                                "memory", "4M"],
        "zero emulated": ["--filter=nozero", "memory", "4M",
                          "zeromode=emulate"],
        "no fast zero": ["--filter=nozero", "memory", "4M",
                         "zeromode=plugin", "fastzeromode=none"],
        "fast zero slow": ["--filter=nozero", "memory", "4M",
                           "zeromode=plugin", "fastzeromode=slow"],
        "no fua": ["--filter=fua", "memory", "4M"],
        "no cache": ["--filter=nocache", "memory", "4M", "cachemode=none"],
        "block sizes": ["--filter=blocksize-policy", "memory", "4M",
                        "blocksize-minimum=512", "blocksize-preferred=64K",
                        "blocksize-maximum=1M"],
        "no multi-conn": ["--filter=multi-conn", "memory", "4M",
                          "multi-conn-mode=disable"],
        "data": ["data", "data=1", "size=4M"],
        "no flush": ["full", "4M"],
        "read-only": ["-r", "memory", "4M"],
        "no trim": ["eval", "get_size=echo 1048576", "can_write=exit 0",
                    "thread_model=echo parallel",
                    "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null"],
    }
    if os.environ.get("MIRROR_SANITIZER", "no") != "no":
        # The run-time library is preloaded into eval's shells, too, and now
        # and then kills one.
        del sources["no trim"]
    if os.environ.get("MIRROR_VALGRIND"):
        # nbdkit's multi-conn filter forgets 8 bytes of each handle.
        del sources["no multi-conn"]
    t.nbdkit("target", "memory", "8M")
    for name, args in sources.items():
        t.nbdkit("plain", *args)
        want = facts(t.uri("plain"))
        t.stop("plain")
        with open(disk, "wb") as f:
            f.truncate((4 << 20) + 123)
        for mirror in (False, True):
            t.mirror(*args)
            if mirror:
                with t.qmp() as qmp:
                    qmp.command("blockdev-mirror", job_id="mirror",
                                sync="full", target=t.uri("target"))
                    qmp.wait(lambda q: q.job()["ready"], 30)
            have = facts(t.uri("proxy"))
            for key, value in want.items():
                assert have[key] == value, "%s, %s: %s is %s, not %s" % (
                    name, "mirror" if mirror else "idle", key, have[key],
                    value)
            t.stop("proxy")
