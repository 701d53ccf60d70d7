"""A Flight server that keeps tables in memory: what pyarrow alone can do on this machine.

    python benches/peers/flight_memory_server.py [PORT]

A path of one word is a table, of two words one part of it. With `--parquet FILE...` it keeps no rows, and answers the path
`parquet` with those of the files: the work that a server with a store does.
Prints `listening PORT` once it takes connections.
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.flight as flight


class MemoryServer(flight.FlightServerBase):
    """DoPut keeps the stream's batches under the descriptor's path; DoGet sends them back, each part by an endpoint of its own."""

    def __init__(self, location, files=(), tls=None):
        super().__init__(location, tls_certificates=tls)
        self.tables = {}
        self.files = files

    def do_put(self, context, descriptor, reader, writer):
        name, part = path_of(descriptor)
        self.tables.setdefault(name, {})[part] = reader.read_all()

    def do_action(self, context, action):
        """`drop`, with the name of a table as the body."""
        self.tables.pop(action.body.to_pybytes().decode(), None)
        return []

    def get_flight_info(self, context, descriptor):
        name, _ = path_of(descriptor)
        if name == "parquet":
            points = [flight.FlightEndpoint(f"{name}/{part}", []) for part in range(len(self.files))]
            return flight.FlightInfo(dataset.dataset(self.files[0]).schema, descriptor, points, -1, -1)
        parts = sorted(self.tables[name].items())
        points = [flight.FlightEndpoint(f"{name}/{part}", []) for part, _ in parts]
        return flight.FlightInfo(
            parts[0][1].schema, descriptor, points, sum(rows.num_rows for _, rows in parts), sum(rows.nbytes for _, rows in parts)
        )

    def do_get(self, context, ticket):
        name, part = ticket.ticket.decode().split("/")
        if name == "parquet":  # all of it in C++: Arrow's own reader, ahead of the stream
            return flight.RecordBatchStream(dataset.dataset(self.files[int(part)]).scanner(batch_size=16_384).to_reader())
        return flight.RecordBatchStream(self.tables[name][part])


def path_of(descriptor):
    """Name and part."""
    name, part = [*descriptor.path, b"0"][:2]
    return name.decode(), part.decode()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", nargs="?", type=int, default=0)
    parser.add_argument("--parquet", nargs="*", default=[], metavar="FILE", help="files to answer from, an endpoint each")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files to show; TLS then")
    options = parser.parse_args()
    pa.set_cpu_count(2)
    tls = [tuple(Path(file).read_bytes() for file in options.tls)] if options.tls else None
    server = MemoryServer(f"{'grpc+tls' if tls else 'grpc'}://127.0.0.1:{options.port}", options.parquet, tls)
    print("listening", server.port, flush=True)
    server.serve()
