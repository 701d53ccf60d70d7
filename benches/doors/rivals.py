"""The servers beside which ours is measured, each as a process with the rows of a comparison already in it.

Every one has `name`, `note` (what it does for a read), `process`, `location`, `read_descriptors(streams)` and, where it takes
rows, `put(clients, tables)` and `clear(clients)`.
"""

import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as flight
from server import ROOT, command

from .columns import PARTS
from .streams import write

PEERS = ROOT / "benches/peers"
START_SECONDS = 120


def _field(number, body):
    """A length-delimited field of a protobuf message."""
    length, prefix = len(body), bytes([number << 3 | 2])
    while length > 0x7F:
        prefix += bytes([length & 0x7F | 0x80])
        length >>= 7
    return prefix + bytes([length]) + body


def flight_sql(message, *fields):
    """The descriptor of a Flight SQL command: fields as (number, text)."""
    body = b"".join(_field(number, text.encode()) for number, text in fields)
    name = f"type.googleapis.com/arrow.flight.protocol.sql.{message}".encode()
    return flight.FlightDescriptor.for_command(_field(1, name) + _field(2, body))


def statement(sql):
    """A query, as an ADBC or JDBC driver asks it."""
    return flight_sql("CommandStatementQuery", (1, sql))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Process:
    """A server's process until the block ends; `place` is a folder for its log."""

    def __init__(self, words, place):
        self.log = place / "log"
        with self.log.open("w") as log:
            self.child = subprocess.Popen([str(word) for word in words], stdout=log, stderr=subprocess.STDOUT)

    @property
    def process(self):
        return self.child.pid

    def _wait_for(self, port):
        """Until the port takes connections: these programs open it once the tables are in."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        raise RuntimeError(f"{self.child.args[0]} does not listen; its log ends:\n{self.log.read_text()[-2000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        try:
            self.child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class PyarrowMemory(Process):
    """`peers/flight_memory_server.py`; with files it reads them for every answer instead."""

    name = "pyarrow.flight"
    note = "the rows lie in memory as Arrow batches"

    def __init__(self, python, place, files=(), certificate=None):
        port, self.files = free_port(), files
        words = [python, PEERS / "flight_memory_server.py", port, *(["--parquet", *files] if files else [])]
        if certificate:
            words += ["--tls", certificate.chain, certificate.key]
        super().__init__(words, place)
        self.location = f"{'grpc+tls' if certificate else 'grpc'}://127.0.0.1:{port}"
        self.trust = certificate.trust if certificate else {}
        self._wait_for(port)
        if files:
            self.name, self.note = (
                "pyarrow.flight of Parquet",
                "reads Parquet files from the page cache with Arrow's dataset reader",
            )

    def read_descriptors(self, streams):
        return [flight.FlightDescriptor.for_path("parquet" if self.files else "bench")]

    def clear(self, clients):
        """Forgets what was put."""
        list(clients[0].do_action(flight.Action("drop", b"bench")))

    def put(self, clients, tables):
        write(clients, [flight.FlightDescriptor.for_path("bench", str(part)) for part in range(len(tables))], tables)


class Roapi(Process):
    """ROAPI with a table for each stream: it answers a query by one endpoint."""

    name = "roapi"
    note = "loads Parquet files into memory when it starts, and answers with `SELECT *` of them"

    def __init__(self, python, place, files, streams):
        port = free_port()
        words = [Path(python).parent / "roapi", "-a", f"127.0.0.1:{free_port()}", "-p", f"127.0.0.1:{free_port()}"]
        words += ["--addr-flight-sql", f"127.0.0.1:{port}"]
        for share, folder in enumerate(folders(place, files, streams)):
            words += ["-t", f"bench_{share}={folder}/,format=parquet"]
        super().__init__(words, place)
        self.location = f"grpc://127.0.0.1:{port}"
        self._wait_for(port)

    def read_descriptors(self, streams):
        return [statement(f"SELECT * FROM bench_{share}") for share in range(streams)]


class Sail(Process):
    """Sail's Flight SQL server; a query is answered by one endpoint, so each stream asks for files of its own."""

    name = "pysail"
    note = "reads Parquet files from the page cache and answers with `SELECT *` of them"

    def __init__(self, python, place, files, streams):
        port = free_port()
        self.folders = folders(place, files, streams)
        super().__init__([Path(python).parent / "sail", "flight", "server", "--port", port], place)
        self.location = f"grpc://127.0.0.1:{port}"
        self._wait_for(port)

    def read_descriptors(self, streams):
        return [statement(f"SELECT * FROM parquet.`{folder}`") for folder in self.folders]


def folders(at, files, streams):
    """A folder for each stream with links to its files."""
    each, made = PARTS // streams, []
    for share in range(streams):
        made.append(at / str(share))
        made[-1].mkdir()
        for file in files[share * each : (share + 1) * each]:
            (made[-1] / file.name).hardlink_to(file)
    return made


class Volary:
    """Ours, around a `server.Server` that runs."""

    name = "volary"
    note = "keeps decoded what is read again and again (`--read-cache`, an eighth of the memory by default), and has read all twice"

    def __init__(self, server, trust=None, of_files=False):
        if of_files:
            self.name = "volary, of files"
            self.note = "reads its dataset's Parquet files from the page cache every time (`--read-cache 0`)"
        self.server, self.process, self.location, self.trust = server, server.process.pid, server.url, trust or {}

    def read_descriptors(self, streams):
        if streams == 1:
            return [flight.FlightDescriptor.for_path("bench")]
        return [flight.FlightDescriptor.for_command(command("Read", dataset="bench", endpoints=streams))]

    def clear(self, clients):
        """Drops the dataset and its files, if there is one."""
        for dataset in self.server.act("ListDatasets"):
            self.server.act("DropDataset", name=dataset["name"])

    def put(self, clients, tables):
        """One stream is a `Put`; several are the parts of one upload, made visible by one commit."""
        if len(tables) == 1:
            descriptor = flight.FlightDescriptor.for_command(command("Put", dataset="bench", mode="OVERWRITE"))
            return write(clients, [descriptor], tables)
        (upload,) = self.server.act("BeginUpload", dataset="bench", mode="OVERWRITE")
        parts = [
            flight.FlightDescriptor.for_command(command("PutPart", upload=upload["id"], part=str(part), attempt=0))
            for part in range(len(tables))
        ]
        write(clients, parts, tables)
        (committed,) = self.server.act("CommitUpload", id=upload["id"])
        assert int(committed["rows"]) == sum(table.num_rows for table in tables), json.dumps(committed)


def refusal_of_rows(rival):
    """What a server says to Flight SQL's bulk ingest, the one DoPut that a driver makes; none when it takes the rows."""
    table = pa.table({"c0": [1.0]})
    with flight.connect(rival.location) as client:
        try:
            write([client], [flight_sql("CommandStatementIngest", (2, "ingested"))], [table])
        except pa.ArrowException as error:
            return re.split(r"[.;\n] ?|gRPC client debug context", str(error).partition("message: ")[2] or str(error))[0]
    return None
