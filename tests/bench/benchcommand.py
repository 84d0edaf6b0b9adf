# SPDX-License-Identifier: BSD-3-Clause
"""The command line of scripts/bench, and the course of a run."""

import argparse
import json
import os
import re
import signal
import sys
import time

import benchcopy
import benchgoals
import benchplot
import benchreport
import benchrows
import benchservers
from benchload import BadOption, Cell

FORMAT = 2                      # of results.json


class Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line, and no usage before it."""
        self.exit(2, "bench: %s\n" % message)


def positive(kind, least, most):
    def parse(text):
        try:
            x = kind(text)
        except ValueError:
            x = None
        if x is None or not least <= x <= most:
            raise argparse.ArgumentTypeError(
                "%r is no number from %g to %g" % (text, least, most))
        return x
    return parse


def pattern(text):
    try:
        return re.compile(text)
    except re.error as e:
        raise argparse.ArgumentTypeError("%r: %s" % (text, e)) from None


def options(description):
    p = Parser(prog="bench", description=description, allow_abbrev=False)
    p.add_argument("--quick", action="store_true",
                   help="fewer and shorter samples: less than 4 minutes")
    p.add_argument("--rows", type=pattern, metavar="PATTERN",
                   help="only rows whose name the regular expression matches")
    p.add_argument("--list", action="store_true", help="list the rows")
    p.add_argument("--cell", action="append", default=[],
                   metavar="rw=write,bs=4k,depth=8,jobs=2,legs=tcp,delay=1ms",
                   help="measure this, and of the rows none but by --rows")
    p.add_argument("--pairs", type=positive(int, 1, 1000), metavar="N",
                   help="samples of each subject of a row")
    p.add_argument("--seconds", type=positive(float, 0.1, 600), metavar="S",
                   help="length of a sample")
    p.add_argument("--threads", type=positive(int, 1, 256), metavar="N",
                   help="threads of our proxy (default: nbdkit's, as nbdmirror"
                   " run has them)")
    p.add_argument("--connections", type=positive(int, 1, 16), metavar="N",
                   help="connections to the target (default: the filter's)")
    p.add_argument("--source", choices=["nbdsource", "nbd"],
                   default="nbdsource",
                   help="plugin of our proxy for a source that is a server"
                   " (default: nbdsource, as nbdmirror run has it)")
    p.add_argument("--source-connections", type=positive(int, 1, 16),
                   metavar="N",
                   help="connections of nbdsource (default: the plugin's)")
    p.add_argument("--dir", default="/var/tmp", metavar="DIR",
                   help="for images of local rows (default: /var/tmp)")
    p.add_argument("--out", default="bench-results", metavar="DIR",
                   help="for the results (default: bench-results)")
    p.add_argument("--markdown", metavar="FILE",
                   help="write tables into FILE, between the marks there")
    p.add_argument("--from", dest="results", metavar="JSON",
                   help="measure nothing; show the results in this file")
    args = p.parse_args()
    try:
        args.selected = select(args)
        if args.markdown:
            benchplot.rewrite(args.markdown, None)
        if not os.path.isdir(args.dir):
            raise BadOption("--dir %s: no such directory" % args.dir)
        args.document = read_results(args.results) if args.results else None
        if os.path.exists(args.out) and not os.path.isdir(args.out):
            raise BadOption("--out %s: not a directory" % args.out)
    except BadOption as e:
        p.error(str(e))
    except OSError as e:
        p.error("%s: %s" % (e.filename, e.strerror))
    if args.source == "nbd" and args.source_connections:
        p.error("--source-connections: the plugin nbd has one")
    args.needs_build = not args.list and not args.results
    return args


def read_results(path):
    try:
        with open(path, encoding="utf-8") as f:
            d = json.load(f)
    except ValueError as e:
        raise BadOption("--from %s: %s" % (path, e)) from None
    if not isinstance(d, dict) or d.get("format") != FORMAT:
        raise BadOption("--from %s: no results of this version" % path)
    return d


def select(args):
    rows = []
    if args.rows or not args.cell:
        rows = [r for r in benchcopy.all_rows(args.quick)
                if not args.rows or args.rows.search(r.name)]
        if not rows:
            raise BadOption("--rows %s: no row has such a name; see --list"
                            % args.rows.pattern)
    for i, text in enumerate(args.cell):
        rows.append(benchrows.TeeRow("cell-%d" % (i + 1),
                                     cell=Cell.parse(text)))
    return rows


def without_build(args):
    if args.document and not args.list:
        show_again(args)
        return 0
    for row in args.selected:
        print("%-18s %1s %s" % (row.name, "*" if row.required else "",
                                row.title))
    return 0


def show_again(args):
    d = args.document
    print(benchreport.header())
    for result in d["rows"]:
        result["verdicts"] = benchgoals.of_row(result)
        benchreport.show(result)
    d["overall"] = benchgoals.overall(d["rows"])
    finish(args, d)


def finish(args, d):
    """Whatever is made of results."""
    benchreport.show_overall(d["overall"])
    os.makedirs(args.out, exist_ok=True)
    made = benchplot.write(args.out, d["rows"], d["machine"])
    if args.markdown:
        benchplot.rewrite(args.markdown, d)
    print("\nIn %s: %s" % (args.out, ", ".join(["results.json"] * (
        args.document is None) + made)))


class Bench:
    """What rows are measured by."""

    def __init__(self, args):
        self.quick = args.quick
        self.asked_pairs = args.pairs
        self.asked_seconds = args.seconds
        self.pairs = args.pairs or (3 if args.quick else 9)
        self.seconds = args.seconds or (0.3 if args.quick else 1)
        self.threads = args.threads
        self.connections = args.connections
        self.source = args.source
        self.source_connections = args.source_connections
        self.directory = args.dir
        self.qemu = benchservers.have_qemu()

    def ours_options(self):
        return {"threads": self.threads, "connections": self.connections,
                "plugin": self.source,
                "source_connections": self.source_connections}

    @staticmethod
    def progress(row, turn, turns, name):
        if sys.stderr.isatty():
            print("%-14s   %d/%d %-12s\r" % (row.name, turn + 1, turns, name),
                  end="", file=sys.stderr, flush=True)


def document(bench, results, machine, took):
    return {"format": FORMAT, "quick": bench.quick, "pairs": bench.pairs,
            "seconds": bench.seconds, "threads": bench.threads,
            "connections": bench.connections, "source": bench.source,
            "source_connections": bench.source_connections,
            "machine": machine,
            "took": took, "rows": results,
            "overall": benchgoals.overall(results)}


def run(args):
    # Servers are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(args)
    machine = benchreport.machine()
    os.makedirs(args.out, exist_ok=True)
    if not bench.qemu:
        print("There is no qemu-storage-daemon: without that peer.")
    began = time.monotonic()
    results = []
    print(benchreport.header())
    for row in args.selected:
        result = row.run(bench).as_dict()
        result["verdicts"] = benchgoals.of_row(result)
        results.append(result)
        benchreport.show(result)
        if row.name.startswith("cell-"):
            print("    " + row.title)
        benchreport.write_json(
            os.path.join(args.out, "results.json"),
            document(bench, results, machine, time.monotonic() - began))
    finish(args, document(bench, results, machine, time.monotonic() - began))
    return 1 if any(r["error"] for r in results) else 0
