"""Columns of Spark whose names are no plain words, or differ in case from what is asked for."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest

import volary
from volary import layers
from volary.errors import InvalidArgumentError, VolaryError

ROWS = 400
#: A struct's field is written as the second of these; what is stored under that very name must not be taken for it.
NAMES = ["a", "a.b", "with `ticks`", "*", "label.of it"]
FEATURES = ["a.b", "with `ticks`"]
LABEL = "label.of it"
CASE = "spark.sql.caseSensitive"


@pytest.fixture
def df(spark):
    """A struct with a field "b", beside columns with every mark that Spark reads names by."""
    rows = [((number,), number / ROWS - 0.5, float(number % 7), f"row {number}", number % 2) for number in range(ROWS)]
    return spark.createDataFrame(rows, "a struct<b: long>, b double, c double, d string, e long").toDF(*NAMES)


@pytest.fixture
def url(cluster):
    return cluster.url


@pytest.fixture
def free(client):
    """A name for a dataset, and for a model."""
    yield "spark_names"
    for drop in (client.drop_dataset, client.drop_model):
        with contextlib.suppress(VolaryError):
            drop("spark_names")


@pytest.fixture
def heeding_case(spark):
    """A session in which names that differ in case are two."""
    spark.conf.set(CASE, "true")
    yield
    spark.conf.unset(CASE)


def network():
    return volary.Sequential([layers.Dense(1, activation="sigmoid")])


def fitted(df, free, url, features, label, **params):
    from volary.spark import VolaryEstimator

    estimator = VolaryEstimator(
        network(), "binary_crossentropy", server=url, modelName=free, seed=1, maxEpoch=2, **params
    )
    return estimator.setFeaturesCol(features).setLabelCol(label).fit(df)


@pytest.fixture
def served(client, free):
    """A model of the columns "age" and "hours", trained without Spark."""
    client.put(free, {"age": [n / 100 for n in range(100)], "hours": [n % 3 for n in range(100)], "label": [0, 1] * 50})
    model = network()
    model.compile("adam", "binary_crossentropy")
    model.fit(client.table(free), "label", epochs=1, seed=1, name=free, verbose=0)
    return free


def test_columns_with_dots_and_backticks_are_written_and_read_under_their_names(spark, client, url, free, df):
    from volary.spark import read_dataframe, write_dataframe

    assert write_dataframe(df, free, server=url).rows == ROWS
    table = client.table(free).to_arrow()
    assert table.column_names == NAMES
    given = df.collect()
    assert table.to_pylist() == [{"a": {"b": row[0].b}, **dict(zip(NAMES[1:], row[1:], strict=True))} for row in given]
    back = read_dataframe(spark, free, server=url)
    assert back.columns == NAMES
    assert sorted(map(tuple, back.collect())) == sorted(map(tuple, given))
    some = read_dataframe(spark, free, server=url, columns=["*", "a.b"])
    assert sorted(map(tuple, some.collect())) == sorted((row[3], row[1]) for row in given)
    queried = read_dataframe(spark, f'SELECT "a.b", "*" FROM {free}', server=url, columns=["a.b"])
    assert sorted(map(tuple, queried.collect())) == sorted((row[1],) for row in given)


def test_a_network_is_fitted_on_such_columns_and_answers_beside_them(client, url, free, df):
    model = fitted(df, free, url, FEATURES, LABEL).setPredictionCol("my.guess")
    assert client.model(free).describe().inputs == tuple(FEATURES)
    scored = model.transform(df)
    assert scored.columns == [*NAMES, "my.guess", "probability"]
    got, given = scored.collect(), df.collect()
    assert [tuple(row)[:5] for row in got] == [tuple(row) for row in given]
    expected = client.model(free).predict({name: [row[name] for row in given] for name in FEATURES})
    assert [row["probability"][1] for row in got] == pytest.approx(expected["probability"], abs=1e-6)
    assert [row["my.guess"] for row in got] == [float(each) for each in expected["prediction"]]


def test_a_vector_under_such_a_name_keeps_its_length(client, url, free, df):
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import functions

    plain = df.toDF("a", "b", "c", "d", "e")
    assembled = VectorAssembler(inputCols=["b", "c"], outputCol="v").transform(plain)
    assembled = assembled.withColumn("list", functions.array("b", "c")).toDF(
        "a", "b", "c", "d", "e", "v.of`two", "l.i`st"
    )
    for features in ("v.of`two", "l.i`st"):
        model = fitted(assembled, free, url, features, "e")
        assert model.transform(assembled).where("prediction IS NOT NULL").count() == ROWS
        # The model's one input may be called otherwise in another DataFrame.
        other = assembled.withColumnRenamed(features, "other.name")
        assert model.setFeaturesCol("other.name").transform(other).count() == ROWS
        client.drop_model(free)


def test_columns_that_are_only_handed_along_may_have_any_name(url, served, df):
    from volary.spark import VolaryModel

    frame = df.toDF("a", "a.b", "`", "*", "hours").selectExpr("*", "hours / 2.0D AS age")
    scored = VolaryModel(served, server=url).transform(frame)
    got, given = scored.collect(), frame.collect()
    assert scored.columns == ["a", "a.b", "`", "*", "hours", "age", "prediction", "probability"]
    assert [tuple(row)[:6] for row in got] == [tuple(row) for row in given]


def test_a_plan_stays_as_it_is_where_names_are_plain(spark):
    from volary.spark import names

    plain = spark.range(3)
    assert names.plainly_named(plain) is plain
    assert names.plainly_named(plain.toDF("a.b")).columns == ["column_0"]


def test_predict_udf_takes_such_columns_alone_and_in_a_struct(client, url, free, df):
    from pyspark.sql.functions import col, struct

    from volary.spark import predict_udf

    fitted(df, free, url, FEATURES, LABEL)
    chance = predict_udf(free, output="probability", server=url)
    places = [col("`a.b`"), col("`with ``ticks```")]
    given = df.collect()
    expected = client.model(free).predict({name: [row[name] for row in given] for name in FEATURES})["probability"]
    for call in (chance(*places), chance(struct(*places)), chance(struct(col("`*`"), *places))):
        got = df.select("`*`", call.alias("chance")).collect()
        assert [row.chance for row in got] == pytest.approx(expected, abs=1e-6)


# -- case -----------------------------------------------------------------------------------------------------------


def test_names_are_matched_as_spark_does_without_regard_to_case(spark, client, url, served):
    from pyspark.sql.functions import struct

    from volary.spark import VolaryModel, predict_udf

    frame = spark.createDataFrame([(0.5, 1), (0.1, 2)], ["AGE", "Hours"])
    expected = client.model(served).predict({"age": [0.5, 0.1], "hours": [1, 2]})["probability"]
    scored = VolaryModel(served, server=url).transform(frame)
    assert scored.columns == ["AGE", "Hours", "prediction", "probability"]
    assert [row.probability[1] for row in scored.collect()] == pytest.approx(expected, abs=1e-6)
    chance = predict_udf(served, output="probability", server=url)
    assert [row[0] for row in frame.select(chance(struct("*"))).collect()] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(InvalidArgumentError, match='has a column "prediction" already'):
        VolaryModel(served, server=url).transform(frame.withColumn("Prediction", frame["age"]))


def test_a_fit_names_the_columns_as_the_stage_does(spark, client, url, free, df):
    upper = df.toDF("a", "AGE", "Hours", "d", "Label")
    model = fitted(upper, free, url, ["age", "hours"], "label")
    assert client.model(free).describe().inputs == ("age", "hours")
    assert model.transform(upper).columns == ["a", "AGE", "Hours", "d", "Label", "prediction", "probability"]
    # The very name goes before one that differs in case, though Spark itself calls the two ambiguous.
    twice = df.toDF("AGE", "age", "hours", "d", "label")
    fitted(twice, free, url, ["age", "hours"], "label")
    with pytest.raises(InvalidArgumentError, match='"Age" may mean the columns "AGE" and "age" of the DataFrame'):
        fitted(twice, free, url, ["Age", "hours"], "label")
    with pytest.raises(InvalidArgumentError, match='more than one column "age"'):
        fitted(df.toDF("age", "age", "hours", "d", "label"), free, url, ["age", "hours"], "label")


def test_a_struct_with_two_fields_that_may_be_meant_is_refused(spark, url, served):
    from pyspark.sql.functions import col, struct

    from volary.spark import predict_udf

    frame = spark.createDataFrame([(0.5, 1)], ["x", "hours"])
    two = struct(col("x").alias("Age"), col("x").alias("AGE"), "hours")
    with pytest.raises(Exception, match='"age" may mean the columns "Age" and "AGE" of the struct'):
        frame.select(predict_udf(served, server=url)(two)).collect()


def test_a_session_that_heeds_case_is_heeded(spark, heeding_case, url, served, free, df):
    from pyspark.sql.functions import struct

    from volary.spark import VolaryModel, predict_udf

    frame = spark.createDataFrame([(0.5, 1)], ["Age", "hours"])
    with pytest.raises(InvalidArgumentError, match='reads the column "age", which the DataFrame does not have'):
        VolaryModel(served, server=url).transform(frame)
    with pytest.raises(Exception, match='reads the column "age", which the struct does not have'):
        frame.select(predict_udf(served, server=url)(struct("*"))).collect()
    with pytest.raises(InvalidArgumentError, match='the DataFrame has no column "age"'):
        fitted(frame, f"{free}_none", url, ["age"], "hours")
    both = frame.withColumn("age", frame["Age"] + 1).withColumn("Prediction", frame["hours"])
    scored = VolaryModel(served, server=url).transform(both)
    assert scored.columns == ["Age", "hours", "age", "Prediction", "prediction", "probability"]
    assert [tuple(row)[:4] for row in scored.collect()] == [(0.5, 1, 1.5, 1)]


def test_rows_are_appended_to_a_dataset_with_such_a_name(spark, client, url, free, df):
    from volary.spark import write_dataframe

    client.put(free, pa.table({"a.b": [1.0]}))
    write_dataframe(df.select("`a.b`"), free, server=url, mode="append")
    assert client.table(free).rows == ROWS + 1
