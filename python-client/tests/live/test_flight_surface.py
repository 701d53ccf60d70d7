"""What the standard asks of a Flight server beside rows: cancelling, renewing, sessions, compression, traces, endpoints."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import grpc
import pyarrow as pa
import pyarrow.flight as flight
import pytest

import volary
from cluster import Cluster
from raw_flight import SERVICE, RawFlight, command_descriptor, field, fields, number

ENDLESS = (
    "SELECT count(*) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 100000000) b "
    "WHERE a.value * b.value = 7"
)
SLOW = "SELECT a.value, b.value AS other FROM generate_series(1, 100000) a CROSS JOIN generate_series(1, 1000000) b"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two servers of one cluster that send readers to each other."""
    store, logs = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("logs")
    with Cluster(2, store, logs, ["--endpoints", "direct"]) as cluster:
        with volary.connect(cluster.url) as client:
            for part in range(4):
                rows = pa.table({"id": pa.array(range(part * 1000, part * 1000 + 1000)), "text": ["x" * 50] * 1000})
                client.put("numbers", rows, mode="append")
        yield cluster


@pytest.fixture
def first(pair):
    with flight.connect(pair.servers[0].url) as connection:
        yield connection


@pytest.fixture
def second(pair):
    with flight.connect(pair.servers[1].url) as connection:
        yield connection


def command(kind: str, **fields_) -> flight.FlightDescriptor:
    body = json.dumps({"@type": f"volary.v1.{kind}", **fields_})
    return flight.FlightDescriptor.for_command(body.encode())


def act(connection: flight.FlightClient, kind: str, body: bytes = b"", **options) -> list[bytes]:
    action = flight.Action(kind, body)
    return [result.body.to_pybytes() for result in connection.do_action(action, **options)]


def headers(**values: str) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(
        headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in values.items()]
    )


def cancel(connection: flight.FlightClient, info: flight.FlightInfo) -> int:
    """The status that CancelFlightInfo answers: 1 cancelled, 2 cancelling, 3 not cancellable."""
    [answer] = act(connection, "CancelFlightInfo", field(1, info.serialize()))
    return answer[1] if answer else 0


# -- cancelling --------------------------------------------------------------------------------------------------


def test_a_read_on_one_server_is_cancelled_through_another(first, second):
    info = first.get_flight_info(command("Query", sql=SLOW))
    reader = first.do_get(info.endpoints[0].ticket)
    reader.read_chunk()
    assert cancel(second, info) == 1
    with pytest.raises(flight.FlightCancelledError, match="CancelFlightInfo"):
        while True:
            reader.read_chunk()
    for connection in (first, second):
        with pytest.raises(flight.FlightCancelledError, match="the ticket was cancelled"):
            connection.do_get(info.endpoints[0].ticket).read_all()
    # Another ticket for the same rows is another read.
    again = first.get_flight_info(command("Query", sql="SELECT 1 AS one"))
    assert second.do_get(again.endpoints[0].ticket).read_all().num_rows == 1


def test_a_query_that_has_sent_nothing_yet_is_cancelled(first, second):
    info = first.get_flight_info(command("Query", sql=ENDLESS))
    outcome: list[BaseException] = []
    started = threading.Event()

    def read():
        reader = first.do_get(info.endpoints[0].ticket)
        started.set()
        try:
            # Not read_all: in a thread, pyarrow makes a KeyboardInterrupt of the main thread of a server's CANCELLED.
            while True:
                reader.read_chunk()
        except BaseException as error:
            outcome.append(error)

    reading = threading.Thread(target=read)
    reading.start()
    started.wait(30)
    assert cancel(second, info) == 1
    reading.join(30)
    assert len(outcome) == 1
    assert isinstance(outcome[0], flight.FlightCancelledError)


def cancel_query(connection: flight.FlightClient, info: bytes) -> int:
    """CancelQuery of Flight SQL, whose messages go in an Any: 1 cancelled, 2 cancelling, 3 not cancellable."""
    package = b"type.googleapis.com/arrow.flight.protocol.sql."
    [answer] = act(
        connection, "CancelQuery", field(1, package + b"ActionCancelQueryRequest") + field(2, field(1, info))
    )
    wrapped = fields(answer)
    assert wrapped[1] == [package + b"ActionCancelQueryResult"]
    return number(fields(wrapped[2][0])[1][0], 0)[0]


def test_cancel_query_of_flight_sql_stops_a_read_on_another_server(first, second):
    info = first.get_flight_info(command("Query", sql=SLOW))
    reader = first.do_get(info.endpoints[0].ticket)
    reader.read_chunk()
    assert cancel_query(second, info.serialize()) == 1
    with pytest.raises(flight.FlightCancelledError, match="CancelFlightInfo"):
        while True:
            reader.read_chunk()
    for connection in (first, second):
        with pytest.raises(flight.FlightCancelledError, match="the ticket was cancelled"):
            connection.do_get(info.endpoints[0].ticket).read_all()
    nothing = flight.FlightInfo(pa.schema([]), flight.FlightDescriptor.for_path("x"), [], -1, -1)
    assert cancel_query(first, nothing.serialize()) == 3
    with pytest.raises(pa.ArrowInvalid, match="FlightInfo of CancelQuery"):
        cancel_query(first, b"\x0a\xff")


def test_what_cannot_be_cancelled_is_said(first):
    model_less = flight.FlightInfo(pa.schema([]), flight.FlightDescriptor.for_path("x"), [], -1, -1)
    assert cancel(first, model_less) == 3
    with pytest.raises(pa.ArrowInvalid, match="without a FlightInfo"):
        act(first, "CancelFlightInfo")
    with pytest.raises(pa.ArrowInvalid, match="cannot be read"):
        act(first, "CancelFlightInfo", b"\x0a\xff")
    forged = flight.FlightEndpoint(b"VLT1" + b"x" * 40, [])
    info = flight.FlightInfo(pa.schema([]), flight.FlightDescriptor.for_path("x"), [forged], -1, -1)
    with pytest.raises(pa.ArrowInvalid, match="not one of this cluster"):
        cancel(first, info)


CLIENT = """
import sys, pyarrow.flight as flight, json
connection = flight.connect(sys.argv[1])
ticket = flight.Ticket(json.dumps({"@type": "volary.v1.Query", "sql": sys.argv[2]}).encode())
reader = connection.do_get(ticket)
print("reading", flush=True)
reader.read_all()
"""


def cpu_seconds(process_id: int) -> float:
    """CPU time that a process has used, by the kernel's account."""
    with open(f"/proc/{process_id}/stat") as file:
        words = file.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("sql", [ENDLESS, SLOW], ids=["one that answers nothing yet", "one that is sending"])
def test_a_query_whose_client_is_killed_stops_within_a_second(pair, sql):
    server = pair.servers[0].process.pid
    command_line = [sys.executable, "-c", CLIENT, pair.servers[0].url, sql]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout.readline() == "reading\n"
        busy = cpu_seconds(server)
        deadline = time.monotonic() + 60
        while cpu_seconds(server) < busy + 0.3:
            assert time.monotonic() < deadline, "the server computes the query"
        client.send_signal(signal.SIGKILL)
    time.sleep(1)  # the promise: within a second
    before = cpu_seconds(server)
    time.sleep(1)
    assert cpu_seconds(server) - before < 0.3


# -- endpoints and tickets ---------------------------------------------------------------------------------------


def test_a_dataset_is_read_side_by_side_and_in_order(pair, first):
    info = first.get_flight_info(command("Read", dataset="numbers", columns=["id"]))
    assert len(info.endpoints) == 4
    assert info.ordered
    assert info.total_records == 4000
    locations = [[location.uri.decode() for location in endpoint.locations] for endpoint in info.endpoints]
    assert {uris[0] for uris in locations} == {f"grpc+tcp://{server.grpc}" for server in pair.servers}
    assert all(uris[1] == "arrow-flight-reuse-connection://?" for uris in locations)
    parts = []
    for endpoint, uris in zip(info.endpoints, locations, strict=True):
        with flight.connect(uris[0]) as connection:
            parts.append(connection.do_get(endpoint.ticket).read_all())
        assert json.loads(endpoint.app_metadata) == {"rows": parts[-1].num_rows}
    assert pa.concat_tables(parts)["id"].to_pylist() == list(range(4000))


@pytest.mark.parametrize(("endpoints", "expected"), [(1, 1), (3, 3), (4, 4), (100, 4)])
def test_as_many_endpoints_as_asked_at_most(first, endpoints, expected):
    info = first.get_flight_info(command("Read", dataset="numbers", endpoints=endpoints))
    assert len(info.endpoints) == expected
    rows = [first.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
    assert pa.concat_tables(rows)["id"].to_pylist() == list(range(4000))
    assert rows[0].schema == info.schema


def test_a_read_that_cannot_be_is_refused_before_rows(first):
    for fields_, words in [
        ({"dataset": "nowhere"}, "nowhere"),
        ({"dataset": "numbers", "columns": ["idd"]}, 'no column "idd"'),
        ({"dataset": "numbers", "endpoints": 100_000}, "10000"),
    ]:
        with pytest.raises((KeyError, pa.ArrowInvalid), match=words):
            first.get_flight_info(command("Read", **fields_))


def test_an_endpoint_is_renewed_by_any_server(first, second):
    info = first.get_flight_info(command("Query", sql="SELECT 1 AS one"))
    [endpoint] = info.endpoints
    [answer] = act(second, "RenewFlightEndpoint", field(1, endpoint.serialize()))
    renewed = flight.FlightEndpoint.deserialize(answer)
    assert renewed.expiration_time.value >= endpoint.expiration_time.value
    assert first.do_get(renewed.ticket).read_all().num_rows == 1
    # A flight that is cancelled takes what it was renewed to along.
    assert cancel(first, info) == 1
    with pytest.raises(flight.FlightCancelledError, match="cancelled"):
        second.do_get(renewed.ticket).read_all()
    with pytest.raises(flight.FlightCancelledError, match="cancelled"):
        act(second, "RenewFlightEndpoint", field(1, endpoint.serialize()))
    with pytest.raises(pa.ArrowInvalid, match="signed ticket"):
        act(first, "RenewFlightEndpoint")


def test_a_poll_says_how_far_and_until_when(pair):
    with RawFlight(pair.servers[0].grpc) as raw:
        query = json.dumps({"@type": "volary.v1.Query", "sql": "SELECT 1 AS one"}).encode()
        answer = raw.channel.unary_unary(SERVICE + "PollFlightInfo")(command_descriptor(query))
        poll = fields(answer)
        assert 2 not in poll  # nothing to poll any more
        assert 4 in poll  # the expiry


# -- sessions ----------------------------------------------------------------------------------------------------


def session_call(pair, server: int, kind: str, body: dict, cookie: str | None = None) -> tuple[dict, str | None]:
    """The JSON that an action answers, and the cookie that came with it."""
    request = field(1, kind.encode()) + field(2, json.dumps(body).encode())
    with RawFlight(pair.servers[server].grpc) as raw:
        metadata = [("cookie", cookie)] if cookie else []
        call = raw.channel.unary_stream(SERVICE + "DoAction")(request, metadata=metadata)
        [answer] = list(call)
        cookies = [value for name, value in call.initial_metadata() if name == "set-cookie"]
    return json.loads(fields(answer)[1][0]), cookies[0].split(";")[0] if cookies else None


def test_a_session_that_one_server_opened_is_known_to_the_other_until_it_is_closed(pair):
    options = {"catalog": {"string_value": "volary"}, "compression": {"string_value": "zstd"}, "colour": {}}
    answer, cookie = session_call(pair, 0, "SetSessionOptions", {"session_options": options})
    assert answer["errors"] == {"colour": {"value": "INVALID_NAME"}}
    assert cookie.startswith("arrow_flight_session_id=")
    answer, _ = session_call(pair, 1, "GetSessionOptions", {}, f"theme=dark; {cookie}")
    assert answer["session_options"] == {
        "catalog": {"string_value": "volary"},
        "compression": {"string_value": "zstd"},
    }
    answer, ended = session_call(pair, 1, "CloseSession", {}, cookie)
    assert answer["status"] == "CLOSED"
    assert ended == "arrow_flight_session_id=closed"
    for server in (0, 1):
        with pytest.raises(grpc.RpcError, match="there is no session") as refused:
            session_call(pair, server, "GetSessionOptions", {}, cookie)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_option_is_refused_or_unset_by_name(pair):
    wrong = {"catalog": {"string_value": "other"}, "compression": {"bool_value": True}}
    answer, cookie = session_call(pair, 0, "SetSessionOptions", {"session_options": wrong})
    assert {name: error["value"] for name, error in answer["errors"].items()} == {
        "catalog": "INVALID_VALUE",
        "compression": "INVALID_VALUE",
    }
    right = {"schema": {"string_value": "public"}}
    _, cookie = session_call(pair, 0, "SetSessionOptions", {"session_options": right}, cookie)
    _, cookie = session_call(pair, 0, "SetSessionOptions", {"session_options": {"schema": {}}}, cookie)
    answer, _ = session_call(pair, 0, "GetSessionOptions", {}, cookie)
    assert answer["session_options"] == {}


# -- compression and traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_rows_are_compressed_for_who_asks(pair, first, codec):
    ticket = first.get_flight_info(command("Read", dataset="numbers", endpoints=1)).endpoints[0].ticket

    def body_bytes(metadata) -> int:
        with RawFlight(pair.servers[0].grpc) as raw:
            request = field(1, ticket.ticket)
            answers = raw.channel.unary_stream(SERVICE + "DoGet")(request, metadata=metadata)
            return sum(len(body) for answer in answers for body in fields(answer).get(1000, []))

    plain = body_bytes([])
    assert body_bytes([("volary-compression", codec)]) < plain / 3
    rows = first.do_get(ticket, headers(volary_compression=codec)).read_all()
    assert rows == first.do_get(ticket).read_all()


def test_an_unknown_compression_is_refused_by_name(first):
    with pytest.raises(pa.ArrowInvalid, match='"volary-compression" is "gzip"; write none, lz4 or zstd'):
        act(first, "ListDatasets", options=headers(volary_compression="gzip"))
