# SPDX-License-Identifier: BSD-3-Clause
"""The unit nbdmirror@.service, as systemd would run it.

    unit = Unit(t, "disk", 'SOURCE=s.img\\nTARGET=...')
    unit.argv, unit.environment

Of systemd.service(5) only what the unit uses: %i and %S, settings of an
environment file, ${NAME} as one word and $NAME as any number of words.  Sockets
are in t's directory, and the program is the one that was built.
"""

import os
import re
import shlex

from mirrortest import BUILD

PATH = os.path.join(BUILD, "systemd/nbdmirror@.service")


def assignments(text):
    """What an environment file sets."""
    found = {}
    for line in text.splitlines():
        if line and line[0] not in "#;":
            name, _, value = line.partition("=")
            value = value.strip()
            if value[:1] in "'\"":
                value = shlex.split(value)[0]
            found[name] = value
    return found


class Unit:
    def __init__(self, t, instance, config):
        with open(PATH, encoding="utf-8") as f:
            self.text = f.read()
        self.directory = t.path("unit")
        if not os.path.isdir(self.directory):
            os.mkdir(self.directory, 0o700)
        self.instance = instance
        self.environment = {}
        for line in self.values("Environment"):
            self.environment.update(assignments(self.place(line)))
        self.environment.update(assignments(config))
        (line,) = self.values("ExecStart")
        self.argv = []
        for word in shlex.split(line):
            self.argv += self.expand(self.place(word))
        assert self.argv[0].endswith("/nbdmirror"), self.argv
        self.argv[0] = "nbdmirror"

    def values(self, key):
        """All of that key, in order."""
        return re.findall(r"^%s=(.*)$" % key, self.text, re.M)

    def place(self, text):
        text = text.replace("%i", self.instance)
        assert "%" not in text, text
        return text.replace("/run/nbdmirror", self.directory)

    def expand(self, word):
        if re.match(r"\$\w+$", word):
            return shlex.split(self.environment.get(word[1:], ""))
        return [re.sub(r"\$\{(\w+)\}",
                       lambda m: self.environment.get(m.group(1), ""), word)]
