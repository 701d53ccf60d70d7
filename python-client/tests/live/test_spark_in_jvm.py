"""`transform` inside Spark's JVM: the same answers as by Python workers, whatever lies below and above it."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import volary
from volary import layers
from volary.errors import InvalidArgumentError
from volary.spark import VolaryModel, jvm

ROWS = 6_000
NAMES = ["volary", "flight", "spark", None]


@contextlib.contextmanager
def settings(session, **given):
    """Settings of a session, written with _ for a dot, while the block runs."""
    names = {name: name.replace("_", ".") for name in given}
    before = {name: session.conf.get(key, None) for name, key in names.items()}
    for name, value in given.items():
        session.conf.set(names[name], str(value))
    try:
        yield
    finally:
        for name, value in before.items():
            session.conf.unset(names[name]) if value is None else session.conf.set(names[name], value)


def plan(df) -> str:
    return df._jdf.queryExecution().executedPlan().toString()


def both(stage: VolaryModel, df):
    """The DataFrame with the answers, by the operator and by Python workers."""
    with_operator = stage.transform(df)
    assert "VolaryPredict" in plan(with_operator)
    df.sparkSession.conf.set(jvm.SETTING, "false")
    try:
        by_workers = stage.transform(df)
    finally:
        df.sparkSession.conf.set(jvm.SETTING, "true")
    assert "VolaryPredict" not in plan(by_workers)
    return with_operator, by_workers


def check(stage: VolaryModel, df) -> list:
    """The answers, which are the same by both ways: columns, types, order and every bit."""
    with_operator, by_workers = both(stage, df)
    assert with_operator.schema == by_workers.schema
    rows = with_operator.collect()
    assert rows == by_workers.collect()
    assert freed(df.sparkSession)
    return rows


def freed(session) -> bool:
    """Whether no memory of Arrow's is held: every task has ended."""
    return session._jvm.org.apache.spark.sql.util.ArrowUtils.rootAllocator().getAllocatedMemory() == 0


@pytest.fixture(scope="module")
def mixed(client):
    """A model of columns of every type that the features of one may have, with an imputed and a one-hot text."""
    table = rows_of_many_types(2_000, seed=1)
    numbers = ["tiny", "small", "whole", "big", "single", "number", "flag"]
    steps = [
        volary.features.Impute(numbers[:-1], "mean"),
        volary.features.Impute(["word"], "constant", fill_value="none"),
        volary.features.OneHot(["word"]),
    ]
    network = volary.Sequential([layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")])
    network.compile(volary.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    client.put("spark_mixed", table.append_column("label", pa.array(np.arange(2_000) % 3)))
    network.fit(
        client.table("spark_mixed"), "label", features=[*numbers, "word"], pipeline=volary.Pipeline(steps), epochs=1,
        seed=1, name="spark_mixed", verbose=0,
    )  # fmt: skip
    yield "spark_mixed"
    client.drop_model("spark_mixed")
    client.drop_dataset("spark_mixed")


def rows_of_many_types(rows: int, seed: int = 7) -> pa.Table:
    random = np.random.default_rng(seed)

    def some(values, kind):
        return pa.array(values, kind, mask=random.random(rows) < 0.1)

    words = [NAMES[at] if at < len(NAMES) else f"word {at}" * (at % 40) for at in random.integers(0, 60, rows)]
    return pa.table(
        {
            "id": np.arange(rows),
            "tiny": some(random.integers(-100, 100, rows), pa.int8()),
            "small": some(random.integers(-1000, 1000, rows), pa.int16()),
            "whole": some(random.integers(-1000, 1000, rows), pa.int32()),
            "big": some(random.integers(-1000, 1000, rows), pa.int64()),
            "single": some(random.normal(size=rows), pa.float32()),
            "number": some(random.normal(size=rows), pa.float64()),
            "flag": pa.array(random.random(rows) < 0.5),
            "word": pa.array(words, pa.string()),
            "day": some(random.integers(0, 20_000, rows).astype(np.int32), pa.date32()),
            "moment": some(random.integers(0, 1 << 50, rows), pa.timestamp("us", "UTC")),
            "local": some(random.integers(0, 1 << 50, rows), pa.timestamp("us")),
            "price": some([decimal.Decimal(int(each)) / 100 for each in random.integers(0, 9999, rows)], pa.decimal128(9, 2)),
            "bytes": some([b"%d" % each for each in range(rows)], pa.binary()),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The folder of a few Parquet files, in some of which columns are dictionaries, or without nulls."""
    folder = tmp_path_factory.mktemp("mixed")
    table = rows_of_many_types(ROWS)
    for number in range(4):
        part = table.slice(number * ROWS // 4, ROWS // 4)
        if number == 3:
            part = part.filter(pa.compute.and_kleene(part["number"].is_valid(), part["word"].is_valid()))
        pq.write_table(part, folder / f"{number}.parquet", use_dictionary=number % 2 == 0, row_group_size=1_000)
    return folder


@pytest.fixture
def df(spark_in_jvm, files):
    return spark_in_jvm.read.parquet(str(files))


def test_columns_of_files_and_rows_are_answered_alike(cluster, mixed, df):
    stage = VolaryModel(mixed, server=[server.url for server in cluster.servers])
    rows = check(stage, df)
    assert "VolaryPredict spark_mixed@1" in plan(stage.transform(df))
    assert re.search(r"ColumnarToRow\n.*VolaryPredict", plan(stage.transform(df))), "columns go through"
    of_rows = df.where("rand(3) < 2").coalesce(2)  # a filter works on rows
    assert "ColumnarToRow" not in plan(stage.transform(of_rows)).split("VolaryPredict")[0]
    assert check(stage, of_rows)
    assert len(rows) > 0.9 * ROWS


def test_columns_that_are_not_copied_are_kept_too(cluster, mixed, df):
    from pyspark.sql import functions

    stage = VolaryModel(mixed, server=cluster.url)
    assert check(stage, df.drop("bytes", "moment")), "the next batch is read while the server computes"
    wide = df.select("*", functions.struct("id", "word").alias("pair"), functions.array("id", "big").alias("list"))
    check(stage, wide)
    check(stage, wide.withColumn("map", functions.create_map("id", "word")).coalesce(3))


def test_columns_of_other_files_and_of_their_folders_are_read_too(spark_in_jvm, cluster, mixed, df, tmp_path):
    stage = VolaryModel(mixed, server=cluster.url)
    df.drop("bytes").write.orc(str(tmp_path / "orc"))
    check(stage, spark_in_jvm.read.orc(str(tmp_path / "orc")))
    few = df.where("id < 400 AND (word IS NULL OR length(word) < 10)")
    few.write.partitionBy("word", "id").parquet(str(tmp_path / "folders"))
    folders = spark_in_jvm.read.parquet(str(tmp_path / "folders"))
    assert {row.word is None for row in check(stage, folders)} == {True, False}


def test_batches_of_any_size_give_the_same(cluster, mixed, df):
    stage = VolaryModel(mixed, server=cluster.url)
    expected = check(stage, df)
    for rows in (7, 1_000_000, 0):
        with settings(df.sparkSession, spark_sql_execution_arrow_maxRecordsPerBatch=rows):
            assert stage.transform(df.where("rand(3) < 2")).limit(2_000).collect() == expected[:2_000]
    for rows in (1, 100, 4_000):
        with settings(df.sparkSession, spark_sql_parquet_columnarReaderBatchSize=rows):
            assert (
                stage.transform(df.limit(500) if rows == 1 else df).collect() == expected[: 500 if rows == 1 else None]
            )


def test_a_batch_beyond_what_a_message_holds_goes_in_pieces(spark_in_jvm, cluster, mixed, df, tmp_path):
    table = rows_of_many_types(5_000)
    long = pa.array([f"{number:>15000}" if number % 7 else None for number in range(5_000)])
    pq.write_table(table.set_column(table.schema.get_field_index("word"), "word", long), tmp_path / "long.parquet")
    long_texts = spark_in_jvm.read.parquet(str(tmp_path / "long.parquet")).drop("bytes")
    stage = VolaryModel(mixed, server=cluster.url)
    from pyspark.sql import functions

    shortened = stage.transform(long_texts).drop("word")
    expected = stage.transform(
        df.limit(0).unionByName(long_texts.withColumn("word", functions.substring("word", 1, 9)), True)
    )
    assert shortened.collect() == expected.drop("word", "bytes").collect(), (
        "all of these words are unknown to the model"
    )
    by_rows = stage.transform(long_texts.where("rand(3) < 2"))
    assert by_rows.drop("word").collect() == shortened.collect()


def test_vectors_and_arrays_are_read_dense_and_sparse(spark_in_jvm, cluster, client, tmp_path):
    from pyspark.ml.linalg import Vectors

    values = np.random.default_rng(5).normal(size=(1_000, 3)).round(2)
    features = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 3)
    client.put("spark_vectors", pa.table({"features": features, "label": values[:, 0] > 0}))
    network = volary.Sequential([layers.Dense(1, activation="sigmoid")])
    network.compile(volary.optimizers.Adam(0.05), "binary_crossentropy")
    network.fit(client.table("spark_vectors"), "label", epochs=2, seed=1, name="spark_vectors", verbose=0)
    rows = []
    for number, row in enumerate(values.tolist()):
        places = [place for place in range(3) if number % 2 or place != 1]
        vector = Vectors.sparse(3, places, [row[place] for place in places]) if number % 3 else Vectors.dense(row)
        rows.append((number, vector, row))
    frame = spark_in_jvm.createDataFrame(rows, ["id", "features", "list"])
    stage = VolaryModel("spark_vectors", server=cluster.url)
    answered = check(stage, frame)
    assert {row.prediction for row in answered} == {True, False}, "classes that are booleans stay booleans"
    frame.write.parquet(str(tmp_path / "vectors"))
    stored = spark_in_jvm.read.parquet(str(tmp_path / "vectors"))
    assert sorted(check(stage, stored), key=lambda row: row.id) == answered
    check(stage.setFeaturesCol("list"), stored)
    strict = check(stage.copy().setThreshold(0.6), stored)
    assert all(row.prediction == (row.probability[1] > 0.6) for row in strict)


def test_several_outputs_and_classes_of_text_are_answered(spark_in_jvm, cluster, client, census, census_model):
    people = spark_in_jvm.createDataFrame(census[1].head(1_000)).repartition(3).sortWithinPartitions("age")
    stage = VolaryModel("census", server=cluster.url)
    assert {row.prediction for row in check(stage, people)} == {"<=50K", ">50K"}
    strict = check(stage.setThreshold(0.8).setProbabilityCol("p"), people)
    assert all(row.prediction == (">50K" if row.p[1] > 0.8 else "<=50K") for row in strict)
    check(stage.setProbabilityCol(""), people.drop("income"))

    random = np.random.default_rng(5)
    rows = pd.DataFrame(random.standard_normal((600, 3)), columns=["x", "y", "z"])
    numbers = volary.Input(["x", "y", "z"])
    trunk = layers.Dense(4, activation="tanh")(numbers)
    outputs = [layers.Dense(1, name="level")(trunk), layers.Dense(3, activation="softmax", name="kind")(trunk)]
    network = volary.Model(numbers, outputs, name="spark_outputs")
    network.compile(loss={"level": "mse", "kind": "sparse_categorical_crossentropy"})
    labels = rows.assign(level=rows.x, kind=np.array(["a", "b", "c"])[np.arange(600) % 3])
    network.fit(
        labels, {"level": "level", "kind": "kind"}, features=["x", "y", "z"], epochs=1, seed=1, verbose=0, client=client
    )
    answered = check(VolaryModel("spark_outputs", server=cluster.url), spark_in_jvm.createDataFrame(rows))
    assert answered[0].asDict().keys() > {"prediction_level", "prediction_kind", "probability_kind"}


def test_no_rows_are_asked_about_nowhere(cluster, mixed, df):
    stage = VolaryModel(mixed, server=cluster.url)
    assert check(stage, df.where("id < 0")) == []
    assert len(check(stage, df.limit(5).repartition(20))) == 5, "most partitions have none"


# -- what lies above --------------------------------------------------------------------------------------------------


def test_filters_and_limits_go_below_it_and_columns_that_nobody_reads_are_not_fetched(cluster, mixed, df):
    stage = VolaryModel(mixed, server=cluster.url)
    scored, by_workers = both(stage, df)
    narrow = scored.where("id >= 100 AND prediction = 1 AND id < 300").select("id", "prediction")
    above, below = plan(narrow).split("VolaryPredict")
    assert "prediction" in above
    assert "id#" in below
    assert re.search(r"PushedFilters: \[.*GreaterThanOrEqual\(id,100\)", below)
    assert "moment" not in below, "pruned"
    assert (
        narrow.collect()
        == by_workers.where("id >= 100 AND prediction = 1 AND id < 300").select("id", "prediction").collect()
    )
    assert scored.where("rand(1) < 0.5 AND id < 10").count() <= 10

    few = scored.limit(10)
    assert "LocalLimit 10" in plan(few).split("VolaryPredict")[1]
    assert few.collect() == by_workers.limit(10).collect()
    assert scored.orderBy("id").limit(3).collect() == by_workers.orderBy("id").limit(3).collect()
    assert "VolaryPredict" not in plan(scored.select("id", "word")), "its answers are not read"
    assert scored.count() == df.count()


def test_joins_aggregates_caches_and_views_stand_above_it(spark_in_jvm, cluster, mixed, df):
    stage = VolaryModel(mixed, server=cluster.url)
    scored, by_workers = both(stage, df)
    pairs = [
        each.alias("a").join(each.alias("b"), "id").select("id", "a.prediction", "b.probability")
        for each in (scored, by_workers)
    ]
    assert sorted(pairs[0].collect()) == sorted(pairs[1].collect()), "with itself"
    counts = [each.groupBy("prediction").count().orderBy("prediction").collect() for each in (scored, by_workers)]
    assert counts[0] == counts[1]
    assert scored.unionAll(scored).count() == 2 * df.count()
    again = VolaryModel(mixed, server=cluster.url, predictionCol="second", probabilityCol="").transform(scored)
    assert all(row.second == row.prediction for row in again.collect()), "one above the other"

    cached = df.select("id", "tiny", "small", "whole", "big", "single", "number", "flag", "word").cache()
    assert cached.count() == df.count()
    kept = stage.transform(cached).cache()
    assert kept.select("id", "prediction").collect() == by_workers.select("id", "prediction").collect()
    assert kept.select("id", "prediction").collect() == by_workers.select("id", "prediction").collect(), (
        "from the cache"
    )
    kept.unpersist(), cached.unpersist()
    scored.createOrReplaceTempView("answered")
    assert spark_in_jvm.sql("SELECT count(*) AS n FROM answered WHERE prediction IN (0, 1, 2)").first().n == df.count()
    assert freed(spark_in_jvm)


def test_a_stream_of_files_is_answered(cluster, mixed, df, files, tmp_path):
    stream = df.sparkSession.readStream.schema(df.schema).parquet(str(files))
    scored = VolaryModel(mixed, server=cluster.url).transform(stream)
    query = scored.writeStream.format("memory").queryName("streamed").trigger(availableNow=True)
    query.option("checkpointLocation", str(tmp_path)).start().awaitTermination()
    assert df.sparkSession.table("streamed").count() == df.count()


def test_columns_that_python_cannot_have_stay(cluster, mixed, df):
    from pyspark.sql import functions

    stage = VolaryModel(mixed, server=cluster.url)
    twice = df.select("*", functions.lit(1).alias("day"), functions.expr("make_interval(1)").alias("interval"))
    scored = stage.transform(twice)
    assert scored.columns == [*twice.columns, "prediction", "probability"]
    assert scored.select("prediction").collect() == stage.transform(df).select("prediction").collect()
    with pytest.raises(InvalidArgumentError, match='the DataFrame has more than one column "big"; rename one'):
        stage.transform(df.select("*", functions.lit(1).alias("big")))
    with pytest.raises(InvalidArgumentError, match='has a column "prediction" already'):
        stage.transform(scored.drop("day", "interval"))


def test_what_is_refused_is_refused_in_the_servers_words(cluster, mixed, df):
    from pyspark.sql import functions

    bad = df.withColumn("number", functions.lit(datetime.date(2026, 1, 1)))
    words = r'volary\.errors\.InvalidArgumentError: column "number" is Date32 and the model was trained on'
    for frame in (bad, bad.where("rand(3) < 2")):
        with pytest.raises(Exception, match=words):
            VolaryModel(mixed, server=cluster.url).transform(frame).collect()
    assert freed(df.sparkSession)
