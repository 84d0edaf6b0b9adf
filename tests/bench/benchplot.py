# SPDX-License-Identifier: BSD-3-Clause
"""The plot and the Markdown table of scripts/bench, from the JSON file."""

import os
import shutil
import subprocess

from benchload import BadOption, quartiles
from benchreport import lines

BEGIN = "<!-- scripts/bench --markdown: begin -->"
END = "<!-- scripts/bench --markdown: end -->"

SCRIPT = """\
# Written by scripts/bench; gnuplot ratios.gp makes ratios.png and ratios.svg.
set title "%(title)s"
set ylabel "times as fast (more is better; quartiles)"
set logscale y 2
set yrange [%(low)g:%(high)g]
set xrange [-0.7:%(rows)d-0.3]
set grid ytics
set xtics rotate by -55 left noenhanced
set key outside top center horizontal
set style fill solid 0.8 noborder
set boxwidth 0.7
set bmargin 9
set rmargin 7
do for [kind in "png svg"] {
  if (kind eq "png") {
    set terminal pngcairo size 1200,640 font "sans,10"
  } else {
    set terminal svg size 1200,640 font "sans,10" background "white"
  }
  set output "ratios." . kind
  plot 1 with lines dashtype 2 linecolor 'black' notitle, \\
    2 with lines dashtype 3 linecolor 'gray40' notitle, \\
    'ratios.dat' using ($2==1?$0:NaN):4 with boxes \\
      linecolor rgb '#3070b0' title 'required rows', \\
    '' using ($2==0?$0:NaN):4 with boxes linecolor rgb '#a0b8d0' \\
      title 'others', \\
    '' using 0:4:3:5:xtic(1) with yerrorbars pointtype 7 pointsize 0.3 \\
      linecolor 'black' linewidth 1.5 notitle
}
"""


def write(directory, rows, machine):
    """Returns the names of files made."""
    found = []
    for r in rows:
        ratios = r["ratios"].get(r["baseline"])
        if ratios and not r["error"]:
            found.append((r["name"], r["required"], quartiles(ratios)))
    if not found:
        return []
    with open(os.path.join(directory, "ratios.dat"), "w",
              encoding="utf-8") as f:
        f.write("# row, required, quartiles of the ratios\n")
        for name, required, q in found:
            f.write('"%s" %d %g %g %g\n' % (name, required, *q))
    low = min([0.5] + [q[0] / 1.1 for _, _, q in found])
    high = max([4] + [q[2] * 1.2 for _, _, q in found])
    with open(os.path.join(directory, "ratios.gp"), "w",
              encoding="utf-8") as f:
        f.write(SCRIPT % {
            "title": "nbdkit with the filter mirror, against QEMU %s "
            "(idle rows: nbdkit without it)" % machine["qemu"],
            "low": low, "high": high, "rows": len(found)})
    made = ["ratios.dat", "ratios.gp"]
    if shutil.which("gnuplot") is None:
        print("There is no gnuplot: ratios.gp is written, but no picture.")
        return made
    r = subprocess.run(["gnuplot", "ratios.gp"], cwd=directory, check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True)
    if r.returncode != 0:
        print("gnuplot: " + r.stdout.strip())
        return made
    return made + ["ratios.png", "ratios.svg"]


# -- docs/performance.md ----------------------------------------------------

def table(head, rows):
    return ["| " + " | ".join(str(c) for c in line) + " |"
            for line in [head, ["---"] * len(head)] + rows] + [""]


def about(d):
    m = d["machine"]
    return [
        "%d samples of %g s of each subject and row (copies: see below), in "
        "turns; %s%d min altogether." % (
            d["pairs"], d["seconds"], "`--quick`; " if d["quick"] else "",
            max(1, round(d["took"] / 60))),
        "",
        "* %d cores (%s), Linux %s" % (m["cores"], m["processor"],
                                       m["kernel"]),
        "* nbdkit %s, libnbd %s, QEMU %s, fio %s" % (
            m["nbdkit"], m["libnbd"], m["qemu"], m["fio"]),
        "* threads of the proxy: %s; connections to the target: %s; source: "
        "plugin `%s`%s, or `file` where it is local" % (
            d["threads"] or "nbdkit's default",
            d["connections"] or "the filter's default", d["source"],
            ", %d connections" % d["source_connections"]
            if d["source_connections"] else ""), ""]


def all_rows(rows):
    """The table, as on the terminal but with titles."""
    table_rows = []
    for r in rows:
        for line in lines(r):
            name, star, ours, theirs, peer, ratio, quarter, *more = line
            cpu, p50, p99, p999, verdict = more
            table_rows.append([
                "**%s**" % r["title"] if star else r["title"] if name else "",
                ours, theirs, peer, ratio, quarter, cpu, p50, p99, p999,
                verdict])
    return table(["work", "ours", "peer", "", "ratio", "quartiles",
                  "CPU µs", "p50 µs", "p99 µs", "p99.9 µs", "goal"],
                 table_rows)


def markdown(d):
    rows = d["rows"]
    text = about(d)
    text += ["### Goals", ""] + table(
        ["goal", "", ""], [[v["name"], v["figure"], v["verdict"]]
                           for v in d["overall"]])
    text += ["### Rows", "", "Bold: required.", ""] + all_rows(rows)
    for r in rows:
        for note in r["notes"] + ([r["error"]] if r["error"] else []):
            text.append("* %s: %s" % (r["name"], note))
    return text + ([] if text[-1] == "" else [""])


def rewrite(path, d):
    """What stands between the two marks is replaced."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadOption("--markdown %s: it has no lines %s and %s" % (
            path, BEGIN, END))
    if d is None:
        return
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join([before + BEGIN, "", *markdown(d), END + after]))
