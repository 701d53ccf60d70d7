"""A model's answers beside a Spark DataFrame's columns."""

from __future__ import annotations

import re
import urllib.request

import numpy as np
import pyarrow as pa
import pytest

import volary
from volary import layers
from volary.errors import InvalidArgumentError, NotFoundError

ROWS = 2_000


@pytest.fixture(scope="module")
def numbers():
    """Three numbers a row, the first of which tells the class."""
    numbers = np.random.default_rng(5).normal(size=(ROWS, 3))
    return numbers, (numbers[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def model(client, numbers):
    """A classifier of vectors, trained without Spark."""
    features = pa.FixedSizeListArray.from_arrays(pa.array(numbers[0].ravel()), 3)
    client.put("spark_numbers", pa.table({"features": features, "label": pa.array(numbers[1])}))
    network = volary.Sequential([layers.Dense(1, activation="sigmoid")])
    network.compile(volary.optimizers.Adam(0.05), "binary_crossentropy")
    network.fit(client.table("spark_numbers"), "label", epochs=5, seed=1, name="spark_numbers", verbose=0)
    yield "spark_numbers"
    client.drop_model("spark_numbers")
    client.drop_dataset("spark_numbers")


@pytest.fixture(scope="module")
def df(spark, numbers):
    """The same rows as dense and sparse Vectors, among columns that the model does not read."""
    from pyspark.ml.linalg import Vectors
    from pyspark.sql import functions

    rows = []
    for number, (row, label) in enumerate(zip(*numbers, strict=True)):
        sparse = Vectors.sparse(3, [0, 1, 2], row.tolist())
        rows.append((number, sparse if number % 3 == 0 else Vectors.dense(row.tolist()), float(label), f"row {number}"))
    frame = spark.createDataFrame(rows, ["id", "features", "label", "key"]).repartition(4)
    return frame.withColumn("moment", functions.lit("2024-07-01 12:00:00").cast("timestamp")).cache()


def answers(client, numbers):
    """What the same model answers without Spark."""
    features = pa.FixedSizeListArray.from_arrays(pa.array(numbers[0].ravel()), 3)
    return client.model("spark_numbers").predict(pa.table({"features": features})).to_pydict()


def test_transform_keeps_rows_order_and_columns_and_adds_the_answers(cluster, client, model, df, numbers):
    from pyspark.ml.evaluation import BinaryClassificationEvaluator, MulticlassClassificationEvaluator

    from volary.spark import VolaryModel

    servers = [server.url for server in cluster.servers]
    scored = VolaryModel(model, server=servers).transform(df)
    assert scored.columns == [*df.columns, "prediction", "probability"]
    got, given = scored.collect(), df.collect()
    assert [tuple(row)[:-2] for row in got] == [tuple(row) for row in given], "every column, in the same order"
    expected = answers(client, numbers)
    assert [row.prediction for row in got] == [float(expected["prediction"][row.id]) for row in got]
    for row in got[:100]:
        assert row.probability[1] == pytest.approx(expected["probability"][row.id], abs=1e-6)
        assert row.probability[0] + row.probability[1] == pytest.approx(1.0)
    assert MulticlassClassificationEvaluator(metricName="accuracy").evaluate(scored) > 0.95
    assert BinaryClassificationEvaluator(rawPredictionCol="probability").evaluate(scored) > 0.99


def test_a_threshold_moves_the_border_between_two_classes(cluster, model, df):
    from volary.spark import NNClassifierModel

    strict = NNClassifierModel(model, server=cluster.url).setThreshold(0.9).setProbabilityCol("p")
    rows = strict.transform(df).collect()
    assert {row.prediction for row in rows} == {0.0, 1.0}
    assert all(row.prediction == float(row.p[1] > 0.9) for row in rows)


def test_a_udf_answers_what_it_is_called_on(cluster, client, model, df, numbers):
    from pyspark.sql import functions

    from volary.spark import predict_udf

    rich = predict_udf(model, output="probability", server=cluster.url)
    expected = answers(client, numbers)
    frame = df.withColumn("interval", functions.expr("make_interval(1)"))
    rows = frame.select(
        "id", rich("features").alias("one"), rich(functions.struct("key", "features")).alias("two")
    ).collect()
    assert [row.id for row in rows] == [row.id for row in df.collect()]
    assert all(row.one == row.two for row in rows)
    assert [row.one for row in rows[:50]] == pytest.approx(
        [expected["probability"][row.id] for row in rows[:50]], abs=1e-6
    )
    both = (
        df.select(predict_udf(f"{model}@1", output="*", server=cluster.url)("features").alias("answer")).first().answer
    )
    assert both.asDict().keys() == {"prediction", "probability"}


def test_partitions_of_a_udf_go_to_the_servers_in_turn(cluster, model, df):
    from volary.spark import predict_udf

    def streams() -> list[int]:
        pages = [urllib.request.urlopen(f"http://{server.http}/metrics").read().decode() for server in cluster.servers]
        counted = re.compile(r'volary_requests_total\{[^}]*verb="do_exchange"[^}]*\} (\d+)')
        return [sum(map(int, counted.findall(page))) for page in pages]

    before = streams()
    kind = predict_udf(model, server=[server.url for server in cluster.servers])
    assert len(df.select(kind("features")).collect()) == ROWS
    assert [now - was for now, was in zip(streams(), before, strict=True)] == [2, 1, 1], "of four partitions"


def test_a_udf_is_called_in_sql(spark, cluster, model, df):
    from volary.spark import predict_udf

    spark.udf.register("kind", predict_udf(model, server=cluster.url))
    df.createOrReplaceTempView("spark_rows")
    right = spark.sql(
        "SELECT avg(CASE WHEN kind(features) = label THEN 1.0 ELSE 0.0 END) AS share FROM spark_rows"
    ).first()
    assert right.share > 0.95


def test_no_rows_are_answered_by_none(cluster, model, df):
    from volary.spark import VolaryModel, predict_udf

    none = df.where("id < 0")
    assert VolaryModel(model, server=cluster.url).transform(none).collect() == []
    assert none.select(predict_udf(model, server=cluster.url)("features")).collect() == []


def test_rows_of_many_types_are_scored_by_name(spark, cluster, census, census_model):
    from volary.spark import VolaryModel

    people = spark.createDataFrame(census[1].head(500))
    got = VolaryModel("census", server=cluster.url).transform(people).collect()
    expected = census_model.predict(census[1].head(500))
    assert [row.prediction for row in got] == list(expected["prediction"]), "classes that are texts stay texts"
    assert [row.probability[1] for row in got] == pytest.approx(list(expected["probability"]), abs=1e-6)


def test_what_cannot_be_scored_is_refused_before_any_task_runs(cluster, model, df):
    from pyspark.sql import functions

    from volary.spark import VolaryModel, predict_udf

    stage = VolaryModel(model, server=cluster.url)
    with pytest.raises(NotFoundError, match='there is no model "spark_none"'):
        VolaryModel("spark_none", server=cluster.url).transform(df)
    with pytest.raises(InvalidArgumentError, match='reads the column "features", which the DataFrame does not have'):
        stage.transform(df.drop("features"))
    with pytest.raises(
        InvalidArgumentError, match='the DataFrame has a column "prediction" already; name the predictions'
    ):
        stage.transform(stage.transform(df))
    with pytest.raises(
        InvalidArgumentError, match='"interval" has the Spark type interval, which mapInArrow cannot hand on'
    ):
        stage.transform(df.withColumn("interval", functions.expr("make_interval(1)")))
    with pytest.raises(InvalidArgumentError, match='does not answer "q"; it answers prediction, probability'):
        predict_udf(model, output="q", server=cluster.url)
    assert stage.setFeaturesCol("x").transform(df.withColumnRenamed("features", "x")).count() == ROWS


def test_a_task_that_is_refused_fails_with_the_servers_words(cluster, model, df):
    from pyspark.sql import functions

    from volary.spark import VolaryModel

    bad = df.withColumn("features", functions.lit("text")).coalesce(1)
    with pytest.raises(
        Exception, match=r'InvalidArgumentError: column "features" is Utf8 and the model was trained on'
    ):
        VolaryModel(model, server=cluster.url).transform(bad).collect()
