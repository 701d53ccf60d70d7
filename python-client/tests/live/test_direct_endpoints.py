"""Reading from the servers that endpoints name: with ``--endpoints direct`` every server sends its share itself."""

from __future__ import annotations

import re
import socket
import urllib.request

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from cluster import Cluster
from volary._commands import command
from volary.errors import UnavailableError

REUSE = "arrow-flight-reuse-connection://?"
READ = command("Read", dataset="numbers", endpoints=4, columns=[])


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers of one cluster that send readers to each other, with a dataset of four files."""
    store, logs = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")
    with Cluster(2, store, logs, ["--endpoints", "direct"]) as cluster:
        with volary.connect(cluster.url) as client:
            for part in range(4):
                rows = pa.table({"id": pa.array(range(part * 1000, part * 1000 + 1000))})
                client.put("numbers", rows, mode="append")
        yield cluster


@pytest.fixture
def transport(pair):
    with volary.connect(pair.url) as client:
        yield client._transport


def reads(server) -> int:
    """How many streams the server has been read by."""
    with urllib.request.urlopen(f"http://{server.http}/metrics") as answer:
        text = answer.read().decode()
    return sum(int(n) for n in re.findall(r'volary_requests_total\{[^}]*verb="do_get"[^}]*\} (\d+)', text))


def nowhere() -> str:
    """An address that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"grpc+tcp://127.0.0.1:{taken.getsockname()[1]}"


def endpoint_at(transport, *locations: str) -> bytes:
    """An endpoint of the whole dataset that is said to be at these locations."""
    _, [whole] = transport.endpoints({**READ, "endpoints": 1})
    ticket = flight.FlightEndpoint.deserialize(whole).ticket
    return flight.FlightEndpoint(ticket, list(locations)).serialize()


def ids(batches) -> list[int]:
    return [each for batch in batches for each in batch["id"].to_pylist()]


def test_each_endpoint_is_read_from_the_server_that_it_names(pair, transport):
    before = [reads(server) for server in pair.servers]
    assert transport.read(READ).table()["id"].to_pylist() == list(range(4000))
    assert [reads(server) - was for server, was in zip(pair.servers, before, strict=True)] == [2, 2]


def test_the_servers_own_address_is_read_over_the_connection_at_hand(pair, transport):
    own, other = (f"grpc+tcp://{server.grpc}" for server in pair.servers)
    for location in (own, REUSE, other):
        assert ids(transport.read_endpoint(endpoint_at(transport, location, REUSE))) == list(range(4000))
    assert list(transport._elsewhere) == [other]


@pytest.mark.parametrize("wrong", ["refused", "https://127.0.0.1/part.parquet"])
def test_a_location_that_cannot_be_reached_is_passed_over_for_the_next(pair, transport, wrong):
    wrong = nowhere() if wrong == "refused" else wrong
    before = [reads(server) for server in pair.servers]
    for following in (REUSE, f"grpc+tcp://{pair.servers[1].grpc}"):
        assert ids(transport.read_endpoint(endpoint_at(transport, wrong, following))) == list(range(4000))
    assert [reads(server) - was for server, was in zip(pair.servers, before, strict=True)] == [1, 1]
    with pytest.raises(UnavailableError):
        list(transport.read_endpoint(endpoint_at(transport, wrong)))


def test_what_another_server_refuses_is_not_asked_of_the_next(pair, transport):
    bad = flight.FlightEndpoint(flight.Ticket(b"no ticket"), [f"grpc+tcp://{pair.servers[1].grpc}", REUSE])
    before = reads(pair.servers[0])
    with pytest.raises(volary.errors.VolaryError) as refused:
        list(transport.read_endpoint(bad.serialize()))
    assert not isinstance(refused.value, UnavailableError)
    assert reads(pair.servers[0]) == before


def test_spark_reads_partitions_from_the_servers_that_they_name(spark, pair):
    from volary.spark import read_dataframe

    before = [reads(server) for server in pair.servers]
    df = read_dataframe(spark, "numbers", server=pair.url)
    assert [row.id for row in df.collect()] == list(range(4000))
    assert [reads(server) - was for server, was in zip(pair.servers, before, strict=True)] == [2, 2]
