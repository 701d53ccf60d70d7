"""Interleaved pairs, the machine and its floors, and the page that is kept."""

import datetime
import json
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Result:
    """One comparison: the same work by us and by a peer, in turns."""

    what: str
    unit: str
    peer: str = "none"
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    bar: str = ""
    floor: str = ""
    limit: str = ""
    versions: set[str] = field(default_factory=set)
    #: For what is waited for: the ratio is then theirs / ours, so that above 1 stays ahead of the peer.
    less_is_better: bool = False

    @property
    def ratio(self):
        """Median over the pairs of ours / theirs."""
        return ratio(self.ours, self.theirs, self.less_is_better) if self.theirs else None

    def row(self):
        ratio = f"{self.ratio:.2f}x" if self.theirs else "–"
        theirs = number(statistics.median(self.theirs)) if self.theirs else "–"
        return [self.what, number(statistics.median(self.ours)), self.peer, theirs, ratio, self.bar or "–", self.unit]


def ratio(ours, theirs, less_is_better=False):
    """Median over the pairs; above 1 we are ahead."""
    return statistics.median(b / a if less_is_better else a / b for a, b in zip(ours, theirs, strict=True))


def take_turns(sides, rounds, said):
    """Runs every one of `sides` (a function by name) once a round; what each answered, by name.

    Who begins changes with the round, and every second round goes backwards. `said` makes a few words of an answer.
    """
    answers, names = {name: [] for name in sides}, list(sides)
    for turn in range(rounds):
        first = turn % len(names)
        order = names[first:] + names[:first]
        for name in order if turn % 2 == 0 else reversed(order):
            answers[name].append(sides[name]())
        words = ", ".join(f"{name} {said(answers[name][-1])}" for name in names)
        print(f"    round {turn + 1}: {words}", flush=True)
    return answers


def pairs(result, ours, theirs, rounds):
    """Runs both in turns, the order changing each time, so that a slow moment of the machine meets both."""
    for turn in range(rounds):
        sides = [(result.ours, ours), (result.theirs, theirs)]
        for kept, run in sides if turn % 2 == 0 else reversed(sides):
            if run is not None:
                kept.append(run())
        print(f"  {result.what}, round {turn + 1}: {number(result.ours[-1])}", end="", flush=True)
        print(f" against {number(result.theirs[-1])} {result.unit}" if result.theirs else f" {result.unit}", flush=True)
    return result


def peer(result, python, script, *arguments):
    """A function that runs a peer's command and reads the `value` of the JSON it prints."""

    def run():
        command = [python, str(ROOT / "benches/peers" / script), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        result.versions.add(answer["version"])
        return answer["value"]

    return run


def has(python, *modules):
    """Whether the peers' Python can import these; says so when it cannot."""
    done = subprocess.run([python, "-c", "import " + ", ".join(modules)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"  peer passed over: {python} lacks one of {', '.join(modules)}; pip install -r benches/peers/requirements.txt")
    return done.returncode == 0


def number(value):
    """1234567 as 1.23 M: three figures that can be read."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


# -- floors: what the machine can do at all, measured in the same run -----------------------------------------------


def multiply_flops(threads=2):
    """float32 multiply-adds per second times two, in NumPy's matrix product on so many threads, each with a core's BLAS."""
    size, seconds = 1024, 0.7
    done = []

    def work():
        left, right = (np.random.default_rng(1).standard_normal((size, size)).astype(np.float32) for _ in range(2))
        out, count, start = np.empty_like(left), 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            np.matmul(left, right, out=out)
            count += 1
        done.append(count * 2 * size**3 / (time.perf_counter() - start))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    with threadpool_limits(1):
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return sum(done)


def loopback_bytes(total=1 << 30):
    """Bytes per second of one plain TCP stream over loopback, 1 MiB at a time, nothing done with them."""
    listener = socket.create_server(("127.0.0.1", 0))
    block = bytearray(1 << 20)

    def send():
        with socket.create_connection(listener.getsockname()) as sender:
            for _ in range(total >> 20):
                sender.sendall(block)

    sender = threading.Thread(target=send)
    start = time.perf_counter()
    sender.start()
    taken, into = 0, bytearray(1 << 20)
    with listener, listener.accept()[0] as receiver:
        while count := receiver.recv_into(into):
            taken += count
    sender.join()
    return taken / (time.perf_counter() - start)


def copy_bytes(total=1 << 30):
    """Bytes per second copied from memory to memory by one thread."""
    source = np.ones(1 << 25, np.float64)
    target = np.empty_like(source)
    np.copyto(target, source)
    start, rounds = time.perf_counter(), max(1, total // source.nbytes)
    for _ in range(rounds):
        np.copyto(target, source)
    return rounds * source.nbytes / (time.perf_counter() - start)


def disk_bytes(directory, total=1 << 29):
    """Bytes per second written and made durable in one file."""
    block = os.urandom(1 << 22)
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        start = time.perf_counter()
        for _ in range(total // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return total / (time.perf_counter() - start)


# -- the page -------------------------------------------------------------------------------------------------------


def machine():
    """Processor, cores, memory, system."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = ".".join(platform.release().split(".")[:2])
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} {release}; load {load}"


def version_of(binary):
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "volary (version unknown)"


def commit():
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def table(rows, header):
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


HEADER = ["what", "volary", "peer", "peer's", "ratio", "bar", "unit"]


def command_line():
    """The command that runs, as someone else would give it."""
    words = " ".join(["python", "benches/run.py", *_without_places(sys.argv[1:])])
    return re.sub(r"(--reviews[ =])\S+", r"\1FILE", words)


def _without_places(arguments):
    """The command line without what only means something on this machine: where things lie."""
    kept, places = iter(arguments), ("--out", "--work", "--python")
    return [each for each in kept if not (each in places and next(kept, True)) and not each.startswith(tuple(f"{p}=" for p in places))]


def what_limits(results):
    """Floor and limit, each said once with all that it is said of."""
    said = {}
    for result in results:
        words = f"{result.floor} {result.limit}".strip()
        if words and result.what not in said.setdefault(words, []):
            said[words].append(result.what)
    return {tuple(of): words for words, of in said.items()}


def opening(title, binary, peers=()):
    """The head of a page: what ran where, and how to read its ratios. `peers` are their versions."""
    versions = sorted({version_of(binary), f"python {platform.python_version()}", f"pyarrow {pa.__version__} (client)"})
    versions += sorted(set(peers) - set(versions))
    return [
        f"# {title}, {datetime.date.today().isoformat()}", "",
        f"* machine: {machine()}", f"* versions: {'; '.join(versions)}; commit {commit()}", f"* command: `{command_line()}`", "",
        "Medians; the ratio is the median over pairs that ran in turns. Above 1 is faster than the peer.", "",
    ]  # fmt: skip


def keep(page, what, directory, name=None):
    """Writes `<date>-<what>.md`, or a page of its own name, and says where."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (name or f"{datetime.date.today().isoformat()}-{what}.md")
    path.write_text("\n".join(page).rstrip() + "\n")
    print(f"\nwritten: {path}\n", flush=True)


def write_page(what, title, results, binary, directory, method="", name=None, further=()):
    """A page of comparisons with one peer each: the table, what limits, `further` lines, and every raw number."""
    page = opening(title, binary, set().union(*(result.versions for result in results)))
    page += [method, ""] if method else []
    page += [table([result.row() for result in results], HEADER), ""]
    for comparisons, words in what_limits(results).items():
        page += [f"**{'; '.join(comparisons)}.** {words}", ""]
    page += [*further, "## Raw numbers", ""]
    for result in results:
        page.append(f"* {result.what} ({result.unit}): volary {[float(f'{value:.6g}') for value in result.ours]}")
        if result.theirs:
            page.append(f"  {result.peer} {[float(f'{value:.6g}') for value in result.theirs]}")
    print("\n" + table([result.row() for result in results], HEADER))
    keep(page, what, directory, name)
