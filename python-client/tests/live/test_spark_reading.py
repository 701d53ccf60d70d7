"""Datasets as Spark DataFrames: one partition for each endpoint, the rows in their order."""

from __future__ import annotations

import datetime
import decimal

import pyarrow as pa
import pytest

from volary.errors import InvalidArgumentError, NotFoundError

ROWS = 3_000


@pytest.fixture(scope="module")
def servers(cluster):
    return [server.url for server in cluster.servers]


@pytest.fixture(scope="module")
def many(client):
    """A dataset of three files, version 0 of which has the first only."""
    for first in range(0, ROWS, 1_000):
        number = list(range(first, first + 1_000))
        rows = pa.table(
            {"number": number, "text": [f"row {each}" for each in number], "half": [each / 2 for each in number]}
        )
        client.put("spark_many", rows, mode="append" if first else "error")
    yield "spark_many"
    client.drop_dataset("spark_many")


def test_partitions_are_endpoints_and_rows_stay_in_order(spark, servers, many):
    from volary.spark import read_dataframe

    df = read_dataframe(spark, many, server=servers)
    assert df.columns == ["number", "text", "half"]
    assert df.rdd.getNumPartitions() == 3
    assert [row.number for row in df.collect()] == list(range(ROWS))
    assert df.where("number >= 2990").selectExpr("sum(half)").first()[0] == sum(range(2990, 3000)) / 2
    assert read_dataframe(spark, many, server=servers, endpoints=1).rdd.getNumPartitions() == 1


def test_a_version_stays_what_it_was(spark, servers, many, client):
    from volary.spark import read_dataframe

    assert read_dataframe(spark, f"{many}@0", server=servers).count() == 1_000
    client.put("spark_grows", {"a": [1]})
    df = read_dataframe(spark, "spark_grows", server=servers)
    client.put("spark_grows", {"a": [2]}, mode="append")
    assert [row.a for row in df.collect()] == [1], "the version was settled when the DataFrame was made"
    assert read_dataframe(spark, "spark_grows", server=servers).count() == 2
    client.drop_dataset("spark_grows")


def test_columns_that_are_not_wanted_are_not_sent(spark, servers, many):
    from volary.spark import read_dataframe

    df = read_dataframe(spark, many, server=servers, columns=["half", "number"])
    assert df.columns == ["half", "number"]
    assert tuple(df.orderBy("number").first()) == (0.0, 0)


def test_a_query_is_a_dataframe_too(spark, servers, many):
    from volary.spark import read_dataframe

    query = f"SELECT number % 2 AS odd, count(*) AS n FROM {many} GROUP BY 1 ORDER BY 1;"
    assert [tuple(row) for row in read_dataframe(spark, query, server=servers).collect()] == [(0, 1500), (1, 1500)]
    assert read_dataframe(spark, query, server=servers, columns=["n"]).columns == ["n"]


def test_the_format_is_known_to_spark_by_its_name(spark, servers, many):
    from volary.spark import register

    register(spark)

    def reader(**options):
        return spark.read.format("volary").options(server=servers[0], **options)

    assert reader(columns="number, half").load(f"{many}@0").count() == 1_000
    assert reader(query=f"SELECT count(*) AS n FROM {many}").load().first().n == ROWS
    typed = reader(columns="number").schema("number double").load(many)
    assert typed.agg({"number": "max"}).first()[0] == ROWS - 1.0


def test_types_come_as_the_nearest_that_spark_has(spark, servers, client):
    from volary.spark import read_dataframe

    utc = datetime.UTC
    moment = datetime.datetime(2024, 7, 1, 12, 30, 0, 123456, tzinfo=utc)
    rows = pa.table(
        {
            "small": pa.array([200, None], pa.uint8()),
            "large": pa.array([2**64 - 1, None], pa.uint64()),
            "pair": pa.array([[1.5, 2.5], None], pa.list_(pa.float32(), 2)),
            "fine": pa.array([moment, None], pa.timestamp("ns", "UTC")),
            "plain": pa.array([moment.replace(tzinfo=None), None], pa.timestamp("us")),
            "price": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)),
            "word": pa.array(["x", None]).dictionary_encode(),
            "bytes": pa.array([b"\x00", None]),
            "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
            "within": pa.array(
                [{"a": [1, None], "b": "x"}, None], pa.struct([("a", pa.list_(pa.int8())), ("b", pa.string())])
            ),
        }
    )
    client.put("spark_types", rows)
    first, second = read_dataframe(spark, "spark_types", server=servers).collect()
    client.drop_dataset("spark_types")
    assert (first.small, first.large, first.pair) == (200, decimal.Decimal(2**64 - 1), [1.5, 2.5])
    assert first.fine.astimezone(utc) == moment
    assert first.plain == moment.replace(tzinfo=None)
    assert (first.price, first.word, first.bytes, first.map) == (decimal.Decimal("1.50"), "x", b"\x00", {"a": 1})
    assert first.within.asDict() == {"a": [1, None], "b": "x"}
    assert set(second) == {None}


def test_a_task_that_comes_after_its_ticket_has_expired_asks_anew(cluster, many):
    from volary.spark.reading import EndpointPartition, VolaryDataSource
    from volary.spark.servers import Servers

    source = VolaryDataSource({"dataset": many, **Servers.of(cluster.url).to_options()})
    reader = source.reader(source.schema())
    parts = reader.partitions()
    expected = [batch.to_pydict() for batch in reader.read(parts[1])]

    def expired(*_):
        raise NotFoundError("the ticket has expired")

    class Late(type(reader)):
        def _batches(self, transport, partition):
            transport_read, asked = transport.read_endpoint, []

            def read_endpoint(endpoint):
                asked.append(endpoint)
                return expired() if len(asked) == 1 else transport_read(endpoint)

            transport.read_endpoint = read_endpoint
            return super()._batches(transport, partition)

    late = Late(reader.servers, reader.what, reader.schema)
    assert [batch.to_pydict() for batch in late.read(parts[1])] == expected
    with pytest.raises(NotFoundError, match="what was 7 endpoints is 3 now; read the DataFrame anew"):
        list(late.read(EndpointPartition(parts[1].endpoint, 1, 7)))


def test_what_cannot_be_read_is_refused_in_the_servers_words(spark, servers, many):
    from volary.spark import read_dataframe, register

    with pytest.raises(NotFoundError, match='there is no dataset "spark_none"'):
        read_dataframe(spark, "spark_none", server=servers)
    with pytest.raises(InvalidArgumentError, match='there is no column "x"'):
        read_dataframe(spark, f"SELECT x FROM {many}", server=servers)
    with pytest.raises(InvalidArgumentError, match='there is no column "x"'):
        read_dataframe(spark, many, server=servers, columns=["x"])
    with pytest.raises(TypeError, match="columns is a list of names"):
        read_dataframe(spark, many, server=servers, columns="x")
    register(spark)
    with pytest.raises(Exception, match="is given the dataset None and the query None; give one of them"):
        spark.read.format("volary").load()
