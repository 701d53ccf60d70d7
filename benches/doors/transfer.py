"""Rows in and out, by kind of column and number of streams, beside the servers that a user could take instead."""

import shutil
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import measure
import pyarrow as pa
import pyarrow.flight as flight
from server import BINARY, Server, command

from . import columns, encrypted
from .rivals import PyarrowMemory, Roapi, Sail, Volary, refusal_of_rows, statement
from .streams import Taken, connections, read, timed, write

STREAMS = (1, 2, 4)
#: Rows of a batch where rows are made by a query: what the query engines of three of the servers make at a time.
QUERY_ROWS = 8_192
QUERY_COLUMNS = 16
#: What is moved with TLS, too.
ENCRYPTED_KIND, ENCRYPTED_STREAMS = "fixed", (1, 2)
#: Our sides of a case, and what a row says of them.
OURS = {"volary": "", "volary, of files": ", from its files", "volary, store in memory": ", store in memory"}


@dataclass
class Case:
    """One kind of rows over so many streams: what each server took, round by round."""

    verb: str
    kind: str
    streams: int
    taken: dict[str, list[Taken]] = field(default_factory=dict)

    @property
    def what(self):
        return f"{self.verb} {self.kind}, {self.streams} stream{'s' if self.streams > 1 else ''}"

    def run(self, sides, rounds):
        print(f"  {self.what}", flush=True)
        self.taken = measure.take_turns(sides, rounds, lambda taken: f"{taken.rate / 1e9:.2f} GB/s {taken.processor:.2f} s/GB")
        return self

    def values(self, name, of):
        return [getattr(taken, of) for taken in self.taken[name]]


def transfer(options, work):
    """DoGet and DoPut of four kinds of columns with 1, 2 and 4 streams, and DoGet of rows that a query makes."""
    made = Measuring(options, work)
    for name in options.kinds or columns.KINDS:
        kind = columns.KINDS[name](options.bytes)
        files = kind.write(work)
        made.words[name] = f"{kind.words}; {kind.rows:,} rows, {kind.bytes / 2**20:.0f} MiB"
        for streams in options.streams:
            made.gets(kind, files, streams)
            made.puts(kind, streams)
            if name == ENCRYPTED_KIND and streams in ENCRYPTED_STREAMS:
                made.encrypted(kind, streams)
        for file in files:
            file.unlink()
    for streams in options.streams:
        made.queries(streams)
    made.page()


class Measuring:
    """The cases so far, and what the page says beside them."""

    def __init__(self, options, work):
        self.options, self.work = options, work
        self.certificate, self.tls = encrypted.Certificate.make(work), []
        self.cases, self.words, self.notes, self.refusals, self.versions = [], {}, {}, {}, set()
        self.loopback, self.copied, self.disk = measure.loopback_bytes(), measure.copy_bytes(), measure.disk_bytes(work)
        self.others = has_programs(options.python)
        if self.others:
            self.versions |= versions(options.python, "pysail", "roapi")

    def place(self, running, within=None):
        """A new folder for a store, a log or links to files, until `running` ends."""
        folder = tempfile.mkdtemp(dir=within or self.work)
        running.callback(shutil.rmtree, folder)
        return Path(folder)

    def ours(self, running, within=None, certificate=None, of_files=False):
        """A server of ours with an empty store; one that reads the files for every answer keeps no rows."""
        store, trust = self.place(running, within) / "store", certificate.trust if certificate else None
        options = [*(certificate.served if certificate else []), *(["--read-cache", "0"] if of_files else [])]
        return Volary(running.enter_context(Server(store, *options, trust=trust)), trust, of_files)

    def memory(self, running, certificate=None):
        """A pyarrow server that keeps what it is sent."""
        return running.enter_context(PyarrowMemory(self.options.python, self.place(running), certificate=certificate))

    def gets(self, kind, files, streams):
        """DoGet of the same rows from every server."""
        python = self.options.python
        with ExitStack() as running:
            enter = running.enter_context
            rivals = [self.ours(running), self.ours(running, of_files=True), self.memory(running)]
            # Ours is one dataset of one upload, which the command `Read` cuts into endpoints; the peer keeps what each stream sends.
            for rival, count in zip(rivals, (1, 1, streams), strict=True):
                with connections(rival.location, count) as clients:
                    rival.put(clients, kind.shares(count))
            rivals.append(enter(PyarrowMemory(python, self.place(running), files)))
            if self.others:
                rivals.append(enter(Roapi(python, self.place(running), files, streams)))
                rivals.append(enter(Sail(python, self.place(running), files, streams)))
            descriptors = {rival.name: rival.read_descriptors(streams) for rival in rivals}
            self._compare(Case("DoGet", kind.name, streams), kind.bytes, kind.rows, rivals, descriptors, running)
            for rival in rivals:
                self.notes[rival.name] = rival.note
                if rival.name in ("roapi", "pysail") and rival.name not in self.refusals:
                    self.refusals[rival.name] = refusal_of_rows(rival)

    def _compare(self, case, size, rows, rivals, descriptors, running):
        """Reads from each in turns, after two reads that warm it and show that all rows come."""
        sides = {}
        for rival in rivals:
            clients = running.enter_context(connections(rival.location, case.streams))

            def get(rival=rival, clients=clients):
                def whole():
                    received = read(clients, descriptors[rival.name])
                    assert received == rows, f"{rival.name} sent {received:,} rows of {rows:,} ({case.what})"

                return timed(rival.process, size, whole)

            get()
            get()
            sides[rival.name] = get
        self.cases.append(case.run(sides, self.options.rounds))

    def puts(self, kind, streams):
        """DoPut to ours, with its store on disk and in memory, and to pyarrow's memory."""
        tables = kind.shares(streams)
        with ExitStack() as running:
            rivals = {"volary": self.ours(running), "pyarrow.flight": self.memory(running)}
            if Path("/dev/shm").is_dir():
                rivals["volary, store in memory"] = self.ours(running, "/dev/shm")
            sides = {}
            for name, rival in rivals.items():
                clients = running.enter_context(connections(rival.location, streams))

                def put(rival=rival, clients=clients):
                    rival.clear(clients)
                    return timed(rival.process, kind.bytes, lambda: rival.put(clients, tables))

                put()
                sides[name] = put
            self.cases.append(Case("DoPut", kind.name, streams).run(sides, self.options.rounds))

    def encrypted(self, kind, streams):
        """DoGet and DoPut of the same rows with and without TLS."""
        if self.certificate is None:
            return
        memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
        for verb, measured in (("DoGet", encrypted.gets), ("DoPut", encrypted.puts)):
            with ExitStack() as running:
                rivals = {
                    "volary, TLS": self.ours(running, memory, self.certificate),
                    "volary": self.ours(running, memory),
                    "pyarrow.flight, TLS": self.memory(running, self.certificate),
                    "pyarrow.flight": self.memory(running),
                }
                case = Case(f"{verb} with and without TLS,", kind.name, streams)
                measured(kind, streams, rivals, lambda sides, case=case: case.run(sides, self.options.rounds))
                self.tls.append((verb, case))

    def queries(self, streams):
        """DoGet of rows that need no reading: a series of integers, shown as 16 columns, so that one value in 16 is made."""
        rows = self.options.bytes // 8 // QUERY_COLUMNS // streams
        names = [f"c{column}" for column in range(QUERY_COLUMNS)]
        listed = ", ".join(f"value AS {name}" for name in names)
        series = pa.array(range(1, rows + 1), pa.int64())
        table = pa.table([series] * QUERY_COLUMNS, names)
        with ExitStack() as running:
            ours, theirs = self.ours(running), self.memory(running)
            descriptor = flight.FlightDescriptor.for_path
            with connections(theirs.location, streams) as clients:
                write(clients, [descriptor("bench", str(part)) for part in range(streams)], [table] * streams, QUERY_ROWS)
            rivals = [ours, theirs]
            sql = f"SELECT {listed} FROM generate_series(1, {rows})"
            descriptors = {
                ours.name: [flight.FlightDescriptor.for_command(command("Query", sql=sql))] * streams,
                theirs.name: theirs.read_descriptors(streams),
            }
            if self.others:
                sail = running.enter_context(Sail(self.options.python, self.place(running), [], streams))
                rivals.append(sail)
                made = f"SELECT {', '.join(f'id AS {name}' for name in names)} FROM range(1, {rows + 1})"
                descriptors[sail.name] = [statement(made)] * streams
            self._compare(Case("DoGet", "series", streams), table.nbytes * streams, rows * streams, rivals, descriptors, running)

    # -- the page ---------------------------------------------------------------------------------------------------

    def page(self):
        """`<date>-transfer.md`."""
        title = "Moving rows in and out by Arrow Flight"
        page = measure.opening(title, BINARY, self.versions)
        page += [
            "Client and server share the two cores, so that bytes per second say what both of them took. The server's own part is "
            "beside: the seconds of its processor (user and system) for a GB. A ratio of it above 1 says that ours needs "
            "less. One pyarrow client reads and writes all: a connection and a thread for each stream, batches counted and dropped. "
            "A GB is 1e9 bytes as the columns lie in the client's memory, the dictionaries' words once and not written out.", "",
            *self._sides(), "",
        ]  # fmt: skip
        for verb in ("DoGet", "DoPut"):
            page += [f"## {verb}", "", *self._verb(verb)]
        if self.tls:
            page += ["## TLS", "", *self._tls()]
        page += ["## What limits", "", *self._limits(), "", "## Raw numbers", "", *self._raw()]
        measure.keep(page, "transfer", self.options.out)

    def _sides(self):
        lines = ["What each side does for a DoGet:", ""]
        lines += [f"* **{name}** {note}." for name, note in self.notes.items()]
        lines += ["", "The columns:", ""]
        lines += [f"* **{name}**: {words}." for name, words in self.words.items()]
        lines.append(
            f"* **series**: {QUERY_COLUMNS} columns of int64 that all show one series. No file is read: ours and pysail make it in a query, "
            f"`generate_series` and `range`, one value in {QUERY_COLUMNS}; pyarrow has it in memory in batches of {QUERY_ROWS:,} rows as well. "
            "What is left is the way from a record batch to the socket."
        )
        return lines

    def _verb(self, verb):
        cases = [case for case in self.cases if case.verb == verb]
        names = list(dict.fromkeys(name for case in cases for name in case.taken if name not in OURS))
        for of, title, less in (
            ("rate", "Bytes per second", False),
            ("processor", "Seconds of the server's processor for a GB", True),
        ):
            header = ["columns", "streams", "volary"] + ([] if less else ["each stream"])
            header += [word for name in names for word in (name, "ratio")] + ["bar"]
            rows = [self._row(case, ours, of, less, names) for ours in OURS for case in cases if ours in case.taken]
            yield from [f"{title}:", "", measure.table(rows, header), ""]
            print(f"\n{verb}, {title}\n{measure.table(rows, header)}", flush=True)
        if verb == "DoPut":
            for name, words in self.refusals.items():
                yield (
                    f'{name} takes no rows: it answers Flight SQL\'s bulk ingest with "{words}".' if words else f"{name} took rows."
                )
            yield ""

    def _row(self, case, name, of, less, names):
        ours = case.values(name, of)
        shown = statistics.median(ours)
        row = [case.kind + OURS[name], case.streams, _shown(shown, less)] + ([] if less else [_shown(shown / case.streams, less)])
        for name in names:
            if name not in case.taken:
                row += ["–", "–"]
                continue
            theirs = case.values(name, of)
            row += [_shown(statistics.median(theirs), less), f"{measure.ratio(ours, theirs, less):.2f}x"]
        bars = {("DoGet", True): "1.0x pyarrow.flight", ("DoGet", False): "1.0x roapi, pysail"}
        return [*row, bars.get((case.verb, less), "–")]

    def _tls(self):
        yield (
            "The same rows on the same connections with and without TLS 1.3, to servers that run side by side; stores are in memory (tmpfs). "
            "A ratio is ours with TLS against the other: above 1 ours moves more, or its processor needs less."
        )
        yield ""
        others = ("volary", "pyarrow.flight, TLS", "pyarrow.flight")
        for of, title, less in (
            ("rate", "Bytes per second", False),
            ("processor", "Seconds of the server's processor for a GB", True),
        ):
            rows = []
            for verb, case in self.tls:
                ours = case.values("volary, TLS", of)
                row = [verb, case.kind, case.streams, _shown(statistics.median(ours), less)]
                for name in others:
                    theirs = case.values(name, of)
                    row += [_shown(statistics.median(theirs), less), f"{measure.ratio(ours, theirs, less):.2f}x"]
                rows.append(row)
            header = ["verb", "columns", "streams", "volary, TLS"] + [word for name in others for word in (name, "ratio")]
            yield from [f"{title}:", "", measure.table(rows, header), ""]
            print(f"\nTLS, {title}\n{measure.table(rows, header)}", flush=True)

    def _limits(self):
        return [
            f"Floor: one plain TCP stream over loopback moves {self.loopback / 1e9:.2f} GB/s here with a core on each side, a memory copy "
            f"{self.copied / 1e9:.2f} GB/s, a durable file {self.disk / 1e9:.2f} GB/s.",
            "",
            "* DoGet of files decodes Parquet: a value is copied from the page cache to memory, from its page to its column, and by the "
            "kernel to the socket, where rows in memory need the last alone. `pyarrow.flight of Parquet` does the same work.",
            "* The client asks ours for dictionaries as such (`volary-dictionaries: keep`, which the others pass over): one for each row group, "
            "as the file has it, where rows that were put in memory share one.",
            "* DoPut commits: rows are encoded as Parquet and durable before the last answer, where the peer keeps a pointer. With the store "
            "in memory (tmpfs) the disk is out of it. Several streams are the parts of one upload and one version.",
            "* roapi and pysail name one endpoint for a query; each of several streams asks for a table of its own share of the rows.",
        ]

    def _raw(self):
        for case in [*self.cases, *(case for _, case in self.tls)]:
            yield f"* {case.what}, round by round, bytes per second and seconds of the server's processor for a GB:"
            for name in case.taken:
                rates = [float(f"{value:.4g}") for value in case.values(name, "rate")]
                yield f"  * {name} {rates}; {[float(f'{value:.3g}') for value in case.values(name, 'processor')]}"


def _shown(value, seconds):
    return f"{value:.2f}" if seconds else measure.number(value)


def has_programs(python):
    """Whether `roapi` and `sail` stand beside this Python; says so when they do not."""
    lacking = [name for name in ("roapi", "sail") if not (Path(python).parent / name).exists()]
    if lacking:
        print(f"  passed over: no {' and no '.join(lacking)} beside {python}; pip install -r benches/peers/requirements.txt")
    return not lacking


def versions(python, *names):
    """The versions of these distributions in that Python."""
    import json
    import subprocess

    asked = "import importlib.metadata as m, json, sys; print(json.dumps([f'{n} {m.version(n)}' for n in sys.argv[1:]]))"
    done = subprocess.run([python, "-c", asked, *names], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))
