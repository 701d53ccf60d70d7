"""Rows out of and into a Flight server on several connections at once, and what that took of its processor.

The one client of every comparison: bare pyarrow, a thread and a connection for each stream. Knows no server.
"""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow.flight as flight

from .columns import BATCH_ROWS


#: Ours writes dictionaries out unless it is asked not to; the other servers pass the header over.
OPTIONS = flight.FlightCallOptions(headers=[(b"volary-dictionaries", b"keep")])


@dataclass(frozen=True)
class Taken:
    """What moving some bytes took."""

    bytes: int
    seconds: float
    server_seconds: float

    @property
    def rate(self):
        """Bytes per second of all streams together."""
        return self.bytes / self.seconds

    @property
    def processor(self):
        """Seconds of the server's processor for a GB."""
        return self.server_seconds / self.bytes * 1e9


def processor_seconds(process):
    """User and system time of a process so far, its ended threads included."""
    # The clock that clock_getcpuclockid(3) names, which counts nanoseconds; /proc counts hundredths of a second.
    return time.clock_gettime((~process << 3) | 2)


def timed(process, moved_bytes, act):
    """Runs `act` and says what it took of the clock and of the server."""
    before, start = processor_seconds(process), time.perf_counter()
    act()
    return Taken(moved_bytes, time.perf_counter() - start, processor_seconds(process) - before)


@contextmanager
def connections(location, count, **trust):
    """So many clients, each with a connection of its own; `trust` is what they are told of the server's certificate."""
    # gRPC shares one connection among the channels of a process that have the same options.
    apart = [("grpc.use_local_subchannel_pool", 1)]
    clients = [flight.FlightClient(location, generic_options=apart, **trust) for _ in range(count)]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def side_by_side(acts):
    """Runs each in a thread of its own and waits for all; the first error is raised."""
    failures, answers = [], [None] * len(acts)

    def run(place, act):
        try:
            answers[place] = act()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return answers


def read(clients, descriptors):
    """Reads every endpoint of each descriptor to its end without keeping the rows; their number.

    One descriptor of as many endpoints as there are clients is shared out among them; otherwise each client has its own.
    """
    if len(descriptors) == 1:
        tickets = [point.ticket for point in clients[0].get_flight_info(descriptors[0], OPTIONS).endpoints]
        shares = [tickets[place :: len(clients)] for place in range(len(clients))]
    else:
        shares = [
            [point.ticket for point in client.get_flight_info(descriptor, OPTIONS).endpoints]
            for client, descriptor in zip(clients, descriptors, strict=True)
        ]
    assert all(shares), f"{sum(map(len, shares))} endpoints for {len(clients)} streams"

    def drain(client, tickets):
        return sum(chunk.data.num_rows for ticket in tickets for chunk in client.do_get(ticket, OPTIONS))

    pairs = zip(clients, shares, strict=True)
    return sum(side_by_side([lambda client=client, tickets=tickets: drain(client, tickets) for client, tickets in pairs]))


def write(clients, descriptors, tables, batch_rows=BATCH_ROWS):
    """Writes each table as a stream of its own and waits for every last word of the server."""

    def send(client, descriptor, table):
        writer, _ = client.do_put(descriptor, table.schema)
        with writer:
            writer.write_table(table, max_chunksize=batch_rows)
            writer.done_writing()

    triples = zip(clients, descriptors, tables, strict=True)
    side_by_side([lambda triple=triple: send(*triple) for triple in triples])
