"""Networks as pyspark.ml stages: fit, Pipeline, CrossValidator, save and load; and what a fit leaves behind, which is nothing."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import volary
from census_data import CATEGORIES, NUMBERS
from cluster import Cluster
from volary import layers
from volary.errors import InvalidArgumentError, NotFoundError

ROWS = 600


@pytest.fixture(scope="module")
def df(spark):
    """Two numbers a row whose sum tells the class, as Spark has classes: in doubles."""
    numbers = np.random.default_rng(3).normal(size=(ROWS, 2))
    rows = [(number, *map(float, row), float(row.sum() > 0)) for number, row in enumerate(numbers)]
    return spark.createDataFrame(rows, "id bigint, x double, y double, label double").coalesce(2).cache()


def sigmoid(units=1):
    return volary.Sequential([layers.Dense(units, activation="sigmoid" if units == 1 else "softmax")])


def temporaries(client):
    left = [each.name for each in client.datasets() if each.name.startswith("temporary-")]
    return left + [each.dataset for each in client.uploads()]


def estimator(cluster, **params):
    from volary.spark import VolaryEstimator

    servers = [server.url for server in cluster.servers]
    params = {"featuresCol": ["x", "y"], "maxEpoch": 8, "learningRate": 0.1, "seed": 1, "server": servers, **params}
    return VolaryEstimator(sigmoid(), "binary_crossentropy", **params)


def accuracy(scored):
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator

    return MulticlassClassificationEvaluator(metricName="accuracy").evaluate(scored)


def test_fit_trains_on_the_rows_and_leaves_no_dataset(cluster, client, df):
    stage = estimator(cluster, modelName="spark_fitted").setValidation(0.2, metrics=["accuracy"])
    model = stage.fit(df)
    assert accuracy(model.transform(df)) > 0.95
    assert model.history["val_accuracy"][-1] > 0.9
    assert len(model.history["loss"]) == 8
    assert (model.getModelName(), model.getModelVersion()) == ("spark_fitted", 1)
    assert model.describe().label == "label"
    assert temporaries(client) == []
    again = stage.fit(df)
    assert again.getModelVersion() == 2
    assert again.history["loss"] == model.history["loss"], "the same seed and rows give the same bits"
    client.drop_model("spark_fitted")


def test_a_fit_that_fails_leaves_no_dataset(cluster, client, df):
    with pytest.raises(InvalidArgumentError, match='column "label" has a value that is no int64'):
        estimator(cluster).fit(df.withColumn("label", df.x))
    with pytest.raises(InvalidArgumentError, match="units"):
        estimator(cluster).setNetwork(sigmoid(units=7)).fit(df)
    with pytest.raises(InvalidArgumentError, match='has no column "z"; its columns are id, x, y, label'):
        estimator(cluster, featuresCol=["x", "z"]).fit(df)
    with pytest.raises(InvalidArgumentError, match="the DataFrame has no rows"):
        estimator(cluster).fit(df.where("id < 0"))
    assert temporaries(client) == []


def test_a_pipeline_of_sparks_own_stages_ends_in_a_network(cluster, client, df, tmp_path):
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.feature import StringIndexer, VectorAssembler

    from volary.spark import NNClassifier, NNClassifierModel

    words = df.selectExpr("id", "x", "y", "if(label = 1.0, 'up', 'down') AS kind")
    classifier = NNClassifier(sigmoid(2), server=cluster.url).setBatchSize(64).setMaxEpoch(10).setOptimMethod("adam")
    classifier.setLearningRate(0.1).setSeed(2)
    stages = [
        StringIndexer(inputCol="kind", outputCol="label"),
        VectorAssembler(inputCols=["x", "y"], outputCol="features"),
    ]
    fitted = Pipeline(stages=[*stages, classifier]).fit(words)
    assert isinstance(fitted.stages[-1], NNClassifierModel)
    scored = fitted.transform(words)
    assert accuracy(scored) > 0.9
    assert scored.columns == ["id", "x", "y", "kind", "label", "features", "prediction", "probability"]
    assert {row.prediction for row in scored.select("prediction").collect()} == {0.0, 1.0}, "classes count from 0"
    fitted.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert loaded.stages[-1].getModelVersion() == fitted.stages[-1].getModelVersion()
    assert loaded.transform(words).select("prediction").collect() == scored.select("prediction").collect()
    assert temporaries(client) == []
    client.drop_model(fitted.stages[-1].getModelName())


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # pyspark does not close its pool of threads
def test_cross_validation_uploads_a_fold_once_and_leaves_nothing(cluster, client, df, monkeypatch):
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    from volary.spark import fitting

    written, upload = [], fitting.upload

    def counted(*given):
        written.append(given)
        return upload(*given)

    monkeypatch.setattr(fitting, "upload", counted)
    stage = estimator(cluster, maxEpoch=3)
    grid = ParamGridBuilder().addGrid(stage.learningRate, [1e-6, 0.1]).build()
    search = CrossValidator(
        estimator=stage, estimatorParamMaps=grid, numFolds=2, parallelism=2, seed=4,
        evaluator=BinaryClassificationEvaluator(rawPredictionCol="probability"),
    )  # fmt: skip
    best = search.fit(df)
    assert best.avgMetrics[1] > best.avgMetrics[0]
    assert accuracy(best.transform(df)) > 0.9
    assert len(written) == 3, "two folds, and all rows for the best setting"
    assert temporaries(client) == []
    client.drop_model(stage.uid)
    gc.collect()


def test_a_search_that_is_broken_off_leaves_nothing(cluster, client, df):
    stage = estimator(cluster, maxEpoch=1)
    models = stage.fitMultiple(df, [{stage.seed: 1}, {stage.seed: 2}])
    next(models)
    assert len(temporaries(client)) == 1
    del models
    assert temporaries(client) == []
    client.drop_model(stage.uid)


def test_many_typed_columns_are_read_through_a_pipeline_of_the_clusters(
    spark, cluster, client, census, census_pipeline
):
    people, test = (spark.createDataFrame(rows.head(3000)) for rows in census)
    stage = estimator(cluster, featuresCol=NUMBERS + CATEGORIES, labelCol="income", pipeline=census_pipeline)
    stage.setNetwork(volary.Sequential([layers.Dense(16, activation="relu"), layers.Dense(1, activation="sigmoid")]))
    stage.setOptimMethod("adam").setLearningRate(0.01).setMaxEpoch(3).setValidation(test, metrics=["auc"])
    model = stage.fit(people)
    assert model.history["val_auc"][-1] > 0.85
    scored = model.setPredictionCol("guess").setProbabilityCol("").transform(test)
    assert scored.columns == [*test.columns, "guess"]
    assert scored.where("guess = income").count() > 0.8 * 3000
    with pytest.raises(InvalidArgumentError, match=r"has a DataFrame to validate on, which cannot be saved"):
        stage.write()
    assert temporaries(client) == []
    client.drop_model(stage.uid)


def test_rows_weigh_what_their_column_says(cluster, client, df):
    from volary.spark import VolaryEstimator

    weighed = df.withColumn("weight", (df.label == 1.0).cast("double"))
    stage = VolaryEstimator(sigmoid(), "binary_crossentropy", server=cluster.url, featuresCol=["x", "y"], seed=1)
    model = stage.setWeightCol("weight").setMaxEpoch(40).setLearningRate(0.3).fit(weighed)
    found = model.transform(weighed).where("prediction = 1.0").count()
    assert found > 0.8 * ROWS, "the rows of the other class weigh nothing"
    client.drop_model(stage.uid)


def test_a_regression_answers_doubles(cluster, client, df):
    from pyspark.ml.evaluation import RegressionEvaluator

    from volary.spark import NNEstimator, NNModel

    stage = (
        NNEstimator(volary.Sequential([layers.Dense(1)]), "mse", server=cluster.url)
        .setFeaturesCol(["x"])
        .setLabelCol("y")
    )
    model = stage.setMaxEpoch(20).setLearningRate(0.1).setSeed(5).fit(df.selectExpr("x", "2 * x + 1 AS y"))
    assert isinstance(model, NNModel)
    scored = model.transform(df.selectExpr("x", "2 * x + 1 AS label"))
    assert dict(scored.dtypes)["prediction"] == "double"
    assert RegressionEvaluator(metricName="rmse").evaluate(scored) < 0.05
    client.drop_model(stage.uid)


def test_arrays_are_features_too_when_they_are_of_one_length(cluster, client, df):
    listed = df.selectExpr("label", "array(x, y) AS features")
    stage = estimator(cluster, featuresCol="features")
    assert accuracy(stage.fit(listed).transform(listed)) > 0.95
    ragged = df.selectExpr("label", "if(id = 599, array(x), array(x, y)) AS features")
    with pytest.raises(InvalidArgumentError, match='column "features" has a value that is no list of 2 numbers'):
        stage.fit(ragged)
    assert temporaries(client) == []
    client.drop_model(stage.uid)


def test_stages_are_saved_and_loaded_with_everything_but_secrets(cluster, client, df, tmp_path):
    from volary.spark import VolaryEstimator, VolaryModel

    stage = estimator(cluster, headers={"authorization": "Bearer secret"}).setGradientClippingByL2Norm(2.0)
    stage.setEarlyStopping(volary.callbacks.EarlyStopping("loss", patience=2))
    stage.save(str(tmp_path / "estimator"))
    assert not any("secret" in file.read_text(errors="replace") for file in tmp_path.rglob("part-*"))
    loaded = VolaryEstimator.load(str(tmp_path / "estimator"))
    assert (loaded.uid, loaded._request()) == (stage.uid, stage._request())
    model = loaded.fit(df)
    model.save(str(tmp_path / "model"))
    again = VolaryModel.load(str(tmp_path / "model"))
    assert again.transform(df).collect() == model.transform(df).collect()
    client.drop_model(stage.uid)
    with pytest.raises(NotFoundError, match="there is no model"):
        again.transform(df)


def test_fit_goes_on_from_a_checkpoint_when_the_server_that_drives_it_is_lost(spark, df, tmp_path):
    with Cluster(2, tmp_path / "store", tmp_path / "logs") as pair:
        stage = estimator(pair, maxEpoch=200, modelName="lost").setCheckpoint(1)
        undisturbed = stage.copy({stage.modelName: "whole"}).fit(df)
        started = []

        def heard(job, told=stage._heard):
            told(job)
            started.append(job.id)
            if len(started) == 1:
                assert next(state.coordinator for state in job.watch() if state.checkpoints) == "server-1"
                pair.servers[0].kill()

        stage._heard = heard
        model = stage.fit(df)
        assert len(set(started)) > 1, "the job that went on is another one"
        assert model.history["loss"] == undisturbed.history["loss"], "the same bits as if nothing had happened"
        with volary.connect(pair.servers[1].url) as client:
            assert [each.checkpoints for each in client.jobs()] == [()] * len(client.jobs())
            assert temporaries(client) == []
