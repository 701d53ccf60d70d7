"""A Flight server that keeps tables in memory: what pyarrow alone can do on this machine.

    python benches/peers/flight_memory_server.py [PORT]

Prints `listening PORT` once it takes connections.
"""

import sys

import pyarrow as pa
import pyarrow.flight as flight


class MemoryServer(flight.FlightServerBase):
    """DoPut keeps the stream's batches under the descriptor's path; DoGet sends them back."""

    def __init__(self, location):
        super().__init__(location)
        self.tables = {}

    def do_put(self, context, descriptor, reader, writer):
        self.tables[descriptor.path[0].decode()] = reader.read_all()

    def get_flight_info(self, context, descriptor):
        table = self.tables[descriptor.path[0].decode()]
        endpoint = flight.FlightEndpoint(descriptor.path[0].decode(), [])
        return flight.FlightInfo(table.schema, descriptor, [endpoint], table.num_rows, table.nbytes)

    def do_get(self, context, ticket):
        return flight.RecordBatchStream(self.tables[ticket.ticket.decode()])


if __name__ == "__main__":
    pa.set_cpu_count(2)
    server = MemoryServer(f"grpc://127.0.0.1:{sys.argv[1] if len(sys.argv) > 1 else 0}")
    print("listening", server.port, flush=True)
    server.serve()
