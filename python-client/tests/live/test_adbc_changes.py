"""Changing things through ADBC: bulk ingest in every mode, DDL, inserts, models made and dropped in SQL."""

from __future__ import annotations

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import adbc_driver_manager as manager
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi as adbc

from adbc_connections import cursor, wait_until_idle
from arrow_types import EVERY_TYPE, REPLACED

ROWS = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})


@pytest.fixture
def asking(cluster):
    with cursor(cluster.url) as asking:
        yield asking


@pytest.fixture
def free(client):
    """Names that no dataset has, neither before the test nor after it."""

    def drop() -> None:
        for each in client.datasets():
            if each.name.startswith("changed"):
                client.drop_dataset(each.name)

    drop()
    yield "changed"
    drop()


def rows_of(asking, name: str) -> list[tuple]:
    return asking.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall()


def test_ingest_creates_appends_replaces(asking, free, client):
    assert asking.adbc_ingest(free, ROWS) == 3
    assert rows_of(asking, free) == [(1, "x"), (2, "y"), (3, None)]
    with pytest.raises(adbc.Error, match=free) as raised:
        asking.adbc_ingest(free, ROWS, mode="create")
    assert raised.value.status_code == manager.AdbcStatusCode.ALREADY_EXISTS
    assert asking.adbc_ingest(free, ROWS.slice(0, 1), mode="append") == 1
    assert len(rows_of(asking, free)) == 4
    assert asking.adbc_ingest(free, ROWS.slice(1), mode="create_append") == 2
    assert len(rows_of(asking, free)) == 6
    other = pa.table({"c": [2.5]})
    assert asking.adbc_ingest(free, other, mode="replace") == 1
    assert asking.execute(f"SELECT * FROM {free}").fetch_arrow_table().equals(other)
    # One ingest is one version.
    assert [each.version for each in client.datasets() if each.name == free] == [3]

    with pytest.raises(adbc.ProgrammingError, match="changed_new") as raised:
        asking.adbc_ingest("changed_new", ROWS, mode="append")
    assert raised.value.status_code == manager.AdbcStatusCode.NOT_FOUND
    assert asking.adbc_ingest("changed_new", ROWS, mode="create_append") == 3
    assert asking.adbc_ingest("changed_newer", ROWS, mode="replace") == 3


def test_every_kind_of_rows_is_ingested(asking, free, tmp_path):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None]})
    kinds = {
        "table": ROWS,
        "batch": ROWS.to_batches()[0],
        "reader": ROWS.to_reader(max_chunksize=2),
        "batches": ROWS.to_batches(max_chunksize=1),
        "pandas": frame,
        "polars": pl.from_arrow(ROWS),
    }
    for kind, rows in kinds.items():
        assert asking.adbc_ingest(f"{free}_{kind}", rows) == 3, kind
        answer = asking.execute(f"SELECT * FROM {free}_{kind} ORDER BY a").fetch_arrow_table()
        assert answer.to_pylist() == ROWS.to_pylist(), kind


def test_a_table_of_no_rows_is_made_by_sql_or_of_one_batch_without_rows(asking, free):
    nobody = ROWS.schema.empty_table()
    for mode in ("create", "append", "replace", "create_append"):
        with pytest.raises(adbc.Error):  # the driver sends nothing, not even the table's name
            asking.adbc_ingest(free, nobody, mode=mode)
    assert asking.adbc_ingest(free, pa.RecordBatch.from_pylist([], schema=ROWS.schema)) == 0
    assert asking.execute(f"SELECT * FROM {free}").fetch_arrow_table().schema.names == ROWS.schema.names
    asking.execute(f"CREATE TABLE {free}_by_sql (a BIGINT, b TEXT)")
    assert asking.execute(f"SELECT * FROM {free}_by_sql").fetch_arrow_table().num_rows == 0


def test_every_type_is_ingested_and_comes_back(asking, free):
    assert asking.adbc_ingest(free, EVERY_TYPE) == 2
    answer = asking.execute(f"SELECT * FROM {free}").fetch_arrow_table()
    assert answer.schema.equals(EVERY_TYPE.schema)
    assert answer.to_pylist() == EVERY_TYPE.to_pylist()
    short = pa.table({name: column for name, (column, _) in REPLACED.items()})
    asking.adbc_ingest(f"{free}_short", short)
    assert asking.execute(f"SELECT * FROM {free}_short").fetch_arrow_table().to_pylist() == short.to_pylist()


def test_many_megabytes_are_ingested_as_one_version(asking, free, client):
    count = 1_000_000
    rows = pa.table({"a": range(count), "b": pa.array(range(count), pa.float64()), "c": ["some text"] * count})
    assert asking.adbc_ingest(free, rows.to_reader(max_chunksize=65_536)) == count
    assert asking.execute(f"SELECT count(*), sum(a) FROM {free}").fetchall() == [(count, sum(range(count)))]
    assert [each.version for each in client.datasets() if each.name == free] == [0]


def test_rows_that_do_not_fit_the_table_are_refused_and_change_nothing(asking, free):
    asking.adbc_ingest(free, ROWS)
    for rows, words in (
        (pa.table({"a": ["one"], "b": ["x"]}), '"a"'),
        (pa.table({"other": [1]}), 'column "a" is missing'),
    ):
        with pytest.raises(adbc.ProgrammingError, match=words) as raised:
            asking.adbc_ingest(free, rows, mode="append")
        assert raised.value.status_code == manager.AdbcStatusCode.INVALID_ARGUMENT
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(adbc.ProgrammingError, match=r'column "u".*union'):
        asking.adbc_ingest("changed_union", pa.table({"u": union}))
    assert len(rows_of(asking, free)) == 3


def test_ingest_says_what_it_cannot_do(asking, free):
    for options, words in (
        ({"temporary": True}, "temporary"),
        ({"catalog_name": "elsewhere"}, "elsewhere"),
        ({"db_schema_name": "private"}, "private"),
    ):
        # The driver keeps a statement's options, so each is asked with a statement of its own.
        with asking.connection.cursor() as statement, pytest.raises(adbc.Error, match=words):
            statement.adbc_ingest(free, ROWS, **options)
    with pytest.raises(adbc.ProgrammingError, match="no name"):
        asking.adbc_ingest("no name!", ROWS)
    assert asking.adbc_ingest(free, ROWS, catalog_name="volary", db_schema_name="public") == 3


def test_a_source_that_breaks_half_way_is_not_ingested(asking, free, client):
    def batches():
        yield from ROWS.to_batches()
        raise OSError("the disk went away")

    reader = pa.RecordBatchReader.from_batches(ROWS.schema, batches())
    with pytest.raises(adbc.Error, match="the disk went away"):
        asking.adbc_ingest(free, reader)
    assert free not in {each.name for each in client.datasets()}
    assert asking.adbc_ingest(free, ROWS) == 3


DYING = """
import os, sys
import adbc_driver_flightsql.dbapi as adbc
import pyarrow as pa

def batches():
    yield pa.record_batch({"a": list(range(100_000))})
    os._exit(9)

with adbc.connect(sys.argv[1], autocommit=True) as connection, connection.cursor() as cursor:
    cursor.adbc_ingest(sys.argv[2], pa.RecordBatchReader.from_batches(pa.schema({"a": pa.int64()}), batches()))
"""


def test_a_program_that_dies_in_the_middle_of_an_ingest_leaves_nothing(cluster, free, client):
    assert subprocess.run([sys.executable, "-c", DYING, cluster.url, free]).returncode == 9
    wait_until_idle(cluster.servers[0].http, "do_put")
    assert free not in {each.name for each in client.datasets()}


def test_many_programs_append_side_by_side(cluster, free, client):
    def ingest(number: int) -> int:
        with cursor(cluster.servers[number % len(cluster.servers)].url) as writing:
            return writing.adbc_ingest(free, pa.table({"a": [number] * 10}), mode="create_append")

    with ThreadPoolExecutor(6) as programs:
        assert list(programs.map(ingest, range(12))) == [10] * 12
    assert sorted(client.table(free).to_arrow()["a"].to_pylist()) == [number for number in range(12) for _ in range(10)]


def test_tables_are_made_from_queries_filled_and_dropped(asking, free):
    asking.execute(f"CREATE TABLE {free} AS SELECT 1 AS a, 'x' AS b")
    assert rows_of(asking, free) == [(1, "x")]
    with pytest.raises(adbc.Error, match=free) as raised:
        asking.execute(f"CREATE TABLE {free} AS SELECT 2 AS a").fetchall()
    assert raised.value.status_code == manager.AdbcStatusCode.ALREADY_EXISTS
    asking.execute(f"CREATE TABLE IF NOT EXISTS {free} AS SELECT 2 AS a, 'never' AS b")
    assert rows_of(asking, free) == [(1, "x")]

    asking.execute(f"INSERT INTO {free} VALUES (2, 'y'), (3, NULL)")
    assert rows_of(asking, free) == [(1, "x"), (2, "y"), (3, None)]
    asking.execute(f"INSERT INTO {free} SELECT a + 3, b FROM {free} WHERE a > 1")
    assert rows_of(asking, free) == [(1, "x"), (2, "y"), (3, None), (5, "y"), (6, None)]

    asking.execute(f"CREATE OR REPLACE TABLE {free} AS SELECT 2.5 AS c")
    assert asking.execute(f"SELECT * FROM {free}").fetchall() == [(2.5,)]

    asking.execute(f"DROP TABLE {free}")
    with pytest.raises(adbc.ProgrammingError, match=free):
        asking.execute(f"SELECT * FROM {free}")
    with pytest.raises(adbc.ProgrammingError, match=free) as raised:
        asking.execute(f"DROP TABLE {free}").fetchall()
    assert raised.value.status_code == manager.AdbcStatusCode.NOT_FOUND
    asking.execute(f"DROP TABLE IF EXISTS {free}")


def test_a_change_is_made_once_however_its_answer_is_read(asking, free):
    """`execute` takes the way of a query even for an INSERT, and most people never fetch its answer."""
    asking.execute(f"CREATE TABLE {free} AS SELECT 0 AS a")
    asking.execute(f"INSERT INTO {free} VALUES (1)")
    asking.execute(f"INSERT INTO {free} VALUES (2)").fetchall()
    asking.execute(f"INSERT INTO {free} VALUES (3)").fetch_arrow_table()
    with asking.connection.cursor() as other:
        other.execute(f"INSERT INTO {free} VALUES (4)")
    # The same text again is not prepared again, but is another insert.
    asking.execute(f"INSERT INTO {free} VALUES (5)")
    asking.execute(f"INSERT INTO {free} VALUES (5)")
    assert [a for (a,) in rows_of(asking, free)] == [0, 1, 2, 3, 4, 5, 5]


def test_preparing_a_change_or_asking_for_its_schema_changes_nothing(asking, free):
    asking.execute(f"CREATE TABLE {free} AS SELECT 0 AS a")
    asking.adbc_prepare(f"INSERT INTO {free} VALUES (?)")
    # The driver has no schema for what answers no rows.
    with pytest.raises(adbc.NotSupportedError):
        asking.adbc_execute_schema(f"INSERT INTO {free} VALUES (1)")
    assert rows_of(asking, free) == [(0,)]


def test_many_rows_of_parameters_are_inserted_one_by_one(asking, free):
    asking.execute(f"CREATE TABLE {free} AS SELECT 0 AS a, 'zero' AS b")
    asking.executemany(f"INSERT INTO {free} VALUES (?, ?)", [(1, "one"), (2, None), (3, "three")])
    assert asking.rowcount == 3
    assert rows_of(asking, free) == [(0, "zero"), (1, "one"), (2, None), (3, "three")]
    asking.executemany(f"INSERT INTO {free} VALUES (?, ?)", pa.record_batch({"0": [4], "1": ["four"]}))
    assert asking.rowcount == 1
    asking.executemany(f"INSERT INTO {free} VALUES (?, ?)", [])
    assert len(rows_of(asking, free)) == 5
    asking.execute(f"INSERT INTO {free} VALUES (?, ?)", (5, "five"))
    assert rows_of(asking, free)[-1] == (5, "five")


def test_a_script_of_one_statement_is_an_update(asking, free):
    asking.executescript(f"CREATE TABLE {free} AS SELECT 1 AS a")
    assert rows_of(asking, free) == [(1,)]
    with pytest.raises(adbc.ProgrammingError, match="one at a time"):
        asking.executescript(f"DROP TABLE {free}; DROP TABLE {free}")
    assert rows_of(asking, free) == [(1,)]


def test_changes_that_are_not_ours_are_refused_by_name(asking, free):
    asking.execute(f"CREATE TABLE {free} AS SELECT 1 AS a")
    for statement, word in (
        (f"DELETE FROM {free}", "DELETE"),
        (f"UPDATE {free} SET a = 2", "UPDATE"),
        (f"ALTER TABLE {free} ADD COLUMN b INT", "ALTER"),
        (f"TRUNCATE TABLE {free}", "TRUNCATE"),
        (f"CREATE VIEW changed_view AS SELECT * FROM {free}", "VIEW"),
        ("CREATE EXTERNAL TABLE changed_files STORED AS PARQUET LOCATION '/etc'", "EXTERNAL"),
        ("BEGIN", "BEGIN|transaction|START"),
        ("SET datafusion.execution.batch_size = 1", "SET"),
    ):
        with pytest.raises(adbc.Error, match=f"(?i){word}"):
            asking.execute(statement).fetchall()
    assert rows_of(asking, free) == [(1,)]


@pytest.fixture
def points(client, free):
    """A table whose label is 1 where the sum of two numbers is positive."""
    rows = pd.DataFrame({"x": [math.sin(7 * n) for n in range(2000)], "y": [math.cos(5 * n) for n in range(2000)]})
    rows["side"] = (rows.x + rows.y > 0).astype("int64")
    client.put(f"{free}_points", rows)
    return f"{free}_points"


def test_a_model_is_made_asked_and_dropped_in_sql(asking, points, client):
    asking.execute(
        "CREATE MODEL sides OPTIONS (label = 'side', loss = 'binary_crossentropy', epochs = 8, batch_size = 64) "
        f"AS SELECT x, y, side FROM {points}"
    )
    assert "sides" in {each.name for each in client.models()}

    answers = asking.execute(f"SELECT * FROM predict(model => 'sides', input => TABLE {points})").fetch_arrow_table()
    assert answers.num_rows == 2000
    assert {"x", "y", "side", "prediction", "probability"} <= set(answers.column_names)
    right = sum(a == b for a, b in zip(answers["side"].to_pylist(), answers["prediction"].to_pylist(), strict=True))
    assert right > 1800

    asking.execute(f"SELECT side, predict('sides', x, y) AS answer FROM {points}")
    scalar = asking.fetch_arrow_table()
    assert scalar["answer"].to_pylist()[0]["prediction"] in (0, 1)
    assert asking.execute(
        f"SELECT avg(CASE WHEN prediction = side THEN 1.0 ELSE 0.0 END) "
        f"FROM predict(model => 'sides', input => TABLE {points}) WHERE x > ?", [0.0]
    ).fetchone()[0] > 0.9  # fmt: skip

    asking.execute("DROP MODEL sides")
    assert "sides" not in {each.name for each in client.models()}
    with pytest.raises(adbc.ProgrammingError, match="sides"):
        asking.execute(f"SELECT * FROM predict(model => 'sides', input => TABLE {points})").fetchall()
    with pytest.raises(adbc.ProgrammingError, match="sides"):
        asking.execute("DROP MODEL sides").fetchall()
    asking.execute("DROP MODEL IF EXISTS sides")


def test_a_model_that_cannot_be_trained_says_why(asking, points, client):
    for options, query, words in (
        ("label = 'nothing'", f"SELECT x, y, side FROM {points}", "nothing"),
        ("label = 'side', epochs = 0", f"SELECT x, y, side FROM {points}", "epochs"),
        ("label = 'side', speed = 'high'", f"SELECT x, y, side FROM {points}", "speed"),
        ("label = 'side'", "SELECT x FROM changed_nowhere", "changed_nowhere"),
        ("label = 'side'", f"SELECT x, y, side FROM {points} WHERE x > 7", "row"),
    ):
        with pytest.raises(adbc.Error, match=words):
            asking.execute(f"CREATE MODEL changed_model OPTIONS ({options}) AS {query}").fetchall()
    assert "changed_model" not in {each.name for each in client.models()}
