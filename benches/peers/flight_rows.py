"""DoPut and DoGet of float64 columns, one stream, beside a pyarrow.flight server that keeps its tables in memory.

    python benches/peers/flight_rows.py [--mebibytes 1024] [--pairs 7]

The same pyarrow client asks both. DoPut is measured twice: into a store on the disk, the commit included, and into one
in memory (/dev/shm), which leaves the disk out.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.flight as flight

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

from measure import arguments, compare, machine

from cluster import Server

COLUMNS, BATCH_ROWS = 8, 65_536


class MemoryServer(flight.FlightServerBase):
    """The yardstick: C++ all the way, tables in memory."""

    def __init__(self) -> None:
        super().__init__("grpc://127.0.0.1:0")
        self.tables: dict[bytes, pa.Table] = {}

    def do_put(self, context, descriptor, reader, writer):
        self.tables[descriptor.path[0]] = reader.read_all()

    def get_flight_info(self, context, descriptor):
        table = self.tables[descriptor.path[0]]
        return flight.FlightInfo(table.schema, descriptor, [flight.FlightEndpoint(descriptor.path[0], [])], -1, -1)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tables[ticket.ticket])


def serve_in_memory(port) -> None:
    """A process of its own, as ours is."""
    server = MemoryServer()
    port.send(server.port)
    server.serve()


def put(client: flight.FlightClient, descriptor: flight.FlightDescriptor, table: pa.Table) -> None:
    writer, _ = client.do_put(descriptor, table.schema)
    writer.write_table(table, max_chunksize=BATCH_ROWS)
    writer.close()


def get(client: flight.FlightClient, rows: int) -> None:
    info = client.get_flight_info(flight.FlightDescriptor.for_path("rows"))
    # One stream, read in order; batches are dropped as they come.
    received = sum(chunk.data.num_rows for endpoint in info.endpoints for chunk in client.do_get(endpoint.ticket))
    assert received == rows


def main() -> None:
    options = arguments(__doc__.splitlines()[0], mebibytes=1024, pairs=7)
    rows = options.mebibytes * 1024 * 1024 // 8 // COLUMNS
    random = np.random.default_rng(1)
    table = pa.table({f"x{column}": random.random(rows) for column in range(COLUMNS)})
    mebibytes = rows * COLUMNS * 8 / 1024 / 1024
    machine("pyarrow", "numpy")
    mine, theirs = multiprocessing.Pipe()
    memory = multiprocessing.Process(target=serve_in_memory, args=(theirs,), daemon=True)
    memory.start()
    peer = flight.connect(f"grpc://127.0.0.1:{mine.recv()}")
    path = flight.FlightDescriptor.for_path("rows")
    command = {"@type": "type.googleapis.com/volary.v1.Put", "dataset": "rows", "mode": "OVERWRITE"}
    ours_descriptor = flight.FlightDescriptor.for_command(json.dumps(command).encode())
    for place, parent in (("memory (/dev/shm)", "/dev/shm"), ("disk", None)):
        folder = tempfile.mkdtemp(prefix="volary-bench-", dir=parent)
        server = Server("bench", Path(folder) / "store", folder)
        try:
            with flight.connect(server.url) as client:
                compare(
                    f"DoPut of {mebibytes:.0f} MiB, store in {place}", mebibytes, "MiB/s", options.pairs,
                    lambda client=client: put(client, ours_descriptor, table), lambda: put(peer, path, table),
                )  # fmt: skip
                if parent is None:
                    compare(
                        f"DoGet of {mebibytes:.0f} MiB, store on disk", mebibytes, "MiB/s", options.pairs,
                        lambda client=client: get(client, rows), lambda: get(peer, rows),
                    )  # fmt: skip
        finally:
            server.stop()
            shutil.rmtree(folder)
    memory.terminate()


if __name__ == "__main__":
    main()
