"""Reading with pyarrow.flight alone: side by side, compressed, cancelled, renewed, in a session."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.flight as flight
import pytest

import flight_actions
import volary
from adbc_connections import wait_until_idle
from arrow_types import EVERY_TYPE, REPLACED
from flight_actions import CANCELLED, CANCELLING, CLOSED, CLOSING, INVALID_NAME, INVALID_VALUE, Cookies
from raw_flight import SERVICE, RawFlight, field, fields
from test_bare_flight import ask, command, put, read

ENDLESS = command("Query", sql="SELECT value FROM generate_series(1, 1000000000000)")


@pytest.fixture
def bare(cluster):
    with flight.connect(cluster.url) as client:
        yield client


@pytest.fixture(scope="module")
def parts(cluster):
    """A dataset of four files, and its rows in order."""
    rows = pa.table({"number": range(4000), "word": [f"word {number}" for number in range(4000)]})
    with flight.connect(cluster.url) as client:
        for part in range(4):
            put(client, "parts", rows.slice(part * 1000, 1000), "APPEND" if part else "OVERWRITE")
    return rows


def headers(**names: str) -> flight.FlightCallOptions:
    return flight.FlightCallOptions(
        headers=[(name.replace("_", "-").encode(), value.encode()) for name, value in names.items()]
    )


def test_endpoints_are_read_side_by_side_from_any_server(bare, cluster, parts):
    info = bare.get_flight_info(flight.FlightDescriptor.for_command(command("Read", dataset="parts", endpoints=4)))
    assert len(info.endpoints) == 4
    assert info.ordered
    assert (info.total_records, info.schema) == (4000, parts.schema)

    def fetch(numbered: tuple[int, flight.FlightEndpoint]) -> pa.Table:
        number, endpoint = numbered
        assert not endpoint.locations, (
            "no location means the server that was asked, and every other takes the ticket too"
        )
        with flight.connect(cluster.servers[number % 3].url) as client:
            return client.do_get(endpoint.ticket).read_all()

    with ThreadPoolExecutor(4) as readers:
        tables = list(readers.map(fetch, enumerate(info.endpoints)))
    assert all(table.schema.equals(info.schema) and table.num_rows > 0 for table in tables)
    assert pa.concat_tables(tables).equals(parts)


def test_a_read_is_cut_and_projected_as_asked(bare, parts):
    def asked(**fields: object) -> flight.FlightInfo:
        return bare.get_flight_info(flight.FlightDescriptor.for_command(command("Read", dataset="parts", **fields)))

    assert len(asked().endpoints) == 4, "one for every file"
    assert len(asked(endpoints=2).endpoints) == 2
    assert len(asked(endpoints=1).endpoints) == 1
    assert len(asked(endpoints=1000).endpoints) <= 1000
    some = read(bare, flight.FlightDescriptor.for_command(command("Read", dataset="parts@1", columns=["word"])))
    assert some.equals(parts.select(["word"]).slice(0, 2000))
    for wrong, words in (({"columns": ["nothing"]}, "nothing"), ({"endpoint": 2}, "endpoint")):
        with pytest.raises(pa.ArrowInvalid, match=words):
            asked(**wrong)
    with pytest.raises(pa.ArrowKeyError, match="nowhere"):
        bare.get_flight_info(flight.FlightDescriptor.for_command(command("Read", dataset="nowhere")))


def test_every_type_comes_back_as_it_was(bare):
    put(bare, "bare-types", EVERY_TYPE, "OVERWRITE")
    for descriptor in (
        flight.FlightDescriptor.for_path("bare-types"),
        flight.FlightDescriptor.for_command(command("Read", dataset="bare-types")),
        flight.FlightDescriptor.for_command(command("Query", sql='SELECT * FROM "bare-types"')),
    ):
        table = read(bare, descriptor)
        assert table.schema.equals(EVERY_TYPE.schema)
        assert table.to_pylist() == EVERY_TYPE.to_pylist()
        assert bare.get_schema(descriptor).schema.equals(EVERY_TYPE.schema)
    for name, (column, values) in REPLACED.items():
        put(bare, "bare-short", pa.table({name: column}), "OVERWRITE")
        back = read(bare, flight.FlightDescriptor.for_path("bare-short"))
        assert back.schema.field(name).type == values
        assert back.to_pydict() == {name: column.to_pylist()}


def test_columns_are_compressed_when_a_header_asks(bare, cluster):
    asked = command("Query", sql="SELECT 7 AS seven, 'the same words' AS words FROM generate_series(1, 50000)")
    tables = [
        bare.do_get(flight.Ticket(asked), headers(volary_compression=each)).read_all()
        for each in ("none", "lz4", "zstd")
    ]
    assert tables[0].num_rows == 50_000
    assert all(table.equals(tables[0]) for table in tables)

    def size(*metadata: tuple[str, str]) -> int:
        """Bytes of columns in the answer."""
        with RawFlight(cluster.servers[0].grpc) as raw:
            answers = raw.channel.unary_stream(SERVICE + "DoGet")(field(1, asked), metadata=metadata)
            return sum(len(body) for answer in answers for body in fields(answer).get(1000, []))

    plain = size()
    assert plain == size(("volary-compression", "none"))
    assert size(("volary-compression", "lz4")) < plain / 2
    assert size(("volary-compression", "zstd")) < plain / 2


def test_a_codec_that_is_not_there_is_refused_by_name(bare):
    with pytest.raises(pa.ArrowInvalid, match=r"snappy.*lz4"):
        bare.do_get(flight.Ticket(command("Query", sql="SELECT 1")), headers(volary_compression="snappy")).read_all()


def test_uploads_may_be_compressed(bare):
    rows = pa.table({"a": [7] * 10_000})
    for codec in ("lz4", "zstd"):
        descriptor = flight.FlightDescriptor.for_command(command("Put", dataset="squeezed", mode="OVERWRITE"))
        options = flight.FlightCallOptions(write_options=pa.ipc.IpcWriteOptions(compression=codec))
        writer, replies = bare.do_put(descriptor, rows.schema, options)
        writer.write_table(rows)
        writer.done_writing()
        while replies.read() is not None:
            pass
        writer.close()
        assert read(bare, flight.FlightDescriptor.for_path("squeezed")).equals(rows)


def test_a_reader_that_is_cancelled_stops_the_work(bare, cluster):
    reader = bare.do_get(flight.Ticket(ENDLESS))
    assert reader.read_chunk().data.num_rows > 0
    reader.cancel()
    with pytest.raises(flight.FlightCancelledError):
        while True:
            reader.read_chunk()
    wait_until_idle(cluster.servers[0].http, "do_get")


def test_a_client_that_goes_away_stops_the_work(cluster):
    with flight.connect(cluster.url) as leaving:
        assert leaving.do_get(flight.Ticket(ENDLESS)).read_chunk().data.num_rows > 0
    wait_until_idle(cluster.servers[0].http, "do_get")


def test_a_query_is_cancelled_by_its_info(bare, cluster):
    info = bare.get_flight_info(flight.FlightDescriptor.for_command(ENDLESS))
    reader = bare.do_get(info.endpoints[0].ticket)
    assert reader.read_chunk().data.num_rows > 0
    assert flight_actions.cancel(bare, info) in (CANCELLED, CANCELLING)
    with pytest.raises(flight.FlightCancelledError):
        while True:
            reader.read_chunk()
    wait_until_idle(cluster.servers[0].http, "do_get")
    # What was cancelled is not begun again.
    with pytest.raises(flight.FlightCancelledError):
        bare.do_get(info.endpoints[0].ticket).read_chunk()


def test_an_endpoint_is_renewed_before_it_expires(bare, parts):
    info = bare.get_flight_info(flight.FlightDescriptor.for_command(command("Read", dataset="parts")))
    endpoint = info.endpoints[0]
    assert endpoint.expiration_time.as_py() > dt.datetime.now(dt.UTC)
    renewed = flight_actions.renew(bare, endpoint)
    assert renewed.expiration_time.as_py() >= endpoint.expiration_time.as_py()
    assert bare.do_get(renewed.ticket).read_all().equals(bare.do_get(endpoint.ticket).read_all())
    with pytest.raises(pa.ArrowException):
        flight_actions.renew(bare, flight.FlightEndpoint(b"not a ticket", []))


def test_a_session_lives_in_a_cookie_that_every_server_takes(cluster):
    jar = Cookies()
    clients = [flight.connect(server.url, middleware=[jar]) for server in cluster.servers]
    try:
        assert flight_actions.set_session_options(clients[0], {"catalog": "volary", "schema": "public"}) == {}
        for client in clients:
            assert flight_actions.get_session_options(client)["catalog"] == "volary"
            assert (
                read(client, flight.FlightDescriptor.for_command(command("Query", sql="SELECT 1 AS a"))).num_rows == 1
            )
        assert flight_actions.set_session_options(
            clients[1], {"catalog": "elsewhere", "flavour": "sweet", "schema": None}
        ) == {
            "catalog": INVALID_VALUE,
            "flavour": INVALID_NAME,
        }
        assert flight_actions.close_session(clients[2]) in (CLOSED, CLOSING)
        assert flight_actions.get_session_options(clients[0]) == {}
    finally:
        for client in clients:
            client.close()


def test_a_login_is_given_a_token(bare):
    header = bare.authenticate_basic_token("ann", "secret")
    options = flight.FlightCallOptions(headers=[header])
    assert bare.list_actions(options)
    assert bare.do_get(flight.Ticket(command("Query", sql="SELECT 1 AS a")), options).read_all().num_rows == 1


def test_errors_are_arrows_exceptions_with_the_servers_words(bare, parts):
    for error, words, call in (
        (pa.ArrowKeyError, "nowhere", lambda: read(bare, flight.FlightDescriptor.for_path("nowhere"))),
        (pa.ArrowInvalid, "SELEC", lambda: bare.do_get(flight.Ticket(command("Query", sql="SELEC 1"))).read_all()),
        (
            pa.ArrowInvalid,
            "is not a command",
            lambda: bare.do_get(flight.Ticket(b'{"@type": "volary.v1.Fly"}')).read_all(),
        ),
        (pa.ArrowException, "already exists", lambda: put(bare, "parts", pa.table({"number": [1]}), "ERROR")),
        (pa.ArrowInvalid, "no action", lambda: ask(bare, "Fly")),
        (
            pa.ArrowInvalid,
            "divide",
            lambda: bare.do_get(flight.Ticket(command("Query", sql="SELECT 1 / 0"))).read_all(),
        ),
    ):
        with pytest.raises(error, match=f"(?i){words}"):
            call()


def test_dictionaries_are_kept_for_who_asks_and_expanded_for_who_does_not(bare, cluster):
    words = pa.array(["a", "b", None, "a"] * 500).dictionary_encode()
    rows = pa.table({"word": words, "number": range(2000)})
    # Of other words in another order, so that the second file has a dictionary of its own.
    more = pa.table({"word": pa.array(["c", "b"] * 1000).dictionary_encode(), "number": range(2000)})
    put(bare, "words", rows, "OVERWRITE")
    put(bare, "words", more, "APPEND")
    whole = pa.concat_tables([rows, more])
    plain = whole.set_column(0, "word", whole["word"].cast(pa.string()))
    keep = headers(volary_dictionaries="keep")
    asked = [
        flight.FlightDescriptor.for_path("words"),
        flight.FlightDescriptor.for_command(command("Read", dataset="words", endpoints=1)),
    ]
    # Again and again: the third time the rows are not read from their files.
    for descriptor in asked * 3:
        info = bare.get_flight_info(descriptor, keep)
        kept = bare.do_get(info.endpoints[0].ticket, keep).read_all()
        assert info.schema.field("word").type == pa.dictionary(pa.int32(), pa.string()), descriptor
        assert kept.schema.equals(info.schema)
        expanded = bare.do_get(bare.get_flight_info(descriptor).endpoints[0].ticket).read_all()
        assert expanded.schema.field("word").type == pa.string()
        assert kept.set_column(0, "word", kept["word"].cast(pa.string())).equals(expanded)
        assert expanded.equals(plain)

    with volary.connect(cluster.url, headers={"volary-dictionaries": "keep"}) as client:
        frame = client.table("words").to_pandas()
        assert str(frame["word"].dtype) == "category"
        assert frame["word"].astype(object).where(frame["word"].notna(), None).tolist() == plain["word"].to_pylist()
    with pytest.raises(pa.ArrowInvalid, match="write values or keep"):
        bare.get_flight_info(asked[0], headers(volary_dictionaries="please"))


def test_a_dictionary_whose_first_rows_are_all_null_is_kept(bare):
    for mode, words in (("OVERWRITE", [None, None]), ("APPEND", ["x", None])):
        column = pa.array(words, pa.string()).dictionary_encode()
        put(bare, "nulls", pa.table({"word": column, "other": pa.array(["y", "z"]).dictionary_encode()}), mode)
    keep = headers(volary_dictionaries="keep")
    info = bare.get_flight_info(flight.FlightDescriptor.for_path("nulls"), keep)
    for _ in range(3):
        kept = bare.do_get(info.endpoints[0].ticket, keep).read_all()
        assert kept["word"].to_pylist() == [None, None, "x", None]
        assert kept["other"].to_pylist() == ["y", "z"] * 2


def test_rows_that_are_read_again_and_again_stay_the_same(bare):
    rows = pa.table({"number": range(100_000), "word": [f"word {number % 7}" for number in range(100_000)]})
    put(bare, "again", rows, "OVERWRITE")
    one_column = flight.FlightDescriptor.for_command(command("Read", dataset="again", columns=["word"]))
    for _ in range(4):
        assert read(bare, flight.FlightDescriptor.for_path("again")).equals(rows)
        assert read(bare, one_column).equals(rows.select(["word"]))
    other = rows.set_column(0, "number", pa.array(range(1, 100_001)))
    put(bare, "again", other, "OVERWRITE")
    assert read(bare, flight.FlightDescriptor.for_path("again")).equals(other)
    assert read(bare, flight.FlightDescriptor.for_command(command("Read", dataset="again@0"))).equals(rows)


def test_a_ticket_is_not_taken_for_another_dataset_that_has_the_name(bare, cluster):
    put(bare, "retaken", pa.table({"n": range(4000)}), "OVERWRITE")
    parts = bare.get_flight_info(flight.FlightDescriptor.for_command(command("Read", dataset="retaken", endpoints=2)))
    whole = bare.get_flight_info(flight.FlightDescriptor.for_path("retaken"))
    assert bare.do_get(whole.endpoints[0].ticket).read_all().num_rows == 4000
    ask(bare, "DropDataset", name="retaken")
    put(bare, "retaken", pa.table({"n": range(4000, 8000)}), "OVERWRITE")
    for server in cluster.servers:
        with flight.connect(server.url) as client:
            for endpoint in parts.endpoints + whole.endpoints:
                with pytest.raises(KeyError, match='dataset "retaken" was removed since the ticket was given'):
                    client.do_get(endpoint.ticket).read_all()
    assert read(bare, flight.FlightDescriptor.for_path("retaken")).num_rows == 4000
