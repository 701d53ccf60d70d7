"""What ADBC tells of the server and how a connection is set up: objects, schemas, info, partitions, polling, options, sessions."""

from __future__ import annotations

import json
import re
import threading

import adbc_driver_manager as manager
import pyarrow as pa
import pyarrow.flight as flight
import pytest
from adbc_driver_flightsql import ConnectionOptions, DatabaseOptions, StatementOptions
from adbc_driver_flightsql import dbapi as adbc

from adbc_connections import connection, cursor
from arrow_types import EVERY_TYPE

COOKIES = {DatabaseOptions.WITH_COOKIE_MIDDLEWARE.value: "true"}
OPTION = ConnectionOptions.OPTION_SESSION_OPTION_PREFIX.value
HEADER = DatabaseOptions.RPC_CALL_HEADER_PREFIX.value
INCREMENTAL = {manager.StatementOptions.INCREMENTAL.value: "true"}


@pytest.fixture
def opened(client, cluster):
    client.put("told-one", pa.table({"a": [1, 2], "b": ["x", None]}), mode="overwrite")
    client.put("told_two", EVERY_TYPE, mode="overwrite")
    with connection(cluster.url) as opened:
        yield opened


def tables_of(opened, **filters) -> dict[str, list[str] | None]:
    """The tables that `adbc_get_objects` finds, each with its columns."""
    found = {}
    for catalog in opened.adbc_get_objects(**filters).read_all().to_pylist():
        for schema in catalog["catalog_db_schemas"] or []:
            for table in schema["db_schema_tables"] or []:
                columns = table["table_columns"]
                found[table["table_name"]] = columns and [column["column_name"] for column in columns]
    return found


def test_objects_are_listed_at_every_depth(opened):
    [catalog] = opened.adbc_get_objects(depth="catalogs").read_all().to_pylist()
    assert (catalog["catalog_name"], catalog["catalog_db_schemas"]) == ("volary", None)
    [catalog] = opened.adbc_get_objects(depth="db_schemas").read_all().to_pylist()
    [schema] = catalog["catalog_db_schemas"]
    assert (schema["db_schema_name"], schema["db_schema_tables"]) == ("public", None)
    assert tables_of(opened, depth="tables")["told-one"] is None
    listed = tables_of(opened, depth="all")
    assert listed["told-one"] == ["a", "b"]
    assert listed["told_two"] == EVERY_TYPE.column_names


def test_objects_are_filtered_by_patterns(opened):
    assert set(tables_of(opened, table_name_filter="told%")) == {"told-one", "told_two"}
    assert set(tables_of(opened, table_name_filter="told_one")) == {"told-one"}, "_ stands for any one character"
    assert set(tables_of(opened, table_name_filter="told-one", table_types_filter=["TABLE"])) == {"told-one"}
    assert tables_of(opened, table_name_filter="told%", table_types_filter=["VIEW"]) == {}
    assert tables_of(opened, table_name_filter="Told%") == {}
    assert tables_of(opened, table_name_filter="told-one", column_name_filter="b") == {"told-one": ["b"]}
    assert set(tables_of(opened, catalog_filter="vol%", db_schema_filter="pub%", table_name_filter="told%")) != set()
    assert tables_of(opened, catalog_filter="elsewhere") == {}
    assert tables_of(opened, db_schema_filter="private") == {}


def test_columns_are_described(opened):
    [catalog] = opened.adbc_get_objects(depth="all", table_name_filter="told-one").read_all().to_pylist()
    [table] = catalog["catalog_db_schemas"][0]["db_schema_tables"]
    assert table["table_type"] == "TABLE"
    assert [column["ordinal_position"] for column in table["table_columns"]] == [1, 2]
    assert [column["xdbc_data_type"] for column in table["table_columns"]] == [-5, 12]  # BIGINT and VARCHAR of JDBC
    assert not table["table_constraints"]


def test_columns_are_described_by_the_names_of_their_types_and_where_they_are_from(opened, client):
    priced = {"price": pa.array([None], pa.decimal128(12, 3)), "at": pa.array([None], pa.timestamp("us", "UTC"))}
    client.put("told_prices", pa.table(priced), mode="overwrite")
    [catalog] = opened.adbc_get_objects(depth="all", table_name_filter="told_prices").read_all().to_pylist()
    [table] = catalog["catalog_db_schemas"][0]["db_schema_tables"]
    price, at = table["table_columns"]
    assert price["xdbc_type_name"] == "DECIMAL"
    assert at["xdbc_type_name"] == "TIMESTAMP WITH TIME ZONE"
    for column in (price, at):
        assert column["xdbc_is_autoincrement"] is False
        assert column["xdbc_scope_catalog"] == "volary"
        assert column["xdbc_scope_schema"] == "public"
        assert column["xdbc_scope_table"] == "told_prices"
    # The driver has no place for the rest; it stands in the schema of the table.
    for field in (
        opened.adbc_get_table_schema("told_prices").field("price"),
        result_of(opened, "SELECT price FROM told_prices").field("price"),
    ):
        said = {key.decode().removeprefix("ARROW:FLIGHT:SQL:"): value for key, value in field.metadata.items()}
        assert (said["PRECISION"], said["SCALE"], said["TABLE_NAME"]) == (b"12", b"3", b"told_prices")
        assert (said["IS_READ_ONLY"], said["IS_SEARCHABLE"], said["IS_CASE_SENSITIVE"]) == (b"0", b"1", b"0")
    [computed] = result_of(opened, "SELECT price * 2 AS twice FROM told_prices")
    assert computed.metadata[b"ARROW:FLIGHT:SQL:IS_READ_ONLY"] == b"1"
    assert b"ARROW:FLIGHT:SQL:TABLE_NAME" not in computed.metadata


def test_a_result_that_is_written_again_leaves_its_description_behind(opened, client, cluster):
    with opened.cursor() as asking:
        asking.execute('SELECT a FROM "told-one"')
        result = asking.fetch_arrow_table()
        assert result.schema.field("a").metadata[b"ARROW:FLIGHT:SQL:TABLE_NAME"] == b"told-one"
        asking.adbc_ingest("told_by_ingest", result, mode="replace")
    client.put("told_by_put", result, mode="overwrite")
    for name in ("told_by_ingest", "told_by_put"):
        with flight.connect(cluster.url) as plain:
            info = plain.get_flight_info(flight.FlightDescriptor.for_path(name))
        assert not info.schema.field("a").metadata
        described = opened.adbc_get_table_schema(name).field("a").metadata
        assert described[b"ARROW:FLIGHT:SQL:TABLE_NAME"] == name.encode()


def result_of(opened, sql: str) -> pa.Schema:
    """The schema of a result, as its stream has it."""
    with opened.cursor() as asking:
        asking.execute(sql)
        return asking.fetch_arrow_table().schema


def test_a_table_tells_its_schema_and_the_server_its_types_of_table(opened):
    assert opened.adbc_get_table_schema("told_two").equals(EVERY_TYPE.schema)
    assert opened.adbc_get_table_schema("told-one", catalog_filter="volary", db_schema_filter="public").names == [
        "a",
        "b",
    ]
    with pytest.raises(adbc.ProgrammingError) as raised:
        opened.adbc_get_table_schema("nowhere")
    assert raised.value.status_code == manager.AdbcStatusCode.NOT_FOUND
    assert opened.adbc_get_table_types() == ["TABLE"]


def test_the_server_is_introduced(opened):
    info = opened.adbc_get_info()
    assert info["vendor_name"] == "Volary"
    assert re.fullmatch(r"\d+\.\d+\.\d+", info["vendor_version"])
    assert info["driver_name"].startswith("ADBC Flight SQL Driver")


def test_statistics_are_refused_by_the_driver(opened):
    with pytest.raises(adbc.NotSupportedError):
        opened.adbc_get_statistics()


def test_a_query_tells_its_schema_without_running(opened):
    with opened.cursor() as asking:
        schema = asking.adbc_execute_schema("SELECT count(*) AS n FROM generate_series(1, 1000000000000)")
        assert schema.names == ["n"]
        assert asking.adbc_execute_schema("SELECT ? + 1 AS next", [1]).field("next").type == pa.int64()
        with pytest.raises(adbc.ProgrammingError, match="nothing"):
            asking.adbc_execute_schema('SELECT nothing FROM "told-one"')


def test_partitions_are_read_elsewhere(opened, cluster):
    """A descriptor is what a program hands to its workers: other connections, other servers."""
    with opened.cursor() as asking:
        partitions, schema = asking.adbc_execute_partitions('SELECT a FROM "told-one" ORDER BY a')
        assert schema.names == ["a"]
    rows = []
    for partition in partitions:
        for server in cluster.servers:
            with cursor(server.url) as worker:
                worker.adbc_read_partition(partition)
                rows.append(worker.fetchall())
    assert rows == [[(1,), (2,)]] * len(cluster.servers)


def test_a_partition_that_was_tampered_with_is_refused(opened):
    with opened.cursor() as asking:
        [partition], _ = asking.adbc_execute_partitions("SELECT 1 AS one")
        forged = partition.replace(b"SELECT 1 AS one", b"SELECT 2 AS one")
        assert forged != partition
        with pytest.raises(adbc.Error, match="signature") as raised:
            asking.adbc_read_partition(forged)
        assert raised.value.status_code == manager.AdbcStatusCode.INVALID_ARGUMENT


def test_a_query_is_run_step_by_step(opened):
    with opened.cursor() as asking:
        asking.adbc_statement.set_options(**INCREMENTAL)
        partitions, schema = asking.adbc_execute_partitions('SELECT a FROM "told-one" ORDER BY a')
        assert schema.names == ["a"]
        assert asking.adbc_statement.get_option_float(manager.StatementOptions.PROGRESS.value) == 1.0
        info = flight.FlightInfo.deserialize(
            asking.adbc_statement.get_option_bytes(StatementOptions.LAST_FLIGHT_INFO.value)
        )
        assert len(info.endpoints) == len(partitions) == 1
        # No more partitions: the query is done.
        assert asking.adbc_execute_partitions('SELECT a FROM "told-one" ORDER BY a')[0] == []
        asking.adbc_read_partition(partitions[0])
        assert asking.fetchall() == [(1,), (2,)]
        with pytest.raises(adbc.ProgrammingError, match="nothing"):
            asking.adbc_execute_partitions('SELECT nothing FROM "told-one"')


def test_headers_of_calls_reach_the_server(opened, cluster):
    """`volary-compression` asks for compressed columns; a codec that is not there is refused by name."""
    query = 'SELECT a FROM "told-one" ORDER BY a'
    for codec in ("lz4", "zstd", "none"):
        with cursor(cluster.url, **{HEADER + "volary-compression": codec}) as asking:
            assert asking.execute(query).fetchall() == [(1,), (2,)]
    with pytest.raises(adbc.Error, match=r"snappy.*lz4"):
        with cursor(cluster.url, **{HEADER + "volary-compression": "snappy"}) as asking:
            asking.execute(query).fetchall()
    # Per connection and per statement too.
    with pytest.raises(adbc.Error, match="snappy"):
        with opened.cursor(adbc_stmt_kwargs={HEADER + "volary-compression": "snappy"}) as asking:
            asking.execute(query).fetchall()


def test_traces_go_on_from_the_callers(opened, cluster):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    identity = "adbc-traced-call"
    with cursor(cluster.url, **{HEADER + "traceparent": trace, HEADER + "x-request-id": identity}) as asking:
        asking.adbc_ingest("told-traced", pa.table({"a": [1]}), mode="replace")
    [line] = [
        line for line in cluster.servers[0].log.read_text().splitlines() if identity in line and "committed" in line
    ]
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in line


def test_sessions_keep_options_in_a_cookie(cluster):
    with connection(cluster.url, **COOKIES) as opened:
        handle = opened.adbc_connection
        wanted = {"catalog": "volary", "schema": "public", "compression": "zstd"}
        # The driver stores a cookie beside the call that brought it: one call in some hundreds shows the cookie before.
        for _ in range(5):
            opened.adbc_current_catalog = "volary"
            opened.adbc_current_db_schema = "public"
            handle.set_options(**{OPTION + "compression": "zstd"})
            if json.loads(handle.get_option(ConnectionOptions.OPTION_SESSION_OPTIONS.value)) == wanted:
                break
        assert (opened.adbc_current_catalog, opened.adbc_current_db_schema) == ("volary", "public")
        assert handle.get_option(OPTION + "compression") == "zstd"
        assert json.loads(handle.get_option(ConnectionOptions.OPTION_SESSION_OPTIONS.value)) == wanted
        for name, value in (("catalog", "elsewhere"), ("compression", "snappy"), ("flavour", "sweet")):
            with pytest.raises(adbc.Error, match=name):
                handle.set_options(**{OPTION + name: value})
        handle.set_options(**{ConnectionOptions.OPTION_ERASE_SESSION_OPTION_PREFIX.value + "compression": ""})
        with pytest.raises(adbc.ProgrammingError):
            handle.get_option(OPTION + "compression")
        with opened.cursor() as asking:
            assert asking.execute("SELECT 1").fetchall() == [(1,)]


def test_logins_are_taken_for_drivers_that_insist(cluster):
    with adbc.connect(cluster.url, db_kwargs={"username": "ann", "password": "secret"}, autocommit=True) as opened:
        with opened.cursor() as asking:
            assert asking.execute("SELECT 1").fetchall() == [(1,)]
    with cursor(cluster.url, **{DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer token"}) as asking:
        assert asking.execute("SELECT 1").fetchall() == [(1,)]


def test_connections_ask_side_by_side(opened, cluster):
    answers: list[int] = []

    def ask(number: int) -> None:
        with cursor(cluster.servers[number % 3].url) as asking:
            for _ in range(5):
                asking.execute(f"SELECT sum(value) + {number} FROM generate_series(1, 1000)")
                answers.append(asking.fetchall()[0][0] - number)

    asking = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    assert answers == [500_500] * 40
