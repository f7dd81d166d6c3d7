# SPDX-License-Identifier: GPL-2.0-only
"""The cases, and queues of them from which several nested hosts take."""
import collections
import fcntl
import re

# timeout: seconds; cpus, and xen, more of Xen's command line: of the host that it needs
Case = collections.namedtuple("Case", "name timeout cpus xen on_request every_kernel")


def all_cases(folder):
    """The cases in a directory by name, with what the comments at their beginning say of them."""
    return [load(path) for path in sorted(folder.iterdir())]


def load(path):
    text = path.read_text()

    def number(key, default):
        found = re.search(rf"^# {key}: (\d+)$", text, re.MULTILINE)
        return int(found.group(1)) if found else default

    def text_of(key):
        found = re.search(rf"^# {key}: (.+)$", text, re.MULTILINE)
        return found.group(1) if found else ""

    def has(line):
        return re.search(f"^# {line}", text, re.MULTILINE) is not None

    return Case(path.name, number("timeout", 120), number("cpus", 1), text_of("xen"),
                has("on request"), has("every kernel$"))


class Queue:
    """A file of cases, a name a line, from which processes take under a lock."""

    def __init__(self, path):
        self.path = path

    @classmethod
    def fill(cls, path, chosen):
        """A new queue, the longest first: so its hosts end at about the same time."""
        order = sorted(chosen, key=lambda case: -case.timeout)
        path.write_text("".join(f"{case.name}\n" for case in order))
        return cls(path)

    def names(self):
        return self.path.read_text().split()

    def put_back(self, name):
        """Lets another host run it. False if that was done before: once is enough."""
        with open(f"{self.path}-again", "a+") as again:
            fcntl.flock(again, fcntl.LOCK_EX)
            again.seek(0)
            if name in again.read().split():
                return False
            again.write(f"{name}\n")
        with open(self.path, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(f"{name}\n")
        return True

    def take(self):
        """Removes the first and returns its name; None when there is none."""
        with open(self.path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            names = file.read().split()
            if not names:
                return None
            file.seek(0)
            file.truncate()
            file.write("".join(f"{name}\n" for name in names[1:]))
            return names[0]
