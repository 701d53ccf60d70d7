"""The settings of Spark's stages; without a running Spark."""

from __future__ import annotations

import json

import pytest

import volary
from volary import layers, losses, optimizers
from volary.errors import InvalidArgumentError

pytest.importorskip("pyspark.ml", reason="pyspark is not installed")

from volary.spark import NNClassifier, NNEstimator, VolaryEstimator, VolaryModel


def network(units=1):
    return volary.Sequential([layers.Dense(4, activation="relu"), layers.Dense(units, activation="sigmoid")])


def test_an_estimator_is_a_train_request():
    estimator = (
        VolaryEstimator(network(), losses.BinaryCrossentropy(), modelName="census", server=["grpc://a:1", "grpc://b:2"])
        .setFeaturesCol(["age", "job"])
        .setPipeline([volary.features.Standardize("age"), volary.features.OneHot("job")])
        .setLabelCol("income")
        .setWeightCol("weight")
        .setBatchSize(100)
        .setMaxEpoch(7)
        .setOptimMethod(optimizers.SGD(0.1, momentum=0.9))
        .setGradientClippingByL2Norm(2)
        .setValidation(0.2, metrics=["auc"])
        .setEarlyStopping(volary.callbacks.EarlyStopping("val_auc", patience=3))
        .setCheckpoint(2)
        .setSeed(11)
    )
    request = estimator._request()
    assert request.pop("model")["outputs"] == ["dense_1"]
    assert request == {
        "name": "census",
        "label": "income",
        "features": ["age", "job"],
        "pipeline": [
            {"transform": "standardize", "columns": ["age"]},
            {"transform": "one_hot", "columns": ["job"], "handle_unknown": "bucket"},
        ],
        "loss": "binary_crossentropy",
        "metrics": ["auc"],
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "global_clipnorm": 2.0},
        "epochs": 7,
        "batchSize": 100,
        "seed": "11",
        "validationSplit": 0.2,
        "earlyStopping": {
            "monitor": "val_auc", "patience": 3, "minDelta": 0.0, "restoreBestWeights": False,
        },
        "checkpoints": {"every": 2, "keep": 1},
        "sampleWeight": "weight",
    }  # fmt: skip
    assert estimator.getServer() == "grpc://a:1,grpc://b:2"


def test_every_setting_has_a_form_that_can_be_saved():
    estimator = VolaryEstimator(network(), "mse", pipeline=[volary.features.Standardize("age")], optimMethod="adamw")
    json.dumps({param.name: estimator.getOrDefault(param) for param in estimator.params if estimator.isDefined(param)})


def test_a_grid_may_hold_networks_and_optimizers():
    estimator = VolaryEstimator(network(), "mse")
    other = estimator.copy({estimator.network: network(3), estimator.optimMethod: optimizers.Adam(0.5)})
    assert other.getNetwork()["layers"][-1]["config"]["units"] == 3
    assert other._optimizer_json()["learning_rate"] == 0.5
    assert estimator._optimizer_json() == {"name": "adam"}
    assert other.uid == estimator.uid


def test_a_learning_rate_that_is_set_replaces_the_optimizers_and_decays():
    estimator = VolaryEstimator(network(), "mse").setOptimMethod(optimizers.SGD(0.1)).setLearningRate(0.5)
    assert estimator._optimizer_json()["learning_rate"] == 0.5
    decayed = estimator.setLearningRateDecay(0.01)._optimizer_json()["learning_rate"]
    assert decayed["name"] == "inverse_time_decay"
    assert (decayed["initial_learning_rate"], decayed["decay_steps"], decayed["decay_rate"]) == (0.5, 1, 0.01)
    scheduled = VolaryEstimator(network(), "mse", optimMethod=optimizers.SGD(optimizers.StepDecay(0.1, step_size=5)))
    with pytest.raises(ValueError, match="beside an optimizer with a schedule"):
        scheduled.setLearningRateDecay(0.1)._optimizer_json()


def test_gradients_are_clipped_in_one_way():
    estimator = VolaryEstimator(network(), "mse").setConstantGradientClipping(-0.5, 0.5)
    assert estimator._optimizer_json() == {"name": "adam", "clipvalue": 0.5}
    assert estimator.setGradientClippingByL2Norm(3)._optimizer_json() == {"name": "adam", "global_clipnorm": 3.0}
    assert estimator.clearGradientClipping()._optimizer_json() == {"name": "adam"}
    with pytest.raises(ValueError, match="gradients are cut to -1 and 2; give a range that is the same on both sides"):
        estimator.setConstantGradientClipping(-1, 2)


def test_the_old_names_have_the_old_defaults():
    estimator = NNEstimator(network(), "mse")
    assert estimator.getMaxEpoch() == 50
    assert estimator._optimizer_json() == {"name": "sgd", "learning_rate": 0.001}
    assert NNEstimator(network(), "mse").setOptimMethod("adam").setLearningRate(0.1)._optimizer_json() == {
        "name": "adam",
        "learning_rate": 0.1,
    }
    classifier = NNClassifier(network(3))
    classifier._check()
    assert classifier._request()["loss"] == "sparse_categorical_crossentropy"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("batchSize", 0, "batchSize is 0; give a whole number from 1 on"),
        ("maxEpoch", 1.5, "maxEpoch is 1.5; give a whole number from 1 on"),
        ("learningRate", -1, "learningRate is -1; give a number above 0"),
        ("validationFraction", 1, "validationFraction is 1; give a number between 0 and 1"),
        ("threshold", 2, "threshold is 2; give a number from 0 to 1"),
        ("optimMethod", "adan", 'unknown optimizer "adan"; there are sgd, adam'),
        ("featuresCol", [], "featuresCol is .*; give a column's name, or a list of names"),
        ("network", {"layer": 1}, "network is no network; give a volary.Sequential"),
        ("network", {"layers": [], "outputs": ["a", "b"]}, "network has 2 outputs; an estimator trains one"),
        ("nonsense", 1, "has no parameter 'nonsense'; there are .*batchSize"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_where_it_is_set(setting, value, told):
    with pytest.raises(TypeError, match=told):
        VolaryEstimator(loss="mse", **{setting: value})


def test_what_is_missing_is_named_before_anything_is_sent():
    with pytest.raises(InvalidArgumentError, match="has no network; call setNetwork"):
        VolaryEstimator(server="grpc://127.0.0.1:1").fit(None)
    with pytest.raises(InvalidArgumentError, match="has no loss; call setLoss"):
        VolaryEstimator(network(), server="grpc://127.0.0.1:1").fit(None)


def test_a_model_is_a_name_and_a_version():
    model = VolaryModel("census", 3, server="grpc://a:1", predictionCol="rich")
    assert (model.getModelName(), model.getModelVersion(), model.getPredictionCol()) == ("census", 3, "rich")
    assert repr(model) == "VolaryModel('census', modelVersion=3)"
    assert model.copy({model.threshold: 0.7}).getThreshold() == 0.7
    assert model.getThreshold() == 0.5
