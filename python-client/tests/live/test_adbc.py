"""Asking through ADBC: queries, parameters, every way to fetch, every type, errors, giving up."""

from __future__ import annotations

import datetime as dt
import decimal
import threading

import adbc_driver_manager as manager
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions
from adbc_driver_flightsql import dbapi as adbc

from adbc_connections import connection, cursor, running, wait_until_idle
from arrow_types import EVERY_TYPE, REPLACED, UNITS

ENDLESS = "SELECT value FROM generate_series(1, 1000000000000)"
LONG = "SELECT count(*) AS n FROM generate_series(1, 1000000000000)"
PEOPLE = {"name": ["ann", "bob", None], "age": [39, 50, 28]}


@pytest.fixture
def asking(client, cluster):
    client.put("adbc", PEOPLE, mode="overwrite")
    with cursor(cluster.url) as asking:
        yield asking


def test_rows_are_fetched_in_every_way_that_the_driver_has(asking):
    query = "SELECT name, age FROM adbc ORDER BY age"
    rows = [(None, 28), ("ann", 39), ("bob", 50)]

    asking.execute(query)
    assert [column[0] for column in asking.description] == ["name", "age"]
    assert asking.fetchone() == rows[0]
    assert asking.rownumber == 1
    assert asking.fetchmany(1) == rows[1:2]
    assert asking.fetchall() == rows[2:]
    assert asking.fetchone() is None
    assert list(asking.execute(query)) == rows

    expected = pa.table({"name": [None, "ann", "bob"], "age": [28, 39, 50]})
    assert asking.execute(query).fetch_arrow_table().equals(expected)
    assert asking.execute(query).fetchallarrow().equals(expected)
    assert asking.execute(query).fetch_record_batch().read_all().equals(expected)
    assert asking.execute(query).fetch_polars().equals(pl.from_arrow(expected))
    assert asking.execute(query).fetch_df()["age"].tolist() == [28, 39, 50]
    assert pa.table(asking.execute(query).fetch_arrow()).equals(expected)


def test_one_connection_has_many_cursors_and_clones(asking):
    with pytest.warns(adbc.Warning, match="autocommit"):
        clone = asking.connection.adbc_clone()
    with asking.connection.cursor() as other, clone:
        asking.execute("SELECT age FROM adbc ORDER BY age")
        other.execute("SELECT age FROM adbc ORDER BY age DESC")
        assert (asking.fetchone(), other.fetchone()) == ((28,), (50,))
        with clone.execute("SELECT 1") as third:
            assert third.fetchall() == [(1,)]


def test_every_kind_of_query_is_answered(asking):
    for query, rows in (
        ("SELECT 1 AS one", [(1,)]),
        ("VALUES (1, 'x'), (2, 'y')", [(1, "x"), (2, "y")]),
        ("WITH older AS (SELECT * FROM adbc WHERE age > 30) SELECT count(*) FROM older", [(2,)]),
        ("SELECT a.name FROM adbc a JOIN adbc b ON a.age = b.age WHERE b.age < 40 AND a.name IS NOT NULL", [("ann",)]),
        ("SELECT name, rank() OVER (ORDER BY age) AS place FROM adbc ORDER BY place DESC LIMIT 1", [("bob", 3)]),
        ("SELECT name FROM adbc WHERE age > 100", []),
        ('SELECT age AS "Age & more" FROM volary.public.adbc ORDER BY age LIMIT 1', [(28,)]),
        ("SELECT CASE WHEN age > 40 THEN 'old' ELSE 'young' END AS kind, count(*) FROM adbc GROUP BY kind ORDER BY kind",
         [("old", 1), ("young", 2)]),
    ):  # fmt: skip
        assert asking.execute(query).fetchall() == rows, query
    assert asking.execute("DESCRIBE adbc").fetch_arrow_table().num_rows == 2
    assert "adbc" in str(asking.execute("SHOW TABLES").fetchall())
    assert asking.execute("EXPLAIN SELECT * FROM adbc").fetch_arrow_table().num_rows > 0


def test_every_type_comes_back_as_it_was(client, cluster):
    client.put("adbc-types", EVERY_TYPE, mode="overwrite")
    with cursor(cluster.url) as asking:
        table = asking.execute('SELECT * FROM "adbc-types"').fetch_arrow_table()
        assert table.schema.equals(EVERY_TYPE.schema)
        assert table.to_pylist() == EVERY_TYPE.to_pylist()
        rows = asking.execute('SELECT int8, decimal128, date32, list FROM "adbc-types" WHERE bool').fetchall()
        assert rows == [(100, decimal.Decimal("1.25"), dt.date(2026, 11, 22), [1, None])]


def test_shorter_ways_of_writing_values_come_back_as_the_values(client, cluster):
    table = pa.table({name: column for name, (column, _) in REPLACED.items()})
    client.put("adbc-short", table, mode="overwrite")
    with cursor(cluster.url) as asking:
        answer = asking.execute('SELECT * FROM "adbc-short"').fetch_arrow_table()
    assert {field.name: field.type for field in answer.schema} == {name: type_ for name, (_, type_) in REPLACED.items()}
    assert answer.to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    "value",
    [
        True, 7, -(2**62), 2.5, "ä", b"\x00\xff", None, dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, 3, 4, 5, 6),
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.time(1, 2, 3), dt.timedelta(days=2), decimal.Decimal("1.50"),
    ],
    ids=str,
)  # fmt: skip
def test_a_parameter_comes_back_as_it_was(asking, value):
    assert asking.execute("SELECT ? AS value", [value]).fetchall() == [(value,)]


def test_a_parameter_of_every_arrow_type_is_taken(asking):
    for name in EVERY_TYPE.column_names:
        one = EVERY_TYPE.select([name]).slice(0, 1)
        answer = asking.execute("SELECT ? AS value", one).fetch_arrow_table()
        assert answer.schema.field("value").type == one.schema.field(name).type, name
        assert answer["value"].to_pylist() == one[name].to_pylist(), name


def test_parameters_are_placed_by_question_marks_or_numbers(asking):
    asking.execute("SELECT name FROM adbc WHERE age > ? AND age < ?", parameters=(30, 45))
    assert asking.fetchall() == [("ann",)]
    asking.execute("SELECT $2 AS second, $1 AS first, $2 AS again", parameters=(1, "x"))
    assert asking.fetchall() == [("x", 1, "x")]
    asking.execute("SELECT age FROM adbc ORDER BY age LIMIT ?", parameters=[1])
    assert asking.fetchall() == [(28,)]
    # The same statement with other values is not prepared again.
    asking.execute("SELECT name FROM adbc WHERE age = ?", parameters=[50])
    assert asking.fetchall() == [("bob",)]
    asking.execute("SELECT name FROM adbc WHERE age = ?", parameters=[39])
    assert asking.fetchall() == [("ann",)]


def test_a_query_is_answered_for_every_row_of_parameters(asking):
    asking.execute("SELECT name FROM adbc WHERE age = ?", pa.record_batch({"0": [50, 1, 39]}))
    assert asking.fetchall() == [("bob",), ("ann",)]


def test_a_prepared_statement_tells_its_parameters(asking):
    schema = asking.adbc_prepare("SELECT name FROM adbc WHERE age > ?")
    assert [(field.name, field.type) for field in schema] == [("$1", pa.int64())]
    assert asking.execute("SELECT name FROM adbc WHERE age > ?", [45]).fetchall() == [("bob",)]


def test_parameters_that_do_not_fit_are_refused_with_what_would(asking):
    for query, parameters, words in (
        ("SELECT ? + 1 AS next", ["x"], r"parameter \$1: .*'x'"),
        ("SELECT ? + 1 AS next", [1, 2], "number of parameters is 1.* 2 values"),
        ("SELECT name FROM adbc WHERE age > :age", {"age": 1}, r":age .*write \? or \$1, \$2"),
        ("SELECT name FROM adbc WHERE age > $age", {"age": 1}, r"\$age .*write \? or \$1, \$2"),
    ):
        with pytest.raises(adbc.ProgrammingError, match=words) as raised:
            asking.execute(query, parameters)
        assert raised.value.status_code == manager.AdbcStatusCode.INVALID_ARGUMENT, query
    assert asking.execute("SELECT 1").fetchall() == [(1,)]


def test_the_promised_schema_is_the_streamed_one_nulls_included(client, asking):
    """The driver compares them itself and refuses a stream that differs; aggregates are where other servers differed."""
    schema = pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("amount", pa.float64(), nullable=False)])
    client.put("adbc-strict", pa.table({"key": ["a", "b", "a"], "amount": [1.0, 2.0, 3.0]}, schema), mode="overwrite")
    for query in (
        'SELECT * FROM "adbc-strict"',
        'SELECT count(*) AS n, sum(amount) AS total, min(key) AS first, avg(amount) AS mean FROM "adbc-strict"',
        'SELECT key, max(amount) AS most FROM "adbc-strict" GROUP BY key',
        'SELECT key, max(amount) AS most FROM "adbc-strict" WHERE key > ? GROUP BY key',
        'SELECT l.key, r.amount FROM "adbc-strict" l LEFT JOIN "adbc-strict" r ON l.amount = r.amount + 7',
        'SELECT key FROM "adbc-strict" UNION ALL SELECT NULL',
        'SELECT coalesce(amount, 0) AS amount, amount IS NULL AS missing FROM "adbc-strict"',
        'SELECT * FROM "adbc-strict" WHERE amount < 0',
    ):
        parameters = ("",) if "?" in query else None
        promised = asking.adbc_execute_schema(query, parameters)
        streamed = asking.execute(query, parameters).fetch_arrow_table().schema
        assert streamed.equals(promised, check_metadata=True), query


def test_results_of_many_megabytes_fit_drivers_that_take_four(asking, cluster):
    with cursor(cluster.url, **{DatabaseOptions.WITH_MAX_MSG_SIZE.value: str(4 << 20)}) as small:
        reader = small.execute("SELECT value, value AS again, value + 1 AS next FROM generate_series(1, 2000000)")
        table = reader.fetch_arrow_table()
        assert table.num_rows == 2_000_000
        assert table.nbytes > 40_000_000
        # One row cannot be cut; the driver says so in its own words, and how much it would have to take.
        with pytest.raises(adbc.InternalError, match="larger than max"):
            small.execute("SELECT repeat('x', 5000000) AS long").fetchall()
    [(text,)] = asking.execute("SELECT repeat('x', 5000000) AS long").fetchall()
    assert len(text) == 5_000_000


def test_errors_are_the_drivers_exceptions_with_the_servers_words(asking):
    for query, kind, status, words in (
        ("SELECT nothing FROM adbc", adbc.ProgrammingError, "INVALID_ARGUMENT", '"nothing".*"name"'),
        ("SELECT * FROM nowhere", adbc.ProgrammingError, "NOT_FOUND", 'no dataset "nowhere"'),
        ("SELEC 1", adbc.ProgrammingError, "INVALID_ARGUMENT", "SELEC"),
        ("SELECT 1; SELECT 2", adbc.ProgrammingError, "INVALID_ARGUMENT", "one at a time"),
        ("SELECT age / 0 FROM adbc", adbc.ProgrammingError, "INVALID_ARGUMENT", "[Dd]ivide by zero"),
        ("SELECT predict('no-model', age) FROM adbc", adbc.ProgrammingError, "NOT_FOUND", "no-model"),
        ("COPY adbc TO '/tmp/x.parquet'", adbc.ProgrammingError, "INVALID_ARGUMENT", "not allowed"),
    ):
        with pytest.raises(kind, match=words) as raised:
            asking.execute(query).fetchall()
        assert raised.value.status_code == manager.AdbcStatusCode[status], query
    # The cursor goes on after each of them.
    assert asking.execute("SELECT count(*) FROM adbc").fetchall() == [(3,)]


def test_a_server_that_is_not_there_is_an_operational_error(asking):
    with pytest.raises(adbc.Error, match="refused") as raised:
        with cursor("grpc://127.0.0.1:1") as nobody:
            nobody.execute("SELECT 1")
    assert raised.value.status_code == manager.AdbcStatusCode.IO


def test_cancelling_ends_the_query_and_the_servers_work(asking, cluster):
    asking.execute(LONG)
    caught: list[BaseException] = []

    def fetch() -> None:
        try:
            asking.fetchall()
        except adbc.Error as error:
            caught.append(error)

    fetching = threading.Thread(target=fetch)
    fetching.start()
    asking.adbc_cancel()
    fetching.join()
    assert [each.status_code for each in caught] == [manager.AdbcStatusCode.CANCELLED]
    wait_until_idle(cluster.servers[0].http, "do_get")
    assert asking.execute("SELECT 1").fetchall() == [(1,)]


def test_a_connection_that_closes_in_the_middle_of_a_result_leaves_no_work_behind(cluster):
    http = cluster.servers[0].http
    with cursor(cluster.url) as leaving:
        assert leaving.execute(ENDLESS).fetch_record_batch().read_next_batch().num_rows > 0
        assert running(http, "do_get") >= 1
    wait_until_idle(http, "do_get")


def test_a_driver_that_has_waited_long_enough_says_so_and_the_server_stops(cluster):
    with cursor(cluster.url, **{DatabaseOptions.TIMEOUT_FETCH.value: "0.2"}) as hasty:
        with pytest.raises(adbc.OperationalError) as raised:
            hasty.execute(LONG).fetchall()
        assert raised.value.status_code == manager.AdbcStatusCode.TIMEOUT
    wait_until_idle(cluster.servers[0].http, "do_get")


def test_transactions_are_refused_politely(cluster):
    with pytest.warns(adbc.Warning, match="Cannot disable autocommit"):
        opened = adbc.connect(cluster.url)
    with opened, opened.cursor() as asking:
        assert asking.execute("SELECT 1").fetchall() == [(1,)]
        opened.commit()
    with connection(cluster.url) as opened:
        with pytest.raises(adbc.NotSupportedError):
            opened.adbc_connection.set_autocommit(False)


def test_every_unit_of_time_can_be_compared_with_a_parameter(client, cluster):
    client.put("adbc-types", EVERY_TYPE, mode="overwrite")
    with cursor(cluster.url) as asking:
        for unit in UNITS:
            for zone in ("None", "UTC"):
                then = dt.datetime(2026, 1, 1, tzinfo=None if zone == "None" else dt.UTC)
                asking.execute(f'SELECT count(*) FROM "adbc-types" WHERE "timestamp_{unit}_{zone}" > ?', [then])
                assert asking.fetchall() == [(1,)], (unit, zone)
