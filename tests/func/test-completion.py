#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Completion of nbdmirror in bash: it knows all that the program says of
itself, and only what the program takes."""

import os
import re
import shutil
import socket
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["top_srcdir"], "tests/lib"))
from mirrortest import BUILD, Test, wait_for  # noqa: E402
from runtest import ENVIRONMENT  # noqa: E402

COMPLETION = os.path.join(BUILD, "completions/nbdmirror")
MODES = {"background", "write-blocking", "auto"}
POLICIES = {"report", "ignore", "enospc", "stop"}

# bash breaks a line into words at blanks and at = and :, which are words of
# their own then.
SCRIPT = r"""
. "$1"
COMP_LINE=$2 COMP_POINT=${#2}
COMP_WORDS=()
rest=$2
while [[ $rest =~ ^([[:space:]]*)([=:]+|[^[:space:]=:]+)(.*)$ ]]; do
  COMP_WORDS+=("${BASH_REMATCH[2]}")
  rest=${BASH_REMATCH[3]}
done
[[ $2 != *[[:space:]] ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_nbdmirror
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(line, cwd="/", env=None):
    """What the last word of the line may become."""
    r = subprocess.run(["bash", "-c", SCRIPT, "bash", COMPLETION, line],
                       cwd=cwd, env={**ENVIRONMENT, **(env or {})},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=30, encoding="utf-8",
                       check=False)
    assert r.returncode == 0 and r.stderr == "", (line, r)
    return {word for word in r.stdout.split("\n") if word}


def check(line, want, **kwargs):
    got = complete(line, **kwargs)
    assert got == set(want), (line, got, want)


def nbdmirror(*args):
    r = subprocess.run(["nbdmirror", *args], env=ENVIRONMENT,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       encoding="utf-8", check=False)
    return r.stdout, r.stderr


def check_program():
    """Subcommands and options, by --help."""
    out, _ = nbdmirror("--help")
    names = set(re.findall(r"^  ([a-z]+) ", out, re.M))
    assert "run" in names and "verify" in names, out
    check("nbdmirror ", names)
    check("nbdmirror -", {"-S", "--help", "--version"})
    for name in names:
        out, _ = nbdmirror(name, "--help")
        options = re.findall(r"^      (--?\S+)(?: (\S+))? ", out, re.M)
        assert options or "[OPTIONS]" not in out, out
        check("nbdmirror %s -" % name,
              {"-S", "--help"} | {option for option, _ in options})
        for option, _ in options:
            check("nbdmirror %s %s" % (name, option),
                  {o for o, _ in options if o.startswith(option)})
    check("nbdmirror wa", {"wait", "watch"})
    check("nbdmirror -S x.sock sta", {"start", "status"})
    check("nbdmirror nosuch ", ())
    check("nbdmirror nosuch --", {"--help"})
    check("nbdmirror status ", ())


def check_values():
    check("nbdmirror mode ", MODES)
    check("nbdmirror mode w", {"write-blocking"})
    check("nbdmirror start --copy-mode ", MODES)
    check("nbdmirror start --copy-mode=", MODES)
    check("nbdmirror start --copy-mode=a", {"auto"})
    check("nbdmirror start --speed 1M --copy-mode b", {"background"})
    check("nbdmirror start --speed ", ())
    check("nbdmirror start nbd:", {"//"})
    check("nbdmirror start nbd", {"nbd://", "nbd+unix://", "nbd+vsock://"})
    check("nbdmirror wait ", {"ready", "synced", "completed"})
    check("nbdmirror wait --timeout 5 s", {"synced"})
    check("nbdmirror run --listen u", {"unix:"})


def allowed(*args):
    """The keys that are named where a wrong one is refused."""
    _, err = nbdmirror(*args)
    return set(re.findall(r"([a-z-]+)=[A-Z]", err.partition("allowed are")[2]))


def check_keys():
    settings = allowed("set", "x=1")
    assert "speed" in settings and len(settings) > 4, settings
    check("nbdmirror set ", {key + "=" for key in settings})
    check("nbdmirror set speed=1 copy", {"copy-mode="})
    check("nbdmirror set copy-mode=", MODES)
    check("nbdmirror set on-target-error=", POLICIES)
    check("nbdmirror set speed=1 on-source-error=e", {"enospc"})
    check("nbdmirror set speed=", ())
    # Every key of the filter, but for those that run has options for.
    r = subprocess.run(["nbdkit", "--filter=mirror", "null", "--help"],
                       stdout=subprocess.PIPE, encoding="utf-8", check=True)
    keys = set(re.findall(r"^mirror-([a-z-]+)=", r.stdout, re.M))
    assert "granularity" in keys, r.stdout
    ours = {key for key in keys if "use " in nbdmirror(
        "run", "/nonexistent", "/nonexistent", "-o", key + "=1")[1]}
    assert "speed" in ours and ours < keys, ours
    for option in ("-o", "--copy-mode auto -o"):
        check("nbdmirror run %s " % option, {key + "=" for key in keys - ours})
    check("nbdmirror run -o unmap=", {"true", "false"})
    check("nbdmirror run -o target-flush=d", {"defer"})


def check_files(t):
    for name in ("disk.img", "disk2.img", "other"):
        with open(t.path(name), "wb"):
            pass
    check("nbdmirror run di", {"disk.img", "disk2.img"}, cwd=t.tmp)
    check("nbdmirror run disk.img disk2", {"disk2.img"}, cwd=t.tmp)
    check("nbdmirror run disk.img disk2.img di", (), cwd=t.tmp)
    check("nbdmirror run --bitmap oth", {"other"}, cwd=t.tmp)
    check("nbdmirror -S oth", {"other"}, cwd=t.tmp)
    check("nbdmirror status -S oth", {"other"}, cwd=t.tmp)
    check("nbdmirror start oth", (), cwd=t.tmp)
    check("nbdmirror run --listen unix:oth", {"other"}, cwd=t.tmp)
    assert "cat" in complete("nbdmirror run a b -- ca", cwd=t.tmp)
    check("nbdmirror run a b -- cat oth", {"other"}, cwd=t.tmp)
    check("nbdmirror run a b -- cat -", (), cwd=t.tmp)


def check_sockets(t):
    """Those of the default directory come by themselves."""
    directory = "/run/nbdmirror"
    if os.getuid() != 0:
        directory = t.path("nbdmirror")
    made = not os.path.isdir(directory)
    if made:
        os.mkdir(directory, 0o700)
    path = os.path.join(directory, "%d.completion.sock" % os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.bind(path)
        try:
            env = {"XDG_RUNTIME_DIR": t.tmp}
            assert path in complete("nbdmirror -S ", cwd=t.tmp, env=env)
            check("nbdmirror -S %s" % path[:-1], {path}, cwd=t.tmp, env=env)
        finally:
            os.unlink(path)
            if made and not os.listdir(directory):
                os.rmdir(directory)


def check_terminal(t):
    """With the keys of a real one."""
    if not shutil.which("tmux"):
        print("not checked: a terminal (no tmux)")
        return
    tmux = ["tmux", "-L", "completion%d" % os.getpid(), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "-x", "100", "-y", "20",
                    "env PS1='> ' bash --norc --noprofile"],
                   env={**ENVIRONMENT, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
                   check=True)

    def screen():
        return subprocess.run([*tmux, "capture-pane", "-p"], check=True,
                              stdout=subprocess.PIPE, encoding="utf-8").stdout

    def type_keys(keys, line):
        subprocess.run([*tmux, "send-keys", keys, "Tab"], check=True)
        wait_for(lambda: "> " + line + "\n" in screen(), "no " + line)
        # The cursor tells whether there is a space behind it.
        r = subprocess.run([*tmux, "display", "-p", "#{cursor_x}"], check=True,
                           stdout=subprocess.PIPE, encoding="utf-8")
        column = int(r.stdout) - 2
        subprocess.run([*tmux, "send-keys", "C-u"], check=True)
        wait_for(lambda: "> " + line not in screen(), "C-u")
        return column > len(line)

    try:
        wait_for(lambda: ">" in screen(), "no prompt")
        subprocess.run([*tmux, "send-keys", ". %s; clear" % COMPLETION,
                        "Enter"], check=True)
        wait_for(lambda: "clear" not in screen() and ">" in screen(),
                 "no prompt")
        for keys, line, space in (
                ("nbdmirror statu", "nbdmirror status", True),
                ("nbdmirror set copy-m", "nbdmirror set copy-mode=", False),
                ("nbdmirror set copy-mode=w",
                 "nbdmirror set copy-mode=write-blocking", True),
                ("nbdmirror start nbd+u", "nbdmirror start nbd+unix://",
                 False),
                ("nbdmirror start nbd:", "nbdmirror start nbd://", False),
                ("nbdmirror run -o unmap=t", "nbdmirror run -o unmap=true",
                 True)):
            assert type_keys(keys, line) == space, line
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


with Test() as test:
    check_program()
    check_values()
    check_keys()
    check_files(test)
    check_sockets(test)
    check_terminal(test)
