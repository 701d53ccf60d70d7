"""Processor seconds of what a Spark job runs on: the JVM, its Python workers, and the server.

On a machine that others use too, wall time says how busy it was; these say what a job cost. Read from Linux's /proc. The JVM is the
one Java process below this one, the workers whatever Python runs below that; neither knows what is measured.
"""

import os
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Seconds:
    """Since each process began, or between two moments."""

    jvm: float
    workers: float
    server: float

    @property
    def all(self):
        return self.jvm + self.workers + self.server

    def __sub__(self, earlier):
        return Seconds(self.jvm - earlier.jvm, self.workers - earlier.workers, self.server - earlier.server)

    def __truediv__(self, amount):
        return Seconds(self.jvm / amount, self.workers / amount, self.server / amount)


@dataclass(frozen=True)
class _Process:
    parent: int
    name: str
    own: float
    #: Of its children that have ended and were waited for.
    ended: float


def spent(server):
    """What has been spent until now; `server` is the server's process id."""
    processes = dict(_processes())
    children = {}
    for number, process in processes.items():
        children.setdefault(process.parent, []).append(number)
    jvm = next(number for number in _below(os.getpid(), children) if processes[number].name == "java")
    workers = [processes[number] for number in _below(jvm, children)]
    return Seconds(processes[jvm].own, sum(each.own + each.ended for each in workers), processes[server].own)


def _below(number, children):
    for child in children.get(number, []):
        yield child
        yield from _below(child, children)


def _processes():
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        name, after = words[words.index("(") + 1 : words.rindex(")")], words[words.rindex(")") + 2 :].split()
        user, system, ended_user, ended_system = (int(value) / TICKS for value in after[11:15])
        yield int(folder.name), _Process(int(after[1]), name, user + system, ended_user + ended_system)
