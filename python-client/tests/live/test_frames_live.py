"""pandas, polars and DuckDB with a real server: every type there and back, through our client, Flight alone and ADBC."""

from __future__ import annotations

import datetime as dt
import decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.flight as flight
import pytest

from adbc_connections import connection
from test_bare_flight import command
from volary import errors

NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.int8(): pd.Int8Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.float64(): pd.Float64Dtype(),
}


@pytest.fixture
def adbc(cluster):
    with connection(cluster.url) as opened:
        yield opened


@pytest.fixture
def bare(cluster):
    with flight.connect(cluster.url) as client:
        yield client


@pytest.fixture
def free(client):
    """A name that no dataset has, neither before the test nor after it."""

    def drop() -> None:
        for each in client.datasets():
            if each.name.startswith("framed"):
                client.drop_dataset(each.name)

    drop()
    yield "framed"
    drop()


# -- pandas ---------------------------------------------------------------------------------------------------------

SAME = {
    "int64": np.array([1, -2, 3]),
    "uint8": np.array([1, 2, 255], "uint8"),
    "float32": np.array([1.5, -0.0, 2.5], "float32"),
    "bool": np.array([True, False, True]),
    "str": pd.array(["x", None, "ä"], dtype="str"),
    "timestamp": pd.to_datetime(["2026-01-01 10:30:00.123456", None, "1969-12-31 00:00:00.5"]),
    "zone": pd.to_datetime(["2026-01-01", None, "2026-07-01"]).tz_localize("Europe/Berlin"),
    "nanoseconds": pd.to_datetime(["2026-01-01 10:30:00.123456789", None, "1969-12-31 00:00:00.5"]).as_unit("ns"),
    "timedelta": pd.to_timedelta([1, None, 2], unit="D"),
    "period": pd.period_range("2026-01", periods=3, freq="M"),
    "interval": pd.interval_range(0, 3),
    "decimal": [decimal.Decimal("1.25"), None, decimal.Decimal("-2.50")],
    "date": [dt.date(2026, 1, 1), None, dt.date(1969, 12, 31)],
    "bytes": [b"\x00\xff", None, b""],
}


@pytest.mark.parametrize("kind", SAME)
def test_a_pandas_column_comes_back_as_it_was(client, free, kind):
    frame = pd.DataFrame({"value": SAME[kind]})
    client.put(free, frame)
    pd.testing.assert_frame_equal(client.table(free).to_pandas(), frame)


def test_nullable_columns_of_pandas_come_back_when_asked_for(client, free):
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([1, None, -128], dtype="Int8"),
            "c": pd.array([1, None, 2**32 - 1], dtype="UInt32"),
            "d": pd.array([True, None, False], dtype="boolean"),
            "e": pd.array([1.5, None, 2.5], dtype="Float64"),
        }
    )
    client.put(free, frame)
    pd.testing.assert_frame_equal(client.table(free).to_arrow().to_pandas(types_mapper=NULLABLE.get), frame)
    # What pandas does of itself with integers that may be missing.
    assert client.table(free).to_pandas()["a"].dtype == "float64"


def test_arrow_columns_of_pandas_come_back_when_asked_for(client, free):
    price = pa.decimal128(10, 2)
    frame = pd.DataFrame(
        {
            "a": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int32())),
            "b": pd.array(["x", None, "z"], dtype=pd.ArrowDtype(pa.string())),
            "c": pd.array([[1, 2], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
            "d": pd.array([{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}],
                          dtype=pd.ArrowDtype(pa.struct({"x": pa.int64(), "y": pa.string()}))),
            "e": pd.array([decimal.Decimal("1.25"), None, decimal.Decimal("2.50")], dtype=pd.ArrowDtype(price)),
            "f": pd.array([dt.datetime(2026, 1, 1), None, None], dtype=pd.ArrowDtype(pa.timestamp("us", "Europe/Berlin"))),
        }
    )  # fmt: skip
    client.put(free, frame)
    back = client.table(free).to_arrow().to_pandas(types_mapper=pd.ArrowDtype)
    pd.testing.assert_frame_equal(back, frame)


def test_categories_come_back_as_their_values(client, free):
    words = pd.Categorical(["b", "a", None], categories=["b", "a"], ordered=True)
    frame = pd.DataFrame({"words": words, "numbers": pd.Categorical([5, 7, 5])})
    client.put(free, frame)
    back = client.table(free).to_pandas()
    assert back["words"].tolist()[:2] == ["b", "a"]
    assert pd.isna(back["words"][2])
    assert back["numbers"].tolist() == [5, 7, 5]
    assert back["words"].astype(words.dtype).equals(frame["words"])


def test_nested_columns_of_pandas_keep_their_values(client, free):
    frame = pd.DataFrame({"list": [[1, 2], None, []], "struct": [{"a": 1, "b": ["x"]}, None, {"a": 2, "b": []}]})
    client.put(free, frame)
    back = client.table(free).to_arrow().to_pylist()
    assert [row["list"] for row in back] == frame["list"].tolist()
    assert [row["struct"] for row in back] == frame["struct"].tolist()


def test_the_index_is_a_column_when_it_is_made_one(client, free):
    frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="key"))
    client.put(free, frame)
    assert client.table(free).schema.names == ["a"]
    client.put(free, frame.reset_index(), mode="overwrite")
    pd.testing.assert_frame_equal(client.table(free).to_pandas().set_index("key"), frame)


def test_a_pandas_column_of_mixed_things_is_refused_by_name(client, free):
    with pytest.raises(errors.InvalidArgumentError, match="mixed"):
        client.put(free, pd.DataFrame({"mixed": [1, "x", None]}))
    assert free not in {each.name for each in client.datasets()}


def test_pandas_reads_and_writes_through_adbc(adbc, free):
    frame = pd.DataFrame(
        {"a": [1, 2, 3], "b": ["x", None, "z"], "c": pd.to_datetime(["2026-01-01", None, "2026-01-03"])}
    )
    assert frame.to_sql(free, adbc, index=False) == 3
    pd.testing.assert_frame_equal(pd.read_sql(f"SELECT * FROM {free} ORDER BY a", adbc), frame)
    pd.testing.assert_frame_equal(pd.read_sql_table(free, adbc), frame)
    assert pd.read_sql(free, adbc, dtype_backend="pyarrow")["a"].dtype == pd.ArrowDtype(pa.int64())
    assert pd.read_sql(f"SELECT a FROM {free} WHERE a > 1 ORDER BY a", adbc)["a"].tolist() == [2, 3]

    with pytest.raises(ValueError, match="already exists"):
        frame.to_sql(free, adbc, index=False)
    assert frame.to_sql(free, adbc, index=False, if_exists="append") == 3
    assert len(pd.read_sql(free, adbc)) == 6
    assert frame.head(1).to_sql(free, adbc, index=False, if_exists="replace") == 1
    assert len(pd.read_sql(free, adbc)) == 1
    frame.set_index("a").to_sql(f"{free}_indexed", adbc)
    assert pd.read_sql_table(f"{free}_indexed", adbc, index_col="a").index.tolist() == [1, 2, 3]
    with pytest.raises(Exception, match="nowhere"):
        pd.read_sql("SELECT * FROM nowhere", adbc)


# -- polars ---------------------------------------------------------------------------------------------------------

POLARS = pl.DataFrame(
    {
        "int": [1, None],
        "uint8": pl.Series([1, 255], dtype=pl.UInt8),
        "float": [1.5, None],
        "bool": [True, None],
        "text": ["ä", None],
        "bytes": [b"\x00", None],
        "date": [dt.date(2026, 1, 1), None],
        "time": [dt.time(10, 30), None],
        "naive": [dt.datetime(2026, 1, 1, 10), None],
        "zone": pl.Series([dt.datetime(2026, 1, 1, 10), None]).dt.replace_time_zone("Europe/Berlin"),
        "nanoseconds": pl.Series([1, None]).cast(pl.Datetime("ns")),
        "duration": [dt.timedelta(days=1), None],
        "decimal": pl.Series([decimal.Decimal("1.25"), None], dtype=pl.Decimal(10, 2)),
        "list": [[1, None], None],
        "array": pl.Series([[1, 2], None], dtype=pl.Array(pl.Int64, 2)),
        "struct": [{"a": 1, "b": "x"}, {"a": None, "b": None}],
        "list_of_structs": [[{"a": 1}], []],
        "null": [None, None],
    }
)


def test_every_polars_type_comes_back_as_it_was(client, bare, adbc, free):
    client.put(free, POLARS)
    polars.testing.assert_frame_equal(client.table(free).to_polars(), POLARS)
    info = bare.get_flight_info(flight.FlightDescriptor.for_path(free))
    polars.testing.assert_frame_equal(pl.from_arrow(bare.do_get(info.endpoints[0].ticket).read_all()), POLARS)
    polars.testing.assert_frame_equal(pl.read_database(f"SELECT * FROM {free}", connection=adbc), POLARS)


def test_categories_of_polars_come_back_as_their_values(client, free):
    frame = pl.DataFrame(
        {
            "categorical": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "enum": pl.Series(["y", "x", None], dtype=pl.Enum(["x", "y"])),
        }
    )
    client.put(free, frame)
    polars.testing.assert_frame_equal(client.table(free).to_polars(), frame.cast(pl.String))


def test_a_polars_type_that_arrow_does_not_have_is_refused_by_name(client, free):
    frame = pl.DataFrame({"fits": [1], "large": pl.Series([1], dtype=pl.Int128)})
    with pytest.raises(errors.InvalidArgumentError, match='column "large" of type Int128'):
        client.put(free, frame)
    assert free not in {each.name for each in client.datasets()}


class Marked(pl.BaseExtension):
    """A type of the user's own, stored as another."""

    def __init__(self, storage, metadata="marked"):
        super().__init__("volary.tests.marked", storage, metadata)

    @classmethod
    def ext_from_params(cls, name, storage, metadata):
        return cls(storage, metadata)


@pytest.mark.parametrize(
    "objects",
    [
        lambda: pl.Series([object(), {1}], dtype=pl.Object),
        lambda: pl.Series([object(), object()], dtype=pl.Object).reshape((1, 2)),
        lambda: pl.Series([object()], dtype=pl.Object).ext.to(Marked(pl.Object())),
        lambda: pl.Series([], dtype=pl.Object),
    ],
    ids=["alone", "in an array", "as an extension", "without rows"],
)
def test_python_objects_of_polars_are_refused_by_the_columns_name(client, free, objects):
    column = objects()
    frame = pl.DataFrame({"fits": list(range(len(column))), "things": column})
    with pytest.raises(errors.InvalidArgumentError, match=r'column "things" of type .* holds Python objects'):
        client.put(free, frame)
    assert free not in {each.name for each in client.datasets()}


def test_types_of_polars_within_others_come_back_as_what_they_hold(client, free):
    frame = pl.DataFrame(
        {
            "own": pl.Series([1, 2]).ext.to(Marked(pl.Int64())),
            "map": pl.Series([{"a": 1}, None], dtype=pl.Map(pl.String, pl.Int64)),
            "half": pl.Series([1.5, None], dtype=pl.Float16),
            "array": pl.Series([[[1, 2], [3, 4]], None], dtype=pl.Array(pl.Int8, (2, 2))),
        }
    )
    client.put(free, frame)
    polars.testing.assert_frame_equal(client.table(free).to_polars(), frame)


@pytest.mark.parametrize("kind", [dict, pd.DataFrame], ids=["dict", "pandas"])
def test_a_number_beyond_64_bits_is_refused_by_its_columns_name(client, free, kind):
    with pytest.raises(
        errors.InvalidArgumentError, match='column "large" has a whole number that does not fit 64 bits'
    ):
        client.put(free, kind({"fits": [1], "large": [2**70]}))


def test_a_single_series_is_told_to_be_made_a_frame(client, free):
    with pytest.raises(errors.InvalidArgumentError, match=r"a Series gives no rows .* series\.to_frame\(\)"):
        client.put(free, pl.Series("a", [1]))


def test_polars_reads_through_adbc(adbc, client, free):
    client.put(free, {"a": [1, 2, 3], "b": ["x", None, "z"]})
    frame = pl.read_database(
        f"SELECT a FROM {free} WHERE a > ? ORDER BY a", connection=adbc, execute_options={"parameters": [1]}
    )
    assert frame["a"].to_list() == [2, 3]
    assert pl.read_database(f"SELECT a FROM {free} WHERE a > 9", connection=adbc).schema == {"a": pl.Int64}
    batches = pl.read_database("SELECT value FROM generate_series(1, 50000)", connection=adbc, iter_batches=True)
    heights = [batch.height for batch in batches]
    assert sum(heights) == 50_000
    assert len(heights) > 1


def test_polars_writes_through_adbc(adbc, free):
    frame = pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [[1], []]})
    assert frame.write_database(free, connection=adbc, engine="adbc") == 2
    polars.testing.assert_frame_equal(pl.read_database(f"SELECT * FROM {free}", connection=adbc), frame)
    with pytest.raises(Exception, match=free):
        frame.write_database(free, connection=adbc, engine="adbc", if_table_exists="fail")
    frame.write_database(free, connection=adbc, engine="adbc", if_table_exists="append")
    assert pl.read_database(f"SELECT count(*) AS n FROM {free}", connection=adbc)["n"].to_list() == [4]
    frame.write_database(free, connection=adbc, engine="adbc", if_table_exists="replace")
    assert pl.read_database(f"SELECT count(*) AS n FROM {free}", connection=adbc)["n"].to_list() == [2]


# -- DuckDB ---------------------------------------------------------------------------------------------------------


def test_duckdb_queries_a_reader_of_flight_as_it_streams(bare):
    asked = command("Query", sql="SELECT value, value % 7 AS day FROM generate_series(1, 200000)")
    reader = bare.do_get(flight.Ticket(asked)).to_reader()
    with duckdb.connect() as database:
        database.register("streamed", reader)
        answer = database.sql("SELECT day, count(*) AS n FROM streamed GROUP BY day ORDER BY day LIMIT 2")
        assert answer.fetchall() == [(0, 28571), (1, 28572)]


def test_duckdb_queries_readers_of_our_client_and_of_adbc(client, adbc, free):
    client.put(free, {"a": [1, 2, 3], "b": ["x", None, "z"]})
    with duckdb.connect() as database:
        ours = client.table(free).to_reader()
        assert database.from_arrow(ours).filter("a > 1").order("a").fetchall() == [(2, None), (3, "z")]
        with adbc.cursor() as asking:
            theirs = asking.execute(f"SELECT a FROM {free}").fetch_record_batch()
            assert database.from_arrow(theirs).aggregate("sum(a)").fetchall() == [(6,)]


RELATION = """
    SELECT i AS number, i::DECIMAL(10, 2) AS price, [i, NULL] AS list, {'x': i, 'y': ['a']} AS struct, MAP {'a': i} AS map,
        DATE '2026-01-01' + i::INTEGER AS day, TIMESTAMP '2026-01-01 10:30:00' AS moment, i::UTINYINT AS small,
        TIME '10:30:00' AS time, 'text' AS text, 'abc'::BLOB AS bytes, i::HUGEINT AS huge, i > 1 AS truth, i / 2 AS real
    FROM range(3) numbers(i)
"""


def test_a_relation_of_duckdb_is_uploaded_with_all_its_types(client, adbc, free):
    with duckdb.connect() as database:
        expected = database.sql(RELATION).fetchall()
        client.put(free, database.sql(RELATION))
        with adbc.cursor() as asking:
            assert asking.adbc_ingest(f"{free}_ingested", database.sql(RELATION)) == 3
        for name in (free, f"{free}_ingested"):
            back = client.table(name).to_arrow()
            assert database.from_arrow(back).order("number").fetchall() == expected, name


def test_a_relation_of_duckdb_goes_up_as_it_is_made_through_flight_alone(bare, client, free):
    with duckdb.connect() as database:
        reader = database.sql("SELECT i AS number FROM range(300000) numbers(i)").to_arrow_reader(50_000)
        writer, replies = bare.do_put(flight.FlightDescriptor.for_path(free), reader.schema)
        for batch in reader:
            writer.write_batch(batch)
            replies.read()
        writer.done_writing()
        while replies.read() is not None:
            pass
        writer.close()
    assert client.table(free).rows == 300_000


def test_frames_of_all_three_are_answered_by_one_model(client, census_model, census):
    """The model reads what each of them calls a column of text, a number, a missing value."""
    _, test = census
    rows = test.head(200)
    as_pandas = client.model("census").predict(rows)
    as_polars = client.model("census").predict(pl.from_pandas(rows))
    with duckdb.connect() as database:
        as_duckdb = client.model("census").predict(database.from_df(rows).to_arrow_table())
    assert as_pandas["probability"].tolist() == as_polars["probability"].to_list()
    assert as_pandas["probability"].tolist() == as_duckdb["probability"].to_pylist()
